"""Saccades: the image moves as it is told, and events say how."""

import numpy as np
import pytest

from sims.camera import PERFECT, EventCamera, replayed
from sims.saccades import TRIANGLE, moved, saccade, way


def blob(width=40, height=36, x=18, y=15):
    v, u = np.mgrid[:height, :width]
    return np.exp(-((u - x) ** 2 + (v - y) ** 2) / 12)


def test_an_image_moves_by_whole_and_by_parts_of_pixels():
    image = blob()
    there = moved(image, [(2, -3), (0.5, 0.25), (0, 0)])
    assert np.allclose(there[0], np.roll(image, (-3, 2), (0, 1)))
    assert np.allclose(there[1], blob(x=18.5, y=15.25), atol=1e-3)
    assert np.allclose(there[2], image)


def test_the_way_goes_from_corner_to_corner():
    where, when = way(TRIANGLE, 100_000, 24)
    assert where[::24].tolist() == [list(c) for c in TRIANGLE]
    assert when[::24].tolist() == [0, 100_000, 200_000, 300_000]
    assert np.allclose(np.diff(where[:25], axis=0), (0.25, 0))


def test_eased_legs_begin_and_end_slowly():
    where, _ = way(TRIANGLE, 100_000, 24, eased=True)
    assert np.allclose(where[::24], TRIANGLE)
    step = np.linalg.norm(np.diff(where[:25], axis=0), axis=1)
    assert step.argmax() in (11, 12)
    assert step[0] < 0.1 * step.max()
    assert (np.diff(where[:25, 0]) > 0).all()


def test_legs_replay_and_the_whole_triangle_comes_back():
    image = blob()
    events = saccade(image, pixels=PERFECT).events
    where, when = way(TRIANGLE, 100_000, 24)
    levels = moved(np.log(image + 0.15), where)
    threshold = EventCamera(40, 36, PERFECT).threshold
    for end in (24, 48, 72):
        level = replayed(events.between(0, int(when[end])), levels[0], threshold)
        assert np.abs(level - levels[end]).max() < 0.2 + 1e-9
    assert len(events) > 1000
    assert np.abs(replayed(events, levels[0], threshold) - levels[0]).max() < 0.2 + 1e-9  # nothing to see


def test_the_front_of_a_bright_thing_brightens():
    events = saccade(blob(), corners=((-4, 0), (4, 0)), pixels=PERFECT).events
    right = events.x > 18 + (-4 + 8 * events.t / 100_000)
    assert events.p[right].mean() > 0.95
    assert events.p[~right].mean() < 0.05


def test_errors():
    with pytest.raises(ValueError, match="corners"):
        saccade(blob(), corners=((0, 0),))
    for image in (blob() * 255, np.zeros((3, 4, 3)), blob() * np.nan):
        with pytest.raises(ValueError, match="from 0 to 1"):
            saccade(image)
    with pytest.raises(ValueError, match="step"):
        saccade(blob(), steps=0)
