"""Gaussian-mixture probability hypothesis density (GM-PHD) filter, with labels.

The filter propagates nothing but the intensity v(x) of the objects, whose integral over a region is the
expected number of objects in it:

    v(x) after a scan = (1 - p_D) v(x) + sum over z of  p_D g(z|x) v(x) / (clutter(z) + integral p_D g(z|.) v)

Births that are uniform over a box need no Gaussians: each measurement takes one component out of them.

An object is reported where a component weighs more than 1/2. Components inherit the label of the one they came
from; a label goes to the reported component that holds most of its mass, so it is reported at most once a
scan. Components of nobody yet have label -1.

Sources: Vo, Ma, "The Gaussian mixture probability hypothesis density filter" (TSP 2006), eq. 22-38 and Tables
II-III; Beard, Vo, Vo, Arulampalam (TSP 2013), partially uniform birth; Panta, Clark, Vo, "Data association and
track management for the Gaussian mixture PHD filter" (TAES 2009), component labels.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numba import njit

from tracking.checks import require_positive, require_probability
from tracking.filters.local import Locals, Outcomes, outcomes
from tracking.filters.poisson import FirstDetections, Poisson, detect_first, missed
from tracking.filters.seeds import Seeds, plant
from tracking.filters.tracker import Models, Scan, Tracker
from tracking.gaussian import symmetrise
from tracking.models.birth import MeasurementBirth
from tracking.tracks import Tracks

MAX_LOG_RATIO = 600.0  # exp of it and of sums of it stay finite
CLAIM = 0.1  # share of a reported component that must carry a label for the label to be its


@dataclass(frozen=True, kw_only=True)
class PHDConfig:
    """Settings of the GM-PHD filter.

    gate:           squared Mahalanobis distance beyond which a measurement does not update a component.
    min_weight:     components of less weight are dropped ("T" in Vo and Ma).
    merge:          squared Mahalanobis distance below which components are merged ("U"); 0: never.
    max_components: components kept ("J_max"), or `per_object` times the expected number of objects if that
                    is more.
    threshold:      weight above which components are reported.
    """

    gate: float = 20.0
    min_weight: float = 1e-5
    merge: float = 4.0
    max_components: int = 100
    per_object: float = 10.0
    threshold: float = 0.5

    def __post_init__(self):
        require_positive(gate=self.gate, max_components=self.max_components, per_object=self.per_object)
        require_probability(min_weight=self.min_weight, threshold=self.threshold)
        if not self.merge >= 0:
            raise ValueError(f"merge must be >= 0, got {self.merge}")


@dataclass(frozen=True)
class PHDDensity:
    """An intensity, and whose component is whose.

    intensity:  Gaussians, and the share of it that is uniform over the box of the birth model.
    label:      (k,) object that each Gaussian belongs to, -1: nobody reported yet.
    source:     (k,) measurement of the last scan that updated it, -1 if none.
    reported:   (k,) whether it is part of the estimate.
    seeds:      measurements that births of a `MeasurementBirth` will start from.
    next_label: the first label that is still free.
    """

    intensity: Poisson
    label: np.ndarray
    source: np.ndarray
    reported: np.ndarray
    seeds: Seeds
    next_label: int = 0

    @classmethod
    def start(cls, models: Models, time: float) -> "PHDDensity":
        """Before the first scan."""
        d = models.motion.dim
        return _unnamed(Poisson.empty(d).born(models.initial, time, 1.0), Seeds.none(d))


class PHD(Tracker):
    """Online GM-PHD tracker: no data association at all, at a cost linear in objects times measurements."""

    Config = PHDConfig

    def start(self, time):
        return PHDDensity.start(self.models, time)

    def predict(self, density, time, dt):
        return predict(density, self.models, time, dt)

    def update(self, density, scan):
        return update(density, scan, self.models, self.config)

    def extract(self, density, time):
        return extract(density, time)


def predict(density: PHDDensity, models: Models, time: float, dt: float) -> PHDDensity:
    """Survive, move, be born (Vo, Ma 2006, eq. 23-27)."""
    intensity = density.intensity.predict(models, dt).born(models.birth, time, dt)
    if isinstance(models.birth, MeasurementBirth):
        intensity = intensity.add(*density.seeds.births(models, time, dt))
    predicted = _unnamed(intensity, density.seeds, density.next_label)
    predicted.label[: len(density.label)] = density.label
    return predicted


def update(density: PHDDensity, scan: Scan, models: Models, config: PHDConfig) -> PHDDensity:
    """Bayes' rule for one scan (eq. 31-38), reduction, and labels."""
    found = detections(density.intensity, scan, models, config.gate)
    parts = posterior(density, found, scan, models, 1 / (1 + found.total), 1.0, config.min_weight)
    merged = merge(parts, config.merge, component_limit(parts, config), config.threshold)
    copies = np.where(merged.w > config.threshold, np.maximum(np.rint(merged.w), 1), 0).astype(np.int64)
    return named(merged, copies, parts.uniform, plant(scan, found.explained, models), density.next_label)


