"""Text with an event a line: .csv with a heading, .txt as of the Robotics and Perception Group (RPG).

Read here by numpy.loadtxt in blocks of lines: no library reads more than one order of columns and one unit.
Columns are named by a heading (t, ts, timestamp, x, y, p, pol, polarity; t_us and the like tell the unit),
or by `columns=`, else they are t, x, y, p. A first line of two numbers is width and height. Lines that
begin with # are passed over.

Times without a unit are seconds if any among the first million or so has a fraction; whole numbers are
microseconds, from 10^17 on nanoseconds. Times are rounded to microseconds.
"""

import re
from collections.abc import Iterator

import numpy as np

from perception.events.files.blocks import ANY, FIRST, Block, damage
from perception.events.files.columns import blocks_of, inferred_unit, known_unit, named
from perception.events.files.output import require_within

SUFFIXES = (".csv",)
STEP = 1 << 22  # bytes read at once
MAX_LINE = 4096  # bytes
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class Reader:
    """Reader of one text file."""

    bounds, late, count, seeks = ANY, 0, None, False

    def __init__(self, path, unit: str | None = None, columns: str | None = None):
        self.path, self.unit = path, known_unit(unit)
        self.size: tuple[int, int] | None = None
        self.columns = list("txyp")
        if columns is not None:
            if not re.fullmatch("[txyp_]*", columns) or any(columns.count(name) != 1 for name in "txyp"):
                raise ValueError(
                    f'columns must name t, x, y, p once each and _ for others, as "xypt", got {columns!r}'
                )
            self.columns = list(columns)
        self.skip = self._read_head(columns is not None)

    def blocks(self, start: int = FIRST) -> Iterator[Block]:
        """Blocks of some MB of lines, from the first on."""
        unit, number = self.unit, 0
        for lines in self._lines():
            kept = [(i, line) for i, line in enumerate(lines, number + 1) if i > self.skip and _counts(line)]
            number += len(lines)
            if not kept:
                continue
            numbers, bad = self._parsed(kept)
            if len(numbers["t"]):
                unit = unit or inferred_unit(numbers["t"])
                yield from blocks_of(self.path, numbers, unit, _line_place(kept))
            if bad is not None:
                raise damage(
                    self.path,
                    f"line {kept[bad][0]}",
                    repr(kept[bad][1][:100]),
                    f"{len(self.columns)} numbers: {', '.join(self.columns)}",
                )

    def _lines(self):
        """Lists of lines, each of which is short enough and text."""
        with open(self.path, "rb") as file:
            rest, number = b"", 0
            while content := file.read(STEP):
                *lines, rest = (rest + content).split(b"\n")
                yield self._text(lines, number)
                number += len(lines)
                if len(rest) > MAX_LINE:
                    break
            if rest:
                yield self._text([rest], number)

    def _text(self, lines, number):
        for i, line in enumerate(lines, number + 1):
            if len(line) > MAX_LINE or b"\0" in line:
                what = "a zero byte" if b"\0" in line else f"more than {MAX_LINE} bytes"
                raise damage(self.path, f"line {i}", what, "lines of text")
        try:
            return b"\n".join(lines).decode("utf-8-sig").split("\n")
        except UnicodeDecodeError:
            raise damage(
                self.path, f"line {number + 1} or later", "bytes that are not UTF-8", "text"
            ) from None

    def _read_head(self, named_by_caller):
        """Take size and heading from the first lines that count; the number of lines to pass over."""
        skip = 0
        for i, line in enumerate(next(self._lines(), []), 1):
            if not _counts(line):
                continue
            fields = _fields(line)
            if all(NUMBER.fullmatch(field) for field in fields):
                if len(fields) != 2 or self.size:
                    return skip
                if not all(field.isdecimal() and 1 <= int(field[:9]) <= ANY[0] for field in fields):
                    raise damage(self.path, f"line {i}", f"a size {line[:100]!r}", "width and height")
                self.size = int(fields[0]), int(fields[1])
            elif not named_by_caller:
                self._take_heading(i, fields)
                return i
            skip = i
        return skip

    def _take_heading(self, line, fields):
        meanings = [named(field) for field in fields]
        names = [meaning[0] if meaning else "_" for meaning in meanings]
        if any(names.count(name) != 1 for name in "txyp"):
            raise damage(
                self.path,
                f"line {line}",
                f"a heading {' '.join(fields)[:100]!r}",
                't, x, y and p, or columns="txyp"',
            )
        self.columns = names
        units = [meaning[1] for meaning in meanings if meaning and meaning[1]]
        self.unit = self.unit or (units[0] if units else None)

    def _parsed(self, kept):
        """({column: numbers}, index of the first line that does not count as numbers or None)."""
        lines = [line for _, line in kept]
        whole = "." not in lines[0]
        for kind in ("i8", "f8") if whole else ("f8",):
            try:
                return self._loaded(lines, kind), None
            except ValueError:
                pass
        bad = next((i for i, line in enumerate(lines) if not self._is_event(line)), 0)
        return self._loaded(lines[:bad], "f8"), bad

    def _loaded(self, lines, kind):
        dtype = np.dtype([(str(i), kind if name == "t" else "f8") for i, name in enumerate(self.columns)])
        if not lines:
            table = np.empty(0, dtype)
        else:
            separator = "," if "," in lines[0] else None
            table = np.loadtxt(lines, dtype, delimiter=separator, comments=None, ndmin=1)
        if len(table) != len(lines):
            raise ValueError("lines that are no rows")
        return {name: table[str(self.columns.index(name))] for name in "xytp"}

    def _is_event(self, line):
        fields = _fields(line)
        return len(fields) == len(self.columns) and all(NUMBER.fullmatch(field) for field in fields)


def _line_place(kept):
    return lambda i: f"line {kept[i][0]}"


def _counts(line):
    return bool(line) and not line.isspace() and line[0] != "#"


def _fields(line):
    return [field.strip() for field in (line.split(",") if "," in line else line.split())]


def recognises(head: bytes) -> bool:
    """Never: numbers in lines may be anything."""
    return False


def reader(path, unit: str | None = None, columns: str | None = None) -> Reader:
    """Open a file.

    Args:
        unit:    of its times: "s", "ms", "us" or "ns"; None: as in the heading, or inferred.
        columns: their order, such as "xypt", with _ for one to pass over; None: as in the heading.
    """
    return Reader(path, unit, columns)


def write(file, streams, size) -> None:
    """Write t, x, y, p with a heading, t in whole microseconds; the sensor's size is not kept."""
    file.write(b"t,x,y,p\n")
    for stream in streams:
        require_within(stream, "text", ANY, 10**17, -(1 << 61))  # beyond, readers take it for nanoseconds
        for part in stream.by_count(1 << 16):
            columns = (column.tolist() for column in (part.t, part.x, part.y, part.p.view(np.uint8)))
            file.write("".join([f"{t},{x},{y},{p}\n" for t, x, y, p in zip(*columns)]).encode())
