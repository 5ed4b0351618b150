"""Marginal association probabilities by enumerating the best joint associations of every component.

Exact when `k` and `max_gap` leave nothing out; the alternative to `tracking.association.belief` where
components are small or exactness matters.
"""

import numpy as np

from tracking.association.belief import Marginals, propagate
from tracking.association.components import connected
from tracking.association.murty import ranked
from tracking.compiled import compiled


def enumerate_best(
    offset, col, weight, m: int, k: int = 1000, max_gap: float = 20.0, max_cluster: int = 2000
) -> Marginals:
    """Marginals from the k best joint associations of each connected component.

    Args:
        offset, col, weight, m: the problem, as in `tracking.association.belief.belief`.
        k:       joint associations kept in a component.
        max_gap: those with a log weight this far below the best are left out.
        max_cluster: rows times columns of a component beyond which belief propagation does instead.
    """
    return Marginals(
        *_enumerate(
            np.asarray(offset), np.asarray(col), np.asarray(weight, float), m, k, float(max_gap), max_cluster
        )
    )


@compiled
def _enumerate(offset, col, weight, m, k, max_gap, max_cluster):
    n = len(offset) - 1
    pair, none, unassigned = np.zeros(len(col)), np.ones(n), np.ones(m)
    order, starts = connected(offset, col, m)
    for g in range(len(starts) - 1):
        members = order[starts[g] : starts[g + 1]]
        rows, columns = members[members < n], members[members >= n] - n
        if len(rows) == 0 or len(columns) == 0:
            continue
        if len(rows) * len(columns) > max_cluster:
            _believe(offset, col, weight, rows, columns, pair, none, unassigned)
            continue
        cost = np.full((1, len(rows), len(columns)), np.inf)
        edge = np.empty((len(rows), len(columns)), np.int64)
        for a in range(len(rows)):
            for e in range(offset[rows[a]], offset[rows[a] + 1]):
                b = np.searchsorted(columns, col[e])
                edge[a, b] = e
                if weight[e] > 0:
                    cost[0, a, b] = -np.log(weight[e])
        total, _, choice = ranked(cost, np.zeros((1, len(rows), 1)), np.zeros(1), k, max_gap)
        p = np.exp(total[0] - total)
        p /= p.sum()
        none[rows] = 0.0
        for s in range(len(p)):
            for a in range(len(rows)):
                b = choice[s, a]
                if b < 0:
                    none[rows[a]] += p[s]
                else:
                    pair[edge[a, b]] += p[s]
                    unassigned[columns[b]] -= p[s]
    return pair, none, np.maximum(unassigned, 0.0)


@compiled
def _believe(offset, col, weight, rows, columns, pair, none, unassigned):
    """Marginals of one component by belief propagation."""
    own_offset = np.zeros(len(rows) + 1, np.int64)
    for a in range(len(rows)):
        own_offset[a + 1] = own_offset[a] + offset[rows[a] + 1] - offset[rows[a]]
    edges = np.empty(own_offset[-1], np.int64)
    for a in range(len(rows)):
        edges[own_offset[a] : own_offset[a + 1]] = np.arange(offset[rows[a]], offset[rows[a] + 1])
    own_col = np.searchsorted(columns, col[edges])
    p, p_none, p_unassigned = propagate(own_offset, own_col, weight[edges], len(columns), 1e-6, 1000)
    pair[edges], none[rows], unassigned[columns] = p, p_none, p_unassigned
