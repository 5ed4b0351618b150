"""MOTChallenge: detections, ground truth and results in its comma-separated format.

A row is frame, id, left, top, width, height, confidence and then, by the number of columns,

    10 columns  x, y, z             position in the world, -1 where unknown (2015; detections; results)
     9 columns  class, visibility   ground truth of 2016, 2017 and 2020
     7 columns  nothing             some detectors of 2017

Frames and pixels are numbered from 1; the first frame has time 0. An id of -1 means none, as in detections.
Boxes are held as xyxy = (left, top, right, bottom), px. The confidence of ground truth is a flag: rows with
0 are to be ignored in an evaluation.

    seen = mot.read_detections("det.txt", frame_rate=25)
    tracks = [tracker.step(z, time) for time, z in seen]
    mot.write_results("TUD-Campus.txt", mot.results(tracks, seen, max_coast=2))

Sources: Leal-Taixe, Milan, Reid, Roth, Schindler, "MOTChallenge 2015" (arXiv 1504.01942), section on the
data format; Milan et al., "MOT16" (arXiv 1603.00831), the same.
"""

import os
from array import array
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tracking.formats.detections import Detections
from tracking.formats.files import atomic_write, read_rows, refuse_repeats
from tracking.formats.frames import Frames
from tracking.formats.results import attach, require_bounded, require_extra, require_ids
from tracking.tracks import Tracks

POINTS = {"centre": ("x", "y"), "foot": ("x", "bottom"), "box": ("x", "y", "width", "height")}
LARGEST = 1e9  # of any coordinate, px or m

_BOX = ("left", "top", "width", "height", "confidence")
_MORE = {7: (), 9: ("class", "visibility"), 10: ("x", "y", "z")}


def ltwh_to_xyxy(box) -> np.ndarray:
    """Boxes (..., 4) as left, top, width, height to left, top, right, bottom."""
    box = np.array(box, float)
    box[..., 2:] += box[..., :2]
    return box


def xyxy_to_ltwh(box) -> np.ndarray:
    """Boxes (..., 4) as left, top, right, bottom to left, top, width, height."""
    box = np.array(box, float)
    box[..., 2:] -= box[..., :2]
    return box


def read_detections(
    path, frame_rate: float, n_frames: int | None = None, point: str = "centre"
) -> Detections:
    """Detections, ground truth or results of one sequence.

    Args:
        path:       comma-separated text file.
        frame_rate: Hz, frameRate in the sequence's seqinfo.ini.
        n_frames:   frames of the sequence, seqLength there; None: up to the last row.
        point:      what of the box is the measurement: its "centre" (x, y), its "foot" (x, bottom), or the
                    "box" (x, y, width, height) with x, y the centre; px.
    Returns:
        score is the confidence; extra "id" (-1: none), "box" (N, 4) xyxy, "line", and with 10 columns
        "world" (N, 3), m, or with 9 "class" (numbers) and "visibility".
    Raises:
        ValueError: `path:line: what came; what is accepted`; an id twice in a frame is one, and a width or
                    height that is not positive.
    """
    frames, point = Frames(frame_rate, 1, n_frames), _known_point(point)
    values, width = array("d"), 7
    for row in read_rows(path, ",", tuple(_MORE)):
        width = len(row.fields)
        values.extend((row.line, frames.scan(row), row.integer(1, "id", -1, 2**31 - 1)))
        values.extend(row.numbers(2, (*_BOX, *_MORE[width]), LARGEST))
    table = np.array(values).reshape(-1, width + 1)
    line, scan, label = table[:, :3].astype(np.int64).T
    _refuse_without_area(path, line, table[:, 5:7], "width and height above 0")
    refuse_repeats(path, line, scan, label)
    extra = {"id": label, "box": ltwh_to_xyxy(table[:, 3:7]), "line": line}
    if width == 9:
        extra |= {"class": table[:, 8], "visibility": table[:, 9]}
    if width == 10:
        extra |= {"world": table[:, 8:]}
    z = _measured(extra["box"], point)
    return Detections.from_rows(frames.times(scan), scan, z, POINTS[point], table[:, 7], extra)


read_truth = read_results = read_detections


