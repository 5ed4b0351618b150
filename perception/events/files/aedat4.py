"""AEDAT 4.0 of DV: packets of events, plain or compressed, and a table of them at the end.

Read and written here: `aedat` 2.3 takes down the interpreter on some damaged files, which no caller can
catch, and reads no window of time; dv-processing takes events one by one from Python. Both read what is
written here. Compressed packets need the lz4 or the backports.zstd package, which rosbags brings.

For a window of time, reading begins at the packet that the table names; a table that is missing or wrong
costs nothing but time.

Source: iniVation, "AEDAT file formats", section 4.0, and the schemas in dv-processing.
"""

import struct
from collections.abc import Callable, Iterator
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np

from perception.events.files.aedat4_tables import EVENT, Tables, event_packet, header_table, packet_table
from perception.events.files.blocks import BLOCK, FIRST, Block, damage, event_place
from perception.events.files.output import require_within

SUFFIXES = (".aedat4",)
MAGIC = b"#!AER-DAT4.0\r\n"
SIDE = 1 << 15  # pixels
MAX_PACKET = 1 << 28  # bytes, unpacked
MAX_HEADER = 1 << 22  # bytes
COMPRESSIONS = ("none", "lz4", "lz4_high", "zstd", "zstd_high")
PER_PACKET = 1 << 14  # events that are written to one
ODD = (struct.error, ValueError, IndexError, OverflowError)  # what reading tables of nonsense raises


class Reader:
    """Reader of one AEDAT 4 file; stream: number of the events' stream, None: the first."""

    bounds, late, seeks = (SIDE, SIDE), 0, True

    def __init__(self, path, stream: int | None = None):
        self.path = path
        with open(path, "rb") as file:
            self.end = file.seek(0, 2)
            file.seek(len(MAGIC))
            length = int.from_bytes(file.read(4), "little")
            content = file.read(min(length, MAX_HEADER))
            if len(content) < length:
                raise damage(
                    path, f"byte {len(MAGIC)}", f"a header of {length} bytes", "one that the file holds"
                )
            self.base = file.tell()
            try:
                tables = Tables(content)
                root = tables.root(b"IOHE")
                compression = tables.number(root, 0, "<i")
                position, info = tables.number(root, 1, "<q", -1), tables.text(root, 2)
                streams = _streams(info)
            except (*ODD, ElementTree.ParseError) as error:
                raise damage(
                    path, f"byte {len(MAGIC)}", f"a header that cannot be read ({error})", "AEDAT 4"
                ) from None
            if not 0 <= compression < len(COMPRESSIONS):
                raise damage(
                    path, f"byte {len(MAGIC)}", f"compression {compression}", ", ".join(COMPRESSIONS)
                )
            self.unpack = unpacker(COMPRESSIONS[compression])
            if not streams or stream not in (None, *streams):
                raise ValueError(f"{path}: streams of events are {sorted(streams)}, got stream={stream}")
            self.stream = min(streams) if stream is None else stream
            self.size = self._checked_size(streams[self.stream])
            self.table = self._read_table(file, position)
        self.stop = position if self.base <= position <= self.end else self.end
        self.count = sum(entry[3] for entry in self.table) if self.table else None

    def blocks(self, start: int = FIRST) -> Iterator[Block]:
        """Blocks of one packet each."""
        byte = self.base
        for first, _, last, _ in self.table:
            if last >= start:
                break
            byte = first
        with open(self.path, "rb") as file:
            while byte < self.stop:
                file.seek(byte)
                head = file.read(8)
                stream, size = struct.unpack("<ii", head) if len(head) == 8 else (0, -1)
                if size < 0 or byte + 8 + size > self.stop:
                    raise damage(
                        self.path,
                        f"byte {byte}",
                        f"a packet of {size} bytes, cut off",
                        f"packets up to byte {self.stop}",
                    )
                if stream == self.stream:
                    yield from self._packet(byte, file.read(size))
                byte += 8 + size

    def _packet(self, byte, content):
        try:
            content = self.unpack(content)
            tables = Tables(content[4:])
            events = tables.events(tables.root(b"EVTS"))
        except ODD as error:
            raise damage(
                self.path, f"byte {byte}", f"a packet that cannot be read ({error})", "events"
            ) from None
        for first in range(0, len(events), BLOCK):
            part = events[first : first + BLOCK]
            x, y = part["x"].astype(np.uint16), part["y"].astype(np.uint16)
            place = event_place(first, f"byte {byte} (packet), ")
            yield Block(x, y, part["t"].astype(np.int64), part["on"] != 0, place)

    def _checked_size(self, size):
        if size and not all(1 <= side <= SIDE for side in size):
            raise damage(self.path, f"byte {len(MAGIC)}", f"a sensor of {size}", f"sides from 1 to {SIDE}")
        return size

    def _read_table(self, file, position):
        """(byte, first time, last time, number) of the packets of events, [] if there is no sound table."""
        if not self.base <= position < self.end or self.end - position > MAX_PACKET:
            return []
        file.seek(position)
        content = file.read()
        try:
            content = self.unpack(content)
            tables = Tables(content[4:])
            rows = tables.packets(tables.root(b"FTAB"))
        except ODD:
            return []
        rows = [(byte - 8, *rest) for byte, stream, *rest in rows if stream == self.stream]
        # it must go forward through the file and through time, or it is no guide
        ends = [(byte, last) for byte, _, last, _ in rows]
        sound = all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(ends))
        inside = all(self.base <= byte < position and count >= 0 for byte, *_, count in rows)
        return rows if sound and inside and all(self._is_packet(file, row[0]) for row in rows[-1:]) else []

    def _is_packet(self, file, byte):
        file.seek(byte)
        stream, size = struct.unpack("<ii", file.read(8))
        return stream == self.stream and byte + 8 + size <= self.end


