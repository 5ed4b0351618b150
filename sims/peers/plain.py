"""The plain GNN: what a practitioner writes in NumPy and SciPy in an afternoon, with thresholds tuned.

A batched Kalman filter, a gate, `linear_sum_assignment`, confirmation by so many hits in so many scans,
deletion after a run of misses. Of `tracking` it uses the result type and the matrices of the models alone, so
that times and errors of the toolkit's trackers can be read as multiples of it.
"""

from dataclasses import dataclass

import numpy as np

from sims.peers.assignment import assign, gated
from sims.scenarios import Scenario
from tracking.models import ConstantVelocity, PositionSensor, UniformBirth
from tracking.tracks import Tracks

LONGEST = 63  # scans that the history of a track holds


@dataclass(frozen=True, kw_only=True)
class PlainSettings:
    """Thresholds of the plain GNN.

    gate:          squared Mahalanobis distance beyond which a measurement is not associated.
    hits, window:  a track is confirmed by so many hits in so many scans, dropped when it cannot be any more.
    misses:        a confirmed track is dropped after so many misses in a row ...
    silent:        ... and no longer reported from so many on.
    """

    gate: float = 12.0
    hits: int = 3
    window: int = 4
    misses: int = 4
    silent: int = 3

    def __post_init__(self):
        if not 1 <= self.hits <= self.window <= LONGEST:
            raise ValueError(
                f"hits and window must be 1 <= hits <= window <= {LONGEST}, got {self.hits}, {self.window}"
            )
        if not 1 <= self.silent <= self.misses <= LONGEST:
            raise ValueError(
                f"silent and misses must be 1 <= silent <= misses <= {LONGEST}, "
                f"got {self.silent}, {self.misses}"
            )
        if not self.gate > 0:
            raise ValueError(f"gate must be positive, got {self.gate}")


class PlainGNN:
    """Online tracker of points in the plane, of constant velocity, seen by a position sensor.

    Args:
        scenario: the problem, one of those with births anywhere in a box.
        settings: fields of `PlainSettings`.
    Raises:
        ValueError: the scenario has other models.
    """

    def __init__(self, scenario: Scenario, **settings):
        check_models(scenario)
        self.settings = PlainSettings(**settings)
        self.motion, self.field = scenario.motion, scenario.survival
        self.R, self.start_cov = first_covariance(scenario)
        self.time: float | None = None
        self.next_label = 0
        none = np.zeros(0, np.int64)
        self.x, self.P = np.zeros((0, 4)), np.zeros((0, 4, 4))
        # A scan is one bit of a track's history, the newest the lowest; 1: it was hit.
        self.label, self.history, self.age, self.confirmed = none, none, none, np.zeros(0, bool)

    def step(self, z: np.ndarray, time: float) -> Tracks:
        """Tracks after the measurements z (m, 2) of a time, s."""
        if self.time is not None:
            self.x, self.P = predict(self.x, self.P, self.motion, time - self.time)
        self.time = time
        taken = self._associate(z)
        i = np.flatnonzero(taken >= 0)
        self.x[i], self.P[i] = update(self.x[i], self.P[i], z[taken[i]], self.R)
        self.history = (self.history << 1 | (taken >= 0)) & (2**LONGEST - 1)
        self.age = self.age + 1
        free = np.ones(len(z), bool)
        free[taken[i]] = False
        taken = taken[self._drop()]
        return self._report(time, np.concatenate((taken, self._start(z, np.flatnonzero(free)))))

    def _associate(self, z):
        """Row of z that each track takes, -1: none. Confirmed tracks choose before the others."""
        n, m, gate = len(self.x), len(z), self.settings.gate
        S = self.P[:, :2, :2] + self.R
        det = S[:, 0, 0] * S[:, 1, 1] - S[:, 0, 1] ** 2
        row, col, d2 = gated(self.x[:, :2], S, det, z, gate)
        # A wide track is near to everything; log det is what its likelihood loses by being wide.
        log_det = np.log(det)
        gain = gate - d2 + (log_det.max(initial=0.0) - log_det)[row]
        first = self.confirmed[row]
        taken = assign(row[first], col[first], gain[first], n, m)
        used = np.zeros(m + 1, bool)
        used[taken] = True  # the last entry is that of -1
        rest = ~first & ~used[col]
        return np.maximum(taken, assign(row[rest], col[rest], gain[rest], n, m))

    def _drop(self):
        """Confirm and drop tracks by their histories; returns the rows that are kept."""
        s = self.settings
        recent = np.bitwise_count(self.history & (2**s.window - 1))
        self.confirmed = self.confirmed | (recent >= s.hits)
        lost = (self.history & (2**s.misses - 1)) == 0
        # Before its first scans are over, those to come count as hits.
        hopeless = recent + np.maximum(s.window - self.age, 0) < s.hits
        keep = ~np.where(self.confirmed, lost, hopeless)
        keep &= ((self.x[:, :2] >= self.field.lower) & (self.x[:, :2] <= self.field.upper)).all(axis=1)
        self.x, self.P, self.label = self.x[keep], self.P[keep], self.label[keep]
        self.history, self.age, self.confirmed = self.history[keep], self.age[keep], self.confirmed[keep]
        return np.flatnonzero(keep)

    def _start(self, z, free):
        """Start a track at each of some rows of z; returns the rows."""
        k = len(free)
        one = np.ones(k, np.int64)
        self.x = np.concatenate((self.x, np.pad(z[free], ((0, 0), (0, 2)))))
        self.P = np.concatenate((self.P, np.tile(self.start_cov, (k, 1, 1))))
        self.label = np.concatenate((self.label, self.next_label + np.arange(k)))
        self.history, self.age = np.concatenate((self.history, one)), np.concatenate((self.age, one))
        self.confirmed = np.concatenate((self.confirmed, np.full(k, self.settings.hits == 1)))
        self.next_label += k
        return free

    def _report(self, time, source):
        told = np.flatnonzero(self.confirmed & ((self.history & (2**self.settings.silent - 1)) != 0))
        return Tracks(time, self.label[told], self.x[told], self.P[told], np.ones(len(told)), source[told])


