import numpy as np
import pytest

from tracking.association.gibbs import chain, distinct, gibbs, weigh
from tracking.association.murty import k_best


def problem(seed, n=3, m=3):
    rng = np.random.default_rng(seed)
    cost, private = rng.normal(size=(n, m)) * 2, rng.normal(size=(n, 2))
    cost[rng.random(cost.shape) < 0.2] = np.inf
    return cost, private


@pytest.mark.parametrize("seed", range(5))
def test_long_chains_visit_everything_likely_and_weigh_it_exactly(seed):
    cost, private = problem(seed)
    total, choice = gibbs(cost, 20_000, private, np.random.default_rng(seed))
    best, _, best_choice = k_best(cost, 20, private)
    np.testing.assert_allclose(total[:10], best[:10], atol=1e-12)
    np.testing.assert_array_equal(choice[:10], best_choice[:10])
    np.testing.assert_allclose(total, [weigh(cost, private, c) for c in choice], atol=1e-12)


def test_visits_in_proportion_to_the_weights():
    """The stationary distribution of the chain is the posterior of the associations."""
    cost, private = problem(11, 2, 2)
    total, _, choice = k_best(cost, 1000, private)
    p = np.exp(-total)
    visited = chain(cost, private, 60_000, np.random.default_rng(0))
    frequency = [(visited == c).all(axis=1).mean() for c in choice]
    np.testing.assert_allclose(frequency, p / p.sum(), atol=0.01)


def test_every_visit_is_feasible():
    cost, private = problem(3, 6, 4)
    for row in chain(cost, private, 500, np.random.default_rng(0)):
        used = row[row >= 0]
        assert len(np.unique(used)) == len(used)
        assert np.isfinite(weigh(cost, private, row))


def test_same_seed_same_samples():
    cost, private = problem(4, 5, 5)
    a = gibbs(cost, 50, private, np.random.default_rng(1))
    b = gibbs(cost, 50, private, np.random.default_rng(1))
    for x, y in zip(a, b):
        np.testing.assert_array_equal(x, y)


def test_no_rows_and_no_columns():
    total, choice = gibbs(np.zeros((0, 3)), 5, np.zeros((0, 1)), np.random.default_rng(0))
    assert total.tolist() == [0.0]
    assert choice.shape == (1, 0)
    total, choice = gibbs(np.zeros((2, 0)), 50, np.log([[1.0, 3.0], [1.0, 1.0]]), np.random.default_rng(0))
    assert len(total) == 4
    assert (choice < 0).all()


def test_inputs_are_not_changed():
    cost, private = problem(5)
    before = cost.copy(), private.copy()
    gibbs(cost, 10, private, np.random.default_rng(0))
    np.testing.assert_array_equal(cost, before[0])
    np.testing.assert_array_equal(private, before[1])


@pytest.mark.parametrize(
    ("cost", "sweeps", "private", "message"),
    [
        (np.zeros((2, 2)), 0, np.zeros((2, 1)), "sweeps"),
        (np.zeros((2, 2)), 5, np.zeros((1, 1)), "private option"),
        (np.zeros((2, 2)), 5, np.array([[0.0], [np.inf]]), "private option"),
    ],
)
def test_rejects(cost, sweeps, private, message):
    with pytest.raises(ValueError, match=message):
        gibbs(cost, sweeps, private, np.random.default_rng(0))


def test_distinct_keeps_first_occurrences():
    rows = np.random.default_rng(0).integers(-2, 2, (300, 3))
    _, first = np.unique(rows, axis=0, return_index=True)
    assert distinct(rows).tolist() == sorted(first)
    assert distinct(np.zeros((4, 0), np.int64)).tolist() == [0]
    assert distinct(np.zeros((0, 3), np.int64)).tolist() == []
