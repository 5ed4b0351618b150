"""Linear models given as matrices: F and Q of one step of fixed length, H and R of a sensor.

The kinematic models of `tracking.models.motion` know their matrices at any step length. Here the matrices are
all that is known, as of a filter tuned elsewhere; a step is then a whole number of theirs.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tracking.checks import require_finite, require_positive, require_semidefinite
from tracking.models.sensor import _at_rest, _Shared

OFF_STEP = 0.1  # of a step, that a time may be off
MAX_STEPS = 1_000_000  # in one


def whole_steps(dt: float, step: float) -> int:
    """How many steps of a fixed length a time is, s.

    Raises:
        ValueError: no whole number of them, or too many.
    """
    k = round(dt / step)
    if abs(dt / step - k) > OFF_STEP or k > MAX_STEPS:
        raise ValueError(
            f"scans must be a whole number of steps of {step:g} s apart, at most {MAX_STEPS}, got {dt:g} s: "
            "the model is known for this step only. Give F and Q as functions of the step for any other."
        )
    return k


@dataclass(frozen=True)
class LinearMotion:
    """x' = F x + noise of covariance Q over each step of `dt` seconds.

    Args:
        F:    (d, d) transition matrix of one step.
        Q:    (d, d) covariance of its noise.
        dt:   length of the step, s.
        dims: position coordinates at the front of the state, for models that speak of a position.
    """

    F: np.ndarray
    Q: np.ndarray
    dt: float
    dims: int = 1
    linear: ClassVar[bool] = True

    def __post_init__(self):
        F, Q = (np.array(a, float, ndmin=2) for a in (self.F, self.Q))
        if F.ndim != 2 or F.shape[0] != F.shape[1] or Q.shape != F.shape:
            raise ValueError(f"F and Q must be square and of one size, got {F.shape} and {Q.shape}")
        require_finite(F=F, Q=Q)
        require_semidefinite("Q", Q)
        require_positive(dt=self.dt)
        if not 1 <= self.dims <= len(F):
            raise ValueError(f"dims must be from 1 to {len(F)}, the entries of the state, got {self.dims}")
        object.__setattr__(self, "F", F)
        object.__setattr__(self, "Q", Q)

    @property
    def dim(self) -> int:
        return len(self.F)

    def transition(self, x: np.ndarray, dt: float) -> np.ndarray:
        """States (n, d) after `dt` seconds without noise."""
        return x @ self._moved(dt)[0].T

    def jacobian(self, x: np.ndarray, dt: float) -> np.ndarray:
        """F over `dt` seconds, (d, d)."""
        return self._moved(dt)[0]

    def noise(self, x: np.ndarray, dt: float) -> np.ndarray:
        """Q over `dt` seconds, (d, d)."""
        return self._moved(dt)[1]

    def _moved(self, dt):
        """F and Q over k steps, by halving k."""
        k, F, Q = whole_steps(dt, self.dt), self.F, self.Q
        out_F, out_Q = np.eye(len(F)), np.zeros_like(Q)
        while k:
            if k % 2:
                out_F, out_Q = F @ out_F, F @ out_Q @ F.T + Q
            k //= 2
            if k:
                F, Q = F @ F, F @ Q @ F.T + Q
        return out_F, out_Q


@dataclass(frozen=True)
class LinearSensor(_Shared):
    """z = H x + noise; keywords as of every sensor (`std` or `cov`, `p_detect`, `clutter_intensity`).

    Args:
        H: (d_z, d) measurement matrix.
    """

    H: np.ndarray

    def __post_init__(self):
        H = np.array(self.H, float, ndmin=2)
        if H.ndim != 2:
            raise ValueError(f"H must be a matrix, got shape {H.shape}")
        require_finite(H=H)
        object.__setattr__(self, "H", H)
        super().__post_init__()

    @property
    def dim_z(self) -> int:  # type: ignore[override]
        return len(self.H)

    @property
    def dims(self) -> int:
        """How many entries at the front of the state the first components of z alone determine."""
        for k in range(min(self.H.shape), 0, -1):
            block = self.H[:k, :k]
            if not self.H[:k, k:].any() and np.linalg.matrix_rank(block) == k:
                return k
        return 0

    @property
    def linear(self) -> bool:
        return not callable(self.cov)

    def measure(self, x: np.ndarray) -> np.ndarray:
        """H x of states (n, d)."""
        return x @ self.H.T

    def jacobian(self, x: np.ndarray) -> np.ndarray:
        """H, (d_z, d)."""
        return self.H

    def locate(self, z: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position (m, dims), its covariance (m, dims, dims) and log |d position / d z| (m,).

        Raises:
            ValueError: no entries at the front of the state follow from a measurement.
        """
        k = self.dims
        if k == 0:
            raise ValueError(
                "a birth that starts at a measurement needs H whose first rows determine the front of the "
                f"state, got {self.H.tolist()}. Put the position first, or use GaussianBirth."
            )
        A = np.linalg.inv(self.H[:k, :k])
        position = z[:, :k] @ A.T
        R = np.broadcast_to(self.noise(_at_rest(position, dim)), (len(z), self.dim_z, self.dim_z))[:, :k, :k]
        log_volume = np.full(len(z), np.linalg.slogdet(A)[1])
        return position, A @ R @ A.T, log_volume
