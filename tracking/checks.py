"""Checks at the public doors: each says what came, what is accepted and what to do."""

import numpy as np


def is_number(value) -> bool:
    """Whether a value of TOML or JSON is a number, which True and False are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


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


def as_output(name: str, value, *shapes: tuple[int, ...]) -> np.ndarray:
    """What a user's function returned, as a finite float array of one of the shapes.

    Raises:
        ValueError: another shape, or a NaN or infinite entry.
    """
    value = np.asarray(value, float)
    if value.shape not in shapes:
        raise ValueError(f"{name} must return shape {' or '.join(map(str, shapes))}, got {value.shape}")
    require_finite(**{name: value})
    return value


def require_semidefinite(name: str, cov: np.ndarray) -> None:
    """Raise ValueError unless matrices (..., d, d) are symmetric without a negative eigenvalue."""
    scale = np.abs(cov).max(initial=0.0)
    least = np.linalg.eigvalsh(cov).min(initial=0.0)
    if least < -1e-9 * scale or np.abs(cov - np.swapaxes(cov, -1, -2)).max(initial=0.0) > 1e-9 * scale:
        raise ValueError(
            f"{name} must return covariances, got a matrix with eigenvalue {least:g} or asymmetric"
        )


def require_finite(**values):
    """Raise ValueError unless every named array is finite."""
    for name, value in values.items():
        if not np.isfinite(np.sum(value)) and not np.isfinite(value).all():
            where = np.argwhere(~np.isfinite(value))[0].tolist()
            raise ValueError(f"{name} must be finite, got {np.asarray(value)[tuple(where)]} at index {where}")


def as_measurements(z, dim_z: int) -> np.ndarray:
    """Measurements as a finite float array (m, dim_z); an empty scan may come as [] or None.

    Raises:
        ValueError: wrong shape, or a NaN or infinite entry.
    """
    z = np.zeros((0, dim_z)) if z is None else as_numbers("z", z)
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


def as_numbers(name: str, value) -> np.ndarray:
    """A copy as a float array: inputs are never shared.

    Raises:
        ValueError: masked, complex, text, dates, or rows of different lengths.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(
            f"{name} must be a plain array, got a masked one. Drop what is masked before the call."
        )
    try:
        found = np.array(value)
        if found.dtype.kind in "biufO":  # objects, where each is a number
            return found.astype(float)
    except (TypeError, ValueError):
        found = None
    kind = type(value).__name__ if found is None else f"an array of {found.dtype}"
    raise ValueError(f"{name} must hold real numbers in rows of one length, got {kind}")


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
