"""The one form in which the toolkit holds events: columns x, y, t, p of one sensor, sorted by time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np

MAX_SIDE = 65_536  # pixels: x and y are uint16
MAX_TIME = 2**61  # us, 73,000 years: differences and sums of two times fit int64
STRUCTURED = np.dtype([("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])  # of tonic


@dataclass(frozen=True, eq=False)
class EventStream:
    """Events of one sensor.

    Columns may come as any arrays of whole numbers; they are converted where that loses nothing, and never
    written to. Slices share memory with the stream that they are of.

    Args:
        x:      (n,) uint16, column of the pixel, 0 to width - 1, from the left.
        y:      (n,) uint16, row of the pixel, 0 to height - 1, from the top.
        t:      (n,) int64, time in microseconds, never falling, within +-2^61.
        p:      (n,) bool, True where the pixel became brighter; 0 and 1, or -1 and 1, are taken too.
        width, height: of the sensor, pixels.
    Raises:
        ValueError: columns of different lengths, numbers that do not fit, a pixel outside the sensor, or
                    times that fall.
    """

    x: np.ndarray
    y: np.ndarray
    t: np.ndarray
    p: np.ndarray
    width: int
    height: int

    def __post_init__(self):
        size = tuple(_side(name, getattr(self, name)) for name in ("width", "height"))
        columns = {name: _column(name, getattr(self, name)) for name in ("x", "y", "t", "p")}
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"x, y, t and p must be of one length, got {lengths}")
        for name, side in zip(("x", "y"), size):
            columns[name] = _pixels(name, columns[name], side)
        columns["t"] = _times(columns["t"])
        columns["p"] = _polarities(columns["p"])
        self._put(columns | dict(zip(("width", "height"), size)))

    def _put(self, fields):
        for name, value in fields.items():
            if isinstance(value, np.ndarray):
                value = value.view()
                value.flags.writeable = False
            object.__setattr__(self, name, value)

    @classmethod
    def empty(cls, width: int, height: int) -> "EventStream":
        """A stream without events."""
        none = np.zeros(0, np.uint16)
        return cls(none, none, np.zeros(0, np.int64), np.zeros(0, bool), width, height)

    @classmethod
    def unsorted(cls, x, y, t, p, width: int, height: int) -> "EventStream":
        """Events in any order; those of one time keep theirs."""
        order = np.argsort(_column("t", t), kind="stable")
        x, y, t, p = (_column(n, c)[order] for n, c in zip("xytp", (x, y, t, p)))
        return cls(x, y, t, p, width, height)

    @classmethod
    def from_structured(cls, events: np.ndarray, width: int, height: int) -> "EventStream":
        """Events of a structured array with fields x, y, t (microseconds) and p, as tonic has them."""
        missing = {"x", "y", "t", "p"} - set(events.dtype.names or ())
        if missing:
            raise ValueError(f"events must have the fields x, y, t and p, got {events.dtype}")
        return cls(events["x"], events["y"], events["t"], events["p"], width, height)

    def structured(self) -> np.ndarray:
        """A structured array as tonic has them: x and y int16, t int64, p bool."""
        if max(self.width, self.height) > 32_768:
            raise ValueError(f"tonic's int16 holds no sensor of {self.width} x {self.height} pixels")
        events = np.empty(len(self), STRUCTURED)
        for name in "xytp":
            events[name] = getattr(self, name)
        return events

    def tensors(self, device: Any = "cpu") -> dict[str, Any]:
        """Columns as new torch tensors: x and y int32, t int64 microseconds, p bool."""
        import torch

        columns = {"x": self.x.astype(np.int32), "y": self.y.astype(np.int32), "t": self.t, "p": self.p}
        return {name: torch.tensor(column, device=device) for name, column in columns.items()}

    @classmethod
    def from_tensors(cls, x, y, t, p, width: int, height: int) -> "EventStream":
        """Events of four torch tensors on any device."""
        x, y, t, p = (column.detach().cpu().numpy() for column in (x, y, t, p))
        return cls(x, y, t, p, width, height)

    def __len__(self) -> int:
        return len(self.t)

    def __repr__(self) -> str:
        over = f", {self.t[0]} to {self.t[-1]} us" if len(self) else ""
        return f"EventStream({len(self)} events{over}, {self.width} x {self.height})"

    def __getitem__(self, which: slice | np.ndarray) -> "EventStream":
        """Events by position: a slice, which shares memory, or a mask (n,) of those to keep."""
        if isinstance(which, slice):
            if which.step is not None and which.step < 1:
                raise ValueError(f"events go forward in time, got a slice with step {which.step}")
        elif not (isinstance(which, np.ndarray) and which.dtype == bool and which.shape == (len(self),)):
            raise TypeError(f"a slice or a mask of {len(self)} booleans is accepted, got {which!r}")
        else:
            which = np.flatnonzero(which)  # once for the four columns
        return self._with(**{name: getattr(self, name)[which] for name in "xytp"})

    def __eq__(self, other: object) -> bool:
        """Whether the sensor and every event are the same."""
        if not isinstance(other, EventStream):
            return NotImplemented
        same = (self.width, self.height, len(self)) == (other.width, other.height, len(other))
        return same and all(np.array_equal(getattr(self, n), getattr(other, n)) for n in "xytp")

    __hash__ = None  # type: ignore[assignment]

    @property
    def sign(self) -> np.ndarray:
        """(n,) int8: 1 where the pixel became brighter, else -1."""
        return self.p.view(np.int8) * np.int8(2) - np.int8(1)

    @property
    def duration(self) -> int:
        """Microseconds from the first to the last event."""
        return int(self.t[-1] - self.t[0]) if len(self) else 0

    def between(self, start: int, stop: int) -> "EventStream":
        """Events with start <= t < stop, microseconds."""
        ends = [
            min(max(microseconds(*e), -2 * MAX_TIME), 2 * MAX_TIME)
            for e in (("start", start), ("stop", stop))
        ]
        return self[slice(*np.searchsorted(self.t, ends).tolist())]

    def by_time(self, length: int, step: int | None = None) -> Iterator["EventStream"]:
        """Windows of `length` microseconds from the first event on, `step` apart, by default side by side.

        Windows without events come too.
        """
        length = microseconds("length", length)
        step = length if step is None else microseconds("step", step)
        if length < 1 or step < 1:
            raise ValueError(f"length and step must be at least 1 us, got {length} and {step}")
        if len(self):
            for start in range(int(self.t[0]), int(self.t[-1]) + 1, step):
                yield self.between(start, start + length)

    def by_count(self, number: int) -> Iterator["EventStream"]:
        """Windows of `number` events; the last has what is left."""
        if number < 1:
            raise ValueError(f"number must be at least 1, got {number}")
        for start in range(0, len(self), number):
            yield self[start : start + number]

    def crop(self, left: int, top: int, width: int, height: int) -> "EventStream":
        """Events inside a rectangle, whose corner becomes the origin."""
        width, height = _side("width", width), _side("height", height)
        left, top = index(left), index(top)
        if not (0 <= left <= left + width <= self.width and 0 <= top <= top + height <= self.height):
            raise ValueError(
                f"({left}, {top}, {width}, {height}) does not lie within {self.width} x {self.height} pixels"
            )
        inside = (self.x >= left) & (self.x < left + width) & (self.y >= top) & (self.y < top + height)
        kept = self[inside]
        x, y = kept.x - np.uint16(left), kept.y - np.uint16(top)
        return kept._with(x=x, y=y, width=width, height=height)

    def flip(self, horizontal: bool = False, vertical: bool = False, polarity: bool = False) -> "EventStream":
        """Mirrored left to right, top to bottom, or with dark and bright exchanged."""
        return self._with(
            x=np.uint16(self.width - 1) - self.x if horizontal else self.x,
            y=np.uint16(self.height - 1) - self.y if vertical else self.y,
            p=~self.p if polarity else self.p,
        )

    def shift(self, by: int) -> "EventStream":
        """The same events, later by so many microseconds."""
        by = microseconds("by", by)
        if abs(by) > MAX_TIME:
            raise ValueError(f"times lie within +-{MAX_TIME} us, got a shift by {by}")
        return self._with(t=_times(self.t + np.int64(by)))

    def only(self, polarity: bool) -> "EventStream":
        """Events of one polarity: True or 1 for brighter ones, False, 0 or -1 for darker ones."""
        if polarity not in (-1, 0, 1):
            raise ValueError(f"polarity must be True, False, or -1, 0, 1, got {polarity!r}")
        return self[self.p == (polarity > 0)]

    def merge(self, *others: "EventStream") -> "EventStream":
        """All events of streams of one sensor by time; at the same time, those of earlier streams first."""
        streams = (self, *others)
        sizes = {(s.width, s.height) for s in streams}
        if len(sizes) > 1:
            raise ValueError(f"streams of one sensor can be merged, got sizes {sorted(sizes)}")
        columns = {name: np.concatenate([getattr(s, name) for s in streams]) for name in "xytp"}
        order = np.argsort(columns["t"], kind="stable")
        return self._with(**{name: column[order] for name, column in columns.items()})

    def _with(self, **changed) -> "EventStream":
        """The same with other fields, which are known to be right."""
        new = object.__new__(EventStream)
        new._put({name: changed.get(name, getattr(self, name)) for name in self.__dataclass_fields__})
        return new


def windows(parts: Iterable[EventStream], length: int) -> Iterator[tuple[EventStream, tuple[int, int]]]:
    """Windows of equal time of streams that follow each other, as `chunks` of a file, empty ones too.

    They do not depend on where one stream ends and the next begins.

    Args:
        parts:  streams of one sensor.
        length: microseconds.
    Yields: a stream, and the first and last microsecond of the window; windows begin at the first event.
    Raises:
        ValueError: a stream begins before the end of the one before it, or is of another sensor.
    """
    length = microseconds("length", length)
    if length < 1:
        raise ValueError(f"length must be at least 1 us, got {length}")
    held: list[EventStream] = []  # of the window that is not over
    start = last = 0
    for part in parts:
        if not len(part):
            continue
        if held and part.t[0] < last:
            raise ValueError(f"streams must follow each other in time, got {part} after {last} us")
        start, last = start if held else int(part.t[0]), int(part.t[-1])
        while last >= start + length:
            held.append(part.between(start, start + length))
            yield _together(held), (start, start + length - 1)
            start += length
            part, held = part.between(start, last + 1), []
        held.append(part)
    if held:
        yield _together(held), (start, start + length - 1)


def _together(parts):
    return parts[0].merge(*parts[1:]) if len(parts) > 1 else parts[0]  # merging copies


def microseconds(name: str, value: Any) -> int:
    """A time as a number of Python.

    Raises:
        ValueError: it is not whole, as one in seconds.
    """
    try:
        return index(value)
    except TypeError:
        if isinstance(value, (float, np.floating)) and float(value).is_integer():
            return int(value)
    raise ValueError(
        f"{name} must be whole microseconds, got {value!r}; those of s seconds are round(1e6 * s)"
    )


def _side(name, value):
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not 1 <= value <= MAX_SIDE:
        raise ValueError(f"{name} must be a whole number from 1 to {MAX_SIDE}, got {value!r}")
    return int(value)


def _column(name, value):
    value = np.asarray(value)
    if value.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {value.shape}")
    if value.size == 0:
        value = value.astype(np.int64)
    if value.dtype.kind == "f":
        whole = np.isfinite(value) & (np.abs(value) < 2**53) & (value == np.floor(value))
        if not whole.all():
            at = int(np.argmin(whole))
            hint = "; times in seconds are np.round(1e6 * t)" if name == "t" else ""
            raise ValueError(f"{name} must hold whole numbers, got {value[at]} at index {at}{hint}")
        value = value.astype(np.int64)
    if value.dtype.kind not in "iub":
        raise ValueError(f"{name} must hold whole numbers, got an array of {value.dtype}")
    return value


def _pixels(name, value, side):
    outside = (value < 0) | (value >= side)
    if outside.any():
        at = int(np.argmax(outside))
        where = {"x": "width", "y": "height"}[name]
        raise ValueError(f"{name}[{at}] = {value[at]} is outside the sensor, whose {where} is {side}")
    return value.astype(np.uint16, copy=False)


def _times(value):
    far = (value > MAX_TIME) | (value < -MAX_TIME)
    if far.any():
        raise ValueError(
            f"t must lie within +-{MAX_TIME} us, got {value[far][0]} at index {int(np.argmax(far))}"
        )
    value = value.astype(np.int64, copy=False)
    falls = value[1:] < value[:-1]
    if falls.any():
        at = int(np.argmax(falls)) + 1
        raise ValueError(
            f"t must not fall, got t[{at}] = {value[at]} after {value[at - 1]}. "
            "EventStream.unsorted(...) takes events in any order."
        )
    return value


def _polarities(value):
    if value.dtype == bool:
        return value
    low = value.min(initial=0)
    wrong = ~np.isin(value, (-1, 1) if low < 0 else (0, 1))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ValueError(f"p must be bool, 0 and 1, or -1 and 1, got {value[at]} at index {at}")
    return value > 0
