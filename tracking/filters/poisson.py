"""Poisson density of the objects that exist but have not been detected yet.

Its intensity is a Gaussian mixture, plus a share that is uniform over a box of positions (`UniformBirth`).

Sources: Williams (TAES 2015), section III; Garcia-Fernandez et al. (TAES 2018), eq. 17-23.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from tracking.association.gating import gate
from tracking.compiled import compiled
from tracking.filters.tracker import Models, Scan
from tracking.gaussian import log_likelihood, symmetrise
from tracking.models.birth import GaussianBirth, UniformBirth


@dataclass(frozen=True)
class Poisson:
    """Intensity of a Poisson point process.

    w: (k,) expected objects of each Gaussian; m: (k, d); P: (k, d, d);
    uniform: expected objects in the box of the birth model, which holds their density.
    """

    w: np.ndarray
    m: np.ndarray
    P: np.ndarray
    uniform: float = 0.0

    @classmethod
    def empty(cls, dim: int) -> "Poisson":
        """No objects."""
        return cls(np.zeros(0), np.zeros((0, dim)), np.zeros((0, dim, dim)))

    @property
    def mass(self) -> float:
        """Expected number of objects."""
        return float(self.w.sum() + self.uniform)

    def add(self, w, m, P, uniform: float = 0.0) -> "Poisson":
        """The intensity with more components."""
        return Poisson(
            np.concatenate((self.w, w)),
            np.concatenate((self.m, m)),
            np.concatenate((self.P, P)),
            self.uniform + uniform,
        )

    def born(self, birth, time: float, dt: float) -> "Poisson":
        """The intensity with the births of the `dt` seconds up to `time`."""
        if isinstance(birth, GaussianBirth):
            return self.add(birth.expected(time, dt), birth.mean, birth.cov)
        if isinstance(birth, UniformBirth):
            return replace(self, uniform=self.uniform + birth.expected(time, dt))
        return self  # a MeasurementBirth adds its Gaussians after each scan

    def predict(self, models: Models, dt: float) -> "Poisson":
        """Survivors after `dt` seconds; births are added by `born`."""
        m, P = models.linearisation.predict(self.m, self.P, models.motion, dt)
        uniform = self.uniform
        if models.box is not None:
            stays = models.box.stay(dt) if models.survival.bounded else 1.0
            uniform *= float(models.survival.lives(models.box.grid(models.motion.dim), dt).mean()) * stays
        return Poisson(self.w * models.survival(m, P, dt, (self.m, self.P)), m, P, uniform)


class FirstDetections(NamedTuple):
    """What each measurement says as the first detection of an object.

    log_e: (m,) log intensity of detections of undetected objects at the measurement, -inf if there is none.
    mean:  (m, d) and cov: (m, d, d) of such an object, one Gaussian by moment matching.
    """

    log_e: np.ndarray
    mean: np.ndarray
    cov: np.ndarray


def detect_first(poisson: Poisson, scan: Scan, models: Models, threshold: float) -> FirstDetections:
    """Bernoulli densities that the measurements start (Garcia-Fernandez et al. 2018, eq. 19-23)."""
    z, sensor, box, linearisation = scan.z, scan.sensor, models.box, models.linearisation
    n, d = len(z), poisson.m.shape[1]
    innovation = linearisation.innovate(poisson.m, poisson.P, sensor)
    pairs = gate(innovation, z, threshold, sensor.angles)
    p_detect = sensor.detection(poisson.m)
    with np.errstate(divide="ignore"):
        log_c = np.log(p_detect * poisson.w)[pairs.row] + log_likelihood(innovation, pairs.nu, pairs.row)
    mean = poisson.m[pairs.row] + np.einsum("nij,nj->ni", innovation.gain[pairs.row], pairs.nu)
    cov, col = innovation.P_post[pairs.row], pairs.col
    if box is not None and poisson.uniform > 0 and n > 0:
        start, start_cov, log_density = box.start(z, sensor, d)
        dims = len(box.lower)
        std = np.sqrt(np.diagonal(start_cov, axis1=1, axis2=2)[:, :dims])
        near = np.all(
            (start[:, :dims] > np.subtract(box.lower, 5 * std))
            & (start[:, :dims] < np.add(box.upper, 5 * std)),
            axis=1,
        )
        with np.errstate(divide="ignore"):
            log_u = np.log(sensor.detection(start) * poisson.uniform / box.volume) + log_density
        log_c = np.concatenate((log_c, log_u[near]))
        mean, cov = np.concatenate((mean, start[near])), np.concatenate((cov, start_cov[near]))
        col = np.concatenate((col, np.flatnonzero(near)))
    log_e = np.full(n, -np.inf)
    np.logaddexp.at(log_e, col, log_c)
    with np.errstate(invalid="ignore"):
        share = np.where(np.isfinite(log_c), np.exp(log_c - log_e[col]), 0.0)
    return FirstDetections(log_e, *_matched(share, mean, cov, col, n))


def _matched(share, mean, cov, col, n):
    """Moments (n, d), (n, d, d) of the mixtures that the components' columns make."""
    d = mean.shape[1]
    m, P = np.zeros((n, d)), np.zeros((n, d, d))
    np.add.at(m, col, share[:, None] * mean)
    e = mean - m[col]
    np.add.at(P, col, share[:, None, None] * (cov + e[:, :, None] * e[:, None, :]))
    return m, symmetrise(P)


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
    w, m, P = poisson.w[keep], poisson.m[keep], poisson.P[keep]
    if merge > 0 and len(w) > 1:
        w, m, P = _merge(w, m, P, merge)
    if len(w) > max_components:
        heaviest = np.sort(np.argsort(-w, kind="stable")[:max_components])
        w, m, P = w[heaviest], m[heaviest], P[heaviest]
    return Poisson(w, m, P, poisson.uniform)


