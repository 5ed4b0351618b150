"""Tracks as scenes that Foxglove draws, in MCAP files, and such scenes read back.

    with writer("night.mcap") as scene:
        scene.write(tracks, scan, seen)

Each track is an entity: a cube of the size that its last detection had, or a sphere; a text with label, class
and existence; an ellipsoid in which its position lies with 95 %; and an arrow along its velocity. Entities
have the label as id, and are deleted when their track ends. Mean, covariance and existence stand in the
metadata of the entity as well, to the last digit, so `read_tracks` gives back what was written.

Source: the schemas foxglove.SceneUpdate, SceneEntity and their primitives, in JSON; https://docs.foxglove.dev.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from tracking.formats import mcap
from tracking.formats.bags import MAX_MESSAGE, choose
from tracking.formats.files import atomic_write
from tracking.formats.foxglove_schema import SCENE, SCHEMA
from tracking.formats.mcap import Channel
from tracking.formats.scans import NANO, Attributes, TimedScan, in_order, nanoseconds, picked
from tracking.formats.vision import LARGEST, MAX_DETECTIONS, SPACE
from tracking.tracks import Tracks

PROBABILITY = 0.95  # of an ellipsoid
MARKER = 0.5  # m, diameter of an object of unknown size
THINNEST = 0.02  # m, of an ellipsoid in a direction that the state does not have
LETTERS = 0.6  # m, height of a text
MAX_DIM = 64  # entries of a state
COLOURS = ((0.12, 0.47, 0.71), (1.0, 0.5, 0.05), (0.17, 0.63, 0.17), (0.84, 0.15, 0.16), (0.58, 0.4, 0.74))


def scene_of(tracks: Tracks, scan: TimedScan, seen: Sequence[Attributes], gone: Sequence[int] = ()) -> dict:
    """Tracks as a SceneUpdate.

    Args:
        tracks: of the scan; the first entries of a mean are the coordinates of `scan.names`, then come their
                velocities where the state has twice as many entries.
        scan:   that they were reported of.
        seen:   attributes of each track, of `LastSeen.step`.
        gone:   labels whose entities are to be deleted.
    Raises:
        ValueError: coordinates other than x, y, z, or numbers that are not finite.
    """
    columns = picked(SPACE, scan.names)
    stamp = nanoseconds(scan)
    time = {"sec": stamp // NANO, "nsec": stamp % NANO}
    if not (np.isfinite(tracks.mean).all() and np.isfinite(tracks.cov).all()):
        raise ValueError(f"tracks at {scan.time:g} s have numbers that are not finite")
    entities = [
        _entity(tracks, i, columns, attributes) | {"timestamp": time, "frame_id": scan.frame}
        for i, attributes in enumerate(seen)
    ]
    return {
        "deletions": [{"timestamp": time, "type": 0, "id": str(label)} for label in gone],
        "entities": entities,
    }


class SceneWriter:
    """Writes tracks as scenes; made by `writer`."""

    def __init__(self, file: Any, channel: int):
        self._file, self._channel, self._shown = file, channel, set[int]()

    def write(self, tracks: Tracks, scan: TimedScan, seen: Sequence[Attributes]) -> None:
        """Write the tracks that were reported of a scan; arguments as of `scene_of`."""
        here = set(tracks.label.tolist())
        scene = scene_of(tracks, scan, seen, sorted(self._shown - here))
        self._shown = here
        stamp = nanoseconds(scan)
        data = json.dumps(scene, allow_nan=False).encode()
        self._file.add_message(self._channel, log_time=stamp, data=data, publish_time=stamp)


@contextmanager
def writer(path, topic: str = "/tracks") -> Iterator[SceneWriter]:
    """A new MCAP file of scenes, which appears complete or not at all.

    Raises:
        ValueError: something other than an ordinary file has that name.
    """
    library = mcap.import_mcap()
    with atomic_write(path, binary=True) as file:
        out = library.writer.Writer(file)
        out.start(profile="", library="multitarget-toolkit")
        schema = out.register_schema(SCENE, "jsonschema", json.dumps(SCHEMA).encode())
        yield SceneWriter(out, out.register_channel(topic, "json", schema))
        out.finish()


def read_scans(
    path, topic: str | None = None, *, coordinates: Sequence[str] | None = None, reorder: float = 1.0
) -> Iterator[TimedScan]:
    """The entities of scenes as detections: the centre of the first cube or sphere of each.

    An entity without one is passed over, a message without entities is a scan without detections.

    Args:
        path:        MCAP file.
        topic:       with scenes in JSON; None: the only one.
        coordinates: of x, y, z, that make the measurement; None: all three.
        reorder:     s that messages may be out of order.
    Raises:
        ValueError: no sound MCAP file, no such topic, or a message that is no scene.
        OSError:    it is missing or cannot be read.
    """
    coordinates = SPACE if coordinates is None else tuple(coordinates)
    picked(SPACE, coordinates)
    channel = _channel(path, topic)
    scenes = _scenes(path, channel, _detections)
    return in_order((_scan(stamp, found, coordinates) for stamp, found in scenes), reorder)


def read_tracks(path, topic: str | None = None) -> Iterator[Tracks]:
    """Tracks that `writer` wrote, scan by scan, to the last digit; source is that of the tracker.

    Raises:
        ValueError: as `read_scans`; or entities without the metadata of tracks.
        OSError:    it is missing or cannot be read.
    """
    for stamp, found in _scenes(path, _channel(path, topic), _states):
        yield _tracks(stamp / NANO, found)


def _entity(tracks, i, columns, attributes) -> dict[str, Any]:
    d, label = len(columns), int(tracks.label[i])
    mean, cov = tracks.mean[i], tracks.cov[i]
    where = np.array(attributes.position, float)
    where[columns] = mean[:d]
    colour = dict(zip("rgb", COLOURS[label % len(COLOURS)]))
    body = {
        "pose": _pose(where, attributes.orientation),
        "size": _vector([MARKER] * 3 if min(attributes.size) <= 0 else attributes.size),
        "color": colour | {"a": 0.7},
    }
    spread, turned = _ellipsoid(cov[:d, :d], columns)
    ellipsoid = {"pose": _pose(where, turned), "size": _vector(spread), "color": colour | {"a": 0.2}}
    has_size = min(attributes.size) > 0
    top = (*where[:2], where[2] + max(attributes.size[2], MARKER) / 2 + LETTERS)
    said = " ".join(filter(None, (str(label), attributes.cls, f"{tracks.existence[i]:.2f}")))
    exact = {
        "existence": float(tracks.existence[i]),
        "source": int(tracks.source[i]),
        "mean": mean.tolist(),
        "cov": cov.tolist(),
    }
    metadata = {name: json.dumps(value) for name, value in exact.items()} | {"class": attributes.cls}
    return {
        "id": str(label),
        "lifetime": {"sec": 0, "nsec": 0},
        "frame_locked": False,
        "metadata": [{"key": key, "value": value} for key, value in metadata.items()],
        "arrows": _arrow(where, mean, columns, colour),
        "cubes": [body] if has_size else [],
        "spheres": [ellipsoid] if has_size else [body, ellipsoid],
        "cylinders": [],
        "lines": [],
        "triangles": [],
        "texts": [
            {
                "pose": _pose(top, (0.0, 0.0, 0.0, 1.0)),
                "billboard": True,
                "font_size": LETTERS,
                "scale_invariant": False,
                "color": colour | {"a": 1.0},
                "text": said,
            }
        ],
        "models": [],
    }


def _ellipsoid(cov, columns):
    """Diameters (3,) and orientation (4,) of the ellipsoid of a position."""
    full = np.zeros((3, 3))
    full[np.ix_(columns, columns)] = cov
    values, vectors = np.linalg.eigh(full)
    vectors[:, 0] *= np.sign(np.linalg.det(vectors))  # a rotation, no reflection
    size = 2 * np.sqrt(np.maximum(values, 0.0) * chi2.ppf(PROBABILITY, len(columns)))
    return np.maximum(size, THINNEST), Rotation.from_matrix(vectors).as_quat()


def _arrow(where, mean, columns, colour):
    """An arrow as long as the object moves in a second, if the state has a velocity and it moves."""
    d = len(columns)
    velocity = np.zeros(3)
    if len(mean) < 2 * d:
        return []
    velocity[columns] = mean[d : 2 * d]
    speed = float(np.linalg.norm(velocity))
    if speed < 1e-6:
        return []
    yaw = np.arctan2(velocity[1], velocity[0])
    pitch = -np.arctan2(velocity[2], np.hypot(velocity[0], velocity[1]))
    turned = Rotation.from_euler("ZY", [yaw, pitch]).as_quat()  # from +x, where arrows point
    thick = {"shaft_diameter": 0.1, "head_length": 0.3 * speed, "head_diameter": 0.2}
    return [
        {"pose": _pose(where, turned), "shaft_length": 0.7 * speed, **thick, "color": colour | {"a": 0.9}}
    ]


def _vector(values):
    return dict(zip("xyz", map(float, values)))


def _pose(where, turned):
    return {"position": _vector(where), "orientation": dict(zip("xyzw", map(float, turned)))}


def _channel(path, topic) -> Channel:
    channel = choose(path, (SCENE,), topic)
    if channel.encoding != "json":
        raise ValueError(
            f"{os.fspath(path)}: {channel.topic} has scenes in {channel.encoding[:20]!r}; accepted is json"
        )
    return channel


def _scenes(path, channel, understood):
    """What each scene of a channel is understood as, with its time in ns."""
    number = 0
    for message in mcap.messages(path, channel.topic):
        try:
            if len(message.data) > MAX_MESSAGE:
                raise ValueError(f"{len(message.data)} bytes, accepted are {MAX_MESSAGE}")
            entities = json.loads(message.data, parse_constant=_refuse)["entities"]
            if not isinstance(entities, list) or len(entities) > MAX_DETECTIONS:
                raise ValueError(f"entities must be a list of at most {MAX_DETECTIONS}")
            yield message.log_time, understood(entities)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            said = str(error)[:200] or type(error).__name__
            raise ValueError(
                f"{os.fspath(path)}: message {number} of {channel.topic} is no scene ({said}); "
                f"accepted is {SCENE}"
            ) from None
        number += 1


def _detections(entities):
    """Frame, positions (m, 3), sizes (m, 3), orientations (m, 4) and ids of the entities with a body."""
    frames, ids, rows = set(), [], []
    for entity in entities:
        body = next(iter([*entity["cubes"], *entity["spheres"]]), None)
        if body is None:
            continue
        frames.add(str(entity["frame_id"]))
        ids.append(str(entity["id"]))
        pose = body["pose"]
        rows.append(
            [pose["position"][a] for a in "xyz"]
            + [body["size"][a] for a in "xyz"]
            + [pose["orientation"][a] for a in "xyzw"]
        )
    if len(frames) > 1:
        raise ValueError(f"entities in several frames, {sorted(frames)[:5]}")
    return next(iter(frames), ""), _numbers(rows, (len(rows), 10), LARGEST), ids


def _scan(stamp, found, coordinates) -> TimedScan:
    frame, numbers, ids = found
    where = numbers[:, :3]
    extra = {
        "id": np.array(ids, np.str_),
        "position": where,
        "size": numbers[:, 3:6],
        "orientation": numbers[:, 6:],
    }
    z = where[:, picked(SPACE, coordinates)]
    return TimedScan(stamp / NANO, z, coordinates, frame=frame, stamp=stamp, extra=extra)


def _states(entities):
    """Label, existence, source, mean and covariance of each entity."""
    rows = []
    for entity in entities:
        said = {str(pair["key"]): pair["value"] for pair in entity["metadata"]}
        values = [
            json.loads(said[name], parse_constant=_refuse) for name in ("existence", "source", "mean", "cov")
        ]
        d = len(values[2])
        if not 1 <= d <= MAX_DIM or not str(entity["id"]).isdecimal():
            raise ValueError(f"an entity {str(entity['id'])[:20]!r} with a state of {d} entries")
        rows.append((int(entity["id"]), *values[:2], _numbers(values[2], (d,)), _numbers(values[3], (d, d))))
    if len({len(row[3]) for row in rows}) > 1 or len({row[0] for row in rows}) < len(rows):
        raise ValueError("states of several sizes, or a label twice")
    if not all(
        0 <= row[1] <= 1 and type(row[2]) is int and -1 <= row[2] < 2**31 and row[0] < 2**63 for row in rows
    ):
        raise ValueError("an existence that is no probability, or a label or source that is no row")
    return rows


def _tracks(time, rows) -> Tracks:
    if not rows:
        return Tracks.empty(time, 0)
    label, existence, source, mean, cov = zip(*rows)
    return Tracks(
        time,
        np.array(label, np.int64),
        np.array(mean),
        np.array(cov),
        np.array(existence, float),
        np.array(source, np.int64),
    )


def _numbers(rows, shape, largest=LARGEST**2):
    """Numbers of JSON as an array of a shape, none above `largest` in size."""
    numbers = np.array(rows)
    if numbers.size and numbers.dtype.kind not in "if":
        raise ValueError(f"numbers are {str(rows)[:40]}")
    numbers = numbers.astype(float).reshape(shape)
    if not (np.abs(numbers) <= largest).all():
        raise ValueError(f"numbers that are not finite or beyond {largest:g}")
    return numbers


def _refuse(constant):
    raise ValueError(f"{constant} is no number of JSON")
