"""Prophesee RAW files: what EVT2, EVT2.1 and EVT3 have in common.

Decoded here: expelliarmus and faery read EVT2 and EVT3 but neither EVT2.1 nor a window of time, and
they report damage without its place; Metavision's own reader is on no package index.

A text header (`% evt 3.0`, `% geometry 1280x720`, `% end`) comes before little-endian words. Times are
those of the camera; OpenEB shows them less the first TIME_HIGH, which is `shift=True` here. Events before
the first TIME_HIGH have no time and are passed over, as OpenEB does, and so are words of unknown type,
which some cameras use as padding.

A header must name the coding, since any bytes are words of one; `format=` reads files without.

Source: Prophesee, "Event Encoding Formats" and "RAW File Format" (docs.prophesee.ai).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from perception.events.files.blocks import BLOCK, FIRST, Block, damage, read_words
from perception.events.files.header import read_header
from perception.events.files.output import require_within
from perception.events.files.seek import TimeIndex
from perception.events.stream import EventStream
from tracking.compiled import compiled

SIDE = 2048  # pixels: 11 bits
MOST = 32  # events of one word at most
LIMIT = 1 << 40  # us, 12 days: what a clock that wraps every 17 s still shows in a small file
LOOK = 1 << 16  # words among which a file must tell the time


@dataclass(frozen=True)
class Coding:
    """One of the three codings, a format as those of the modules beside are.

    version: as in the header.
    word:    its dtype.
    decode:  (words, state, x, y, t, p) -> (words used, events); stops before a word once fewer than MOST more
             events fit in the columns.
    encode:  (x, y, t, p, state, words) -> number of words.
    clock:   (words) -> (n,) int64 time in us where the word is a TIME_HIGH, else -1.
    period:  of the clock, us.
    most:    words an event takes at most.
    late:    us.
    index:   whether TIME_HIGH alone is enough to begin anywhere, and often enough to count its wraps.
    """

    version: str
    word: str
    decode: Callable
    encode: Callable
    clock: Callable
    period: int
    most: int
    late: int
    index: bool
    SUFFIXES: ClassVar = (".raw",)

    def recognises(self, head: bytes) -> bool:
        """Whether the header names this coding."""
        return version(head) == self.version

    def reader(self, path, shift: bool = False) -> "RawReader":
        """Open a file; shift: subtract the first TIME_HIGH, as OpenEB does."""
        return RawReader(path, self, shift)

    def write(self, file, streams: Iterable[EventStream], size: tuple[int, int]) -> None:
        """Write streams of one sensor, one after another in time; times below 2^40 us."""
        wide, high = size
        name = self.version.replace(".", "").removesuffix("0")
        file.write(
            f"% evt {self.version}\n% format EVT{name};height={high};width={wide}\n"
            f"% geometry {wide}x{high}\n% end\n".encode()
        )
        state = np.full(8, -1, np.int64)
        for stream in streams:
            require_within(stream, f"EVT{name}", (SIDE, SIDE), LIMIT)
            for part in stream.by_count(BLOCK):
                steps = 4 * (int(part.t[-1]) // self.period + 2)  # TIME_HIGHs in gaps, at most
                words = np.empty(self.most * len(part) + steps, self.word)
                n = self.encode(part.x, part.y, part.t, part.p, state, words)
                file.write(words[:n].tobytes())


class RawReader:
    """Reader of one RAW file; shift: subtract the first TIME_HIGH."""

    bounds, count = (SIDE, SIDE), None

    def __init__(self, path, coding: Coding, shift: bool = False):
        self.path, self.coding = path, coding
        self.late, self.seeks = coding.late, coding.index
        with open(path, "rb") as file:
            lines, self.base = read_header(file, b"%", b"% end")
            self.end = file.seek(0, 2)
        self.size = header_size(path, lines)
        self.swap = False
        self.swap = coding.version == "2.1" and self._halves_swapped(lines)
        self.shift = self._first_clock() if shift else 0
        self._index: TimeIndex | None = None

    def blocks(self, start: int = FIRST) -> Iterator[Block]:
        """Blocks of at most BLOCK events."""
        base, state = self.base, np.full(8, -1, np.int64)
        if self.coding.index and start > 0 and (mark := self._marks().before(start + self.shift)):
            base, state[0] = mark  # the clock, so that the wraps before are not lost
        with open(self.path, "rb") as file:
            for byte, words in read_words(file, self.path, base, self.coding.word):
                yield from self._decoded(byte, self._ordered(words), state)

    def _decoded(self, byte, words, state):
        room = BLOCK + MOST
        while len(words):
            before = state.copy()
            x, y = np.empty(room, np.uint16), np.empty(room, np.uint16)
            t, p = np.empty(room, np.int64), np.empty(room, np.bool_)
            used, n = self.coding.decode(words, state, x, y, t, p)
            if n:
                columns = (x[:n], y[:n], t[:n] - self.shift if self.shift else t[:n], p[:n])
                yield Block(*columns, place=self._place(byte, words[:used], before))
            words, byte = words[used:], byte + used * words.itemsize

    def _place(self, byte, words, state):
        """Decoding again, with room for just so many events, finds the word of event i."""

        def place(i):
            columns = (np.empty(i + 1 + MOST, kind) for kind in (np.uint16, np.uint16, np.int64, np.bool_))
            used, _ = self.coding.decode(words, state.copy(), *columns)
            return f"byte {byte + (used - 1) * words.itemsize}"

        return place

    def _ordered(self, words):
        return swapped(words) if self.swap else words

    def _words(self, byte, number):
        with open(self.path, "rb") as file:
            file.seek(byte)
            content = file.read(number * np.dtype(self.coding.word).itemsize)
        size = np.dtype(self.coding.word).itemsize
        return self._ordered(np.frombuffer(content, self.coding.word, len(content) // size))

    def _look(self, byte):
        words = self._words(byte, LOOK)
        clock = self.coding.clock(words)
        first = int(np.argmax(clock >= 0)) if len(clock) else 0
        if not len(clock) or clock[first] < 0:
            return None
        return byte + first * words.itemsize, int(clock[first])

    def _marks(self):
        if self._index is None:
            size = np.dtype(self.coding.word).itemsize
            self._index = TimeIndex(self._look, self.base, self.end, size, self.coding.period)
        return self._index

    def _first_clock(self):
        seen = self._look(self.base)
        if seen is None and self.end > self.base:
            raise damage(
                self.path,
                f"byte {self.base}",
                "no TIME_HIGH among the first words",
                "files that tell the time, or shift=False",
            )
        return seen[1] if seen else 0

    def _halves_swapped(self, lines):
        """Whether the halves of each word are swapped, as the first IMX636 cameras wrote them."""
        if any("endianness=legacy" in line for line in lines):
            return True
        words = self._words(self.base, LOOK)
        now, other = time_words(words), time_words(swapped(words))
        if now != other:
            return other > now
        return misfits(swapped(words)) < misfits(words)


def swapped(words: np.ndarray) -> np.ndarray:
    """Words (n,) uint64 with their halves exchanged."""
    return (words >> np.uint64(32)) | (words << np.uint64(32))


def time_words(words: np.ndarray) -> int:
    """How many words (n,) uint64 are a TIME_HIGH as cameras write it, with nothing in its lower half."""
    return int(((words >> np.uint64(60) == 8) & (words << np.uint64(32) == 0)).sum())


def misfits(words: np.ndarray) -> int:
    """How many words (n,) uint64 are none of EVT2.1: of no type, or events from an x that is not 32 k."""
    kind, head = words >> np.uint64(60), words >> np.uint64(32)
    vector = (kind < 2) & ((head >> np.uint64(11) & np.uint64(31)) == 0) & (words << np.uint64(32) != 0)
    return int((~(vector | np.isin(kind, (8, 10, 14, 15)))).sum())


def version(head: bytes) -> str | None:
    """The coding that the header of a RAW file names; None: it is no RAW file, or names none."""
    text = head[: 1 << 16].decode("latin-1")
    if not text.startswith("%"):
        return None
    if found := re.search(r"^% *evt +([0-9.]+)\s*$", text, re.MULTILINE):
        return found[1]
    if found := re.search(r"^% *format +EVT(\d+)", text, re.MULTILINE):
        return {"2": "2.0", "21": "2.1", "3": "3.0"}.get(found[1])
    return None


def header_size(path, lines: list[str]) -> tuple[int, int] | None:
    """(width, height) that header lines name, in any of the ways in use."""
    text = "\n".join(lines)
    wide = re.search(r"(?i)\bwidth[ =](\d{1,9})\b", text)
    high = re.search(r"(?i)\bheight[ =](\d{1,9})\b", text)
    both = re.search(r"^% *geometry +(\d{1,9})x(\d{1,9})", text, re.MULTILINE)
    size = (both[1], both[2]) if both else (wide[1], high[1]) if wide and high else None
    if size is None:
        return None
    size = int(size[0]), int(size[1])
    if not all(1 <= side <= 1 << 14 for side in size):
        raise damage(path, "byte 0", f"a sensor of {size[0]} x {size[1]}", f"sides from 1 to {1 << 14}")
    return size


@compiled
def put_clock(high, last, units, mark, shift, words, n):
    """Add TIME_HIGH words up to `high`, so close that a reader sees every wrap; the new number of words."""
    if last < 0:
        last = high if high < units else 0
        words[n] = mark | (last % units) << shift
        n += 1
    while high > last:
        last = min(high, last + units // 4)
        words[n] = mark | (last % units) << shift
        n += 1
    return n
