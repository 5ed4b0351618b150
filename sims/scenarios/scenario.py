"""What a named scenario is: models for the filters, a way to draw scenes, and how results are scored."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sims.targets import Scene
from tracking.models.motion import Motion
from tracking.models.sensor import Sensor
from tracking.models.survival import Survival


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A tracking problem with a name.

    Args:
        name:          as on the command line.
        about:         one line, with its source.
        motion, sensor, birth, survival, initial: what the filters are told, the arguments of a tracker;
                       the `rate` of `initial` is the expected number of objects at the first scan.
        draw:          numpy Generator -> Scene.
        gospa_c, gospa_p: cut-off, m, and order of GOSPA (alpha = 2).
        ospa_c, ospa_p:   cut-off, m, and order of OSPA and OSPA(2).
        metric_dims:   how many entries at the front of the state are compared; 2: positions in the plane.
        scored:        "all" scans, or only the "last".
        average:       over runs and scans: "mean" of GOSPA, or "rms", the root of the mean of GOSPA ** 2.
        runs:          default number of Monte Carlo runs.
        gate:          recommended gate, squared Mahalanobis distance.
        linearisation: "ekf" (with linear models the Kalman filter) or "ukf".
    """

    name: str
    about: str
    motion: Motion
    sensor: Sensor
    birth: Any
    survival: Survival
    initial: Any
    draw: Callable[[np.random.Generator], Scene]
    gospa_c: float
    gospa_p: float = 1.0
    ospa_c: float
    ospa_p: float = 1.0
    metric_dims: int = 2
    scored: str = "all"
    average: str = "mean"
    runs: int
    gate: float = 20.0
    linearisation: str = "ekf"

    def __post_init__(self):
        for name, accepted in (
            ("scored", ("all", "last")),
            ("average", ("mean", "rms")),
            ("linearisation", ("ekf", "ukf")),
        ):
            if getattr(self, name) not in accepted:
                raise ValueError(f"{name} must be one of {accepted}, got {getattr(self, name)!r}")
