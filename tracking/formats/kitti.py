"""KITTI tracking: detections of a 3-D detector, labels, calibration and results.

Frames are numbered from 0 and all of them are scans, at 10 Hz unless said otherwise. The camera frame has x
to the right, y down and z forward, in m; a position is the middle of the bottom face of a box; `heading`
(rotation_y) turns about y, 0 along x, in rad. Boxes in the image are xyxy in px, sizes are height, width,
length in m. By default the measurement z is the position in the ground plane, (x, z).

    cars = kitti.read_detections("pointrcnn_Car_val/0000.txt", n_frames=154)
    tracks = [tracker.step(z, time) for time, z in cars]
    kitti.write_results("results/0000.txt", kitti.results(tracks, cars, max_coast=2))

Values are passed on as the detector gave them: boxes without area occur in real files.

Sources: Geiger, Lenz, Urtasun (CVPR 2012) and the readme of the tracking development kit (label columns);
Weng, Wang, Held, Kitani (IROS 2020), AB3DMOT, for the comma-separated PointRCNN detections.
"""

from array import array
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tracking.formats.detections import Detections
from tracking.formats.files import atomic_write, read_rows, refuse_repeats
from tracking.formats.frames import Frames
from tracking.formats.results import attach, require_bounded, require_extra, require_ids, require_words
from tracking.tracks import Tracks

FRAME_RATE = 10.0  # Hz
CLASSES = ("Pedestrian", "Car", "Cyclist")  # numbers 1, 2, 3 of detection files
AXES = ("x", "y", "z")
LARGEST = 1e9  # of any coordinate, m or px

_BOX = ("x1", "y1", "x2", "y2")
_BODY = ("h", "w", "l", "x", "y", "z", "rotation_y")
_DETECTION = (*_BOX, "score", *_BODY, "alpha")
_OBJECT = ("alpha", *_BOX, *_BODY)  # then the score, in results
_MATRICES = {
    **{f"P{i}": (f"P{i}", (3, 4)) for i in range(4)},
    **dict.fromkeys(("R0_rect", "R_rect"), ("R0_rect", (3, 3))),
    **dict.fromkeys(("Tr_velo_to_cam", "Tr_velo_cam"), ("Tr_velo_to_cam", (3, 4))),
    **dict.fromkeys(("Tr_imu_to_velo", "Tr_imu_velo"), ("Tr_imu_to_velo", (3, 4))),
}


def read_detections(
    path,
    n_frames: int | None = None,
    coordinates: Sequence[str] = ("x", "z"),
    frame_rate: float = FRAME_RATE,
) -> Detections:
    """Detections of a 3-D detector.

    Columns: frame, class number, x1, y1, x2, y2, score, h, w, l, x, y, z, rotation_y, alpha.

    Args:
        path:        comma-separated text file.
        n_frames:    frames of the sequence, len(read_labels(...)) says it; None: up to the last row.
        coordinates: which of x, y, z make the measurement, in the camera frame, m.
        frame_rate:  Hz.
    Returns:
        extra "class" (names), "box" (N, 4), "position" (N, 3), "size" (N, 3), "heading", "alpha", "line".
    Raises:
        ValueError: `path:line: what came; what is accepted`.
    """
    frames, axes = Frames(frame_rate, 0, n_frames), _axes(coordinates)
    values = array("d")
    for row in read_rows(path, ",", (15,)):
        values.extend((row.line, frames.scan(row), row.integer(1, "class", 1, len(CLASSES))))
        values.extend(row.numbers(2, _DETECTION, LARGEST))
    table = np.array(values).reshape(-1, 3 + len(_DETECTION))
    line, scan, kind = table[:, :3].astype(np.int64).T
    extra = {"class": np.array(CLASSES)[kind - 1], "box": table[:, 3:7], **_body(table[:, 8:15])}
    extra |= {"alpha": table[:, 15], "line": line}
    z = extra["position"][:, axes]
    return Detections.from_rows(frames.times(scan), scan, z, coordinates, table[:, 7], extra)


def read_labels(
    path,
    n_frames: int | None = None,
    coordinates: Sequence[str] = ("x", "z"),
    frame_rate: float = FRAME_RATE,
) -> Detections:
    """Labels (17 columns) or results (18, the last one a score).

    "DontCare" regions, id -1, are rows too.

    `labels.select(labels.extra["class"] == "Car").trajectories()` are the true trajectories of cars.

    Args: as for `read_detections`.
    Returns:
        score None for labels; extra "id", "class", "truncated", "occluded", "alpha", "box" (N, 4),
        "position" (N, 3), "size" (N, 3), "heading", "line".
    Raises:
        ValueError: `path:line: what came; what is accepted`; an id twice in a frame is one.
    """
    frames, axes = Frames(frame_rate, 0, n_frames), _axes(coordinates)
    values, kind, width = array("d"), [], 17
    for row in read_rows(path, None, (17, 18)):
        width = len(row.fields)
        values.extend((row.line, frames.scan(row), row.integer(1, "id", -1, 2**31 - 1)))
        kind.append(row.word(2, "class"))
        values.extend((row.number(3, "truncated", -1, 2), row.integer(4, "occluded", -1, 4)))
        values.extend(row.numbers(5, (*_OBJECT, "score")[: width - 5], LARGEST))
    table = np.array(values).reshape(-1, width)
    line, scan, label, _, occluded = table[:, :5].astype(np.int64).T
    refuse_repeats(path, line, scan, label)
    extra = {"id": label, "class": np.array(kind, dtype=np.str_), "truncated": table[:, 3]}
    extra |= {"occluded": occluded, "alpha": table[:, 5], "box": table[:, 6:10], **_body(table[:, 10:17])}
    extra |= {"line": line}
    z, score = extra["position"][:, axes], table[:, 17] if width == 18 else None
    return Detections.from_rows(frames.times(scan), scan, z, coordinates, score, extra)


