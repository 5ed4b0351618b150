"""A recorded sequence of timed detections: the one shape that all readers return.

A recording is a list of scans. A scan without detections is a scan like any other: that nothing was seen is
information for a tracker, so it is kept and handed out with zero rows.

    for time, z in recording:
        tracks = tracker.step(z, time)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from tracking.tracks import Trajectories

MAX_STATES = 100_000_000  # numbers in one table of trajectories, 0.8 GB


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections of T scans, N in all, in flat arrays sorted by time.

    time:    (T,) s, strictly increasing.
    offsets: (T + 1,) int64; scan k owns the rows offsets[k]:offsets[k + 1].
    z:       (N, d) measurements.
    names:   the d coordinates of z, for example ("x", "y").
    score:   (N,) confidence of the detector in its own unit, or None if it gives none.
    extra:   what else is known of each detection, arrays of N rows by name: "id" (int64, -1: unknown),
             "class", "box" (xyxy, px), "size", "heading", ..., and "line", its line in the file.
    """

    time: np.ndarray
    offsets: np.ndarray
    z: np.ndarray
    names: tuple[str, ...]
    score: np.ndarray | None = None
    extra: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self):
        n = len(self.z)
        if not (np.isfinite(self.time).all() and (np.diff(self.time) > 0).all()):
            raise ValueError("time must be finite and strictly increasing. Give equal times one scan.")
        sizes = np.diff(self.offsets)
        if len(sizes) != len(self.time) or self.offsets[0] != 0 or self.offsets[-1] != n or (sizes < 0).any():
            raise ValueError(
                f"offsets must rise from 0 to {n}, the number of rows of z, in {len(self.time) + 1} entries, "
                f"one more than scans, got {len(self.offsets)} entries"
            )
        if self.z.ndim != 2 or self.z.shape[1] != len(self.names):
            raise ValueError(f"z must have shape (N, {len(self.names)}), as {self.names}, got {self.z.shape}")
        for name, column in {"score": self.score, **self.extra}.items():
            if column is not None and len(column) != n:
                raise ValueError(f"{name} must have {n} rows, as z has, got {len(column)}")
        if "id" in self.extra and self.extra["id"].dtype.kind != "i":
            raise ValueError(f"id must be int64, -1 for none, got {self.extra['id'].dtype}")

    @classmethod
    def from_rows(cls, time, scan, z, names, score=None, extra=None) -> "Detections":
        """Detections in any order, each with the index of its scan.

        Args:
            time:  (T,) s of the scans, those without detections included.
            scan:  (N,) index of each row's scan. Rows of a scan keep their order.
            z, names, score, extra: as the fields, rows in the order of `scan`.
        """
        time, scan = np.asarray(time, float), np.asarray(scan, np.int64)
        if len(scan) and not (scan.min() >= 0 and scan.max() < len(time)):
            raise ValueError(f"scan must lie in 0..{len(time) - 1}, got {scan.min()}..{scan.max()}")
        for name, column in {"z": z, "score": score, **(extra or {})}.items():
            if column is not None and len(column) != len(scan):
                raise ValueError(f"{name} must have {len(scan)} rows, as scan has, got {len(column)}")
        order = np.argsort(scan, kind="stable")
        offsets = np.searchsorted(scan[order], np.arange(len(time) + 1))
        z = np.asarray(z, float).reshape(len(scan), -1 if len(scan) else len(names))
        score = None if score is None else np.asarray(score, float)[order]
        extra = {name: np.asarray(column)[order] for name, column in (extra or {}).items()}
        return cls(time, offsets, z[order], tuple(names), score, extra)

    def __len__(self) -> int:
        """Number of scans T."""
        return len(self.time)

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        """The scans in turn: time in s and z (m, d)."""
        for k, time in enumerate(self.time.tolist()):
            yield time, self.z[self.rows(k)]

    @property
    def scan(self) -> np.ndarray:
        """Index of each row's scan, (N,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def rows(self, k: int) -> slice:
        """The rows of scan k, to cut any of the arrays with."""
        return slice(int(self.offsets[k]), int(self.offsets[k + 1]))

    def select(self, keep) -> "Detections":
        """The rows where `keep` (N,) bool holds; all scans stay, emptied ones too."""
        keep = np.asarray(keep)
        if keep.shape != (len(self.z),) or keep.dtype != bool:
            raise ValueError(
                f"keep must be a bool for each of the {len(self.z)} rows, got {keep.dtype} {keep.shape}"
            )
        offsets = np.concatenate(([0], np.cumsum(keep)))[self.offsets]
        score = None if self.score is None else self.score[keep]
        extra = {name: column[keep] for name, column in self.extra.items()}
        return replace(self, offsets=offsets, z=self.z[keep], score=score, extra=extra)

    def trajectories(self) -> Trajectories:
        """Truth from the rows with an id >= 0: states z of each id over the scans, NaN where it has no row.

        An id with several rows in a scan counts with the one nearest in time, if the rows have times of their
        own (extra "time"; scans that collect a period do).

        Raises:
            ValueError: no ids, an id twice in a scan, or more than MAX_STATES numbers.
        """
        if "id" not in self.extra:
            raise ValueError(f"trajectories need ids: extra['id'], got only {sorted(self.extra)}")
        rows = np.flatnonzero(self.extra["id"] >= 0)
        scan = self.scan[rows]
        if "time" in self.extra:
            away = np.abs(self.extra["time"][rows] - self.time[scan])
            farthest_first = np.argsort(-away, kind="stable")
            rows, scan = rows[farthest_first], scan[farthest_first]
        label, i = np.unique(self.extra["id"][rows], return_inverse=True)
        self._check_truth(label, i, scan)
        states = np.full((len(label), len(self), len(self.names)), np.nan)
        states[i, scan] = self.z[rows]  # of equal indices the last one stays
        return Trajectories(self.time, label.astype(np.int64), states)

    def _check_truth(self, label, i, scan):
        numbers = len(label) * len(self) * len(self.names)
        if numbers > MAX_STATES:
            raise ValueError(
                f"{len(label)} ids over {len(self)} scans make {numbers} numbers, accepted are {MAX_STATES}. "
                "Collect rows in longer scans (scan_period), or select fewer."
            )
        pair, count = np.unique(scan * max(len(label), 1) + i, return_counts=True)
        if "time" not in self.extra and (count > 1).any():
            k, j = divmod(int(pair[count > 1][0]), len(label))
            raise ValueError(f"id {label[j]} has {count.max()} rows in scan {k}, accepted is one")
