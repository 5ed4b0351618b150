"""Prophesee DAT, version 2: records of 8 bytes; the clock of 32 bits wraps every 71.6 minutes.

Decoded here: expelliarmus writes event type 0, faery reads type 12 only, and neither counts the wraps or
reads a window of time. Source: Prophesee, "DAT File Format" (docs.prophesee.ai).
"""

from collections.abc import Iterator

import numpy as np

from perception.events.files.blocks import FIRST, Block, damage, record_place
from perception.events.files.evt import header_size, version
from perception.events.files.header import read_header
from perception.events.files.output import require_gaps, require_within
from perception.events.files.seek import ClockedRecords

SUFFIXES = (".dat",)
SIDE = 1 << 14  # pixels
PERIOD = 1 << 32  # us
EVENT_TYPES = (0, 12)  # Event2D, which old files have, and EventCD
RECORD = np.dtype([("t", "<u4"), ("address", "<u4")])


class Reader:
    """Reader of one DAT file."""

    bounds, late, seeks = (SIDE, SIDE), 0, True

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            lines, base = read_header(file, b"%", b"% end")
            file.seek(base)
            kind = file.read(2)
            end = file.seek(0, 2)
        if len(kind) < 2 or kind[0] not in EVENT_TYPES or kind[1] != RECORD.itemsize:
            raise damage(
                path, f"byte {base}", f"event type and size are {list(kind)}", "types 0 and 12 with 8 bytes"
            )
        self.size = header_size(path, lines)
        self.records = ClockedRecords(path, base + 2, RECORD, PERIOD)
        self.count = (end - self.records.base) // RECORD.itemsize

    def blocks(self, start: int = FIRST) -> Iterator[Block]:
        """Blocks of at most BLOCK events."""
        for byte, records, t in self.records.read(start):
            address = records["address"]
            x, y = (address & 0x3FFF).astype(np.uint16), (address >> 14 & 0x3FFF).astype(np.uint16)
            yield Block(x, y, t, (address >> 28 & 1).astype(bool), record_place(byte, RECORD.itemsize))


def recognises(head: bytes) -> bool:
    """Whether a header comes first that is not that of a RAW file."""
    return head.startswith(b"%") and version(head) is None and b"Version 2" in head


def reader(path) -> Reader:
    """Open a file."""
    return Reader(path)


def write(file, streams, size) -> None:
    """Write streams; the first time below 2^32 us, gaps at most half of that."""
    file.write(
        b"%% Data file containing EventCD events.\n%% Version 2\n%% Height %d\n%% Width %d\n" % size[::-1]
    )
    file.write(bytes((12, RECORD.itemsize)))
    last = -1
    for stream in streams:
        require_within(stream, "DAT", (SIDE, SIDE), 1 << 61)
        last = require_gaps(stream, "DAT", last, PERIOD)
        records = np.empty(len(stream), RECORD)
        records["t"] = stream.t & (PERIOD - 1)
        x, y, p = (column.astype(np.uint32) for column in (stream.x, stream.y, stream.p))
        records["address"] = p << 28 | y << 14 | x
        file.write(records.tobytes())
