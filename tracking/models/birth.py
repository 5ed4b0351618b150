"""Birth models: where and how often objects appear, in expected objects per second.

GaussianBirth     Gaussians at known places (doors, airports, the edge of the field of view)
UniformBirth      anywhere in a box; a first detection fixes the position, a prior the rest
MeasurementBirth  near the measurements of the scan before that no track explains
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import erf, exp, pi, sqrt

import numpy as np

from tracking.checks import as_covariance, require_finite, require_positive, require_probability

GRID_POINTS = (64, 16, 6, 4)  # along each side of a box of 1, 2, 3, 4 dimensions


def _expected(rate, time: float, dt: float) -> np.ndarray:
    """Expected births in the `dt` seconds up to `time`; `rate` per second, or a function of time."""
    value = np.asarray(rate(time) if callable(rate) else rate, float)
    if not (np.isfinite(value).all() and (value >= 0).all()):
        raise ValueError(f"rate must be finite and >= 0, got {value} at time {time}")
    return value * dt


@dataclass(frozen=True)
class GaussianBirth:
    """A Gaussian mixture of births.

    Args:
        rate: (b,) expected births per second of each component, or one number for all, or a function of
              time (s) that gives either.
        mean: (b, d) states.
        cov:  (d, d) or (b, d, d) covariances.
    """

    rate: float | Sequence[float] | Callable
    mean: np.ndarray
    cov: np.ndarray

    def __post_init__(self):
        mean = np.atleast_2d(np.array(self.mean, float))
        if not np.isfinite(mean).all():
            raise ValueError(f"mean must be finite, got {mean.tolist()}")
        cov = as_covariance(self.cov, mean.shape[1], "cov")
        if not callable(self.rate):
            require_positive(rate=self.rate)
            object.__setattr__(
                self, "rate", np.broadcast_to(np.asarray(self.rate, float), (len(mean),)).copy()
            )
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "cov", np.broadcast_to(cov, (len(mean), *cov.shape[-2:])).copy())

    def expected(self, time: float, dt: float) -> np.ndarray:
        """Expected births (b,) of each component in the `dt` seconds up to `time`."""
        return np.broadcast_to(_expected(self.rate, time, dt), (len(self.mean),))


@dataclass(frozen=True)
class _FromMeasurement:
    """Shared by births that start at a measurement: position from it, the rest from a prior.

    Args:
        rate:      expected births per second, or a function of time (s).
        rest_std:  standard deviation of the state entries after the position (velocity, ...), a scalar
                   or one each.
        rest_mean: their mean.
    """

    rate: float | Callable
    rest_std: float | Sequence[float] = 1.0
    rest_mean: float | Sequence[float] = 0.0

    def __post_init__(self):
        require_positive(rest_std=self.rest_std)
        require_finite(rest_mean=self.rest_mean)
        if not callable(self.rate):
            require_positive(rate=self.rate)

    def expected(self, time: float, dt: float) -> float:
        """Expected births in the `dt` seconds up to `time`."""
        return float(_expected(self.rate, time, dt))

    def start(self, z: np.ndarray, sensor, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gaussians of objects first seen at measurements z.

        Components of z beyond the position (range rate) refine the rest by one Kalman update.

        Args:
            z:      (m, d_z) measurements.
            sensor: sensor with `locate`.
            dim:    length d of the state.
        Returns:
            mean (m, d), covariance (m, d, d), and the log density (m,) of z for an object whose position
            is uniform with density one.
        """
        position, position_cov, log_density = sensor.locate(z, dim)
        dims = position.shape[1]
        m = np.empty((len(z), dim))
        m[:, :dims], m[:, dims:] = position, self.rest_mean
        P = np.zeros((len(z), dim, dim))
        P[:, :dims, :dims] = position_cov
        P[:, range(dims, dim), range(dims, dim)] = np.square(self.rest_std)
        if sensor.dim_z == dims or len(z) == 0:
            return m, P, log_density
        extra = slice(dims, sensor.dim_z)
        H = np.broadcast_to(sensor.jacobian(m), (len(z), sensor.dim_z, dim))[:, extra]
        R = np.broadcast_to(sensor.noise(m), (len(z), sensor.dim_z, sensor.dim_z))[:, extra, extra]
        nu = sensor.residual(z, sensor.measure(m))[:, extra]
        PHt = P @ H.swapaxes(1, 2)
        S = H @ PHt + R
        K = PHt @ np.linalg.inv(S)
        d2 = np.einsum("ni,nij,nj->n", nu, np.linalg.inv(S), nu)
        log_density = log_density - 0.5 * (d2 + np.linalg.slogdet(2 * np.pi * S)[1])
        P = P - K @ S @ K.swapaxes(1, 2)
        return m + (K @ nu[..., None])[..., 0], 0.5 * (P + P.swapaxes(1, 2)), log_density


