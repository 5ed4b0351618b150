"""Global nearest neighbour (GNN) tracker: one hypothesis, the best joint association of every scan.

A track is a Gaussian and the probability r that its object exists. A scan explains it in one of two ways, and
both are likelihood ratios against "there is no object, and its measurement is clutter or somebody new":

    detected by z:   l = p_D N(z; z_hat, S) / (clutter(z) + new(z))
    missed:          l = 1 - p_D

The association maximises the product of 1 - r + r l over all tracks, so a track competes for a measurement as
far as it exists; then r / (1 - r) grows by the factor l of the explanation that was chosen. Measurements left
over start tracks with r = new(z) / (clutter(z) + new(z)). Nothing is counted in scans: all thresholds are
probabilities.

Sources: Blackman, Popoli, "Design and Analysis of Modern Tracking Systems" (1999), sections 6.2 (score as a
sequential probability ratio) and 6.4 (global nearest neighbour); Musicki, Evans, Stankovic (TAC 1994), r as
the track score; Williams (TAES 2015), section III, for new(z), the intensity of first detections.
"""

from dataclasses import dataclass, replace
from heapq import heappop, heappush

import numpy as np

from tracking.compiled import compiled
from tracking.filters.local import Locals, Outcomes, outcomes
from tracking.filters.poisson import Poisson, detect_first, missed, reduce
from tracking.filters.seeds import Seeds, plant, predict_undetected
from tracking.filters.settings import check_settings
from tracking.filters.tracker import Models, Scan, Tracker
from tracking.modes import probabilities, taken
from tracking.tracks import Tracks

LOG_TINY = -700.0  # exp of its negative is still finite


@dataclass(frozen=True, kw_only=True)
class GNNConfig:
    """Settings of the GNN tracker.

    gate:      squared Mahalanobis distance beyond which a measurement is not associated.
    threshold: existence probability from which a track is reported.
    delete:    tracks of less existence probability are dropped ...
    give_up:   ... or, where even a new track has less, once theirs falls to this share of where it started.
    max_gated: measurements in a gate that are considered, the nearest.
    min_poisson, merge_poisson, max_poisson: expected objects below which a Poisson component is dropped,
               squared Mahalanobis distance below which two are merged, and how many are kept.
    """

    gate: float = 20.0
    threshold: float = 0.5
    delete: float = 1e-3
    give_up: float = 0.1
    max_gated: int = 100
    min_poisson: float = 1e-5
    merge_poisson: float = 4.0
    max_poisson: int = 100_000

    def __post_init__(self):
        check_settings(self)


@dataclass(frozen=True)
class GNNDensity:
    """Tracks, each a Bernoulli density with one Gaussian, and the objects without a track.

    poisson:    objects never detected.
    tracks:     existence, moments and last measurement of the tracks.
    label:      (t,) of the tracks.
    floor:      (t,) existence probability below which each is dropped.
    seeds:      measurements that births of a `MeasurementBirth` will start from.
    next_label: the first label that is still free.
    """

    poisson: Poisson
    tracks: Locals
    label: np.ndarray
    floor: np.ndarray
    seeds: Seeds
    next_label: int = 0


class GNN(Tracker):
    """Online GNN tracker: cheap and strong while objects keep apart."""

    Config = GNNConfig

    def start(self, time):
        d = self.models.motion.dim
        none = self.models.no_modes
        poisson = Poisson.empty(d, none).born(self.models.initial, self.models, time, 1.0)
        tracks = Locals.empty(d, none)
        return GNNDensity(poisson, tracks, np.zeros(0, np.int64), np.zeros(0), Seeds.none(d))

    def predict(self, density, time, dt):
        return predict(density, self.models, time, dt)

    def update(self, density, scan):
        return update(density, scan, self.models, self.config)

    def extract(self, density, time):
        return extract(density, self.config, time)


def predict(density: GNNDensity, models: Models, time: float, dt: float) -> GNNDensity:
    """Survive, move, be born."""
    poisson = predict_undetected(density.poisson, density.seeds, models, time, dt)
    moved = density.tracks.predict(models, dt)
    return replace(density, poisson=poisson, tracks=moved, seeds=density.seeds.left(dt))


def update(density: GNNDensity, scan: Scan, models: Models, config: GNNConfig) -> GNNDensity:
    """Associate the scan, then score, move, drop and start tracks."""
    first = detect_first(density.poisson, scan, models, config.gate)
    log_rho = np.logaddexp(first.log_e, np.log(scan.clutter))  # (m,) of a measurement that no track explains
    out = outcomes(density.tracks, scan, models.linearisation, config.gate, config.max_gated)
    ratio = _log_ratio(out, log_rho)
    pairs = nearest(out.pairs.offset, out.pairs.row, out.pairs.col, _gain(out, ratio), len(scan.z))

    tracks = _moved(out, ratio, pairs)
    hit = np.flatnonzero(pairs >= 0)
    r_new = np.exp(first.log_e - log_rho)
    explained, free = np.zeros(len(scan.z)), r_new > 0
    explained[tracks.source[hit]], free[tracks.source[hit]] = tracks.r[hit], False
    keep, new = np.flatnonzero(tracks.r >= density.floor), np.flatnonzero(free)
    poisson = missed(density.poisson, scan.sensor, models)
    return GNNDensity(
        reduce(poisson, config.min_poisson, config.merge_poisson, config.max_poisson),
        tracks.take(keep).add(r_new[new], first.mean[new], first.cov[new], new, taken(first.modes, new)),
        np.concatenate((density.label[keep], density.next_label + new)),
        np.concatenate((density.floor[keep], np.minimum(config.delete, config.give_up * r_new[new]))),
        plant(scan, explained, models, density.seeds),
        density.next_label + len(scan.z),
    )


