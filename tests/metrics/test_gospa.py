"""GOSPA: known values, the axioms of a metric, brute force, and the sparse road beside the dense one."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_vectors import POINTS

from tracking.metrics import gospa, matching, ospa

ALPHAS = (2.0, 1.0, 0.5)


def points(max_size=5, dim=2):
    """Sets on a coarse grid, where ties and coincidences are common, or anywhere."""
    coordinate = st.integers(-4, 4).map(lambda k: 3.0 * k) | st.floats(-12, 12)
    rows = st.lists(st.tuples(*[coordinate] * dim), max_size=max_size)
    return rows.map(lambda r: np.array(r, float).reshape(len(r), dim))


def by_enumeration(x, y, c, p, alpha):
    """Definition 1: the best of all permutations of the larger set."""
    if len(x) > len(y):
        x, y = y, x
    best = min(
        sum(min(float(np.linalg.norm(a - y[j])), c) ** p for a, j in zip(x, order))
        for order in permutations(range(len(y)))
    )
    return (best + c**p / alpha * (len(y) - len(x))) ** (1 / p)


# id, c, p, total, total^p, localisation, missed, false
VALUES = [
    ("G1", 5, 2, 5.477225575, 30, 5, 12.5, 12.5),
    ("G1", 5, 1, 8, 8, 3, 2.5, 2.5),
    ("G2", 4, 2, 5.123475383, 26.25, 10.25, 0, 16),
    ("G3", 10, 2, 10, 100, 0, 0, 100),
    ("G4", 10, 1, 15, 15, 0, 15, 0),
    ("G5", 10, 2, 0, 0, 0, 0, 0),
    ("G6", 10, 2, 10, 100, 0, 50, 50),
    ("G7", 10, 2, 10, 100, 0, 50, 50),
    ("G8", 3, 1, 2.4, 2.4, 2.4, 0, 0),
    ("G8", 3, 2, 1.749285568, 3.06, 3.06, 0, 0),
    ("G9", 2, 1, 1.6, 1.6, 0.6, 1, 0),
    ("G11", 8, 2, 14.148486598, 200.179673, 72.179673, 32, 96),
    ("G11", 8, 1, 30.389737177, 30.389737177, 14.389737177, 4, 12),
]


@pytest.mark.parametrize(("name", "c", "p", "total", "total_p", "localisation", "missed", "false"), VALUES)
def test_known_values(name, c, p, total, total_p, localisation, missed, false):
    result = gospa(*POINTS[name], c, p)
    expected = (total, localisation, missed, false, total_p)
    assert (*result[:4], result.total_p) == pytest.approx(expected, abs=1e-9)


def test_known_value_of_another_alpha_has_no_parts():
    result = gospa(*POINTS["G10"], 5, 2, alpha=1)
    assert (result.total, result.total_p) == pytest.approx((5.477225575, 30), abs=1e-9)
    assert np.isnan([result.localisation, result.missed, result.false]).all()


def test_pairs_are_the_close_ones():
    result = gospa(*POINTS["G11"], 8, 2)
    assert result.truth_index.tolist() == [0, 1, 2, 3]
    assert result.estimate_index.tolist() == [2, 5, 3, 6]
    assert gospa(*POINTS["G7"], 10, 2).truth_index.size == 0  # d = c is not close


@settings(max_examples=150, deadline=None)
@given(points(4), points(4), st.sampled_from([1.0, 2.0, 3.5]), st.sampled_from(ALPHAS))
def test_equals_enumeration(x, y, p, alpha):
    assert gospa(x, y, 5.0, p, alpha).total == pytest.approx(by_enumeration(x, y, 5.0, p, alpha), rel=1e-9)


@settings(max_examples=150, deadline=None)
@given(points(), points(), points(), st.sampled_from([1.0, 2.0]), st.sampled_from(ALPHAS))
def test_is_a_metric(x, y, z, p, alpha):
    xy, yz, xz = (gospa(a, b, 5.0, p, alpha).total for a, b in ((x, y), (y, z), (x, z)))
    assert xy >= 0
    assert gospa(x, x, 5.0, p, alpha).total == 0
    assert xz <= xy + yz + 1e-9
    assert gospa(y, x, 5.0, p, alpha).total == pytest.approx(xy, rel=1e-12)


@settings(max_examples=100, deadline=None)
@given(points(), points(), st.randoms(use_true_random=False))
def test_parts_and_their_symmetry(x, y, random):
    one, other = gospa(x, y, 5.0), gospa(y, x, 5.0)
    assert one.localisation + one.missed + one.false == pytest.approx(one.total_p, rel=1e-12)
    assert other.total_p == pytest.approx(one.total_p, rel=1e-12)
    assert one.missed - one.false == pytest.approx(other.false - other.missed)
    d = np.linalg.norm(x[one.truth_index] - y[one.estimate_index], axis=1)
    assert (d < 5.0).all()
    assert (d**2).sum() == pytest.approx(one.localisation)
    assert len(set(one.truth_index)) == len(set(one.estimate_index)) == len(d)
    shuffled = random.sample(list(x), len(x)), random.sample(list(y), len(y))
    shuffled = (np.reshape(s, (-1, 2)) for s in shuffled)
    assert gospa(*shuffled, 5.0).total == pytest.approx(one.total, rel=1e-12)


def test_swapping_exchanges_missed_and_false():
    one, other = gospa(*POINTS["G11"], 8), gospa(*POINTS["G11"][::-1], 8)
    assert (one.missed, one.false) == (other.false, other.missed)


@settings(max_examples=100, deadline=None)
@given(points(), points(), st.floats(0.1, 20), st.floats(1.0, 3.0))
def test_grows_with_the_cut_off(x, y, c, factor):
    assert gospa(x, y, c).total <= gospa(x, y, c * factor).total * (1 + 1e-12)


@settings(max_examples=100, deadline=None)
@given(points(), points(), st.sampled_from([1.0, 2.0]))
def test_equals_unnormalised_ospa_for_sets_of_one_size(x, y, p):
    k = min(len(x), len(y))
    total_p = gospa(x[:k], y[:k], 5.0, p).total_p
    assert total_p == pytest.approx(ospa(x[:k], y[:k], 5.0, p).total ** p * k, rel=1e-9)


@settings(max_examples=100, deadline=None)
@given(points(8), points(8), st.sampled_from(ALPHAS), st.integers(1, 12))
def test_sparse_equals_dense(x, y, alpha, block):
    dense = gospa(x, y, 5.0, 2.0, alpha)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "DENSE_ENTRIES", 0)
        patch.setattr(matching, "BLOCK_EDGES", block)
        sparse = gospa(x, y, 5.0, 2.0, alpha)
    assert sparse.total == pytest.approx(dense.total, rel=1e-12)
    assert (np.diff(sparse.truth_index) > 0).all()


@pytest.mark.parametrize("side", [60.0, 400.0, 3000.0])
def test_sparse_equals_dense_in_large_sets(side, rng):
    x, y = rng.uniform(0, side, (300, 3)), rng.uniform(0, side, (350, 3))
    y[:250] = x[:250] + rng.normal(0, 3, (250, 3))
    sparse = gospa(x, y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "DENSE_ENTRIES", 10**9)
        dense = gospa(x, y)
    assert sparse[:4] == pytest.approx(dense[:4], rel=1e-12)
    assert sparse.truth_index.tolist() == dense.truth_index.tolist()
    assert sparse.estimate_index.tolist() == dense.estimate_index.tolist()


def test_ties_on_a_grid_in_large_sets(rng):
    grid = np.stack(np.meshgrid(np.arange(25.0), np.arange(25.0)), axis=-1).reshape(-1, 2)
    x, y = grid[rng.permutation(625)[:500]], grid[rng.permutation(625)[:480]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "DENSE_ENTRIES", 10**9)
        dense = gospa(x, y, 2.5, 1.0)
    assert gospa(x, y, 2.5, 1.0).total == pytest.approx(dense.total, rel=1e-12)


def test_ten_thousand_objects(rng):
    x = rng.uniform(0, 5000, (10_000, 2))
    y = rng.permutation(x + rng.normal(0, 0.5, x.shape))[:9_000]
    result = gospa(x, y)
    assert result.missed - result.false == 50.0 * 1000
    assert result.localisation == pytest.approx(0.5 * 9000, rel=0.05)


@pytest.mark.parametrize("empty", [[], np.zeros(0), np.zeros((0, 2)), np.zeros((0, 0))])
def test_empty_sets_may_have_any_shape(empty):
    assert gospa(empty, [[1.0, 2.0]], 3.0, 2.0)[:4] == pytest.approx((4.5**0.5, 0, 0, 4.5))
    assert gospa(empty, empty).total == 0


@pytest.mark.filterwarnings("error")
def test_far_beyond_the_cut_off():
    assert gospa([[1e200, 0.0], [1e308, 0.0]], [[-1e308, 0.0], [0.0, 0.0]]).total_p == 200


def test_inputs_stay_as_they_are(rng):
    x, y = rng.normal(size=(4, 2)), rng.normal(size=(5, 2))
    before = x.copy(), y.copy()
    gospa(x, y)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[0.0, np.nan]], [[0, 0]]), "truth must be finite"),
        (([[0.0, 0]], [[0, 0], [0, np.inf]]), r"estimate must be finite.*row 1"),
        (([[0.0, 0]], [[0, 0, 0]]), "same number of columns"),
        (([0.0, 1.0], [[0, 0]]), r"shape \(n, d\)"),
        ((np.zeros((3, 0)), [[0, 0]]), r"shape \(n, d\)"),
        (([], [], 0.0), "c must be"),
        (([], [], np.inf), "c must be"),
        (([], [], np.nan), "c must be"),
        (([], [], 1.0, 0.5), "p must be"),
        (([], [], 1.0, np.inf), "p must be"),
        (([], [], 1e200, 2.0), "must be a float"),
        (([], [], 1.0, 1.0, 0.0), "alpha"),
        (([], [], 1.0, 1.0, 2.1), "alpha"),
        (([], [], 1.0, 1.0, np.nan), "alpha"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        gospa(*arguments)
