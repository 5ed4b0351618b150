"""What a recording is like, and what looks wrong with it, in one pass and constant memory."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from perception.events.filters import hot_in
from perception.events.represent import count_image
from perception.events.stream import EventStream
from tracking.compiled import compiled

BIN = 10_000  # us, of the rate over time
MAX_BINS = 1_000_000  # then bins are joined: 2 h 46 min at first
FEW = 50  # events, of which nothing is said
MAX_PIXELS = 2**26
AT_ONCE = 2**23  # events: a float32 counts up to twice that
LONG_GAP = 100_000  # us without any event
SAME_TIME = 0.2  # share of a sensor's pixels that fire in one microsecond: flicker, or stamps made up
ONE_SIDED = 0.9


@dataclass
class Summary:
    """Numbers of a recording so far.

    count:      (2, H, W) events by polarity, darker first.
    rate:       events in bins of `bin` microseconds from the first event on.
    first, last: microseconds, of the first and last event; 0 without events.
    gap, gap_at: the longest time without an event, and when it began.
    tick:       largest step that all differences of times are multiples of, microseconds.
    crowd, crowd_at: most events of one time, and that time.
    repeated:   events of the same pixel, time and polarity as the one before.
    """

    width: int
    height: int
    count: np.ndarray = field(init=False)
    bin: int = BIN
    rate: np.ndarray = field(init=False)
    first: int = 0
    last: int = 0
    gap: int = 0
    gap_at: int = 0
    tick: int = 0
    crowd: int = 0
    crowd_at: int = 0
    repeated: int = 0

    def __post_init__(self):
        if self.width * self.height > MAX_PIXELS:
            raise ValueError(
                f"a summary takes sensors of up to {MAX_PIXELS} pixels, got {self.width} x {self.height}. "
                "Where a file does not tell its sensor, one odd event makes it large; give the size."
            )
        self.count = np.zeros((2, self.height, self.width), np.int64)
        self.rate = np.zeros(0, np.int64)
        self._latest = np.full((2, self.height, self.width), np.iinfo(np.int64).min)
        self._run = 0  # events so far of the last time

    def add(self, events: EventStream) -> None:
        """The next events.

        Raises:
            ValueError: events of another sensor, or before those that came last; nothing is added then.
        """
        if (events.width, events.height) != (self.width, self.height):
            raise ValueError(f"events of {self.width} x {self.height} pixels are expected, got {events}")
        if len(events) and self.number and events.t[0] < self.last:
            raise ValueError(f"events from {self.last} us on are expected, got {events}")
        for part in events.by_count(AT_ONCE):
            self._add(part)

    def _add(self, events):
        t = events.t
        if not len(self.rate):
            self.first = self.last = int(t[0])
        step = np.diff(t, prepend=self.last)
        at = int(step.argmax())
        if step[at] > self.gap:
            self.gap, self.gap_at = int(step[at]), int(t[at] - step[at])
        self.tick = int(np.gcd(self.tick, np.gcd.reduce(step)))
        self._crowds(t)
        self.count += count_image(events).astype(np.int64)
        self.repeated += _repeats(events.x, events.y, t, events.p.view(np.uint8), self._latest)
        self._rates(t)
        self.last = int(t[-1])

    def _crowds(self, t):
        starts = np.flatnonzero(np.diff(t, prepend=t[0] - 1))
        sizes = np.diff(starts, append=len(t))
        if t[0] == self.last:
            sizes[0] += self._run
        at = int(sizes.argmax())
        if sizes[at] > self.crowd:
            self.crowd, self.crowd_at = int(sizes[at]), int(t[starts[at]])
        self._run = int(sizes[-1])

    def _rates(self, t):
        while (t[-1] - self.first) // self.bin >= MAX_BINS:
            self.bin *= 2
            self.rate = np.add.reduceat(self.rate, np.arange(0, len(self.rate), 2))
        bins = (t - self.first) // self.bin
        self.rate = np.pad(self.rate, (0, max(int(bins[-1]) + 1 - len(self.rate), 0)))
        low = int(bins[0])
        self.rate[low : int(bins[-1]) + 1] += np.bincount(bins - low)

    @property
    def number(self) -> int:
        """Of events."""
        return int(self.count.sum())

    @property
    def seconds(self) -> float:
        """From the first to the last event."""
        return (self.last - self.first) * 1e-6

    def hot(self) -> np.ndarray:
        """(k, 2) column and row of hot pixels, the busiest first."""
        total = self.count.sum(0)
        rows, columns = np.nonzero(hot_in(total))
        order = np.argsort(-total[rows, columns], kind="stable")
        return np.stack((columns[order], rows[order]), -1)

    def anomalies(self) -> list[str]:
        """What looks wrong, a sentence each."""
        if not self.number:
            return ["no events"]
        said = []
        hot = self.hot()
        if len(hot):
            x, y = hot[0]
            share = self.count[:, hot[:, 1], hot[:, 0]].sum() / self.number
            said.append(
                f"{len(hot)} hot pixels with {share:.1%} of the events, first ({x}, {y}): "
                f"{self.count[:, y, x].sum()} events"
            )
        if self.gap > LONG_GAP:
            said.append(f"no event for {self.gap * 1e-6:.3f} s from {self.gap_at} us on")
        if self.crowd > SAME_TIME * self.width * self.height and self.crowd > FEW:
            said.append(f"{self.crowd} events at {self.crowd_at} us alone")
        if self.tick > 1 and self.number > FEW:
            said.append(f"times are multiples of {self.tick} us apart")
        if self.repeated:
            said.append(f"{self.repeated} events repeat pixel, time and polarity of another")
        brighter = self.count[1].sum() / self.number
        if self.number > FEW and not 1 - ONE_SIDED <= brighter <= ONE_SIDED:
            said.append(f"{brighter:.1%} of the events are brighter ones")
        return said


def summary(parts: Iterable[EventStream], width: int, height: int) -> Summary:
    """Summary of streams that follow each other."""
    found = Summary(width, height)
    for part in parts:
        found.add(part)
    return found


@compiled
def _repeats(x, y, t, p, latest):
    found = 0
    for i in range(len(t)):
        found += latest[p[i], y[i], x[i]] == t[i]
        latest[p[i], y[i], x[i]] = t[i]
    return found
