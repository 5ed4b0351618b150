"""Local hypotheses: the Gaussians that tracks may follow, and what a scan can make of each.

A local hypothesis is a Bernoulli density (r, m, P). In a scan it is missed, or detected by one of the
measurements in its gate; the Gaussians after a detection share one covariance and are computed only for the
outcomes that survive.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tracking.association.gating import Pairs, gate
from tracking.filters.tracker import Models, Scan
from tracking.gaussian import Innovation, Linearisation, log_likelihood


@dataclass(frozen=True)
class Locals:
    """Local hypotheses of all tracks, one row each.

    r: (l,) existence probability; m: (l, d); P: (l, d, d);
    source: (l,) measurement of the last scan that updated it, -1 if none;
    visible: (l,) probability that it can be detected at all (`Occlusion`), 1 without that model.
    """

    r: np.ndarray
    m: np.ndarray
    P: np.ndarray
    source: np.ndarray
    visible: np.ndarray

    def __len__(self) -> int:
        return len(self.r)

    @classmethod
    def empty(cls, dim: int) -> "Locals":
        """None, in a state space of `dim` entries."""
        return cls(
            np.zeros(0), np.zeros((0, dim)), np.zeros((0, dim, dim)), np.zeros(0, np.int64), np.zeros(0)
        )

    def predict(self, models: Models, dt: float) -> "Locals":
        """Survive and move for `dt` seconds."""
        m, P = models.linearisation.predict(self.m, self.P, models.motion, dt)
        occlusion = models.occlusion
        visible = self.visible if occlusion is None else occlusion.predict(self.visible, dt)
        return Locals(
            self.r * models.survival(m, P, dt, (self.m, self.P)), m, P, np.full(len(m), -1), visible
        )

    def add(self, r, m, P, source=None) -> "Locals":
        """These and some more, visible ones."""
        source = np.full(len(r), -1) if source is None else source
        mine = (self.r, self.m, self.P, self.source, self.visible)
        return Locals(*(np.concatenate(pair) for pair in zip(mine, (r, m, P, source, np.ones(len(r))))))

    def take(self, rows) -> "Locals":
        """Some of them, in the order of `rows`."""
        return Locals(self.r[rows], self.m[rows], self.P[rows], self.source[rows], self.visible[rows])


class Outcomes(NamedTuple):
    """What a scan can make of local hypotheses.

    pairs:          gated (local hypothesis, measurement) pairs.
    log_likelihood: (e,) log N(z; z_hat, S) of the pairs.
    p_detect:       (l,) detection probability, hidden or not.
    visible:        (l,) probability of being visible after a miss.
    """

    local: Locals
    innovation: Innovation
    pairs: Pairs
    log_likelihood: np.ndarray
    p_detect: np.ndarray
    visible: np.ndarray

    def detected(self, e: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means (k, d) and covariances (k, d, d) after the detections of pairs e (k,)."""
        i = self.pairs.row[e]
        moved = np.einsum("nij,nj->ni", self.innovation.gain[i], self.pairs.nu[e])
        return self.local.m[i] + moved, self.innovation.P_post[i]


def outcomes(local: Locals, scan: Scan, linearisation: Linearisation, threshold: float) -> Outcomes:
    """Gate a scan against local hypotheses; `threshold` is a squared Mahalanobis distance."""
    sensor = scan.sensor
    innovation = linearisation.innovate(local.m, local.P, sensor)
    pairs = gate(innovation, scan.z, threshold, sensor.angles)
    likelihood = log_likelihood(innovation, pairs.nu, pairs.row)
    p = sensor.detection(local.m)
    p_detect = p * local.visible
    visible = local.visible * (1 - p) / (1 - p_detect)
    return Outcomes(local, innovation, pairs, likelihood, p_detect, visible)


def after(out: Outcomes, option, existence, n_private: int, new_m, new_P) -> Locals:
    """Local hypotheses that options stand for, numbered as in `tracking.filters.hypotheses.Options`.

    Args:
        option:    (k,) options.
        existence: existence probability after every option.
        n_private: private options of each local hypothesis; all of them leave the Gaussian as it is.
        new_m:     (m, d) and new_P (m, d, d): Gaussians of the tracks that the measurements start.
    """
    n_pairs, n_new = len(out.pairs.col), len(out.pairs.col) + n_private * len(out.local)
    d = out.local.m.shape[1]
    m, P, source = np.empty((len(option), d)), np.empty((len(option), d, d)), np.full(len(option), -1)
    hit, new = np.flatnonzero(option < n_pairs), np.flatnonzero(option >= n_new)
    kept = np.flatnonzero((option >= n_pairs) & (option < n_new))
    m[hit], P[hit] = out.detected(option[hit])
    source[hit] = out.pairs.col[option[hit]]
    unchanged = (option[kept] - n_pairs) // n_private
    m[kept], P[kept] = out.local.m[unchanged], out.local.P[unchanged]
    visible = np.ones(len(option))
    visible[kept] = out.visible[unchanged]
    source[new] = option[new] - n_new
    m[new], P[new] = new_m[source[new]], new_P[source[new]]
    return Locals(existence[option], m, P, source, visible)
