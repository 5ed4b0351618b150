"""Data sets of tonic as EventStreams.

tonic's data sets differ in the order and the types of their fields, and its own functions go wrong with
some of them (its voxel grid counts every event of a bool polarity as brighter). Here fields are taken by
name, whatever their type; tonic itself need not be installed to read its arrays.
"""

from typing import Any

import numpy as np

from perception.events.stream import EventStream


class TonicEvents:
    """A tonic data set, or any sequence of structured arrays, whose events come as EventStreams.

    Args:
        dataset: items are (data, target) or data; data are events, or a tuple, list or dict with events of
                 several cameras among other sensors, as of DSEC, MVSEC and TUM-VIE, which stays one. Events
                 are structured arrays with fields x, y, t in microseconds and p as bool, 0 and 1, or -1
                 and 1. One structured array is a data set of one item without target.
        size:    (width, height) of the sensor, pixels; None: the data set's `sensor_size`.
        sort:    put events in order of time where they are not, instead of refusing them.
    Raises:
        ValueError: no size is known, or on access, events that are none.
    """

    def __init__(self, dataset: Any, size: tuple[int, int] | None = None, sort: bool = False):
        self.dataset = [dataset] if isinstance(dataset, np.ndarray) and dataset.dtype.names else dataset
        size = size or getattr(dataset, "sensor_size", None)
        if size is None:
            raise ValueError("the data set has no sensor_size; give size=(width, height)")
        self.width, self.height = int(size[0]), int(size[1])
        self.sort = sort

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """(stream, target) where the data set has targets, else the stream; data stay what they are."""
        item = self.dataset[index]
        if isinstance(item, tuple):
            return (self._of_data(item[0]), *item[1:])
        return self._of_data(item)

    def _of_data(self, data):
        parts = dict(data) if isinstance(data, dict) else dict(enumerate(data)) if _several(data) else {}
        if not any(_is_events(part) for part in parts.values()):
            return self.stream(data)
        made = {key: self.stream(part) if _is_events(part) else part for key, part in parts.items()}
        return made if isinstance(data, dict) else type(data)(made.values())

    def stream(self, events: np.ndarray) -> EventStream:
        """One structured array as a stream."""
        names = _names(events)
        if not _is_events(events):
            raise ValueError(
                f"events must be a structured array with fields x, y, t and p, got "
                f"{type(events)} with {list(names)}"
            )
        t = events["t"]
        if t.dtype.kind == "f":  # some data sets hold microseconds that were computed
            t = np.rint(t)
        make = EventStream.unsorted if self.sort else EventStream
        return make(events["x"], events["y"], t, events["p"], self.width, self.height)


def _several(data):
    return isinstance(data, (tuple, list))


def _names(events):
    return getattr(getattr(events, "dtype", None), "names", None) or ()


def _is_events(part):
    return {"x", "y", "t", "p"} <= set(_names(part))
