"""Global hypotheses: a product over clusters of mixtures over joint associations.

Tracks that share no measurement are independent, so each cluster of interacting tracks keeps a table of its
own: one row a global hypothesis, one column a track, an entry the local hypothesis that the track follows in
it, or -1 where the track does not exist. A scan joins the clusters that gate a common measurement, ranks the
children of all their hypotheses together (`tracking.filters.children`), prunes, and splits what has become
independent again.

One table serves the PMBM filter, whose local hypotheses carry an existence probability, and the
delta-GLMB filter, where they exist or do not: they differ only in the options handed to `associate`.

Everything is held in flat arrays with offsets ("compressed rows"), so that compiled loops run over thousands
of clusters.

Sources: Garcia-Fernandez, Williams, Granstrom, Svensson (TAES 2018), section IV (hypotheses, Murty, pruning);
Williams (TAES 2015), recycling in section V; clusters: Reid (TAC 1979), and Beard, Vo, Vo (TSP 2020).
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tracking.association.components import connected
from tracking.compiled import compiled
from tracking.filters.children import apart, children, likeliest
from tracking.filters.reduction import empty_output, finish
from tracking.threads import in_parallel, shares

LEAST = 500  # clusters and measurements for which a thread is worth its start
TINY = 1e-300  # keeps the logarithm of nothing finite


class Mixture(NamedTuple):
    """A multi-Bernoulli mixture per cluster. Local hypotheses are ordered by track, tracks by cluster.

    track_offset: (c + 1,) cluster k owns the tracks track_offset[k]:track_offset[k + 1].
    local_offset: (t + 1,) track i owns the local hypotheses local_offset[i]:local_offset[i + 1].
    row_offset:   (c + 1,) cluster k owns the global hypotheses row_offset[k]:row_offset[k + 1].
    log_w:        (g,) their log weights, normalised within the cluster, largest first.
    entry_offset: (c + 1,) cluster k owns the table entries entry_offset[k]:entry_offset[k + 1], row by row.
    entry:        (e,) local hypothesis that a track follows in a global hypothesis, or -1.
    """

    track_offset: np.ndarray
    local_offset: np.ndarray
    row_offset: np.ndarray
    log_w: np.ndarray
    entry_offset: np.ndarray
    entry: np.ndarray

    @property
    def n_clusters(self) -> int:
        return len(self.track_offset) - 1

    @property
    def n_tracks(self) -> int:
        return len(self.local_offset) - 1

    @property
    def best(self) -> np.ndarray:
        """Local hypothesis (t,) of every track in the best global hypothesis of its cluster, or -1."""
        before = self.entry_offset[:-1] - self.track_offset[:-1]  # entries that are not in a first row
        return self.entry[np.repeat(before, np.diff(self.track_offset)) + np.arange(self.n_tracks)]

    def table(self, k: int) -> np.ndarray:
        """Local hypotheses of cluster k, (rows, tracks)."""
        flat = self.entry[self.entry_offset[k] : self.entry_offset[k + 1]]
        return flat.reshape(-1, self.track_offset[k + 1] - self.track_offset[k])

    def weights(self, k: int) -> np.ndarray:
        """Weights of the global hypotheses of cluster k, (rows,)."""
        return np.exp(self.log_w[self.row_offset[k] : self.row_offset[k + 1]])


def empty_mixture() -> Mixture:
    """No tracks: no clusters at all."""
    zero = np.zeros(1, np.int64)
    none = np.zeros(0, np.int64)
    return Mixture(zero, zero.copy(), zero.copy(), np.zeros(0), zero.copy(), none)


def with_tracks(mixture: Mixture, n: int) -> Mixture:
    """The mixture with n more tracks: a cluster, a global and a local hypothesis each, all certain."""
    step = np.arange(1, n + 1)

    def longer(offset):
        return np.concatenate((offset, offset[-1] + step))

    return Mixture(
        longer(mixture.track_offset),
        longer(mixture.local_offset),
        longer(mixture.row_offset),
        np.concatenate((mixture.log_w, np.zeros(n))),
        longer(mixture.entry_offset),
        np.concatenate((mixture.entry, mixture.local_offset[-1] + step - 1)),
    )


def relabel(label: np.ndarray, track: np.ndarray, next_label: int) -> np.ndarray:
    """Labels of tracks after a scan: the old track's, or next_label + j where measurement j starts one."""
    return np.where(track < 0, next_label - 1 - track, np.append(label, 0)[np.maximum(track, -1)])