read_results = read_labels


def results(
    scans: Sequence[Tracks],
    detections: Detections,
    max_coast: int | None = None,
    camera: np.ndarray | None = None,
) -> Detections:
    """Tracks as rows for `write_results`: the estimated position, the box last attached.

    Args:
        scans:      what the tracker reported in each frame of `detections`.
        detections: from `read_detections`, the same rows that the tracker was given.
        max_coast:  frames without a detection after which a track is left out; None: no limit.
        camera:     (3, 4) projection P2. Given, the box of a track without a detection in this frame moves
                    in the image as its estimated position moved since the last one.
    Raises:
        ValueError: scans and detections do not belong together.
    Source: Weng et al. (IROS 2020), whose tracks also keep the box last attached.
    """
    require_extra(detections, ("class", "box", "position", "size", "heading"))
    rows = attach(scans, detections, max_coast)
    seen, position, box = rows.extra["position"], rows.extra["position"].copy(), rows.extra["box"]
    position[:, _axes(rows.names)] = rows.z
    if camera is not None:
        coasts = rows.extra["coast"] > 0
        box = np.where(coasts[:, None], _moved(box, seen, position, np.asarray(camera, float)), box)
    return replace(rows, extra={**rows.extra, "position": position, "box": box})


def write_results(path, rows: Detections) -> None:
    """Write results (18 columns) or, without scores, labels (17); scan k of `rows` is frame k.

    Args:
        path: file to write, as a whole or not at all.
        rows: extra "id", "class", "box", "position", "size", "heading"; optional "truncated" and "occluded"
              (else -1, unknown), and "alpha" (else from heading and position).
    Raises:
        ValueError: a column is missing, a value not finite, an id negative or twice in a frame, or a class
                    that is not one word.
    """
    require_extra(rows, ("id", "class", "box", "position", "size", "heading"))
    extra, unknown = rows.extra, np.full(len(rows.z), -1)
    columns = [extra.get("alpha", _alpha(extra)), extra["box"], extra["size"], extra["position"]]
    columns += [extra["heading"], *([] if rows.score is None else [rows.score])]
    table = np.column_stack(columns).astype(float)
    require_bounded(table, LARGEST)
    heads = zip(
        rows.scan.tolist(),
        require_ids(rows).tolist(),
        require_words("class", extra["class"]),
        np.asarray(extra.get("truncated", unknown), float).tolist(),
        np.asarray(extra.get("occluded", unknown), np.int64).tolist(),
    )
    with atomic_write(path) as file:
        for (frame, label, kind, truncated, occluded), values in zip(heads, table.tolist()):
            numbers = " ".join(map(repr, values))
            file.write(f"{frame} {label} {kind} {truncated:.17g} {occluded} {numbers}\n")


def read_calibration(path) -> dict[str, np.ndarray]:
    """Matrices of a calibration file by name.

    P0 to P3, Tr_velo_to_cam and Tr_imu_to_velo are (3, 4), R0_rect is (3, 3). The other spelling of the kit
    (R_rect, Tr_velo_cam, Tr_imu_velo) is read under the same names.

    Raises:
        ValueError: `path:line: what came; what is accepted`.
    """
    matrices = {}
    for row in read_rows(path, None, None):
        word = row.fields[0].removesuffix(":")
        if word not in _MATRICES:
            raise row.error(f"matrix {row.word(0, 'name')!r}", f"accepted are {', '.join(_MATRICES)}")
        name, shape = _MATRICES[word]
        size = shape[0] * shape[1]
        if len(row.fields) != size + 1 or name in matrices:
            came = f"{word} again" if name in matrices else f"{word} of {len(row.fields) - 1} numbers"
            raise row.error(came, f"accepted is one {word} of {size} numbers")
        matrices[name] = np.array(row.numbers(1, (word,) * size, LARGEST)).reshape(shape)
    return matrices


def _axes(coordinates):
    if not coordinates or len(set(coordinates)) != len(coordinates) or not set(coordinates) <= set(AXES):
        raise ValueError(f"coordinates must be different ones of {AXES}, got {coordinates!r}")
    return [AXES.index(name) for name in coordinates]


def _body(columns):
    return {"size": columns[:, :3], "position": columns[:, 3:6], "heading": columns[:, 6]}


def _alpha(extra):
    """Heading as seen along the ray from the camera, in [-pi, pi) (development kit readme)."""
    x, z = extra["position"][:, 0], extra["position"][:, 2]
    return (extra["heading"] - np.arctan2(x, z) + np.pi) % (2 * np.pi) - np.pi


def _moved(box, before, after, camera):
    """Boxes (n, 4) after a move: shifted with the projection, scaled with the inverse depth."""
    if camera.shape != (3, 4):
        raise ValueError(f"camera must be a projection of shape (3, 4), got {camera.shape}")
    old, new = (points @ camera[:, :3].T + camera[:, 3] for points in (before, after))
    visible = (old[:, 2] > 0.1) & (new[:, 2] > 0.1)  # m; nearer than that nothing can be projected
    old, new = (np.where(visible[:, None], p, 1.0) for p in (old, new))
    scale = old[:, 2] / new[:, 2]
    corners = (box.reshape(-1, 2, 2) - (old[:, :2] / old[:, 2:])[:, None]) * scale[:, None, None]
    return (corners + (new[:, :2] / new[:, 2:])[:, None]).reshape(-1, 4)
