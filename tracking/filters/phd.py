"""Gaussian-mixture probability hypothesis density (GM-PHD) filter, with labels.

The filter propagates nothing but the intensity v(x) of the objects, whose integral over a region is the
expected number of objects in it:

    v(x) after a scan = (1 - p_D) v(x) + sum over z of  p_D g(z|x) v(x) / (clutter(z) + integral p_D g(z|.) v)

Births that are uniform over a box need no Gaussians: each measurement takes one component out of them.

An object is reported where a component weighs more than 1/2. Components inherit the label of the one they
came from; a label goes to the reported component that holds most of its weight, so it is reported at most
once a scan. Components of nobody yet have label -1.

Sources: Vo, Ma, "The Gaussian mixture probability hypothesis density filter" (TSP 2006), Propositions 1-2 and
Tables I-III; Beard, Vo, Vo, Arulampalam (TSP 2013), partially uniform birth; Panta, Clark, Vo, "Data
association and track management for the Gaussian mixture PHD filter" (TAES 2009), component labels.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from tracking.compiled import compiled
from tracking.filters.local import Locals, Outcomes, outcomes
from tracking.filters.poisson import FirstDetections, Poisson, detect_first, merge_near, missed
from tracking.filters.seeds import Seeds, plant
from tracking.filters.settings import check_settings
from tracking.filters.tracker import Models, Scan, Tracker
from tracking.models.birth import MeasurementBirth
from tracking.modes import merged, probabilities, taken, together
from tracking.tracks import Tracks

MAX_LOG_RATIO = 600.0  # exp of it, and sums of that, stay finite
CLAIM = 0.1  # share of a reported component that must carry a label for the label to be its


@dataclass(frozen=True, kw_only=True)
class GMPHDConfig:
    """Settings of the GM-PHD filter.

    gate:           squared Mahalanobis distance beyond which a measurement does not update a component.
    min_weight:     components of less weight are dropped ("T" in Vo and Ma).
    merge:          squared Mahalanobis distance below which components are merged ("U"); 0: never.
    max_components: components kept ("J_max"), or `per_object` times the expected number of objects if that
                    is more.
    max_gated:      measurements in a gate that are considered, the nearest.
    threshold:      weight above which components are reported.
    """

    gate: float = 20.0
    min_weight: float = 1e-5
    merge: float = 4.0
    max_components: int = 100
    per_object: float = 10.0
    max_gated: int = 100
    threshold: float = 0.5

    def __post_init__(self):
        check_settings(self)


@dataclass(frozen=True)
class GMPHDDensity:
    """An intensity, and whose component is whose.

    parts:      Gaussians of the intensity; their `r` are weights, which may exceed one.
    uniform:    expected objects in the box of the birth model that have no Gaussian.
    label:      (k,) object that each Gaussian belongs to, -1: nobody reported yet.
    reported:   (k,) whether it is part of the estimate.
    seeds:      measurements that births of a `MeasurementBirth` will start from.
    next_label: the first label that is still free.
    """

    parts: Locals
    uniform: float
    label: np.ndarray
    reported: np.ndarray
    seeds: Seeds
    next_label: int = 0

    @classmethod
    def start(cls, models: Models, time: float) -> "GMPHDDensity":
        """The births of `models.initial`."""
        d = models.motion.dim
        parts = Locals.empty(d, models.no_modes)
        none = cls(parts, 0.0, np.zeros(0, np.int64), np.zeros(0, np.bool_), Seeds.none(d))
        return none.add(Poisson.empty(d, models.no_modes).born(models.initial, models, time, 1.0))

    @property
    def mass(self) -> float:
        """Expected number of objects."""
        return float(self.parts.r.sum() + self.uniform)

    @property
    def rest(self) -> Poisson:
        """The uniform share alone."""
        none = taken(self.parts.modes, slice(0, 0))
        return replace(Poisson.empty(self.parts.m.shape[1], none), uniform=self.uniform)

    def add(self, births: Poisson) -> "GMPHDDensity":
        """The intensity with more objects, nobody's yet."""
        k = len(births.w)
        return replace(
            self,
            parts=self.parts.add(births.w, births.m, births.P, None, births.modes),
            uniform=self.uniform + births.uniform,
            label=np.concatenate((self.label, np.full(k, -1))),
            reported=np.concatenate((self.reported, np.zeros(k, np.bool_))),
        )


class GMPHD(Tracker):
    """Online GM-PHD tracker: no data association, at a cost that grows with the gated pairs alone."""

    Config = GMPHDConfig

    def start(self, time):
        return GMPHDDensity.start(self.models, time)

    def predict(self, density, time, dt):
        return predict(density, self.models, time, dt)

    def update(self, density, scan):
        return update(density, scan, self.models, self.config)

    def extract(self, density, time):
        return extract(density, time)


