"""What every tracker returns: `Tracks` of one scan, and `Trajectories` of many."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Tracks:
    """Estimated objects at one time, one row an object.

    time:      s.
    label:     (n,) int64, the same number for the same object over time.
    mean:      (n, d) state estimates, position first.
    cov:       (n, d, d) their covariances.
    existence: (n,) probability that the object exists, in [0, 1].
    source:    (n,) int64 row of z that the estimate was last updated with in this scan, -1 if none.
    modes:     (n, k) probability of each motion model of an `IMM`, None with a single one.
    """

    time: float
    label: np.ndarray
    mean: np.ndarray
    cov: np.ndarray
    existence: np.ndarray
    source: np.ndarray
    modes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: np.ndarray) -> "Tracks":
        """Some of the tracks, in the order of `rows`."""
        arrays = (self.label, self.mean, self.cov, self.existence, self.source)
        label, mean, cov, existence, source = (array[rows] for array in arrays)
        modes = None if self.modes is None else self.modes[rows]
        return Tracks(self.time, label, mean, cov, existence, source, modes)

    @classmethod
    def empty(cls, time: float, dim: int) -> "Tracks":
        """No objects, in a state space of `dim` entries."""
        none = np.zeros(0, np.int64)
        return cls(time, none, np.zeros((0, dim)), np.zeros((0, dim, dim)), np.zeros(0), none.copy())


@dataclass(frozen=True)
class Trajectories:
    """States of objects over time, NaN where an object does not exist.

    time:   (T,) s.
    label:  (n,) int64.
    states: (n, T, d).
    """

    time: np.ndarray
    label: np.ndarray
    states: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def from_tracks(cls, scans: Sequence[Tracks]) -> "Trajectories":
        """Join the tracks of successive scans by label."""
        label = np.unique(np.concatenate([t.label for t in scans] or [np.zeros(0, np.int64)]))
        dim = scans[0].mean.shape[1] if scans else 0
        states = np.full((len(label), len(scans), dim), np.nan)
        for k, tracks in enumerate(scans):
            states[np.searchsorted(label, tracks.label), k] = tracks.mean
        return cls(np.array([t.time for t in scans], float), label, states)

    def at(self, k: int) -> np.ndarray:
        """States (n_k, d) of the objects that exist at scan k."""
        states = self.states[:, k]
        return states[~np.isnan(states).any(axis=1)]
