"""Detections and tracks as messages of vision_msgs, of rclpy and of rosbags alike.

    scan = scan_of(message)                                    # time, z, score, class, frame
    tracks = tracker.step(scan.z, scan.time)
    message = message_of(tracks, scan, seen.step(tracks, scan), installed)

Messages are told apart by their fields alone, so nothing of ROS is imported here. The position of a detection
is the centre of its bounding box, or the pose of its likeliest hypothesis (`position="hypothesis"`); its
covariance, class and score are those of that hypothesis. A track is written with its label as `id`, its
existence as score and its covariance in the pose; both poses are its position.

Source: ros-perception/vision_msgs 4 (ROS 2 Humble and later); REP 103 for the axes.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from tracking.formats.scans import (
    LARGEST_STAMP,
    NANO,
    Attributes,
    TimedScan,
    nanoseconds,
    picked,
)
from tracking.tracks import Tracks

DETECTIONS_3D = "vision_msgs/msg/Detection3DArray"
DETECTIONS_2D = "vision_msgs/msg/Detection2DArray"
TYPES = (DETECTIONS_3D, DETECTIONS_2D)
SPACE = ("x", "y", "z")  # m
IMAGE = ("x", "y", "width", "height")  # px, x and y of the centre
POSITIONS = ("box", "hypothesis")
LARGEST = 1e9  # of a coordinate, m or px
MAX_DETECTIONS = 100_000  # of a message


def available(kind: str) -> tuple[str, ...]:
    """Coordinates that detections of a type of message have."""
    return IMAGE if kind == DETECTIONS_2D else SPACE


def scan_of(
    message: Any, coordinates: Sequence[str] = ("x", "y", "z"), position: str = "box", kind: str | None = None
) -> TimedScan:
    """The scan that a Detection3DArray or Detection2DArray holds.

    Args:
        message:     of rclpy or rosbags, or anything with the same fields.
        coordinates: that make the measurement: of x, y, z, m; in an image of x, y, width, height, px.
        position:    "box": centre of the bounding box; "hypothesis": pose of the likeliest hypothesis.
        kind:        name of the type; None: as the name of the message's class tells.
    Returns:
        cov only if every hypothesis states a positive definite one; extra "class", "position", "size",
        "orientation" and "id" (text).
    Raises:
        ValueError: a number that is not finite, detections in several frames, a stamp out of range, more than
                    MAX_DETECTIONS, or other coordinates.
    """
    if position not in POSITIONS:
        raise ValueError(f"position must be one of {', '.join(POSITIONS)}, got {position!r}")
    flat = (kind or type(message).__name__).endswith(DETECTIONS_2D.rpartition("/")[2])
    names = IMAGE if flat else SPACE
    columns = picked(names, coordinates)
    stamp = _stamp(message.header.stamp)
    if len(message.detections) > MAX_DETECTIONS:
        raise ValueError(f"{len(message.detections)} detections in a message, accepted are {MAX_DETECTIONS}")
    frame = _frame(message)
    rows = [_row(found, flat, position) for found in message.detections]
    m = len(rows)
    numbers = np.array([row[0] for row in rows], float).reshape(m, 11)
    _require_finite(numbers[:, :10])
    where, size, orientation, score = numbers[:, :3], numbers[:, 3:6], numbers[:, 6:10], numbers[:, 10]
    table = np.hstack((where[:, :2], size[:, :2])) if flat else where
    extra = {
        "class": np.array([row[1] for row in rows], np.str_),
        "id": np.array([row[2] for row in rows], np.str_),
        "position": where,
        "size": size,
        "orientation": orientation,
    }
    in_pose = max(columns) < (2 if flat else 3)  # sizes are no part of a pose
    cov = _covariances([row[3] for row in rows], columns) if in_pose else None
    return TimedScan(stamp / NANO, table[:, columns], tuple(coordinates), score, cov, frame, stamp, extra)


def message_of(
    tracks: Tracks,
    scan: TimedScan,
    seen: Sequence[Attributes],
    classes: Callable[[str], Any],
    kind: str = DETECTIONS_3D,
) -> Any:
    """Tracks as a Detection3DArray, or a Detection2DArray.

    Args:
        tracks:  of the scan; the first entries of a mean are the coordinates of `scan.names`.
        scan:    that they were reported of: its stamp, frame and coordinates.
        seen:    attributes of each track, of `LastSeen.step`: class, size, and the coordinates that no
                 state has, such as the height of an object that is tracked in the plane.
        classes: gives the class of a name such as "std_msgs/msg/Header": `installed`, or that of a typestore.
        kind:    DETECTIONS_3D or DETECTIONS_2D.
    Raises:
        ValueError: coordinates that such a message does not have, or numbers that are not finite.
    """
    if kind not in TYPES:
        raise ValueError(f"kind must be one of {', '.join(TYPES)}, got {kind!r}")
    columns = picked(available(kind), scan.names)
    stamp = nanoseconds(scan)

    def make(name, **values):
        return classes(name)(**values)

    def header():
        time = make("builtin_interfaces/msg/Time", sec=stamp // NANO, nanosec=stamp % NANO)
        return make("std_msgs/msg/Header", stamp=time, frame_id=scan.frame)

    build = _detection_2d if kind == DETECTIONS_2D else _detection_3d
    found = []
    for i, attributes in enumerate(seen):
        mean, cov = tracks.mean[i, : len(columns)], tracks.cov[i][: len(columns), : len(columns)]
        if not (np.isfinite(mean).all() and np.isfinite(cov).all()):
            raise ValueError(f"track {tracks.label[i]} is at {mean.tolist()}; accepted are finite numbers")
        result = float(tracks.existence[i])
        found.append(build(make, header(), int(tracks.label[i]), result, mean, cov, columns, attributes))
    return make(kind, header=header(), detections=found)


def tracks_of(message: Any, kind: str | None = None) -> Tracks:
    """What `message_of` wrote: positions with covariance, label and existence.

    Returns:
        Means (n, 3), or (n, 2) in an image; what else a state had is not in a message. source is -1.
    Raises:
        ValueError: as `scan_of`; or ids that are no whole numbers, or come twice.
    """
    flat = (kind or type(message).__name__).endswith(DETECTIONS_2D.rpartition("/")[2])
    names = ("x", "y") if flat else SPACE
    scan = scan_of(message, names, "box", kind)
    label = _labels(scan.extra["id"].tolist())
    d, n = len(names), len(scan)
    blocks = [_pose_covariance(found)[:d, :d] for found in message.detections]
    cov = np.array(blocks, float).reshape(n, d, d)
    existence = np.zeros(n) if scan.score is None else scan.score
    if not ((existence >= 0) & (existence <= 1)).all():
        raise ValueError(f"scores of tracks must be probabilities, got {existence.tolist()[:5]}")
    return Tracks(scan.time, label, scan.z, cov, existence, np.full(n, -1, np.int64))


def installed(name: str) -> Any:
    """The class of a message in a ROS 2 that is installed: "vision_msgs/msg/Detection3D" and so on."""
    package, _, kind = name.split("/")
    return getattr(import_module(f"{package}.msg"), kind)


def _labels(ids):
    bad = [text for text in ids if not (text.isascii() and text.isdigit() and len(text) < 19)]
    if bad or len(set(map(int, ids))) < len(ids):
        raise ValueError(
            f"ids are {[text[:20] for text in (bad or ids)[:5]]}; accepted are whole numbers, each once"
        )
    return np.array(ids, np.str_).astype(np.int64) if ids else np.zeros(0, np.int64)


def _stamp(stamp) -> int:
    time = int(stamp.sec) * NANO + int(stamp.nanosec)
    if not (0 <= time < LARGEST_STAMP and stamp.nanosec < NANO):
        raise ValueError(
            f"header.stamp is {stamp.sec} s {stamp.nanosec} ns; accepted are seconds from 0 to 2^31 and less "
            "than 10^9 ns"
        )
    return time


def _frame(message) -> str:
    frame = message.header.frame_id
    for found in message.detections:
        other = found.header.frame_id
        if other and frame and other != frame:
            raise ValueError(
                f"a detection is in frame {other[:40]!r}, its message in {frame[:40]!r}; accepted is one. "
                "Transform the detections first."
            )
        frame = frame or other
    return str(frame)


def _best(found):
    """The likeliest hypothesis of a detection, or None."""
    results = found.results
    return max(results, key=lambda r: _or_least(r.hypothesis.score)) if len(results) else None


def _or_least(score):
    return -np.inf if score != score else score  # NaN is never the likeliest


def _row(found, flat, position):
    """Position, size, orientation and score of a detection in 11 numbers; class, id, pose covariance."""
    best, box = _best(found), found.bbox
    if flat:
        centre = getattr(box.center, "position", box.center)  # vision_msgs 3 had x and y right there
        where, size = (centre.x, centre.y, 0.0), (box.size_x, box.size_y, 0.0)
        half = 0.5 * box.center.theta
        turned = (0.0, 0.0, np.sin(half), np.cos(half)) if np.isfinite(half) else (np.nan,) * 4
    else:
        at, q = box.center.position, box.center.orientation
        where, turned = (at.x, at.y, at.z), (q.x, q.y, q.z, q.w)
        size = (box.size.x, box.size.y, box.size.z)
    if position == "hypothesis":
        if best is None:
            raise ValueError(
                'a detection without hypotheses has no pose; accepted is position="box" for such detections'
            )
        at = best.pose.pose.position
        where = (at.x, at.y, 0.0 if flat else at.z)
    score = np.nan if best is None else best.hypothesis.score
    cls = "" if best is None else str(best.hypothesis.class_id)
    return (*where, *size, *turned, score), cls, str(found.id), _pose_covariance(found)


def _pose_covariance(found):
    """(3, 3) of the position of the likeliest hypothesis, 0 if it has none."""
    best = _best(found)
    return np.zeros((3, 3)) if best is None else np.array(best.pose.covariance, float).reshape(6, 6)[:3, :3]


def _covariances(blocks, columns):
    """(m, d, d) of the coordinates, None unless all of them are covariances."""
    cov = np.array(blocks, float).reshape(-1, 3, 3)[:, columns][:, :, columns]
    if not len(cov) or not np.isfinite(cov).all() or np.abs(cov).max() > LARGEST**2:
        return None
    scale = np.abs(cov).max(axis=(1, 2))
    even = np.abs(cov - cov.swapaxes(1, 2)).max(axis=(1, 2)) <= 1e-6 * scale
    positive = (scale > 0) & (np.linalg.eigvalsh(cov).min(axis=1) > 0)
    return cov if (even & positive).all() else None


def _require_finite(numbers):
    bad = ~(np.abs(numbers) <= LARGEST)  # NaN too
    if bad.any():
        i, j = np.argwhere(bad)[0]
        what = ("position", "size", "orientation")[0 if j < 3 else 1 if j < 6 else 2]
        raise ValueError(
            f"{what} of detection {i} has {numbers[i, j]:g}; accepted are finite numbers up to {LARGEST:g}"
        )


def _spread(values, columns, other, count):
    """Numbers of the coordinates at their columns, the others from `other`."""
    full = np.array(other[:count], float)
    for value, column in zip(values, columns):
        if column < count:
            full[column] = value
    return full.tolist()


def _result(make, score, where, cov, columns, attributes):
    """One hypothesis, whose pose has the covariance of the position."""
    full = np.zeros((6, 6))
    at = [(i, column) for i, column in enumerate(columns) if column < 3]
    for i, row in at:
        for j, column in at:
            full[row, column] = cov[i, j]
    with_covariance = make(
        "geometry_msgs/msg/PoseWithCovariance",
        pose=_pose(make, where, attributes.orientation),
        covariance=full.ravel(),
    )
    hypothesis = make("vision_msgs/msg/ObjectHypothesis", class_id=attributes.cls, score=score)
    return make("vision_msgs/msg/ObjectHypothesisWithPose", hypothesis=hypothesis, pose=with_covariance)


def _pose(make, where, orientation):
    point = dict(zip("xyz", where))
    turned = dict(zip("xyzw", orientation))
    return make(
        "geometry_msgs/msg/Pose",
        position=make("geometry_msgs/msg/Point", **point),
        orientation=make("geometry_msgs/msg/Quaternion", **turned),
    )


def _detection_3d(make, header, label, score, mean, cov, columns, attributes):
    where = _spread(mean, columns, attributes.position, 3)
    size = make("geometry_msgs/msg/Vector3", **dict(zip("xyz", attributes.size)))
    box = make("vision_msgs/msg/BoundingBox3D", center=_pose(make, where, attributes.orientation), size=size)
    results = [_result(make, score, where, cov, columns, attributes)]
    return make("vision_msgs/msg/Detection3D", header=header, results=results, bbox=box, id=str(label))


def _detection_2d(make, header, label, score, mean, cov, columns, attributes):
    x, y, width, height = _spread(mean, columns, (*attributes.position[:2], *attributes.size[:2]), 4)
    _, _, z, w = attributes.orientation
    centre = make(
        "vision_msgs/msg/Pose2D",
        position=make("vision_msgs/msg/Point2D", x=x, y=y),
        theta=float(2 * np.arctan2(z, w)),
    )
    box = make("vision_msgs/msg/BoundingBox2D", center=centre, size_x=width, size_y=height)
    planar = [c if c < 2 else 3 for c in columns]  # sizes are no part of a pose
    results = [_result(make, score, (x, y, 0.0), cov, planar, attributes)]
    return make("vision_msgs/msg/Detection2D", header=header, results=results, bbox=box, id=str(label))
