"""Filters of events: background activity, refractory time and hot pixels.

Each is a small object that carries what it remembers from one part of a recording to the next, so that
filtering a file in pieces gives what filtering it whole gives; the functions are for one stream.
"""

import numpy as np

from perception.events.represent import count_image
from perception.events.stream import MAX_SIDE, MAX_TIME, EventStream, microseconds
from tracking.compiled import compiled

NEVER = -(2**62)  # us: before every event, and differences to it fit int64


class BackgroundActivity:
    """Keeps events that have company: one of another pixel nearby in the last `window` microseconds.

    Args:
        width, height: of the sensor, pixels.
        window: microseconds.
        reach:  pixels; 1: the eight neighbours.
    Source: Delbruck, "Frame-free dynamic digital vision" (2008), section 3.
    """

    def __init__(self, width: int, height: int, window: int, reach: int = 1):
        window = microseconds("window", window)
        if not 1 <= window <= MAX_TIME or not 1 <= reach <= MAX_SIDE:
            raise ValueError(f"window and reach must be at least 1, got {window} us and {reach} pixels")
        nothing = EventStream.empty(width, height)
        self.width, self.height, self.window, self.reach = nothing.width, nothing.height, window, int(reach)
        self.time = NEVER  # us, of the last event
        self.last = np.full((height + 2 * reach, width + 2 * reach), NEVER, np.int64)  # with a margin

    def mask(self, events: EventStream) -> np.ndarray:
        """(n,) bool: which of the next events have company.

        Raises:
            ValueError: events of another sensor, or before those that came last; nothing is remembered then.
        """
        _go_on(self, events)
        kept = np.empty(len(events), bool)
        near = _near_one if self.reach == 1 else _near
        near(events.x, events.y, events.t, self.window, self.reach, self.last, kept)
        return kept

    def step(self, events: EventStream) -> EventStream:
        """Those of the next events that have company."""
        return events[self.mask(events)]


class Refractory:
    """Drops what a pixel says within `period` microseconds of its last event that was kept.

    Args:
        width, height: of the sensor, pixels.
        period: microseconds.
    """

    def __init__(self, width: int, height: int, period: int):
        period = microseconds("period", period)
        if not 1 <= period <= MAX_TIME:
            raise ValueError(f"period must be at least 1 us, got {period}")
        nothing = EventStream.empty(width, height)
        self.width, self.height, self.period = nothing.width, nothing.height, period
        self.time = NEVER  # us, of the last event
        self.last = np.full((height, width), NEVER, np.int64)

    def mask(self, events: EventStream) -> np.ndarray:
        """(n,) bool: which of the next events are kept.

        Raises:
            ValueError: events of another sensor, or before those that came last; nothing is remembered then.
        """
        _go_on(self, events)
        kept = np.empty(len(events), bool)
        _rested(events.x, events.y, events.t, self.period, self.last, kept)
        return kept

    def step(self, events: EventStream) -> EventStream:
        """Those of the next events that are kept."""
        return events[self.mask(events)]


def background_activity(events: EventStream, window: int = 10_000, reach: int = 1) -> EventStream:
    """Events that have company, see `BackgroundActivity`."""
    return BackgroundActivity(events.width, events.height, window, reach).step(events)


def refractory(events: EventStream, period: int = 1_000) -> EventStream:
    """Events of rested pixels, see `Refractory`."""
    return Refractory(events.width, events.height, period).step(events)


def hot_pixels(events: EventStream, factor: float = 10.0, least: int = 10) -> np.ndarray:
    """(H, W) bool: pixels that fire far more often than those around them.

    A pixel is hot if it has at least `least` events, and more than `factor` times the mean of the middle half
    of its 5 x 5 neighbours (each counted as one event at least), so that a busy region is not hot, a lone
    pixel in it is.

    Args:
        events: long enough that pixels have fired several times.
        factor: > 1.
        least:  events.
    """
    return hot_in(count_image(events).sum(0), factor, least)


def hot_in(count: np.ndarray, factor: float = 10.0, least: int = 10) -> np.ndarray:
    """(H, W) bool: hot pixels of an image (H, W) of numbers of events, see `hot_pixels`."""
    if not factor > 1 or least < 1:
        raise ValueError(f"factor must be > 1 and least at least 1, got {factor} and {least}")
    usual = _middle_of_neighbours(count)
    return (count >= least) & (count > factor * np.maximum(usual, 1))


def without(events: EventStream, pixels: np.ndarray) -> EventStream:
    """Events of all pixels but those of a mask (H, W)."""
    if pixels.shape != (events.height, events.width) or pixels.dtype != bool:
        raise ValueError(
            f"pixels must be a mask of shape ({events.height}, {events.width}), "
            f"got {pixels.dtype} {pixels.shape}"
        )
    return events[~pixels[events.y, events.x]]


def _middle_of_neighbours(count: np.ndarray) -> np.ndarray:
    """(H, W): mean of the middle half of each pixel's up to 24 neighbours."""
    reach = 2
    framed = np.pad(count.astype(float), reach, constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(framed, (2 * reach + 1,) * 2).reshape(*count.shape, -1)
    around = np.sort(np.delete(around, around.shape[-1] // 2, axis=-1), axis=-1)  # NaN last
    number = np.isfinite(around).sum(-1, keepdims=True)
    place = np.arange(around.shape[-1])
    middle = (place >= number // 4) & (place < number - number // 4)
    return np.where(middle, around, 0).sum(-1) / np.maximum(middle.sum(-1), 1)


def _go_on(filter_, events):
    """Check that a filter's next events are that, and remember how far they go."""
    if (filter_.width, filter_.height) != (events.width, events.height):
        raise ValueError(
            f"the filter is for {filter_.width} x {filter_.height} pixels, events are of "
            f"{events.width} x {events.height}"
        )
    if len(events):
        if events.t[0] < filter_.time:
            raise ValueError(
                f"events from {filter_.time} us on are expected, got {events}; "
                "a new recording needs a new filter"
            )
        filter_.time = int(events.t[-1])


@compiled
def _near_one(x, y, t, window, reach, last, kept):
    """Eight reads without a loop: this is where the time goes."""
    for i in range(len(t)):
        u, v, since = x[i], y[i], t[i] - window
        kept[i] = (
            (last[v, u] >= since)
            | (last[v, u + 1] >= since)
            | (last[v, u + 2] >= since)
            | (last[v + 1, u] >= since)
            | (last[v + 1, u + 2] >= since)
            | (last[v + 2, u] >= since)
            | (last[v + 2, u + 1] >= since)
            | (last[v + 2, u + 2] >= since)
        )
        last[v + 1, u + 1] = t[i]


@compiled
def _near(x, y, t, window, reach, last, kept):
    for i in range(len(t)):
        u, v, since = x[i], y[i], t[i] - window
        found = False
        for dv in range(2 * reach + 1):
            for du in range(2 * reach + 1):
                if last[v + dv, u + du] >= since and not (du == reach and dv == reach):
                    found = True
        kept[i] = found
        last[v + reach, u + reach] = t[i]


@compiled
def _rested(x, y, t, period, last, kept):
    for i in range(len(t)):
        rested = t[i] - last[y[i], x[i]] >= period
        kept[i] = rested
        if rested:
            last[y[i], x[i]] = t[i]
