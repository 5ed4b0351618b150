"""Gaussian-mixture cardinalised PHD (GM-CPHD) filter, with labels.

Beside the intensity v(x) it propagates the whole distribution p(n) of the number of objects, which keeps the
estimated number steady where that of the PHD filter follows every missed detection.

A scan acts on p(n) through elementary symmetric functions e_j of a(z) = integral p_D g(z|.) v / clutter(z).
With N the mass of v and q the share of it that is missed, the likelihood of the scan is

    L = sum over j of C_j e_j(a),   C_j = sum over n of p(n) n! / (n - j)! q^(n - j) N^-j

and everything else follows from it: a missed component is weighed by sum C_(j+1) e_j / L, a detection by the
derivative of log L with respect to a(z), because the derivative of e_j is e_(j-1) of the other measurements.
One pass forward and one back over the measurements gives all of them, sums of positive terms in the log
domain throughout, where leaving out one measurement after the other would square the cost.

Source: Vo, Vo, Cantoni, "Analytic implementations of the cardinalized probability hypothesis density filter"
(TSP 2007), sections III-IV; L and the sum of C_(j+1) e_j are its inner products of p with Upsilon^0 and
Upsilon^1, for Poisson clutter, whose rate cancels. Labels: `tracking.filters.phd`.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, logsumexp, xlog1py, xlogy

from tracking.compiled import compiled
from tracking.filters import phd
from tracking.filters.phd import GMPHDConfig, GMPHDDensity
from tracking.filters.seeds import plant
from tracking.filters.tracker import Models, Scan, Tracker

NEGLIGIBLE = 1e-12  # share of the largest probability from which a number of objects is considered
TIE = 1e-9  # relative difference below which two weights count as equal


@dataclass(frozen=True, kw_only=True)
class CPHDConfig(GMPHDConfig):
    """Settings of the GM-CPHD filter: those of `GMPHDConfig`, and of its cardinality distribution.

    threshold:   weight above which components may be reported; the most probable number says how many.
    max_objects: largest number of objects that the distribution can hold.
    """

    threshold: float = 0.3
    max_objects: int = 1000


@dataclass(frozen=True)
class CPHDDensity:
    """phd: the intensity; cardinality: (n + 1,) probability of 0, 1, ..., n objects."""

    phd: GMPHDDensity
    cardinality: np.ndarray


class CPHD(Tracker):
    """Online GM-CPHD tracker."""

    Config = CPHDConfig

    def start(self, time):
        density = GMPHDDensity.start(self.models, time)
        return CPHDDensity(density, born(np.ones(1), density.mass, self.config.max_objects))

    def predict(self, density, time, dt):
        return predict(density, self.models, self.config, time, dt)

    def update(self, density, scan):
        return update(density, scan, self.models, self.config)

    def extract(self, density, time):
        return phd.extract(density.phd, time)


def predict(density: CPHDDensity, models: Models, config: CPHDConfig, time: float, dt: float) -> CPHDDensity:
    """Survive, move, be born; births are Poisson."""
    old = density.phd
    alive, births = phd.survived(old, models, dt), phd.births(old, models, time, dt)
    share = min(alive.mass / old.mass, 1.0) if old.mass > 0 else 0.0
    cardinality = born(thinned(density.cardinality, share), births.mass, config.max_objects)
    return CPHDDensity(alive.add(births), cardinality)


def update(density: CPHDDensity, scan: Scan, models: Models, config: CPHDConfig) -> CPHDDensity:
    """Bayes' rule for one scan, reduction, and labels."""
    found = phd.detections(density.phd, scan, models, config)
    mass, undetected = density.phd.mass, found.missed + float((1 - found.out.p_detect) @ found.out.local.r)
    cardinality, factor, missed_factor = scanned(density.cardinality, found.total, mass, undetected)
    after = phd.posterior(density.phd, found, factor, missed_factor)
    merged = phd.merge(after, config)
    copies = heaviest(merged.parts.r, int(np.argmax(cardinality)), config.threshold)
    seeds = plant(scan, np.minimum(found.total * factor, 1.0), models, density.phd.seeds)
    return CPHDDensity(phd.named(after, merged, copies, seeds), cardinality)


