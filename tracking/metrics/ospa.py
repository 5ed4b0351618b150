"""OSPA between sets of points, and OSPA(2) between sets of trajectories.

OSPA is an error per object: of the larger set, how far is an object from its partner, a missing partner
counting as c. OSPA(2) is OSPA between tracks: it also sees switched and broken identities.

Sources: Schuhmacher, Vo, Vo (TSP 2008); Beard, Vo, Vo (TSP 2020).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tracking.metrics.matching import close_trajectories, match_edges, match_points
from tracking.metrics.sets import as_cutoff, as_point_sets, as_trajectory_sets, existence
from tracking.tracks import Trajectories


class Ospa(NamedTuple):
    """An OSPA distance and its parts, in the unit of the states; the parts add up at power p.

    Numbers, or arrays (T,) over time.
    """

    total: float | np.ndarray
    localisation: float | np.ndarray
    cardinality: float | np.ndarray


def ospa(truth: ArrayLike, estimate: ArrayLike, c: float = 10.0, p: float = 2.0) -> Ospa:
    """OSPA distance between two point sets; 0 if both are empty, c if one is.

    Args:
        truth:    (n, d) true positions, m.
        estimate: (m, d) estimated positions, m.
        c:        cut-off distance, m: the error of an object without a partner, and the largest of one with.
        p:        order >= 1.
    Returns:
        Ospa(total, localisation, cardinality), each in m and at most c.
    Raises:
        ValueError: the sets differ in d or are not finite, or c or p are out of range.
    Source: Schuhmacher, Vo, Vo (TSP 2008), eq. 3.
    """
    c, p = as_cutoff(c, p)
    x, y = as_point_sets(truth, estimate)
    _, _, d = match_points(x, y, c, p)
    return _per_object((d**p).sum(), len(d), len(x), len(y), c, p)


def ospa2(
    truth: ArrayLike | Trajectories,
    estimate: ArrayLike | Trajectories,
    c: float = 10.0,
    p: float = 2.0,
    window: int | None = None,
) -> Ospa:
    """OSPA(2) distance between two sets of trajectories over their last `window` scans.

    The distance of two trajectories is the mean over the scans in which at least one of them exists of
    min(d, c)^p, or c^p where one is missing, to the power 1 / p. A trajectory with no state in the window
    is left out.

    Args:
        truth:    (n, T, d) true states, NaN where a trajectory does not exist, or `Trajectories`. All
                  entries count, in m; pass states[..., :2] to compare positions.
        estimate: (m, T, d) estimated states at the same times.
        c:        cut-off distance, m.
        p:        order >= 1, of the mean over time and of that over tracks.
        window:   number of scans, or None for all.
    Returns:
        Ospa(total, localisation, cardinality), each in m and at most c.
    Raises:
        ValueError: the sets differ in T or d or are not finite, or c, p, window are out of range.
    Source: Beard, Vo, Vo (TSP 2020), with uniform weights and the Euclidean distance of states.
    """
    c, p = as_cutoff(c, p)
    x, y = as_trajectory_sets(truth, estimate)
    last = slice(max(0, x.shape[1] - _as_window(window, x.shape[1])), None)
    x, y = x[:, last], y[:, last]
    rows, cols, cost, both = _pair_costs(x, y, c, p)
    lengths = existence(x).sum(axis=1), existence(y).sum(axis=1)
    return _between_tracks(rows, cols, cost.sum(axis=1), both.sum(axis=1), lengths, c, p)


def ospa2_over_time(
    truth: ArrayLike | Trajectories,
    estimate: ArrayLike | Trajectories,
    c: float = 10.0,
    p: float = 2.0,
    window: int | None = 10,
) -> Ospa:
    """OSPA(2) at every time t over the scans t - window + 1, ..., t (fewer at the start).

    Args:
        truth, estimate, c, p: as in `ospa2`.
        window: number of scans, or None for all up to t.
    Returns:
        Ospa(total, localisation, cardinality), arrays (T,), each in m and at most c.
    Raises:
        ValueError: as in `ospa2`.
    Source: Beard, Vo, Vo (TSP 2020).
    """
    c, p = as_cutoff(c, p)
    x, y = as_trajectory_sets(truth, estimate)
    window = _as_window(window, x.shape[1])
    rows, cols, cost, both = _pair_costs(x, y, c, p)
    cost, both = _window_sums(cost, window), _window_sums(both, window)
    length_x, length_y = _window_sums(existence(x), window), _window_sums(existence(y), window)
    series = np.zeros((x.shape[1], 3))
    for t in range(x.shape[1]):
        lengths = length_x[:, t], length_y[:, t]
        series[t] = _between_tracks(rows, cols, cost[:, t], both[:, t], lengths, c, p)
    return Ospa(*series.T)


def _as_window(window, scans):
    if window is None:
        return max(scans, 1)
    if int(window) != window or window < 1:
        raise ValueError(f"window must be a whole number of scans >= 1, or None for all, got {window}")
    return int(window)


def _per_object(cost, matched, n, m, c, p):
    """Ospa from the summed cost of `matched` pairs of n and m objects; all others are saturated."""
    size = max(n, m, 1)
    localisation = (cost + c**p * (min(n, m) - matched)) / size
    cardinality = c**p * abs(n - m) / size
    parts = localisation + cardinality, localisation, cardinality
    return Ospa(*(float(part) ** (1 / p) for part in parts))


def _between_tracks(rows, cols, cost, both, lengths, c, p):
    """Ospa between tracks in one window.

    Args:
        rows, cols: (k,) pairs of tracks that come closer than c at some time.
        cost:       (k,) sum of min(d, c)^p over the scans of the window in which both exist.
        both:       (k,) number of these scans.
        lengths:    (n,) and (m,) number of scans in which each track exists.
    """
    either = lengths[0][rows] + lengths[1][cols] - both
    mean = (cost + c**p * (either - both)) / np.maximum(either, 1)
    near = (both > 0) & (mean < c**p)
    rows, cols, mean = rows[near], cols[near], mean[near]
    chosen = match_edges(rows, cols, mean, c**p, (len(lengths[0]), len(lengths[1])))
    n, m = np.count_nonzero(lengths[0]), np.count_nonzero(lengths[1])
    return _per_object(mean[chosen].sum(), len(chosen), n, m, c, p)


def _pair_costs(x, y, c, p):
    """Pairs of trajectories that come closer than c at some time, and what they cost over time.

    Returns:
        rows, cols (k,) of the pairs; min(d, c)^p (k, T) where both exist, else 0; where both exist (k, T).
    """
    rows, cols, distance, near = close_trajectories(x, y, c)
    both = existence(x)[rows] & existence(y)[cols]
    return rows, cols, np.where(near, distance**p, c**p * both), both


def _window_sums(values: np.ndarray, window: int) -> np.ndarray:
    """Sums (k, T) over the last `window` columns of (k, T) up to each.

    By doubling: windows of 1, 2, 4, ... are added up. A running sum would be as fast, but what it adds and
    subtracts again leaves rounding errors where the distance should be zero.
    """
    scans = values.shape[1]
    window = min(window, max(scans, 1))
    power = values.astype(float)
    total, covered, size = np.zeros_like(power), 0, 1
    while size <= window:
        if window & size:
            total += _shift(power, covered)
            covered += size
        power = power + _shift(power, size)
        size *= 2
    return total


def _shift(values, steps):
    """Columns moved `steps` later, zeros in front."""
    return np.pad(values, ((0, 0), (steps, 0)))[:, : values.shape[1]]