def _streams(info):
    """{number: size or None} of the streams of events in the header's XML."""
    if "<!" in info:
        raise ValueError("declarations in XML")
    found = {}
    for node in ElementTree.fromstring(info.strip("\0 \r\n")).iterfind(".//node"):
        values = {attribute.get("key"): attribute.text or "" for attribute in node.iterfind("attr")}
        if values.get("typeIdentifier") == "EVTS" and node.get("name", "").isdecimal():
            sides = {attribute.get("key"): attribute.text or "" for attribute in node.iterfind("node/attr")}
            wide, high = sides.get("sizeX", ""), sides.get("sizeY", "")
            known = wide.isdecimal() and high.isdecimal() and len(wide + high) < 20
            found[int(node.get("name", ""))] = (int(wide), int(high)) if known else None
    return found


def unpacker(compression: str) -> Callable[[bytes], bytes]:
    """A function that unpacks at most MAX_PACKET bytes.

    Raises:
        ImportError: the package is missing.
    """
    if compression == "none":
        return bytes
    try:
        if compression.startswith("lz4"):
            from lz4.frame import LZ4FrameDecompressor as Decompressor

            errors: tuple[type[Exception], ...] = (RuntimeError, EOFError)
        else:
            from backports.zstd import ZstdDecompressor as Decompressor
            from backports.zstd import ZstdError

            errors = (ZstdError, EOFError)
    except ImportError:
        raise ImportError(
            f"{compression} needs the events extra: pip install -c constraints.txt -e '.[events]'"
        ) from None

    def unpack(content):
        decompressor = Decompressor()
        try:
            result = decompressor.decompress(content, MAX_PACKET)
        except errors as error:
            raise ValueError(f"{compression}: {error}") from None
        if not decompressor.eof:
            raise ValueError(f"{compression}: cut off, or more than {MAX_PACKET} bytes")
        return result

    return unpack


def packer(compression: str) -> Callable[[bytes], bytes]:
    """The opposite of `unpacker`.

    Raises:
        ValueError:  it is none of COMPRESSIONS.
        ImportError: the package is missing.
    """
    if compression not in ("none", "lz4", "zstd"):
        raise ValueError(f"compression must be none, lz4 or zstd, got {compression!r}")
    if compression == "none":
        return bytes
    unpacker(compression)
    if compression == "lz4":
        from lz4.frame import compress
    else:
        from backports.zstd import compress
    return compress


def recognises(head: bytes) -> bool:
    """Whether the first line names the version."""
    return head.startswith(MAGIC[:-2])


def reader(path, stream: int | None = None) -> Reader:
    """Open a file; stream: number of the stream of events, None: the first."""
    return Reader(path, stream)


def write(file, streams, size, compression: str = "none") -> None:
    """Write streams of at most 32,768 pixels a side; compression: none, lz4 or zstd."""
    pack, rows = packer(compression), []
    file.write(MAGIC + header_table(COMPRESSIONS.index(compression), -1, size))
    byte = file.tell()
    for stream in streams:
        require_within(stream, "AEDAT 4", (SIDE, SIDE), 1 << 61, -(1 << 61))
        for part in stream.by_count(PER_PACKET):
            events = np.zeros(len(part), EVENT)
            events["t"], events["x"], events["y"], events["on"] = part.t, part.x, part.y, part.p
            content = pack(event_packet(events))
            file.write(struct.pack("<ii", 0, len(content)) + content)
            rows.append((byte + 8, len(content), len(part), int(part.t[0]), int(part.t[-1])))
            byte += 8 + len(content)
    file.write(pack(packet_table(rows)))
    file.seek(len(MAGIC))
    file.write(header_table(COMPRESSIONS.index(compression), byte, size))
