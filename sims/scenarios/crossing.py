"""The demonstration: six objects on gentle arcs through the middle of a square, close enough to be confused.

The paths are always the same, what the sensor makes of them is random.
"""

from functools import partial

import numpy as np

from sims.scenarios.scenario import Scenario
from sims.targets import Clutter, observe, scripted_truth
from tracking.models import ConstantVelocity, CoordinatedTurn, PositionSensor, Survival, UniformBirth
from tracking.tracks import Trajectories

_LOWER, _UPPER = (0.0, 0.0), (1000.0, 1000.0)  # m
_VELOCITY_STD = 15.0  # m/s per axis

# x and y (m), speed (m/s), heading and turn rate (deg, deg/s), first and last scan
_PATHS = (
    (60, 300, 24.0, 30, -0.25, 0, 39),
    (60, 720, 24.0, -30, 0.25, 0, 39),
    (80, 500, 21.0, 8, -0.5, 3, 39),
    (300, 60, 22.0, 62, 0.35, 0, 39),
    (700, 60, 22.0, 118, -0.35, 4, 39),
    (900, 880, 25.0, 218, 0.3, 0, 34),
)


def crossing() -> Scenario:
    """Six objects that cross in the plane, in modest clutter."""
    clutter = Clutter(10.0, _LOWER, _UPPER)
    sensor = PositionSensor(std=5.0, p_detect=0.95, clutter_intensity=clutter.intensity)
    return Scenario(
        name="crossing",
        about="6 objects on crossing arcs, 40 scans, 10 clutter points (this toolkit's demonstration)",
        motion=ConstantVelocity(dims=2, q=0.5),
        sensor=sensor,
        birth=UniformBirth(0.05, _VELOCITY_STD, 0.0, _LOWER, _UPPER),
        survival=Survival(0.99, _LOWER, _UPPER),
        initial=UniformBirth(4.0, _VELOCITY_STD, 0.0, _LOWER, _UPPER),
        draw=partial(observe, crossing_truth(), sensor, clutter),
        gospa_c=20.0,
        ospa_c=20.0,
        runs=10,
    )


def crossing_truth() -> Trajectories:
    """The six paths, states (x, y, vx, vy)."""
    x, y, speed, heading, turn, first, last = np.array(_PATHS, float).T
    heading = np.deg2rad(heading)
    start = np.stack((x, y, speed * np.cos(heading), speed * np.sin(heading), np.deg2rad(turn)), axis=1)
    truth = scripted_truth(CoordinatedTurn(), start, first.astype(int), last.astype(int), np.arange(40.0))
    return Trajectories(truth.time, truth.label, truth.states[..., :4])
