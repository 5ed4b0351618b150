"""AEDAT 3.1 of cAER: packets of polarity events among packets of frames, IMU samples and others.

Decoded here: tonic takes every packet for one of polarity events and leaves out the overflow of their
clock; no library writes the format. A time is 31 bits in the event and the number of its overflows in the
header of the packet. Events that were marked invalid are passed over. Packets that lie before a window of
time are stepped over, their last event tells.

Source: iniVation, "AEDAT file formats", section 3.1.
"""

import re
from collections.abc import Iterator

import numpy as np

from perception.events.files.blocks import BLOCK, FIRST, Block, damage, kept_place
from perception.events.files.header import read_header
from perception.events.files.output import require_within

SUFFIXES = (".aedat3",)
MAGIC = b"#!AER-DAT3.1"
SIDE = 1 << 15  # pixels
POLARITY = 1  # type of a packet
FIELDS = ("time_offset", "overflows", "capacity", "number", "valid")
PACKET = np.dtype([("type", "<i2"), ("source", "<i2"), ("size", "<i4"), *((name, "<i4") for name in FIELDS)])
EVENT = np.dtype([("data", "<u4"), ("t", "<i4")])
KNOWN = {"DAVIS240": (240, 180), "DAVIS346": (346, 260), "DAVIS128": (128, 128), "DVS128": (128, 128)}
PER_PACKET = 1 << 14  # events that are written to one


class Reader:
    """Reader of one AEDAT 3.1 file."""

    bounds, late, count, seeks = (SIDE, SIDE), 0, None, True

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            lines, self.base = read_header(file, b"#", b"#!END-HEADER")
            self.end = file.seek(0, 2)
        text = "\n".join(lines)
        coding = re.search(r"^#Format: *(\S+)", text, re.MULTILINE)
        if coding and coding[1].upper() != "RAW":
            raise damage(path, "byte 0", f"format {coding[1][:32]}", "uncompressed files, format RAW")
        if not lines or not lines[-1].startswith("#!END-HEADER"):
            raise damage(path, f"byte {self.base}", "the header goes on", "headers with #!END-HEADER")
        named = re.search("|".join(KNOWN), text)
        size = re.search(r"^#Size: *(\d{1,5})x(\d{1,5})$", text, re.MULTILINE)
        self.size = KNOWN[named[0]] if named else (int(size[1]), int(size[2])) if size else None
        if self.size and not all(1 <= side <= SIDE for side in self.size):
            raise damage(path, "byte 0", f"a sensor of {self.size}", f"sides from 1 to {SIDE}")

    def blocks(self, start: int = FIRST) -> Iterator[Block]:
        """Blocks of at most BLOCK events, of one packet each."""
        with open(self.path, "rb") as file:
            skipped = None  # the packet before, if all of it lies before start
            for byte, packet in self._packets(file):
                if start > 0 and int(packet["number"]) and self._last(file, byte, packet) < start:
                    skipped = byte, packet
                    continue
                if skipped:
                    yield from self._events(file, *skipped)
                    skipped = None
                yield from self._events(file, byte, packet)
            if skipped:
                yield from self._events(file, *skipped)

    def _packets(self, file):
        """(first byte of the events, header) of each packet of polarity events."""
        byte = self.base
        while byte < self.end:
            file.seek(byte)
            content = file.read(PACKET.itemsize)
            if len(content) < PACKET.itemsize:
                raise damage(self.path, f"byte {byte}", "the file ends in a packet's header", "whole packets")
            packet = np.frombuffer(content, PACKET)[0]
            size, number = int(packet["size"]), int(packet["number"])
            if size < 1 or number < 0 or packet["type"] < 0 or packet["overflows"] < 0:
                raise damage(
                    self.path,
                    f"byte {byte}",
                    f"a packet header {packet.tolist()}",
                    "sizes above 0, numbers and types from 0",
                )
            if packet["type"] == POLARITY:
                if size != EVENT.itemsize:
                    raise damage(self.path, f"byte {byte}", f"events of {size} bytes", f"{EVENT.itemsize}")
                yield byte + PACKET.itemsize, packet
            byte += PACKET.itemsize + size * number
        if byte > self.end:
            raise damage(
                self.path, f"byte {self.end}", f"a packet lacks {byte - self.end} bytes", "whole packets"
            )

    def _last(self, file, byte, packet):
        file.seek(byte + EVENT.itemsize * (int(packet["number"]) - 1))
        content = file.read(EVENT.itemsize)
        if len(content) < EVENT.itemsize:
            return -FIRST  # cut off: to be read, up to there
        return int(np.frombuffer(content, EVENT)["t"][0]) + (int(packet["overflows"]) << 31)

    def _events(self, file, byte, packet):
        left = int(packet["number"])
        while left:
            file.seek(byte)
            content = file.read(EVENT.itemsize * min(left, BLOCK))
            events = np.frombuffer(content, EVENT, len(content) // EVENT.itemsize)
            if not len(events):
                return  # what is missing is said when the packet has been stepped over
            yield self._block(byte, events, int(packet["overflows"]))
            byte, left = byte + events.nbytes, left - len(events)

    def _block(self, byte, events, overflows):
        kept = np.flatnonzero(events["data"] & 1)
        data, t = events["data"][kept], events["t"][kept].astype(np.int64)
        if (t < 0).any():
            at = byte + EVENT.itemsize * kept[np.argmax(t < 0)]
            raise damage(self.path, f"byte {at}", f"time {t[t < 0][0]}", "times from 0 to 2^31 - 1")
        x, y = (data >> 17).astype(np.uint16), (data >> 2 & 0x7FFF).astype(np.uint16)
        p = (data >> 1 & 1).astype(bool)
        return Block(x, y, t + (overflows << 31), p, kept_place(byte, EVENT.itemsize, kept))


def recognises(head: bytes) -> bool:
    """Whether the first line names the version."""
    return head.startswith(MAGIC)


def reader(path) -> Reader:
    """Open a file."""
    return Reader(path)


def write(file, streams, size) -> None:
    """Write streams; times from 0 to 2^61 us."""
    names = {known: name for name, known in KNOWN.items()}
    source = names.get(size, "Processor")
    file.write(
        b"%s\r\n#Format: RAW\r\n#Source 1: %s\r\n#Size: %dx%d\r\n#!END-HEADER\r\n"
        % (MAGIC, source.encode(), *size)
    )
    for stream in streams:
        require_within(stream, "AEDAT 3.1", (SIDE, SIDE), 1 << 61)
        turns = (stream.t >> 31).searchsorted(np.unique(stream.t >> 31)).tolist()
        for first, end in zip(turns, [*turns[1:], len(stream)]):
            for part in stream[first:end].by_count(PER_PACKET):
                file.write(_packet(part))


def _packet(stream):
    packet, events = np.zeros(1, PACKET), np.empty(len(stream), EVENT)
    packet["type"], packet["source"], packet["size"], packet["time_offset"] = POLARITY, 1, EVENT.itemsize, 4
    packet["overflows"] = stream.t[0] >> 31
    packet["capacity"] = packet["number"] = packet["valid"] = len(stream)
    x, y, p = (column.astype(np.uint32) for column in (stream.x, stream.y, stream.p))
    events["data"] = x << 17 | y << 2 | p << 1 | 1
    events["t"] = stream.t & (2**31 - 1)
    return packet.tobytes() + events.tobytes()
