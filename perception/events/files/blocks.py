"""What all event formats share: blocks of decoded columns, checked, put in order and cut to a time window.

A format decodes bytes to blocks, in the order of the file and without judging them. Everything that makes
a stream of them happens here, so it happens alike for every format. The policy for bad files:

- The first thing wrong is a `DamagedError`, a ValueError `path:byte N: what came; what is accepted` (line or
  event N where a file has no bytes of its own). What comes after the place is never used.
- With `recover`, the events before that place are what the file holds.
- Events may come up to `late` microseconds after later ones and are sorted in; beyond, they are damage.
- Numbers in a file never decide how much memory is taken: blocks have at most BLOCK events or so.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import numpy as np

from perception.events.stream import MAX_TIME
from tracking.compiled import compiled

BLOCK = 1 << 20  # events of a block
ANY = (1 << 16, 1 << 16)  # pixels: bounds of a format that says nothing of them
FIRST = -(2**62)  # us, before every time that is accepted


class DamagedError(ValueError):
    """What is wrong with a file, from the named place on."""


@dataclass(frozen=True)
class Block:
    """Events as a file has them: x, y uint16, t int64 (us), p bool; `place(i)` says where event i stands."""

    x: np.ndarray
    y: np.ndarray
    t: np.ndarray
    p: np.ndarray
    place: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, which: slice) -> "Block":
        """Events by a slice that goes on to the end or starts at the first."""
        first, place = which.start or 0, self.place
        where = (lambda i: place(i + first)) if first else place
        return Block(self.x[which], self.y[which], self.t[which], self.p[which], where)


class Reader(Protocol):
    """An open file of one format.

    size: (width, height) if the file tells it; bounds: the largest that the format can hold; late:
    microseconds by which its events may be late; count: number of events if it is known without reading
    them; seeks: whether `blocks` skips what lies before `start` without decoding it.
    """

    size: tuple[int, int] | None
    bounds: tuple[int, int]
    late: int
    count: int | None
    seeks: bool

    def blocks(self, start: int = FIRST) -> Iterator[Block]:
        """Blocks from one that begins at or before the last event with t < start on.

        Raises:
            DamagedError: at the end of what can be decoded.
        """


def damage(path, place: str, came: str, accepted: str) -> DamagedError:
    """The error to raise: `path:place: what came; what is accepted`."""
    return DamagedError(f"{path}:{place}: {came}; accepted: {accepted}")


def record_place(base: int, size: int) -> Callable[[int], str]:
    """`Block.place` of records of `size` bytes, the first of which stands at byte `base`."""
    return lambda i: f"byte {base + i * size}"


def kept_place(base: int, size: int, kept: np.ndarray) -> Callable[[int], str]:
    """`Block.place` of those among such records whose numbers are kept."""
    return lambda i: f"byte {base + kept[i] * size}"


def event_place(first: int, prefix: str = "") -> Callable[[int], str]:
    """`Block.place` of events that are only counted, the first of them as number `first`."""
    return lambda i: f"{prefix}event {first + i}"


def read_words(
    file: BinaryIO, path, base: int, dtype, number: int = BLOCK
) -> Iterator[tuple[int, np.ndarray]]:
    """(byte of the first, words) from byte `base` to the end of the file, which must end with a whole one."""
    dtype = np.dtype(dtype)
    file.seek(base)
    while content := file.read(number * dtype.itemsize):
        whole = len(content) // dtype.itemsize
        if whole:
            yield base, np.frombuffer(content, dtype, whole)
        base += whole * dtype.itemsize
        if left := len(content) - whole * dtype.itemsize:
            raise damage(
                path,
                f"byte {base}",
                f"the file ends after {left} bytes of a record",
                f"whole records of {dtype.itemsize} bytes",
            )


def window(
    reader: Reader, path, start: int | None, stop: int | None, size: tuple[int, int] | None, late: int | None
) -> Iterator[Block]:
    """Blocks with start <= t < stop in order of time, each checked against the sensor's size, if known."""
    late = reader.late if late is None else late
    low = FIRST if start is None else start
    seen = checked(reader.blocks(low - late), path, size or reader.bounds)
    for block in ordered(seen, path, late):
        first = np.searchsorted(block.t, low) if start is not None else 0
        end = np.searchsorted(block.t, stop) if stop is not None else len(block)
        if first < end:
            yield block[first:end] if first or end < len(block) else block
        if end < len(block):
            return