def extract(density: GNNDensity, config: GNNConfig, time: float) -> Tracks:
    """Tracks with existence probability of at least `config.threshold`."""
    reported = density.tracks.r >= config.threshold
    told = density.tracks.take(reported)
    label, modes = density.label[reported], probabilities(told.modes)
    return Tracks(time, label, told.m, told.P, told.r, told.source, modes)


def _log_ratio(out: Outcomes, log_rho: np.ndarray) -> np.ndarray:
    """log p_D N(z; z_hat, S) / rho(z) of the gated pairs (e,)."""
    with np.errstate(divide="ignore"):
        log_detect = np.log(out.p_detect)
    return log_detect[out.pairs.row] + out.log_likelihood - log_rho[out.pairs.col]


def _gain(out: Outcomes, ratio: np.ndarray) -> np.ndarray:
    """Log factor (e,) by which a pair explains the scan better than a missed track and a free measurement."""
    r, row = out.local.r, out.pairs.row
    with np.errstate(divide="ignore"):
        absent, present = np.log1p(-r), np.log(r)
    return np.logaddexp(absent[row], present[row] + ratio) - np.log1p(-r * out.p_detect)[row]


def _moved(out: Outcomes, ratio: np.ndarray, pairs: np.ndarray) -> Locals:
    """Tracks after the scan: the odds r / (1 - r) grow by the factor of the explanation that each takes."""
    hit = np.flatnonzero(pairs >= 0)
    log_factor = np.log1p(-out.p_detect)
    log_factor[hit] = ratio[pairs[hit]]
    r = out.local.r / (out.local.r + (1 - out.local.r) * np.exp(-np.maximum(log_factor, LOG_TINY)))
    m, P, source, visible = out.local.m.copy(), out.local.P.copy(), np.full(len(r), -1), out.visible.copy()
    m[hit], P[hit], modes = out.detected(pairs[hit])
    source[hit], visible[hit] = out.pairs.col[pairs[hit]], 1.0
    if modes is not None and out.local.modes is not None:
        modes = out.local.modes.put(hit, modes)
    return Locals(r, m, P, source, visible, modes)


@compiled
def nearest(offset, row, col, gain, m):
    """Assignment of rows to columns, each used at most once, with the largest sum of gains.

    Successive shortest paths over the gated pairs alone: each row is placed by a search that ends at the
    nearest free column or at a row content with none, so the cost does not grow with the size of the scene.

    Args:
        offset, row, col: pairs by row, as in `tracking.association.gating.Pairs`.
        gain: (e,) of each pair over leaving its row without a column; pairs without gain are never used.
        m:    number of columns.
    Returns:
        taken (n,): the pair that each row takes, -1 for none.
    Source: Jonker, Volgenant (Computing 1987), augmentation step, on a sparse graph with heap.
    """
    n = len(offset) - 1
    taken, holder = np.full(n, -1, np.int64), np.full(m, -1, np.int64)
    u, v = np.zeros(n), np.zeros(m)  # duals: u[row] + v[col] <= -gain, u[row] <= 0, v[col] <= 0
    dist, last, done = np.full(m, np.inf), np.empty(m, np.int64), np.zeros(m, np.bool_)
    for start in range(n):
        for e in range(offset[start], offset[start + 1]):
            if gain[e] > 0:
                u[start] = min(u[start], -gain[e] - v[col[e]])
        touched, heap = [0 for _ in range(0)], [(0.0, 0) for _ in range(0)]
        i, reached, end = start, 0.0, -1
        length, quits = np.inf, start  # of the shortest path so far, to a row that does without a column
        while True:
            if reached - u[i] < length:
                length, quits = reached - u[i], i
            for e in range(offset[i], offset[i + 1]):
                j = col[e]
                d = reached - gain[e] - u[i] - v[j]
                if gain[e] > 0 and not done[j] and d < dist[j]:
                    if dist[j] == np.inf:
                        touched.append(j)
                    dist[j], last[j] = d, e
                    heappush(heap, (d, j))
            while len(heap) > 0 and done[heap[0][1]]:
                heappop(heap)
            if len(heap) == 0 or heap[0][0] >= length:
                break
            reached, j = heappop(heap)
            if holder[j] < 0:
                length, end = reached, j
                break
            done[j] = True
            i = holder[j]

        u[start] += length
        for j in touched:
            if done[j]:
                v[j] -= length - dist[j]
                u[holder[j]] += length - dist[j]
            dist[j], done[j] = np.inf, False
        if end < 0 and quits != start:
            end, taken[quits] = col[taken[quits]], -1
        while end >= 0:  # hand columns on along the path, back to the start
            e = last[end]
            i, given_up = row[e], taken[row[e]]
            taken[i], holder[end] = e, i
            end = col[given_up] if i != start else -1
    return taken
