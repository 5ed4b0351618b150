"""Real RGB-D frames with poses, as 7-Scenes has them, and events as a camera would have had between them.

A folder or zip with NAME.color.jpg, NAME.depth.png (16 bits, mm, 0 or 65535: none), NAME.pose.txt (4 x 4,
camera to world) and camera-intrinsics.txt (3 x 3). Source: Shotton, Glocker, Zach, Izadi, Criminisi,
Fitzgibbon (CVPR 2013); the frames are not part of the toolkit.
"""

import io
import zipfile
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation, Slerp

from perception.depth.pairs import Pairs
from perception.pinhole import Pinhole
from sims.rooms import BETWEEN, WINDOW, frame, grid
from sims.world import Pose

MAX_FRAMES, MAX_BYTES = 100_000, 1 << 26  # of one file
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)  # the last: locked by a password
NEXT = 8 / 30  # s, from a frame to the next of every eighth


@dataclass(frozen=True)
class Frames:
    """n frames of one camera.

    image:  (n, H, W) intensity, 0 to 1.
    depth:  (n, H, W) float32 m, NaN: none.
    poses:  of the camera.
    camera: its intrinsics at this size.
    """

    image: np.ndarray
    depth: np.ndarray
    poses: list[Pose]
    camera: Pinhole

    def __len__(self) -> int:
        return len(self.image)


def load(path: str | Path, width: int = 80, height: int = 60) -> Frames:
    """Frames at a size.

    Args:
        path:          folder or zip.
        width, height: pixels; smaller than the frames.
    Raises:
        ValueError:  other files than expected.
        ImportError: Pillow is not installed.
    """
    files = _files(Path(path))
    names = sorted(name.removesuffix(".color.jpg") for name in files if name.endswith(".color.jpg"))
    if not names or len(names) > MAX_FRAMES or "camera-intrinsics.txt" not in files:
        raise ValueError(
            f"{path}: camera-intrinsics.txt and NAME.color.jpg, NAME.depth.png, NAME.pose.txt are expected"
        )
    K = _matrix(path, files, "camera-intrinsics.txt", 3)
    images, depths, poses = [], [], []
    for name in names:
        image = _picture(path, files, f"{name}.color.jpg", "L", (width, height))
        raw = _picture(path, files, f"{name}.depth.png", None, None)
        rows = (np.arange(height) + 0.5) * raw.shape[0] / height  # never averaged: that makes depths of edges
        columns = (np.arange(width) + 0.5) * raw.shape[1] / width
        depth = raw[rows.astype(int)][:, columns.astype(int)].astype(np.float32) / 1000
        M = _matrix(path, files, f"{name}.pose.txt", 4)
        images.append(image / np.float32(255))
        depths.append(np.where((depth > 0) & (depth < 65), depth, np.nan))
        poses.append(Pose(M[:3, :3], M[:3, 3]))
    whole = Pinhole(raw.shape[1], raw.shape[0], K[0, 0], K[1, 1], K[0, 2], K[1, 2])
    return Frames(np.stack(images), np.stack(depths), poses, whole.scaled(width, height))


def rgbd_pairs(frames: Frames, condition: str = "clean", seed: int = 0) -> Pairs:
    """Each frame but the first, with events of the 50 ms before it, as `sims.rooms` has them.

    What the camera saw before a frame is that frame seen from where the camera was, on the way from the
    frame before: moved by depth, at constant speed; where depth is unknown, as if it were the median.

    Raises:
        ValueError: fewer than two frames, or one without any depth.
    """
    if len(frames) < 2:
        raise ValueError(f"events need a frame and the one before it, got {len(frames)} frame")
    blank = 1 + np.flatnonzero(np.isnan(frames.depth[1:]).all((1, 2)))
    if len(blank):
        raise ValueError(f"frame {blank[0]} has no depth at all, so nothing is known of how it would move")
    rng = np.random.default_rng(seed)
    times = WINDOW * np.arange(BETWEEN + 1) // BETWEEN
    seen, voxels = [], []
    for k in range(1, len(frames)):
        turns = Slerp([0, 1], Rotation.from_matrix([frames.poses[k - 1].rotation, frames.poses[k].rotation]))
        pictures = []
        for t in times:
            share = 1 - (WINDOW - t) * 1e-6 / NEXT
            place = (1 - share) * frames.poses[k - 1].place + share * frames.poses[k].place
            pictures.append(_from(frames, k, Pose(turns(share).as_matrix(), place)))
        seen.append(frame(pictures, condition, rng))
        voxels.append(grid(pictures, times, condition, rng))
    clean = frames.image[1:].astype(np.float16)
    return Pairs(
        clean, np.stack(seen).astype(np.float16), np.stack(voxels).astype(np.float16), frames.depth[1:]
    )


def _from(frames, k, pose):
    """Frame k from another pose nearby: each pixel there has the depth that it has here."""
    depth = np.where(np.isfinite(frames.depth[k]), frames.depth[k], np.nanmedian(frames.depth[k]))
    points = pose.to_world(frames.camera.unproject(depth))
    column, row = np.moveaxis(frames.camera.project(frames.poses[k].to_camera(points)), -1, 0)
    return map_coordinates(frames.image[k], [row, column], order=1, mode="nearest")


def _files(path):
    if path.is_dir():
        found = {
            file.name: (file.stat().st_size, file.read_bytes) for file in path.iterdir() if file.is_file()
        }
    elif zipfile.is_zipfile(path):
        archive = zipfile.ZipFile(path)
        found = {
            Path(info.filename).name: (info.file_size, partial(archive.read, info))
            for info in archive.infolist()
        }
    else:
        raise ValueError(f"{path} is neither a folder nor a zip")
    for name, (size, _) in found.items():
        if size > MAX_BYTES:
            raise ValueError(f"{path}: {name} has more than {MAX_BYTES} bytes")
    return {name: read for name, (_, read) in found.items()}


def _read(path, files, name):
    if name not in files:
        raise ValueError(f"{path} has no {name}")
    try:
        return files[name]()
    except DAMAGE as error:
        raise ValueError(f"{path}: {name} cannot be read: {error}") from None


def _picture(path, files, name, mode, size):
    try:
        from PIL import Image
    except ImportError:
        raise ImportError(
            "RGB-D frames need the viz extra: pip install -c constraints.txt '.[viz]'"
        ) from None
    try:
        with Image.open(io.BytesIO(_read(path, files, name))) as picture:
            picture = picture if mode is None else picture.convert(mode)
            picture = picture if size is None else picture.resize(size, Image.Resampling.BOX)
            found = np.asarray(picture)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: {name} is no picture: {error}") from None
    if found.ndim != 2:
        raise ValueError(f"{path}: {name} has more than one channel")
    return found


def _matrix(path, files, name, side):
    try:
        found = np.array([float(x) for x in _read(path, files, name).decode().split()])
    except ValueError:
        found = np.zeros(0)
    if found.size != side * side or not np.isfinite(found).all():
        raise ValueError(f"{path}: {name} must hold {side} x {side} numbers")
    return found.reshape(side, side)
