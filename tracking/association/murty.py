"""Ranked assignment: the k cheapest ways to explain a scan (Murty's algorithm).

The association problem of every filter here has n rows (tracks), m columns (measurements, each used at
most once) and, for every row, private options that no other row competes for: "missed", "died". All
costs are negative log weights, so the sum over rows is the negative log weight of a joint association.

Several problems may be ranked together: the parents of one mixture, each with its own costs, so that the
k best children over all parents come out, not a quota from each.

Sources: Murty (Oper. Res. 1968), partitioning; Miller, Stone, Cox (TAES 1997), dual variables inherited by
the children, so that each costs one augmentation, and solved only when its lower bound is reached.
"""

from heapq import heappop, heappush

import numpy as np

from tracking.compiled import compiled, doubled


def k_best(cost, k: int, private=None, base=None, max_gap: float = np.inf):
    """The k cheapest joint associations, cheapest first.

    Args:
        cost:    (n, m) or (b, n, m) costs of row i taking column j; inf forbids it.
        k:       how many to return at most.
        private: (n, q) or (b, n, q) costs of the options of each row beside the columns; None: every row
                 must take a column.
        base:    (b,) cost added to each of b problems that are ranked together.
        max_gap: stop at associations that cost more than the cheapest plus this.
    Returns:
        total (k',), problem (k',) which of the b it belongs to, and choice (k', n): the column of each
        row, or -1 - o for its private option o. k' < k when there are no more feasible associations.
    Raises:
        ValueError: shapes that do not fit, NaN or -inf costs, or k < 1.
    """
    cost = np.asarray(cost, float)
    if cost.ndim == 2:
        cost = cost[None]
        private = None if private is None else np.asarray(private, float)[None]
    b, n, _ = cost.shape
    private = np.full((b, n, 0), np.inf) if private is None else np.asarray(private, float)
    base = np.zeros(b) if base is None else np.asarray(base, float)
    if private.shape[:2] != (b, n) or base.shape != (b,):
        raise ValueError(
            f"cost {cost.shape}, private {private.shape} and base {base.shape} do not fit together"
        )
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if (
        np.isnan(cost).any()
        or np.isnan(private).any()
        or np.isneginf(cost).any()
        or np.isneginf(private).any()
    ):
        raise ValueError("costs must be finite or +inf, got NaN or -inf")
    return ranked(np.ascontiguousarray(cost), np.ascontiguousarray(private), base, int(k), float(max_gap))


@compiled
def ranked(cost, private, base, k, max_gap):
    """`k_best` without checks, for callers in compiled code."""
    b, n, m = cost.shape
    q = private.shape[2]
    total, problem, choice = np.empty(k), np.empty(k, np.int64), np.empty((k, n), np.int64)

    # Solved nodes keep their assignment and duals. Columns: the shared ones, private of row 0, of row 1, ...
    columns = m + n * q
    slots = b + 16
    row_col = np.empty((slots, n), np.int64)
    u = np.empty((slots, n + 1))  # the last entry belongs to the dummy row, which holds all free columns
    v = np.empty((slots, columns))
    forbidden = np.zeros((slots, columns), np.bool_)  # to the first free row of the node
    slot_problem, slot_row = np.empty(slots, np.int64), np.empty(slots, np.int64)
    used = 0

    # Heap of (cost, slot, row): a solved node has row -1; a child that is not solved yet has its lower bound,
    # its parent's slot and its first free row.
    heap = [(0.0, 0, 0)]
    heap.pop()
    col_row, dist = np.empty(columns, np.int64), np.empty(columns)
    pred, done = np.empty(columns, np.int64), np.empty(columns, np.bool_)
    for p in range(b):
        row_col[used], u[used], v[used], col_row[:] = -1, 0.0, 0.0, -1
        feasible = True
        for i in range(n):
            u[used, i] = _cheapest(cost[p], private[p], i, v[used])  # reduced costs must not be negative
            if not _augment(
                cost[p],
                private[p],
                i,
                0,
                -1,
                row_col[used],
                col_row,
                u[used],
                v[used],
                forbidden[used],
                dist,
                pred,
                done,
            ):
                feasible = False
                break
        if feasible:
            slot_problem[used], slot_row[used] = p, 0
            heappush(heap, (base[p] + _cost_of(cost[p], private[p], row_col[used]), used, -1))
            used += 1

    found = 0
    while len(heap) > 0:
        bound, slot, row = heappop(heap)
        if found > 0 and bound > total[0] + max_gap:
            break
        if row >= 0:  # reach a child: solve it now
            parent, p = slot, slot_problem[slot]
            if used == len(row_col):
                row_col, u, v = doubled(row_col), doubled(u), doubled(v)
                forbidden = doubled(forbidden)
                slot_problem, slot_row = doubled(slot_problem), doubled(slot_row)
            slot = used
            row_col[slot], u[slot], v[slot] = row_col[parent], u[parent], v[parent]
            forbidden[slot] = forbidden[parent] & (row == slot_row[parent])
            target = row_col[slot, row]
            forbidden[slot, target] = True
            col_row[:] = -1
            for i in range(n):
                col_row[row_col[slot, i]] = i
            col_row[target] = -2  # the column that the augmenting path must end at
            if not _augment(
                cost[p],
                private[p],
                row,
                row,
                target,
                row_col[slot],
                col_row,
                u[slot],
                v[slot],
                forbidden[slot],
                dist,
                pred,
                done,
            ):
                continue
            slot_problem[slot], slot_row[slot] = p, row
            used += 1
            bound = base[p] + _cost_of(cost[p], private[p], row_col[slot])
            if found > 0 and bound > total[0] + max_gap:
                continue
            if len(heap) > 0 and heap[0][0] < bound:
                heappush(heap, (bound, slot, -1))
                continue

        p = slot_problem[slot]
        total[found], problem[found] = bound, p
        for i in range(n):
            c = row_col[slot, i]
            choice[found, i] = c if c < m else -1 - (c - m - i * q)
        found += 1
        if found == k:
            break
        done[:] = False  # columns of the rows that a child keeps fixed
        first = slot_row[slot]
        for i in range(first):
            done[row_col[slot, i]] = True
        for i in range(first, n):
            slack = _second_best(
                cost[p], private[p], i, row_col[slot, i], u[slot], v[slot], done, forbidden[slot], i == first
            )
            if slack < np.inf:
                heappush(heap, (bound + slack, slot, i))
            done[row_col[slot, i]] = True
    return total[:found], problem[:found], choice[:found]


