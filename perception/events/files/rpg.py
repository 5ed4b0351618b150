"""RPG's .txt: a line of width and height, then t x y p, t in seconds; read as in text.py."""

import numpy as np

from perception.events.files.blocks import ANY
from perception.events.files.output import require_within
from perception.events.files.text import Reader

SUFFIXES = (".txt",)


def recognises(head: bytes) -> bool:
    """Never: numbers in lines may be anything."""
    return False


def reader(path, unit: str | None = None, columns: str | None = None) -> Reader:
    """Open a file; unit, columns: as in text.py."""
    return Reader(path, unit, columns)


def write(file, streams, size) -> None:
    """Write streams; times from 0 to 2^50 us, which float64 readers keep apart, with six decimals."""
    file.write(b"%d %d\n" % size)
    for stream in streams:
        require_within(stream, "RPG's text", ANY, 1 << 50)
        for part in stream.by_count(1 << 16):
            columns = (column.tolist() for column in (part.t, part.x, part.y, part.p.view(np.uint8)))
            rows = [f"{t // 1000000}.{t % 1000000:06d} {x} {y} {p}\n" for t, x, y, p in zip(*columns)]
            file.write("".join(rows).encode())
