"""EventScape and DENSE: sequences made with CARLA, one file a frame for the image, the depth and the events.

EventScape, 512 x 256 pixels:  rgb/data/05_043_0047_image.png, depth/data/05_043_0047_depth.npy,
    events/data/05_043_0047_events.npz with x, y, t (us), p.
DENSE, 346 x 260 pixels:       rgb/frames/frame_0000000047.png, depth/data/depth_0000000047.npy,
    events/data/events_0000000047.npy, (n, 4) with t (ns), x, y, p, or .npz with these names.
Both:                          depth/data/timestamps.txt, a line for each frame, its number and seconds.

Depth is in metres, the sky at 1000. Sources: Gehrig, Ruegg, Gehrig, Hidalgo-Carrio, Scaramuzza (RA-L 2021),
RAM-Net; Hidalgo-Carrio, Gehrig, Scaramuzza (3DV 2020), E2DEPTH, and the recorder that was released with it.
"""

import os
import re
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perception.depth.datasets.arrays import read_array, read_image
from perception.depth.datasets.sample import (
    LARGEST_TIME,
    Sample,
    check_window,
    joined,
    microseconds,
    position,
    require_few,
    require_same_size,
    require_some,
    returns,
)
from perception.events.files import npz
from perception.events.files.blocks import checked, event_place, ordered, window
from perception.events.files.columns import blocks_of
from perception.events.stream import EventStream
from tracking.formats.files import read_rows

LATE = 1_000_000  # us: events of one frame are sorted, whatever their order in its file


class Files(NamedTuple):
    """Where the files of one kind are: the first folder that exists, names with the frame's number."""

    folders: tuple[str, ...]
    pattern: str

    def numbered(self, sequence: Path) -> dict[int, Path]:
        """Paths by the number of their frame.

        Raises:
            FileNotFoundError: no folder.
            ValueError:        two files of one frame, or none at all.
        """
        folder = next((sequence / f for f in self.folders if (sequence / f).is_dir()), None)
        if folder is None:
            raise FileNotFoundError(f"{sequence} has no folder {' or '.join(self.folders)}")
        found: dict[int, Path] = {}
        for name in sorted(os.listdir(folder)):
            if not (match := re.fullmatch(self.pattern, name, re.ASCII)):
                continue
            number = int(match[1])
            if number in found:
                raise ValueError(
                    f"{folder / name}: frame {number} is also {found[number].name}; accepted: one"
                )
            found[number] = folder / name
        if not found:
            raise ValueError(f"{folder}: no file of a frame; accepted: names as {self.pattern}")
        return found


