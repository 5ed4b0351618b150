"""Files whose clock wraps: where to begin is found from a few records instead of all of them."""

from collections.abc import Callable, Iterator

import numpy as np

from perception.events.files.blocks import read_words, unwrap, unwrapped

STRIDE = 1 << 19  # bytes between two looks
SHORT = 1 << 25  # bytes of a file that is read from the start, in some 0.1 s


class TimeIndex:
    """The clock of a file at every STRIDE-th byte, each seen in order so that wraps are counted.

    Short files have no marks and are read from the start, which counts every wrap. In a long file, a wrap
    would be missed if the clock went half the way round within one stride: where a camera gave fewer than 32
    events a second for half an hour and more than that for the rest.

    Args:
        look:   (byte, clock) of the first record at or after a byte that tells the time; None: there is none.
        begin:  first byte of the records.
        end:    byte after them.
        size:   bytes of a record; looks are made at whole records.
        period: of the clock.
    """

    def __init__(
        self, look: Callable[[int], tuple[int, int] | None], begin: int, end: int, size: int, period: int
    ):
        self.marks: list[tuple[int, int]] = []  # (byte, clock with the wraps counted)
        stride, last = STRIDE // size * size, -1
        for byte in range(begin, end if end - begin > SHORT else begin, stride):
            seen = look(byte)
            if seen is None:
                break
            last = unwrapped(seen[1], last, period)
            self.marks.append((seen[0], last))

    def before(self, time: int) -> tuple[int, int] | None:
        """(byte, clock with wraps) of the last mark before the first that shows `time` or more, if any."""
        best = None
        for mark in self.marks:
            if mark[1] >= time:
                break
            best = mark
        return best


class ClockedRecords:
    """Records of one size, each with the reading `t` of a clock that wraps.

    Args:
        path:   of the file.
        base:   first byte of the records, which go on to the end.
        record: dtype of one, with a field t.
        period: of the clock, us.
    """

    def __init__(self, path, base: int, record: np.dtype, period: int):
        self.path, self.base, self.record, self.period = path, base, record, period
        self._index: TimeIndex | None = None

    def read(self, start: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """(first byte, records, times (n,) us) of blocks from one that begins before `start`."""
        base, last = self.base, -1
        with open(self.path, "rb") as file:
            if start > 0 and (mark := self._marks(file).before(start)):
                base, last = mark
            for byte, records in read_words(file, self.path, base, self.record):
                t = unwrap(records["t"].astype(np.uint32), last, self.period)
                last = int(t[-1])
                yield byte, records, t

    def _marks(self, file):
        size = self.record.itemsize

        def look(byte):
            file.seek(byte)
            content = file.read(size)
            return (byte, int(np.frombuffer(content, self.record)["t"][0])) if len(content) == size else None

        if self._index is None:
            self._index = TimeIndex(look, self.base, file.seek(0, 2), size, self.period)
        return self._index
