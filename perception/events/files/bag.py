"""ROS bags with dvs_msgs/EventArray or prophesee_event_msgs/EventArray, of ROS 1 and ROS 2.

Through rosbags, which reads the container without ROS. Messages are decoded here: through a type, each
event becomes a Python object, a thousand times slower. Messages that end before a window of time are
passed over undecoded. A ROS 2 bag is a folder; written are ROS 1 bags.

Source: github.com/uzh-rpg/rpg_dvs_ros, dvs_msgs; ROS 1 serialisation; OMG, "DDS-XTypes", CDR alignment.
"""

import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from perception.events.files.blocks import ANY, FIRST, Block, damage, event_place
from perception.events.files.output import require_within

SUFFIXES = (".bag",)
MAGIC = b"#ROSBAG V2.0"
EVENT = np.dtype([("x", "<u2"), ("y", "<u2"), ("s", "<u4"), ("ns", "<u4"), ("p", "u1")])
CDR_EVENT = np.dtype(
    {
        "names": ["x", "y", "s", "ns", "p"],
        "formats": ["<u2", "<u2", "<u4", "<u4", "u1"],
        "offsets": [0, 2, 6, 10, 14],
        "itemsize": 16,
    }
)
TYPES = ("dvs_msgs", "prophesee_event_msgs")
PER_MESSAGE = 1 << 14  # events that are written to one
DEFINITION = """Header header
uint32 height
uint32 width
dvs_msgs/Event[] events
================================================================================
MSG: std_msgs/Header
uint32 seq
time stamp
string frame_id
================================================================================
MSG: dvs_msgs/Event
uint16 x
uint16 y
time ts
bool polarity
"""
ODD = (
    struct.error,
    ValueError,
    KeyError,
    IndexError,
    AssertionError,
    RuntimeError,
    EOFError,
    OSError,
    TypeError,
    AttributeError,
    StopIteration,
    OverflowError,
)


class Reader:
    """Reader of the events of one topic; None: of the first that has some."""

    bounds, late, count, seeks = ANY, 0, None, False

    def __init__(self, path, topic: str | None = None):
        self.path, self.topic = path, topic
        if not os.path.isdir(path):
            with open(path, "rb"):  # a missing file is no damage
                pass
        self.size = next((size for _, _, size, _ in self._messages()), None)

    def blocks(self, start: int = FIRST) -> Iterator[Block]:
        """Blocks of one message each."""
        held = None  # the message before, not yet decoded
        for number, content, size, layout in self._messages():
            if size != self.size:
                raise damage(self.path, f"message {number}", f"a sensor of {size}", f"{self.size}, as before")
            message = number, content, layout
            if held and (start <= 0 or not layout[1] or self._first_time(content, layout) >= start):
                yield self._block(*held)
            held = message if layout[1] else held
        if held:
            yield self._block(*held)

    def _messages(self):
        """(number, content, size, layout) of each message."""
        with self._bag() as bag:
            found = [c for c in bag.connections if _is_events(c.msgtype) and self.topic in (None, c.topic)]
            if not found:
                topics = [(c.topic, c.msgtype) for c in bag.connections][:10]
                raise damage(
                    self.path, "connections", f"topics are {topics}", f"EventArray of {' or '.join(TYPES)}"
                )
            wanted = [c for c in found if c.topic == found[0].topic]
            ros1 = type(bag).__module__.startswith("rosbags.rosbag1")
            messages, number = bag.messages(wanted), 0
            while True:
                try:
                    message = next(messages, None)
                    if message is None:
                        return
                    size, layout = layout_of(message[2], ros1)
                except ODD as error:
                    raise damage(
                        self.path, f"message {number}", f"rosbags cannot read it ({error})", "sound messages"
                    ) from None
                yield number, message[2], size, layout
                number += 1

    @contextmanager
    def _bag(self):
        try:
            from rosbags.rosbag1 import Reader as Bag1
            from rosbags.rosbag1 import ReaderError as Error1
            from rosbags.rosbag2 import Reader as Bag2
            from rosbags.rosbag2 import ReaderError as Error2
        except ImportError:
            raise ImportError(
                "bags need the events extra: pip install -c constraints.txt -e '.[events]'"
            ) from None
        try:
            bag = (Bag2 if os.path.isdir(self.path) else Bag1)(self.path)
            bag.open()
        except (Error1, Error2, *ODD) as error:
            raise damage(self.path, "index", f"rosbags cannot read it ({error})", "sound bags") from None
        try:
            yield bag
        except (Error1, Error2) as error:
            raise damage(self.path, "index", f"rosbags cannot read it ({error})", "sound bags") from None
        finally:
            bag.close()

    def _first_time(self, content, layout):
        return int(_times(events_of(content, (layout[0], 1, layout[2])))[0])

    def _block(self, number, content, layout):
        events = events_of(content, layout)
        bad = np.flatnonzero((events["ns"] >= 10**9) | (events["p"] > 1))
        if len(bad):
            raise damage(
                self.path, f"message {number}, event {bad[0]}", f"{events[bad[0]]}", "ns below 10^9, p 0 or 1"
            )
        return Block(
            events["x"], events["y"], _times(events), events["p"] != 0, event_place(0, f"message {number}, ")
        )


