"""Sensor models: what a measurement says about a state, how often, and among how much clutter.

A sensor is a frozen dataclass with pure, batched methods. Detection probability and clutter intensity
are constants or functions, so that range, occlusion or a field of view need no new class:

    PositionSensor(std=5.0, p_detect=0.9, clutter_intensity=1e-5)
    RangeBearing(std=(10.0, 0.03), p_detect=lambda x: np.exp(-np.hypot(x[:, 0], x[:, 1]) / 900), ...)

At most one measurement comes from an object in a scan, and clutter is Poisson (the standard point-target
model; Mahler, "Statistical Multisource-Multitarget Information Fusion", 2007, section 12.3).
"""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from tracking.checks import (
    as_covariance,
    as_output,
    require_positive,
    require_probability,
    require_semidefinite,
)
from tracking.models.motion import central_differences

# A missed detection must stay possible: with p_D = 1 an unassociated track has weight log 0.
P_DETECT_MAX = 1 - 1e-9


class Sensor(Protocol):
    """What a filter needs of a sensor model; the ones here share most of it."""

    @property
    def dim_z(self) -> int:
        """Length d_z of a measurement."""

    @property
    def linear(self) -> bool:
        """Whether `jacobian` is the whole story and the noise does not depend on the state."""

    @property
    def angles(self) -> tuple[int, ...]:
        """Components of z that wrap at +-pi."""

    def measure(self, x: np.ndarray) -> np.ndarray:
        """Noise-free measurements (n, d_z) of states (n, d)."""

    def jacobian(self, x: np.ndarray) -> np.ndarray:
        """Derivative of `measure`: (d_z, d) when linear, else (n, d_z, d)."""

    def noise(self, x: np.ndarray) -> np.ndarray:
        """Covariance R of the noise: (d_z, d_z), or (n, d_z, d_z)."""

    def residual(self, z: np.ndarray, z_hat: np.ndarray) -> np.ndarray:
        """z - z_hat with angles wrapped."""

    def detection(self, x: np.ndarray) -> np.ndarray:
        """Detection probability (n,) at states (n, d), below 1."""

    def clutter(self, z: np.ndarray) -> np.ndarray:
        """Clutter intensity (m,) at measurements (m, d_z), above 0."""

    def locate(self, z: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position (m, dims), its covariance, and log |d position / d z| (m,) of measurements.

        `dim` is the length of the state: noise that depends on the state is that of an object at rest there.
        """


@dataclass(frozen=True)
class _Shared:
    """Noise, detection probability and clutter, shared by every sensor.

    Args:
        std:               standard deviation of the noise, a scalar or one per measurement component.
        cov:               instead of `std`: the covariance (d_z, d_z), or a function of the states
                           (n, d) -> (n, d_z, d_z).
        p_detect:          detection probability in [0, 1], or a function of the states (n, d) -> (n,),
                           evaluated at the mean of a density.
        clutter_intensity: expected clutter points per scan and unit of measurement volume (for a position
                           sensor in the plane: 1/m^2), > 0, or a function of the measurements -> (m,).
    """

    _: KW_ONLY
    std: float | Sequence[float] | None = None
    cov: np.ndarray | Callable | None = None
    p_detect: float | Callable = 0.9
    clutter_intensity: float | Callable = 1e-6
    angles: ClassVar[tuple[int, ...]] = ()
    if TYPE_CHECKING:  # each child has one, as a constant, a property or a field
        dim_z: ClassVar[int]
        _R: ClassVar[np.ndarray]

    def __post_init__(self):
        if (self.std is None) == (self.cov is None):
            raise ValueError(f"give exactly one of std and cov, got std={self.std}, cov={self.cov}")
        if self.std is not None:
            require_positive(std=self.std)
            std = np.broadcast_to(np.asarray(self.std, float), (self.dim_z,))
            object.__setattr__(self, "_R", as_covariance(np.diag(std**2), self.dim_z, "std"))
        elif not callable(self.cov):
            object.__setattr__(self, "_R", as_covariance(self.cov, self.dim_z, "cov"))
        if not callable(self.p_detect):
            require_probability(p_detect=self.p_detect)
        if not callable(self.clutter_intensity):
            require_positive(clutter_intensity=self.clutter_intensity)

    def noise(self, x: np.ndarray) -> np.ndarray:
        """Measurement noise R: (d_z, d_z), or (n, d_z, d_z) when it depends on the states (n, d)."""
        if not callable(self.cov):
            return self._R
        d = self.dim_z
        R = as_output("cov", self.cov(x), (len(x), d, d), (d, d))
        require_semidefinite("cov", R)
        return R

    def detection(self, x: np.ndarray) -> np.ndarray:
        """Detection probability (n,) at states (n, d), at most 1 - 1e-9."""
        if not callable(self.p_detect):
            return np.full(len(x), min(float(self.p_detect), P_DETECT_MAX))
        p = np.asarray(self.p_detect(x), float)
        require_probability(p_detect=p)
        return np.minimum(np.broadcast_to(p, (len(x),)), P_DETECT_MAX)

    def clutter(self, z: np.ndarray) -> np.ndarray:
        """Clutter intensity (m,) at measurements (m, d_z)."""
        if not callable(self.clutter_intensity):
            return np.full(len(z), float(self.clutter_intensity))
        kappa = np.broadcast_to(np.asarray(self.clutter_intensity(z), float), (len(z),))
        require_positive(clutter_intensity=kappa)
        return kappa

    def residual(self, z: np.ndarray, z_hat: np.ndarray) -> np.ndarray:
        """z - z_hat with angles wrapped to (-pi, pi]."""
        nu = np.subtract(z, z_hat)
        for i in self.angles:
            nu[..., i] = np.pi - np.mod(np.pi - nu[..., i], 2 * np.pi)
        return nu


@dataclass(frozen=True)
class PositionSensor(_Shared):
    """Measures the position itself: z = (p_1, ..., p_dims) + noise, m."""

    dims: int = 2

    @property
    def dim_z(self) -> int:  # type: ignore[override]
        return self.dims

    @property
    def linear(self) -> bool:
        return not callable(self.cov)

    def measure(self, x: np.ndarray) -> np.ndarray:
        """Positions (n, dims) of states (n, d)."""
        return x[..., : self.dims]

    def jacobian(self, x: np.ndarray) -> np.ndarray:
        """H = [I 0], (dims, d)."""
        return np.eye(self.dims, x.shape[-1])

    def locate(self, z: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position (m, dims), its covariance (m, dims, dims) and log |d position / d z| (m,)."""
        R = np.broadcast_to(self.noise(_at_rest(z, dim)), (len(z), self.dims, self.dims))
        return z.copy(), R.copy(), np.zeros(len(z))


@dataclass(frozen=True)
class RangeBearing(_Shared):
    """Range and bearing from a fixed point in the plane: z = (r, theta) + noise, m and rad.

    Args:
        origin:     position of the sensor (x, y), m.
        from_north: bearing = atan2(dx, dy), clockwise from the y axis, as on a compass and in the RFS
                    literature; by default atan2(dy, dx), counter-clockwise from the x axis.
    """

    origin: tuple[float, float] = (0.0, 0.0)
    from_north: bool = False
    dim_z: ClassVar[int] = 2
    linear: ClassVar[bool] = False
    angles: ClassVar[tuple[int, ...]] = (1,)

    def measure(self, x: np.ndarray) -> np.ndarray:
        """Range and bearing (n, 2) of states (n, d)."""
        dx, dy = x[..., 0] - self.origin[0], x[..., 1] - self.origin[1]
        bearing = np.arctan2(dx, dy) if self.from_north else np.arctan2(dy, dx)
        return np.stack((np.hypot(dx, dy), bearing), axis=-1)

    def jacobian(self, x: np.ndarray) -> np.ndarray:
        """dz/dx, (n, 2, d)."""
        dx, dy = x[..., 0] - self.origin[0], x[..., 1] - self.origin[1]
        r = np.maximum(np.hypot(dx, dy), 1e-9)
        sign = -1.0 if self.from_north else 1.0
        H = np.zeros((*x.shape[:-1], self.dim_z, x.shape[-1]))
        H[..., 0, 0], H[..., 0, 1] = dx / r, dy / r
        H[..., 1, 0], H[..., 1, 1] = -sign * dy / r**2, sign * dx / r**2
        return H

    def locate(self, z: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position (m, 2), its covariance (m, 2, 2) and log |d position / d z| = log r, (m,)."""
        r, theta = np.maximum(z[:, 0], 1e-9), z[:, 1]
        cos, sin = np.cos(theta), np.sin(theta)
        J = np.zeros((len(z), 2, 2))
        J[:, 0] = np.stack((cos, -r * sin), axis=1)
        J[:, 1] = np.stack((sin, r * cos), axis=1)
        if self.from_north:
            J = J[:, ::-1]
        position = J[:, :, 0] * r[:, None] + np.asarray(self.origin)
        R = np.broadcast_to(self.noise(_at_rest(position, dim)), (len(z), self.dim_z, self.dim_z))[:, :2, :2]
        return position, J @ R @ J.swapaxes(1, 2), np.log(r)


@dataclass(frozen=True)
class RangeBearingDoppler(RangeBearing):
    """Range, bearing and range rate: z = (r, theta, dr/dt) + noise; m, rad, m/s.

    The state must hold the velocity right after the position, as every kinematic motion model here does.
    """

    dim_z: ClassVar[int] = 3

    def measure(self, x: np.ndarray) -> np.ndarray:
        """Range, bearing and range rate (n, 3) of states (n, d)."""
        dx, dy = x[..., 0] - self.origin[0], x[..., 1] - self.origin[1]
        rate = (dx * x[..., 2] + dy * x[..., 3]) / np.maximum(np.hypot(dx, dy), 1e-9)
        return np.concatenate((super().measure(x), rate[..., None]), axis=-1)

    def jacobian(self, x: np.ndarray) -> np.ndarray:
        """dz/dx, (n, 3, d)."""
        dx, dy = x[..., 0] - self.origin[0], x[..., 1] - self.origin[1]
        vx, vy = x[..., 2], x[..., 3]
        r = np.maximum(np.hypot(dx, dy), 1e-9)
        tangential = (dx * vy - dy * vx) / r**3
        H = super().jacobian(x)
        H[..., 2, 0], H[..., 2, 1] = -dy * tangential, dx * tangential
        H[..., 2, 2], H[..., 2, 3] = dx / r, dy / r
        return H


@dataclass(frozen=True)
class FunctionSensor(_Shared):
    """A sensor from user functions, all batched over states (n, d).

    Args:
        dim_z:       length of a measurement.
        measure_fn:  (n, d) -> (n, dim_z).
        jacobian_fn: (n, d) -> (n, dim_z, d); None: central differences (EKF), or use UKF / CKF.
        locate_fn:   measurements (m, dim_z) -> position (m, dims), covariance (m, dims, dims) and
                     log |d position / d z| (m,); needed only by births that start at a measurement.
        angles:      components of z that wrap at +-pi.
    """

    dim_z: int  # type: ignore[misc]
    measure_fn: Callable
    jacobian_fn: Callable | None = None
    locate_fn: Callable | None = None
    angles: tuple[int, ...] = field(default=(), kw_only=True)  # type: ignore[misc]
    linear: ClassVar[bool] = False

    def measure(self, x: np.ndarray) -> np.ndarray:
        """Noise-free measurements (n, dim_z) of states (n, d)."""
        return as_output("measure_fn", self.measure_fn(x), (len(x), self.dim_z))

    def jacobian(self, x: np.ndarray) -> np.ndarray:
        """dz/dx, (n, dim_z, d)."""
        if self.jacobian_fn is not None:
            n, d = x.shape
            return as_output("jacobian_fn", self.jacobian_fn(x), (n, self.dim_z, d), (self.dim_z, d))
        return central_differences(self.measure, x, self.residual)

    def locate(self, z: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position, its covariance and log |d position / d z| of measurements."""
        if self.locate_fn is None:
            raise ValueError(
                "a birth that starts at a measurement needs locate_fn in FunctionSensor "
                "(measurement -> position, covariance, log volume). Give one, or use GaussianBirth."
            )
        position, cov, log_volume = self.locate_fn(z)
        n, dims = len(z), np.shape(position)[-1]
        return (
            as_output("position of locate_fn", position, (n, dims)),
            as_output("covariance of locate_fn", cov, (n, dims, dims)),
            as_output("log volume of locate_fn", log_volume, (n,)),
        )


def _at_rest(position: np.ndarray, dim: int) -> np.ndarray:
    """States (m, dim) at positions (m, dims), all else zero."""
    return np.pad(position, ((0, 0), (0, dim - position.shape[1])))
