"""Local hypotheses: the Gaussians that tracks may follow, and what a scan can make of each.

A local hypothesis is a Bernoulli density (r, m, P). In a scan it is missed, or detected by one of the
measurements in its gate; the Gaussians after a detection share one covariance and are computed only for the
outcomes that survive.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from tracking.association.gating import Pairs, gate
from tracking.compiled import compiled
from tracking.filters.poisson import FirstDetections
from tracking.filters.tracker import Models, Scan
from tracking.gaussian import Innovation, Linearisation, log_normal
from tracking.kalman import correct
from tracking.modes import Modes, Weighed, combined, detected, taken, together, weigh


@dataclass(frozen=True)
class Locals:
    """Local hypotheses of all tracks, one row each.

    r: (l,) existence probability; m: (l, d); P: (l, d, d);
    source: (l,) measurement of the last scan that updated it, -1 if none;
    visible: (l,) probability that it can be detected at all (`Occlusion`), 1 without that model;
    modes: densities under each model of an `IMM`, whose moments m and P are; None with a single model.
    """

    r: np.ndarray
    m: np.ndarray
    P: np.ndarray
    source: np.ndarray
    visible: np.ndarray
    modes: Modes | None = None

    def __len__(self) -> int:
        return len(self.r)

    @classmethod
    def empty(cls, dim: int, modes: Modes | None = None) -> "Locals":
        """None, in a state space of `dim` entries; `modes` are those of none."""
        m, P = np.zeros((0, dim)), np.zeros((0, dim, dim))
        return cls(np.zeros(0), m, P, np.zeros(0, np.int64), np.zeros(0), modes)

    def predict(self, models: Models, dt: float) -> "Locals":
        """Survive and move for `dt` seconds."""
        m, P, modes = models.predict(self.m, self.P, self.modes, dt)
        occlusion = models.occlusion
        visible = self.visible if occlusion is None else occlusion.predict(self.visible, dt)
        r = self.r * models.survival(m, P, dt, (self.m, self.P))
        return Locals(r, m, P, np.full(len(m), -1), visible, modes)

    def add(self, r, m, P, source=None, modes: Modes | None = None) -> "Locals":
        """These and some more, visible ones."""
        source = np.full(len(r), -1) if source is None else source
        return self.join(Locals(r, m, P, source, np.ones(len(r)), modes))

    def join(self, other: "Locals") -> "Locals":
        """These and others."""
        mine, theirs = ((side.r, side.m, side.P, side.source, side.visible) for side in (self, other))
        r, m, P, source, visible = (np.concatenate(pair) for pair in zip(mine, theirs))
        return Locals(r, m, P, source, visible, together(self.modes, other.modes))

    def take(self, rows) -> "Locals":
        """Some of them, in the order of `rows`."""
        mine = (self.r[rows], self.m[rows], self.P[rows], self.source[rows], self.visible[rows])
        return Locals(*mine, taken(self.modes, rows))


class Outcomes(NamedTuple):
    """What a scan can make of local hypotheses.

    pairs:          gated (local hypothesis, measurement) pairs.
    log_likelihood: (e,) log N(z; z_hat, S) of the pairs.
    p_detect:       (l,) detection probability, hidden or not.
    visible:        (l,) probability of being visible after a miss.
    weighed:        pairs under each model of an `IMM`, None with a single model.
    """

    local: Locals
    innovation: Innovation
    pairs: Pairs
    log_likelihood: np.ndarray
    p_detect: np.ndarray
    visible: np.ndarray
    weighed: Weighed | None = None

    def detected(self, e: np.ndarray) -> tuple[np.ndarray, np.ndarray, Modes | None]:
        """Means (k, d), covariances (k, d, d) and modes after the detections of pairs e (k,)."""
        if self.weighed is not None and self.local.modes is not None:
            modes = detected(self.local.modes, self.weighed, e)
            return *combined(modes), modes
        i = self.pairs.row[e]
        return corrected(self.local.m, self.innovation.gain, self.pairs, e), self.innovation.P_post[i], None


def outcomes(
    local: Locals, scan: Scan, linearisation: Linearisation, threshold: float, max_gated: int
) -> Outcomes:
    """Gate a scan against local hypotheses.

    Args:
        threshold: squared Mahalanobis distance of the gate.
        max_gated: measurements in a gate that are considered, the nearest. No gate that tells objects apart
                   holds a hundred; where clutter is so dense that one does, this keeps memory and time in
                   proportion to the number of tracks.
    """
    sensor = scan.sensor
    weighed = None
    if local.modes is None:
        innovation = linearisation.innovate(local.m, local.P, sensor)
        pairs = gate(innovation, scan.z, threshold, sensor.angles, max_gated)
        log_likelihood = log_normal(pairs.d2, innovation.log_det[pairs.row], sensor.dim_z)
    else:
        weighed = weigh(local.modes, scan.z, sensor, linearisation, threshold, max_gated)
        innovation, pairs, log_likelihood, _ = weighed
    p = sensor.detection(local.m)
    p_detect = p * local.visible
    visible = local.visible * (1 - p) / (1 - p_detect)
    return Outcomes(local, innovation, pairs, log_likelihood, p_detect, visible, weighed)


@compiled
def corrected(m, gain, pairs, e):
    """Means m + K nu (k, d) after the detections of pairs e (k,)."""
    out = np.empty((len(e), m.shape[1]))
    for k in range(len(e)):
        i = pairs.row[e[k]]
        correct(out[k], m[i], gain[i], pairs.nu[e[k]])
    return out


def after(out: Outcomes, option, existence, n_private: int, new: FirstDetections) -> Locals:
    """Local hypotheses that options stand for, numbered as in `tracking.filters.hypotheses.Options`.

    Args:
        option:    (k,) options.
        existence: existence probability after every option.
        n_private: private options of each local hypothesis; all of them leave the Gaussian as it is.
        new:       tracks that the measurements start.
    """
    n_new = len(out.pairs.col) + n_private * len(out.local)
    if out.weighed is not None:
        return _after_modes(out, option, existence, n_private, n_new, new)
    arrays = _after(
        option,
        n_new,
        n_private,
        out.pairs,
        out.local.m,
        out.local.P,
        out.innovation,
        out.visible,
        new.mean,
        new.cov,
    )
    return Locals(existence[option], *arrays)


def _after_modes(out: Outcomes, option, existence, n_private, n_new, new: FirstDetections) -> Locals:
    """As `_after`, for densities under several models."""
    n_pairs = len(out.pairs.col)
    hit, begun = np.flatnonzero(option < n_pairs), np.flatnonzero(option >= n_new)
    idle = np.flatnonzero((option >= n_pairs) & (option < n_new))
    e, i, j = option[hit], (option[idle] - n_pairs) // n_private, option[begun] - n_new
    m, P, modes = out.detected(e)
    old = replace(out.local, source=np.full(len(out.local), -1), visible=out.visible).take(i)
    found = Locals(np.zeros(len(e)), m, P, out.pairs.col[e], np.ones(len(e)), modes).join(old)
    found = found.add(np.zeros(len(j)), new.mean[j], new.cov[j], j, taken(new.modes, j))
    return replace(found.take(np.argsort(np.concatenate((hit, idle, begun)))), r=existence[option])


@compiled
def _after(option, n_new, n_private, pairs, m, P, innovation, visible, new_m, new_P):
    n, d = len(option), m.shape[1]
    out_m, out_P = np.empty((n, d)), np.empty((n, d, d))
    source, out_visible = np.full(n, -1), np.ones(n)
    n_pairs = len(pairs.col)
    for k in range(n):
        o = option[k]
        if o < n_pairs:
            i = pairs.row[o]
            correct(out_m[k], m[i], innovation.gain[i], pairs.nu[o])
            out_P[k], source[k] = innovation.P_post[i], pairs.col[o]
        elif o < n_new:
            i = (o - n_pairs) // n_private
            out_m[k], out_P[k], out_visible[k] = m[i], P[i], visible[i]
        else:
            j = o - n_new
            out_m[k], out_P[k], source[k] = new_m[j], new_P[j], j
    return out_m, out_P, source, out_visible