def predict(density: GMPHDDensity, models: Models, time: float, dt: float) -> GMPHDDensity:
    """Survive, move, be born (Vo, Ma 2006, Proposition 1)."""
    return survived(density, models, dt).add(births(density, models, time, dt))


def survived(density: GMPHDDensity, models: Models, dt: float) -> GMPHDDensity:
    """The intensity of the objects that are still there after `dt` seconds."""
    uniform = density.rest.predict(models, dt).uniform
    parts, seeds = density.parts.predict(models, dt), density.seeds.left(dt)
    return replace(density, parts=parts, uniform=uniform, seeds=seeds)


def births(density: GMPHDDensity, models: Models, time: float, dt: float) -> Poisson:
    """The intensity of the objects born in the `dt` seconds up to `time`."""
    none = Poisson.empty(models.motion.dim, models.no_modes)
    if isinstance(models.birth, MeasurementBirth):
        return none.add(*density.seeds.births(models, time, dt))
    return none.born(models.birth, models, time, models.birth_time(dt))


def update(density: GMPHDDensity, scan: Scan, models: Models, config: GMPHDConfig) -> GMPHDDensity:
    """Bayes' rule for one scan (Proposition 2), reduction, and labels."""
    found = detections(density, scan, models, config)
    after = posterior(density, found, 1 / (1 + found.total), 1.0)
    merged = merge(after, config)
    w = merged.parts.r
    copies = np.where(w > config.threshold, np.maximum(np.rint(w), 1), 0).astype(np.int64)
    return named(after, merged, copies, plant(scan, found.explained, models, density.seeds))


def extract(density: GMPHDDensity, time: float) -> Tracks:
    """The reported components; their existence probability is their weight, at most 1."""
    told = density.parts.take(density.reported)
    label, modes = density.label[density.reported], probabilities(told.modes)
    return Tracks(time, label, told.m, told.P, np.minimum(told.r, 1.0), told.source, modes)


class Detections(NamedTuple):
    """How likely each measurement is a detection of each component, relative to clutter.

    ratio:       (e,) p_D w N(z; z_hat, S) / clutter(z) of the gated pairs of `out`.
    first:       objects out of the uniform share that the measurements may be, first_ratio (m,) theirs.
    total:       (m,) the sum over all that a measurement may come from.
    missed:      what is left of the uniform share when it is missed.
    """

    out: Outcomes
    ratio: np.ndarray
    first: FirstDetections
    first_ratio: np.ndarray
    total: np.ndarray
    missed: float

    @property
    def explained(self) -> np.ndarray:
        """Weight (m,) of the detections that the measurement makes: the probability that it is no clutter."""
        return self.total / (1 + self.total)


def detections(density: GMPHDDensity, scan: Scan, models: Models, config: GMPHDConfig) -> Detections:
    """Gate a scan against an intensity."""
    out = outcomes(density.parts, scan, models.linearisation, config.gate, config.max_gated)
    row, col, log_clutter = out.pairs.row, out.pairs.col, np.log(scan.clutter)
    with np.errstate(divide="ignore"):
        log_ratio = np.log(density.parts.r * out.p_detect)[row] + out.log_likelihood - log_clutter[col]
    ratio = np.exp(np.minimum(log_ratio, MAX_LOG_RATIO))
    first = detect_first(density.rest, scan, models, config.gate)
    first_ratio = np.exp(np.minimum(first.log_e - log_clutter, MAX_LOG_RATIO))
    total = first_ratio + np.bincount(col, ratio, minlength=len(scan.z))
    rest = missed(density.rest, scan.sensor, models)
    return Detections(out, ratio, first, first_ratio, total, rest.uniform)


def posterior(density: GMPHDDensity, found: Detections, factor, missed_factor: float) -> GMPHDDensity:
    """The intensity after a scan: missed components, detected ones, and new ones out of the uniform share.

    Args:
        factor:        (m,) by which the detections of each measurement are weighed, times their ratio.
        missed_factor: by which missed components are weighed, times 1 - p_D.
    """
    out, first, col = found.out, found.first, found.out.pairs.col
    mean, cov, modes = out.detected(np.arange(len(col)))
    new = np.flatnonzero(np.isfinite(first.log_e))
    hits = len(col) + len(new)
    parts = Locals(
        np.concatenate(
            (
                missed_factor * (1 - out.p_detect) * out.local.r,
                factor[col] * found.ratio,
                factor[new] * found.first_ratio[new],
            )
        ),
        np.concatenate((out.local.m, mean, first.mean[new])),
        np.concatenate((out.local.P, cov, first.cov[new])),
        np.concatenate((np.full(len(out.local), -1), col, new)),
        np.concatenate((out.visible, np.ones(hits))),
        together(out.local.modes, modes, taken(first.modes, new)),
    )
    return replace(
        density,
        parts=parts,
        uniform=missed_factor * found.missed,
        label=np.concatenate((density.label, density.label[out.pairs.row], np.full(len(new), -1))),
        reported=np.zeros(len(parts), np.bool_),
    )


