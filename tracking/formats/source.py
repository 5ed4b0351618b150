"""Scans of any recording that this package reads, by what its path and its content say.

    bag        folder with metadata.yaml, or .db3: Detection3DArray, Detection2DArray
    MCAP       .mcap with either of these or with foxglove.SceneUpdate
    CSV        .csv with a header time,x,y
    KITTI      .txt with the 15 columns of detections
    MOT        .txt with the 6, 7, 9 or 10 columns of MOTChallenge

Bags and MCAP files are read as they are tracked; text is read as a whole, within the bounds of its reader.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tracking.formats import bags, csv, foxglove, kitti, mot, vision
from tracking.formats.detections import Detections
from tracking.formats.files import read_rows
from tracking.formats.foxglove_schema import SCENE
from tracking.formats.input import Input
from tracking.formats.scans import TimedScan, scans_of
from tracking.formats.table import Columns

FORMATS = ("bag", "scene", "csv", "kitti", "mot")
COLUMNS = {15: "kitti", 6: "mot", 7: "mot", 9: "mot", 10: "mot"}  # of a row with commas
MOT_RATE = 25.0  # Hz


@dataclass(frozen=True)
class Source:
    """A recording that is ready to be tracked.

    format:     of FORMATS.
    names:      of the coordinates of a measurement.
    scans:      in order of time; to be gone through once.
    image:      whether coordinates are px of an image.
    detections: the rows of a text file, or None.
    """

    format: str
    names: tuple[str, ...]
    scans: Iterator[TimedScan]
    image: bool = False
    detections: Detections | None = None


def open_source(path, dim: int, about: Input) -> Source:
    """A recording of measurements.

    Args:
        path:  of the recording.
        dim:   length of a measurement.
        about: how it is read.
    Raises:
        ValueError: no recording that can be read, or one of other coordinates than the sensor measures.
        OSError:    it is missing or cannot be read.
    """
    kind, names = format_of(path, about.topic), about.coordinates
    if kind == "bag":
        channel = bags.choose(path, vision.TYPES, about.topic)
        names = names or vision.available(channel.type)[:dim]
        options: dict[str, Any] = {"position": about.position, "clock": about.clock, "reorder": about.reorder}
        scans = bags.read_scans(path, channel.topic, coordinates=names, **options)
        source = Source(kind, tuple(names), scans, channel.type == vision.DETECTIONS_2D)
    elif kind == "scene":
        names = names or vision.SPACE[:dim]
        scans = foxglove.read_scans(path, about.topic, coordinates=names, reorder=about.reorder)
        source = Source(kind, tuple(names), scans)
    else:
        return _text(path, kind, dim, about)
    _require_dim(path, names, dim)
    return source if about.cls is None else replace(source, scans=_of_class(path, source.scans, about.cls))


def format_of(path, topic: str | None = None) -> str:
    """The format of a recording, of FORMATS.

    Raises:
        ValueError: it is of none of them.
        OSError:    it is missing or cannot be read.
    """
    path = Path(path)
    if path.suffix == ".mcap" and not path.is_dir():
        there = bags.topics(path)
        every = [c for c in there if topic in (None, c.topic)]
        if topic is not None and not every:
            listed = ", ".join(f"{c.topic} ({c.type})" for c in there[:20]) or "none"
            accepted = " or ".join((*vision.TYPES, SCENE))
            raise ValueError(f"{path}: no topic {topic[:80]}; there are {listed}; accepted are {accepted}")
        scenes = [c for c in every if c.type == SCENE]
        return "scene" if scenes and not any(c.type in vision.TYPES for c in every) else "bag"
    if bags.is_bag(path):
        return "bag"
    if path.is_dir():
        raise ValueError(f"{path}: no bag in this folder; accepted are bags and files, as --help lists them")
    if path.suffix == ".csv":
        return "csv"
    if path.suffix == ".txt":
        first = next(read_rows(path, ","), None)
        columns = 0 if first is None else len(first.fields)
        if columns in COLUMNS:
            return COLUMNS[columns]
        raise ValueError(
            f"{path}:1: {columns} columns; accepted are 15 of KITTI detections, and 6, 7, 9 or 10 of "
            "MOTChallenge"
        )
    raise ValueError(f"{path}: no known recording; accepted are a bag's folder, .db3, .mcap, .csv and .txt")


def _text(path, kind, dim, about) -> Source:
    """A recording that is read as a whole."""
    names = about.coordinates
    if kind == "csv":
        columns = Columns(coordinates=names) if names else None
        detections = csv.read_detections(path, columns, about.scan_period)
    elif kind == "kitti":
        names = names or (kitti.AXES if dim == 3 else ("x", "z")[:dim])
        detections = kitti.read_detections(path, None, names, about.frame_rate or kitti.FRAME_RATE)
    else:
        point = about.point or ("box" if dim == 4 else "centre")
        detections = mot.read_any(path, about.frame_rate or MOT_RATE, point=point)
    _require_dim(path, detections.names, dim)
    if about.cls is not None:
        detections = detections.select(_has_class(path, detections.extra, about.cls, len(detections.z)))
    scans = scans_of(detections)
    bodies = {"kitti": _kitti_body, "mot": _mot_body}
    if kind in bodies:
        scans = map(bodies[kind], scans)
    return Source(kind, detections.names, scans, kind == "mot", detections)


def _require_dim(path, names, dim):
    if len(names) != dim:
        raise ValueError(
            f"{os.fspath(path)} gives {', '.join(names)}, the sensor measures {dim} numbers; accepted is one "
            "coordinate for each. Set coordinates in [input], or dims of the sensor."
        )


def _of_class(path, scans, cls):
    for scan in scans:
        yield scan.select(_has_class(path, scan.extra, cls, len(scan)))


def _has_class(path, extra, cls, n):
    if "class" not in extra:
        raise ValueError(f"{os.fspath(path)} does not tell classes; accepted is no class in [input]")
    column = extra["class"]
    if column.dtype.kind == "U" or not n:
        return column == cls if n else np.zeros(0, bool)
    try:  # numbers, as of MOTChallenge
        return column == float(cls)
    except ValueError:
        raise ValueError(f"{os.fspath(path)} has classes by number, got {cls!r:.40}") from None


def _kitti_body(scan: TimedScan) -> TimedScan:
    """Boxes of KITTI, which stand on their bottom face, by centre, sizes along x, y, z, and orientation."""
    height, width, length = scan.extra["size"].T
    half = 0.5 * scan.extra["heading"]
    none = np.zeros(len(half))
    position = scan.extra["position"] - np.column_stack((none, 0.5 * height, none))
    body = {
        "class": scan.extra["class"],
        "position": position,
        "size": np.column_stack((length, height, width)),
        "orientation": np.column_stack((none, np.sin(half), none, np.cos(half))),
    }
    return replace(scan, extra=body)


def _mot_body(scan: TimedScan) -> TimedScan:
    box = scan.extra["box"]
    none = np.zeros((len(box), 1))
    centre, size = (box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]
    return replace(scan, extra={"position": np.hstack((centre, none)), "size": np.hstack((size, none))})
