from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tracking.association.components import connected, join, labels


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 12), m=st.integers(0, 12))
def test_equals_scipy(seed, n, m):
    rng = np.random.default_rng(seed)
    rows, col = np.nonzero(rng.random((n, m)) < rng.uniform(0, 0.4))
    order, starts = connected(np.searchsorted(rows, np.arange(n + 1)), col, m)
    graph = coo_array((np.ones(len(rows)), (rows, n + col)), shape=(n + m, n + m))
    _, expected = connected_components(graph, directed=False) if n + m else (0, np.zeros(0, int))
    groups = [order[a:b].tolist() for a, b in pairwise(starts)]
    assert sorted(v for g in groups for v in g) == list(range(n + m))
    assert all(g == sorted(g) for g in groups)
    assert [g[0] for g in groups] == sorted(g[0] for g in groups)
    assert {tuple(g) for g in groups} == {
        tuple(np.flatnonzero(expected == c).tolist()) for c in np.unique(expected)
    }


def test_the_order_of_edges_does_not_matter():
    a = connected(np.array([0, 2, 3]), np.array([0, 2, 1]), 4)
    b = connected(np.array([0, 2, 3]), np.array([2, 0, 1]), 4)
    for x, y in zip(a, b):
        np.testing.assert_array_equal(x, y)


def test_labels_count_sets_by_smallest_member():
    parent = np.arange(6)
    for a, b in ((5, 1), (4, 2), (1, 4)):
        join(parent, a, b)
    label, count = labels(parent)
    assert label.tolist() == [0, 1, 1, 2, 1, 1]
    assert count == 3
