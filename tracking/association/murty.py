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
    if k < 1 or k != int(k):
        raise ValueError(f"k must be a whole number >= 1, got {k}")
    if not np.isfinite(base).all():
        raise ValueError(f"base must be finite, got {base.tolist()}")
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
    pred, done = np.empty(columns, np.int64), np.empty(columns)
    leave = np.empty(n)
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
        # A child costs at least what its row pays for leaving its column, and what the holder of the column
        # that it takes pays for leaving that one.
        first = slot_row[slot]
        dist[:] = v[slot]
        for i in range(first):  # a child keeps the columns of the rows before its own
            dist[row_col[slot, i]] = -np.inf
        for i in range(first + 1, n):
            own = dist[row_col[slot, i]]
            dist[row_col[slot, i]] = -np.inf
            leave[i] = _second_best(cost[p], private[p], i, u[slot], dist)
            dist[row_col[slot, i]] = own
        for i in range(first + 1, n):
            dist[row_col[slot, i]] -= leave[i]
        for i in range(first, n):
            dist[row_col[slot, i]] = -np.inf
            if i == first:
                done[:] = dist
                for c in range(columns):
                    if forbidden[slot, c]:
                        done[c] = -np.inf
            slack = _second_best(cost[p], private[p], i, u[slot], done if i == first else dist)
            if slack < np.inf:
                heappush(heap, (bound + slack, slot, i))
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
    # A column is open (done 0) or done (inf). One that may not be reached is nearer than anything, and done.
    dist[:], done[:] = np.inf, 0.0
    for i in range(first):
        dist[row_col[i]], done[row_col[i]] = -np.inf, np.inf
    for c in range(len(v)):
        if forbidden[c]:
            dist[c] = -np.inf
    row, reached, dummy_col, dummy_reached = start, 0.0, -1, 0.0
    while True:
        if row < n:
            own = m + row * q
            _reach(cost[row], v[:m], reached - u[row], reached, row, dist[:m], pred[:m])
            if q > 0:
                end = own + q
                _reach(private[row], v[own:end], reached - u[row], reached, row, dist[own:end], pred[own:end])
            if row == start:
                for c in range(len(v)):  # forbidden to this row alone
                    if forbidden[c] and done[c] == 0.0:
                        dist[c] = np.inf
        else:
            for c in range(len(v)):
                if done[c] == 0.0:
                    if col_row[c] == -1:  # held by the dummy too: nothing new behind it
                        dist[c], done[c] = reached, np.inf
                        continue
                    d = max(reached - u[n] - v[c], reached)
                    if d < dist[c]:
                        dist[c], pred[c] = d, n
        end = _nearest(dist, done)
        if end < 0:
            return False
        reached = dist[end]
        if end == target or (target < 0 and col_row[end] == -1):
            break
        done[end] = np.inf
        row = col_row[end]
        if row < 0:
            row, dummy_col, dummy_reached = n, end, reached

    u[start] += reached
    if dummy_col >= 0:
        u[n] += reached - dummy_reached
    for c in range(len(v)):
        if done[c] > 0.0 and dist[c] > -np.inf:
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
def _reach(cost, v, offset, reached, row, dist, pred):
    """Shorten the distances of columns through a row; those that are done are nearer already."""
    for c in range(len(cost)):
        d = max(offset + cost[c] - v[c], reached)
        nearer = d < dist[c]
        dist[c] = d if nearer else dist[c]
        pred[c] = row if nearer else pred[c]


@compiled
def _nearest(dist, done):
    """The open column at the least distance, -1 if none can be reached."""
    a = b = c = d = np.inf
    n = len(dist) // 4 * 4
    for k in range(0, n, 4):
        a = dist[k] if dist[k] + done[k] < a else a  # NaN, of -inf and inf: not less
        b = dist[k + 1] if dist[k + 1] + done[k + 1] < b else b
        c = dist[k + 2] if dist[k + 2] + done[k + 2] < c else c
        d = dist[k + 3] if dist[k + 3] + done[k + 3] < d else d
    for k in range(n, len(dist)):
        a = dist[k] if dist[k] + done[k] < a else a
    least = min(min(a, b), min(c, d))
    for k in range(len(dist)):
        if dist[k] == least and done[k] == 0.0 and least < np.inf:
            return k
    return -1


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
def _second_best(cost, private, row, u, v):
    """Lower bound on what it costs a row to leave its column; v is -inf for its own and the fixed ones."""
    m, q = cost.shape[1], private.shape[1]
    best = _least(cost[row], v[:m])
    if q > 0:
        best = min(best, _least(private[row], v[m + row * q : m + row * q + q]))
    return max(best - u[row], 0.0)


@compiled
def _least(cost, v):
    """min(cost - v), four at a time: the order does not matter to a minimum."""
    a = b = c = d = np.inf
    n = len(cost) // 4 * 4
    for k in range(0, n, 4):
        a = min(a, cost[k] - v[k])
        b = min(b, cost[k + 1] - v[k + 1])
        c = min(c, cost[k + 2] - v[k + 2])
        d = min(d, cost[k + 3] - v[k + 3])
    for k in range(n, len(cost)):
        a = min(a, cost[k] - v[k])
    return min(min(a, b), min(c, d))


@compiled
def _cost_of(cost, private, row_col):
    """Sum of the chosen costs, afresh: duals gather rounding errors, this does not."""
    m, q = cost.shape[1], private.shape[1]
    total = 0.0
    for i in range(len(row_col)):
        c = row_col[i]
        total += cost[i, c] if c < m else private[i, c - m - i * q]
    return total
