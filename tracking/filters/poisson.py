"""Poisson density of the objects that exist but have not been detected yet.

Its intensity is a Gaussian mixture, plus a share that is uniform over a box of positions (`UniformBirth`).

Sources: Williams (TAES 2015), section III; Garcia-Fernandez et al. (TAES 2018), eq. 17-23.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from tracking.association.gating import covered, first_not_below, gate, strips
from tracking.compiled import compiled
from tracking.filters.tracker import Models, Scan
from tracking.gaussian import log_normal
from tracking.kalman import correct
from tracking.models.birth import GaussianBirth, UniformBirth
from tracking.modes import Modes, Weighed, combined, detected, merged, taken, together, weigh

FEW = 32  # components that are not worth sorting into strips


@dataclass(frozen=True)
class Poisson:
    """Intensity of a Poisson point process.

    w: (k,) expected objects of each Gaussian; m: (k, d); P: (k, d, d);
    uniform: expected objects in the box of the birth model, which holds their density;
    modes: of the Gaussians under each model of an `IMM`, None with a single model.
    """

    w: np.ndarray
    m: np.ndarray
    P: np.ndarray
    uniform: float = 0.0
    modes: Modes | None = None

    @classmethod
    def empty(cls, dim: int, modes: Modes | None = None) -> "Poisson":
        """No objects; `modes` are those of none."""
        return cls(np.zeros(0), np.zeros((0, dim)), np.zeros((0, dim, dim)), 0.0, modes)

    @property
    def mass(self) -> float:
        """Expected number of objects."""
        return float(self.w.sum() + self.uniform)

    def add(self, w, m, P, modes: Modes | None = None) -> "Poisson":
        """The intensity with more components."""
        return Poisson(
            np.concatenate((self.w, w)),
            np.concatenate((self.m, m)),
            np.concatenate((self.P, P)),
            self.uniform,
            together(self.modes, modes),
        )

    def born(self, birth, models: Models, time: float, dt: float) -> "Poisson":
        """The intensity with the births of the `dt` seconds up to `time`."""
        if isinstance(birth, GaussianBirth):
            m, P = birth.mean, birth.cov
            return self.add(birth.expected(time, dt), m, P, models.modes(m, P))
        if isinstance(birth, UniformBirth):
            return replace(self, uniform=self.uniform + birth.expected(time, dt))
        return self  # a MeasurementBirth adds its Gaussians after each scan

    def predict(self, models: Models, dt: float) -> "Poisson":
        """Survivors after `dt` seconds; births are added by `born`."""
        m, P, modes = models.predict(self.m, self.P, self.modes, dt)
        uniform = self.uniform
        if models.box is not None:
            survival, moving = models.survival, models.motion.dim >= 2 * models.motion.dims
            stays = 1.0
            if moving and survival.lower is not None and survival.upper is not None:
                stays = models.box.stay(dt, survival.lower, survival.upper)
            uniform *= float(models.survival.lives(models.box.grid(models.motion.dim), dt).mean()) * stays
        return Poisson(self.w * models.survival(m, P, dt, (self.m, self.P)), m, P, uniform, modes)


class FirstDetections(NamedTuple):
    """What each measurement says as the first detection of an object.

    log_e: (m,) log intensity of detections of undetected objects at the measurement, -inf if there is none.
    mean:  (m, d) and cov: (m, d, d) of such an object, one Gaussian by moment matching.
    modes: of such an object under each model of an `IMM`, None with a single model.
    """

    log_e: np.ndarray
    mean: np.ndarray
    cov: np.ndarray
    modes: Modes | None = None


def detect_first(poisson: Poisson, scan: Scan, models: Models, threshold: float) -> FirstDetections:
    """Bernoulli densities that the measurements start (Garcia-Fernandez et al. 2018, eq. 19-23)."""
    if poisson.modes is not None:
        return _detect_first_modes(poisson, poisson.modes, scan, models, threshold)
    z, sensor, box, linearisation = scan.z, scan.sensor, models.box, models.linearisation
    innovation = linearisation.innovate(poisson.m, poisson.P, sensor)
    pairs = gate(innovation, z, threshold, sensor.angles)
    with np.errstate(divide="ignore"):
        log_w = np.log(sensor.detection(poisson.m) * poisson.w)
    log_c = log_w[pairs.row] + log_normal(pairs.d2, innovation.log_det[pairs.row], sensor.dim_z)
    first = _mixed(log_c, pairs, poisson.m, innovation)
    if box is None or poisson.uniform == 0 or len(z) == 0:
        return FirstDetections(*first)
    log_u, start, start_cov = out_of_the_box(poisson, scan, box)
    return FirstDetections(*_with(*first, log_u, start, start_cov))


def out_of_the_box(poisson: Poisson, scan: Scan, box: UniformBirth):
    """Log intensity (m,) of first detections of the uniform share, and moments of the objects."""
    start, start_cov, log_density = box.start(scan.z, scan.sensor, poisson.m.shape[1])
    with np.errstate(divide="ignore"):
        log_u = np.log(scan.sensor.detection(start) * poisson.uniform / box.volume) + log_density
    log_u[~box.near(start, start_cov)] = -np.inf
    return log_u, start, start_cov


def _detect_first_modes(poisson, modes: Modes, scan, models, threshold) -> FirstDetections:
    """As `detect_first`, for densities under several models."""
    weighed: Weighed = weigh(modes, scan.z, scan.sensor, models.linearisation, threshold, None)
    row, col, n = weighed.pairs.row, weighed.pairs.col, len(scan.z)
    with np.errstate(divide="ignore"):
        log_w = np.log(scan.sensor.detection(poisson.m) * poisson.w)
    log_c, found = log_w[row] + weighed.log_likelihood, detected(modes, weighed, np.arange(len(row)))
    if models.box is not None and poisson.uniform > 0 and n > 0:
        log_u, start, start_cov = out_of_the_box(poisson, scan, models.box)
        log_c, col = np.concatenate((log_c, log_u)), np.concatenate((col, np.arange(n)))
        found = together(found, models.modes(start, start_cov))  # type: ignore[assignment]
    top = np.full(n, -np.inf)
    np.maximum.at(top, col, log_c)
    w = np.exp(log_c - np.where(top > -np.inf, top, 0.0)[col])
    with np.errstate(divide="ignore"):
        log_e = top + np.log(np.bincount(col, w, minlength=n))
    whole = merged(w, np.where(w > 0, col, -1), n, found)
    return FirstDetections(np.where(top > -np.inf, log_e, top), *combined(whole), whole)  # type: ignore[arg-type]


@compiled
def _mixed(log_c, pairs, m, innovation):
    """Log weight (n,), mean and covariance of the mixture of the components that gate each measurement."""
    n, d = pairs.n_columns, m.shape[1]
    log_e, mean, cov = np.full(n, -np.inf), np.zeros((n, d)), np.zeros((n, d, d))
    top = np.full(n, -np.inf)
    for e in range(len(log_c)):
        top[pairs.col[e]] = max(top[pairs.col[e]], log_c[e])
    total = np.zeros(n)
    moved = np.empty((len(log_c), d))
    for e in range(len(log_c)):
        i, j = pairs.row[e], pairs.col[e]
        if top[j] == -np.inf:
            continue
        w = np.exp(log_c[e] - top[j])
        total[j] += w
        correct(moved[e], m[i], innovation.gain[i], pairs.nu[e])
        mean[j] += w * moved[e]
    for j in range(n):
        if total[j] > 0:
            log_e[j] = top[j] + np.log(total[j])
            mean[j] /= total[j]
    for e in range(len(log_c)):
        i, j = pairs.row[e], pairs.col[e]
        if top[j] == -np.inf:
            continue
        share = np.exp(log_c[e] - log_e[j])
        for a in range(d):
            for b in range(d):
                spread = (moved[e, a] - mean[j, a]) * (moved[e, b] - mean[j, b])
                cov[j, a, b] += share * (innovation.P_post[i, a, b] + spread)
    return log_e, mean, cov


@compiled
def _with(log_e, mean, cov, log_u, start, start_cov):
    """The mixtures with one component more each, of log weight log_u (n,), moment matched."""
    d = mean.shape[1]
    for j in range(len(log_e)):
        if log_u[j] == -np.inf:
            continue
        total = np.logaddexp(log_e[j], log_u[j])
        old, new = np.exp(log_e[j] - total), np.exp(log_u[j] - total)
        for a in range(d):
            for b in range(d):
                spread = (start[j, a] - mean[j, a]) * (start[j, b] - mean[j, b])
                cov[j, a, b] = old * cov[j, a, b] + new * start_cov[j, a, b] + old * new * spread
        mean[j] = old * mean[j] + new * start[j]
        log_e[j] = total
    return log_e, mean, cov


def missed(poisson: Poisson, sensor, models: Models) -> Poisson:
    """The intensity after a scan without a detection of its objects."""
    uniform = poisson.uniform
    if models.box is not None:
        uniform *= 1 - float(sensor.detection(models.box.grid(poisson.m.shape[1])).mean())
    return replace(poisson, w=poisson.w * (1 - sensor.detection(poisson.m)), uniform=uniform)


def reduce(poisson: Poisson, min_weight: float, merge: float, max_components: int) -> Poisson:
    """Drop components of little weight, merge near ones, keep the heaviest.

    Args:
        min_weight:     expected objects below which a component is dropped.
        merge:          squared Mahalanobis distance, in the covariance of the heavier one, below which
                        components become one (Vo, Ma, TSP 2006, Table II); 0: none.
        max_components: of the rest the heaviest are kept.
    """
    keep = poisson.w >= min_weight
    w, m, P, modes = poisson.w[keep], poisson.m[keep], poisson.P[keep], taken(poisson.modes, keep)
    if merge > 0 and len(w) > 1:
        old = w
        w, m, P, group = merge_near(w, m, P, np.argsort(-w, kind="stable"), merge)
        modes = merged(old, group, len(w), modes)
    if len(w) > max_components:
        heaviest = np.sort(np.argsort(-w, kind="stable")[:max_components])
        w, m, P, modes = w[heaviest], m[heaviest], P[heaviest], taken(modes, heaviest)
    return Poisson(w, m, P, poisson.uniform, modes)


@compiled
def merge_near(w, m, P, order, threshold):
    """Greedy merging: the heaviest component takes in all within `threshold` of it, and so on.

    Returns the merged weights, means and covariances, and the merged component (n,) of every old one.
    """
    n, d = m.shape
    used, group = np.zeros(n, np.bool_), np.empty(n, np.int64)
    out_w, out_m, out_P = np.empty(n), np.empty((n, d)), np.empty((n, d, d))
    across, along = (0, 1) if d > 1 and n > FEW else (-1, 0)
    sorted_order, starts, low, width = strips(P, m, np.argsort(m[:, along]), across, threshold)
    x = m[sorted_order]
    count = 0
    e, members = np.empty(d), np.empty(n, np.int64)
    P_inv = np.empty((d, d))
    for i in order:
        if used[i]:
            continue
        found, inverted = 1, False
        members[0], used[i], group[i] = i, True, count
        reach = np.sqrt(
            threshold * P[i, along, along]
        )  # no component farther away can be within the threshold
        for s in covered(m[i], P[i], across, low, width, len(starts) - 1, threshold):
            k = first_not_below(x, along, starts[s], starts[s + 1], m[i, along] - reach)
            while k < starts[s + 1] and x[k, along] <= m[i, along] + reach:
                j = sorted_order[k]
                k += 1
                if used[j]:
                    continue
                if not inverted:
                    P_inv, inverted = np.linalg.inv(P[i]), True
                d2 = 0.0
                for a in range(d):
                    e[a] = m[j, a] - m[i, a]
                for a in range(d):
                    for b in range(d):
                        d2 += e[a] * P_inv[a, b] * e[b]
                if d2 < threshold:
                    members[found], used[j], group[j] = j, True, count
                    found += 1
        _match(w, m, P, np.sort(members[:found]), out_w, out_m, out_P, count)
        count += 1
    return out_w[:count], out_m[:count], out_P[:count], group


@compiled
def _match(w, m, P, members, out_w, out_m, out_P, k):
    """Moments of some components, as component k of the output."""
    if len(members) == 1:
        i = members[0]
        out_w[k], out_m[k], out_P[k] = w[i], m[i], P[i]
        return
    total, d = 0.0, m.shape[1]
    mean, cov = out_m[k], out_P[k]
    mean[:] = 0.0
    for j in members:
        total += w[j]
        mean += w[j] * m[j]
    mean /= total
    cov[:] = 0.0
    for j in members:
        for a in range(d):
            for b in range(d):
                cov[a, b] += w[j] / total * (P[j, a, b] + (m[j, a] - mean[a]) * (m[j, b] - mean[b]))
    out_w[k] = total
