"""AEDAT 2.0 of jAER: DAVIS240, DAVIS346 and DVS128; big-endian pairs of address and time.

Decoded here: tonic reads these files whole, leaves their rows upside down and for DVS128 exchanges x with
y; no library writes them. jAER counts rows from below and the cameras count columns from the right, so both
are turned here, as jAER's display does: x = width - 1 - column, y = height - 1 - row. A DVS128 sends 0 for
a pixel that became brighter. APS samples, IMU samples and external events are passed over.

Source: jAER's DavisBaseCamera and DVS128 (github.com/SensorsINI/jaer); iniVation, "AEDAT file formats".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from perception.events.files.blocks import FIRST, Block, kept_place
from perception.events.files.header import read_header
from perception.events.files.output import require_gaps, require_within
from perception.events.files.seek import ClockedRecords

SUFFIXES = (".aedat2",)
MAGIC = b"#!AER-DAT2.0"
PERIOD = 1 << 32  # us
RECORD = np.dtype([("address", ">u4"), ("t", ">u4")])


@dataclass(frozen=True)
class Camera:
    """Bits of an address: none of `other` set marks an event; on: the polarity bit of a brighter pixel."""

    size: tuple[int, int]
    x: int
    x_mask: int
    y: int
    y_mask: int
    polarity: int
    on: int
    other: int


CAMERAS = {
    "davis240": Camera((240, 180), 12, 0x3FF, 22, 0x1FF, 11, 1, 1 << 31 | 1 << 10),
    "davis346": Camera((346, 260), 12, 0x3FF, 22, 0x1FF, 11, 1, 1 << 31 | 1 << 10),
    "dvs128": Camera((128, 128), 1, 0x7F, 8, 0x7F, 0, 0, 0xFFFF8000),
}
NAMES = re.compile("|".join(CAMERAS), re.IGNORECASE)


class Reader:
    """Reader of one AEDAT 2 file."""

    late, count, seeks = 0, None, True

    def __init__(self, path, camera: str | None = None):
        self.path = path
        with open(path, "rb") as file:
            lines, base = read_header(file, b"#", b"#End Of ASCII Header")
        named = NAMES.search("\n".join(lines))
        name = camera or (named and named[0].lower())
        if name not in CAMERAS:
            raise ValueError(
                f"{path}: the header names no camera that is known; accepted: camera= one of "
                f"{', '.join(CAMERAS)}, got {camera!r}"
            )
        self.camera = CAMERAS[name]
        self.size = self.bounds = self.camera.size
        self.records = ClockedRecords(path, base, RECORD, PERIOD)

    def blocks(self, start: int = FIRST) -> Iterator[Block]:
        """Blocks of at most BLOCK events."""
        for byte, records, t in self.records.read(start):
            yield self._block(byte, records["address"].astype(np.uint32), t)

    def _block(self, byte, address, t):
        camera, (wide, high) = self.camera, self.camera.size
        kept = np.flatnonzero(address & np.uint32(camera.other) == 0)
        address = address[kept]
        # a pixel beyond the sensor wraps to a large number, which no sensor has
        x = np.uint16(wide - 1) - (address >> camera.x & camera.x_mask).astype(np.uint16)
        y = np.uint16(high - 1) - (address >> camera.y & camera.y_mask).astype(np.uint16)
        p = (address >> camera.polarity & 1) == camera.on
        return Block(x, y, t[kept], p, kept_place(byte, RECORD.itemsize, kept))


def recognises(head: bytes) -> bool:
    """Whether the first line names the version."""
    return head.startswith(MAGIC)


def reader(path, camera: str | None = None) -> Reader:
    """Open a file; camera: one of CAMERAS, None: the one that the header names."""
    return Reader(path, camera)


def write(file, streams, size) -> None:
    """Write streams of one of the CAMERAS; the first time below 2^32 us, gaps at most half of that."""
    name = next((name for name, camera in CAMERAS.items() if camera.size == size), None)
    if name is None:
        raise ValueError(f"AEDAT 2 holds sensors of {[c.size for c in CAMERAS.values()]}, got {size}")
    camera, last = CAMERAS[name], -1
    file.write(
        MAGIC
        + b"\r\n# Timestamps tick is 1 us\r\n# AEChip: %s\r\n#End Of ASCII Header\r\n" % name.upper().encode()
    )
    for stream in streams:
        require_within(stream, "AEDAT 2", size, 1 << 61)
        last = require_gaps(stream, "AEDAT 2", last, PERIOD)
        records = np.empty(len(stream), RECORD)
        records["t"] = stream.t & (PERIOD - 1)
        x, y = (np.uint32(side - 1) - c.astype(np.uint32) for side, c in zip(size, (stream.x, stream.y)))
        polarity = (stream.p == camera.on).astype(np.uint32)
        records["address"] = x << camera.x | y << camera.y | polarity << camera.polarity
        file.write(records.tobytes())
