"""Plain CSV of timed detections, and of tracks.

Detections have a header and a row each; times are seconds, in any order:

    time,x,y[,z ...][,score][,id]
    0.0,12.5,-3.1,0.9,7
    0.4,,,,

All columns but time, score and id are coordinates of the measurement, unless they are named with `Columns`;
then the others are left alone. Rows of equal time are a scan, or all rows of a `scan_period`. A row with a
time and nothing else is a scan in which nothing was detected. An id is the object a row truly belongs to, a
whole number; blank or -1 means none or unknown: `read_detections(path).trajectories()` is the truth.

Tracks have a header and a row for each track and scan; a row with a time only is a scan without tracks:

    time,label,x,y,vx,vy,existence,source[,P_x_x,P_x_y,...]

Numbers are written so that reading gives them back bit for bit.

Two public recordings become such files with `tracking.formats.convert`, and others in as few lines. AIS,
`Time,MMSI,Latitude_degrees,Longitude_degrees,...`, in metres of a local tangent plane:

    east, north, _ = tangent_plane(latitude_deg, longitude_deg)
    time, scan = np.unique(seconds, return_inverse=True)
    write_detections("ais.csv", Detections.from_rows(
        time, scan, np.column_stack((east, north)), ("x", "y"), extra={"id": mmsi}))

Pedestrians, `frame id x y` in metres at 25 frames a second, of which every tenth is annotated (2.5 Hz):

    x, y = np.loadtxt("biwi_eth.txt", usecols=(2, 3)).T
    frame, label = np.loadtxt("biwi_eth.txt", usecols=(0, 1)).T.astype(int)
    scan = (frame - frame[0]) // 10
    write_detections("eth.csv", Detections.from_rows(
        np.arange(scan.max() + 1) * 0.4, scan, np.column_stack((x, y)), ("x", "y"), extra={"id": label}))
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

import numpy as np

from tracking.checks import require_probability
from tracking.formats.detections import Detections
from tracking.formats.files import LARGEST_INTEGER, atomic_write
from tracking.formats.results import require_ids
from tracking.formats.table import (
    Columns,
    find,
    open_table,
    read_table,
    write_header,
    write_rows,
    write_table,
    written,
)
from tracking.tracks import Tracks

STATES = {  # names of the entries of a state, by their number
    1: ("x",),
    2: ("x", "y"),
    3: ("x", "y", "z"),
    4: ("x", "y", "vx", "vy"),
    5: ("x", "y", "vx", "vy", "omega"),
}


def read_detections(path, columns: Columns | None = None, scan_period: float | None = None) -> Detections:
    """Timed detections, sorted by time.

    Args:
        path:        comma-separated file with a header.
        columns:     names of its columns; None: time, score, id, and all others are coordinates.
        scan_period: None: rows of equal time are a scan. Else, in s: scan k collects the rows nearest to
                     the time k * scan_period after the first row, which is its time; scans without rows
                     stay. Several rows of one object may then be in a scan.
    Returns:
        extra "time" (N,), the time of each row, "line", and "id" if there is such a column.
    Raises:
        ValueError: `path:line: what came; what is accepted`.
    """
    header, rows = open_table(path, "time,x,y,score,id")
    return read_table(path, rows, find(header, columns or Columns()), scan_period)


def write_detections(path, detections: Detections) -> None:
    """Write time, coordinates, score and id where there are any; no other extra columns.

    Raises:
        ValueError: a name of a coordinate that cannot be a column, or a value that is not finite.
    """
    taken = {"time", "score", "id"} & set(detections.names)
    if taken:
        raise ValueError(f"coordinates must not be named {', '.join(sorted(taken))}, got {detections.names}")
    header = ["time", *detections.names]
    columns = [written(column) for column in detections.z.T]
    if detections.score is not None:
        header.append("score")
        columns.append(written(detections.score))
    if "id" in detections.extra:
        header.append("id")
        columns.append([str(i) if i >= 0 else "" for i in detections.extra["id"].tolist()])
    write_table(path, header, detections, columns)


def write_tracks(
    path, scans: Sequence[Tracks], names: Sequence[str] | None = None, covariance: bool = False
) -> None:
    """Write what a tracker reported.

    Args:
        path:       file to write, as a whole or not at all.
        scans:      one for each time, in order, all of one state space.
        names:      of the d entries of a state; None: those of STATES, or s0, s1, ... for other states.
        covariance: also write the d * d entries of the covariances.
    Raises:
        ValueError: times that do not increase, another d, a label negative or twice in a scan, an existence
                    outside [0, 1], a value that is not finite, or names that cannot be columns.
    """
    d = scans[0].mean.shape[1] if scans else len(names or STATES[4])
    names = _state_names(names, d)
    flat = _flat(scans, names)
    write_table(path, _track_header(names, covariance), flat, _track_columns(flat, covariance))


class TrackWriter:
    """Writes tracks scan by scan, as `with track_writer(path) as out: out.write(tracks)`."""

    def __init__(self, file: IO[str], names: Sequence[str] | None, covariance: bool):
        self._file, self._names, self._covariance = file, names, covariance
        self._time = -np.inf
        self._started = False

    def write(self, tracks: Tracks) -> None:
        """Write what was reported of one scan.

        Raises:
            ValueError: as `write_tracks`.
        """
        if not self._started:
            self.start(tracks.mean.shape[1])
        if not tracks.time > self._time:
            raise ValueError(f"time must be strictly increasing, got {tracks.time} s after {self._time} s")
        flat = _flat([tracks], self._names)
        write_rows(self._file, self._header, flat, _track_columns(flat, self._covariance))
        self._time = tracks.time

    def start(self, d: int) -> None:
        """Write the header for states of d entries."""
        self._names = _state_names(self._names, d)
        self._header = _track_header(self._names, self._covariance)
        write_header(self._file, self._header)
        self._started = True

    def finish(self) -> None:
        """Write the header, if nothing was written."""
        if not self._started:
            self.start(len(self._names or STATES[4]))


@contextmanager
def track_writer(path, names: Sequence[str] | None = None, covariance: bool = False) -> Iterator[TrackWriter]:
    """A file of tracks that is written scan by scan, and appears complete or not at all.

    Args: as of `write_tracks`.
    """
    with atomic_write(path) as file:
        out = TrackWriter(file, names, covariance)
        yield out
        out.finish()


def read_tracks(path) -> list[Tracks]:
    """What `write_tracks` wrote, scan by scan.

    Without its columns the covariance is NaN; without a column "source" that is -1.

    Raises:
        ValueError: `path:line: what came; what is accepted`.
    """
    header, rows = open_table(path, "time,label,x,y,vx,vy,existence,source")
    fields = header.fields
    end = fields.index("existence") if "existence" in fields else len(fields)
    names, more = fields[2:end], fields[end + 1 :]
    source = [name for name in more[:1] if name == "source"]
    entries = _entries(names) if len(more) - len(source) == len(names) ** 2 else []
    accepted = ["time", "label", *names, "existence", *source, *entries]
    if not names or fields != accepted:
        raise header.error(f"columns {','.join(fields)}", f"accepted are {','.join(accepted)}")
    columns = Columns(coordinates=(*names, *source, *entries), score="existence", id="label")
    flat = read_table(path, rows, find(header, columns))
    return _as_tracks(path, flat, len(names), len(source))


def _state_names(names, d) -> list[str]:
    names = list(names or STATES.get(d) or [f"s{i}" for i in range(d)])
    if len(names) != d:
        raise ValueError(f"names must be {d}, one for each entry of the state, got {names}")
    return names


def _track_header(names, covariance):
    return ["time", "label", *names, "existence", "source", *(_entries(names) if covariance else [])]


def _track_columns(flat, covariance):
    """Cells of the rows of tracks, column by column, from the label on."""
    columns = [[str(i) for i in require_ids(flat, LARGEST_INTEGER).tolist()]]
    columns += [written(column) for column in (*flat.z.T, flat.score)]
    columns += [[str(j) for j in flat.extra["source"].tolist()]]
    if covariance:
        columns += [written(column) for column in flat.extra["cov"].reshape(-1, flat.z.shape[1] ** 2).T]
    return columns


def _entries(names):
    return [f"P_{a}_{b}" for a in names for b in names]


def _flat(scans, names) -> Detections:
    """Tracks of all scans as rows: the mean is z, existence the score, the rest extra."""
    d = len(names)
    for k, tracks in enumerate(scans):
        n = len(tracks)
        require_probability(existence=tracks.existence)
        if tracks.mean.shape != (n, d) or tracks.cov.shape != (n, d, d):
            raise ValueError(
                f"scans[{k}] must have mean ({n}, {d}) and cov ({n}, {d}, {d}), as it has {n} labels and the "
                f"first scan {d} entries, got {tracks.mean.shape} and {tracks.cov.shape}"
            )

    def joined(name, none):
        return np.concatenate([none, *(getattr(tracks, name) for tracks in scans)])

    none = np.zeros(0, np.int64)
    return Detections.from_rows(
        time=[tracks.time for tracks in scans],
        scan=np.repeat(np.arange(len(scans)), [len(tracks) for tracks in scans]),
        z=joined("mean", np.zeros((0, d))),
        names=names,
        score=joined("existence", np.zeros(0)),
        extra={
            "id": joined("label", none),
            "source": joined("source", none),
            "cov": joined("cov", np.zeros((0, d, d))),
        },
    )


def _as_tracks(path, flat, d, has_source) -> list[Tracks]:
    """Tracks of all scans from rows whose z is the mean, then the source, then the covariance."""
    label, existence = flat.extra["id"], flat.score
    source = flat.z[:, d] if has_source else np.full(len(label), -1.0)
    for name, column, good, accepted in (
        ("label", label, label >= 0, "whole numbers >= 0"),
        ("existence", existence, (existence >= 0) & (existence <= 1), "probabilities in [0, 1]"),
        ("source", source, (source >= -1) & (source % 1 == 0) & (source < 2**53), "whole numbers >= -1"),
    ):
        if not good.all():
            i = int(np.argmin(good))
            raise ValueError(
                f"{os.fspath(path)}:{flat.extra['line'][i]}: {name} is {column[i]}; accepted are {accepted}"
            )
    cov = flat.z[:, d + has_source :]
    cov = cov if cov.shape[1] else np.full((len(label), d * d), np.nan)
    cov, source = cov.reshape(-1, d, d), source.astype(np.int64)
    slices = map(flat.rows, range(len(flat)))
    return [
        Tracks(time, label[s], flat.z[s, :d], cov[s], existence[s], source[s])
        for time, s in zip(flat.time.tolist(), slices)
    ]
