"""What can become of a cluster in a scan: its best global hypotheses, from those before and the gated pairs.

Small clusters are searched (`within`), larger ones ranked by Murty's algorithm or sampled by a Gibbs chain;
in the largest the tracks are weighed apart by belief propagation.

Sources: Garcia-Fernandez, Williams, Granstrom, Svensson (TAES 2018), section IV.B (ranking); Vo, Vo, Hoang
(TSP 2017), section IV (sampling); Williams (TAES 2015), section IV.B, and Williams, Lau (TAES 2014).
"""

import numpy as np

from tracking.association.belief import propagate
from tracking.association.enumeration import combinations, within
from tracking.association.gibbs import chain, distinct, weigh
from tracking.association.murty import ranked
from tracking.compiled import compiled

MAX_COMBINATIONS = 4000.0  # of options in a cluster up to which all are searched, cheaper than assignments


@compiled
def children(prior, locals_, columns, options, limits, rng):
    """Best children of all parents of a component: weights (b',), options (b', n + len(columns))."""
    n, m = locals_.shape[1], len(columns)
    n_pairs, first_new = len(options.pair_col), len(options.pair_col) + options.private_cost.size
    start, cost, column, option = _row_options(locals_, options)
    gap = -np.log(limits.min_weight) if limits.min_weight > 0 else np.inf
    search = limits.gibbs_sweeps == 0 and not limits.quota and combinations(start, n) <= MAX_COMBINATIONS
    if search:
        total, _, choice = within(-prior, start, cost, column, limits.max_hypotheses, gap)
    else:
        total, _, choice = _by_assignment(prior, start, cost, column, columns, limits, gap, rng)

    w = np.exp(total[0] - total)
    w /= w.sum()
    kept = 1
    while kept < len(w) and w[kept] > limits.min_weight:
        kept += 1
    w = w[:kept] / w[:kept].sum()
    table = np.full((kept, n + m), -1, np.int64)
    for r in range(kept):
        for j in range(m):
            table[r, n + j] = first_new + columns[j]
        for i in range(n):
            o = option[choice[r, i]]
            table[r, i] = o
            if 0 <= o < n_pairs:  # an old track took the measurement: it starts no new one
                table[r, n + np.searchsorted(columns, options.pair_col[o])] = -1
    return w, table


@compiled
def _row_options(locals_, options):
    """Options of every track in every parent: starts, costs, columns (-1: none) and option numbers."""
    b, n = locals_.shape
    q, n_pairs = options.private_cost.shape[1], len(options.pair_col)
    start = np.zeros(b * n + 1, np.int64)
    for p in range(b):
        for i in range(n):
            local = locals_[p, i]
            count = q + options.pair_offset[local + 1] - options.pair_offset[local] if local >= 0 else 1
            start[p * n + i + 1] = start[p * n + i] + count
    cost, column, option = np.empty(start[-1]), np.empty(start[-1], np.int64), np.empty(start[-1], np.int64)
    k = 0
    for p in range(b):
        for i in range(n):
            start[p * n + i] = k
            local = locals_[p, i]
            if local < 0:  # absent stays absent
                cost[k], column[k], option[k] = 0.0, -1, -1
                k += 1
                continue
            for o in range(q):
                if options.private_cost[local, o] < np.inf:
                    cost[k], column[k] = options.private_cost[local, o], -1
                    option[k] = n_pairs + local * q + o
                    k += 1
            for e in range(options.pair_offset[local], options.pair_offset[local + 1]):
                if options.pair_cost[e] < np.inf:
                    cost[k], column[k], option[k] = options.pair_cost[e], options.pair_col[e], e
                    k += 1
    start[-1] = k
    return start, cost[:k], column[:k], option[:k]