class Merged(NamedTuple):
    """Merged components, heaviest first, and the labels that have a share in them.

    parts: k components, with the source of their heaviest member; claim (c,) label, claim_of (c,) the
    component that holds some of it, claim_weight (c,) how much, falling.
    """

    parts: Locals
    claim_of: np.ndarray
    claim: np.ndarray
    claim_weight: np.ndarray


def merge(density: GMPHDDensity, config: GMPHDConfig) -> Merged:
    """Prune, merge near components, keep the heaviest (Vo, Ma 2006, Table II)."""
    limit = int(max(config.max_components, config.per_object * density.mass))
    keep = np.flatnonzero((density.parts.r >= config.min_weight) & (density.parts.r > 0))
    order = keep[_by_weight(density.parts.r[keep], density.parts.m[keep])]
    old, label = density.parts.take(order), density.label[order]
    w, m, P, group = merge_near(old.r, old.m, old.P, np.arange(len(old)), float(config.merge))

    heaviest = _by_weight(w, m)[:limit]
    member = np.unique(group, return_index=True)[1]  # its heaviest
    visible = np.bincount(group, old.r * old.visible, minlength=len(w)) / w
    modes = merged(old.r, group, len(w), old.modes)
    parts = Locals(w, m, P, old.source[member], np.minimum(visible, 1.0), modes).take(heaviest)
    place = np.full(len(w), -1)
    place[heaviest] = np.arange(len(heaviest))

    base = label.max(initial=-1) + 2
    claim, index = np.unique(place[group] * base + label + 1, return_inverse=True)
    claimed = np.bincount(index, old.r, minlength=len(claim))
    order = np.argsort(-claimed, kind="stable")
    order = order[claim[order] >= 0]  # the claims to components that were not kept are negative
    return Merged(parts, claim[order] // base, claim[order] % base - 1, claimed[order])


def _by_weight(w, m):
    """Indices by falling weight; equal weights by position, so that the order of the scan has no say."""
    return np.lexsort((m[:, 0], -np.round(np.log(w), 9)))


def named(density: GMPHDDensity, merged: Merged, copies: np.ndarray, seeds: Seeds) -> GMPHDDensity:
    """Merged components, each split into as many as are reported of it, all of them labelled apart.

    Args:
        density: before they were merged.
        copies:  (k,) objects that are reported of each component; 0: none.
    """
    shares = np.maximum(copies, 1)
    parent, first = np.repeat(np.arange(len(shares)), shares), np.cumsum(shares) - shares
    w = np.ones(len(parent))  # one object each; the remainder goes to the end that keeps them sorted
    rest = merged.parts.r - shares + 1
    w[np.where(rest >= 1, first, first + shares - 1)] = rest

    _, number = np.unique(merged.claim, return_inverse=True)
    strong = merged.claim_weight >= CLAIM * merged.parts.r[merged.claim_of]
    label = _labels(merged.claim_of, merged.claim, number, strong, first, copies, len(parent))
    reported = copies[parent] > 0
    fresh = np.flatnonzero(reported & (label < 0))
    label[fresh] = density.next_label + np.arange(len(fresh))
    return replace(
        density,
        parts=replace(merged.parts.take(parent), r=w),
        label=label,
        reported=reported,
        seeds=seeds,
        next_label=density.next_label + len(fresh),
    )


@compiled
def _labels(claim_of, claim, number, strong, first, copies, n):
    """Labels (n,): a reported component has one to itself, the others whichever weighs most in them."""
    label = np.full(n, -1, np.int64)
    served, settled = np.zeros(len(first), np.int64), np.zeros(len(first), np.bool_)
    used = np.zeros(len(claim), np.bool_)
    for c in range(len(claim)):
        k = claim_of[c]
        if copies[k] == 0:
            if not settled[k]:
                label[first[k]], settled[k] = claim[c], True
        elif claim[c] >= 0 and strong[c] and served[k] < copies[k] and not used[number[c]]:
            label[first[k] + served[k]] = claim[c]
            served[k] += 1
            used[number[c]] = True
    return label
