"""What the metrics accept: sets of points, sets of trajectories, a cut-off and an order."""

import math

import numpy as np
from numpy.typing import ArrayLike

from tracking.tracks import Trajectories

LOG_FLOAT_MAX = 700.0  # c ** p beyond exp(+-700) is no longer a float


def as_cutoff(c: float, p: float, name: str = "the cut-off c") -> tuple[float, float]:
    """A distance c > 0 and the order p >= 1 of its power, as floats.

    Raises:
        ValueError: either is out of range, or c ** p is not a normal float.
    """
    c, p = float(c), float(p)
    if not 0 < c < math.inf:
        raise ValueError(f"{name} must be finite and > 0, got {c}")
    if not 1 <= p < math.inf:
        raise ValueError(f"the order p must be finite and >= 1, got {p}; 1 and 2 are the usual choices")
    if abs(p * math.log(c)) > LOG_FLOAT_MAX:
        raise ValueError(
            f"{name} to the power p must be a float, got {c} and p={p}. "
            "Scale the states, or take a smaller p."
        )
    return c, p


def as_point_sets(truth: ArrayLike, estimate: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of points (n, d), (m, d) as finite float arrays; an empty set may come as [].

    Raises:
        ValueError: wrong shape, different d, or a NaN or infinite entry.
    """
    x, y = _as_point_set(truth, "truth"), _as_point_set(estimate, "estimate")
    if x.shape[1] != y.shape[1]:
        if x.shape[1] and y.shape[1]:
            raise ValueError(
                f"truth and estimate must have the same number of columns, got {x.shape} and {y.shape}. "
                "Compare the same entries of both, for example the position: estimate[:, :2]."
            )
        dim = max(x.shape[1], y.shape[1])
        x, y = x.reshape(len(x), dim), y.reshape(len(y), dim)
    return x, y


def _as_point_set(points, name):
    points = np.asarray(points, float)
    if points.ndim == 1 and points.size == 0:
        return points.reshape(0, 0)
    if points.ndim != 2 or (points.shape[1] == 0 and len(points)):
        raise ValueError(
            f"{name} must have shape (n, d), one row a point, got shape {points.shape}. "
            f"Points on a line are {name}[:, None], a single point is {name}[None, :]."
        )
    finite = np.isfinite(points)
    if not finite.all():
        row = int(np.flatnonzero(~finite.all(axis=1))[0])
        raise ValueError(
            f"{name} must be finite, got {points[row].tolist()} in row {row}. "
            f"Drop such rows before the call: {name}[np.isfinite({name}).all(axis=1)]."
        )
    return points


def as_trajectory_sets(truth, estimate) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of trajectories (n, T, d), (m, T, d), NaN where a trajectory does not exist.

    Args:
        truth, estimate: arrays, or `Trajectories` over the same times; an empty set may come as [].

    Raises:
        ValueError: wrong shape, different T, d or times, an infinite entry, or a half-missing state.
    """
    if isinstance(truth, Trajectories) and isinstance(estimate, Trajectories):
        if not np.array_equal(truth.time, estimate.time):
            raise ValueError(
                f"truth and estimate must be given at the same times, got {_span(truth.time)} and "
                f"{_span(estimate.time)}. Run the tracker at the times of the truth, or interpolate."
            )
    x, y = _as_trajectory_set(truth, "truth"), _as_trajectory_set(estimate, "estimate")
    if len(x) == 0 and x.shape[1:] != y.shape[1:]:
        x = np.empty((0, *y.shape[1:]))
    if len(y) == 0:
        y = np.empty((0, *x.shape[1:]))
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"truth and estimate must have the same T and d, got shapes {x.shape} and {y.shape}. "
            "Compare the same times and entries of both, for example the position: states[..., :2]."
        )
    return x, y


def _as_trajectory_set(trajectories, name):
    states = trajectories.states if isinstance(trajectories, Trajectories) else trajectories
    states = np.asarray(states, float)
    if states.ndim == 1 and states.size == 0:
        return states.reshape(0, 0, 0)
    if states.ndim != 3:
        raise ValueError(
            f"{name} must have shape (n, T, d), NaN where a trajectory does not exist, "
            f"got shape {states.shape}"
        )
    absent = np.isnan(states)
    bad = np.isinf(states).any(axis=2) | (absent.any(axis=2) & ~absent.all(axis=2))
    if bad.any():
        i, t = np.argwhere(bad)[0].tolist()
        raise ValueError(
            f"a state of {name} must be finite, or NaN in all its entries where the trajectory does not "
            f"exist, got {states[i, t].tolist()} for trajectory {i} at time index {t}"
        )
    return states


def _span(time):
    return f"{len(time)} times from {time[0]:g} to {time[-1]:g} s" if len(time) else "no times"


def existence(states: np.ndarray) -> np.ndarray:
    """Where trajectories (n, T, d) exist, (n, T) bool."""
    return ~np.isnan(states).any(axis=2)
