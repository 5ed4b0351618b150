"""LMB, and the multi-Bernoulli update that it shares with PMB."""

import numpy as np
import pytest

from tracking.filters.bernoulli import Bernoullis, reduce
from tracking.filters.lmb import LMB, LMBConfig
from tracking.filters.local import Locals
from tracking.gaussian import moment_match
from tracking.models import (
    ConstantVelocity,
    GaussianBirth,
    MeasurementBirth,
    PositionSensor,
    UniformBirth,
)

MOTION = ConstantVelocity(2, q=0.1)
SENSOR = PositionSensor(std=1.0, p_detect=0.9, clutter_intensity=1e-4)
BIRTHS = {
    "gaussian": GaussianBirth([0.01, 0.01], [[0, 0, 0, 0], [30, 0, 0, 0]], np.diag([20.0, 20.0, 2.0, 2.0])),
    "uniform": UniformBirth(0.1, rest_std=1.5, lower=(-20, -20), upper=(60, 60)),
    "measurement": MeasurementBirth(0.1, rest_std=1.5),
}


def scans(n, seed=0):
    """Two objects among clutter: (z, time, truth)."""
    rng = np.random.default_rng(seed)
    x = np.array([[0.0, 0.0], [30.0, 0.0]])
    for k in range(n):
        x = x + np.array([1.0, 0.5])
        seen = x[rng.random(2) < 0.9]
        z = np.concatenate((seen + rng.normal(size=seen.shape), rng.uniform(-20, 60, (2, 2))))
        yield rng.permutation(z), float(k), x


@pytest.mark.parametrize("births", BIRTHS)
@pytest.mark.parametrize("association", ["exhaustive", "belief"])
def test_follows_two_objects_from_any_kind_of_birth(births, association):
    tracker = LMB(MOTION, SENSOR, BIRTHS[births], config=LMBConfig(association=association))
    for z, time, x in scans(15):
        tracks, truth = tracker.step(z, time), x
    assert len(tracks) == 2
    np.testing.assert_allclose(tracks.mean[np.argsort(tracks.mean[:, 0]), :2], truth, atol=3.0)


def test_belief_and_enumeration_agree_where_tracks_hardly_interact():
    trackers = [
        LMB(MOTION, SENSOR, BIRTHS["gaussian"], config=LMBConfig(association=a, estimator="marginal"))
        for a in ("exhaustive", "belief")
    ]
    for z, time, _ in scans(12):
        a, b = (tracker.step(z, time) for tracker in trackers)
        assert a.label.tolist() == b.label.tolist()
        np.testing.assert_allclose(a.existence, b.existence, atol=0.02)
        np.testing.assert_allclose(a.mean, b.mean, atol=0.05)


def test_cardinality_is_the_most_probable_number():
    tracker = LMB(MOTION, SENSOR, BIRTHS["uniform"], config=LMBConfig(min_existence=0.0))
    for z, time, _ in scans(6):
        tracks = tracker.step(z, time)
    r = tracker.density.tracks.r
    pmf = np.ones(1)
    for value in r:
        pmf = np.convolve(pmf, [1 - value, value])
    assert len(tracks) == pmf.argmax()
    assert sorted(tracks.existence) == sorted(np.sort(r)[len(r) - len(tracks) :])


def test_thresholds_and_gospa_decide_what_is_reported():
    found = {}
    for name, settings in {
        "all": dict(estimator="marginal", threshold=0.0),
        "some": dict(estimator="marginal", threshold=0.7),
        "gospa": dict(estimator="gospa", gospa_c=20.0),
        "strict": dict(estimator="gospa", gospa_c=1e-3),
    }.items():
        tracker = LMB(MOTION, SENSOR, BIRTHS["gaussian"], config=LMBConfig(**settings))
        for z, time, _ in scans(6):
            found[name] = tracker.step(z, time)
    assert len(found["all"]) == len(tracker.density.tracks)
    assert found["some"].existence.min() >= 0.7
    assert len(found["some"]) == (found["all"].existence >= 0.7).sum()
    assert len(found["gospa"]) == 2
    assert len(found["strict"]) == 0  # nobody is known to a millimetre


