"""Timed scans one at a time: what bags, MCAP files and messages give, and files too when they are replayed.

A scan knows its frame, scores, classes and boxes, so that what is reported of its objects can be written
back. Nothing here holds more than a window of a recording.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tracking.checks import require_positive
from tracking.formats.detections import Detections
from tracking.tracks import Tracks

MAX_WAITING = 10_000  # scans that wait for earlier ones
NANO = 1_000_000_000
LARGEST_STAMP = 2**31 * NANO  # ns; seconds are 32 bits in a message


@dataclass(frozen=True, eq=False)
class TimedScan:
    """The detections of one sensor at one time.

    time:  s.
    z:     (m, d) measurements.
    names: the d coordinates of z, for example ("x", "y").
    score: (m,) confidence of the detector, NaN where it gives none, or None.
    cov:   (m, d, d) covariances of z as the detector states them, or None.
    frame: name of the coordinate frame, "" if unknown.
    stamp: ns, the time of the message exactly; None: only `time` is known.
    extra: arrays of m rows by name: "class" (text), "position" (m, 3), "size" (m, 3) m, 0 where unknown,
           "orientation" (m, 4) x, y, z, w, and what a file knows.
    """

    time: float
    z: np.ndarray
    names: tuple[str, ...]
    score: np.ndarray | None = None
    cov: np.ndarray | None = None
    frame: str = ""
    stamp: int | None = None
    extra: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """Number of detections m."""
        return len(self.z)

    def select(self, keep: np.ndarray) -> "TimedScan":
        """The detections where `keep` (m,) bool holds."""
        cut = {name: column[keep] for name, column in self.extra.items()}
        score = None if self.score is None else self.score[keep]
        cov = None if self.cov is None else self.cov[keep]
        return TimedScan(self.time, self.z[keep], self.names, score, cov, self.frame, self.stamp, cut)


def scans_of(detections: Detections) -> Iterator[TimedScan]:
    """The scans of a recording that was read as a whole, in turn."""
    for k, (time, z) in enumerate(detections):
        rows = detections.rows(k)
        score = None if detections.score is None else detections.score[rows]
        extra = {name: column[rows] for name, column in detections.extra.items()}
        yield TimedScan(time, z, detections.names, score, extra=extra)


def in_order(scans: Iterable[TimedScan], window: float = 1.0) -> Iterator[TimedScan]:
    """Scans by time, from ones that come up to `window` seconds out of order.

    Bags are in the order in which messages were received; what they say was measured at another time.

    Args:
        scans:  in any order within the window.
        window: s that a scan may be older than the newest one before it.
    Raises:
        ValueError: a scan came later than that, or more than MAX_WAITING scans lie in the window.
    """
    require_positive(reorder=window)
    waiting: list[tuple[float, int, TimedScan]] = []
    newest = given = -np.inf
    for number, scan in enumerate(scans):
        if scan.time < given:
            raise ValueError(
                f"scan {number} is of {scan.time:.9f} s and came after that of {given:.9f} s was passed on; "
                f"accepted are scans up to {window:g} s out of order. Set reorder to more seconds."
            )
        newest = max(newest, scan.time)
        heapq.heappush(waiting, (scan.time, number, scan))
        if len(waiting) > MAX_WAITING:
            raise ValueError(
                f"{len(waiting)} scans within {window:g} s; accepted are {MAX_WAITING}. "
                "Set reorder to fewer seconds."
            )
        while waiting[0][0] < newest - window:
            given, _, first = heapq.heappop(waiting)
            yield first
    while waiting:
        yield heapq.heappop(waiting)[2]


class Attributes(NamedTuple):
    """What only a detection knows of an object.

    cls: its class, "" if unknown; size: (3,) m, 0 where unknown; orientation: (4,) x, y, z, w; position: (3,)
    of the detection, m, whose coordinates stand in for those that a state does not have.
    """

    cls: str = ""
    size: tuple[float, ...] = (0.0, 0.0, 0.0)
    orientation: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0)
    position: tuple[float, ...] = (0.0, 0.0, 0.0)


class LastSeen:
    """Remembers for every label the detection that it was last updated with.

    Args:
        memory: s after which a label that is no longer reported is forgotten.
    """

    def __init__(self, memory: float = 60.0):
        require_positive(memory=memory)
        self.memory = memory
        self._of: dict[int, tuple[float, Attributes]] = {}  # label -> time of its last report, attributes

    def step(self, tracks: Tracks, scan: TimedScan) -> list[Attributes]:
        """Attributes of each of the tracks that were reported of a scan.

        Raises:
            ValueError: a source is no detection of the scan.
        """
        if tracks.source.max(initial=-1) >= len(scan):
            raise ValueError(
                f"tracks have source {tracks.source.max()}, their scan has {len(scan)} detections. "
                "Give the scan that the tracker was given."
            )
        for label in [a for a, (seen, _) in self._of.items() if tracks.time - seen > self.memory]:
            del self._of[label]
        found = []
        for label, source in zip(tracks.label.tolist(), tracks.source.tolist()):
            attributes = self._of[label][1] if label in self._of else Attributes()
            if source >= 0:
                attributes = _attributes(scan, source)
            self._of[label] = (tracks.time, attributes)
            found.append(attributes)
        return found


def _attributes(scan, row) -> Attributes:
    values = {}
    for name in ("size", "orientation", "position"):
        if name in scan.extra:
            values[name] = tuple(scan.extra[name][row].tolist())
    return Attributes(cls=str(scan.extra["class"][row]) if "class" in scan.extra else "", **values)


def nanoseconds(scan: TimedScan) -> int:
    """The time of a scan in whole ns: that of its message, or the nearest to `time`.

    Raises:
        ValueError: it is negative or too late for a message.
    """
    stamp = round(scan.time * NANO) if scan.stamp is None else scan.stamp
    if not 0 <= stamp < LARGEST_STAMP:
        raise ValueError(
            f"a time of {scan.time:g} s cannot be the stamp of a message; accepted are 0 s up to 2^31 s"
        )
    return stamp


def picked(available: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where the wanted coordinates are among the available ones.

    Raises:
        ValueError: one is not there, or comes twice, or there is none.
    """
    if not wanted or len(set(wanted)) != len(wanted) or not set(wanted) <= set(available):
        raise ValueError(f"coordinates must be different ones of {', '.join(available)}, got {list(wanted)}")
    return [list(available).index(name) for name in wanted]
