"""PMB: the marginals of PMBM, one mixture a track, and tracks that return to the Poisson density."""

from dataclasses import replace

import numpy as np
import pytest

from tracking.filters.estimate import local_weights
from tracking.filters.pmb import PMB, PMBConfig
from tracking.filters.pmbm import PMBM, PMBMConfig
from tracking.gaussian import moment_match
from tracking.models import (
    ConstantVelocity,
    GaussianBirth,
    MeasurementBirth,
    PositionSensor,
    UniformBirth,
)

MOTION = ConstantVelocity(2, q=0.1)
SENSOR = PositionSensor(std=1.0, p_detect=0.85, clutter_intensity=3e-3)
BIRTH = GaussianBirth([0.4, 0.3], [[0, 0, 0, 0], [8, 0, 0, 0]], np.diag([30.0, 30.0, 1.0, 1.0]))
EXACT = PMBConfig(
    gate=1e9,
    association="exhaustive",
    min_weight=1e-15,
    merge=0.0,
    max_components=10_000,
    estimator="marginal",
    threshold=0.0,
    recycle=0.0,
    min_poisson=0.0,
    merge_poisson=0.0,
)


def pmbm(**arguments):
    config = PMBMConfig(
        gate=1e9,
        max_hypotheses=100_000,
        min_weight=0.0,
        min_existence=0.0,
        recycle=0.0,
        split=-1.0,
        min_poisson=0.0,
        merge_poisson=0.0,
    )
    return PMBM(MOTION, SENSOR, BIRTH, config=config, **arguments)


@pytest.mark.parametrize("seed", range(3))
def test_two_scans_have_the_marginals_of_pmbm(seed):
    """After one scan tracks are independent in the exact posterior too, so the second scan is exact."""
    rng = np.random.default_rng(seed)
    exact, tracker = pmbm(), PMB(MOTION, SENSOR, BIRTH, config=EXACT)
    for k, n in enumerate((2, 3)):
        z = rng.uniform(-3, 11, (n, 2))
        exact.step(z, 0.6 * k)
        tracker.step(z, 0.6 * k)
    tracks, mixture, local = tracker.density.tracks, exact.density.mixture, exact.density.local
    assert tracks.label.tolist() == exact.density.label.tolist()
    w = local_weights(mixture) * local.r
    for i in range(len(tracks)):
        mine = slice(tracks.offset[i], tracks.offset[i + 1])
        other = slice(mixture.local_offset[i], mixture.local_offset[i + 1])
        assert tracks.r[i] == pytest.approx(w[other].sum(), abs=1e-7)
        for a, b in zip(
            moment_match(tracks.component.r[mine], tracks.component.m[mine], tracks.component.P[mine]),
            moment_match(w[other], local.m[other], local.P[other]),
        ):
            np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_allclose(tracker.density.poisson.w, exact.density.poisson.w, atol=1e-12)


def test_belief_propagation_is_close_to_the_exact_marginals():
    """The error of this approximation in a crowded scan, averaged over many scenes."""
    errors = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        configs = (replace(EXACT, association=a) for a in ("belief", "exhaustive"))
        trackers = [PMB(MOTION, SENSOR, BIRTH, config=config) for config in configs]
        for k, n in enumerate((2, 3, 3)):
            z = rng.uniform(-3, 11, (n, 2))
            found = [tracker.step(z, float(k)).existence for tracker in trackers]
        errors.append(np.abs(found[0] - found[1]).max())
    assert np.mean(errors) < 0.03
    assert np.max(errors) < 0.2


def test_recycling_keeps_the_expected_number_of_objects():
    rng = np.random.default_rng(0)
    keeping, recycling = (PMB(MOTION, SENSOR, BIRTH, config=replace(EXACT, recycle=r)) for r in (0.0, 0.6))
    for k in range(2):
        keeping.step(rng.uniform(-3, 11, (3, 2)), float(k))
    recycling.density, recycling.time = keeping.density, keeping.time
    z = rng.uniform(-3, 11, (3, 2))
    keeping.step(z, 2.0)
    recycling.step(z, 2.0)
    a, b = keeping.density, recycling.density
    assert len(b.tracks) < len(a.tracks)
    assert (b.tracks.r >= 0.6).all()
    assert b.poisson.mass + b.tracks.r.sum() == pytest.approx(a.poisson.mass + a.tracks.r.sum(), abs=1e-9)


def test_one_gaussian_a_track_by_default():
    tracker = PMB(MOTION, SENSOR, BIRTH)
    rng = np.random.default_rng(0)
    for k in range(5):
        tracker.step(rng.uniform(-3, 11, (4, 2)), float(k))
        tracks = tracker.density.tracks
        assert (np.diff(tracks.offset) == 1).all()
        assert (tracks.component.r == pytest.approx(1.0)) or len(tracks) == 0


