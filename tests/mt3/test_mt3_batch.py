"""Many windows at once say what the tracker says one after the other."""

from dataclasses import replace

import numpy as np
import pytest

from tracking.mt3 import MT3, Model, MT3Config, UntrainedWarning, estimate

LOW = MT3Config(threshold=0.05)


@pytest.fixture
def scenes(scenario, rng):
    """Windows of 20, 1, 7 and 3 scans; the last scan of one of them is empty."""
    scans = [list(scenario.draw(rng).scans) for _ in range(4)]
    scans = [scans[0], scans[1][-1:], scans[2][:7], scans[3][:3]]
    scans[2][-1] = []
    return scans


def last_of_stream(model, scans, config=LOW):
    tracker = MT3(model, config)
    for k, z in enumerate(scans):
        tracks = tracker.step(z, model.task.dt * k)
    return tracks


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_windows_say_what_streams_say(model, scenes, batch):
    found = estimate(model, scenes, LOW, batch)
    assert sum(map(len, found)) > 10
    for tracks, scans in zip(found, scenes, strict=True):
        expected = last_of_stream(model, scans)
        assert tracks.time == pytest.approx(expected.time)
        for name in ("mean", "cov", "existence"):
            np.testing.assert_allclose(
                getattr(tracks, name), getattr(expected, name), rtol=1e-3, atol=1e-3, err_msg=name
            )
        np.testing.assert_array_equal(tracks.source, expected.source)
        assert tracks.label.tolist() == list(range(len(tracks)))


def test_windows_without_measurements_have_no_objects(model, scenes):
    dim = model.task.sight.dim_z
    empty = [[None], [[], np.zeros((0, dim))]]
    assert list(map(len, estimate(model, empty))) == [0, 0]
    assert estimate(model, []) == []
    found = estimate(model, [empty[0], scenes[0], empty[1]], LOW)
    assert [len(t) > 0 for t in found] == [False, True, False]
    np.testing.assert_allclose(found[1].mean, estimate(model, scenes[:1], LOW)[0].mean, atol=1e-5)


def test_what_is_wrong_is_said_with_its_window(model, scenes):
    task, dim = model.task, model.task.sight.dim_z
    centre = np.add(task.sight.lower, task.sight.upper)[None] / 2
    far, good = [np.full((1, dim), 1e3)], [centre]
    for bad, says in (
        ([], f"window 1: 0 scans; accepted are 1 to {task.scans}"),
        ([centre] * (task.scans + 1), f"window 1: {task.scans + 1} scans"),
        ([np.zeros((2, dim + 1))], "window 1: z must have shape"),
        ([np.full((1, dim), np.nan)], "window 1: z must be finite"),
        (far, "window 1: measurement .* is outside the field of view"),
        ([np.tile(centre, (9, 1))], "window 1: 9 measurements in 1 scans, accepted are 8"),
    ):
        with pytest.raises(ValueError, match=says):
            estimate(model, [good, bad], MT3Config(max_tokens=8))
    with pytest.raises(ValueError, match="batch must be a whole number of at least 1, got 0"):
        estimate(model, [good], batch=0)
    config = MT3Config(outside="drop", threshold=0.0)
    mixed = [np.concatenate((far[0], centre))]
    a, b = estimate(model, [mixed, good], config)
    np.testing.assert_allclose(a.mean, b.mean, atol=1e-5)
    assert (a.source == 1).all()


def test_windows_may_come_from_a_generator(model, scenes):
    expected = estimate(model, scenes, LOW)
    found = estimate(model, ((z for z in window) for window in scenes), LOW)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.mean, b.mean)
    assert len(estimate(model, ([None] for _ in range(2)))) == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "mt3-task2"}, "model must be a Model, as load"),
        ({"config": {"threshold": 0.5}}, "config must be an MT3Config, got dict"),
        ({"batch": 1.5}, "batch must be a whole number"),
        ({"batch": None}, "batch must be a whole number"),
        ({"windows": [None]}, "window 0: a window is scans"),
        ({"windows": [[[]], "scan"]}, "window 1: a window is scans"),
        ({"windows": [[[[1.0, None, 2.0]]]]}, "window 0: z must"),
    ],
)
def test_arguments_of_another_kind_are_refused(model, change, says):
    with pytest.raises(ValueError, match=says):
        estimate(**{"model": model, "windows": [[[]]]} | change)


def test_what_is_reported_does_not_hang_on_the_door(model, scenes):
    """With a threshold below and above that of the model, and with its own."""
    for config in (MT3Config(threshold=0.0), MT3Config(threshold=0.3), MT3Config()):
        found = estimate(model, scenes, config)
        assert [len(t) for t in found] == [len(last_of_stream(model, scans, config)) for scans in scenes]


def test_more_than_in_the_training_is_warned_of(model, scenes):
    task = replace(model.task, measurements=5, objects=1000)
    with pytest.warns(UntrainedWarning, match="window 0: more measurements in a window than 5, the most"):
        estimate(Model(model.network, task), scenes[:1])