class Options(NamedTuple):
    """What can become of the local hypotheses in a scan. An option is a number into three blocks:

    first the gated pairs (local hypothesis, measurement), then q private options of every local hypothesis
    (missed, died), then the new track of every measurement.

    pair_offset, pair_col: gated pairs by local hypothesis, as in `tracking.association.gating.Pairs`.
    pair_cost:    (e,) -log weight of a detection relative to leaving the measurement to no track.
    private_cost: (l, q) -log weight of the private options.
    existence:    (e + l q + m,) existence probability after each option; 0 for "absent".
    """

    pair_offset: np.ndarray
    pair_col: np.ndarray
    pair_cost: np.ndarray
    private_cost: np.ndarray
    existence: np.ndarray

    @property
    def n_new(self) -> int:
        return len(self.existence) - len(self.pair_col) - self.private_cost.size


class Limits(NamedTuple):
    """Every approximation that the tables are subject to.

    max_hypotheses:      global hypotheses kept in a cluster.
    min_weight:          those of a smaller normalised weight are dropped.
    min_existence:       local hypotheses below it become "absent".
    max_cluster:         tracks times measurements of a cluster beyond which the tracks are weighed apart, by
                         belief propagation.
    keep_apart:          likeliest local hypotheses that a track keeps when it is weighed apart.
    recycle:             tracks whose marginal existence is below it go back to the Poisson density.
    split:               tracks are taken as independent when their joint probabilities differ from the
                         product by at most this in total variation; below 0: one cluster, never split;
                         1 or more: always split.
    gibbs_sweeps:        0: Murty; else the length of the Gibbs chain, shared out over the parents.
    quota:               rank the children of every parent apart, ceil(max_hypotheses * weight) of each, as in
                         the 2018 paper; else the best children over all parents together.
    """

    max_hypotheses: int = 200
    min_weight: float = 1e-4
    min_existence: float = 1e-5
    recycle: float = 0.0
    split: float = 1e-3
    gibbs_sweeps: int = 0
    quota: bool = False
    max_cluster: int = 2000
    keep_apart: int = 3


def limits_of(config, **changed) -> Limits:
    """The fields of a configuration that are limits, some of them changed.

    A whole number where a float is meant would compile everything once more, so each gets the type of its
    default.
    """
    given = {name: changed.get(name, getattr(config, name, None)) for name in Limits._fields}
    return Limits(**{name: type(Limits._field_defaults[name])(value) for name, value in given.items()})


class Associated(NamedTuple):
    """Outcome of `associate`.

    mixture:      with local hypotheses numbered anew.
    option:       (l',) the option that each new local hypothesis took.
    track:        (t',) old track, or -1 - j for the one that measurement j starts.
    recycled:     (k,) options of the tracks that were recycled, recycled_weight (k,) their expected number.
    explained:    (m,) probability that a measurement came from an old track.
    """

    mixture: Mixture
    option: np.ndarray
    track: np.ndarray
    recycled: np.ndarray
    recycled_weight: np.ndarray
    explained: np.ndarray


def associate(
    mixture: Mixture, options: Options, limits: Limits, rng: np.random.Generator, threads: int = 1
) -> Associated:
    """All clusters through one scan: join, rank, prune, recycle, split.

    Args:
        mixture: global hypotheses before the scan.
        options: what can become of their local hypotheses.
        limits:  the approximations.
        rng:     of the Gibbs chain.
        threads: that share the clusters out among them. The result is the same to the last bit; a Gibbs
                 chain stays on one.
    """
    order, starts = _components(mixture, options, limits, options.n_new)
    ends = shares(starts, 1 if limits.gibbs_sweeps > 0 else int(threads), LEAST)

    def part(first, last):
        return _associate(mixture, options, limits, rng, order, starts, first, last)

    parts = in_parallel(part, list(pairwise(ends)))
    return _together(parts) if len(parts) > 1 else Associated(Mixture(*parts[0][:6]), *parts[0][6:])


def _together(parts) -> Associated:
    """What the threads have found, one after another."""
    track, local, row, log_w, cell, entry, option, source, recycled, weight, explained = zip(*parts)
    before = np.cumsum([0] + [offset[-1] for offset in local])
    entries = [np.where(e >= 0, e + b, -1) for e, b in zip(entry, before)]
    mixture = Mixture(
        _chained(track),
        _chained(local),
        _chained(row),
        np.concatenate(log_w),
        _chained(cell),
        np.concatenate(entries),
    )
    return Associated(
        mixture,
        np.concatenate(option),
        np.concatenate(source),
        np.concatenate(recycled),
        np.concatenate(weight),
        np.sum(explained, axis=0),
    )


def _chained(offsets):
    """Offsets of the rows of several tables put below each other."""
    before = np.cumsum([0] + [offset[-1] for offset in offsets])
    return np.concatenate([offsets[0][:1], *(offset[1:] + b for offset, b in zip(offsets, before))])


