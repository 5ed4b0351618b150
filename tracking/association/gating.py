"""Gating: which measurements can come from which predicted Gaussians, without a dense table.

The measurements are sorted along one axis once a scan; each Gaussian looks only at those inside its own
window on that axis, so the cost grows with the number of pairs, not with tracks x measurements.
"""

from typing import NamedTuple

import numpy as np

from tracking.compiled import compiled


class Pairs(NamedTuple):
    """Gated pairs in compressed rows: Gaussian i pairs with measurements col[offset[i]:offset[i + 1]].

    offset (n + 1,) int64; row (e,) and col (e,) int64; d2 (e,) squared Mahalanobis distance;
    nu (e, d_z) residual z - z_hat.
    """

    offset: np.ndarray
    row: np.ndarray
    col: np.ndarray
    d2: np.ndarray
    nu: np.ndarray


def gate(innovation, z: np.ndarray, threshold: float, angles: tuple[int, ...] = ()) -> Pairs:
    """Pairs with squared Mahalanobis distance below `threshold`, by row, then by column.

    Args:
        innovation: predicted measurements of n Gaussians (`tracking.gaussian.Innovation`).
        z:          (m, d_z) measurements.
        threshold:  squared Mahalanobis distance, for example 20 (chi-square, 2 degrees: 0.99995).
        angles:     components that wrap at +-pi.
    """
    wraps = np.zeros(z.shape[1], np.bool_)
    wraps[list(angles)] = True
    axis = int(np.argmin(wraps))  # the first that does not wrap, if there is one
    order = np.argsort(z[:, axis], kind="stable")
    reach = np.sqrt(threshold * innovation.S[:, axis, axis])
    if wraps[axis]:
        reach[:] = np.inf
    low = np.searchsorted(z[order, axis], innovation.z_hat[:, axis] - reach)
    high = np.searchsorted(z[order, axis], innovation.z_hat[:, axis] + reach, side="right")
    offset, col, d2, nu = _scan(
        innovation.z_hat, innovation.S_inv, z, order, low, high, float(threshold), wraps
    )
    return Pairs(offset, np.repeat(np.arange(len(offset) - 1), np.diff(offset)), col, d2, nu)


@compiled
def _scan(z_hat, S_inv, z, order, low, high, threshold, wraps):
    n, d = z_hat.shape
    offset = np.zeros(n + 1, np.int64)
    capacity = 4 * n + 16
    col, d2, nu = np.empty(capacity, np.int64), np.empty(capacity), np.empty((capacity, d))
    e = 0
    residual = np.empty(d)
    for i in range(n):
        start = e
        for k in range(low[i], high[i]):
            j = order[k]
            for a in range(d):
                residual[a] = z[j, a] - z_hat[i, a]
                if wraps[a]:
                    residual[a] = np.pi - (np.pi - residual[a]) % (2 * np.pi)
            distance = 0.0
            for a in range(d):
                for b in range(d):
                    distance += residual[a] * S_inv[i, a, b] * residual[b]
            if distance < threshold:
                if e == len(col):
                    col, d2, nu = _longer(col), _longer(d2), _longer(nu)
                col[e], d2[e], nu[e] = j, distance, residual
                e += 1
        by_column = np.argsort(col[start:e])
        col[start:e], d2[start:e], nu[start:e] = (
            col[start:e][by_column],
            d2[start:e][by_column],
            nu[start:e][by_column],
        )
        offset[i + 1] = e
    return offset, col[:e], d2[:e], nu[:e]


@compiled
def _longer(a):
    longer = np.empty((2 * a.shape[0], *a.shape[1:]), a.dtype)
    longer[: a.shape[0]] = a
    return longer