def _times(events):
    return events["s"].astype(np.int64) * 1_000_000 + (events["ns"].astype(np.int64) + 500) // 1000


def _is_events(name):
    return name.split("/")[0] in TYPES and name.endswith("/EventArray")


def layout_of(content, ros1: bool) -> tuple[tuple[int, int] | None, tuple[int, int, bool]]:
    """(size, (byte of the first event, number, ROS 1)) of a serialised EventArray.

    Raises:
        ValueError, struct.error: it is none.
    """
    if not ros1 and bytes(content[:2]) not in (b"\0\1", b"\0\0"):
        raise ValueError(f"encapsulation {bytes(content[:4])!r}")
    if not ros1 and content[1] == 0:
        raise ValueError("big-endian CDR")
    byte = 12 if ros1 else 4 + 8  # seq, stamp, which is (sec, nanosec) alone in ROS 2
    byte += 4 + struct.unpack_from("<I", content, byte)[0]
    if not ros1:
        byte += -byte % 4  # the encapsulation has 4 bytes, so alignment is the same from the content's start
    height, width, number = struct.unpack_from("<III", content, byte)
    byte += 12
    size = number * EVENT.itemsize if ros1 else max(CDR_EVENT.itemsize * number - 3, 0)
    if byte + size > len(content):
        raise ValueError(f"{number} events in {len(content)} bytes")
    known = 1 <= width <= ANY[0] and 1 <= height <= ANY[1]
    return ((width, height) if known else None), (byte, number, ros1)


def events_of(content, layout: tuple[int, int, bool]) -> np.ndarray:
    """Events (n,) of a serialised EventArray.

    In CDR, numbers stand at multiples of their size. The first event takes 13 bytes; event k > 0 begins at
    16 k - 2, with its time 6 bytes further on.
    """
    byte, number, ros1 = layout
    if ros1:
        return np.frombuffer(content, EVENT, number, byte)
    events = np.empty(number, EVENT)
    if number:
        events[:1] = np.frombuffer(content, EVENT, 1, byte)
        for name in EVENT.names or ():
            events[name][1:] = np.frombuffer(bytes(content[byte + 14 :]) + b"\0", CDR_EVENT, number - 1)[name]
    return events


def recognises(head: bytes) -> bool:
    """Whether the content begins as a bag of ROS 1."""
    return head.startswith(MAGIC)


def reader(path, topic: str | None = None) -> Reader:
    """Open a bag; topic: None for the first that has events."""
    return Reader(path, topic)


def write(file, streams, size, topic: str = "/dvs/events") -> None:
    """Write streams as dvs_msgs/EventArray; times from 0 to 2^32 s."""
    try:
        from rosbags.rosbag1 import Writer
    except ImportError:
        raise ImportError(
            "bags need the events extra: pip install -c constraints.txt -e '.[events]'"
        ) from None
    with tempfile.TemporaryDirectory(dir=os.path.dirname(file.name)) as folder:
        path = os.path.join(folder, "events.bag")
        with Writer(path) as bag:
            connection = bag.add_connection(
                topic, "dvs_msgs/msg/EventArray", msgdef=DEFINITION, md5sum="5e8beee5a6c107e504c2e78903c224b8"
            )
            number = 0
            for stream in streams:
                require_within(stream, "ROS", ANY, 10**6 << 32)
                for part in stream.by_count(PER_MESSAGE) if len(stream) else [stream]:
                    time = int(part.t[-1]) if len(part) else 0
                    bag.write(connection, time * 1000, _message(part, number, time, size))
                    number += 1
        with open(path, "rb") as source:
            shutil.copyfileobj(source, file)


def _message(part, number, time, size):
    events = np.empty(len(part), EVENT)
    events["x"], events["y"], events["p"] = part.x, part.y, part.p
    events["s"], events["ns"] = part.t // 10**6, part.t % 10**6 * 1000
    head = struct.pack("<IIII", number & 0xFFFFFFFF, time // 10**6, time % 10**6 * 1000, 0)
    return head + struct.pack("<III", size[1], size[0], len(part)) + events.tobytes()
