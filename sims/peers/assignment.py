"""Gating and assignment of the plain GNN: a table for tens of tracks, a tree for thousands."""

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

TABLE = 10_000  # entries up to which a table is faster than a tree and components


def gated(z_hat, S, det, z, gate):
    """Pairs of tracks and measurements with squared Mahalanobis distance below the gate.

    Args:
        z_hat: (n, 2) predicted measurements.
        S:     (n, 2, 2) their covariances.
        det:   (n,) the determinants of those.
        z:     (m, 2) measurements.
        gate:  squared Mahalanobis distance.
    Returns:
        row, col and d2 (e,) of each pair.
    """
    n, m = len(z_hat), len(z)
    if n == 0 or m == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    if n * m <= TABLE:
        nu = z - z_hat[:, None]
        d2 = _distance(nu[..., 0], nu[..., 1], S[:, None], det[:, None])
        row, col = np.nonzero(d2 < gate)
        return row, col, d2[row, col]
    radius = np.sqrt(gate * S.trace(axis1=1, axis2=2).max())
    near = KDTree(z_hat).sparse_distance_matrix(KDTree(z), radius, output_type="ndarray")
    row, col = near["i"], near["j"]
    nu = z[col] - z_hat[row]
    d2 = _distance(nu[:, 0], nu[:, 1], S[row], det[row])
    inside = d2 < gate
    return row[inside], col[inside], d2[inside]


def _distance(x, y, S, det):
    """Squared Mahalanobis distance of residuals (x, y), by the closed inverse of a 2 x 2 matrix."""
    return (S[..., 1, 1] * x * x - 2 * S[..., 0, 1] * x * y + S[..., 0, 0] * y * y) / det


def assign(row, col, gain, n, m):
    """The assignment of n rows to m columns that gains most in all.

    Args:
        row, col: (e,) the pairs that may be used.
        gain:     (e,) > 0, over using neither.
        n, m:     numbers of rows and columns.
    Returns:
        taken (n,): the column of each row, -1 for none.
    """
    taken = np.full(n, -1)
    if len(row) == 0:
        return taken
    if n * m <= TABLE:
        table = np.zeros((n, m))
        table[row, col] = gain
        i, j = linear_sum_assignment(table, maximize=True)
        used = table[i, j] > 0
        taken[i[used]] = j[used]
        return taken
    graph = coo_array((np.ones(len(row), bool), (row, n + col)), shape=(n + m, n + m))
    component = connected_components(graph, directed=False)[1][row]
    order = np.lexsort((-gain, component))
    row, col, gain, component = row[order], col[order], gain[order], component[order]
    start = np.flatnonzero(np.diff(component, prepend=-1))
    # In most components there is one row or one column, and their best pair comes first.
    same_row = np.minimum.reduceat(row, start) == np.maximum.reduceat(row, start)
    same_col = np.minimum.reduceat(col, start) == np.maximum.reduceat(col, start)
    easy = same_row | same_col
    taken[row[start[easy]]] = col[start[easy]]
    end = np.append(start[1:], len(row))
    for a, b in zip(start[~easy], end[~easy]):
        rows, i = np.unique(row[a:b], return_inverse=True)
        cols, j = np.unique(col[a:b], return_inverse=True)
        table = np.zeros((len(rows), len(cols)))
        table[i, j] = gain[a:b]
        i, j = linear_sum_assignment(table, maximize=True)
        used = table[i, j] > 0
        taken[rows[i[used]]] = cols[j[used]]
    return taken
