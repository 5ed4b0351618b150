"""Estimators: what to report of a multi-Bernoulli mixture.

    marginal     every track whose existence probability, summed over hypotheses, passes a threshold
    best         the Bernoullis of the best global hypothesis that pass the threshold (estimator 1)
    cardinality  the most probable number of objects, then the best hypothesis with that number (estimator 2)
    map          the most probable hypothesis with its best set of Bernoullis (estimator 3)
    gospa        every track whose report lowers the expected GOSPA error

"best" reports the existence probability within its hypothesis, the others that over all hypotheses.

A density here is anything with `local` hypotheses, the `label` of its tracks, and a `mixture` of them.

Sources: Garcia-Fernandez, Williams, Granstrom, Svensson (TAES 2018), section VI, estimators 1-3;
Rahmathullah, Garcia-Fernandez, Svensson (FUSION 2017), Definition 1, for what "gospa" minimises.
"""

from collections.abc import Callable

import numpy as np
from scipy.signal import convolve
from scipy.special import gammaln

from tracking.filters.hypotheses import Mixture
from tracking.modes import probabilities
from tracking.tracks import Tracks

Estimator = Callable[..., Tracks]
LOG_NOTHING = -700.0  # of what cannot be, so that differences stay numbers that can be added
MANY = 256  # Bernoullis from which on halving them and convolving is faster than one by one


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
    return _as_tracks(density, track, local[track], density.local.r[local[track]], time)


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
    the clusters a knapsack. Clusters of one track are taken in order of what their object adds, which is
    exact; the others by dynamic programming.
    """
    mixture = density.mixture
    size = np.diff(mixture.track_offset)
    alone, crowd = np.flatnonzero(size == 1), np.flatnonzero(size > 1)
    best = [
        _best_by_number(density, k) for k in range(mixture.n_clusters)
    ]  # pmf, row, log score of 0, 1, ...
    gain = np.array([best[k][2][1] - best[k][2][0] for k in alone])
    order = np.argsort(-gain, kind="stable")
    pmf = poisson_binomial(np.array([best[k][0][1] for k in alone]))
    score = np.concatenate((np.zeros(1), np.cumsum(gain[order])))  # of n objects in the clusters so far
    splits = []
    for k in crowd:
        pmf = np.convolve(pmf, best[k][0])
        value = best[k][2]
        extended, taken = (
            np.full(len(score) + len(value) - 1, -np.inf),
            np.zeros(len(score) + len(value) - 1, int),
        )
        for i in range(len(value)):
            part, total = slice(i, i + len(score)), score + value[i]
            better = total > extended[part]
            extended[part][better] = total[better]
            taken[part][better] = i
        score = extended
        splits.append(taken)
    number = int(np.argmax(pmf))
    count = np.zeros(mixture.n_clusters, np.int64)
    for k, taken in zip(crowd[::-1], splits[::-1]):
        count[k] = taken[number]
        number -= count[k]
    count[alone[order[:number]]] = 1
    rows = [int(best[k][1][n]) for k, n in enumerate(count)]
    chosen = [
        np.sort(np.argsort(-_existence_table(density, k)[rows[k]], kind="stable")[:n])
        for k, n in enumerate(count)
    ]
    return _row_tracks(density, rows, chosen, time)


def _best_by_number(density, k):
    """For 0, 1, ... objects in cluster k: probability, the row that holds them best, and its log score."""
    r, w = _existence_table(density, k), density.mixture.weights(k)
    pmf = w @ np.stack([poisson_binomial(row) for row in r])
    ranked = -np.sort(-r, axis=1)
    n = r.shape[1]
    with np.errstate(divide="ignore"):
        yes, no = np.log(ranked), np.log1p(-np.minimum(ranked, 1.0))
        joint = np.stack([yes[:, :i].sum(1) + no[:, i:].sum(1) for i in range(n + 1)], axis=1)
        joint = np.maximum(joint + np.log(w)[:, None], LOG_NOTHING)
    return pmf, joint.argmax(axis=0), joint.max(axis=0)


def poisson_binomial(r: np.ndarray) -> np.ndarray:
    """Probability (n + 1,) of 0, 1, ..., n objects among independent Bernoullis r (n,)."""
    if len(r) > MANY:
        half = len(r) // 2
        return np.maximum(convolve(poisson_binomial(r[:half]), poisson_binomial(r[half:])), 0.0)
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
    return _as_tracks(density, track, local, marginal_existence(density)[track], time)


def _as_tracks(density, track, local, existence, time):
    chosen = density.local.take(local)
    modes = probabilities(chosen.modes)
    return Tracks(time, density.label[track], chosen.m, chosen.P, existence, chosen.source, modes)


def _representatives(density, tracks, existence, time):
    """Tracks with the Gaussian that they have in the best global hypothesis, or their likeliest one.

    The mean over hypotheses would lie between two objects whenever it is open which of them a track follows.
    """
    mixture, local = density.mixture, density.local
    in_best = mixture.best
    owner = np.repeat(np.arange(mixture.n_tracks), np.diff(mixture.local_offset))
    likeliest = np.lexsort((-local_weights(mixture) * local.r, owner))[mixture.local_offset[:-1]]
    chosen = local.take(np.where(in_best >= 0, in_best, likeliest)[tracks])
    label, modes = density.label[tracks], probabilities(chosen.modes)
    return Tracks(time, label, chosen.m, chosen.P, existence[tracks], chosen.source, modes)
