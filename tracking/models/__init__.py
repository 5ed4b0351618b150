"""Motion, sensor, birth and survival models: frozen dataclasses with pure, batched methods."""

from tracking.models.birth import GaussianBirth, MeasurementBirth, UniformBirth
from tracking.models.imm import IMM, Embedded
from tracking.models.motion import (
    ConstantAcceleration,
    ConstantVelocity,
    CoordinatedTurn,
    FunctionMotion,
    RandomWalk,
)
from tracking.models.occlusion import Occlusion
from tracking.models.sensor import FunctionSensor, PositionSensor, RangeBearing, RangeBearingDoppler
from tracking.models.survival import Survival

__all__ = [
    "IMM",
    "ConstantAcceleration",
    "ConstantVelocity",
    "CoordinatedTurn",
    "Embedded",
    "FunctionMotion",
    "FunctionSensor",
    "GaussianBirth",
    "MeasurementBirth",
    "Occlusion",
    "PositionSensor",
    "RandomWalk",
    "RangeBearing",
    "RangeBearingDoppler",
    "Survival",
    "UniformBirth",
]