def _merge(w, m, P, threshold):
    return merge_near(w, m, P, np.linalg.inv(P), np.argsort(-w, kind="stable"), threshold)[:3]


@compiled
def merge_near(w, m, P, P_inv, order, threshold):
    """Greedy merging: the heaviest component takes in all within `threshold` of it, and so on.

    Returns the merged weights, means and covariances, and the merged component (n,) of every old one.
    """
    n, d = m.shape
    used, group = np.zeros(n, np.bool_), np.empty(n, np.int64)
    out_w, out_m, out_P = np.empty(n), np.empty((n, d)), np.empty((n, d, d))
    by_x = np.argsort(m[:, 0])
    x = m[by_x, 0]
    count = 0
    e = np.empty(d)
    for i in order:
        if used[i]:
            continue
        reach = np.sqrt(threshold * P[i, 0, 0])  # no component farther along x can be within the threshold
        members = [i for _ in range(0)]
        for k in range(
            np.searchsorted(x, m[i, 0] - reach), np.searchsorted(x, m[i, 0] + reach, side="right")
        ):
            j = by_x[k]
            if used[j]:
                continue
            d2 = 0.0
            for a in range(d):
                e[a] = m[j, a] - m[i, a]
            for a in range(d):
                for b in range(d):
                    d2 += e[a] * P_inv[i, a, b] * e[b]
            if d2 < threshold or j == i:
                members.append(j)
                used[j], group[j] = True, count
        total = 0.0
        mean = np.zeros(d)
        for j in members:
            total += w[j]
            mean += w[j] * m[j]
        mean /= total
        cov = np.zeros((d, d))
        for j in members:
            for a in range(d):
                for b in range(d):
                    cov[a, b] += w[j] / total * (P[j, a, b] + (m[j, a] - mean[a]) * (m[j, b] - mean[b]))
        out_w[count], out_m[count], out_P[count] = total, mean, cov
        count += 1
    return out_w[:count], out_m[:count], out_P[:count], group
