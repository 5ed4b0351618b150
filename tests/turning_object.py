"""One object that turns, and trackers that know of nothing else: for tests of several motion models."""

import numpy as np

from tracking import PMBM, ConstantVelocity, GaussianBirth, PositionSensor

CHAIN = np.array([[0.9, 0.1], [0.3, 0.7]])
QUIET, WILD = ConstantVelocity(q=0.05), ConstantVelocity(q=3.0)
START, SPREAD = np.array([10.0, -5.0, 1.0, 2.0]), np.diag([25.0, 25.0, 4.0, 4.0])


def one_object(motion, kind=PMBM, **changes):
    """A tracker of one object: sure to be seen and in next to no clutter."""
    sensor = PositionSensor(std=2.0, p_detect=0.99, clutter_intensity=1e-9)
    d = motion.dim
    birth = GaussianBirth(0.1, np.pad(START, (0, d - 4)), np.diag([25.0, 25, 4, 4, *[0.04] * (d - 4)]))
    return kind(motion, sensor, birth, survival=1.0, **changes)


def path(rng, scans=12):
    """Measurements (scans, 2) of an object that turns."""
    turn = np.cumsum(rng.normal(0, 0.3, scans))
    steps = 3 * np.stack((np.cos(turn), np.sin(turn)), axis=1)
    return START[:2] + np.cumsum(steps, axis=0) + rng.normal(0, 2, (scans, 2))
