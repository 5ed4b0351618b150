"""A tracker over a recording: one scan after the other, online, with the time that each takes."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tracking.confidence import Confidence
from tracking.formats.scans import TimedScan
from tracking.tracks import Tracks


class Followed(NamedTuple):
    """A scan, what the tracker reported of it, and the CPU time that this took, s."""

    scan: TimedScan
    tracks: Tracks
    cpu: float


def follow(
    tracker: Any,
    scans: Iterable[TimedScan],
    ratio: Callable[[TimedScan], np.ndarray | None] | None = None,
    sure: Confidence | None = None,
) -> Iterator[Followed]:
    """What a tracker reports of scan after scan; nothing is decided with later ones.

    Args:
        tracker: with a method `step`; of `clutter_ratio` it needs to know only where scores say something.
        scans:   in order of time.
        ratio:   gives what the scores of a scan say, `clutter_ratio` of `step`; None: nothing.
        sure:    passes on the tracks that their scores make likely; None: all.
    Raises:
        ValueError: as the tracker's own `step`.
    """
    for scan in scans:
        said = None if ratio is None else ratio(scan)
        evidence = {} if said is None else {"clutter_ratio": said}
        start = time.process_time()
        tracks = tracker.step(scan.z, scan.time, **evidence)
        if sure is not None and scan.score is not None:
            tracks = sure.step(tracks, scan.score, np.linalg.norm(scan.z, axis=1))
        yield Followed(scan, tracks, time.process_time() - start)
