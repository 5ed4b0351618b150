"""Motion models: how a state moves over a step of any length.

A motion model is a frozen dataclass with pure, batched methods. The position always comes first in the
state, so that a position sensor, a field of view or a plot needs to know nothing else about it:

    ConstantVelocity(dims=2)       x = (px, py, vx, vy)
    ConstantAcceleration(dims=2)   x = (px, py, vx, vy, ax, ay)
    CoordinatedTurn()              x = (px, py, vx, vy, omega)
    RandomWalk(dims=2)             x = (px, py)

Source: Bar-Shalom, Li, Kirubarajan, "Estimation with Applications to Tracking and Navigation" (2001),
sections 6.2-6.3 (kinematic models) and 11.7 (coordinated turn).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from tracking.checks import as_output, require_positive, require_semidefinite


class Motion(Protocol):
    """What a filter needs of a motion model; write your own with these members."""

    @property
    def dim(self) -> int:
        """Length d of the state."""

    @property
    def dims(self) -> int:
        """Number of position coordinates, the first entries of the state."""

    @property
    def linear(self) -> bool:
        """Whether `jacobian` is the whole story and does not depend on the state."""

    def transition(self, x: np.ndarray, dt: float) -> np.ndarray:
        """Noise-free states (n, d) after `dt` seconds, from states (n, d)."""

    def jacobian(self, x: np.ndarray, dt: float) -> np.ndarray:
        """Derivative of `transition`: (d, d) when linear, else (n, d, d)."""

    def noise(self, x: np.ndarray, dt: float) -> np.ndarray:
        """Process noise covariance over `dt`: (d, d), or (n, d, d) when it depends on the state."""


class _Linear(ABC):
    """Shared by motions whose transition is `matrix(dt)`, whatever the state."""

    linear: ClassVar[bool] = True

    @abstractmethod
    def matrix(self, dt: float) -> np.ndarray:
        """Transition matrix F (d, d)."""

    def transition(self, x: np.ndarray, dt: float) -> np.ndarray:
        """States F x, (n, d)."""
        return x @ self.matrix(dt).T

    def jacobian(self, x: np.ndarray, dt: float) -> np.ndarray:
        """Transition matrix F (d, d)."""
        return self.matrix(dt)


@dataclass(frozen=True)
class ConstantVelocity(_Linear):
    """Nearly constant velocity: x = (position, velocity), 2 * dims entries, m and m/s.

    Args:
        dims: number of position coordinates.
        q:    noise strength, a number or one for each coordinate. With `noise_model="white"` the spectral
              density of a white acceleration, m^2/s^3; with "piecewise" the variance of an acceleration held
              over a step, m^2/s^4.
    """

    dims: int = 2
    q: float | Sequence[float] = 1.0
    noise_model: str = "white"

    def __post_init__(self):
        _check_kinematic(self.dims, self.q, self.noise_model)

    @property
    def dim(self) -> int:
        return 2 * self.dims

    def matrix(self, dt: float) -> np.ndarray:
        """Transition matrix F (d, d)."""
        return _per_axis(np.array([[1.0, dt], [0.0, 1.0]]), 1.0, self.dims)

    def noise(self, x: np.ndarray, dt: float) -> np.ndarray:
        """Process noise Q (d, d)."""
        if self.noise_model == "piecewise":
            g = np.array([dt**2 / 2, dt])
            return _per_axis(np.outer(g, g), self.q, self.dims)
        return _per_axis(np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]]), self.q, self.dims)


@dataclass(frozen=True)
class ConstantAcceleration(_Linear):
    """Nearly constant acceleration: x = (position, velocity, acceleration), 3 * dims entries.

    Args:
        dims: number of position coordinates.
        q:    a number or one for each coordinate: spectral density of a white jerk, m^2/s^5 ("white"), or
              variance of an acceleration increment held over a step, m^2/s^4 ("piecewise").
    """

    dims: int = 2
    q: float | Sequence[float] = 1.0
    noise_model: str = "white"

    def __post_init__(self):
        _check_kinematic(self.dims, self.q, self.noise_model)

    @property
    def dim(self) -> int:
        return 3 * self.dims

    def matrix(self, dt: float) -> np.ndarray:
        """Transition matrix F (d, d)."""
        F = np.array([[1.0, dt, dt**2 / 2], [0.0, 1.0, dt], [0.0, 0.0, 1.0]])
        return _per_axis(F, 1.0, self.dims)

    def noise(self, x: np.ndarray, dt: float) -> np.ndarray:
        """Process noise Q (d, d)."""
        if self.noise_model == "piecewise":
            g = np.array([dt**2 / 2, dt, 1.0])
            Q = np.outer(g, g)
        else:
            Q = np.array(
                [
                    [dt**5 / 20, dt**4 / 8, dt**3 / 6],
                    [dt**4 / 8, dt**3 / 3, dt**2 / 2],
                    [dt**3 / 6, dt**2 / 2, dt],
                ]
            )
        return _per_axis(Q, self.q, self.dims)


@dataclass(frozen=True)
class RandomWalk(_Linear):
    """A position that diffuses: x = position, `dims` entries; q is the variance per second, m^2/s.

    q is a number, or one for each coordinate.
    """

    dims: int = 2
    q: float | Sequence[float] = 1.0

    def __post_init__(self):
        _check_kinematic(self.dims, self.q, "white")

    @property
    def dim(self) -> int:
        return self.dims

    def matrix(self, dt: float) -> np.ndarray:
        """Transition matrix F, the identity (d, d)."""
        return np.eye(self.dims)

    def noise(self, x: np.ndarray, dt: float) -> np.ndarray:
        """Process noise Q (d, d)."""
        return _per_axis(np.array([[dt]]), self.q, self.dims)


@dataclass(frozen=True)
class CoordinatedTurn:
    """Coordinated turn in the plane with unknown turn rate: x = (px, py, vx, vy, omega), m, m/s, rad/s.

    Args:
        acceleration_std: standard deviation of the acceleration held over a step, m/s^2.
        turn_rate_std:    standard deviation of the change of turn rate in one second, rad/s; over a
                          step it grows linearly with its length.
    """

    acceleration_std: float = 1.0
    turn_rate_std: float = np.pi / 180
    dims: ClassVar[int] = 2
    dim: ClassVar[int] = 5
    linear: ClassVar[bool] = False

    def __post_init__(self):
        require_positive(acceleration_std=self.acceleration_std, turn_rate_std=self.turn_rate_std)

    def transition(self, x: np.ndarray, dt: float) -> np.ndarray:
        """States (n, 5) after `dt`: the velocity turns by omega * dt, the position follows the arc."""
        x = np.asarray(x, float)
        vx, vy, omega = x[..., 2], x[..., 3], x[..., 4]
        a, b, _, _ = _arc(omega, dt)
        cos, sin = np.cos(omega * dt), np.sin(omega * dt)
        moved = (x[..., 0] + a * vx - b * vy, x[..., 1] + b * vx + a * vy)
        return np.stack((*moved, cos * vx - sin * vy, sin * vx + cos * vy, omega), axis=-1)

    def jacobian(self, x: np.ndarray, dt: float) -> np.ndarray:
        """Derivative of `transition`, (n, 5, 5)."""
        x = np.asarray(x, float)
        vx, vy, omega = x[..., 2], x[..., 3], x[..., 4]
        a, b, da, db = _arc(omega, dt)
        cos, sin = np.cos(omega * dt), np.sin(omega * dt)
        F = np.zeros((*x.shape[:-1], 5, 5))
        F[..., range(5), range(5)] = 1.0
        F[..., 0, 2], F[..., 0, 3], F[..., 0, 4] = a, -b, da * vx - db * vy
        F[..., 1, 2], F[..., 1, 3], F[..., 1, 4] = b, a, db * vx + da * vy
        F[..., 2, 2], F[..., 2, 3], F[..., 2, 4] = cos, -sin, -dt * (sin * vx + cos * vy)
        F[..., 3, 2], F[..., 3, 3], F[..., 3, 4] = sin, cos, dt * (cos * vx - sin * vy)
        return F

    def noise(self, x: np.ndarray, dt: float) -> np.ndarray:
        """Process noise Q (5, 5)."""
        g = np.array([dt**2 / 2, dt])
        Q = np.zeros((5, 5))
        Q[:4, :4] = _per_axis(np.outer(g, g), self.acceleration_std**2, 2)
        Q[4, 4] = (self.turn_rate_std * dt) ** 2
        return Q


def _arc(omega, dt):
    """sin(w dt)/w and (1 - cos(w dt))/w with their derivatives in w, finite and smooth at w = 0."""
    phi = omega * dt
    small = np.abs(phi) < 1e-4
    w, p = np.where(small, 1.0, omega), np.where(small, 1.0, phi)
    a = np.where(small, dt * (1 - phi**2 / 6), np.sin(p) / w)
    b = np.where(small, dt * phi / 2 * (1 - phi**2 / 12), (1 - np.cos(p)) / w)
    da = np.where(small, -(dt**2) * phi / 3, (dt * np.cos(p) - np.sin(p) / w) / w)
    db = np.where(small, dt**2 / 2 * (1 - phi**2 / 4), (dt * np.sin(p) - (1 - np.cos(p)) / w) / w)
    return a, b, da, db


@dataclass(frozen=True)
class FunctionMotion:
    """A motion model from user functions, all batched over states (n, d).

    Args:
        dim:            length of the state.
        transition_fn:  (x, dt) -> (n, d).
        noise_fn:       dt -> (d, d) covariance.
        jacobian_fn:    (x, dt) -> (n, d, d); None: central differences (EKF), or use UKF / CKF.
        dims:           number of position coordinates at the front of the state.
    """

    dim: int
    transition_fn: Callable
    noise_fn: Callable
    jacobian_fn: Callable | None = None
    dims: int = 2
    linear: ClassVar[bool] = False

    def transition(self, x: np.ndarray, dt: float) -> np.ndarray:
        """Noise-free states (n, d) after `dt` seconds."""
        return as_output("transition_fn", self.transition_fn(x, dt), np.shape(x))

    def jacobian(self, x: np.ndarray, dt: float) -> np.ndarray:
        """Derivative of `transition`, (n, d, d)."""
        if self.jacobian_fn is not None:
            d = self.dim
            return as_output("jacobian_fn", self.jacobian_fn(x, dt), (len(x), d, d), (d, d))
        return central_differences(lambda y: self.transition(y, dt), x)

    def noise(self, x: np.ndarray, dt: float) -> np.ndarray:
        """Process noise Q (d, d)."""
        Q = as_output("noise_fn", self.noise_fn(dt), (self.dim, self.dim))
        require_semidefinite("noise_fn", Q)
        return Q


def central_differences(function: Callable, x: np.ndarray, difference: Callable = np.subtract) -> np.ndarray:
    """Jacobian (n, m, d) of a batched function (n, d) -> (n, m) by central differences.

    `difference(a, b)` subtracts two outputs; a sensor passes its angle-wrapping residual.
    """
    x = np.asarray(x, float)
    step = np.cbrt(np.finfo(float).eps) * np.maximum(1.0, np.abs(x))
    columns = []
    for i in range(x.shape[-1]):
        h = np.zeros_like(x)
        h[..., i] = step[..., i]
        columns.append(difference(function(x + h), function(x - h)) / (2 * step[..., i, None]))
    return np.stack(columns, axis=-1)


def _per_axis(A, q, dims):
    """Matrix of all coordinates, q times that of one; as np.kron, at a tenth of the time."""
    k = len(A)
    out = np.zeros((k, dims, k, dims))
    for i in range(dims):
        out[:, i, :, i] = A * (q if np.ndim(q) == 0 else q[i])
    return out.reshape(k * dims, k * dims)


def _check_kinematic(dims, q, noise_model):
    if int(dims) != dims or dims < 1:
        raise ValueError(f"dims must be a whole number of position coordinates >= 1, got {dims}")
    if not (np.all(np.isfinite(q)) and np.all(np.asarray(q) >= 0)):
        raise ValueError(f"q must be finite and >= 0, got {q}")
    if np.shape(q) not in ((), (dims,)):
        raise ValueError(f"q must be one number, or one for each of {dims} coordinates, got {q}")
    if noise_model not in ("white", "piecewise"):
        raise ValueError(f'noise_model must be "white" or "piecewise", got {noise_model!r}')
