"""Estimators: what to report of a multi-Bernoulli mixture.

    marginal     every track whose existence probability, summed over hypotheses, passes a threshold
    best         the Bernoullis of the best global hypothesis that pass the threshold (estimator 1)
    cardinality  the most probable number of objects, then the best hypothesis with that number (estimator 2)
    map          the most probable hypothesis with its best set of Bernoullis (estimator 3)
    gospa        every track whose report lowers the expected GOSPA error

A density here is anything with `local` hypotheses, the `label` of its tracks, and a `mixture` of them.

Sources: Garcia-Fernandez, Williams, Granstrom, Svensson (TAES 2018), section VI, estimators 1-3;
Rahmathullah, Garcia-Fernandez, Svensson (FUSION 2017), Definition 1, for what "gospa" minimises.
"""

from collections.abc import Callable

import numpy as np
from scipy.special import gammaln

from tracking.filters.hypotheses import Mixture
from tracking.tracks import Tracks

Estimator = Callable[..., Tracks]


def local_weights(mixture: Mixture) -> np.ndarray:
    """Probability (l,) that the true global hypothesis contains each local hypothesis."""
    width = np.diff(mixture.track_offset)
    rows = np.diff(mixture.row_offset)
    weight = np.repeat(np.exp(mixture.log_w), np.repeat(width, rows))
    used = mixture.entry >= 0
    return np.bincount(mixture.entry[used], weight[used], minlength=mixture.local_offset[-1])


def marginal_existence(density) -> np.ndarray:
    """Existence probability (t,) of every track, over all hypotheses."""
    weighted = local_weights(density.mixture) * density.local.r
    return np.add.reduceat(np.append(weighted, 0.0), density.mixture.local_offset[:-1])


def expected_cardinality(density) -> float:
    """Expected number of objects: Bernoullis and, where the density has one, its Poisson part.

    The `unborn` of a labelled density, objects of a uniform birth not detected yet, are not among them.
    """
    poisson = getattr(density, "poisson", None)
    return float(marginal_existence(density).sum() + (poisson.mass if poisson is not None else 0.0))


def marginal(density, config, time: float) -> Tracks:
    """Tracks with marginal existence probability of at least `config.threshold`."""
    existence = marginal_existence(density)
    return _representatives(density, np.flatnonzero(existence >= config.threshold), existence, time)


def gospa_optimal(density, config, time: float) -> Tracks:
    """Tracks whose report lowers the expected GOSPA error (alpha = 2, cut-off c, order p).

    A reported object costs r E[d^p] + (1 - r) c^p / 2, a silent one r c^p / 2, so it is reported when
    r (c^p - E[d^p]) > c^p / 2.
    """
    c, p = config.gospa_c, config.gospa_p
    existence = marginal_existence(density)
    tracks = _representatives(density, np.arange(len(existence)), existence, time)
    cost = np.minimum(expected_distance(tracks.cov, config.gospa_dims, p), c**p)
    return tracks.take(np.flatnonzero(existence * (c**p - cost) > c**p / 2))


def expected_distance(P: np.ndarray, dims: int, p: float) -> np.ndarray:
    """E[|e|^p] (n,) of position errors e ~ N(0, P), with P taken as isotropic of the same trace."""
    sigma = np.sqrt(np.trace(P[:, :dims, :dims], axis1=1, axis2=2) / dims)
    return sigma**p * np.exp(p / 2 * np.log(2) + gammaln((dims + p) / 2) - gammaln(dims / 2))


def best(density, config, time: float) -> Tracks:
    """Bernoullis of the best global hypothesis with r of at least `config.threshold`."""
    local = density.mixture.best
    track = np.flatnonzero((local >= 0) & (density.local.r[local] >= config.threshold))
    return _as_tracks(density, track, local[track], time)


def most_probable(density, config, time: float) -> Tracks:
    """The hypothesis and set of Bernoullis of largest joint probability: those with r > 1/2."""
    mixture = density.mixture
    rows = np.zeros(mixture.n_clusters, np.int64)
    for k in range(len(rows)):
        r = _existence_table(density, k)
        rows[k] = np.argmax(np.log(mixture.weights(k)) + np.log(np.maximum(r, 1 - r)).sum(axis=1))
    return _row_tracks(density, rows, [_chosen(density, k, rows[k], 0.5) for k in range(len(rows))], time)


