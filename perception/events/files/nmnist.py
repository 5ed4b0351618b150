"""N-MNIST and N-Caltech101 .bin: records of 5 bytes, times of 23 bits.

Decoded here: tonic reads these files too, all at once and without a check. Records with y = 240 mark an
overflow of the sensor's clock: 2^13 us are added to all later times, and the record is no event. The real
recordings hold none whose times are short of that. Nothing in a file tells what it is, so the extension
does, and the sensor's size is that of its largest pixel unless given: 34 x 34 for N-MNIST.

Source: Orchard, Jayawant, Cohen, Thakor, "Converting Static Image Datasets to Spiking Neuromorphic
Datasets Using Saccades" (Frontiers in Neuroscience 2015) and its readers in Matlab.
"""

from collections.abc import Iterator

import numpy as np

from perception.events.files.blocks import FIRST, Block, kept_place, read_words
from perception.events.files.output import require_within

SUFFIXES = (".bin",)
OVERFLOW_ROW, OVERFLOW = 240, 1 << 13  # us
LIMIT = 1 << 23  # us


class Reader:
    """Reader of one .bin file."""

    size, bounds, late, count, seeks = None, (256, OVERFLOW_ROW), 0, None, False

    def __init__(self, path):
        self.path = path

    def blocks(self, start: int = FIRST) -> Iterator[Block]:
        """Blocks of at most BLOCK events, always from the first on: overflows must be counted."""
        added = 0
        with open(self.path, "rb") as file:
            for byte, records in read_words(file, self.path, 0, "V5"):
                table = records.view(np.uint8).reshape(-1, 5)
                marks = table[:, 1] == OVERFLOW_ROW
                overflows = added + np.cumsum(marks)
                added = int(overflows[-1])
                kept = np.flatnonzero(~marks)
                head, middle, low = table[kept, 2:].T.astype(np.int64)
                t = (head & 0x7F) << 16 | middle << 8 | low
                x, y = table[kept, :2].T.astype(np.uint16)
                yield Block(x, y, t + OVERFLOW * overflows[kept], head >= 128, kept_place(byte, 5, kept))


def recognises(head: bytes) -> bool:
    """Never: any five bytes are a record."""
    return False


def reader(path) -> Reader:
    """Open a file."""
    return Reader(path)


def write(file, streams, size) -> None:
    """Write streams of at most 256 x 240 pixels; times below 2^23 us."""
    for stream in streams:
        require_within(stream, "N-MNIST", (256, OVERFLOW_ROW), LIMIT)
        table = np.empty((len(stream), 5), np.uint8)
        table[:, 0], table[:, 1] = stream.x, stream.y
        table[:, 2] = stream.p.astype(np.int64) << 7 | stream.t >> 16
        table[:, 3], table[:, 4] = stream.t >> 8 & 0xFF, stream.t & 0xFF
        file.write(table.tobytes())