@compiled
def _by_assignment(prior, start, cost, column, columns, limits, gap, rng):
    """As `within`, for clusters too large for it: by ranked assignment or sampling."""
    b, n, m = len(prior), (len(start) - 1) // len(prior), len(columns)
    dense, index = np.full((b, n, m), np.inf), np.empty((b, n, m), np.int64)
    q = 1
    for r in range(b * n):
        q = max(q, (column[start[r] : start[r + 1]] < 0).sum())
    private, private_index = np.full((b, n, q), np.inf), np.empty((b, n, q), np.int64)
    for r in range(b * n):
        p, i, o = r // n, r % n, 0
        for k in range(start[r], start[r + 1]):
            if column[k] < 0:
                private[p, i, o], private_index[p, i, o] = cost[k], k
                o += 1
            else:
                j = np.searchsorted(columns, column[k])
                dense[p, i, j], index[p, i, j] = cost[k], k
    if limits.gibbs_sweeps > 0:
        total, problem, choice = _sampled(dense, private, -prior, limits, gap, rng)
    elif limits.quota:
        total, problem, choice = _ranked_apart(dense, private, -prior, limits.max_hypotheses)
    else:
        total, problem, choice = ranked(dense, private, -prior, limits.max_hypotheses, gap)
    for r in range(len(choice)):
        for i in range(n):
            p, c = problem[r], choice[r, i]
            choice[r, i] = index[p, i, c] if c >= 0 else private_index[p, i, -1 - c]
    return total, problem, choice


@compiled
def _ranked_apart(cost, private, base, k):
    """As `ranked`, but at most ceil(k * weight) children of each parent."""
    totals, problems = [0.0 for _ in range(0)], [0 for _ in range(0)]
    choices = np.empty((0, cost.shape[1]), np.int64)
    for p in range(len(base)):
        quota = max(int(np.ceil(k * np.exp(-base[p]))), 1)
        total, _, choice = ranked(cost[p : p + 1], private[p : p + 1], base[p : p + 1], quota, np.inf)
        for r in range(len(total)):
            totals.append(total[r])
            problems.append(p)
        choices = np.concatenate((choices, choice))
    total, problem = np.array(totals), np.array(problems)
    order = np.argsort(total, kind="mergesort")[:k]
    return total[order], problem[order], choices[order]


@compiled
def _sampled(cost, private, base, limits, gap, rng):
    """As `ranked`, but by a Gibbs chain for every parent, its length shared out by the root of the weight."""
    b, n, _ = cost.shape
    share = np.exp(-0.5 * (base - base.min()))
    share /= share.sum()
    totals, problems = [0.0 for _ in range(0)], [0 for _ in range(0)]
    choices = np.empty((0, n), np.int64)
    for p in range(b):
        sweeps = max(1, int(limits.gibbs_sweeps * share[p]))
        _, _, start = ranked(cost[p : p + 1], private[p : p + 1], base[p : p + 1], 1, gap)
        visited = np.concatenate((start, chain(cost[p], private[p], sweeps, rng)))
        visited = visited[distinct(visited)]
        for r in range(len(visited)):
            totals.append(base[p] + weigh(cost[p], private[p], visited[r]))
            problems.append(p)
        choices = np.concatenate((choices, visited))
    total, problem = np.array(totals), np.array(problems)
    order = np.argsort(total, kind="mergesort")[: limits.max_hypotheses]
    order = order[total[order] <= total[order[0]] + gap]
    return total[order], problem[order], choices[order]


