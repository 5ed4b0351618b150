from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from tracking.association.gibbs import weigh
from tracking.association.murty import k_best


def every(cost, private, base):
    """All joint associations of all problems as (total, problem, choice), cheapest first."""
    b, n, m = cost.shape
    out = []
    for p in range(b):
        for choice in product(range(-private.shape[2], m), repeat=n):
            columns = [c for c in choice if c >= 0]
            if len(set(columns)) == len(columns):
                total = base[p] + sum(
                    cost[p, i, c] if c >= 0 else private[p, i, -1 - c] for i, c in enumerate(choice)
                )
                if np.isfinite(total):
                    out.append((total, p, choice))
    return sorted(out)


def random_problems(seed, b, n, m, q, whole):
    """Costs with forbidden pairs; whole numbers make ties."""
    rng = np.random.default_rng(seed)
    cost, private = rng.normal(size=(b, n, m)) * 3, rng.normal(size=(b, n, q)) * 3
    base = rng.normal(size=b) * 2
    if whole:
        cost, private, base = np.round(cost), np.round(private), np.round(base)
    cost[rng.random(cost.shape) < 0.3] = np.inf
    private[rng.random(private.shape) < 0.2] = np.inf
    return cost, private, base


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    b=st.integers(1, 3),
    n=st.integers(0, 4),
    m=st.integers(0, 4),
    q=st.integers(0, 2),
    whole=st.booleans(),
    k=st.integers(1, 40),
)
@example(seed=0, b=1, n=3, m=0, q=0, whole=False, k=5)  # infeasible
@example(seed=0, b=2, n=0, m=3, q=1, whole=False, k=5)  # nothing to decide
def test_equals_enumeration(seed, b, n, m, q, whole, k):
    cost, private, base = random_problems(seed, b, n, m, q, whole)
    before = cost.copy(), private.copy(), base.copy()
    expected = every(cost, private, base)
    total, problem, choice = k_best(cost, 10_000, private, base)
    np.testing.assert_allclose(total, [e[0] for e in expected], atol=1e-9)
    assert {(p, tuple(c)) for p, c in zip(problem, choice)} == {e[1:] for e in expected}
    assert len(total) == len(expected)  # none twice
    for t, p, c in zip(total, problem, choice):
        assert t == pytest.approx(base[p] + weigh(cost[p], private[p], c), abs=1e-12)

    first = k_best(cost, k, private, base)[0]
    np.testing.assert_allclose(first, total[:k], atol=1e-12)
    for a, b in zip(before, (cost, private, base)):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), gap=st.floats(0, 12))
def test_max_gap_cuts_the_list(seed, gap):
    cost, private, base = random_problems(seed, 2, 3, 3, 1, False)
    everything = k_best(cost, 10_000, private, base)[0]
    near = k_best(cost, 10_000, private, base, max_gap=gap)[0]
    np.testing.assert_array_equal(near, everything[everything <= everything[:1] + gap])


@pytest.mark.parametrize(("n", "m"), [(1, 1), (5, 5), (20, 30), (60, 60), (100, 150)])
def test_best_equals_scipy(n, m):
    rng = np.random.default_rng(n)
    for sparse in (0.0, 0.5):
        cost = rng.exponential(size=(n, m))
        cost[rng.random((n, m)) < sparse] = np.inf
        cost[range(n), range(n)] = 5.0  # always feasible
        rows, columns = linear_sum_assignment(cost)
        total, _, choice = k_best(cost, 1)
        assert total[0] == pytest.approx(cost[rows, columns].sum(), abs=1e-9)
        np.testing.assert_array_equal(choice[0], columns)


@pytest.mark.parametrize("shape", [(25, 30), (40, 12)])
def test_best_with_missed_detections_equals_scipy(shape):
    n, m = shape
    rng = np.random.default_rng(1)
    cost, private = rng.normal(size=shape) * 3, rng.normal(size=(n, 2)) * 2
    dense = np.full((n, m + 2 * n), 1e6)
    dense[:, :m] = cost
    for o in range(2):
        dense[range(n), m + o * n + np.arange(n)] = private[:, o]
    rows, columns = linear_sum_assignment(dense)
    assert k_best(cost, 1, private)[0][0] == pytest.approx(dense[rows, columns].sum(), abs=1e-9)


def test_many_of_a_large_problem_are_distinct_ordered_and_weighed_right():
    rng = np.random.default_rng(2)
    cost, private = rng.normal(size=(30, 40)) * 2, rng.normal(size=(30, 1))
    total, _, choice = k_best(cost, 500, private)
    assert len(total) == 500
    assert (np.diff(total) >= 0).all()
    assert len(np.unique(choice, axis=0)) == 500
    np.testing.assert_allclose(total, [weigh(cost, private, c) for c in choice], atol=1e-12)
    for row in choice:
        used = row[row >= 0]
        assert len(np.unique(used)) == len(used)
    # The second best forbids one choice of the best: scipy on each such problem.
    second = []
    for i, c in enumerate(choice[0]):
        dense = np.full((30, 70), 1e6)
        dense[:, :40] = cost
        dense[range(30), 40 + np.arange(30)] = private[:, 0]
        dense[i, c if c >= 0 else 40 + i] = 1e6
        r, k = linear_sum_assignment(dense)
        second.append(dense[r, k].sum())
    assert total[1] == pytest.approx(min(second), abs=1e-9)


def test_all_ties_are_all_found():
    total, _, choice = k_best(np.zeros((3, 3)), 100)
    assert total.tolist() == [0.0] * 6
    assert len({tuple(c) for c in choice}) == 6


def test_shared_ranking_takes_children_of_the_best_parents():
    cost = np.array([[[0.0, 1.0]], [[0.5, 0.7]], [[9.0, 9.5]]])
    total, problem, choice = k_best(cost, 4, base=np.array([0.0, 0.0, -8.75]))
    assert total.tolist() == [0.0, 0.25, 0.5, 0.7]
    assert problem.tolist() == [0, 2, 1, 1]
    assert choice.ravel().tolist() == [0, 0, 0, 1]


def test_an_infeasible_problem_does_not_hide_the_others():
    cost = np.full((2, 2, 2), np.inf)
    cost[1] = [[1.0, 2.0], [3.0, 5.0]]
    total, problem, choice = k_best(cost, 5)
    assert total.tolist() == [5.0, 6.0]
    assert problem.tolist() == [1, 1]
    assert choice.tolist() == [[1, 0], [0, 1]]


def test_nothing_feasible_gives_nothing():
    total, problem, choice = k_best(np.full((3, 2), np.inf), 5)
    assert total.shape == (0,)
    assert problem.shape == (0,)
    assert choice.shape == (0, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(cost=np.zeros((2, 2)), k=0), "k must be a whole number >= 1, got 0"),
        (dict(cost=[[np.nan, 1.0]], k=1), "finite or"),
        (dict(cost=[[-np.inf, 1.0]], k=1), "finite or"),
        (dict(cost=np.zeros((2, 2)), k=1, private=np.full((2, 1), np.nan)), "finite or"),
        (dict(cost=np.zeros((2, 2)), k=1, private=np.zeros((3, 1))), "do not fit"),
        (dict(cost=np.zeros((2, 2, 2)), k=1, base=np.zeros(3)), "do not fit"),
    ],
)
def test_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        k_best(**arguments)
