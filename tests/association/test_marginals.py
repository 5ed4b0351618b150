"""Marginal association probabilities: belief propagation and enumeration of the best."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracking.association.belief import belief
from tracking.association.exhaustive import enumerate_best


def marginals(offset, col, weight, m):
    """Exact marginals (pair, none, unassigned) by summing over every joint association."""
    n = len(offset) - 1
    pair, none, unassigned, total = np.zeros(len(col)), np.zeros(n), np.zeros(m), 0.0
    for edges in product(*((None, *range(offset[i], offset[i + 1])) for i in range(n))):
        used = [col[e] for e in edges if e is not None]
        if len(set(used)) < len(used):
            continue
        w = np.prod([weight[e] for e in edges if e is not None])
        total += w
        for i, e in enumerate(edges):
            if e is None:
                none[i] += w
            else:
                pair[e] += w
        unassigned[[j for j in range(m) if j not in used]] += w
    return pair / total, none / total, unassigned / total


def sparse(table):
    """Compressed rows of a table of weights; zero: no pair."""
    rows, col = np.nonzero(table)
    return np.searchsorted(rows, np.arange(len(table) + 1)), col, table[rows, col], table.shape[1]


def assert_close(found, expected, tolerance):
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, atol=tolerance)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 4), m=st.integers(0, 4))
def test_enumeration_is_exact(seed, n, m):
    rng = np.random.default_rng(seed)
    table = np.exp(rng.normal(size=(n, m)) * 3) * (rng.random((n, m)) < 0.6)
    problem = sparse(table)
    before = problem[2].copy()
    assert_close(enumerate_best(*problem, k=10_000, max_gap=np.inf), marginals(*problem), 1e-12)
    np.testing.assert_array_equal(problem[2], before)


def test_a_gap_of_zero_leaves_the_best_association():
    table = np.array([[9.0, 8.0, 0.0], [7.0, 0.1, 0.0], [0.0, 0.0, 0.2]])
    pair, none, unassigned = enumerate_best(*sparse(table), max_gap=0.0)
    assert pair.tolist() == [0.0, 1.0, 1.0, 0.0, 0.0]
    assert none.tolist() == [0.0, 0.0, 1.0]
    assert unassigned.tolist() == [0.0, 0.0, 1.0]


def test_the_default_gap_costs_little():
    problem = sparse(np.exp(np.random.default_rng(0).normal(size=(4, 4)) * 3))
    assert_close(enumerate_best(*problem), marginals(*problem), 1e-6)


TREES = {
    "one pair": [(0, 0)],
    "a row between two columns": [(0, 0), (0, 1)],
    "a column between two rows": [(0, 0), (1, 0)],
    "a chain": [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)],
    "a star": [(0, 0), (1, 0), (2, 0), (3, 0), (3, 1), (3, 2)],
    "a forest": [(0, 0), (1, 1), (1, 2), (3, 3)],
}


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("seed", range(3))
def test_belief_is_exact_on_trees(name, seed):
    table = np.zeros((4, 4))
    table[tuple(zip(*TREES[name]))] = np.exp(np.random.default_rng(seed).normal(size=len(TREES[name])) * 2)
    problem = sparse(table)
    assert_close(belief(*problem, tolerance=1e-13), marginals(*problem), 1e-11)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 4), m=st.integers(1, 4))
def test_belief_is_close_on_loops_and_consistent(seed, n, m):
    rng = np.random.default_rng(seed)
    problem = offset, col, weight, _ = sparse(np.exp(rng.normal(size=(n, m)) * 1.5))
    before = weight.copy()
    found = belief(*problem, tolerance=1e-10)
    # Rows are normalised by construction; columns are once messages have converged.
    np.testing.assert_allclose(found.none + np.add.reduceat(found.pair, offset[:-1]), 1, atol=1e-12)
    np.testing.assert_allclose(found.unassigned + np.bincount(col, found.pair, minlength=m), 1, atol=1e-8)
    assert_close(found, marginals(*problem), 0.2)  # the worst case, equal weights, errs by this much
    np.testing.assert_array_equal(weight, before)


def test_belief_is_close_on_average():
    errors = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        problem = sparse(np.exp(rng.normal(size=(3, 4)) * 2))
        errors.append(np.abs(belief(*problem).pair - marginals(*problem)[0]).mean())
    assert np.mean(errors) < 0.02


def test_the_published_worst_case():
    """Two rows, two columns, all weights the same and large: belief says 1/2 each, as symmetry demands."""
    found = belief(*sparse(np.full((2, 2), 1e6)), tolerance=1e-12)
    np.testing.assert_allclose(found.pair, 0.5, atol=1e-3)


@pytest.mark.parametrize("solve", [belief, enumerate_best])
def test_without_pairs(solve):
    pair, none, unassigned = solve(np.zeros(4, int), np.zeros(0, int), np.zeros(0), 2)
    assert pair.shape == (0,)
    assert none.tolist() == [1.0] * 3
    assert unassigned.tolist() == [1.0] * 2


@pytest.mark.parametrize("solve", [belief, enumerate_best])
def test_weights_over_many_magnitudes(solve):
    for weight in (1e-300, 1e-20, 1e-5, 1e5, 1e20, 1e200):
        pair, none, unassigned = solve([0, 1], [0], [weight], 1)
        assert pair[0] == pytest.approx(1 / (1 + 1 / weight), rel=1e-6)
        assert none[0] == pytest.approx(1 / (1 + weight), rel=1e-6, abs=1e-12)
        assert unassigned[0] == pytest.approx(none[0], rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("solve", [belief, enumerate_best])
def test_a_pair_of_weight_zero_never_happens(solve):
    pair, none, _ = solve([0, 2, 3], [0, 1, 1], [0.0, 2.0, 3.0], 2)
    assert pair[0] == 0.0
    expected = marginals([0, 1, 2], [1, 1], [2.0, 3.0], 2)
    np.testing.assert_allclose(pair[1:], expected[0], atol=1e-6)
    np.testing.assert_allclose(none, expected[1], atol=1e-6)
