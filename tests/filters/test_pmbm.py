"""PMBM against the reference filter, printed vectors, and itself under other settings."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from tracking.filters.estimate import expected_cardinality, local_weights, marginal_existence
from tracking.filters.pmbm import PMBM, PMBMConfig
from tracking.models import (
    ConstantVelocity,
    GaussianBirth,
    MeasurementBirth,
    PositionSensor,
    UniformBirth,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "pmbm_golden.json").read_text())
NO_PRUNING = dict(
    max_hypotheses=100_000,
    min_weight=0.0,
    min_existence=0.0,
    recycle=0.0,
    min_poisson=0.0,
    merge_poisson=0.0,
    max_poisson=1_000_000,
    estimator="marginal",
    threshold=0.0,
)


def squared_gospa(truth, estimate, c=10.0):
    """Squared GOSPA (p = alpha = 2) between positions, its definition as an assignment."""
    n, m = len(truth), len(estimate)
    d2 = ((np.reshape(truth, (-1, 1, 2)) - np.reshape(estimate, (1, -1, 2))) ** 2).sum(axis=2)
    rows, columns = linear_sum_assignment(np.minimum(d2, c**2))
    near = d2[rows, columns] < c**2
    return d2[rows, columns][near].sum() + c**2 / 2 * (n + m - 2 * near.sum())


@pytest.mark.parametrize("run", [0, 1])
def test_equals_the_reference_filter_on_every_scan(run):
    """The published MATLAB filter was run on the same measurements; positions are compared by GOSPA."""
    initial = GaussianBirth(3.0, [100.0, 100.0, 0.0, 0.0], np.diag([150.0, 150.0, 1.0, 1.0]) ** 2)
    tracker = PMBM(
        ConstantVelocity(2, q=0.02),
        PositionSensor(std=1.0, p_detect=0.9, clutter_intensity=10 / 300**2),
        replace(initial, rate=0.005),
        survival=0.99,
        config=PMBMConfig(
            gate=20.0,
            max_hypotheses=200,
            min_weight=1e-4,
            min_existence=1e-5,
            min_poisson=1e-5,
            quota=True,
            recycle=0.0,
            merge_poisson=0.0,
            split=-1.0,
            estimator="best",
            threshold=0.4,
        ),
        initial=initial,
    )
    states = np.array(GOLDEN["X_truth"]).reshape(4, 4, 81)  # target, (x, vx, y, vy), scan
    assert len(GOLDEN["z"][run]) == 81
    for k, z in enumerate(GOLDEN["z"][run]):
        tracks = tracker.step(np.reshape(z, (-1, 2)), float(k))
        alive = [b <= k + 1 < d for b, d in zip(GOLDEN["t_birth"], GOLDEN["t_death"])]
        got = squared_gospa(states[alive][:, [0, 2], k], tracks.mean[:, :2])
        assert got == pytest.approx(GOLDEN["sq_gospa"][run][k], abs=1e-8), f"scan {k}"


def micro(**settings):
    return PMBM(
        ConstantVelocity(1, q=0.02),
        PositionSensor(1, std=1.0, p_detect=0.9, clutter_intensity=0.02),
        GaussianBirth(0.1, [0.0, 0.0], np.diag([100.0, 1.0])),
        survival=0.99,
        config=PMBMConfig(gate=20.0, split=-1.0, **{**NO_PRUNING, **settings}),
        initial=GaussianBirth(0.5, [0.0, 0.0], np.diag([100.0, 1.0])),
    )


def locals_of(tracker, track):
    """Local hypotheses of a track as (r, m, P), the detected ones first."""
    offset, local = tracker.density.mixture.local_offset, tracker.density.local
    part = range(offset[track], offset[track + 1])
    return [(local.r[h], local.m[h], local.P[h]) for h in sorted(part, key=lambda h: -local.r[h])]


def test_first_scan_of_the_printed_vector():
    tracker = micro()
    tracks = tracker.step([[1.0], [-6.0]], 0.0)
    density = tracker.density
    assert density.poisson.w == pytest.approx([0.05], abs=1e-12)
    assert density.mixture.weights(0) == pytest.approx([1.0])
    assert tracks.existence == pytest.approx([0.47055063, 0.42770979], abs=1e-8)
    np.testing.assert_allclose(tracks.mean, [[0.990099, 0], [-5.940594, 0]], atol=1e-6)
    np.testing.assert_allclose(tracks.cov[:, 0, 0], 0.990099, atol=1e-6)
    assert tracks.source.tolist() == [0, 1]
    assert tracks.label.tolist() == [0, 1]


def test_second_scan_of_the_printed_vector():
    tracker = micro()
    tracker.step([[1.0], [-6.0]], 0.0)
    tracks = tracker.step([[1.5]], 1.0)
    assert tracker.density.poisson.w == pytest.approx([0.00495, 0.01], abs=1e-12)
    weights = tracker.density.mixture.weights(0)
    assert weights == pytest.approx([0.86301462, 0.13691054, 7.484e-5], abs=1e-8)
    (r, m, P), (r_missed, _, P_missed) = locals_of(tracker, 0)
    assert r == 1.0
    np.testing.assert_allclose(m, [1.32985, 0.171852], atol=1e-6)
    assert P[0, 0] == pytest.approx(0.666307, abs=1e-6)
    assert r_missed == pytest.approx(0.08021587, abs=1e-8)
    assert P_missed[0, 0] == pytest.approx(1.996766, abs=1e-6)
    (r, m, _), (r_missed, _, _) = locals_of(tracker, 1)
    assert r == 1.0
    np.testing.assert_allclose(m, [-0.982875, 2.507704], atol=1e-6)
    assert r_missed == pytest.approx(0.06841581, abs=1e-8)
    ((r, m, P),) = locals_of(tracker, 2)
    assert r == pytest.approx(0.2086575, abs=1e-7)
    np.testing.assert_allclose(m, [1.485197, 0.004902], atol=1e-6)
    assert P[0, 0] == pytest.approx(0.990131, abs=1e-6)
    assert tracks.existence == pytest.approx([0.87400302, 0.06848554, 0.02856741], abs=1e-8)
    assert tracks.label.tolist() == [0, 1, 2]


def test_third_scan_of_the_printed_vector():
    """Printed from a filter that gives every parent its quota of children: 21 of the 27 hypotheses."""
    tracker = micro(quota=True, max_hypotheses=200)
    tracker.step([[1.0], [-6.0]], 0.0)
    tracker.step([[1.5]], 1.0)
    tracks = tracker.step([[2.2], [2.9]], 2.0)
    weights = tracker.density.mixture.weights(0)
    assert len(weights) == 21
    top = [0.52377149, 0.41220526, 0.01609953, 0.01261575, 0.00799660, 0.00726855]
    assert weights[:6] == pytest.approx(top, abs=1e-8)
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert tracks.existence == pytest.approx(
        [0.96283517, 0.00844050, 0.04115691, 0.07385664, 0.09177990], abs=1e-8
    )
    offset, local = tracker.density.mixture.local_offset, tracker.density.local
    w = (local_weights(tracker.density.mixture) * local.r)[: offset[1]]
    np.testing.assert_allclose(w @ local.m[: offset[1]] / w.sum(), [2.173024, 0.511067], atol=1e-6)

    everything = micro()
    for z, time in (([[1.0], [-6.0]], 0.0), ([[1.5]], 1.0), ([[2.2], [2.9]], 2.0)):
        everything.step(z, time)
    exact = everything.density.mixture.weights(0)
    assert len(exact) == 27
    assert exact[:6] == pytest.approx(top, abs=1e-4)


# A crowded scene: five objects in a row among clutter.
SENSOR = PositionSensor(std=1.0, p_detect=0.85, clutter_intensity=2e-3)
BIRTH = GaussianBirth([0.3, 0.2], [[0, 0, 0, 0], [15, 0, 0, 0]], np.diag([60.0, 60.0, 1.0, 1.0]))


def crowd(seed, scans):
    rng = np.random.default_rng(seed)
    x = np.column_stack((np.linspace(-8, 18, 5), np.zeros(5)))
    for k in range(scans):
        seen = x[rng.random(5) < 0.85]
        z = np.concatenate((seen + rng.normal(size=seen.shape), rng.uniform(-20, 30, (rng.poisson(4), 2))))
        yield rng.permutation(z), float(k)


def follow(config, scans=6, **arguments):
    tracker = PMBM(ConstantVelocity(2, q=0.05), SENSOR, BIRTH, config=config, **arguments)
    for z, time in crowd(0, scans):
        tracks = tracker.step(z, time)
    return tracker, tracks


@pytest.mark.parametrize("split", [-1.0, 0.0, 1e-3, 1.0])
def test_limits_hold_in_every_cluster(split):
    config = PMBMConfig(max_hypotheses=17, min_weight=1e-3, split=split)
    tracker = PMBM(ConstantVelocity(2, q=0.05), SENSOR, BIRTH, config=config)
    for z, time in crowd(1, 10):
        tracker.step(z, time)
        mixture = tracker.density.mixture
        for k in range(mixture.n_clusters):
            w = mixture.weights(k)
            assert len(w) <= 17
            assert w.min() > 1e-3 * 0.999 or len(w) == 1
        assert (tracker.density.local.r >= config.min_existence).all()
        assert (marginal_existence(tracker.density) >= config.recycle).all()
        if split == -1.0:
            assert mixture.n_clusters <= 1
        if split == 1.0:
            assert (np.diff(mixture.track_offset) == 1).all()


@pytest.mark.parametrize("merge", [0.0, 4.0])
def test_recycling_and_merging_keep_the_expected_number_of_objects(merge):
    base = dict(NO_PRUNING, max_hypotheses=2000, min_weight=1e-12, gate=30.0)
    tracker, _ = follow(PMBMConfig(**base), scans=3)
    recycling = PMBMConfig(**{**base, "recycle": 0.5, "merge_poisson": merge})
    other = PMBM(ConstantVelocity(2, q=0.05), SENSOR, BIRTH, config=recycling)
    other.density, other.time = tracker.density, tracker.time
    z = next(crowd(9, 1))[0]
    tracker.step(z, 3.0)
    other.step(z, 3.0)
    assert other.density.mixture.n_tracks < tracker.density.mixture.n_tracks
    expected = expected_cardinality(tracker.density)
    assert expected_cardinality(other.density) == pytest.approx(expected, abs=1e-9)
    if merge == 0:  # not only their number, also where they are
        phd = [_first_moment(t.density) for t in (tracker, other)]
        np.testing.assert_allclose(phd[0], phd[1], atol=1e-8)


def _first_moment(density):
    w = local_weights(density.mixture) * density.local.r
    return w @ density.local.m + density.poisson.w @ density.poisson.m


def test_splitting_keeps_the_marginals():
    base = dict(NO_PRUNING, max_hypotheses=5000, min_weight=1e-12)
    together, apart = PMBMConfig(split=-1.0, **base), PMBMConfig(split=1.0, **base)
    tracker, _ = follow(together, scans=2)
    other = PMBM(ConstantVelocity(2, q=0.05), SENSOR, BIRTH, config=apart)
    other.density, other.time = tracker.density, tracker.time
    z = next(crowd(9, 1))[0]
    a, b = tracker.step(z, 2.0), other.step(z, 2.0)
    by_a, by_b = np.argsort(a.label), np.argsort(b.label)
    assert a.label[by_a].tolist() == b.label[by_b].tolist()
    np.testing.assert_allclose(a.existence[by_a], b.existence[by_b], atol=1e-9)


def test_objects_far_apart_get_clusters_of_their_own():
    birth = UniformBirth(0.5, lower=(-1000, -1000), upper=(1000, 1000))
    tracker = PMBM(ConstantVelocity(2, q=0.1), PositionSensor(std=1.0, clutter_intensity=1e-7), birth)
    spots = np.array([[-500.0, 0.0], [0.0, 0.0], [500.0, 0.0]])
    for k in range(5):
        tracks = tracker.step(spots, float(k))
    mixture = tracker.density.mixture
    assert sorted(np.diff(mixture.track_offset)[-3:].tolist()) == [1, 1, 1]
    assert len(tracks) == 3
    # Two of them meet: their measurements are shared, so they are one cluster until it is clear who is who.
    for k in range(5, 8):
        tracker.step([[0.0, 0.0], [1.0, 0.0], [500.0, 0.0]], float(k))
    assert tracker.density.mixture.n_tracks >= 3


def test_gibbs_finds_what_murty_finds():
    config = PMBMConfig(max_hypotheses=5000, min_weight=1e-4, split=-1.0, estimator="marginal", threshold=0.0)
    murty, a = follow(config, scans=2)
    sampled, b = follow(replace(config, gibbs_sweeps=100_000), scans=2)
    np.testing.assert_allclose(b.existence, a.existence, atol=5e-3)
    np.testing.assert_allclose(
        sampled.density.mixture.weights(0)[:20], murty.density.mixture.weights(0)[:20], rtol=0.05
    )


def test_the_seed_is_that_of_the_gibbs_chain():
    config = PMBMConfig(gibbs_sweeps=20, max_hypotheses=10, split=-1.0)
    a, b, c = (follow(config, seed=seed)[0].density.mixture.log_w for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert a.shape != c.shape or not np.array_equal(a, c)


def test_quota_only_matters_when_hypotheses_are_dropped():
    config = PMBMConfig(**dict(NO_PRUNING, min_weight=1e-8))
    _, a = follow(config, scans=2)
    _, b = follow(replace(config, quota=True), scans=2)
    np.testing.assert_allclose(b.existence, a.existence, atol=1e-7)
    tracker, _ = follow(PMBMConfig(max_hypotheses=5, quota=True))
    mixture = tracker.density.mixture
    assert max(len(mixture.weights(k)) for k in range(mixture.n_clusters)) <= 5


def test_new_tracks_carry_the_next_labels_and_their_measurement():
    tracker = PMBM(ConstantVelocity(2), SENSOR, BIRTH, config=PMBMConfig(estimator="marginal", threshold=0.0))
    first = tracker.step([[0.0, 0.0], [4.0, 4.0]], 0.0)
    assert first.label.tolist() == [0, 1]
    assert first.source.tolist() == [0, 1]
    second = tracker.step([[9.0, 9.0], [4.1, 4.0], [0.1, 0.0]], 1.0)
    source = dict(zip(second.label.tolist(), second.source.tolist()))
    assert source[0] == 2
    assert source[1] == 1
    assert source[2] == 0  # label 2 + j is that of measurement j
    third = tracker.step([], 2.0)
    assert (third.source == -1).all()
    assert tracker.density.next_label == 5


def test_measurement_births_come_from_unexplained_measurements():
    birth = MeasurementBirth(0.2, rest_std=1.0, max_probability=0.15)
    tracker = PMBM(ConstantVelocity(2, q=0.1), SENSOR, birth)
    assert len(tracker.step([[0.0, 0.0]], 0.0)) == 0  # nothing was there to be detected
    assert tracker.density.poisson.mass == 0
    tracker.step([[0.0, 0.0], [50.0, 50.0]], 1.0)
    # One seed for each of the last measurements, less the Poisson part of it that was just detected.
    for k in range(2, 8):
        tracks = tracker.step([[0.0, 0.0], [50.0, 50.0]], float(k))
    assert len(tracks) == 2
    assert tracker.density.seeds.explained == pytest.approx([1.0, 1.0], abs=0.05)
    tracker.step([[0.0, 0.0], [50.0, 50.0], [-40.0, 0.0]], 8.0)
    assert tracker.density.seeds.explained[2] < 0.01


def test_whole_numbers_serve_as_settings():
    """A limit of another type would be another compilation, of half a minute."""
    whole = PMBMConfig(split=-1, min_weight=0, min_existence=0, recycle=0, quota=0, gibbs_sweeps=0.0)
    assert [type(a) for a in whole.limits] == [type(a) for a in PMBMConfig().limits]
    assert type(PMBMConfig(max_hypotheses=np.int32(5)).limits.max_hypotheses) is int


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_weight": -0.1}, "min_weight"),
        ({"min_existence": np.nan}, "min_existence"),
        ({"recycle": 2.0}, "recycle"),
        ({"threshold": -1.0}, "threshold"),
        ({"estimator": "mean"}, r"estimator must be one of .*best.*'mean'"),
        ({"max_hypotheses": 0}, "max_hypotheses"),
        ({"gate": -1.0}, "gate"),
        ({"gate": np.nan}, "gate"),
        ({"split": np.nan}, "split"),
        ({"gibbs_sweeps": -1}, "gibbs_sweeps"),
        ({"max_poisson": -1}, "max_poisson"),
        ({"min_poisson": -1.0}, "min_poisson"),
        ({"merge_poisson": -1.0}, "merge_poisson"),
        ({"gospa_c": 0.0}, "gospa_c"),
        ({"gospa_p": 0.0}, "gospa_p"),
        ({"gospa_dims": 0}, "gospa_dims"),
    ],
)
def test_rejects_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        PMBMConfig(**settings)
