"""ROS 2 bags with detections and tracks, without ROS: vision_msgs Detection3DArray and Detection2DArray.

    for scan in read_scans("night", topic="/detections"):
        tracks = tracker.step(scan.z, scan.time)

A bag is a folder with `metadata.yaml` and files of SQLite (.db3) or MCAP, or one such file. Scans come in the
order of their header stamps, in s; the frame of the header stays with them.

SQLite files are read by rosbags, MCAP files by `tracking.formats.mcap`. A file from a stranger runs no code:
what is no plain table is refused, and messages are read by our own definitions, never by those of the bag.

Source: the ROS 2 design of rosbag2_storage; rosbags for containers and CDR.
"""

import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tracking.formats import mcap, vision
from tracking.formats.mcap import Channel, Message
from tracking.formats.scans import NANO, Attributes, TimedScan, in_order, nanoseconds
from tracking.formats.vision_definitions import known, typestore
from tracking.tracks import Tracks

MAX_METADATA = 2**22  # bytes of metadata.yaml
MAX_FILES = 10_000
MAX_MESSAGE = 2**24  # bytes of one message
MAX_DEPTH = 20  # of brackets in metadata.yaml
STORAGES = ("sqlite3", "mcap")
CLOCKS = ("header", "bag")
_SUFFIXES = (".db3", ".mcap")


def is_bag(path) -> bool:
    """Whether a path is a folder with a bag in it, or one file of a bag."""
    path = Path(path)
    if path.is_dir():
        return (path / "metadata.yaml").is_file() or any(p.suffix in _SUFFIXES for p in path.iterdir())
    return path.suffix in _SUFFIXES


def topics(path) -> list[Channel]:
    """The topics of a bag with the types of their messages.

    Raises:
        ValueError: it is no sound bag.
        OSError:    it is missing or cannot be read.
    """
    found: dict[Channel, None] = {}
    for file, _ in _files(path):
        found |= dict.fromkeys(mcap.channels(file) if file.suffix == ".mcap" else _sqlite_channels(file))
    return list(found)


def choose(path, types: Sequence[str], topic: str | None = None) -> Channel:
    """The channel of a topic; None: of the only one that has one of these types.

    Raises:
        ValueError: there is none, or there are several; the message lists topics and types.
    """
    every = topics(path)
    good = [c for c in every if c.type in types and topic in (None, c.topic)]
    if len(good) == 1:
        return good[0]
    listed = ", ".join(f"{c.topic} ({c.type})" for c in every[:20]) or "none"
    accepted = f"accepted are {' or '.join(types)}"
    if topic is not None and topic not in [c.topic for c in every]:
        raise ValueError(f"{os.fspath(path)}: no topic {topic[:80]}; there are {listed}; {accepted}")
    if not good:
        which = "no topic" if topic is None else f"topic {topic[:80]} is not"
        raise ValueError(f"{os.fspath(path)}: {which} of an accepted type; there are {listed}; {accepted}")
    raise ValueError(
        f"{os.fspath(path)}: {len(good)} topics could be meant, {', '.join(c.topic for c in good[:20])}; "
        "accepted is one: name it as topic"
    )


def read_scans(
    path,
    topic: str | None = None,
    *,
    coordinates: Sequence[str] | None = None,
    position: str = "box",
    clock: str = "header",
    reorder: float = 1.0,
) -> Iterator[TimedScan]:
    """The scans of a topic in the order of their times, one at a time.

    Args:
        path:        folder or file of a bag.
        topic:       its name; None: the only one with detections.
        coordinates: that make the measurement; None: x, y, z, or x, y of the centre in an image.
        position:    "box" or "hypothesis", as of `vision.scan_of`.
        clock:       "header": stamps of the messages; "bag": times at which they were recorded.
        reorder:     s that stamps may be out of order.
    Raises:
        ValueError: no sound bag, no such topic, a message that cannot be a scan, or frames that change.
        OSError:    it is missing or cannot be read.
    """
    if clock not in CLOCKS:
        raise ValueError(f"clock must be one of {', '.join(CLOCKS)}, got {clock!r}")
    channel = choose(path, vision.TYPES, topic)
    if coordinates is None:
        coordinates = vision.available(channel.type)[: 2 if channel.type == vision.DETECTIONS_2D else 3]
    scans = (
        _timed(vision.scan_of(message, coordinates, position, channel.type), log_time, clock)
        for message, log_time in _explained(path, channel)
    )
    one_frame = _saying_where(path, _one_frame(scans), channel)
    return _saying_where(path, in_order(one_frame, reorder))


