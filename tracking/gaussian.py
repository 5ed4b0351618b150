"""Batched Gaussian filtering: Kalman, extended, unscented and cubature predict and innovate.

The linearisations are small interchangeable objects with the same two methods:

    m, P = EKF().predict(m, P, motion, dt)      # (n, d), (n, d, d)
    innovation = UKF().innovate(m, P, sensor)   # predicted measurement, its covariance, gain, posterior P
    m_post = m + innovation.gain @ residual     # one covariance serves every measurement of the scan

With linear models EKF is the Kalman filter. Covariances stay symmetric, and updates use the Joseph form.

Sources: Bar-Shalom et al. (2001) 5.2-5.3 and 10.3 (KF, EKF); Julier, Uhlmann (Proc. IEEE 2004) eq. 12-15
(UKF); Arasaratnam, Haykin (TAC 2009) eq. 32-48 (CKF).
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from tracking.checks import as_output, require_finite, require_positive
from tracking.kalman import gains, propagate, transform

LOG_2PI = float(np.log(2 * np.pi))


class Innovation(NamedTuple):
    """What a scan needs to know of n predicted Gaussians, whatever the measurements are.

    z_hat (n, d_z) predicted measurement; S (n, d_z, d_z) its covariance; S_inv its inverse;
    log_det (n,) log det S; gain (n, d, d_z); P_post (n, d, d) covariance after a detection.
    """

    z_hat: np.ndarray
    S: np.ndarray
    S_inv: np.ndarray
    log_det: np.ndarray
    gain: np.ndarray
    P_post: np.ndarray


class Linearisation(Protocol):
    """How a density is pushed through a motion and a sensor model."""

    def predict(self, m, P, motion, dt) -> tuple[np.ndarray, np.ndarray]:
        """Moments (n, d), (n, d, d) after `dt` seconds."""

    def innovate(self, m, P, sensor) -> Innovation:
        """Predicted measurements of densities (n, d), (n, d, d)."""


@dataclass(frozen=True)
class EKF:
    """First-order linearisation at the mean; exact (the Kalman filter) for linear models."""

    def predict(self, m, P, motion, dt):
        """Moments after `dt` seconds, (n, d) and (n, d, d)."""
        F = motion.jacobian(m, dt)
        moved = transform(m, F) if motion.linear else motion.transition(m, dt)
        return _checked(moved, propagate(P, F, motion.noise(m, dt)))

    def innovate(self, m, P, sensor):
        """Predicted measurements of densities (n, d), (n, d, d)."""
        z_hat = as_output("measure", sensor.measure(m), (len(m), sensor.dim_z))
        return Innovation(z_hat, *gains(P, sensor.jacobian(m), sensor.noise(m)))


class _SigmaPoints:
    """Statistical linearisation with the points and weights of a child class."""

    def predict(self, m, P, motion, dt):
        """Moments after `dt` seconds, (n, d) and (n, d, d)."""
        if motion.linear:
            return EKF().predict(m, P, motion, dt)
        points, w_mean, w_cov = self.points(m, P)
        y = _apply(lambda x: motion.transition(x, dt), points)
        mean = np.einsum("k,nki->ni", w_mean, y)
        e = y - mean[:, None]
        return _checked(mean, symmetrise(np.einsum("k,nki,nkj->nij", w_cov, e, e) + motion.noise(m, dt)))

    def innovate(self, m, P, sensor):
        """Predicted measurements of densities (n, d), (n, d, d)."""
        if sensor.linear:
            return EKF().innovate(m, P, sensor)
        points, w_mean, w_cov = self.points(m, P)
        z = _apply(sensor.measure, points)  # (n, k, d_z)
        # Averaging residuals about the central image keeps angles right across +-pi.
        centre = z[:, :1]
        z_hat = centre[:, 0] + np.einsum("k,nki->ni", w_mean, sensor.residual(z, centre))
        e = sensor.residual(z, z_hat[:, None])
        S = symmetrise(np.einsum("k,nki,nkj->nij", w_cov, e, e) + sensor.noise(m))
        cross = np.einsum("k,nki,nkj->nij", w_cov, points - m[:, None], e)  # (n, d, d_z)
        S, S_inv, log_det, gain = _gain(S, cross)
        P_post = symmetrise(P - gain @ S @ gain.swapaxes(-1, -2))
        return Innovation(z_hat, S, S_inv, log_det, gain, P_post)


@dataclass(frozen=True)
class UKF(_SigmaPoints):
    """Unscented transform with 2 d + 1 points; alpha, beta, kappa as in Julier and Uhlmann."""

    alpha: float = 1.0
    beta: float = 2.0
    kappa: float = 2.0

    def __post_init__(self):
        require_positive(alpha=self.alpha)

    def points(self, m, P):
        """Sigma points (n, 2 d + 1, d) with weights of mean and covariance (2 d + 1,)."""
        d = m.shape[-1]
        scale = self.alpha**2 * (d + self.kappa)
        if not scale > 0:
            raise ValueError(f"kappa must be above -{d} for a state of {d} entries, got {self.kappa}")
        w_mean = np.full(2 * d + 1, 0.5 / scale)
        w_mean[0] = 1 - d / scale
        w_cov = w_mean.copy()
        w_cov[0] += 1 - self.alpha**2 + self.beta
        offsets = np.sqrt(scale) * cholesky(P).swapaxes(-1, -2)  # rows are directions
        return np.concatenate((m[:, None], m[:, None] + offsets, m[:, None] - offsets), axis=1), w_mean, w_cov


@dataclass(frozen=True)
class CKF(_SigmaPoints):
    """Third-degree spherical-radial cubature with 2 d equally weighted points."""

    def points(self, m, P):
        """Cubature points (n, 2 d, d) with equal weights (2 d,)."""
        d = m.shape[-1]
        offsets = np.sqrt(d) * cholesky(P).swapaxes(-1, -2)
        weights = np.full(2 * d, 0.5 / d)
        return np.concatenate((m[:, None] + offsets, m[:, None] - offsets), axis=1), weights, weights


def log_likelihood(innovation: Innovation, nu: np.ndarray, index=slice(None)) -> np.ndarray:
    """log N(z; z_hat, S) of residuals nu (n, d_z) = z - z_hat for the Gaussians `index`."""
    return log_normal(mahalanobis2(innovation, nu, index), innovation.log_det[index], nu.shape[-1])


def log_normal(d2: np.ndarray, log_det: np.ndarray, d_z: int) -> np.ndarray:
    """log density of a Gaussian in `d_z` dimensions at squared Mahalanobis distances d2 (n,)."""
    return -0.5 * (d2 + log_det + d_z * LOG_2PI)


def mahalanobis2(innovation: Innovation, nu: np.ndarray, index=slice(None)) -> np.ndarray:
    """Squared Mahalanobis distances (n,) of residuals (n, d_z)."""
    return np.einsum("ni,nij,nj->n", nu, innovation.S_inv[index], nu)


def moment_match(w, m, P) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and covariance (d, d) of a Gaussian mixture; weights (n,) need not sum to one."""
    w = np.asarray(w) / np.sum(w)
    mean = w @ m
    e = m - mean
    return mean, symmetrise(np.einsum("n,nij->ij", w, P) + np.einsum("n,ni,nj->ij", w, e, e))


