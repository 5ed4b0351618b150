"""Scans of 10,000 points, foreseen or not: every filter takes them in, in bounded time and memory."""

import numpy as np
import pytest

from sims.trackers import FILTERS
from tracking.models import ConstantVelocity, MeasurementBirth, PositionSensor, Survival, UniformBirth

SIDE, POINTS = 1000.0, 10_000
BOX = {"lower": (0.0, 0.0), "upper": (SIDE, SIDE)}


@pytest.mark.parametrize("told", [POINTS, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "birth", [UniformBirth(0.2, 3.0, **BOX), MeasurementBirth(0.2, 3.0)], ids=["uniform", "measured"]
)
@pytest.mark.parametrize("name", FILTERS)
def test_ten_thousand_points_a_scan(name, birth, told):
    """Also where a sensor delivers two hundred times the clutter that the filter was told."""
    sensor = PositionSensor(std=0.5, clutter_intensity=told / SIDE**2)
    tracker = FILTERS[name](ConstantVelocity(2, q=0.5), sensor, birth, Survival(0.98, **BOX))
    rng = np.random.default_rng(0)
    for k in range(3):
        tracks = tracker.step(rng.uniform(0, SIDE, (POINTS, 2)), float(k))
    assert np.isfinite(tracks.mean).all()
    assert (tracks.existence > 0).all()
    assert np.isfinite(tracker.step([], 3.0).mean).all()
