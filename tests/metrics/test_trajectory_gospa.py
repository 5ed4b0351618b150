"""Trajectory GOSPA: known values, the program as printed, exact assignment by dynamic programming, axioms."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from metric_vectors import TRAJECTORIES
from scipy.optimize import linprog
from test_ospa import trajectories

from tracking.metrics import gospa, trajectory_gospa
from tracking.tracks import Trajectories

GAMMAS = st.sampled_from([0.3, 1.0, 2.0, 8.0])
ORDERS = st.sampled_from([1.0, 2.0])


def costs(x, y, c, p):
    """D_t(i, j) with a dummy as the last row and column, (T, n + 1, m + 1), by its definition."""
    n, m, scans = len(x), len(y), (x if len(x) else y).shape[1]
    D = np.zeros((scans, n + 1, m + 1))
    for t in range(scans):
        for i in range(n + 1):
            for j in range(m + 1):
                a = i < n and not np.isnan(x[i, t]).any()
                b = j < m and not np.isnan(y[j, t]).any()
                if a and b:
                    D[t, i, j] = min(c, np.linalg.norm(x[i, t] - y[j, t])) ** p
                elif a or b:
                    D[t, i, j] = c**p / 2
    return D


def by_full_program(x, y, c, p, gamma):
    """The linear program in all weights and absolute differences, objective at power p."""
    D = costs(x, y, c, p)
    scans, n, m = D.shape[0], len(x), len(y)
    W = np.arange(D.size).reshape(D.shape)
    changes = (scans - 1) * n * m
    cost = np.concatenate((D.ravel(), np.full(changes, gamma**p / 2)))
    cost[W[:, n, m]] = 0.0
    equal, above = [], []
    for t in range(scans):
        for line in [*W[t, :n], *W[t, :, :m].T]:
            equal.append(np.zeros(len(cost)))
            equal[-1][line] = 1.0
    h = D.size
    for t in range(scans - 1):
        for i in range(n):
            for j in range(m):
                for sign in (1.0, -1.0):
                    above.append(np.zeros(len(cost)))
                    above[-1][[W[t + 1, i, j], W[t, i, j], h]] = sign, -sign, -1.0
                h += 1
    result = linprog(
        cost,
        np.array(above) if above else None,
        np.zeros(len(above)) if above else None,
        np.array(equal),
        np.ones(len(equal)),
        method="highs",
    )
    return result.fun


def by_assignments(x, y, c, p, gamma):
    """The multi-dimensional assignment, exact, by dynamic programming over all matchings; at power p."""
    D = costs(x, y, c, p)
    n, m = len(x), len(y)
    matchings = [
        frozenset(zip(rows, cols))
        for k in range(min(n, m) + 1)
        for rows in combinations(range(n), k)
        for cols in permutations(range(m), k)
    ]

    def cost(t, matching):
        rows, cols = {i for i, _ in matching}, {j for _, j in matching}
        lonely = D[t, [i for i in range(n) if i not in rows], m].sum()
        lonely += D[t, n, [j for j in range(m) if j not in cols]].sum()
        return lonely + sum(D[t, i, j] for i, j in matching)

    switch = gamma**p / 2 * np.array([[len(a ^ b) for b in matchings] for a in matchings])
    best = np.array([cost(0, a) for a in matchings])
    for t in range(1, len(D)):
        best = (best[:, None] + switch).min(axis=0) + [cost(t, a) for a in matchings]
    return best.min()


# name, p, total, total^p, localisation, missed, false, switch; c = 5, gamma = 1
VALUES = [
    ("E1", 1, 5, 5, 5, 0, 0, 0),
    ("E2", 1, 6.5, 6.5, 4, 2.5, 0, 0),
    ("E3", 1, 1.5, 1.5, 0.5, 0, 0, 1),
    ("E4", 1, 3, 3, 1, 0, 0, 2),
    ("E5", 1, 3.6, 3.6, 1.6, 0, 0, 2),
    ("E6", 1, 2.6, 2.6, 1.6, 0, 0, 1),
    ("E7", 1, 7, 7, 4.5, 0, 2.5, 0),
    ("E1", 2, 2.236067977, 5, 5, 0, 0, 0),
    ("E2", 2, 4.062019202, 16.5, 4, 12.5, 0, 0),
    ("E3", 2, 1.024695077, 1.05, 0.05, 0, 0, 1),
    ("E4", 2, 1.449137675, 2.1, 0.1, 0, 0, 2),
    ("E5", 2, 1.523154621, 2.32, 0.32, 0, 0, 2),
    ("E6", 2, 1.148912529, 1.32, 0.32, 0, 0, 1),
    ("E7", 2, 3.840572874, 14.75, 2.25, 0, 12.5, 0),
]


@pytest.mark.parametrize(
    ("name", "p", "total", "total_p", "localisation", "missed", "false", "switch"), VALUES
)
def test_known_values(name, p, total, total_p, localisation, missed, false, switch):
    result = trajectory_gospa(*TRAJECTORIES[name], 5, p, 1)
    assert result == pytest.approx((total, localisation, missed, false, switch, total_p), abs=1e-9)


@pytest.mark.parametrize(
    ("gamma", "p", "total", "total_p", "localisation", "missed", "switch"),
    [
        (0.5, 2, 2.280350850, 5.2, 0.2, 4.5, 0.5),
        (1, 2, 2.588435821, 6.7, 0.2, 4.5, 2),
        (2, 2, 2.607680962, 6.8, 2.3, 4.5, 0),
        (10, 2, 2.607680962, 6.8, 2.3, 4.5, 0),
        (0.5, 1, 3.9, 3.9, 1.4, 1.5, 1),
        (1, 1, 4.9, 4.9, 1.4, 1.5, 2),
        (2, 1, 5.3, 5.3, 3.8, 1.5, 0),
        (10, 1, 5.3, 5.3, 3.8, 1.5, 0),
    ],
)
def test_known_values_of_switch_penalties(gamma, p, total, total_p, localisation, missed, switch):
    result = trajectory_gospa(*TRAJECTORIES["E8"], 3, p, gamma)
    assert result == pytest.approx((total, localisation, missed, 0, switch, total_p), abs=1e-9)


@pytest.mark.parametrize(("p", "no_estimate", "no_truth"), [(2, 7.348469228, 7.035623640), (1, 18, 16.5)])
def test_known_values_of_empty_sets(p, no_estimate, no_truth):
    x, y = TRAJECTORIES["E8"]
    missed, false = trajectory_gospa(x, [], 3, p), trajectory_gospa(np.zeros((0, 6, 2)), y, 3, p)
    assert (missed.total, false.total) == pytest.approx((no_estimate, no_truth), abs=1e-9)
    assert (missed.missed, false.false) == (missed.total_p, false.total_p)
    assert trajectory_gospa([], [], 3, p).total == 0


def test_small_switch_penalty_leaves_gospa_of_each_time():
    x, y = TRAJECTORIES["E8"]
    assert trajectory_gospa(x, y, 3, 2, 1e-6).total_p == pytest.approx(4.7, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(trajectories(), trajectories(), ORDERS, GAMMAS)
def test_equals_the_full_program(x, y, p, gamma):
    assume(len(x) + len(y))
    expected = by_full_program(x, y, 3.0, p, gamma)
    assert trajectory_gospa(x, y, 3.0, p, gamma).total_p == pytest.approx(expected, rel=1e-7, abs=1e-7)


@settings(max_examples=100, deadline=None)
@given(trajectories(), trajectories(), ORDERS, GAMMAS)
def test_is_at_most_the_exact_assignment(x, y, p, gamma):
    assume(len(x) + len(y))
    exact = by_assignments(x, y, 3.0, p, gamma)
    result = trajectory_gospa(x, y, 3.0, p, gamma)
    assert result.total_p <= exact * (1 + 1e-7) + 1e-7
    parts = result.localisation, result.missed, result.false, result.switch
    assert min(parts) >= 0
    assert sum(parts) == pytest.approx(result.total_p)


def test_equals_the_exact_assignment_of_moving_objects(rng):
    for _ in range(20):
        x = rng.uniform(0, 4, (3, 1, 2)) + rng.normal(0, 0.7, (3, 6, 2)).cumsum(axis=1)
        y = x + rng.normal(0, 0.5, x.shape)
        y[:2, 3:] = y[1::-1, 3:].copy()
        y[rng.random((3, 6)) < 0.15] = np.nan
        exact = by_assignments(x, y, 2.0, 2.0, 0.8)
        assert trajectory_gospa(x, y, 2.0, 2.0, 0.8).total_p == pytest.approx(exact, rel=1e-7)


@settings(max_examples=60, deadline=None)
@given(trajectories(2), trajectories(2), trajectories(2), ORDERS, GAMMAS)
def test_is_a_metric(x, y, z, p, gamma):
    xy, yz, xz = (trajectory_gospa(a, b, 3.0, p, gamma) for a, b in ((x, y), (y, z), (x, z)))
    assert trajectory_gospa(x, x, 3.0, p, gamma).total == 0
    assert xz.total <= xy.total + yz.total + 1e-6
    back = trajectory_gospa(y[::-1], x, 3.0, p, gamma)
    assert back.total_p == pytest.approx(xy.total_p, rel=1e-7, abs=1e-7)
    assert back.missed - back.false == pytest.approx(xy.false - xy.missed)


@settings(max_examples=60, deadline=None)
@given(trajectories(), trajectories(), ORDERS)
def test_without_switch_penalty_is_gospa_of_each_time(x, y, p):
    total_p = 0.0
    for t in range(4):
        a, b = (s[~np.isnan(s[:, t, 0]), t] for s in (x, y))
        total_p += gospa(a, b, 3.0, p).total_p
    assert trajectory_gospa(x, y, 3.0, p, 1e-8).total_p == pytest.approx(total_p, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(trajectories(scans=1), trajectories(scans=1), ORDERS, GAMMAS)
def test_one_time_is_gospa(x, y, p, gamma):
    a, b = (s[~np.isnan(s[:, 0, 0]), 0] for s in (x, y))
    expected = gospa(a, b, 3.0, p)
    result = trajectory_gospa(x, y, 3.0, p, gamma)
    # to the tolerance of the linear programme
    assert (result.total_p, result.switch) == pytest.approx((expected.total_p, 0), abs=1e-8)


@settings(max_examples=40, deadline=None)
@given(trajectories(), trajectories(), ORDERS)
def test_grows_with_the_switch_penalty(x, y, p):
    totals = [trajectory_gospa(x, y, 3.0, p, gamma).total_p for gamma in (0.1, 0.5, 1.0, 3.0, 1e6)]
    assert (np.diff(totals) >= -1e-7).all()
    assert trajectory_gospa(x, y, 3.0, p, 1e6).switch == 0


def test_far_groups_do_not_mix(rng):
    """Sets far apart are solved apart, and add up."""
    x = rng.uniform(0, 3, (3, 1, 2)) + rng.normal(0, 0.5, (3, 8, 2)).cumsum(axis=1)
    y = x[::-1] + rng.normal(0, 0.5, x.shape)
    one = trajectory_gospa(x, y, 2.0, 2.0, 0.5)
    far = np.array([1e4, 0.0])
    two = trajectory_gospa(np.concatenate((x, x + far)), np.concatenate((y + far, y)), 2.0, 2.0, 0.5)
    assert two.total_p == pytest.approx(2 * one.total_p, rel=1e-7)


def test_fifty_trajectories_over_a_hundred_scans(rng):
    x = rng.uniform(0, 300, (50, 1, 2)) + rng.normal(0, 2, (50, 1, 2)) * np.arange(100)[:, None]
    y = x + rng.normal(0, 1, x.shape)
    order = rng.permutation(50)
    y[::2], y[1::2] = y[order[:25]].copy(), y[order[25:]].copy()
    result = trajectory_gospa(x, y, 10.0, 2.0, 2.0)
    assert result.total_p / (50 * 100) == pytest.approx(2.0, rel=0.1)  # variance 1 in each coordinate


def test_takes_trajectories_and_leaves_them_alone():
    x, y = (s.copy() for s in TRAJECTORIES["E7"])
    before = x.copy(), y.copy()
    a, b = (Trajectories(np.arange(5.0), np.arange(len(s)), s) for s in (x, y))
    assert trajectory_gospa(a, b, 5, 1) == trajectory_gospa(x, y, 5, 1)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])


@pytest.mark.parametrize("penalty", [0.0, -1.0, np.nan, np.inf])
def test_refuses_a_switch_penalty_out_of_range(penalty):
    with pytest.raises(ValueError, match="switch_penalty must be"):
        trajectory_gospa([], [], 3.0, 2.0, penalty)
