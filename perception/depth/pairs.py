"""Frames, each with the events before it: what FUSE is trained on, in memory or read from a data set."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from perception.depth.datasets import Sample, VoxelSample
from perception.events.represent import voxel_grid

BINS = 3  # of a voxel grid: the channels of an image
FEWEST = 0.01  # events per pixel: fewer are noise, and would be brought to the contrast of an image


@dataclass(frozen=True)
class Pairs:
    """n frames, each with the events before it.

    clean:  (n, H, W) or (n, H, W, 3) frames of 0 to 1, as a good camera in good light has them.
    seen:   of the same shape, as the camera has them.
    voxels: (n, 3, H, W) grids of the events of the window that ends with the frame.
    depth:  (n, H, W) m, or None; not finite: unknown.
    objects: (n, 4, H, W) what is known of things, see `perception.objects.target`, or None.
    """

    clean: np.ndarray
    seen: np.ndarray
    voxels: np.ndarray
    depth: np.ndarray | None = None
    objects: np.ndarray | None = None

    def __post_init__(self):
        if self.clean.ndim not in (3, 4):
            raise ValueError(f"frames (n, H, W) or (n, H, W, 3) are expected, got {self.clean.shape}")
        n, *side = self.clean.shape[:3]
        shapes = {"seen": (self.seen, self.clean.shape), "voxels": (self.voxels, (n, BINS, *side))}
        if self.depth is not None:
            shapes["depth"] = (self.depth, (n, *side))
        if self.objects is not None:
            shapes["objects"] = (self.objects, (n, 4, *side))
        for name, (array, expected) in shapes.items():
            if array.shape != expected:
                raise ValueError(f"{name} of frames {self.clean.shape} must be {expected}, got {array.shape}")

    def __len__(self) -> int:
        return len(self.clean)

    def __getitem__(self, rows) -> "Pairs":
        """Some of them."""
        depth, objects = (None if a is None else a[rows] for a in (self.depth, self.objects))
        return Pairs(self.clean[rows], self.seen[rows], self.voxels[rows], depth, objects)

    @classmethod
    def joined(cls, parts: "Iterable[Pairs]") -> "Pairs":
        """Several as one; without depth or objects if one has none."""
        parts = list(parts)
        if len({p.clean.shape[1:] for p in parts}) != 1:
            raise ValueError(
                f"pairs of one size can be joined, got {sorted({p.clean.shape[1:] for p in parts}) or 'none'}"
            )
        columns = zip(*((p.clean, p.seen, p.voxels, p.depth, p.objects) for p in parts))
        whole: list[Any] = [None if any(a is None for a in c) else np.concatenate(c) for c in columns]
        return cls(*whole)


class PairSource(Protocol):
    """What the stages of training draw from: `Pairs`, or `SamplePairs`."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows, /) -> Pairs: ...


class SamplePairs:
    """Samples of data sets as pairs that are read when they are asked for; all of one size.

    The camera of a data set has what it has: clean and seen are the same, and stage 2 spoils them
    (`perception.depth.degrade`).

    Args:
        parts:  data sets of `perception.depth.datasets`, one after the other.
        window: microseconds of the samples' events that go into a grid, up to the depth's time; None: all.
    """

    def __init__(
        self, parts: "Sequence[Sequence[Sample] | Sequence[VoxelSample]]", window: int | None = None
    ):
        self.parts, self.window = parts, window
        self.ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        self.chosen = np.arange(self.ends[-1] if len(parts) else 0)
        if not len(self):
            raise ValueError("a data set with at least one sample is needed, got none")

    def __len__(self) -> int:
        return len(self.chosen)

    def only(self, rows) -> "SamplePairs":
        """The same with some of the samples, by their positions (m,) or a slice."""
        made = SamplePairs(self.parts, self.window)
        made.chosen = self.chosen[rows]
        return made

    def __getitem__(self, rows) -> Pairs:
        """Some of them, by their positions (m,) or a slice.

        Raises:
            ValueError: images of different sizes, or grids of another number of bins.
        """
        read = [self._read(int(row)) for row in np.atleast_1d(self.chosen[rows])]
        if not read:
            raise ValueError("at least one sample is needed, none was asked for")
        shapes = {image.shape for image, _, _ in read}
        if len(shapes) > 1:
            raise ValueError(f"images of one size are needed in a batch, got {sorted(shapes)}")
        image, voxels, depth = (np.stack(column) for column in zip(*read))
        return Pairs(image, image, voxels, depth)

    def _read(self, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        which = int(np.searchsorted(self.ends, row, "right"))
        part = self.parts[which]
        sample = part[row - int(self.ends[which]) + len(part)]
        if isinstance(sample, VoxelSample):
            grid, name = sample.voxel, sample.name
        else:
            events, span = sample.events, None
            if self.window is not None:
                span = (sample.time - self.window, sample.time)
                events = events.between(span[0], span[1] + 1)
            grid, name = voxel_grid(events, BINS, span), sample.name
        if len(grid) != BINS:
            raise ValueError(
                f"{name}: a grid of {len(grid)} bins; {BINS} are needed, the channels of an image"
            )
        return sample.image.astype(np.float32) / 255, grid, sample.depth