def predict(x, P, motion, dt):
    """Kalman prediction of states (n, 4) and covariances (n, 4, 4) by dt, s."""
    F = np.eye(4)
    F[0, 2] = F[1, 3] = dt
    return x @ F.T, F @ P @ F.T + motion.noise(x, dt)


def update(x, P, z, R):
    """Kalman update of n states by positions z (n, 2) of covariance R (2, 2)."""
    S = P[:, :2, :2] + R
    det = S[:, 0, 0] * S[:, 1, 1] - S[:, 0, 1] ** 2
    S_inv = np.empty_like(S)
    S_inv[:, 0, 0], S_inv[:, 1, 1] = S[:, 1, 1] / det, S[:, 0, 0] / det
    S_inv[:, 0, 1] = S_inv[:, 1, 0] = -S[:, 0, 1] / det
    K = P[:, :, :2] @ S_inv
    x = x + (K @ (z - x[:, :2])[:, :, None])[:, :, 0]
    P = P - K @ P[:, :2]
    return x, (P + P.swapaxes(1, 2)) / 2


def first_covariance(scenario: Scenario):
    """Measurement noise (2, 2), and the covariance (4, 4) of a track after its first measurement."""
    R = np.asarray(scenario.sensor.noise(np.zeros((1, 4))), float).reshape(2, 2)
    P = np.diag(np.broadcast_to(np.square(np.asarray(scenario.birth.rest_std, float)), 4).copy())
    P[:2, :2] = R
    return R, P


def check_models(scenario: Scenario) -> None:
    """Raise ValueError unless the scenario has the models that this tracker is written for."""
    motion, sensor, birth = scenario.motion, scenario.sensor, scenario.birth
    if not (
        isinstance(motion, ConstantVelocity)
        and motion.dims == 2
        and isinstance(sensor, PositionSensor)
        and isinstance(birth, UniformBirth)
        and scenario.survival.bounded
        and not callable(scenario.survival.probability)
    ):
        raise ValueError(
            f"this tracker is for constant velocity in the plane, a position sensor and births anywhere in a "
            f"box, got {scenario.name}. Choose one of: small, dense, large, huge, mega."
        )