def symmetrise(P: np.ndarray) -> np.ndarray:
    """(P + P^T) / 2 of a stack of matrices."""
    return 0.5 * (P + P.swapaxes(-1, -2))


def cholesky(P: np.ndarray) -> np.ndarray:
    """Lower Cholesky factors; a factor of a matrix that rounding made singular is that of P + eps I."""
    try:
        return np.linalg.cholesky(P)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(symmetrise(P))
        floor = 1e-12 * np.maximum(values[..., -1:], 1.0)
        return np.linalg.cholesky(
            symmetrise((vectors * np.maximum(values, floor)[..., None, :]) @ vectors.swapaxes(-1, -2))
        )


def _checked(m, P):
    """Predicted moments; a density that is not finite would spoil all others without a word."""
    require_finite(predicted_mean=m, predicted_covariance=P)
    return m, P


def _gain(S, cross):
    """S, S^-1, log det S and the Kalman gain cross S^-1."""
    require_finite(measurement_covariance=S)
    try:
        L = np.linalg.cholesky(S)
    except np.linalg.LinAlgError:
        raise ValueError(
            "the covariance of a predicted measurement must be positive definite: "
            "is the measurement noise a covariance, and are the weights of the sigma points positive?"
        ) from None
    L_inv = np.linalg.inv(L)  # triangular and small: as stable as a solve, and reused for every measurement
    S_inv = L_inv.swapaxes(-1, -2) @ L_inv
    log_det = 2 * np.log(np.diagonal(L, axis1=-2, axis2=-1)).sum(-1)
    return S, S_inv, log_det, cross @ S_inv


def _apply(function, points):
    """A batched function of states (n, d), applied to points (n, k, d)."""
    n, k, d = points.shape
    values = np.asarray(function(points.reshape(n * k, d)), float)
    if values.ndim != 2 or len(values) != n * k:
        raise ValueError(f"a function of {n * k} states must return as many rows, got shape {values.shape}")
    return values.reshape(n, k, values.shape[-1])
