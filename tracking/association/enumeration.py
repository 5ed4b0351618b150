"""All joint associations within a gap of the best, by depth-first search.

Most clusters hold a track or two and a handful of options: there a bounded search over all combinations costs
less than one assignment problem of `tracking.association.murty`, and gives the same list.
"""

import numpy as np

from tracking.compiled import compiled, doubled


@compiled
def combinations(start, n):
    """Number of combinations of options, over all problems; what `within` may have to visit at most."""
    total = 0.0
    for p in range((len(start) - 1) // n if n > 0 else 0):
        product = 1.0
        for i in range(p * n, (p + 1) * n):
            product *= start[i + 1] - start[i]
        total += product
    return total


@compiled
def within(base, start, cost, column, k, gap):
    """Joint associations of b problems of n rows, cheapest first.

    Args:
        base:   (b,) cost added to every association of a problem.
        start:  (b n + 1,) row i of problem p has the options start[p n + i]:start[p n + i + 1], finite.
        cost:   (o,) of the options.
        column: (o,) that an option takes; two rows of a problem never take the same one. -1: none.
        k:      how many to return at most.
        gap:    those that cost more than the cheapest plus this are left out.
    Returns:
        total (k',), problem (k',) and choice (k', n), the option that each row takes.
    """
    b = len(base)
    n = (len(start) - 1) // max(b, 1)
    order = _cheapest_first(start, cost)
    total, problem = np.empty(16), np.empty(16, np.int64)
    choice = np.empty((16, n), np.int64)
    found, best = 0, np.inf
    rest = np.zeros(n + 1)  # least cost of the rows from i on
    so_far = np.zeros(n + 1)
    place, taken = np.zeros(n, np.int64), np.full(n, -1, np.int64)
    for p in range(b):
        first = start[p * n : (p + 1) * n + 1]
        feasible = True
        rest[n] = 0.0
        for i in range(n - 1, -1, -1):
            feasible = feasible and first[i] < first[i + 1]
            rest[i] = rest[i + 1] + (cost[order[first[i]]] if feasible else 0.0)
        if not feasible or base[p] + rest[0] > best + gap:
            continue
        so_far[0] = base[p]
        i = 0
        if n > 0:
            place[0] = first[0]
        while i >= 0:
            if i == n:
                best = min(best, so_far[n])
                if found == len(total):
                    total, problem, choice = doubled(total), doubled(problem), doubled(choice)
                total[found], problem[found] = so_far[n], p
                for row in range(n):
                    choice[found, row] = order[place[row] - 1]
                found += 1
                i -= 1
                continue
            if place[i] == first[i + 1]:
                i -= 1
                continue
            o = order[place[i]]
            if so_far[i] + cost[o] + rest[i + 1] > best + gap:  # and so are all options after it
                i -= 1
                continue
            place[i] += 1
            free = True
            for row in range(i):
                free = free and (column[o] < 0 or taken[row] != column[o])
            if free:
                taken[i], so_far[i + 1] = column[o], so_far[i] + cost[o]
                i += 1
                if i < n:
                    place[i] = first[i]
    kept = np.argsort(total[:found], kind="mergesort")[:k]
    while len(kept) > 0 and total[kept[-1]] > best + gap:
        kept = kept[:-1]
    return total[kept], problem[kept], choice[kept]


@compiled
def _cheapest_first(start, cost):
    """The options of every row in order of cost (insertion sort: there are few)."""
    order = np.arange(len(cost))
    for r in range(len(start) - 1):
        for j in range(start[r] + 1, start[r + 1]):
            o, k = order[j], j
            while k > start[r] and cost[order[k - 1]] > cost[o]:
                order[k] = order[k - 1]
                k -= 1
            order[k] = o
    return order