def random_tracks(seed, sizes):
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    factor = rng.normal(size=(n, 2, 2)) / 2
    w = np.concatenate([rng.dirichlet(np.ones(k)) for k in sizes])
    component = Locals.empty(2).add(
        w, rng.normal(size=(n, 2)) * 2, factor @ factor.swapaxes(1, 2) + np.eye(2), rng.integers(-1, 5, n)
    )
    offset = np.concatenate(([0], np.cumsum(sizes)))
    return Bernoullis(np.linspace(0.3, 0.9, len(sizes)), np.arange(len(sizes)), offset, component)


def moments(tracks, i):
    part = slice(tracks.offset[i], tracks.offset[i + 1])
    return moment_match(tracks.component.r[part], tracks.component.m[part], tracks.component.P[part])


@pytest.mark.parametrize("merge", [4.0, np.inf])
def test_merging_keeps_the_moments_of_every_track(merge):
    tracks = random_tracks(0, (3, 1, 6))
    merged, dropped = reduce(tracks, 0.0, 0.0, merge, 100)
    assert len(dropped) == 0
    np.testing.assert_array_equal(merged.r, tracks.r)
    for i in range(3):
        for a, b in zip(moments(merged, i), moments(tracks, i)):
            np.testing.assert_allclose(a, b, atol=1e-10)
    if merge == np.inf:
        assert np.diff(merged.offset).tolist() == [1, 1, 1]


def test_reduction_caps_prunes_and_drops():
    tracks = random_tracks(1, (5, 4, 3))
    kept, dropped = reduce(tracks, 0.5, 0.0, 0.0, 2)
    low = tracks.r < 0.5
    assert 0 < low.sum() < 3
    assert kept.label.tolist() == np.flatnonzero(~low).tolist()
    assert dropped.label.tolist() == np.flatnonzero(low).tolist()
    assert (np.diff(kept.offset) == 2).all()
    for part, total in ((kept, 1.0), (dropped, 1.0)):
        for i in range(len(part)):
            w = part.component.r[part.offset[i] : part.offset[i + 1]]
            assert w.sum() == pytest.approx(total)
    for i, label in enumerate(kept.label):  # the heaviest stay
        w = tracks.component.r[tracks.offset[label] : tracks.offset[label + 1]]
        best = np.sort(w)[-2:]
        got = np.sort(kept.component.r[kept.offset[i] : kept.offset[i + 1]])
        np.testing.assert_allclose(got, best / best.sum())
    pruned, _ = reduce(tracks, 0.0, 1.0, 0.0, 10)  # the heaviest of a track is never pruned
    assert (np.diff(pruned.offset) == 1).all()
    none, all_ = reduce(tracks, 1.0, 0.0, 4.0, 10)
    assert len(none) == 0
    assert len(all_) == 3


def test_components_of_no_weight_are_dropped():
    """A pair that is too unlikely to be enumerated leaves a component of weight exactly zero."""
    config = LMBConfig(gate=1e4, min_weight=0.0, min_existence=0.0, estimator="marginal")
    tracker = LMB(MOTION, SENSOR, BIRTHS["gaussian"], config=config)
    for k in range(4):
        tracks = tracker.step([[0.0, 0.0], [30.0, 0.0]], float(k))
    assert len(tracks) == 2
    assert np.isfinite(tracker.density.tracks.component.P).all()


def test_a_track_that_cannot_be_seen_is_not_forgotten():
    """A false detection inside the gate of an object outside the field of view says nothing about it."""
    edge = PositionSensor(std=1.0, p_detect=lambda x: (x[:, 0] < 5) * 0.9, clutter_intensity=1e-4)
    tracker = LMB(MOTION, edge, BIRTHS["gaussian"], config=LMBConfig(estimator="marginal", threshold=0.0))
    for k in range(4):
        before = tracker.step([[1.2 * k, 0.0]], float(k))
    after = tracker.step([[6.0, 0.0]], 5.0)
    old = before.label[np.argmax(before.existence)]
    assert old in after.label
    assert after.existence[after.label == old] > 0.9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_existence": -0.1}, "min_existence"),
        ({"min_weight": 2.0}, "min_weight"),
        ({"threshold": np.nan}, "threshold"),
        ({"association": "greedy"}, "association.*'greedy'"),
        ({"estimator": "best"}, "estimator.*'best'"),
        ({"gate": 0.0}, "gate"),
        ({"gate": np.nan}, "gate"),
        ({"max_components": 0}, "max_components"),
        ({"merge": -1.0}, "merge"),
        ({"gospa_p": 0.0}, "gospa_p"),
    ],
)
def test_rejects_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        LMBConfig(**settings)