def read_corners(
    path, frame_rate: float, n_frames: int | None = None, point: str = "centre", first_frame: int = 0
) -> Detections:
    """Detections as rows of frame, x1, y1, x2, y2, score, which many detectors write.

    Args: as for `read_detections`; first_frame: the number of the first frame.
    Returns: as for `read_detections`, with extra "box" and "line" only.
    Raises: as there, x2 <= x1 and y2 <= y1 being what is not accepted.
    """
    frames, point = Frames(frame_rate, first_frame, n_frames), _known_point(point)
    values = array("d")
    for row in read_rows(path, ",", (6,)):
        values.extend((row.line, frames.scan(row)))
        values.extend(row.numbers(1, ("x1", "y1", "x2", "y2", "score"), LARGEST))
    table = np.array(values).reshape(-1, 7)
    line, scan = table[:, :2].astype(np.int64).T
    _refuse_without_area(path, line, table[:, 4:6] - table[:, 2:4], "x1 < x2 and y1 < y2")
    extra = {"box": table[:, 2:6], "line": line}
    z = _measured(extra["box"], point)
    return Detections.from_rows(frames.times(scan), scan, z, POINTS[point], table[:, 6], extra)


def read_any(path, frame_rate: float, n_frames: int | None = None, point: str = "centre") -> Detections:
    """Detections in MOTChallenge's columns, or as `read_corners` reads them, by their number.

    Args: as for `read_detections`.
    """
    with open(path, errors="replace") as file:
        columns = file.readline(10_000).count(",") + 1
    return (read_corners if columns == 6 else read_detections)(path, frame_rate, n_frames, point)


def results(scans: Sequence[Tracks], detections: Detections, max_coast: int | None = None) -> Detections:
    """Tracks as rows for `write_results`: the box last attached, existence as confidence.

    The box of a track without a detection in this frame moves as its estimate moved since the last one, and
    shrinks to 1 px at most.

    Args:
        scans:      what the tracker reported in each frame of `detections`.
        detections: from a reader of this module, the same rows that the tracker was given.
        max_coast:  frames without a detection after which a track is left out; None: no limit.
    Raises:
        ValueError: scans and detections do not belong together.
    """
    require_extra(detections, ("box",))
    rows = attach(scans, detections, max_coast)
    moved = np.where(rows.extra["coast"][:, None] > 0, rows.z - detections.z[rows.extra["source"]], 0.0)
    grown = np.zeros((len(moved), 2))
    if rows.names == POINTS["box"]:
        size = detections.z[rows.extra["source"], 2:]
        grown = np.maximum(moved[:, 2:], np.minimum(1.0 - size, 0.0)) / 2
    box = rows.extra["box"] + np.hstack((moved[:, :2] - grown, moved[:, :2] + grown))
    return replace(rows, extra={**rows.extra, "box": box})


def estimated(rows: Detections) -> Detections:
    """Result rows with the estimated box in place of the one last attached, where the state is a box."""
    if rows.names != POINTS["box"]:
        return rows
    x, y, width, height = rows.z.T
    box = np.column_stack((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    return replace(rows, extra={**rows.extra, "box": box})


def write_results(path, rows: Detections) -> None:
    """Write results of 10 columns; scan k of `rows` is frame k + 1.

    Args:
        path: file to write, as a whole or not at all.
        rows: extra "id" and "box" (xyxy); score is the confidence (1 if None); optional "world", m.
    Raises:
        ValueError: a column is missing, a value not finite, a box without area, an id negative or twice in
                    a frame.
    """
    require_extra(rows, ("id", "box"))
    n = len(rows.z)
    score = np.ones(n) if rows.score is None else rows.score
    world = rows.extra.get("world", np.full((n, 3), -1.0))
    table = np.column_stack((xyxy_to_ltwh(rows.extra["box"]), score, world))
    require_bounded(table, LARGEST)
    if not (table[:, 2:4] > 0).all():  # no reader would take it
        raise ValueError(f"boxes must have x1 < x2 and y1 < y2, got a size of {table[:, 2:4].min():g}")
    heads = zip((rows.scan + 1).tolist(), require_ids(rows).tolist())
    with atomic_write(path) as file:
        for (frame, label), values in zip(heads, table.tolist()):
            file.write(f"{frame},{label},{','.join(map(repr, values))}\n")


def _refuse_without_area(path, line, size, accepted):
    """ValueError for the first box whose size (N, 2) is not positive: no part of it can be measured."""
    bad = np.flatnonzero((size <= 0).any(axis=1))
    if len(bad):
        width, height = size[bad[0]]
        raise ValueError(
            f"{os.fspath(path)}:{line[bad[0]]}: a box of width {width:g} and height {height:g}; "
            f"accepted are boxes of {accepted}"
        )


def _known_point(point):
    if point not in POINTS:
        raise ValueError(f"point must be one of {', '.join(POINTS)}, got {point!r}")
    return point


def _measured(box, point):
    """The measurement (N, 2 or 4) of boxes (N, 4)."""
    centre, size = (box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]
    if point == "foot":
        return np.column_stack((centre[:, 0], box[:, 3]))
    return centre if point == "centre" else np.hstack((centre, size))
