"""Where tracks go: a bag, a scene in MCAP, CSV, or the results of KITTI and MOTChallenge, by the path."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from tracking.formats import bags, csv, foxglove, kitti, mot, vision
from tracking.formats.scans import LastSeen, TimedScan
from tracking.formats.source import Source
from tracking.tracks import Tracks


class Sink(Protocol):
    """What takes tracks scan by scan."""

    def write(self, tracks: Tracks, scan: TimedScan) -> None:
        """Take the tracks that were reported of a scan."""


@contextmanager
def open_sink(
    path, source: Source, names: Sequence[str] | None = None, storage: str = "sqlite3"
) -> Iterator[Sink]:
    """A file or folder of tracks, which appears complete or not at all when the block ends.

    Without a suffix it is a bag, with .mcap a scene, with .csv a table, and with .txt what the input was,
    KITTI or MOTChallenge.

    Args:
        path:    to write.
        source:  that is tracked.
        names:   of the entries of a state, for CSV; None: the usual ones.
        storage: of a bag, "sqlite3" or "mcap".
    Raises:
        ValueError: another suffix, or results of a benchmark from other input.
    """
    suffix = Path(path).suffix
    if suffix == ".csv":
        with csv.track_writer(path, names, covariance=True) as table:
            yield _Table(table)
    elif suffix == ".mcap":
        with foxglove.writer(path) as scene:
            yield _Drawn(scene)
    elif suffix == "":
        kind = vision.DETECTIONS_2D if source.image else vision.DETECTIONS_3D
        with bags.writer(path, kind=kind, storage=storage) as bag:
            yield _Drawn(bag)
    elif suffix == ".txt" and source.format in ("kitti", "mot"):
        results = _Results(source)
        yield results
        results.finish(path)
    else:
        text = (
            ", and .txt"
            if source.format in ("kitti", "mot")
            else "; .txt needs KITTI or MOTChallenge as input"
        )
        raise ValueError(
            f"{os.fspath(path)}: no known output; accepted are a new folder for a bag, .mcap, .csv{text}"
        )


class _Table:
    def __init__(self, table: csv.TrackWriter):
        self._table = table

    def write(self, tracks, scan):
        self._table.write(tracks)


class _Drawn:
    """A bag or a scene, whose objects keep class and size of their last detection."""

    def __init__(self, file: Any):
        self._file, self._seen = file, LastSeen()

    def write(self, tracks, scan):
        self._file.write(tracks, scan, self._seen.step(tracks, scan))


class _Results:
    """Tracks of a benchmark's sequence, whose rows are those of its detections."""

    def __init__(self, source: Source):
        self._source, self._tracks = source, list[Tracks]()

    def write(self, tracks, scan):
        self._tracks.append(tracks)

    def finish(self, path):
        detections = self._source.detections
        if self._source.format == "kitti":
            kitti.write_results(path, kitti.results(self._tracks, detections, max_coast=0))
        else:
            mot.write_results(path, mot.estimated(mot.results(self._tracks, detections, max_coast=0)))
