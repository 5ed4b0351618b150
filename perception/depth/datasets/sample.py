"""One sample of a depth data set, and what every layout needs to make one of untrusted columns."""

import operator
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from perception.events.files.blocks import Block
from perception.events.stream import MAX_TIME, EventStream

MAX_EVENTS = 1 << 23  # of one sample, 0.1 GB as a stream; a second of a busy camera
LARGEST_TIME = MAX_TIME / 1e6  # s


class Sample(NamedTuple):
    """An image, the events before it and the depth that both should tell.

    image:  (H, W) or (H, W, 3) uint8.
    events: of the time before the depth's, on a sensor of W x H pixels.
    depth:  (H, W) float32, m; NaN: no return.
    time:   of the depth, us.
    name:   of the sequence and the depth in it.
    """

    image: np.ndarray
    events: EventStream
    depth: np.ndarray
    time: int
    name: str


def position(index: int, number: int) -> int:
    """A position from 0 on of one that may count from the end.

    Raises:
        IndexError: there are only `number` samples.
    """
    index = operator.index(index)
    if not -number <= index < number:
        raise IndexError(f"sample {index} was asked for, there are {number}")
    return index % number


def check_window(window: int) -> int:
    """A number of microseconds, checked."""
    if not isinstance(window, (int, np.integer)) or not 0 < window <= MAX_TIME:
        raise ValueError(f"window must be a whole number of microseconds above 0, got {window!r}")
    return int(window)


def require_few(path, number: int) -> None:
    """Raise ValueError for more events than a sample may have."""
    if number > MAX_EVENTS:
        raise ValueError(
            f"{path}: {number} events in one window; accepted: at most {MAX_EVENTS}, see window="
        )


def require_some(path, events: EventStream, empty: bool) -> EventStream:
    """The events; a ValueError if there are none and none is not taken."""
    if not len(events) and not empty:
        raise ValueError(f"{path}: no events in the window; accepted: at least one, or empty=True takes none")
    return events


def joined(blocks: Iterable[Block], size: tuple[int, int]) -> EventStream:
    """One stream of a sensor of (width, height) pixels of checked blocks in order of time."""
    blocks = list(blocks)
    if not blocks:
        return EventStream.empty(*size)
    x, y, t, p = (np.concatenate([getattr(block, name) for block in blocks]) for name in "xytp")
    return EventStream(x, y, t, p, *size)


def microseconds(path, seconds: np.ndarray) -> np.ndarray:
    """(n,) int64 microseconds of times (n,) in seconds.

    Raises:
        ValueError: a time is not finite, too large, or before the one before it.
    """
    seconds = np.asarray(seconds, float)
    bad = ~(np.abs(seconds) < LARGEST_TIME)  # so NaN, too
    bad[1:] |= seconds[1:] < seconds[:-1]
    if bad.any():
        k = int(np.argmax(bad))
        raise ValueError(f"{path}: time {seconds[k]} s of frame {k}; accepted: finite times that do not fall")
    return np.rint(1e6 * seconds).astype(np.int64)


def returns(depth: np.ndarray) -> np.ndarray:
    """(H, W) float32 metres of depth (H, W) of any float type: NaN where it is not finite or not above 0."""
    with np.errstate(over="ignore"):
        depth = depth.astype(np.float32)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(np.nan))


def require_same_size(path, image: np.ndarray, other: np.ndarray) -> None:
    """Raise ValueError unless an array (..., H, W) is as large as the image."""
    if other.shape[-2:] != image.shape[:2]:
        wide, high = other.shape[:-3:-1]
        raise ValueError(
            f"{path}: {wide} x {high} pixels; accepted: as many as its image has, "
            f"{image.shape[1]} x {image.shape[0]}"
        )
