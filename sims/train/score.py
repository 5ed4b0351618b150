"""Scores of MT3 models on windows: GOSPA, calibration, and the choice of threshold and radius."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment, minimize
from scipy.special import expit

from tracking.metrics import gospa
from tracking.mt3.batch import found_in
from tracking.mt3.model import SURE as CERTAIN
from tracking.mt3.model import Model, as_arrays
from tracking.mt3.network import MT3Network
from tracking.mt3.objects import Objects
from tracking.mt3.windows import Windows

THRESHOLDS = np.arange(0.2, 0.91, 0.05)
RADII = {2: (0.6, 1.0, 1.4), 4: (1.0, 1.5, 2.5, 4.0)}  # m, by entries of the state that are compared
SURE = 0.99  # existence probabilities of the likelihood are at most this, as in arXiv 2202.07909
RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # of missed objects, tried
LEAST_GAIN = 0.05  # of a calibration
SIGMAS = 3.0
HIT = 2.0  # m, within which an object counts as the one that was meant


class Metric(NamedTuple):
    """GOSPA with alpha = 2: cut-off c, order p, entries of the state that are compared."""

    c: float
    p: float
    dims: int


def errors(found: list[Objects], truth: list[np.ndarray], metric: Metric, threshold: float) -> np.ndarray:
    """GOSPA and its localisation, missed and false parts (b, 4)."""
    rows = []
    for objects, x in zip(found, truth, strict=True):
        y = objects.above(threshold).mean
        g = gospa(x[:, : metric.dims], y[:, : metric.dims], c=metric.c, p=metric.p)
        rows.append((g.total, g.localisation, g.missed, g.false))
    return np.array(rows)


def choose(model: Model, windows: Windows, metric: Metric) -> tuple[Model, float]:
    """The model with the threshold and radius of least mean GOSPA, and that GOSPA.

    Queries of the paper's network stand for one object each, so that nothing of theirs is merged.
    """
    truth, best = as_arrays(windows), (np.inf, 0.5, 1.0)
    for radius in (0.0,) if isinstance(model.network, MT3Network) else RADII[metric.dims]:
        found = found_in(model.with_reading(radius=radius), windows)
        for threshold in THRESHOLDS:
            value = errors(found, truth, metric, threshold)[:, 0].mean()
            best = min(best, (float(value), float(threshold), radius))
    return model.with_reading(threshold=best[1], radius=best[2]), best[0]


def nll(found: list[Objects], truth: list[np.ndarray], dims: int, rate: float, volume: float) -> float:
    """Mean negative log likelihood of the true sets under what was found, by the best assignment.

    What was found is taken as a Poisson multi-Bernoulli density: an object a Bernoulli with its Gaussian, and
    beside them missed objects, Poisson and uniform.

    Args:
        found: objects of each window, all of them.
        truth: true states (k, d) of each window.
        dims:  entries of the state that count.
        rate:  expected number of missed objects.
        volume: of the region they are uniform in, in units of the state.
    Source: Pinto, Xia, Svensson, Wymeersch, "An uncertainty-aware performance measure for multi-object
    tracking" (IEEE Signal Processing Letters 2021).
    """
    total = 0.0
    for objects, x in zip(found, truth, strict=True):
        r = np.clip(objects.existence, 1e-6, SURE)
        total += rate - np.log1p(-r).sum()
        cost = np.full((len(x), len(r) + len(x)), -np.log(rate / volume))
        for k in range(len(r)):
            e = x[:, :dims] - objects.mean[k, :dims]
            P = objects.cov[k, :dims, :dims]
            d2 = np.einsum("ni,ij,nj->n", e, np.linalg.inv(P), e)
            log_n = -0.5 * (d2 + np.linalg.slogdet(2 * np.pi * P)[1])
            cost[:, k] = -log_n - np.log(r[k]) + np.log1p(-r[k])
        total += cost[linear_sum_assignment(cost)].sum()
    return float(total / len(found))


def hits(found: list[Objects], truth: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Existence probabilities of all objects of all windows, and which of the objects there are.

    An object is there when it is assigned to a true one within HIT m, or within SIGMAS of the standard
    deviations that are said of its position: a radar does not know to a few metres where something far away
    is, but it may know that it is there. The assignment favours the likelier object.
    """
    said: list[float] = []
    true: list[bool] = []
    for objects, x in zip(found, truth, strict=True):
        free = np.ones(len(x), bool)
        for k in np.argsort(-objects.existence):
            off = x[:, :2] - objects.mean[k, :2]
            d2 = (off @ np.linalg.inv(objects.cov[k, :2, :2]) * off).sum(1)
            far = np.minimum(np.hypot(*off.T) / HIT, np.sqrt(d2) / SIGMAS)
            far = np.where(free, far, np.inf)
            near = len(x) > 0 and bool(far.min() < 1)
            if near:
                free[far.argmin()] = False
            said.append(objects.existence[k])
            true.append(near)
    return np.array(said), np.array(true, float)


def calibrated(model: Model, windows: Windows) -> Model:
    """The model with the calibration that makes its existence probabilities likeliest."""
    plain = model.with_reading(gain=1.0, gain_high=1.0, offset=0.0)
    gain, high, offset = beta_calibration(*hits(found_in(plain, windows), as_arrays(windows)))
    reading = replace(plain.reading, gain=gain, gain_high=high, offset=offset)
    threshold = float(reading.existence(np.array(plain.reading.threshold)))  # the same objects are reported
    return replace(model, reading=replace(reading, threshold=threshold))


def beta_calibration(p: np.ndarray, hit: np.ndarray) -> tuple[float, float, float]:
    """Gain, gain_high and offset of a `Reading` that make hits (n,) of probabilities (n,) likeliest."""
    p = np.clip(p, CERTAIN, 1 - CERTAIN)
    x = np.stack((np.log(p), -np.log1p(-p), np.ones_like(p)), 1)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = x @ w
        return float(np.mean(np.logaddexp(0, z) - hit * z)), x.T @ (expit(z) - hit) / len(p)

    # Convex; both gains stay positive, so that what is likelier stays likelier.
    bounds = [(LEAST_GAIN, None), (LEAST_GAIN, None), (None, None)]
    found = minimize(loss, np.array((1.0, 1.0, 0.0)), jac=True, bounds=bounds, method="L-BFGS-B")
    gain, high, offset = map(float, found.x)
    return gain, high, offset


def calibration(found: list[Objects], truth: list[np.ndarray], bins: int = 10) -> dict[str, float | list]:
    """Expected calibration error of the existence probabilities, by `hits`."""
    p, hit = hits(found, truth)
    bin_ = np.minimum((p * bins).astype(int), bins - 1)
    table = [
        (int((bin_ == k).sum()), float(p[bin_ == k].mean()), float(hit[bin_ == k].mean()))
        for k in range(bins)
        if (bin_ == k).any()
    ]
    ece = sum(n * abs(mean - rate) for n, mean, rate in table) / max(len(p), 1)
    return {"ece": float(ece), "expected": float(p.sum() / len(found)), "bins": table}