def checked(blocks: Iterable[Block], path, size: tuple[int, int]) -> Iterator[Block]:
    """The blocks as long as their pixels lie on the sensor and their times can be held."""
    for block in blocks:
        wide, high = size
        bad = first_outside(block.x, block.y, block.t, wide, high, MAX_TIME)
        if bad < 0:
            yield block
            continue
        if bad:
            yield block[:bad]
        x, y, t = block.x[bad], block.y[bad], block.t[bad]
        if abs(int(t)) > MAX_TIME:
            raise damage(path, block.place(bad), f"time {t} us", f"times within +-{MAX_TIME} us")
        raise damage(path, block.place(bad), f"pixel ({x}, {y})", f"pixels of a sensor of {wide} x {high}")


def ordered(blocks: Iterable[Block], path, late: int) -> Iterator[Block]:
    """Blocks whose times never fall, of blocks where events come up to `late` microseconds late."""
    newest, held = FIRST, None
    try:
        for block in blocks:
            bad, falls, latest = lateness(block.t, newest, late)
            good = block if bad < 0 else block[:bad]
            if held is not None or falls:
                good = _sorted(held, good)
            held = None
            if late and bad < 0:  # those that a later event may still precede stay
                end = int(np.searchsorted(good.t, latest - late, side="right"))
                good, held = good[:end], good[end:]
            if len(good):
                yield good
            if bad >= 0:
                t = int(block.t[bad])
                raise damage(
                    path,
                    block.place(bad),
                    f"time {t} us after {latest} us",
                    f"times that fall by at most {late} us, see late=",
                )
            newest = latest
    except DamagedError:
        if held is not None and len(held):
            yield held
        raise
    if held is not None and len(held):
        yield held


def _sorted(held, block):
    parts = [block] if held is None else [held, block]
    columns = [np.concatenate([getattr(part, name) for part in parts]) for name in "xytp"]
    order = np.argsort(columns[2], kind="stable")
    return Block(*(column[order] for column in columns), place=block.place)


def up_to_damage(blocks: Iterable[Block], recover: bool) -> Iterator[Block]:
    """The blocks; with `recover`, damage is where they end."""
    try:
        yield from blocks
    except DamagedError:
        if not recover:
            raise


@compiled
def first_outside(x, y, t, width, height, furthest):
    """Index of the first event outside the sensor or beyond the furthest time; -1: none."""
    for i in range(len(t)):
        if x[i] >= width or y[i] >= height or t[i] > furthest or t[i] < -furthest:
            return i
    return -1


@compiled
def unwrapped(clock, last, period):
    """The time nearest to `last` that a clock of this period shows so; never negative, first: last = -1."""
    if last < 0:
        return clock
    time = last - last % period + clock
    if time < last - period // 2:
        return time + period
    if time > last + period // 2 and time >= period:
        return time - period
    return time


@compiled
def unwrap(clock, last, period):
    """Times (n,) int64 of the readings (n,) of a clock that wraps, after one that was at `last`."""
    times = np.empty(len(clock), np.int64)
    for i in range(len(clock)):
        last = unwrapped(np.int64(clock[i]), last, period)
        times[i] = last
    return times


@compiled
def lateness(t, newest, late):
    """(index of the first event more than `late` behind the newest so far or -1, any fall, the newest)."""
    falls = False
    for i in range(len(t)):
        if t[i] < newest:
            falls = True
            if t[i] < newest - late:
                return i, falls, newest
        else:
            newest = t[i]
    return -1, falls, newest
