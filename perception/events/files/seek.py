"""Where to begin in a file whose clock wraps, found from a few records instead of all of them."""

from collections.abc import Callable

from perception.events.files.blocks import unwrapped

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