@compiled
def apart(mixture, tracks, columns, options):
    """Association marginals of the tracks of a cluster, each taken as independent of the others.

    Args:
        tracks:  (n,) of the cluster.
        columns: (m,) measurements of the cluster, sorted.
    Returns:
        Log weights (o,), tracks (o,) as indices into `tracks`, and options (o,) of all that can become of a
        track, -1 where it was absent before; and the probability (m,) that no track takes a measurement.
    """
    log_prior = _local_log_weights(mixture, tracks)
    n, m = len(tracks), len(columns)
    q, n_pairs = options.private_cost.shape[1], len(options.pair_col)
    capacity = n
    for i in range(n):
        for local in range(mixture.local_offset[tracks[i]], mixture.local_offset[tracks[i] + 1]):
            capacity += q + options.pair_offset[local + 1] - options.pair_offset[local]
    log_w, owner, option = np.empty(capacity), np.empty(capacity, np.int64), np.empty(capacity, np.int64)
    edge = np.full(
        capacity, -1, np.int64
    )  # of the association problem that an option belongs to; -1: private
    offset, col, log_detected = np.zeros(n + 1, np.int64), np.empty(capacity, np.int64), np.empty(capacity)
    log_private = np.full(n, -np.inf)
    slot = np.full(m, -1, np.int64)
    k, e = 0, 0
    for i in range(n):
        total = 0.0
        for local in range(mixture.local_offset[tracks[i]], mixture.local_offset[tracks[i] + 1]):
            total += np.exp(log_prior[local])
            for o in range(q):
                log_w[k] = log_prior[local] - options.private_cost[local, o]
                owner[k], option[k] = i, n_pairs + local * q + o
                log_private[i] = np.logaddexp(log_private[i], log_w[k])
                k += 1
            for pair in range(options.pair_offset[local], options.pair_offset[local + 1]):
                j = np.searchsorted(columns, options.pair_col[pair])
                if slot[j] < 0:
                    slot[j], col[e], log_detected[e] = e, j, -np.inf
                    e += 1
                log_w[k] = log_prior[local] - options.pair_cost[pair]
                owner[k], option[k], edge[k] = i, pair, slot[j]
                log_detected[slot[j]] = np.logaddexp(log_detected[slot[j]], log_w[k])
                k += 1
        if total < 1 - 1e-12:
            log_w[k], owner[k], option[k] = np.log(1 - total), i, -1
            log_private[i] = np.logaddexp(log_private[i], log_w[k])
            k += 1
        offset[i + 1] = e
        slot[col[offset[i] : e]] = -1
    weight = np.empty(e)
    for i in range(n):
        for x in range(offset[i], offset[i + 1]):
            weight[x] = np.exp(min(log_detected[x] - log_private[i], 600.0))
    pair, none, unassigned = propagate(offset, col[:e], weight, m, 1e-6, 1000)
    for x in range(k):
        if edge[x] >= 0:
            log_w[x] += np.log(max(pair[edge[x]], 1e-300)) - log_detected[edge[x]]
        else:
            log_w[x] += np.log(max(none[owner[x]], 1e-300)) - log_private[owner[x]]
    return log_w[:k], owner[:k], option[:k], unassigned


@compiled
def _local_log_weights(mixture, tracks):
    """Log probability of every local hypothesis of some tracks, -inf elsewhere."""
    weight = np.zeros(mixture.local_offset[-1])
    wanted = np.zeros(len(mixture.local_offset) - 1, np.bool_)
    wanted[tracks] = True
    for k in range(len(mixture.track_offset) - 1):
        first, last = mixture.track_offset[k], mixture.track_offset[k + 1]
        if first == last or not wanted[first]:
            continue
        at = mixture.entry_offset[k]
        for row in range(mixture.row_offset[k], mixture.row_offset[k + 1]):
            for _ in range(last - first):
                if mixture.entry[at] >= 0:
                    weight[mixture.entry[at]] += np.exp(mixture.log_w[row])
                at += 1
    return np.log(weight)


@compiled
def likeliest(log_w, option, limits):
    """The few likeliest outcomes of a track: weights (k,) and options (k, 1), largest first."""
    order = np.argsort(-log_w, kind="mergesort")[: limits.keep_apart]
    w = np.exp(log_w[order] - log_w[order[0]])
    w /= w.sum()
    kept = 1
    while kept < len(w) and w[kept] > limits.min_weight:
        kept += 1
    return w[:kept] / w[:kept].sum(), option[order[:kept]].reshape((kept, 1))
