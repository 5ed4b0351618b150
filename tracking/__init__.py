"""Multitarget tracking: random-finite-set filters, association, models, metrics and formats.

    tracker = PMBM(ConstantVelocity(dims=2, q=0.9), PositionSensor(std=0.3), UniformBirth(...))
    for time, z in scans:
        tracks = tracker.step(z, time)

Every tracker has this one method; the public names are listed below, everything else is a room of its own.
"""

from tracking.bridges.filterpy import from_filterpy
from tracking.confidence import Confidence
from tracking.ellipses import Ellipses, ellipses
from tracking.filters.cphd import CPHD, CPHDConfig
from tracking.filters.glmb import GLMB, GLMBConfig
from tracking.filters.gnn import GNN, GNNConfig
from tracking.filters.lmb import LMB, LMBConfig
from tracking.filters.phd import GMPHD, GMPHDConfig
from tracking.filters.pmb import PMB, PMBConfig
from tracking.filters.pmbm import PMBM, PMBMConfig
from tracking.filters.tpmbm import TPMBM, TPMBMConfig
from tracking.gaussian import CKF, EKF, UKF
from tracking.late import Late
from tracking.models import (
    IMM,
    ConstantAcceleration,
    ConstantVelocity,
    CoordinatedTurn,
    Embedded,
    FunctionMotion,
    FunctionSensor,
    GaussianBirth,
    MeasurementBirth,
    Occlusion,
    PositionSensor,
    RandomWalk,
    RangeBearing,
    RangeBearingDoppler,
    Survival,
    UniformBirth,
)
from tracking.models.linear import LinearMotion, LinearSensor
from tracking.models.score import ScoreModel
from tracking.smoothing import Recorder, Trajectory, joined
from tracking.tracks import Tracks, Trajectories

__all__ = [
    "CKF",
    "CPHD",
    "EKF",
    "GLMB",
    "GMPHD",
    "GNN",
    "IMM",
    "LMB",
    "PMB",
    "PMBM",
    "TPMBM",
    "UKF",
    "CPHDConfig",
    "Confidence",
    "ConstantAcceleration",
    "ConstantVelocity",
    "CoordinatedTurn",
    "Ellipses",
    "Embedded",
    "FunctionMotion",
    "FunctionSensor",
    "GLMBConfig",
    "GMPHDConfig",
    "GNNConfig",
    "GaussianBirth",
    "LMBConfig",
    "Late",
    "LinearMotion",
    "LinearSensor",
    "MeasurementBirth",
    "Occlusion",
    "PMBConfig",
    "PMBMConfig",
    "PositionSensor",
    "RandomWalk",
    "RangeBearing",
    "RangeBearingDoppler",
    "Recorder",
    "ScoreModel",
    "Survival",
    "TPMBMConfig",
    "Tracks",
    "Trajectories",
    "Trajectory",
    "UniformBirth",
    "ellipses",
    "from_filterpy",
    "joined",
]
