"""Lists of files as FUSE has them: a line "image depth voxel" of paths, separated by spaces, for each sample.

Voxels are grids (bins, H, W) that were made beforehand, so that no events need to be read. Source: Sun et al.
(IROS 2025), whose lists have the paths of one machine, see `strip`.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perception.depth.datasets.arrays import read_array, read_image
from perception.depth.datasets.sample import position, require_same_size, returns
from tracking.formats.files import read_rows


class Entry(NamedTuple):
    """Paths of one sample."""

    image: Path
    depth: Path
    voxel: Path


class VoxelSample(NamedTuple):
    """An image, events as a voxel grid and the depth that both should tell.

    image: (H, W) or (H, W, 3) uint8.
    voxel: (bins, H, W) float32.
    depth: (H, W) float32, m; NaN: no return.
    name:  path of the depth as the list has it.
    """

    image: np.ndarray
    voxel: np.ndarray
    depth: np.ndarray
    name: str


def read_list(path, root=None, strip: str = "") -> list[Entry]:
    """The entries of a list; whether there are such files is not looked at.

    Args:
        path:  the list.
        root:  folder that relative paths start from; None: the list's own.
        strip: what paths in the list begin with and what is left out, such as "/data/EventScape_processed".
    Raises:
        ValueError: `path:line: what came; what is accepted`, or a list without any line.
        OSError:    the list is missing or cannot be read.
    """
    root = Path(path).parent if root is None else Path(root)
    entries = []
    for row in read_rows(path, None, (3,)):
        for field in row.fields:
            if not field.startswith(strip):
                raise row.error(f"the path {field!r}", f"accepted are paths that begin with {strip!r}")
        names = (field.removeprefix(strip) for field in row.fields)
        entries.append(Entry(*(root / (name.lstrip("/") if strip else name) for name in names)))
    if not entries:
        raise ValueError(f"{os.fspath(path)}: no lines; accepted: one 'image depth voxel' for each sample")
    return entries


class Listed:
    """Samples of a list; the list is read at once, the files when a sample is asked for.

    Args: as of `read_list`.
    """

    def __init__(self, path, root=None, strip: str = ""):
        self.entries = read_list(path, root, strip)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> VoxelSample:
        """A sample by its position, which may count from the end."""
        entry = self.entries[position(index, len(self))]
        image = read_image(entry.image)
        depth = read_array(entry.depth, 2, "depth (H, W) of real numbers")
        voxel = read_array(entry.voxel, 3, "a voxel grid (bins, H, W) of real numbers")
        for path, array in ((entry.depth, depth), (entry.voxel, voxel)):
            require_same_size(path, image, array)
        if not np.isfinite(voxel).all():
            raise ValueError(f"{entry.voxel}: numbers that are not finite; accepted: finite numbers")
        return VoxelSample(image, voxel.astype(np.float32), returns(depth), os.fspath(entry.depth))