def extract(density: PHDDensity, time: float) -> Tracks:
    """The reported components; their existence probability is their weight, at most 1."""
    told, v = density.reported, density.intensity
    return Tracks(
        time, density.label[told], v.m[told], v.P[told], np.minimum(v.w[told], 1.0), density.source[told]
    )


class Detections(NamedTuple):
    """How likely each measurement is a detection of each component, relative to clutter.

    ratio: (e,) p_D w N(z; z_hat, S) / clutter(z) of the gated pairs of `out`; first: objects out of the
    uniform share, first_ratio (m,) theirs; total: (m,) the sum over all that the measurement may come from.
    """

    out: Outcomes
    ratio: np.ndarray
    first: FirstDetections
    first_ratio: np.ndarray
    total: np.ndarray

    @property
    def explained(self) -> np.ndarray:
        """Probability (m,) that a component explains the measurement: the PHD weight of its detections."""
        return self.total / (1 + self.total)


def detections(v: Poisson, scan: Scan, models: Models, threshold: float) -> Detections:
    """Gate a scan against an intensity; `threshold` is a squared Mahalanobis distance."""
    local = Locals(v.w, v.m, v.P, np.full(len(v.w), -1))
    out = outcomes(local, scan, models.linearisation, threshold)
    row, col, log_clutter = out.pairs.row, out.pairs.col, np.log(scan.clutter)
    with np.errstate(divide="ignore"):
        log_ratio = np.log(v.w * out.p_detect)[row] + out.log_likelihood - log_clutter[col]
    ratio = np.exp(np.minimum(log_ratio, MAX_LOG_RATIO))
    first = detect_first(replace(Poisson.empty(v.m.shape[1]), uniform=v.uniform), scan, models, threshold)
    first_ratio = np.exp(np.minimum(first.log_e - log_clutter, MAX_LOG_RATIO))
    total = first_ratio + np.bincount(col, ratio, minlength=len(scan.z))
    return Detections(out, ratio, first, first_ratio, total)


class Parts(NamedTuple):
    """Components of a posterior intensity: w (k,), m (k, d), P (k, d, d), label (k,), source (k,), and the
    uniform share."""

    w: np.ndarray
    m: np.ndarray
    P: np.ndarray
    label: np.ndarray
    source: np.ndarray
    uniform: float


def posterior(density, found: Detections, scan: Scan, models: Models, factor, missed_factor, min_weight):
    """The intensity after a scan: missed components, detected ones, and new ones out of the uniform share.

    Args:
        factor:        (m,) by which the detections of each measurement are weighed, times their ratio.
        missed_factor: by which missed components are weighed, times 1 - p_D.
        min_weight:    components of less weight are left out.
    Returns:
        `Parts`.
    """
    v = missed(density.intensity, scan.sensor, models.birth)
    w_missed, pairs = missed_factor * v.w, found.out.pairs
    w_hit, w_first = found.ratio * factor[pairs.col], found.first_ratio * factor
    still, hit, new = (np.flatnonzero((w >= min_weight) & (w > 0)) for w in (w_missed, w_hit, w_first))
    m, P = found.out.detected(hit)
    return Parts(
        np.concatenate((w_missed[still], w_hit[hit], w_first[new])),
        np.concatenate((v.m[still], m, found.first.mean[new])),
        np.concatenate((v.P[still], P, found.first.cov[new])),
        np.concatenate((density.label[still], density.label[pairs.row[hit]], np.full(len(new), -1))),
        np.concatenate((np.full(len(still), -1), pairs.col[hit], new)),
        missed_factor * v.uniform,
    )


def component_limit(parts: Parts, config: PHDConfig) -> int:
    """How many components to keep for the number of objects there are."""
    return int(max(config.max_components, config.per_object * parts.w.sum()))


class Merged(NamedTuple):
    """Merged components, heaviest first, and the labels that have a share in them.

    w (k,), m (k, d), P (k, d, d), source (k,) of the heaviest part; claim_of (c,) component, claim (c,)
    label, claim_mass (c,) its weight there, by falling mass.
    """

    w: np.ndarray
    m: np.ndarray
    P: np.ndarray
    source: np.ndarray
    claim_of: np.ndarray
    claim: np.ndarray
    claim_mass: np.ndarray


