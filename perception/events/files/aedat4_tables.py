"""The flatbuffers in an AEDAT 4 file: header, packets of events, and the table of packets.

A table is a position, from which a signed offset leads back to the list of where its fields are; reading
beyond the content raises struct.error or ValueError. Source: flatbuffers.dev, "FlatBuffer internals".
"""

import struct

import numpy as np

EVENT = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("on", "u1"), ("", "V3")])
XML = """<dv version="2.0">
    <node name="outInfo" path="/outInfo/">
        <node name="0" path="/outInfo/0/">
            <attr key="compression" type="string">{compression}</attr>
            <attr key="originalModuleName" type="string">multitarget-toolkit</attr>
            <attr key="originalOutputName" type="string">events</attr>
            <attr key="typeDescription" type="string">Array of events (polarity ON/OFF).</attr>
            <attr key="typeIdentifier" type="string">EVTS</attr>
            <node name="info" path="/outInfo/0/info/">
                <attr key="sizeX" type="int">{width}</attr>
                <attr key="sizeY" type="int">{height}</attr>
                <attr key="source" type="string">multitarget-toolkit</attr>
            </node>
        </node>
    </node>
</dv>
"""


class Tables:
    """Fields of the tables in a flatbuffer without its size prefix."""

    def __init__(self, content: bytes):
        self.content = content

    def root(self, identifier: bytes) -> int:
        """Position of the outermost table of a buffer of this kind."""
        if self.content[4:8] != identifier:
            raise ValueError(f"{self.content[4:8]!r} instead of {identifier!r}")
        return self._read("<I", 0)

    def number(self, table: int, field: int, code: str, default: int = 0) -> int:
        """A number in a table; the default where the field is left out."""
        position = self._field(table, field)
        return default if position is None else self._read(code, position)

    def text(self, table: int, field: int) -> str:
        """A text in a table."""
        first, length = self._vector(table, field, 1)
        return self.content[first : first + length].decode()

    def events(self, table: int) -> np.ndarray:
        """The events (n,) EVENT of a packet."""
        if self._field(table, 0) is None:
            return np.empty(0, EVENT)
        first, number = self._vector(table, 0, EVENT.itemsize)
        return np.frombuffer(self.content, EVENT, number, first)

    def packets(self, table: int) -> list[tuple[int, int, int, int, int]]:
        """(byte, stream, first time, last time, number of elements) of each row in a table of packets."""
        first, number = self._vector(table, 0, 4)
        rows = []
        for place in range(first, first + 4 * number, 4):
            row = place + self._read("<I", place)
            packet = self._field(row, 1)
            stream = 0 if packet is None else self._read("<i", packet)
            byte, count, start, end = (self.number(row, field, "<q") for field in (0, 2, 3, 4))
            rows.append((byte, stream, start, end, count))
        return rows

    def _read(self, code, position):
        if position < 0:
            raise ValueError("an offset before the buffer")
        return struct.unpack_from(code, self.content, position)[0]

    def _field(self, table, field):
        """Position of a field; None: left out."""
        fields = table - self._read("<i", table)
        if 4 + 2 * field >= self._read("<H", fields):
            return None
        offset = self._read("<H", fields + 4 + 2 * field)
        return table + offset if offset else None

    def _vector(self, table, field, size):
        """(position of the first element, number) of a vector that lies within the buffer."""
        position = self._field(table, field)
        if position is None:
            return 0, 0
        position += self._read("<I", position)
        number = self._read("<I", position)
        if position + 4 + size * number > len(self.content):
            raise ValueError(f"{number} elements of {size} bytes in a buffer of {len(self.content)}")
        return position + 4, number


def _prefixed(content):
    return struct.pack("<I", len(content)) + content


def header_table(compression: int, position: int, size: tuple[int, int]) -> bytes:
    """The header; compression: 0 none, 1 lz4, 3 zstd; position: of the table of packets, -1: nowhere."""
    name = {0: "NONE", 1: "LZ4", 3: "ZSTD"}[compression]
    text = XML.format(compression=name, width=size[0], height=size[1]).encode()
    text += b"\0" * (4 - len(text) % 4)  # ends with a zero at least, and on a whole word
    length = len(text.rstrip(b"\0"))
    fields = struct.pack("<I4s6x5H", 24, b"IOHE", 10, 24, 4, 12, 8)
    table = struct.pack("<iiIq4x", 10, compression, 16, position)
    return _prefixed(fields + table + struct.pack("<I", length) + text)


def event_packet(events: np.ndarray) -> bytes:
    """Events (n,) EVENT as a packet."""
    head = struct.pack("<I4s2x3HiII", 16, b"EVTS", 6, 8, 4, 6, 4, len(events))
    return _prefixed(head + events.tobytes())


def packet_table(rows: list[tuple[int, int, int, int, int]]) -> bytes:
    """The table of packets: rows of byte, size, number of events, first and last time."""
    head = struct.pack("<I4s2x3HiII", 16, b"FTAB", 6, 8, 4, 6, 4, len(rows))
    # fields of every row, shared: lists of 14 bytes, padded so that the rows are aligned to 8 bytes
    fields = struct.pack("<7H", 14, 48, 8, 16, 24, 32, 40)
    first = (len(head) + 4 * len(rows) + len(fields) + 4) // 8 * 8 + 4  # from byte 4 on: 8 k - 4
    padding = first - len(head) - 4 * len(rows) - len(fields)
    offsets = (first + 48 * i - (len(head) + 4 * i) for i in range(len(rows)))
    body = b"".join(
        struct.pack("<i4xqiiqqq", first + 48 * i - (first - len(fields)), byte, 0, size, number, start, end)
        for i, (byte, size, number, start, end) in enumerate(rows)
    )
    vector = b"".join(struct.pack("<I", offset) for offset in offsets)
    return _prefixed(head + vector + b"\0" * padding + fields + body)