def heaviest(w: np.ndarray, number: int, threshold: float) -> np.ndarray:
    """How many of `number` objects to report of each component (k,), the heaviest first.

    A component stands for as many objects as its rounded weight says, and for one if it weighs more than
    `threshold`; below, nothing is reported, as the number also counts objects that have not been located.
    Where the number would cut through components of equal weight, none of them is reported: nothing but the
    order of the measurements would tell them apart.
    """
    units = np.maximum(np.rint(w), w > threshold).astype(np.int64)
    parent = np.repeat(np.arange(len(w)), units)
    first = np.cumsum(units) - units
    left = w[parent] - (np.arange(len(parent)) - first[parent])
    order = np.argsort(-left, kind="stable")
    least = left[order[number]] if number < len(order) else 0.0
    chosen = order[:number][left[order[:number]] > (1 + TIE) * least]
    return np.bincount(parent[chosen], minlength=len(w))


def thinned(p: np.ndarray, share: float) -> np.ndarray:
    """Distribution of the number of survivors when each object survives with probability `share`."""
    n = np.arange(len(p))
    k = n[:, None]
    dead = np.maximum(n - k, 0)
    choose = gammaln(n + 1) - gammaln(k + 1) - gammaln(dead + 1)
    return np.where(k <= n, np.exp(choose + xlogy(k, share) + xlog1py(dead, -share)), 0.0) @ p


def born(p: np.ndarray, mean: float, max_objects: int) -> np.ndarray:
    """Distribution of the number with a Poisson number of births, cut off where nothing is left of it."""
    mean = min(mean, float(max_objects))
    k = np.arange(min(int(mean + 10 * np.sqrt(mean) + 20), max_objects + 1))
    log_births = xlogy(k, mean) - gammaln(k + 1)
    p = np.convolve(p, np.exp(log_births - log_births.max()))[: max_objects + 1]
    p = p[: np.flatnonzero(p >= NEGLIGIBLE * p.max())[-1] + 1]
    return p / p.sum()


def scanned(p: np.ndarray, a: np.ndarray, mass: float, undetected: float):
    """What a scan says of the number of objects.

    Args:
        p:          (n + 1,) its distribution.
        a:          (m,) intensity of detections at the measurements over that of clutter.
        mass:       N, integral of the intensity.
        undetected: q N, integral of the intensity of the objects that are missed.
    Returns:
        The distribution (n + 1,) after the scan, the factor (m,) on the detections of each measurement, and
        the factor on missed components.
    """
    factor = np.zeros(len(a))
    seen = np.flatnonzero(a > 0)
    if mass <= 0 or len(p) == 1:
        return p, factor, 0.0
    n = np.arange(len(p))
    j = np.arange(min(len(seen), len(p) - 1) + 2)[:, None]  # one more than there are e_j
    left = np.maximum(n - j, 0)
    with np.errstate(divide="ignore"):
        log_p = np.log(p)
    terms = gammaln(n + 1) - gammaln(left + 1) + xlogy(left, undetected / mass) - j * np.log(mass)
    terms = np.where(j <= n, terms + log_p, -np.inf)  # (j, n)
    log_c = logsumexp(terms, axis=1)
    log_e, slope = symmetric(np.log(a[seen]), log_c[:-1])
    log_l = logsumexp(log_c[:-1] + log_e)
    factor[seen] = np.exp(slope - log_l)
    after = np.exp(logsumexp(terms[:-1] + log_e[:, None], axis=0) - log_l)
    return after / after.sum(), factor, float(np.exp(logsumexp(log_c[1:] + log_e) - log_l))


@compiled
def symmetric(log_a, log_c):
    """Elementary symmetric functions, and the derivatives of sum_j C_j e_j(a), in the log domain.

    Args:
        log_a: (m,) log of the arguments.
        log_c: (k + 1,) log C_0 ... log C_k.
    Returns:
        log e_0 ... log e_k (k + 1,), and the log derivatives (m,) with respect to the arguments.
    """
    m, k = len(log_a), len(log_c) - 1
    e = np.full((m + 1, k + 1), -np.inf)  # row i: of the first i arguments
    e[:, 0] = 0.0
    for i in range(m):
        for j in range(1, min(i + 1, k) + 1):
            e[i + 1, j] = _log_sum(e[i, j], log_a[i] + e[i, j - 1])
    slope = np.empty(m)
    c = log_c.copy()  # with respect to e[i + 1], of all the later arguments
    for i in range(m - 1, -1, -1):
        slope[i] = -np.inf
        for j in range(1, min(i + 1, k) + 1):
            slope[i] = _log_sum(slope[i], c[j] + e[i, j - 1])
        for j in range(k):
            c[j] = _log_sum(c[j], log_a[i] + c[j + 1])
    return e[m], slope


@compiled
def _log_sum(x, y):
    """log(exp x + exp y)."""
    high, low = max(x, y), min(x, y)
    return high if low == -np.inf else high + np.log1p(np.exp(low - high))
