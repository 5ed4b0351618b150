"""Optimal assignment of two sets under a cut-off: pairs at or beyond the cut-off are not assigned.

The two sets need not be small: only pairs closer than the cut-off can be assigned, so that large sets
become a sparse graph, whose connected components are solved apart.

Sources: Crouse (TAES 2016), the rectangular assignment of scipy.optimize; Jonker, Volgenant (Computing
1987), its sparse form in scipy.sparse.csgraph.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from tracking.metrics.sets import existence

# Up to this many entries a full cost matrix is faster than a graph (measured: they meet near 200 x 200).
DENSE_ENTRIES = 40_000
# The sparse solver needs time in proportion to the square of the rows: components share it in blocks.
BLOCK_EDGES = 4096


def match_points(
    x: np.ndarray, y: np.ndarray, c: float, p: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Assignment of least sum min(d, c)^p between points (n, d) and (m, d), without its saturated pairs.

    Returns:
        rows (k,) of x in increasing order, rows (k,) of y, and their distances (k,), all < c.
    """
    if len(x) * len(y) <= DENSE_ENTRIES:
        rows, cols = linear_sum_assignment(np.minimum(cdist(x, y), c) ** p)
    else:
        i, j, d = close_pairs(x, y, c)
        chosen = match_edges(i, j, d**p, c**p, (len(x), len(y)))
        rows, cols = i[chosen], j[chosen]
    d = _distance(x[rows], y[cols])
    near = d < c
    return rows[near], cols[near], d[near]


def close_pairs(x: np.ndarray, y: np.ndarray, c: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of points (n, d), (m, d) at a distance < c: rows of x, rows of y, distances."""
    if len(x) * len(y) <= DENSE_ENTRIES:
        i, j = np.nonzero(cdist(x, y) < c)
    else:
        # The tree rounds distances in its own way; a hair more, then one formula decides for everyone.
        found = cKDTree(x).sparse_distance_matrix(cKDTree(y), c * (1 + 1e-9), output_type="ndarray")
        i, j = found["i"], found["j"]
    d = _distance(x[i], y[j])
    near = d < c
    return i[near], j[near], d[near]


def close_trajectories(
    x: np.ndarray, y: np.ndarray, c: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of trajectories (n, T, d), (m, T, d) that come closer than c to each other at some time.

    Returns:
        rows of x (k,), rows of y (k,), distances (k, T) with 0 where not closer than c, and where (k, T).
    """
    here_x, here_y = existence(x), existence(y)
    found = [(np.zeros(0, np.int64),) * 3 + (np.zeros(0),)]
    for t in range(x.shape[1]):
        of_x, of_y = np.flatnonzero(here_x[:, t]), np.flatnonzero(here_y[:, t])
        i, j, d = close_pairs(x[of_x, t], y[of_y, t], c)
        found.append((of_x[i], of_y[j], np.full(len(i), t), d))
    rows, cols, times, d = (np.concatenate(column) for column in zip(*found))
    pairs, index = np.unique(rows * len(y) + cols, return_inverse=True)
    distance, near = np.zeros((len(pairs), x.shape[1])), np.zeros((len(pairs), x.shape[1]), bool)
    distance[index, times], near[index, times] = d, True
    rows, cols = np.divmod(pairs, max(len(y), 1))
    return rows, cols, distance, near


def _distance(a, b):
    with np.errstate(over="ignore"):  # infinite is far enough
        return np.sqrt(np.square(a - b).sum(axis=1))


def match_edges(
    rows: np.ndarray, cols: np.ndarray, cost: np.ndarray, limit: float, shape: tuple[int, int]
) -> np.ndarray:
    """Edges of the matching with the least sum of (cost - limit), in order of their rows.

    Args:
        rows, cols: (e,) ends of the edges, each edge once.
        cost:       (e,) in [0, limit].
        limit:      cost of leaving a row and a column unmatched, > 0.
        shape:      number of rows and columns.
    Returns:
        (k,) indices of the chosen edges.
    """
    if shape[0] * shape[1] <= DENSE_ENTRIES:
        return _match_dense(rows, cols, cost, limit, shape)
    component, size = edge_components(rows, cols, shape)
    lone = size[component] == 1  # an edge alone is chosen: it costs no more than to leave its ends
    rest = np.flatnonzero(~lone)
    # Components stay whole: all edges of one fall into the block in which its first edge falls.
    start = np.cumsum(np.where(size > 1, size, 0)) - size
    blocks = [rest[block] for block in groups(start[component[rest]] // BLOCK_EDGES)]
    chosen = [np.flatnonzero(lone), *(_match_sparse(rows, cols, cost, limit, edges) for edges in blocks)]
    edges = np.concatenate(chosen)
    return edges[np.argsort(rows[edges], kind="stable")]


def edge_components(
    rows: np.ndarray, cols: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Connected component (e,) of each edge of a bipartite graph, and the edges of each component."""
    n, nodes = shape[0], shape[0] + shape[1]
    graph = coo_array((np.ones(len(rows), bool), (rows, n + cols)), shape=(nodes, nodes))
    count, of_node = connected_components(graph, directed=False)
    component = of_node[rows]
    return component, np.bincount(component, minlength=count)


def groups(labels: np.ndarray) -> list[np.ndarray]:
    """Indices of equal labels (k,), one array a label, in the order of the labels."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(order) else []


def _match_dense(rows, cols, cost, limit, shape):
    matrix = np.full(shape, limit)
    matrix[rows, cols] = cost
    edge = np.full(shape, -1)
    edge[rows, cols] = np.arange(len(rows))
    chosen = edge[linear_sum_assignment(matrix)]
    return chosen[chosen >= 0]


def _match_sparse(rows, cols, cost, limit, edges):
    """Chosen ones of `edges`: every row is matched, to a column or to a stand-in of its own at `limit`."""
    row_names, i = np.unique(rows[edges], return_inverse=True)
    col_names, j = np.unique(cols[edges], return_inverse=True)
    n, m = len(row_names), len(col_names)
    # The solver takes a weight of zero for no edge; the same constant on every edge changes no choice.
    weight = np.concatenate((cost[edges], np.full(n, limit))) + limit
    ends = np.concatenate((i, np.arange(n))), np.concatenate((j, m + np.arange(n)))
    matched = min_weight_full_bipartite_matching(csr_array((weight, ends), shape=(n, m + n)))
    key = i * m + j
    order = np.argsort(key)
    real = matched[1] < m
    return edges[order[np.searchsorted(key[order], matched[0][real] * m + matched[1][real])]]