class CarlaSequence:
    """One sequence; what differs between the data sets is in `EventScape` and `DENSE`.

    Args:
        folder: of the sequence.
        window: microseconds before the depth's time of which events are given; None: those in the file of
                its frame, since the frame before, as FUSE's voxels have them.
        empty:  samples without events are given, too, instead of a ValueError.
    """

    images: Files
    depths: Files
    events: Files

    def __init__(self, folder, window: int | None = None, empty: bool = False):
        self.folder, self.empty = Path(folder), empty
        self.window = None if window is None else check_window(window)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"{folder} is no folder; accepted: that of a sequence, see sequences()")

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        """A sample by its position, which may count from the end."""
        at = position(index, len(self))
        image_path, depth_path, _ = self._frames[at]
        image = read_image(image_path)
        depth = read_array(depth_path, 2, "depth (H, W) of real numbers")
        require_same_size(depth_path, image, depth)
        time = int(self._times[at])
        events = self._events(at, time, image.shape[1::-1])
        name = f"{self.folder.name}/{depth_path.stem}"
        return Sample(image, events, returns(depth), time, name)

    @cached_property
    def _frames(self) -> list[tuple[Path, Path, Path]]:
        """Paths of the image, the depth and the events of each frame."""
        kinds = {name: getattr(self, name).numbered(self.folder) for name in ("images", "depths", "events")}
        numbers = sorted(set().union(*kinds.values()))
        for name, found in kinds.items():
            missing = [n for n in numbers if n not in found]
            if missing:
                counts = ", ".join(f"{len(files)} {kind}" for kind, files in kinds.items())
                raise ValueError(
                    f"{self.folder}: {counts}, frame {missing[0]} is missing from {name}; accepted: one each"
                )
        return [(kinds["images"][n], kinds["depths"][n], kinds["events"][n]) for n in numbers]

    @cached_property
    def _times(self) -> np.ndarray:
        """(n,) int64 microseconds of the depths."""
        path = self._frames[0][1].with_name("timestamps.txt")
        rows = read_rows(path, None, (2,))
        seconds = [row.number(1, "time", -LARGEST_TIME, LARGEST_TIME) for row in rows]
        if len(seconds) != len(self):
            raise ValueError(f"{path}: {len(seconds)} times; accepted: one for each of {len(self)} depths")
        return microseconds(path, np.array(seconds))

    def _events(self, at: int, time: int, size: tuple[int, int]) -> EventStream:
        path = self._frames[at][2]
        events = self._packet(path, size)
        if self.window is not None:
            start = time - self.window + 1
            events = self._since(at, start, events).between(start, time + 1)
        return require_some(path, events, self.empty)

    def _since(self, at: int, start: int, events: EventStream) -> EventStream:
        """Events of a frame and of those before it, as far as the window reaches back."""
        size = (events.width, events.height)
        while at and self._times[at - 1] >= start:  # the frame before ends in the window
            at -= 1
            events = self._packet(self._frames[at][2], size).merge(events)
            require_few(self._frames[at][2], len(events))
        return events

    def _packet(self, path: Path, size: tuple[int, int]) -> EventStream:
        """Events in the file of one frame."""
        raise NotImplementedError


class EventScape(CarlaSequence):
    """One sequence of EventScape, a folder as Town05/sequence_43; arguments as of `CarlaSequence`."""

    images = Files(("rgb/data",), r"\d+_\d+_(\d+)_image\.png")
    depths = Files(("depth/data",), r"\d+_\d+_(\d+)_depth\.npy")
    events = Files(("events/data",), r"\d+_\d+_(\d+)_events\.npz")

    def _packet(self, path, size):
        return _of_npz(path, size, "us")


class DENSE(CarlaSequence):
    """One sequence of DENSE, a folder as test_sequence_00_town10; arguments as of `CarlaSequence`."""

    images = Files(("rgb/frames", "rgb/data"), r"frame_(\d+)\.png")
    depths = Files(("depth/data",), r"depth_(\d+)\.npy")
    events = Files(("events/data",), r"events_(\d+)\.np[yz]")

    def _packet(self, path, size):
        if path.suffix == ".npz":
            return _of_npz(path, size, "ns")
        table = read_array(path, 2, "events (n, 4)", "fiu")
        if table.shape[1] != 4:
            raise ValueError(f"{path}: a table of shape {table.shape}; accepted: (n, 4), of t, x, y and p")
        require_few(path, len(table))
        columns = dict(zip("txyp", table.T))
        blocks = checked(blocks_of(path, columns, "ns", event_place(0)), path, size)
        return joined(ordered(blocks, path, LATE), size)


def sequences(root) -> list[Path]:
    """Folders of all sequences below a folder, in order of the numbers in their names.

    Raises:
        FileNotFoundError: there are none.
    """
    found = []
    for folder, inside, _ in os.walk(root):
        if {"rgb", "depth", "events"} <= set(inside):
            found.append(Path(folder))
            inside.clear()  # of thousands of files, none is a sequence
    if not found:
        raise FileNotFoundError(f"{root} has no sequence; accepted: folders with rgb, depth and events")
    return sorted(found, key=_by_numbers)


def _by_numbers(path):
    return [int(word) if word.isdecimal() else word for word in re.split(r"(\d+)", str(path))]


def _of_npz(path, size, unit):
    reader = npz.reader(path, unit)
    require_few(path, reader.count)
    return joined(window(reader, path, None, None, size, LATE), size)