def merge(parts: Parts, threshold: float, limit: int, heavy: float) -> Merged:
    """Merge near components and keep the heaviest `limit` (Vo, Ma 2006, Table II).

    Args:
        threshold: squared Mahalanobis distance, in the covariance of the heavier one.
        heavy:     two components above this weight with different labels stay apart, so that objects that
                   cross keep their labels; differs from Table II.
    """
    order = np.argsort(-parts.w, kind="stable")
    w, m, P, label = parts.w[order], parts.m[order], parts.P[order], parts.label[order]
    group = _groups(w, m, P, np.linalg.inv(P), label, float(threshold), heavy)
    k = int(group.max(initial=-1)) + 1
    total = np.bincount(group, w, minlength=k)
    share = w / total[group]
    mean, cov = np.zeros((k, m.shape[1])), np.zeros((k, *P.shape[1:]))
    np.add.at(mean, group, share[:, None] * m)
    e = m - mean[group]
    np.add.at(cov, group, share[:, None, None] * (P + e[:, :, None] * e[:, None, :]))
    source = np.empty(k, np.int64)
    source[group[::-1]] = parts.source[order][::-1]  # the last one written is the heaviest

    heaviest = np.argsort(-total, kind="stable")[:limit]
    place = np.full(k, -1)
    place[heaviest] = np.arange(len(heaviest))
    base = parts.label.max(initial=-1) + 2
    claim, index = np.unique(place[group] * base + label + 1, return_inverse=True)
    mass = np.bincount(index, w, minlength=len(claim))
    by_mass = np.argsort(-mass, kind="stable")
    by_mass = by_mass[claim[by_mass] >= 0]  # those of components that are not kept are negative
    return Merged(
        total[heaviest],
        mean[heaviest],
        symmetrise(cov[heaviest]),
        source[heaviest],
        claim[by_mass] // base,
        claim[by_mass] % base - 1,
        mass[by_mass],
    )


@njit(cache=True)
def _groups(w, m, P, P_inv, label, threshold, heavy):
    """Greedy grouping of components sorted by falling weight; groups count up from the heaviest."""
    n, d = m.shape
    group = np.full(n, -1, np.int64)
    by_x = np.argsort(m[:, 0])
    x = m[by_x, 0]
    count = 0
    e = np.empty(d)
    for i in range(n):
        if group[i] >= 0:
            continue
        group[i] = count
        reach = np.sqrt(threshold * P[i, 0, 0])  # no component farther along x can be within the threshold
        first, last = np.searchsorted(x, m[i, 0] - reach), np.searchsorted(x, m[i, 0] + reach, side="right")
        for j in by_x[first:last]:
            if group[j] >= 0 or (w[j] > heavy and label[j] >= 0 and label[i] >= 0 and label[j] != label[i]):
                continue
            for a in range(d):
                e[a] = m[j, a] - m[i, a]
            d2 = 0.0
            for a in range(d):
                for b in range(d):
                    d2 += e[a] * P_inv[i, a, b] * e[b]
            if d2 < threshold:
                group[j] = count
        count += 1
    return group


def named(merged: Merged, copies: np.ndarray, uniform: float, seeds: Seeds, next_label: int) -> PHDDensity:
    """A density from merged components, each split into as many as are reported of it, all labelled apart.

    Args:
        copies: (k,) objects that are reported of each component; 0: none.
    """
    parts = np.maximum(copies, 1)
    parent = np.repeat(np.arange(len(parts)), parts)
    first = np.cumsum(parts) - parts
    reported = (copies > 0)[parent]
    _, claim_number = np.unique(merged.claim, return_inverse=True)
    strong = merged.claim_mass >= CLAIM * merged.w[merged.claim_of]
    label = _labels(merged.claim_of, merged.claim, claim_number, strong, first, copies, len(parent))
    fresh = np.flatnonzero(reported & (label < 0))
    label[fresh] = next_label + np.arange(len(fresh))
    w = np.ones(len(parent))  # one object each; what is left over goes to an end that keeps them sorted
    rest = merged.w - parts + 1
    w[np.where(rest >= 1, first, first + parts - 1)] = rest
    intensity = Poisson(w, merged.m[parent], merged.P[parent], uniform)
    return PHDDensity(intensity, label, merged.source[parent], reported, seeds, int(next_label + len(fresh)))


@njit(cache=True)
def _labels(claim_of, claim, claim_number, strong, first, copies, n):
    """Labels (n,): each goes to the reported component that claims it most, or else to all that hold it."""
    label = np.full(n, -1, np.int64)
    served, settled = np.zeros(len(first), np.int64), np.zeros(len(first), np.bool_)
    used = np.zeros(len(claim), np.bool_)
    for c in range(len(claim)):
        k = claim_of[c]
        if copies[k] == 0:
            if not settled[k]:  # its main label, be it nobody's
                label[first[k]], settled[k] = claim[c], True
        elif claim[c] >= 0 and strong[c] and served[k] < copies[k] and not used[claim_number[c]]:
            label[first[k] + served[k]] = claim[c]
            served[k] += 1
            used[claim_number[c]] = True
    return label


def _unnamed(intensity: Poisson, seeds: Seeds, next_label: int = 0) -> PHDDensity:
    k = len(intensity.w)
    return PHDDensity(intensity, np.full(k, -1), np.full(k, -1), np.zeros(k, np.bool_), seeds, next_label)
