"""Connected components: which tracks and measurements have anything to do with each other."""

import numpy as np

from tracking.compiled import compiled


@compiled
def connected(offset, col, m):
    """Components of the graph of n rows and m columns, the columns numbered after the rows.

    Args:
        offset: (n + 1,) row i has edges to the columns col[offset[i]:offset[i + 1]].
        col:    (e,) columns in 0 .. m - 1.
    Returns:
        order (n + m,) and starts (k + 1,): component g is order[starts[g]:starts[g + 1]], sorted; components
        come by their smallest member, so the numbering does not depend on the order of the edges.
    """
    n = len(offset) - 1
    parent = np.arange(n + m)
    for i in range(n):
        for e in range(offset[i], offset[i + 1]):
            join(parent, i, n + col[e])
    label, count = labels(parent)
    starts = np.zeros(count + 1, np.int64)
    for v in range(n + m):
        starts[label[v] + 1] += 1
    starts = np.cumsum(starts)
    place = starts[:-1].copy()
    order = np.empty(n + m, np.int64)
    for v in range(n + m):
        order[place[label[v]]] = v
        place[label[v]] += 1
    return order, starts


@compiled
def join(parent, a, b):
    """Make one of the sets of a and b; its root is its smallest member."""
    a, b = root(parent, a), root(parent, b)
    parent[max(a, b)] = min(a, b)


@compiled
def root(parent, v):
    """Root of the set of v; halves the path on the way."""
    while parent[v] != v:
        parent[v] = parent[parent[v]]
        v = parent[v]
    return v


@compiled
def labels(parent):
    """Set number of every member, counted by smallest member, and the number of sets."""
    label = np.empty(len(parent), np.int64)
    count = 0
    for v in range(len(parent)):
        r = root(parent, v)
        if r == v:
            label[v] = count
            count += 1
        else:
            label[v] = label[r]
    return label, count
