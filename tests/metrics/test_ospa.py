"""OSPA and OSPA(2): known values, axioms, a literal reading of the definition, windows over time."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_vectors import POINTS, TRAJECTORIES

from tracking.metrics import matching, ospa, ospa2, ospa2_over_time
from tracking.tracks import Trajectories


def trajectories(max_size=3, scans=4):
    """Sets of trajectories on a line (n, T, 1), with births, deaths and holes."""
    state = st.sampled_from([np.nan, 0.0, 1.0, 2.5, 4.0, 9.0]) | st.floats(-10, 10)
    sets = st.lists(st.lists(state, min_size=scans, max_size=scans), max_size=max_size)
    return sets.map(lambda s: np.array(s, float).reshape(len(s), scans, 1))


def by_definition(x, y, c, p):
    """OSPA(2) with loops and permutations."""
    x, y = ([f for f in s if not np.isnan(f).all()] for s in (x, y))
    if len(x) > len(y):
        x, y = y, x
    if not y:
        return 0.0

    def base(f, g):
        here = [(a, b) for a, b in zip(f, g) if not (np.isnan(a).any() and np.isnan(b).any())]
        costs = [c if np.isnan(a - b).any() else min(c, np.linalg.norm(a - b)) for a, b in here]
        return np.mean([cost**p for cost in costs]) if here else 0.0

    best = min(sum(base(f, y[j]) for f, j in zip(x, order)) for order in permutations(range(len(y))))
    return ((best + c**p * (len(y) - len(x))) / len(y)) ** (1 / p)


@pytest.mark.parametrize(
    ("name", "c", "p", "total", "localisation", "cardinality"),
    [
        ("G1", 5, 2, 3.162277660, 3.162277660, 0),
        ("G1", 5, 1, 2.666666667, 2.666666667, 0),
        ("G2", 4, 2, 2.906888371, 1.431782106, 2.529822128),
        ("G3", 10, 2, 10, 0, 10),
        ("G4", 10, 1, 10, 0, 10),
        ("G5", 10, 2, 0, 0, 0),
        ("G6", 10, 2, 10, 10, 0),
        ("G7", 10, 2, 10, 10, 0),
        ("G8", 3, 1, 1.2, 1.2, 0),
        ("G8", 3, 2, 1.236931688, 1.236931688, 0),
        ("G9", 2, 1, 0.866666667, 0.2, 0.666666667),
        ("G11", 8, 2, 6.143285219, 4.410695977, 4.276179871),
    ],
)
def test_known_values(name, c, p, total, localisation, cardinality):
    assert ospa(*POINTS[name], c, p) == pytest.approx((total, localisation, cardinality), abs=1e-9)


@pytest.mark.parametrize(
    ("name", "p", "total", "localisation", "cardinality"),
    [
        ("E1", 1, 1, 1, 0),
        ("E2", 1, 1.8, 1.8, 0),
        ("E3", 1, 3.53, 1.03, 2.5),
        ("E4", 1, 1.1, 1.1, 0),
        ("E5", 1, 0.6, 0.6, 0),
        ("E6", 1, 2.6, 0.933333333, 1.666666667),
        ("E1", 2, 1, 1, 0),
        ("E2", 2, 2.408318916, 2.408318916, 0),
        ("E3", 2, 4.183658686, 2.236738697, 3.535533906),
        ("E4", 2, 1.1, 1.1, 0),
        ("E5", 2, 0.721110255, 0.721110255, 0),
        ("E6", 2, 3.538361203, 2.046134567, 2.886751346),
    ],
)
def test_known_values_of_tracks(name, p, total, localisation, cardinality):
    result = ospa2(*TRAJECTORIES[name], 5, p)
    assert result == pytest.approx((total, localisation, cardinality), abs=1e-9)


@pytest.mark.parametrize(
    ("p", "window", "total"),
    [(1, None, 0.566666667), (1, 3, 0.133333333), (2, None, 0.970395109), (2, 3, 0.141421356)],
)
def test_known_values_of_windows(p, window, total):
    x, y = TRAJECTORIES["E8"]
    assert ospa2(x, y, 3, p, window).total == pytest.approx(total, abs=1e-9)
    assert ospa2_over_time(x, y, 3, p, window).total[-1] == pytest.approx(total, abs=1e-9)


POINT_SETS = st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), max_size=4).map(
    lambda rows: np.array(rows).reshape(-1, 2)
)


@settings(max_examples=100, deadline=None)
@given(POINT_SETS, POINT_SETS, POINT_SETS, st.sampled_from([1.0, 2.0]))
def test_ospa_is_a_metric_bounded_by_the_cut_off(x, y, z, p):
    xy, yz, xz = (ospa(a, b, 5.0, p).total for a, b in ((x, y), (y, z), (x, z)))
    assert 0 <= xy <= 5.0 * (1 + 1e-12)
    assert ospa(x, x, 5.0, p).total == 0
    assert xz <= xy + yz + 1e-9
    assert ospa(y[::-1], x, 5.0, p).total == pytest.approx(xy, rel=1e-12)


@settings(max_examples=100, deadline=None)
@given(trajectories(), trajectories(), st.sampled_from([1.0, 2.0]))
def test_ospa2_equals_its_definition(x, y, p):
    assert ospa2(x, y, 3.0, p).total == pytest.approx(by_definition(x, y, 3.0, p), rel=1e-9)


@settings(max_examples=100, deadline=None)
@given(trajectories(), trajectories(), trajectories(), st.sampled_from([1.0, 2.0]))
def test_ospa2_is_a_metric_bounded_by_the_cut_off(x, y, z, p):
    xy, yz, xz = (ospa2(a, b, 3.0, p) for a, b in ((x, y), (y, z), (x, z)))
    assert 0 <= xy.total <= 3.0 * (1 + 1e-12)
    assert ospa2(x, x, 3.0, p).total == 0
    assert xz.total <= xy.total + yz.total + 1e-9
    assert ospa2(y[::-1], x, 3.0, p).total == pytest.approx(xy.total, rel=1e-12)
    assert xy.localisation**p + xy.cardinality**p == pytest.approx(xy.total**p, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(trajectories(scans=7), trajectories(scans=7), st.integers(1, 9), st.sampled_from([1.0, 2.0]))
def test_over_time_is_ospa2_of_each_window(x, y, window, p):
    series = ospa2_over_time(x, y, 3.0, p, window)
    for t in range(7):
        single = ospa2(x[:, : t + 1], y[:, : t + 1], 3.0, p, window)
        assert [part[t] for part in series] == pytest.approx(list(single), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(trajectories(scans=1), trajectories(scans=1), st.sampled_from([1.0, 2.0]))
def test_one_scan_of_tracks_is_ospa_of_points(x, y, p):
    a, b = (s[~np.isnan(s[:, 0, 0]), 0] for s in (x, y))
    assert ospa2(x, y, 3.0, p) == pytest.approx(tuple(ospa(a, b, 3.0, p)), abs=1e-9)


def test_identity_is_exact_after_large_errors(rng):
    x = rng.normal(size=(5, 60, 2))
    y = x.copy()
    y[:, :30] += rng.uniform(1e3, 2e3, (5, 30, 2))
    assert (ospa2_over_time(x, y, 1e4, 2.0, window=7).total[36:] == 0).all()


def test_sparse_equals_dense_tracks(rng):
    x, y = rng.uniform(0, 40, (2, 30, 1, 2)) + rng.normal(0, 1, (2, 30, 20, 2)).cumsum(axis=2)
    y[:20] = x[:20] + rng.normal(0, 1, (20, 20, 2))
    y[rng.random((30, 20)) < 0.2] = np.nan
    dense = ospa2_over_time(x, y, 10.0, 2.0, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "DENSE_ENTRIES", 0)
        sparse = ospa2_over_time(x, y, 10.0, 2.0, 5)
    np.testing.assert_allclose(sparse, dense, rtol=1e-12)


def test_a_switch_of_identities_costs_in_ospa2_only():
    x = np.array([[[0.0]] * 6, [[5.0]] * 6])
    y = np.concatenate((x[:, :3], x[::-1, 3:]), axis=1)
    assert ospa(x[:, 5], y[:, 5], 4.0).total == 0
    assert ospa2(x, y, 4.0, 1.0).total == pytest.approx(2.0)
    assert ospa2_over_time(x, y, 4.0, 1.0, window=2).total.tolist() == [0, 0, 0, 2, 0, 0]


def test_thousands_of_tracks(rng):
    x = rng.uniform(0, 4000, (2000, 1, 2)) + rng.normal(0, 1, (2000, 30, 2)).cumsum(axis=1)
    y = rng.permutation(x + rng.normal(0, 0.1, x.shape))
    total = ospa2_over_time(x, y, 10.0, 2.0, 10).total
    np.testing.assert_allclose(total, 0.1 * 2**0.5, rtol=0.05)


def test_takes_trajectories():
    x, y = TRAJECTORIES["E6"]
    a, b = (Trajectories(np.arange(4.0), np.arange(len(s)), s) for s in (x, y))
    assert ospa2(a, b, 5, 1) == ospa2(x, y, 5, 1)
    late = Trajectories(np.arange(4.0) + 0.1, np.arange(len(y)), y)
    with pytest.raises(ValueError, match=r"same times, got 4 times from 0 to 3 s and 4 times from 0\.1"):
        ospa2(a, late)


def test_empty():
    x = TRAJECTORIES["E8"][0]
    nowhere = np.full((3, 6, 2), np.nan)
    for none in ([], np.zeros((0, 6, 2)), nowhere):
        assert ospa2(x, none, 3.0) == pytest.approx((3, 0, 3))
        assert ospa2(none, none, 3.0).total == 0
        assert (ospa2_over_time(x, none, 3.0).total == 3).all()
    assert ospa2(np.zeros((2, 0, 2)), np.zeros((1, 0, 2))).total == 0
    assert ospa2_over_time([], []).total.shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((1, 3, 2)), np.zeros((1, 4, 2))), "same T and d"),
        ((np.zeros((1, 3, 2)), np.zeros((1, 3, 1))), "same T and d"),
        ((np.zeros((3, 2)), np.zeros((1, 3, 2))), r"shape \(n, T, d\)"),
        ((np.array([[[0.0, np.nan]]]), np.zeros((1, 1, 2))), "NaN in all its entries"),
        ((np.array([[[0.0, np.inf]]]), np.zeros((1, 1, 2))), "must be finite"),
        (([], [], 5.0, 2.0, 0), "window"),
        (([], [], 5.0, 2.0, 1.5), "window"),
        (([], [], -5.0), "c must be"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        ospa2(*arguments)
