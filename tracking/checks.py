"""Checks at the public doors: each says what came, what is accepted and what to do."""

import numpy as np


def require_positive(**values):
    """Raise ValueError unless every named value is finite and > 0."""
    for name, value in values.items():
        if not np.all(np.isfinite(value)) or not np.all(np.asarray(value) > 0):
            raise ValueError(f"{name} must be finite and > 0, got {value}")


def require_probability(**values):
    """Raise ValueError unless every named value lies in [0, 1]."""
    for name, value in values.items():
        value = np.asarray(value, float)
        if not np.all((value >= 0) & (value <= 1)):  # NaN fails too
            raise ValueError(f"{name} must be a probability in [0, 1], got {_offending(value)}")


def _offending(value):
    bad = ~((value >= 0) & (value <= 1))
    return value if value.ndim == 0 else f"{value[bad][0]} at index {np.argwhere(bad)[0].tolist()}"


def as_measurements(z, dim_z: int) -> np.ndarray:
    """Measurements as a finite float array (m, dim_z); an empty scan may come as [] or None.

    Raises:
        ValueError: wrong shape, or a NaN or infinite entry.
    """
    z = np.zeros((0, dim_z)) if z is None else np.array(z, dtype=float)  # a copy: inputs are never shared
    if z.shape in ((0,), (1, 0)):  # [] and [[]]
        return np.zeros((0, dim_z))
    if z.ndim == 1 and dim_z == 1:
        z = z[:, None]
    if z.ndim != 2 or z.shape[1] != dim_z:
        raise ValueError(
            f"z must have shape (m, {dim_z}), one row a measurement, got shape {z.shape}. "
            f"A single measurement is z[None, :]; an empty scan is np.zeros((0, {dim_z}))."
        )
    bad = ~np.isfinite(z).all(axis=1)
    if bad.any():
        raise ValueError(
            f"z must be finite, got {z[bad][0].tolist()} in row {int(np.flatnonzero(bad)[0])}. "
            "Drop such rows before the call: z[np.isfinite(z).all(axis=1)]."
        )
    return z


def as_covariance(cov, d: int, name: str = "covariance") -> np.ndarray:
    """A covariance (..., d, d) as a float array, checked to be symmetric and positive definite."""
    cov = np.array(cov, dtype=float)
    if cov.shape[-2:] != (d, d):
        raise ValueError(f"{name} must have shape (..., {d}, {d}), got {cov.shape}")
    scale = np.abs(cov).max(initial=0.0)
    if not np.isfinite(cov).all() or np.abs(cov - np.swapaxes(cov, -1, -2)).max(initial=0.0) > 1e-9 * scale:
        raise ValueError(f"{name} must be finite and symmetric, got {cov.tolist()}")
    try:
        np.linalg.cholesky(cov)
    except np.linalg.LinAlgError:
        smallest = np.linalg.eigvalsh(cov).min()
        raise ValueError(
            f"{name} must be positive definite, its smallest eigenvalue is {smallest:g}"
        ) from None
    return cov