@dataclass(frozen=True)
class UniformBirth(_FromMeasurement):
    """Births uniform over a box of positions, known to the filter as one number, not as Gaussians.

    Source: Beard, Vo, Vo, Arulampalam (TSP 2013), partially uniform birth; here for a Poisson density.

    Args:
        lower, upper: corners of the box, (dims,) m.
    """

    lower: Sequence[float] = (0.0, 0.0)
    upper: Sequence[float] = (1.0, 1.0)

    def __post_init__(self):
        super().__post_init__()
        require_finite(lower=self.lower, upper=self.upper)
        if len(self.lower) != len(self.upper) or not np.all(np.less(self.lower, self.upper)):
            raise ValueError(f"lower must be below upper, got {self.lower} and {self.upper}")

    @property
    def volume(self) -> float:
        """Volume of the box, m^dims."""
        return float(np.prod(np.subtract(self.upper, self.lower)))

    def grid(self, dim: int) -> np.ndarray:
        """States (n, dim) spread over the box, to average functions of the state over its objects."""
        x = np.empty((len(self._positions), dim))
        dims = len(self.lower)
        x[:, :dims], x[:, dims:] = self._positions, self.rest_mean
        return x

    @cached_property
    def _positions(self) -> np.ndarray:
        lower, upper = np.asarray(self.lower, float), np.asarray(self.upper, float)
        steps = GRID_POINTS[min(len(lower), 4) - 1]
        middles = (np.arange(steps) + 0.5) / steps
        share = np.stack(np.meshgrid(*[middles] * len(lower), indexing="ij"), axis=-1)
        return lower + share.reshape(-1, len(lower)) * (upper - lower)

    def near(self, m: np.ndarray, P: np.ndarray) -> np.ndarray:
        """Which Gaussians (n, d), (n, d, d) may lie in the box: within five deviations, (n,) bool."""
        dims = len(self.lower)
        margin = 5 * np.sqrt(np.diagonal(P, axis1=1, axis2=2)[:, :dims])
        position = m[:, :dims]
        return ((position > self.lower - margin) & (position < self.upper + margin)).all(axis=1)

    def stay(self, dt: float, lower: Sequence[float], upper: Sequence[float]) -> float:
        """Probability that an object of this birth is still in a region after `dt`, to first order.

        Of objects uniform in a box, E[max(v_i, 0)] dt / L_i leave through the upper side of axis i; those
        have left the region (corners `lower` and `upper`, m) too where the two sides are about the same.
        """
        stays = 1.0
        for i, (low, high) in enumerate(zip(self.lower, self.upper)):
            std, mean = _entry(self.rest_std, i), _entry(self.rest_mean, i)
            speed = sqrt(2 / pi) * std * exp(-0.5 * (mean / std) ** 2) + mean * erf(mean / std / sqrt(2))
            reach = 3 * (abs(mean) + std) * dt
            down = (speed - mean) / 2 if i < len(lower) and lower[i] > low - reach else 0.0
            up = (speed + mean) / 2 if i < len(upper) and upper[i] < high + reach else 0.0
            stays *= min(max(1 - (down + up) * dt / (high - low), 0.0), 1.0)
        return float(stays)


def _entry(rest, i: int) -> float:
    """Velocity along coordinate i, of one number for all or a sequence."""
    return float(rest if np.ndim(rest) == 0 else rest[i])


@dataclass(frozen=True)
class MeasurementBirth(_FromMeasurement):
    """Births near the last scan's measurements, shared out by how little the tracks explain them.

    Source: Reuter, Vo, Vo, Dietmayer (TSP 2014), adaptive birth distribution.

    Args:
        max_probability: cap on the existence probability of one birth.
    """

    max_probability: float = 0.03

    def __post_init__(self):
        super().__post_init__()
        require_probability(max_probability=self.max_probability)

    def share(self, explained: np.ndarray, expected: float) -> np.ndarray:
        """Expected births (m,) at measurements that tracks explain with probability `explained` (m,)."""
        free = np.clip(1 - explained, 0.0, 1.0)
        return np.minimum(self.max_probability, expected * free / max(free.sum(), 1e-300))