@compiled
def _components(mixture, options, limits, m):
    """Clusters, and after them m measurements, by component of what is gated: members, and starts of each."""
    n_clusters = len(mixture.track_offset) - 1
    if limits.split < 0:
        return np.arange(n_clusters + m), np.array([0, n_clusters + m])
    # Local hypotheses are ordered by track, tracks by cluster.
    edges = options.pair_offset[mixture.local_offset[mixture.track_offset]]
    return connected(edges, options.pair_col, m)


@compiled
def _associate(mixture, options, limits, rng, order, starts, first, last):
    """The components `first` to `last` through a scan."""
    n_pairs, n_clusters = len(options.pair_col), len(mixture.track_offset) - 1
    explained = np.zeros(len(order) - n_clusters)
    out = empty_output(len(options.existence))
    for g in range(first, last):
        members = order[starts[g] : starts[g + 1]]
        clusters, columns = members[members < n_clusters], members[members >= n_clusters] - n_clusters
        tracks = _tracks(mixture, clusters)
        if len(tracks) * len(columns) > limits.max_cluster:
            explained[columns] = _apart(mixture, tracks, columns, options, limits, out)
            continue
        prior, locals_ = _join(mixture, clusters, limits)
        w, table = children(prior, locals_, columns, options, limits, rng)
        for b in range(len(w)):
            for i in range(len(tracks)):
                o = table[b, i]
                if 0 <= o < n_pairs:
                    explained[options.pair_col[o]] += w[b]
        finish(w, table, np.concatenate((tracks, -1 - columns)), options, limits, out)
    return (
        np.array(out.track_offset),
        np.array(out.local_offset),
        np.array(out.row_offset),
        np.array(out.log_w),
        np.array(out.entry_offset),
        np.array(out.entry),
        np.array(out.option),
        np.array(out.track),
        np.array(out.recycled),
        np.array(out.recycled_weight),
        explained,
    )


@compiled
def _apart(mixture, tracks, columns, options, limits, out):
    """A cluster too large to be ranked: every track becomes one of its own. Who is explained, (m,)."""
    log_w, owner, option, unassigned = apart(mixture, tracks, columns, options)
    ends = np.searchsorted(owner, np.arange(len(tracks) + 1))
    for i in range(len(tracks)):
        w, table = likeliest(log_w[ends[i] : ends[i + 1]], option[ends[i] : ends[i + 1]], limits)
        finish(w, table, tracks[i : i + 1], options, limits, out)
    first_new = len(options.pair_col) + options.private_cost.size
    for j in range(len(columns)):
        started = np.log(np.maximum(np.array([unassigned[j], 1 - unassigned[j]]), TINY))
        w, table = likeliest(started, np.array([first_new + columns[j], -1]), limits)
        finish(w, table, -1 - columns[j : j + 1], options, limits, out)
    return 1 - unassigned


@compiled
def _tracks(mixture, clusters):
    """Tracks of some clusters, in their order."""
    n = 0
    for k in clusters:
        n += mixture.track_offset[k + 1] - mixture.track_offset[k]
    tracks, i = np.empty(n, np.int64), 0
    for k in clusters:
        for t in range(mixture.track_offset[k], mixture.track_offset[k + 1]):
            tracks[i] = t
            i += 1
    return tracks


@compiled
def _join(mixture, clusters, limits):
    """Product of the tables of some clusters: log weights (b,) and local hypotheses (b, n)."""
    log_w = np.zeros(1)
    table = np.empty((1, 0), np.int64)
    for k in clusters:
        first, last = mixture.track_offset[k], mixture.track_offset[k + 1]
        n = last - first
        other = mixture.log_w[mixture.row_offset[k] : mixture.row_offset[k + 1]]
        other_table = mixture.entry[mixture.entry_offset[k] : mixture.entry_offset[k + 1]].reshape(
            (len(other), n)
        )
        least = log_w[0] + other[0] + (np.log(limits.min_weight) if limits.min_weight > 0 else -np.inf)
        rows = 0
        for a in log_w:  # both sorted, largest first
            for b in other:
                if a + b < least:
                    break
                rows += 1
        sums, left, right = np.empty(rows), np.empty(rows, np.int64), np.empty(rows, np.int64)
        rows = 0
        for a in range(len(log_w)):
            for b in range(len(other)):
                if log_w[a] + other[b] < least:
                    break
                sums[rows], left[rows], right[rows] = log_w[a] + other[b], a, b
                rows += 1
        best = np.argsort(-sums, kind="mergesort")[: limits.max_hypotheses]
        joined = np.empty((len(best), table.shape[1] + n), np.int64)
        joined[:, : table.shape[1]] = table[left[best]]
        joined[:, table.shape[1] :] = other_table[right[best]]
        log_w, table = sums[best], joined
    return log_w, table