@pytest.mark.parametrize(
    "birth",
    [
        GaussianBirth(0.2, [20, 10, 0, 0], np.diag([400.0, 400.0, 2.0, 2.0])),
        UniformBirth(0.2, rest_std=1.5, lower=(-20, -20), upper=(60, 60)),
        MeasurementBirth(0.2, rest_std=1.5),
    ],
)
def test_follows_two_objects_in_dense_clutter(birth):
    sensor = PositionSensor(std=1.0, p_detect=0.9, clutter_intensity=15 / 80**2)
    tracker = PMB(MOTION, sensor, birth)
    rng = np.random.default_rng(1)
    x = np.array([[0.0, 0.0], [30.0, 0.0]])
    for k in range(25):
        x = x + np.array([1.0, 0.5])
        seen = x[rng.random(2) < 0.9]
        z = np.concatenate((seen + rng.normal(size=seen.shape), rng.uniform(-20, 60, (15, 2))))
        tracks = tracker.step(rng.permutation(z), float(k))
    assert len(tracks) == 2
    np.testing.assert_allclose(tracks.mean[np.argsort(tracks.mean[:, 0]), :2], x, atol=3.0)


def test_hardly_any_clutter_is_no_trouble():
    """Weights of 1e20 and more: the detection is certain, and so is the track."""
    birth = GaussianBirth(lambda t: 0.1 * (t < 0.5), [0, 0, 0, 0], np.diag([9.0, 9.0, 1.0, 1.0]))
    sensor = PositionSensor(std=0.1, p_detect=0.99, clutter_intensity=1e-30)
    tracker = PMB(MOTION, sensor, birth, config=PMBConfig(min_poisson=1e-3))
    for k in range(6):
        tracks = tracker.step([[0.0, 0.0]], float(k))
    assert tracks.existence == pytest.approx([1.0])


def test_a_track_that_cannot_be_seen_is_not_forgotten():
    """A false detection inside the gate of an object outside the field of view says nothing about it."""
    edge = PositionSensor(std=1.0, p_detect=lambda x: (x[:, 0] < 5) * 0.9, clutter_intensity=1e-4)
    tracker = PMB(MOTION, edge, BIRTH, config=PMBConfig(threshold=0.0))
    for k in range(4):
        before = tracker.step([[1.2 * k, 0.0]], float(k))
    after = tracker.step([[6.0, 0.0]], 5.0)
    old = before.label[np.argmax(before.existence)]
    assert old in after.label
    assert after.existence[after.label == old] > 0.9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recycle": 1.5}, "recycle"),
        ({"recycle": np.nan}, "recycle"),
        ({"min_poisson": -1.0}, "min_poisson"),
        ({"merge_poisson": -1.0}, "merge_poisson"),
        ({"max_poisson": -1}, "max_poisson"),
        ({"association": "murty"}, "association"),
        ({"min_weight": -1.0}, "min_weight"),
    ],
)
def test_rejects_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        PMBConfig(**settings)


def test_pmbm_weighs_the_tracks_of_a_large_cluster_apart_as_pmb_does():
    """With room for no cluster at all its marginals are those of belief propagation."""
    rng = np.random.default_rng(5)
    apart = pmbm()
    apart.config = replace(apart.config, max_cluster=1)
    tracker = PMB(MOTION, SENSOR, BIRTH, config=replace(EXACT, association="belief"))
    for k, n in enumerate((1, 2)):  # so few outcomes that every track keeps them all
        z = rng.uniform(-3, 11, (n, 2))
        apart.step(z, 0.6 * k)
        tracker.step(z, 0.6 * k)
    density, tracks = apart.density, tracker.density.tracks
    r = np.add.reduceat(local_weights(density.mixture) * density.local.r, density.mixture.local_offset[:-1])
    assert density.label.tolist() == tracks.label.tolist()
    assert density.mixture.n_clusters == len(r) == 3
    np.testing.assert_allclose(r, tracks.r, atol=1e-6)


@pytest.mark.parametrize("association", ["exhaustive", "belief"])
def test_groups_too_large_to_enumerate_are_believed(association):
    rng = np.random.default_rng(1)
    config = replace(EXACT, association=association, max_cluster=1)
    trackers = [PMB(MOTION, SENSOR, BIRTH, config=c) for c in (config, replace(EXACT, association="belief"))]
    for k in range(3):
        z = rng.uniform(-3, 11, (3, 2))
        found, expected = (t.step(z, 0.6 * k) for t in trackers)
        np.testing.assert_allclose(found.existence, expected.existence, atol=1e-9)
