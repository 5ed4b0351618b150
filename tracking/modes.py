"""Densities under several motion models: one Gaussian and one probability for each model of an `IMM`.

    predict     mix the Gaussians as objects switch, then move each under its own model
    weigh       gate a scan against all of them, and weigh each pair over the models
    detected    each Gaussian updated by the measurement, and the models weighed anew by what they foresaw

Filters go on with one Gaussian per density, that of the moments of all models (`combined`); what is here
stands beside it as `modes`, and is None where the motion is a single model. The gate is the union of the
models' own, so that the first measurement of a manoeuvre is not lost.

Source: Blom, Bar-Shalom (TAC 1988), as in Bar-Shalom, Li, Kirubarajan, "Estimation with Applications to
Tracking and Navigation" (2001), section 11.6.6.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tracking.association.gating import Pairs, gate
from tracking.gaussian import Innovation, Linearisation, log_normal
from tracking.mixtures import combine, merge, mix
from tracking.models.imm import IMM


@dataclass(frozen=True)
class Modes:
    """Densities of n objects under k motion models.

    p: (n, k) probability of each model; m: (n, k, d) means and P: (n, k, d, d) covariances under it.
    """

    p: np.ndarray
    m: np.ndarray
    P: np.ndarray

    def __len__(self) -> int:
        return len(self.p)

    def take(self, rows) -> "Modes":
        """Some of them, in the order of `rows`."""
        return Modes(self.p[rows], self.m[rows], self.P[rows])

    def put(self, rows, others: "Modes") -> "Modes":
        """These with some rows in place of their own."""
        p, m, P = self.p.copy(), self.m.copy(), self.P.copy()
        p[rows], m[rows], P[rows] = others.p, others.m, others.P
        return Modes(p, m, P)


def count(motion) -> int | None:
    """How many models a motion has, None of a single one that is no `IMM`."""
    return len(motion) if isinstance(motion, IMM) else None


def started(m: np.ndarray, P: np.ndarray, motion) -> Modes | None:
    """Objects that appear with moments (n, d), (n, d, d), whatever their model; None of a single model."""
    if not isinstance(motion, IMM):
        return None
    n, k, d = len(m), len(motion), m.shape[1]
    p = np.broadcast_to(np.asarray(motion.initial), (n, k)).copy()
    return Modes(
        p, np.broadcast_to(m[:, None], (n, k, d)).copy(), np.broadcast_to(P[:, None], (n, k, d, d)).copy()
    )


def taken(modes: Modes | None, rows) -> Modes | None:
    """`take`, of what may be None."""
    return None if modes is None else modes.take(rows)


def together(*parts: Modes | None) -> Modes | None:
    """Densities one after another; None of a single model."""
    some = [part for part in parts if part is not None]
    if not some:
        return None
    return Modes(*(np.concatenate([getattr(part, name) for part in some]) for name in ("p", "m", "P")))


def probabilities(modes: Modes | None) -> np.ndarray | None:
    """Probability (n, k) of each model, None of a single one."""
    return None if modes is None else modes.p.copy()


def combined(modes: Modes) -> tuple[np.ndarray, np.ndarray]:
    """Moments (n, d), (n, d, d) over the models."""
    return combine(modes.p, modes.m, modes.P)


def mixed(modes: Modes, chain: np.ndarray) -> Modes:
    """What objects are under each model now that they may have switched."""
    return Modes(*mix(modes.p, modes.m, modes.P, np.ascontiguousarray(chain)))


def predict(modes: Modes, motion: IMM, linearisation: Linearisation, dt: float) -> Modes:
    """Densities after `dt` seconds."""
    for part in motion.parts(dt):
        modes = moved(mixed(modes, motion.chain(part)), motion, linearisation, part)
    return modes


def moved(modes: Modes, motion: IMM, linearisation: Linearisation, dt: float) -> Modes:
    """Densities after `dt` seconds in which no object switches."""
    each = [
        linearisation.predict(modes.m[:, j].copy(), modes.P[:, j].copy(), model, dt)
        for j, model in enumerate(motion.models)
    ]
    return Modes(modes.p, np.stack([m for m, _ in each], 1), np.stack([P for _, P in each], 1))


class Weighed(NamedTuple):
    """What a scan says of densities under several models.

    innovation:     of the n k Gaussians, models of an object one after another.
    pairs:          of objects and measurements; `nu` is (e, k, d_z), `d2` that of the nearest model.
    log_likelihood: (e,) of the pairs, over the models.
    p:              (e, k) probability of each model after the detection.
    """

    innovation: Innovation
    pairs: Pairs
    log_likelihood: np.ndarray
    p: np.ndarray


def weigh(modes: Modes, z: np.ndarray, sensor, linearisation, threshold: float, most: int | None) -> Weighed:
    """Pairs that lie in the gate of some model, and how likely each is.

    Args:
        z:         (m, d_z) measurements.
        threshold: squared Mahalanobis distance of the gates.
        most:      measurements in the gate of a model that are considered, the nearest; None: all.
    """
    n, k = modes.p.shape
    innovation = _innovated(modes, sensor, linearisation)
    found = gate(innovation, z, threshold, sensor.angles, most)
    m = max(len(z), 1)
    key = np.unique(found.row // k * m + found.col)
    row, col = key // m, key % m
    nu = sensor.residual(z[col][:, None], innovation.z_hat.reshape(n, k, sensor.dim_z)[row])
    log_each, d2 = _log_each(modes, innovation, nu, row)
    log_likelihood, p = _normalised(log_each)
    pairs = Pairs(
        np.searchsorted(row, np.arange(n + 1)), row, col, d2.min(axis=1, initial=np.inf), nu, len(z)
    )
    return Weighed(innovation, pairs, log_likelihood, p)


def detected(modes: Modes, weighed: Weighed, e: np.ndarray) -> Modes:
    """Densities (l) after the detections of pairs e (l,)."""
    return _corrected(modes, weighed.innovation, weighed.pairs.row[e], weighed.pairs.nu[e], weighed.p[e])


def update(modes: Modes, z: np.ndarray, sensor, linearisation) -> Modes:
    """Densities (n) after each was detected by its own measurement z (n, d_z)."""
    n, k = modes.p.shape
    innovation, rows = _innovated(modes, sensor, linearisation), np.arange(n)
    nu = sensor.residual(z[:, None], innovation.z_hat.reshape(n, k, sensor.dim_z))
    _, p = _normalised(_log_each(modes, innovation, nu, rows)[0])
    return _corrected(modes, innovation, rows, nu, p)


def merged(w: np.ndarray, group: np.ndarray, n: int, modes: Modes | None) -> Modes | None:
    """Mixtures as one density each, by their moments under every model.

    Args:
        w:     (l,) weights, of any sum.
        group: (l,) the mixture that each density belongs to, -1: none.
        n:     number of mixtures.
    """
    if modes is None:
        return None
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(n + 1))
    return Modes(*merge(np.asarray(w, float), order, starts, modes.p, modes.m, modes.P))


def _innovated(modes, sensor, linearisation):
    n, k, d = modes.m.shape
    return linearisation.innovate(modes.m.reshape(n * k, d), modes.P.reshape(n * k, d, d), sensor)


def _log_each(modes, innovation, nu, row):
    """Log of probability and likelihood of each model (e, k), and squared distances (e, k)."""
    n, k = modes.p.shape
    d_z = nu.shape[-1]
    d2 = np.einsum("eki,ekij,ekj->ek", nu, innovation.S_inv.reshape(n, k, d_z, d_z)[row], nu)
    with np.errstate(divide="ignore"):
        log_p = np.log(modes.p[row])
    return log_p + log_normal(d2, innovation.log_det.reshape(n, k)[row], d_z), d2


def _normalised(log_each):
    """Log of the sum over the models (e,), and the share of each (e, k)."""
    top = log_each.max(axis=1, initial=-np.inf, keepdims=True)
    each = np.exp(log_each - top)
    total = each.sum(axis=1, keepdims=True)
    return (top + np.log(total))[:, 0], each / total


def _corrected(modes, innovation, row, nu, p):
    n, k, d = modes.m.shape
    gain = innovation.gain.reshape(n, k, d, nu.shape[-1])[row]
    m = modes.m[row] + np.einsum("ekij,ekj->eki", gain, nu)
    return Modes(p, m, innovation.P_post.reshape(n, k, d, d)[row])
