"""MVSEC: driving and flying with a DAVIS346B and a lidar, one pair of HDF5 files for each sequence.

<name>_data.hdf5: davis/left/events (n, 4) with x, y, t (s), p (-1 or 1), image_raw (m, 260, 346) uint8 and
    image_raw_ts (m,) s.
<name>_gt.hdf5:   davis/left/depth_image_raw (k, 260, 346) m, NaN without a return, and depth_image_raw_ts.

Depth comes at 20 Hz, images at another rate, and there may be more depths than images: an image belongs to
a depth by its time stamp, never by its index. Source: Zhu, Thakur, Oezaslan, Pfrommer, Kumar, Daniilidis
(RA-L 2018); the pairing and the window of 50 ms as in Sun et al. (IROS 2025), FUSE.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from perception.depth.datasets.sample import (
    Sample,
    check_window,
    joined,
    microseconds,
    position,
    require_few,
    require_some,
    returns,
)
from perception.events.files.blocks import checked, event_place, ordered
from perception.events.files.columns import blocks_of
from perception.events.files.hdf5 import MAX_CHUNK, ODD
from perception.events.stream import MAX_SIDE, EventStream

NEEDS = "HDF5 needs the events extra: pip install -c constraints.txt -e '.[events]'"
DATA, TRUTH = "_data.hdf5", "_gt.hdf5"
MAX_FRAMES = 1 << 22  # of one sequence


class Opened(NamedTuple):
    """What a sample is read from: datasets of the two open files, and the times of frames, us."""

    process: int
    events: Any
    images: Any
    depths: Any
    image_times: np.ndarray
    depth_times: np.ndarray


class MVSEC:
    """One sequence, a sample for each depth; FUSE trains on outdoor_day2 and tests on the other drives.

    Args:
        data:   path of <name>_data.hdf5.
        truth:  path of <name>_gt.hdf5; None: beside it.
        window: microseconds before the depth's time of which events are given, without its first one.
        camera: left or right.
        empty:  samples without events are given, too, instead of a ValueError.
    Raises:
        FileNotFoundError: one of the files is missing.
    """

    def __init__(self, data, truth=None, window: int = 50_000, camera: str = "left", empty: bool = False):
        self.data = Path(data)
        if truth is None:
            if not self.data.name.endswith(DATA):
                raise ValueError(
                    f"{data}: the other file's name is unknown; accepted: <name>{DATA}, or truth="
                )
            truth = self.data.with_name(self.data.name.removesuffix(DATA) + TRUTH)
        if camera not in ("left", "right"):
            raise ValueError(f"camera must be left or right, got {camera!r}")
        self.truth, self.window = Path(truth), check_window(window)
        self.camera, self.empty = camera, empty
        for path in (self.data, self.truth):
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing; MVSEC has <name>{DATA} and <name>{TRUTH}")
        self._held: Opened | None = None

    def __len__(self) -> int:
        return len(self._files.depth_times)

    def __getitem__(self, index: int) -> Sample:
        """A sample by its position, which may count from the end."""
        files = self._files
        at = position(index, len(self))
        time = int(files.depth_times[at])
        with _sound(self.truth, f"depth {at}"):
            depth = returns(files.depths[at])
        nearest = self.image_of(at)
        with _sound(self.data, f"image {nearest}"):
            image = files.images[nearest]
        events = self._events(time, image.shape[::-1])
        return Sample(image, events, depth, time, f"{self.data.name.removesuffix(DATA)}/{at:05d}")

    def image_of(self, index: int) -> int:
        """Position of the image nearest in time to a depth; of two as near, the earlier."""
        times, time = self._files.image_times, self._files.depth_times[index]
        after = int(np.searchsorted(times, time))
        near = range(max(after - 1, 0), min(after + 1, len(times)))
        return min(near, key=lambda i: abs(int(times[i]) - int(time)))

    def __getstate__(self):
        """Without the open files, which another process opens for itself."""
        return self.__dict__ | {"_held": None}

    @property
    def _files(self) -> Opened:
        if self._held is None or self._held.process != os.getpid():  # HDF5 breaks in a forked process
            self._held = self._open()
        return self._held

    def _open(self) -> Opened:
        h5py = _h5py()
        with _sound(self.data):
            data = h5py.File(self.data, "r")
        with _sound(self.truth):
            truth = h5py.File(self.truth, "r")
        group = f"davis/{self.camera}"
        events = _dataset(self.data, data, f"{group}/events", 2, "f")
        images = _dataset(self.data, data, f"{group}/image_raw", 3, "u")
        depths = _dataset(self.truth, truth, f"{group}/depth_image_raw", 3, "f")
        if events.shape[1] != 4:
            raise ValueError(f"{self.data}: events of shape {events.shape}; accepted: (n, 4), x, y, t, p")
        if images.dtype != np.uint8 or images.shape[1:] != depths.shape[1:]:
            raise ValueError(
                f"{self.data}: image_raw of shape {images.shape} and type {images.dtype}; "
                f"accepted: uint8, of the size of depth_image_raw, {depths.shape}"
            )
        times = (_times(self.data, data, images), _times(self.truth, truth, depths))
        return Opened(os.getpid(), events, images, depths, *times)

    def _events(self, time: int, size: tuple[int, int]) -> EventStream:
        """Events with time - window < t <= time."""
        start, table = time - self.window + 1, self._files.events
        with _sound(self.data, "events"):
            first = _first_from(table, start, 0)
            end = _first_from(table, time + 1, first)
            require_few(self.data, end - first)
            rows = table[first:end]
        blocks = blocks_of(self.data, dict(zip("xytp", rows.T)), "s", event_place(first))
        events = joined(ordered(checked(blocks, self.data, size), self.data, 0), size)
        return require_some(self.data, events, self.empty)


def _first_from(table, time, low):
    """Index of the first event at `time` us or later, from index `low` on; the column t is bisected."""
    high = len(table)
    while low < high:
        middle = (low + high) // 2
        t = float(table[middle, 2])
        if not abs(t) < np.inf:
            raise ValueError(f"event {middle} at {t} s")
        if round(1e6 * t) < time:
            low = middle + 1
        else:
            high = middle
    return low


def _dataset(path, file, name, dimensions, kind):
    """A dataset of the file, whose shape and type are what they must be; none of it is read."""
    h5py = _h5py()
    with _sound(path, name):
        found = file.get(name)
        if not isinstance(found, h5py.Dataset):
            raise ValueError(f"no dataset {name}")
        sides = found.shape[1:]
        chunk = np.prod([float(n) for n in found.chunks or (0,)]) * found.dtype.itemsize
        if found.ndim != dimensions or found.dtype.kind != kind or chunk > MAX_CHUNK:
            raise ValueError(f"{name} of shape {found.shape}, type {found.dtype} and chunks {found.chunks}")
        if any(not 1 <= side <= MAX_SIDE for side in sides) or np.prod(sides, dtype=float) > MAX_CHUNK:
            raise ValueError(f"{name} of shape {found.shape}")
    return found


def _times(path, file, frames):
    """(n,) int64 microseconds of the frames of a dataset."""
    stamps = _dataset(path, file, f"{frames.name}_ts", 1, "f")
    if len(stamps) != len(frames) or not 0 < len(frames) <= MAX_FRAMES:
        raise ValueError(
            f"{path}: {len(frames)} of {frames.name} and {len(stamps)} times; "
            f"accepted: as many, from 1 to {MAX_FRAMES}"
        )
    with _sound(path, stamps.name):
        seconds = stamps[:]
    return microseconds(path, seconds)


@contextmanager
def _sound(path, place: str = "the file") -> Iterator[None]:
    """What the library raises for damage becomes a ValueError that names the file."""
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except ODD as error:
        if str(error).startswith(f"{path}:"):
            raise
        raise ValueError(f"{path}: {place} cannot be read ({error}); accepted: files of MVSEC") from None


def _h5py():
    try:
        import h5py
    except ImportError:
        raise ImportError(NEEDS) from None
    return h5py
