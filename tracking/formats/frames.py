"""Sequences that number their frames: which frames there are, and the time of each."""

from dataclasses import dataclass

import numpy as np

from tracking.checks import require_positive
from tracking.formats.files import MAX_SCANS, Row


@dataclass(frozen=True)
class Frames:
    """The frames of a sequence; each is a scan, whether or not it has rows.

    rate:  Hz; the first frame has time 0.
    first: number of the first frame.
    count: number of frames; None: up to the last one that has a row.
    """

    rate: float
    first: int
    count: int | None

    def __post_init__(self):
        require_positive(frame_rate=self.rate)
        if self.count is not None and not 0 <= self.count <= MAX_SCANS:
            raise ValueError(f"n_frames must be a whole number from 0 to {MAX_SCANS}, got {self.count}")

    def scan(self, row: Row) -> int:
        """Index of the scan of a row, whose first column is the frame number."""
        count = MAX_SCANS if self.count is None else self.count
        if count == 0:
            raise row.error("a row", "accepted is none: n_frames is 0")
        return row.integer(0, "frame", self.first, self.first + count - 1) - self.first

    def times(self, scan: np.ndarray) -> np.ndarray:
        """Times (T,) s of all frames, given the scans (N,) that have rows."""
        count = int(scan.max(initial=-1)) + 1 if self.count is None else self.count
        return np.arange(count) / self.rate