@compiled
def _augment(cost, private, start, first, target, row_col, col_row, u, v, forbidden, dist, pred, done):
    """Assign row `start` by one shortest augmenting path (Dijkstra on reduced costs), and update the duals.

    Rows before `first` keep their columns. At the root `target` is -1: the path ends at any free column.
    Later it is the column that `start` has just lost. The free columns belong to a dummy row with cost zero,
    so a path may end by moving the dummy from the column it takes to the target; without it the duals of
    columns that were freed would be wrong. False when there is no path.
    """
    n, m = cost.shape
    q = private.shape[1]
    dist[:], done[:] = np.inf, False
    for i in range(first):
        done[row_col[i]] = True
    row, reached, dummy_col, dummy_reached = start, 0.0, -1, 0.0
    while True:
        if row < n:
            offset = reached - u[row]
            for c in range(m):
                if not done[c] and not (row == start and forbidden[c]):
                    d = max(offset + cost[row, c] - v[c], reached)
                    if d < dist[c]:
                        dist[c], pred[c] = d, row
            for c in range(m + row * q, m + row * q + q):
                if not done[c] and not (row == start and forbidden[c]):
                    d = max(offset + private[row, c - m - row * q] - v[c], reached)
                    if d < dist[c]:
                        dist[c], pred[c] = d, row
        else:
            for c in range(len(v)):
                if not done[c]:
                    if col_row[c] == -1:  # held by the dummy too: nothing new behind it
                        dist[c], done[c] = reached, True
                        continue
                    d = max(reached - u[n] - v[c], reached)
                    if d < dist[c]:
                        dist[c], pred[c] = d, n
        end = -1
        reached = np.inf
        for c in range(len(v)):
            if dist[c] < reached and not done[c]:
                reached, end = dist[c], c
        if end < 0:
            return False
        if end == target or (target < 0 and col_row[end] == -1):
            break
        done[end] = True
        row = col_row[end]
        if row < 0:
            row, dummy_col, dummy_reached = n, end, reached

    u[start] += reached
    if dummy_col >= 0:
        u[n] += reached - dummy_reached
    for c in range(len(v)):
        if done[c] and dist[c] < np.inf:
            v[c] -= reached - dist[c]
            if col_row[c] >= 0:
                u[col_row[c]] += reached - dist[c]
    c = end
    while True:
        row = pred[c]
        if row == n:
            col_row[c] = -1
            c = dummy_col
            continue
        previous = row_col[row]
        row_col[row], col_row[c] = c, row
        if row == start:
            return True
        c = previous


@compiled
def _cheapest(cost, private, row, v):
    """Least reduced cost of a row that has no dual yet, 0 when nothing is allowed."""
    m, q = cost.shape[1], private.shape[1]
    best = np.inf
    for c in range(m):
        best = min(best, cost[row, c] - v[c])
    for o in range(q):
        best = min(best, private[row, o] - v[m + row * q + o])
    return best if best < np.inf else 0.0


@compiled
def _second_best(cost, private, row, taken, u, v, blocked, forbidden, first):
    """Lower bound on what it costs a row to leave its column `taken`."""
    m, q = cost.shape[1], private.shape[1]
    best = np.inf
    for c in range(m):
        if c != taken and not blocked[c] and not (first and forbidden[c]):
            best = min(best, cost[row, c] - v[c])
    for o in range(q):
        c = m + row * q + o
        if c != taken and not (first and forbidden[c]):
            best = min(best, private[row, o] - v[c])
    return max(best - u[row], 0.0)


@compiled
def _cost_of(cost, private, row_col):
    """Sum of the chosen costs, afresh: duals gather rounding errors, this does not."""
    m, q = cost.shape[1], private.shape[1]
    total = 0.0
    for i in range(len(row_col)):
        c = row_col[i]
        total += cost[i, c] if c < m else private[i, c - m - i * q]
    return total