def cardinality_mode(density, config, time: float) -> Tracks:
    """The most probable number of objects, and the best hypothesis that holds so many.

    Clusters are independent, so their numbers add: the pmf is a convolution, and the split of the number over
    the clusters a knapsack solved exactly by dynamic programming.
    """
    mixture = density.mixture
    pmf = np.ones(1)
    score = np.zeros(1)  # best log score of n objects in the clusters so far
    choices = []
    for k in range(mixture.n_clusters):
        r = _existence_table(density, k)
        w = mixture.weights(k)
        pmf = np.convolve(pmf, w @ np.stack([poisson_binomial(row) for row in r]))
        ranked = -np.sort(-r, axis=1)
        with np.errstate(divide="ignore"):
            yes, no = np.log(ranked), np.log1p(-np.minimum(ranked, 1.0))
        n = r.shape[1]
        joint = (
            np.stack([yes[:, :i].sum(1) + no[:, i:].sum(1) for i in range(n + 1)], axis=1)
            + np.log(w)[:, None]
        )
        row, value = joint.argmax(axis=0), joint.max(axis=0)
        total = score[:, None] + value[None, :]
        extended, taken = np.full(len(score) + n, -np.inf), np.zeros(len(score) + n, np.int64)
        for i in range(n + 1):
            better = total[:, i] > extended[i : i + len(score)]
            extended[i : i + len(score)][better] = total[better, i]
            taken[i : i + len(score)][better] = i
        score = extended
        choices.append((taken, row))
    number = int(np.argmax(pmf))
    rows, chosen = np.zeros(mixture.n_clusters, np.int64), [np.zeros(0, np.int64)] * mixture.n_clusters
    for k in reversed(range(mixture.n_clusters)):
        taken, row = choices[k]
        count = int(taken[number])
        rows[k] = row[count]
        chosen[k] = np.sort(np.argsort(-_existence_table(density, k)[rows[k]], kind="stable")[:count])
        number -= count
    return _row_tracks(density, rows, chosen, time)


def poisson_binomial(r: np.ndarray) -> np.ndarray:
    """Probability (n + 1,) of 0, 1, ..., n objects among independent Bernoullis r (n,)."""
    pmf = np.ones(1)
    for value in r:
        pmf = np.append(pmf * (1 - value), 0.0) + np.append(0.0, pmf * value)
    return pmf


def estimate(density, config, time: float) -> Tracks:
    """What `config.estimator` reports of a density."""
    return ESTIMATORS[config.estimator](density, config, time)


ESTIMATORS: dict[str, Estimator] = {
    "marginal": marginal,
    "best": best,
    "cardinality": cardinality_mode,
    "map": most_probable,
    "gospa": gospa_optimal,
}


def _existence_table(density, k):
    """Existence probability of each track in each global hypothesis of cluster k, 0 where absent."""
    table = density.mixture.table(k)
    return np.where(table >= 0, np.append(density.local.r, 0.0)[table], 0.0)


def _chosen(density, k, row, threshold):
    return np.flatnonzero(_existence_table(density, k)[row] >= threshold)


def _row_tracks(density, rows, chosen, time):
    """Tracks of one global hypothesis: row `rows[k]` of cluster k, its columns `chosen[k]`."""
    mixture = density.mixture
    local = [mixture.table(k)[rows[k], chosen[k]] for k in range(mixture.n_clusters)]
    track = [mixture.track_offset[k] + chosen[k] for k in range(mixture.n_clusters)]
    local, track = (
        np.concatenate(a).astype(np.int64) if a else np.zeros(0, np.int64) for a in (local, track)
    )
    return _as_tracks(density, track, local, time)


def _as_tracks(density, track, local, time):
    chosen = density.local.take(local)
    return Tracks(time, density.label[track], chosen.m, chosen.P, chosen.r, chosen.source)


def _representatives(density, tracks, existence, time):
    """Tracks with the Gaussian that they have in the best global hypothesis, or their likeliest one.

    The mean over hypotheses would lie between two objects whenever it is open which of them a track follows.
    """
    mixture, local = density.mixture, density.local
    in_best = mixture.best
    owner = np.repeat(np.arange(mixture.n_tracks), np.diff(mixture.local_offset))
    likeliest = np.lexsort((-local_weights(mixture) * local.r, owner))[mixture.local_offset[:-1]]
    chosen = local.take(np.where(in_best >= 0, in_best, likeliest)[tracks])
    return Tracks(time, density.label[tracks], chosen.m, chosen.P, existence[tracks], chosen.source)
