"""Ranked assignment by Gibbs sampling: many good joint associations, without solving an assignment.

Each sweep redraws the choice of every row given the choices of the others; every distinct association that
was visited is kept with its exact weight, so sampling decides which are found, never what they weigh.

Source: Vo, Vo, Hoang, "An efficient implementation of the generalized labeled multi-Bernoulli filter"
(TSP 2017), Algorithm 1.
"""

import numpy as np

from tracking.compiled import compiled


def gibbs(cost, sweeps: int, private, rng: np.random.Generator):
    """Distinct joint associations visited by a Gibbs chain, cheapest first.

    Args:
        cost:    (n, m) costs (negative log weights) of row i taking column j; inf forbids it.
        sweeps:  length of the chain; it starts at every row's cheapest private option.
        private: (n, q) costs of each row's own options, at least one finite in every row.
        rng:     source of randomness.
    Returns:
        total (k,) costs and choice (k, n): column of each row, or -1 - o for its private option o.
    Raises:
        ValueError: a row without a finite private option, or sweeps < 1.
    """
    cost, private = np.asarray(cost, float), np.asarray(private, float)
    if sweeps < 1:
        raise ValueError(f"sweeps must be at least 1, got {sweeps}")
    if len(private) != len(cost) or not np.isfinite(private).any(axis=1).all():
        raise ValueError("every row needs a private option with finite cost: the chain starts there")
    choice = chain(cost, private, sweeps, rng)
    keep = distinct(choice)
    choice = choice[keep]
    total = np.array([weigh(cost, private, c) for c in choice])
    order = np.argsort(total, kind="stable")
    return total[order], choice[order]


@compiled
def chain(cost, private, sweeps, rng):
    """All visited associations (sweeps + 1, n) of a chain, the start first."""
    n, m = cost.shape
    q = private.shape[1]
    visited = np.empty((sweeps + 1, n), np.int64)
    current = np.empty(n, np.int64)
    taken = np.zeros(m, np.bool_)
    for i in range(n):
        current[i] = -1 - np.argmin(private[i])
    visited[0] = current
    weight = np.empty(m + q)
    for s in range(sweeps):
        for i in range(n):
            if current[i] >= 0:
                taken[current[i]] = False
            least = private[i].min()
            for j in range(m):
                if not taken[j]:
                    least = min(least, cost[i, j])
            total = 0.0
            for j in range(m):
                total += 0.0 if taken[j] else np.exp(least - cost[i, j])
                weight[j] = total
            for o in range(q):
                total += np.exp(least - private[i, o])
                weight[m + o] = total
            c = min(np.searchsorted(weight, rng.random() * total, side="right"), m + q - 1)
            current[i] = c if c < m else -1 - (c - m)
            if c < m:
                taken[c] = True
        visited[s + 1] = current
    return visited


@compiled
def weigh(cost, private, choice):
    """Cost of one joint association (n,)."""
    total = 0.0
    for i in range(len(choice)):
        c = choice[i]
        total += cost[i, c] if c >= 0 else private[i, -1 - c]
    return total


@compiled
def distinct(rows):
    """Indices of the first occurrence of every distinct row (k, n), in order."""
    return grouped(rows)[0]


@compiled
def grouped(rows):
    """First occurrence of every distinct row (k, n), and which of these each row equals, (k,).

    A hash table with open addressing: no sorting.
    """
    k = len(rows)
    size = 1
    while size < 2 * k:
        size *= 2
    table = np.full(size, -1, np.int64)
    first, member = np.empty(k, np.int64), np.empty(k, np.int64)
    number = np.empty(size, np.int64)
    found = 0
    for r in range(k):
        slot = _hash(rows[r]) & (size - 1)
        while table[slot] >= 0 and not _same(rows[table[slot]], rows[r]):
            slot = (slot + 1) & (size - 1)
        if table[slot] < 0:
            table[slot], number[slot], first[found] = r, found, r
            found += 1
        member[r] = number[slot]
    return first[:found], member


@compiled
def _hash(row):
    h = np.uint64(14695981039346656037)  # FNV-1a over whole entries
    for i in range(len(row)):
        h = (h ^ np.uint64(row[i])) * np.uint64(1099511628211)
    return np.int64((h ^ (h >> np.uint64(32))) & np.uint64(0x7FFFFFFF))


@compiled
def _same(a, b):
    for i in range(len(a)):
        if a[i] != b[i]:
            return False
    return True
