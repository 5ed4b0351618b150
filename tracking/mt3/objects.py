"""From what tokens say to objects: probabilities of tokens of one object add up.

"This is the last measurement of a live object" is said by each token of itself, so for the tokens of one
object these are disjoint events.
"""

from typing import NamedTuple

import numpy as np

from tracking.compiled import compiled

FULL = 1.05  # probability up to which an object takes in tokens: two that are sure are two objects


class Objects(NamedTuple):
    """Objects at the last scan of a window: mean (k, d), cov (k, d, d), existence (k,), token (k,)."""

    mean: np.ndarray
    cov: np.ndarray
    existence: np.ndarray
    token: np.ndarray

    def above(self, threshold: float) -> "Objects":
        """Those of at least so much existence probability."""
        keep = self.existence >= threshold
        return Objects(*(a[keep] for a in self))


@compiled
def _merge(p, mean, std, radius, least):
    n, d = mean.shape
    order = np.argsort(-p)
    taken = np.zeros(n, np.bool_)
    out_mean, out_cov = np.zeros((n, d)), np.zeros((n, d, d))
    existence, token = np.zeros(n), np.zeros(n, np.int64)
    members = np.empty(n, np.int64)
    k = 0
    for a in range(n):
        i = order[a]
        if taken[i]:
            continue
        if p[i] <= least:
            break
        total, count = 0.0, 0
        for b in range(a, n):
            j = order[b]
            if p[j] <= least:
                break
            far = (mean[i, 0] - mean[j, 0]) ** 2 + (mean[i, 1] - mean[j, 1]) ** 2
            if not taken[j] and (j == i or (far < radius**2 and total + p[j] <= FULL)):
                taken[j] = True
                members[count] = j
                count += 1
                total += p[j]
        for c in range(count):
            j = members[c]
            for x in range(d):
                out_mean[k, x] += p[j] / total * mean[j, x]
        for c in range(count):
            j = members[c]
            for x in range(d):
                out_cov[k, x, x] += p[j] / total * std[j, x] ** 2
                for y in range(d):
                    spread = (mean[j, x] - out_mean[k, x]) * (mean[j, y] - out_mean[k, y])
                    out_cov[k, x, y] += p[j] / total * spread
        existence[k], token[k] = min(total, 1.0), i
        k += 1
    return out_mean[:k], out_cov[:k], existence[:k], token[:k]


def merged(p: np.ndarray, mean: np.ndarray, std: np.ndarray, radius: float, least: float = 0.01) -> Objects:
    """Objects from what the tokens of one window say, the likeliest first.

    Args:
        p:      (n,) probability of being the last measurement of a live object.
        mean:   (n, d) state of that object.
        std:    (n, d) its standard deviations.
        radius: m, within which answers are of one object; 0: none are.
        least:  probability from which an answer counts.
    Returns:
        Moments of the members of each object; `token` is the row of the likeliest one.
    """
    arrays = (np.ascontiguousarray(a, float) for a in (p, mean, std))
    return Objects(*_merge(*arrays, float(radius), float(least)))
