"""Labels over time for a tracker that answers anew at every scan: answers are linked to those of before."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

FAR = 1e6  # cost of a pair outside the gate
ROUNDING = 1e-6  # s
SAME = 1e3  # what it is worth that two answers rest on the same measurement


@dataclass(frozen=True)
class Links:
    """Answers that a label may go on from, one row each.

    label: (n,) int64.
    mean:  (n, 4) position and velocity, m and m/s.
    cov:   (n, 4, 4).
    token: (n,) number of the measurement that the answer rests on, counted from the first scan.
    time:  (n,) s, of the answer.
    next_label: the first label that is still free.
    """

    label: np.ndarray
    mean: np.ndarray
    cov: np.ndarray
    token: np.ndarray
    time: np.ndarray
    next_label: int

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        return self.label, self.mean, self.cov, self.token, self.time

    def take(self, rows) -> "Links":
        """Some of them."""
        label, mean, cov, token, time = (a[rows] for a in self.arrays)
        return Links(label, mean, cov, token, time, self.next_label)

    @classmethod
    def none(cls) -> "Links":
        """Nothing to go on from."""
        return cls(
            np.zeros(0, np.int64),
            np.zeros((0, 4)),
            np.zeros((0, 4, 4)),
            np.zeros(0, np.int64),
            np.zeros(0),
            0,
        )


def link(links: Links, mean, cov, token, time: float, gate: float, memory: float) -> tuple[np.ndarray, Links]:
    """Labels of new answers, and what the next ones may go on from.

    An old answer moves on with its velocity; pairs are those of least total squared Mahalanobis distance, one
    with the same measurement before any other.

    Args:
        links:  old answers.
        mean, cov, token: (k, 4), (k, 4, 4) and (k,) of the new ones.
        time:   of the new ones, s.
        gate:   squared Mahalanobis distance beyond which a label does not go on.
        memory: s for which a label without an answer is kept.
    """
    k = len(mean)
    label = np.full(k, -1, np.int64)
    links = links.take(time - links.time <= memory + ROUNDING)
    if k and len(links.label):
        cost = _costs(links, mean, cov, token, time, gate)
        old, new = linear_sum_assignment(cost)
        paired = cost[old, new] < FAR
        label[new[paired]] = links.label[old[paired]]
    fresh = np.flatnonzero(label < 0)
    label[fresh] = links.next_label + np.arange(len(fresh))
    waiting = links.take(~np.isin(links.label, label))
    new = (label, mean, cov, token, np.full(k, time))
    kept = [np.concatenate(pair) for pair in zip(waiting.arrays, new)]
    return label, Links(kept[0], kept[1], kept[2], kept[3], kept[4], links.next_label + len(fresh))


def _costs(links, mean, cov, token, time, gate):
    dt = (time - links.time)[:, None]
    expected = links.mean[:, :2] + dt * links.mean[:, 2:4]
    P = links.cov[:, :2, :2] + dt[..., None] ** 2 * links.cov[:, 2:4, 2:4]
    S = P[:, None] + cov[None, :, :2, :2]
    e = mean[None, :, :2] - expected[:, None]
    d2 = np.einsum("ijk,ijk->ij", e, np.linalg.solve(S, e[..., None])[..., 0])
    same = links.token[:, None] == token[None]
    return np.where(same, d2 - SAME, np.where(d2 < gate, d2, FAR))
