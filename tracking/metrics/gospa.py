"""GOSPA: the distance between two sets of points, and what of it is position error, misses and false ones.

    gospa(truth, tracks.mean[:, :2], c=10.0, p=2.0)

Of many runs report the root mean square of `total` for p = 2, and the mean for p = 1; then the mean parts
add up to the mean of the total at power p.

Source: Rahmathullah, Garcia-Fernandez, Svensson (FUSION 2017).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tracking.metrics.matching import match_points
from tracking.metrics.sets import as_cutoff, as_point_sets


class Gospa(NamedTuple):
    """A GOSPA distance and its parts.

    total is the distance, in the unit of the points. localisation, missed and false are at power p and add
    up to total_p = total ** p; they are NaN for alpha != 2, where the distance has no such parts.
    truth_index and estimate_index (k,) are the assigned pairs, all closer than the cut-off.
    """

    total: float
    localisation: float
    missed: float
    false: float
    truth_index: np.ndarray
    estimate_index: np.ndarray
    total_p: float


def gospa(
    truth: ArrayLike, estimate: ArrayLike, c: float = 10.0, p: float = 2.0, alpha: float = 2.0
) -> Gospa:
    """GOSPA distance between two point sets, split into its parts.

    Args:
        truth:    (n, d) true positions, m (or full states; every entry counts alike).
        estimate: (m, d) estimated positions, m.
        c:        cut-off distance, m: a pair at c or farther counts as one miss plus one false estimate.
        p:        order >= 1; a larger one punishes outliers more.
        alpha:    in (0, 2]; 2 is the metric to use, others weigh the difference in number by c^p / alpha.
    Returns:
        Gospa(total, localisation, missed, false, truth_index, estimate_index, total_p).
    Raises:
        ValueError: the sets differ in d or are not finite, or c, p, alpha are out of range.
    Source: Rahmathullah, Garcia-Fernandez, Svensson (FUSION 2017), Definition 1; for alpha = 2, Prop. 1.
    """
    c, p = as_cutoff(c, p)
    if not 0 < alpha <= 2:
        raise ValueError(f"alpha must be in (0, 2], got {alpha}; 2 splits into missed and false")
    x, y = as_point_sets(truth, estimate)
    rows, cols, d = match_points(x, y, c, p)
    n, m, k = len(x), len(y), len(rows)
    localisation = float((d**p).sum())
    if alpha != 2:
        saturated = c**p * (min(n, m) - k)
        total_p = localisation + saturated + c**p / alpha * abs(n - m)
        return Gospa(total_p ** (1 / p), np.nan, np.nan, np.nan, rows, cols, total_p)
    missed, false = c**p / 2 * (n - k), c**p / 2 * (m - k)
    total_p = localisation + missed + false
    return Gospa(total_p ** (1 / p), localisation, missed, false, rows, cols, total_p)
