"""Measurements that arrive late: the filter goes back to before them, and takes them in where they belong.

    tracker = Late(PMBM(...), lag=0.5)
    tracker.step(z, time=10.2, sensor=radar)
    tracker.step(z, time=10.1, sensor=camera)   # on its way for 0.1 s: taken in before the radar's scan

The last scans are kept with what the filter was before each. A late one is filtered from there, and all that
came after it again, so what results is what the filter would have said of the scans in order: no
approximation, at the cost of those steps. Snapshots share their arrays with the filter, and as many are kept
as there are scans in the lag.

Source: exact in place of the one-step solutions of Bar-Shalom, "Update with out-of-sequence measurements in
tracking: exact solution" (TAES 2002), which hold for one object and one known association.
"""

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Any

from tracking.checks import as_measurements, require_positive
from tracking.filters.cphd import CPHDDensity
from tracking.filters.settings import LARGEST
from tracking.filters.tracker import Snapshot, Tracker, elapsed
from tracking.tracks import Tracks


@dataclass(frozen=True)
class Taken:
    """A scan that was taken in.

    time, z, arguments: of `step`, s and measurements; before: what the filter was without it;
    first, end: the labels first, ..., end - 1 are set aside for the tracks it starts.
    """

    time: float
    z: Any
    arguments: dict[str, Any]
    before: Snapshot
    first: int
    end: int


class Late:
    """A tracker that takes scans in any order, as long as they are not older than a lag.

    A scan keeps its labels when it is filtered again, so objects keep theirs. Only a scan from before the
    first one gives all of them new labels.

    Args:
        tracker:   any filter of this package; step it through here only.
        lag:       s that a scan may be older than the newest one.
        max_scans: scans that are kept, whatever the lag; with more in it, the lag is in effect shorter.
        too_late:  what a scan beyond the lag does: "drop" counts it in `dropped`, "raise" is a ValueError.
    """

    def __init__(self, tracker: Tracker, lag: float, *, max_scans: int = 1000, too_late: str = "drop"):
        require_positive(lag=lag)
        if not isinstance(tracker, Tracker):
            raise ValueError(f"tracker must be a filter of this package, got {type(tracker).__name__}")
        if not (int(max_scans) == max_scans and 1 <= max_scans <= LARGEST):
            raise ValueError(f"max_scans must be a whole number >= 1, got {max_scans}")
        if too_late not in ("drop", "raise"):
            raise ValueError(f'too_late must be "drop" or "raise", got {too_late!r}')
        self.tracker, self.lag, self.max_scans, self.too_late = tracker, lag, max_scans, too_late
        self.dropped = 0
        self.repeated = 0
        self._scans: list[Taken] = []
        self._forgotten: float | None = None  # time of the newest scan that cannot be gone back beyond
        self._free = _next_label(tracker.density)  # the first label that no scan has set aside
        self._tracks: Tracks | None = None

    @property
    def time(self) -> float | None:
        """Time of the newest scan, s, None before the first."""
        return self.tracker.time

    def step(self, z, time: float, **arguments) -> Tracks:
        """Take in one scan, late or not.

        Args:
            z:         (m, d_z) measurements.
            time:      when they were made, s.
            arguments: of the tracker's own `step`: sensor, clutter_ratio.
        Returns:
            Estimated objects at the time of the newest scan, given all that has arrived. `source` is of that
            scan. Scans of equal times are filtered in the order of their arrival.
        Raises:
            ValueError: as the tracker's own; or a scan beyond the lag, if `too_late` is "raise". The tracker
                        is then unchanged.
        """
        elapsed(None, time)
        newest = self.tracker.time
        if newest is not None and self._tracks is not None and time < newest:
            if time < newest - self.lag or (self._forgotten is not None and time < self._forgotten):
                return self._refuse(time, newest)
        sensor = self.tracker.models.sensor if arguments.get("sensor") is None else arguments["sensor"]
        self.tracker.models.check_sensor(sensor)
        z = as_measurements(z, sensor.dim_z)  # a copy, that nobody else writes to
        at = bisect_right([scan.time for scan in self._scans], time)
        again, now = self._scans[at:], self.tracker.snapshot()
        kept, free = self._scans[:at], self._free
        try:
            if again:
                self.tracker.rewind(again[0].before)
            unborn = self.tracker.density is None  # every filter starts with label 0
            if unborn:
                self._free = 0
            tracks, taken = self._filter(float(time), z, arguments, None)
            kept.append(taken)
            for scan in again:
                tracks, taken = self._filter(scan.time, scan.z, scan.arguments, None if unborn else scan)
                kept.append(taken)
        except BaseException:
            self.tracker.rewind(now)
            self._free = free
            raise
        self.repeated += len(again)
        self._scans, self._tracks = kept, tracks
        self._number(self._free)
        self._forget()
        return tracks

    def _refuse(self, time, newest) -> Tracks:
        assert self._tracks is not None
        if self.too_late == "raise":
            raise ValueError(
                f"a scan of {time} s came {newest - time:g} s after the newest, at {newest} s; accepted are "
                f"{self.lag:g} s and {self.max_scans} scans. Raise lag, or drop such scans."
            )
        self.dropped += 1
        return self._tracks

    def _filter(self, time, z, arguments, old: Taken | None) -> tuple[Tracks, Taken]:
        """One scan from where the filter is, with the labels it had, or new ones where those are too few."""
        before = self.tracker.snapshot()
        if old is not None:
            self._number(old.first)
            tracks = self.tracker.step(z, time, **arguments)
            if _next_label(self.tracker.density) <= old.end:
                return tracks, replace(old, before=before)
            self.tracker.rewind(before)
        self._number(self._free)
        first = _next_label(self.tracker.density)
        tracks = self.tracker.step(z, time, **arguments)
        end = _next_label(self.tracker.density)
        self._free = max(self._free, end)
        return tracks, Taken(time, z, arguments, before, first, end)

    def _number(self, label: int):
        """Let the next new label be this one."""
        if self.tracker.density is not None:
            self.tracker.density = _numbered(self.tracker.density, label)

    def _forget(self):
        newest = self._scans[-1].time
        last = bisect_right([scan.time for scan in self._scans], newest - self.lag)
        # Of scans at newest - lag, which one may still come before, the filter is known before the next only.
        last = max(last, len(self._scans) - self.max_scans)
        if last > 0:
            self._forgotten = self._scans[last - 1].time
            del self._scans[:last]


def _next_label(density) -> int:
    if density is None:
        return 0
    return density.phd.next_label if isinstance(density, CPHDDensity) else density.next_label


def _numbered(density, label: int):
    if isinstance(density, CPHDDensity):
        return replace(density, phd=replace(density.phd, next_label=label))
    return replace(density, next_label=label)
