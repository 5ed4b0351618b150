"""Columns of numbers, as HDF5, NumPy and text files have them, to blocks; names and units of columns."""

import re
from collections.abc import Callable, Iterator

import numpy as np

from perception.events.files.blocks import Block, damage
from perception.events.stream import MAX_SIDE, MAX_TIME

UNITS = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}  # microseconds of one
NAMES = {
    "x": ("x", "xs"),
    "y": ("y", "ys"),
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on"),
}
EPOCH_NS = 10**17  # whole numbers from here on count nanoseconds: as microseconds, the year would be 5138


def named(word: str) -> tuple[str, str | None] | None:
    """(column, unit) that a heading such as "x", "timestamp" or "t_us" means; None: another column."""
    word = word.strip().lower()
    if found := re.fullmatch(r"([a-z]+)[ _]*[\[(]?(s|ms|us|ns)[\])]?", word):
        if found[1] in NAMES["t"]:
            return "t", found[2]
    return next(((column, None) for column, names in NAMES.items() if word in names), None)


def known_unit(unit: str | None) -> str | None:
    """The unit, if it is one.

    Raises:
        ValueError: it is not.
    """
    if unit is not None and unit not in UNITS:
        raise ValueError(f"unit must be one of {', '.join(UNITS)}, got {unit!r}")
    return unit


def inferred_unit(t: np.ndarray) -> str:
    """Unit of times without one: seconds if any has a fraction, else microseconds or, from 10^17 on, ns."""
    if t.dtype.kind == "f" and not (t == np.floor(t)).all():
        return "s"
    return "ns" if len(t) and t[0] >= EPOCH_NS else "us"


def blocks_of(
    path, columns: dict[str, np.ndarray], unit: str, place: Callable[[int], str]
) -> Iterator[Block]:
    """One block of four columns of numbers (n,), and a `DamagedError` at the first row that is no event.

    Times are rounded to microseconds.
    """
    good = {name: _within(columns[name], 0, MAX_SIDE - 1) for name in "xy"}
    good["p"] = _within(columns["p"], -1, 1)
    t = columns["t"]
    limit = MAX_TIME / UNITS[unit]
    with np.errstate(invalid="ignore"):
        good["t"] = (t <= min(limit, 2**62)) & (t >= max(-limit, -(2**62)))
    bad = np.flatnonzero(~(good["x"] & good["y"] & good["t"] & good["p"]))
    n = int(bad[0]) if len(bad) else len(t)
    if n:
        x, y = columns["x"][:n].astype(np.uint16), columns["y"][:n].astype(np.uint16)
        yield Block(x, y, microseconds(t[:n], unit), columns["p"][:n] > 0, place)
    if len(bad):
        event = {name: columns[name][n].item() for name in "xytp"}
        raise damage(
            path, place(n), f"an event {event}", "x and y from 0 to 65535, t within +-2^61 us, p -1, 0 or 1"
        )


def _within(column, low, high):
    with np.errstate(invalid="ignore"):
        good = (column >= low) & (column <= high)
        return good & (column == np.floor(column)) if column.dtype.kind == "f" else good


def microseconds(t: np.ndarray, unit: str) -> np.ndarray:
    """Times (n,) of a unit as int64 microseconds, rounded."""
    if t.dtype.kind == "f":
        return np.rint(t * UNITS[unit]).astype(np.int64)
    t = t.astype(np.int64, copy=False)
    return (t + 500) // 1000 if unit == "ns" else t * int(UNITS[unit])
