"""Gating: which measurements can come from which predicted Gaussians, without a dense table.

The measurements are sorted once a scan into strips about as wide as a gate, and along each strip; a Gaussian
looks only into the one or two strips and the window along them that its gate covers, so the cost grows with
the number of pairs, not with tracks x measurements.
"""

from typing import NamedTuple

import numpy as np

from tracking.compiled import compiled, doubled


class Pairs(NamedTuple):
    """Gated pairs in compressed rows: Gaussian i pairs with measurements col[offset[i]:offset[i + 1]].

    offset (n + 1,) int64; row (e,) and col (e,) int64; d2 (e,) squared Mahalanobis distance;
    nu (e, d_z) residual z - z_hat; n_columns: number of measurements.
    """

    offset: np.ndarray
    row: np.ndarray
    col: np.ndarray
    d2: np.ndarray
    nu: np.ndarray
    n_columns: int


def gate(
    innovation, z: np.ndarray, threshold: float, angles: tuple[int, ...] = (), most: int | None = None
) -> Pairs:
    """Pairs with squared Mahalanobis distance below `threshold`, by row, then by column.

    Args:
        innovation: predicted measurements of n Gaussians (`tracking.gaussian.Innovation`).
        z:          (m, d_z) measurements.
        threshold:  squared Mahalanobis distance, for example 20 (chi-square, 2 degrees: 0.99995).
        angles:     components that wrap at +-pi.
        most:       of more measurements in a gate only so many are kept, the nearest; None: all.
    """
    wraps = np.zeros(z.shape[1], np.bool_)
    wraps[list(angles)] = True
    straight = np.flatnonzero(~wraps)
    along = straight[-1] if len(straight) else -1  # sorted along this axis, in strips across the other
    across = straight[0] if len(straight) > 1 else -1
    order = np.argsort(z[:, along], kind="stable") if along >= 0 else np.arange(len(z))
    z_hat = np.ascontiguousarray(innovation.z_hat)
    found = _search(z_hat, innovation.S, innovation.S_inv, z, order, across, along, float(threshold), wraps)
    pairs = Pairs(*found)
    if most is None or len(pairs.col) <= most or np.diff(pairs.offset).max() <= most:
        return pairs
    return _nearest(pairs, most)


def _nearest(pairs: Pairs, most: int) -> Pairs:
    """The pairs whose rank by distance in their row is below `most`."""
    rank = np.empty(len(pairs.col), np.int64)
    rank[np.lexsort((pairs.d2, pairs.row))] = np.arange(len(rank)) - pairs.offset[pairs.row]
    keep = rank < most
    offset = np.concatenate((np.zeros(1, np.int64), np.cumsum(keep)))[pairs.offset]
    row, col, d2, nu = (a[keep] for a in pairs[1:5])
    return Pairs(offset, row, col, d2, nu, pairs.n_columns)


@compiled
def _search(z_hat, S, S_inv, z, order, across, along, threshold, wraps):
    n, d = z_hat.shape
    order, starts, low, width = strips(S, z, order, across, threshold)
    place = order, z[order], starts, low, width
    offset = np.zeros(n + 1, np.int64)
    capacity = 2 * n + 16
    col, d2, nu = np.empty(capacity, np.int64), np.empty(capacity), np.empty((capacity, d))
    i = _fill(0, z_hat, S, S_inv, place, across, along, threshold, wraps, offset, col, d2, nu)
    while i < n:
        col, d2, nu = doubled(col), doubled(d2), doubled(nu)
        i = _fill(i, z_hat, S, S_inv, place, across, along, threshold, wraps, offset, col, d2, nu)
    e = offset[n]
    row = np.empty(e, np.int64)
    for i in range(n):
        row[offset[i] : offset[i + 1]] = i
    return offset, row, col[:e], d2[:e], nu[:e], len(z)


@compiled
def _fill(first, z_hat, S, S_inv, place, across, along, threshold, wraps, offset, col, d2, nu):
    """Pairs of the rows from `first` on: the first row for which there was no room, or their number.

    Arrays that grew in these loops would make the search three times as slow.
    """
    n, d = z_hat.shape
    order, z, starts, low, width = place
    residual = np.empty(d)
    for i in range(first, n):
        reach = np.sqrt(threshold * S[i, along, along]) if along >= 0 else np.inf
        begin = e = offset[i]
        for s in covered(z_hat[i], S[i], across, low, width, len(starts) - 1, threshold):
            k, end = starts[s], starts[s + 1]
            if along >= 0:
                k = first_not_below(z, along, k, end, z_hat[i, along] - reach)
            while k < end and (along < 0 or z[k, along] <= z_hat[i, along] + reach):
                for a in range(d):
                    residual[a] = z[k, a] - z_hat[i, a]
                    if wraps[a]:
                        residual[a] = np.pi - (np.pi - residual[a]) % (2 * np.pi)
                distance = 0.0
                for a in range(d):
                    for b in range(d):
                        distance += residual[a] * S_inv[i, a, b] * residual[b]
                if distance < threshold:
                    if e == len(col):
                        return i
                    at = e  # insertion sort by column
                    while at > begin and col[at - 1] > order[k]:
                        col[at], d2[at], nu[at] = col[at - 1], d2[at - 1], nu[at - 1]
                        at -= 1
                    col[at], d2[at], nu[at] = order[k], distance, residual
                    e += 1
                k += 1
        offset[i + 1] = e
    return n


@compiled
def strips(S, z, order, across, threshold):
    """The measurements by strip, in `order` within each: order, starts of the strips, low end and width."""
    m = len(z)
    if across < 0 or m == 0 or len(S) == 0:
        return order, np.array([0, m]), 0.0, np.inf
    low, high = z[:, across].min(), z[:, across].max()
    width = 2 * np.sqrt(threshold * np.median(S[:, across, across]))  # most gates lie in one strip or two
    count = int(min((high - low) / width + 1, m)) if width > 0 else m
    width = max(width, (high - low) / count)
    starts = np.zeros(count + 1, np.int64)
    strip = np.empty(m, np.int64)
    for j in range(m):
        strip[j] = _strip(z[j, across], low, width, count - 1)
        starts[strip[j] + 1] += 1
    starts = np.cumsum(starts)
    place, sorted_order = starts[:-1].copy(), np.empty(m, np.int64)
    for j in order:
        sorted_order[place[strip[j]]] = j
        place[strip[j]] += 1
    return sorted_order, starts, low, width


@compiled
def covered(z, S, across, low, width, count, threshold):
    """The strips that a gate around z (d_z,) of covariance S reaches into."""
    if across < 0:
        return range(count)
    reach = np.sqrt(threshold * S[across, across])
    first, last = (
        _strip(z[across] - reach, low, width, count - 1),
        _strip(z[across] + reach, low, width, count - 1),
    )
    return range(first, last + 1)


@compiled
def _strip(value, low, width, last):
    """Strip that a coordinate lies in, the outer ones reaching to infinity."""
    s = (value - low) / width if width > 0 else 0.0
    return last if s >= last else int(s) if s > 0 else 0  # NaN, of infinities: 0


@compiled
def first_not_below(z, axis, start, end, value):
    """First k in start .. end with z[k, axis] >= value, of rows sorted by it."""
    while start < end:
        middle = (start + end) // 2
        if z[middle, axis] < value:
            start = middle + 1
        else:
            end = middle
    return start