def read_tracks(path, topic: str | None = None) -> Iterator[Tracks]:
    """Tracks that `BagWriter` wrote, scan by scan: positions, covariances, labels and existence.

    Raises:
        ValueError: as `read_scans`; or a message that holds no tracks.
        OSError:    it is missing or cannot be read.
    """
    channel = choose(path, vision.TYPES, topic)
    tracks = (vision.tracks_of(message, channel.type) for message, _ in _explained(path, channel))
    return _saying_where(path, tracks, channel)


class BagWriter:
    """Writes tracks into a ROS 2 bag, as `with writer(path) as bag: bag.write(tracks, scan, seen)`."""

    def __init__(self, bag: Any, connection: Any, kind: str):
        self._bag, self._connection, self.kind = bag, connection, kind

    def write(self, tracks: Tracks, scan: TimedScan, seen: Sequence[Attributes]) -> None:
        """Write the tracks that were reported of a scan; arguments as of `vision.message_of`."""
        message = vision.message_of(tracks, scan, seen, known, self.kind)
        self._bag.write(self._connection, nanoseconds(scan), typestore().serialize_cdr(message, self.kind))


@contextmanager
def writer(
    path, topic: str = "/tracks", kind: str = vision.DETECTIONS_3D, storage: str = "sqlite3"
) -> Iterator[BagWriter]:
    """A new bag, which appears complete or not at all.

    Args:
        path:    of its folder, which must not be there yet.
        topic:   of the tracks.
        kind:    DETECTIONS_3D or DETECTIONS_2D of `tracking.formats.vision`.
        storage: "sqlite3", which every ROS 2 plays, or "mcap".
    Raises:
        ValueError: something has that name already, or an unknown kind or storage.
    """
    if kind not in vision.TYPES or storage not in STORAGES:
        raise ValueError(
            f"kind must be one of {', '.join(vision.TYPES)} and storage of {', '.join(STORAGES)}, "
            f"got {kind!r} and {storage!r}"
        )
    if not re.fullmatch(r"/?[A-Za-z_~{}][\w/~{}]{0,254}", topic, re.ASCII):
        raise ValueError(f"topic must be a name of ROS such as /tracks, got {topic[:80]!r}")
    typestore()
    from rosbags.rosbag2 import StoragePlugin, Writer

    target = Path(os.path.abspath(path))
    if os.path.lexists(target):
        raise ValueError(f"{os.fspath(path)} is there already; accepted is the name of a new folder")
    part = target.parent / f".{secrets.token_hex(8)}.part"  # files in the bag are named after its folder
    part.mkdir()
    try:
        with Writer(part / target.name, version=8, storage_plugin=StoragePlugin[storage.upper()]) as bag:
            connection = bag.add_connection(topic, kind, typestore=typestore())
            yield BagWriter(bag, connection, kind)
        os.rename(part / target.name, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _timed(scan, log_time, clock) -> TimedScan:
    if clock == "bag":
        return replace(scan, time=log_time / NANO, stamp=log_time)
    if scan.stamp == 0 != log_time:
        raise ValueError(
            'its header.stamp is 0, not set; accepted is clock="bag", which takes the time of recording'
        )
    return scan


def _one_frame(scans) -> Iterator[TimedScan]:
    frame = ""
    for scan in scans:
        if frame and scan.frame and scan.frame != frame:
            raise ValueError(
                f"it is in frame {scan.frame[:40]!r}, those before in {frame[:40]!r}; accepted is one frame. "
                "Transform the detections first."
            )
        frame = frame or scan.frame
        yield replace(scan, frame=frame)


def _saying_where(path, items, channel=None):
    """The items; what is wrong with them says the file, and with a channel the number of the message."""
    number, items = 0, iter(items)
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except ValueError as error:
            said = str(error)
            if said.startswith(os.fspath(path)):
                raise
            where = "" if channel is None else f"message {number} of {channel.topic}: "
            raise ValueError(f"{os.fspath(path)}: {where}{said}") from None
        yield item
        number += 1


def _explained(path, channel) -> Iterator[tuple[Any, int]]:
    """The messages of a channel as objects, with the time at which each was recorded, ns."""
    from rosbags.serde import SerdeError

    _require_version(path, channel)
    store = typestore()
    for message in _messages(path, channel):
        if len(message.data) > MAX_MESSAGE:
            raise ValueError(f"{len(message.data)} bytes, accepted are {MAX_MESSAGE}")
        try:
            yield store.deserialize_cdr(message.data, channel.type), message.log_time
        except (SerdeError, AssertionError, IndexError, TypeError, OverflowError, AttributeError) as error:
            raise ValueError(
                f"it is no {channel.type} ({str(error)[:100]}); accepted are messages of vision_msgs 4, "
                "as of ROS 2 Humble and later"
            ) from None


def _require_version(path, channel):
    """Raise ValueError if a bag says that its messages have other fields than ours."""
    ours = typestore().hash_rihs01(channel.type)
    if channel.encoding != "cdr" or (channel.digest.startswith("RIHS01_") and channel.digest != ours):
        raise ValueError(
            f"{os.fspath(path)}: {channel.topic} has {channel.type} in {channel.encoding[:20]!r} "
            f"with fields of hash {channel.digest[:80] or '(none)'}; accepted is cdr with {ours}, as of "
            "vision_msgs 4"
        )


def _messages(path, channel) -> Iterator[Message]:
    total = 0
    for file, compressed in _files(path):
        read = (
            mcap.messages(file, channel.topic) if file.suffix == ".mcap" else _sqlite_messages(file, channel)
        )
        for message in read:
            if message.channel.type == channel.type:
                total += 1
                yield message._replace(data=_inflated(message.data)) if compressed else message


def _files(path) -> list[tuple[Path, bool]]:
    """The files of a bag in order, and whether their messages are compressed one by one."""
    path = Path(path)
    if not path.is_dir():
        if path.suffix not in _SUFFIXES:
            raise ValueError(f"{path} is no bag; accepted are folders, .db3 and .mcap files")
        os.stat(path)  # a missing one is an OSError
        return [(path, False)]
    about = path / "metadata.yaml"
    if not about.is_file():  # recording was cut off
        found = sorted((p for p in path.iterdir() if p.suffix in _SUFFIXES), key=_numbered)
        if not found:
            raise ValueError(
                f"{path} is no bag; accepted are folders with metadata.yaml, .db3 or .mcap files"
            )
        return [(file, False) for file in found[:MAX_FILES]]
    return _listed(path, about)


def _numbered(file):
    """Names with their numbers as numbers: bag_10 comes after bag_9."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", file.stem)]


def _listed(path, about) -> list[tuple[Path, bool]]:
    """What metadata.yaml lists."""
    typestore()
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if about.stat().st_size > MAX_METADATA:
        raise ValueError(f"{about}: {about.stat().st_size} bytes, accepted are {MAX_METADATA}")
    try:
        text = about.read_text()
        _require_shallow(text)
        document = YAML(typ="safe").load(text)
        said = document.get("rosbag2_bagfile_information") if isinstance(document, dict) else None
        if not isinstance(said, dict):
            raise ValueError("no table rosbag2_bagfile_information")
        names, mode = said["relative_file_paths"], str(said.get("compression_mode") or "none").lower()
        if not (isinstance(names, list) and 0 < len(names) <= MAX_FILES):
            raise ValueError(f"relative_file_paths is {str(names)[:40]!r}")
        files = [path / Path(str(name)).name for name in names]
    except (
        YAMLError,
        LookupError,
        TypeError,
        AttributeError,
        ValueError,
        RecursionError,
        AssertionError,
    ) as error:
        raise ValueError(f"{about}: {str(error)[:200]}; accepted is the description of a bag") from None
    if mode not in ("none", "message", "storage"):
        raise ValueError(
            f"{about}: compression by {mode[:20]}; accepted are files that are not compressed, or message by "
            "message. Unpack the bag: ros2 bag convert"
        )
    for file in files:
        if file.suffix not in _SUFFIXES or not file.is_file():
            raise ValueError(
                f"{about}: lists {file.name[:80]!r}; accepted are .db3 and .mcap files beside it"
            )
    return [(file, mode == "message") for file in files]


def _require_shallow(text):
    """Raise ValueError where brackets are nested deeply: a parser of YAML takes a square of time for them."""
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth = max(depth + (1 if bracket in "[{" else -1), 0)
        if depth > MAX_DEPTH:
            raise ValueError(f"brackets nested {depth} deep")


def _inflated(data: bytes) -> bytes:
    """A message that was compressed by itself."""
    mcap.import_mcap()
    from zstandard import ZstdDecompressor, ZstdError

    try:
        with ZstdDecompressor(max_window_size=MAX_MESSAGE).stream_reader(data) as stream:
            return stream.read(MAX_MESSAGE + 1)
    except ZstdError as error:
        raise ValueError(
            f"it cannot be unpacked ({error}); accepted are messages compressed by zstd"
        ) from None


@contextmanager
def _sqlite(path) -> Iterator[Any]:
    """A reader of an SQLite file whose tables are plain ones."""
    typestore()
    import apsw
    from rosbags.rosbag2 import Reader, ReaderError

    if set(os.fspath(path)) & set("?#%"):
        raise ValueError(f"{path} cannot be opened by SQLite; accepted are paths without ?, # and %")
    odd = (apsw.Error, ReaderError, ValueError, LookupError, TypeError, AttributeError, AssertionError)
    try:
        _require_plain(path)
        with Reader(Path(path)) as reader:
            yield reader
    except (*odd, OverflowError, RecursionError) as error:
        said = str(error)[:200] or type(error).__name__
        raise ValueError(f"{path}: {said}; accepted are sound bags") from None


def _require_plain(path):
    """Raise ValueError unless all tables are plain: a view or a computed column would run what it says."""
    import apsw

    names = ("topics", "messages", "schema", "metadata", "message_definitions")
    with closing(apsw.Connection(os.fspath(path), flags=apsw.SQLITE_OPEN_READONLY)) as file:
        for kind, name, sql in file.execute("SELECT type, name, sql FROM sqlite_master LIMIT 1000"):
            if kind not in ("table", "index") or "virtual" in str(sql).lower().split("(")[0]:
                raise ValueError(f"it has a {kind} {str(name)[:40]!r}, accepted are plain tables")
        for name in names:
            if any(column[6] for column in file.execute(f"PRAGMA table_xinfo({name})")):
                raise ValueError(f"table {name} has computed columns, accepted are plain ones")


def _sqlite_channels(path) -> list[Channel]:
    with _sqlite(path) as reader:
        return [_sqlite_channel(c) for c in reader.connections[: mcap.MAX_CHANNELS]]


def _sqlite_channel(connection) -> Channel:
    return Channel(
        str(connection.topic),
        str(connection.msgtype),
        str(connection.ext.serialization_format),
        str(connection.digest or ""),
    )


def _sqlite_messages(path, channel) -> Iterator[Message]:
    with _sqlite(path) as reader:
        wanted = [c for c in reader.connections if (c.topic, c.msgtype) == (channel.topic, channel.type)]
        for connection, time, data in reader.messages(wanted) if wanted else ():
            if not isinstance(time, int) or not isinstance(data, bytes):
                raise ValueError(f"a message of {type(data).__name__} at {time!r:.40}")
            yield Message(_sqlite_channel(connection), time, data)
