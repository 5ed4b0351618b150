"""Depth images as point clouds; `perception.plane` and `perception.clusters` find what is in them.

    points = cloud(depth, pinhole)
    plane, mask = ground(points)
    label = clusters(points[~mask])          # (n,), -1: none

Frames are those of `perception.pinhole`: z along the camera's axis, x to the right, y downwards, metres.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from perception.pinhole import Pinhole, as_depth
from tracking.checks import as_output, require_finite, require_positive
from tracking.compiled import compiled

NEEDS = "{} needs the pointcloud extra: pip install -c constraints.txt -e '.[pointcloud]'"
MAX_SIDE = 2**14  # of a depth image, pixels

Std = float | np.ndarray | Callable[[np.ndarray], Any]


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Points, and what is known of each.

    Args:
        points: (n, 3) float32, m.
        std:    (n,) float32 standard deviation of the depth, m.
        pixel:  (n, 2) int32 column and row in the depth image, of which each pixel is at most one point.
        colour: (n, 3) float32, red, green and blue, 0 to 1.
        stride: pixels from one point to the next, along rows and columns.
    Raises:
        ValueError: columns of different lengths or other shapes, or points that are not finite.
    """

    points: np.ndarray
    std: np.ndarray | None = None
    pixel: np.ndarray | None = None
    colour: np.ndarray | None = None
    stride: int = 1

    def __post_init__(self):
        n = len(self.points)
        for name, shape, kind in (
            ("points", (n, 3), np.float32),
            ("std", (n,), np.float32),
            ("pixel", (n, 2), np.int32),
            ("colour", (n, 3), np.float32),
        ):
            value = getattr(self, name)
            if value is None:
                continue
            given, value = value, np.ascontiguousarray(value, kind)
            if kind is np.int32 and value is not given and not np.array_equal(value, given):
                raise ValueError(f"{name}: columns and rows are whole numbers, got parts of them")
            if value.shape != shape:
                raise ValueError(f"{name} of {n} points must have shape {shape}, got {value.shape}")
            object.__setattr__(self, name, value)
        require_finite(points=self.points)
        if self.std is not None:
            require_positive(std=self.std)
        if self.pixel is not None and n and not (self.pixel.min() >= 0 and self.pixel.max() < MAX_SIDE):
            raise ValueError(
                f"pixels must lie from 0 to {MAX_SIDE - 1}, got {self.pixel.min()} to {self.pixel.max()}"
            )

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        known = [name for name in ("std", "pixel", "colour") if getattr(self, name) is not None]
        return f"PointCloud({len(self)} points{', with ' + ', '.join(known) if known else ''})"

    def __getitem__(self, which: np.ndarray) -> "PointCloud":
        """Points by a mask (n,) or by indices."""
        which = np.asarray(which)
        if which.dtype == bool:
            if which.shape != (len(self),):
                raise ValueError(f"a mask of {len(self)} points is accepted, got shape {which.shape}")
            which = np.flatnonzero(which)  # once for all columns
        points, std, pixel, colour = (
            None if column is None else column.take(which, 0)
            for column in (self.points, self.std, self.pixel, self.colour)
        )
        return PointCloud(points, std, pixel, colour, self.stride)  # type: ignore[arg-type]


def as_cloud(points: Any) -> "PointCloud":
    """A point cloud, as it is.

    Raises:
        TypeError: it is none, such as an array of points.
    """
    if not isinstance(points, PointCloud):
        raise TypeError(
            f"a PointCloud is accepted, got {type(points).__name__}: PointCloud(points) of an array (n, 3)"
        )
    return points


def cloud(
    depth: np.ndarray,
    pinhole: Pinhole,
    std: Std | None = None,
    nearest: float = 0.1,
    farthest: float = np.inf,
    stride: int = 1,
    colour: np.ndarray | None = None,
) -> PointCloud:
    """The points of a depth image, row by row, in the camera's frame.

    Args:
        depth:    (H, W) m; NaN, infinite, and what is not > 0 are no return.
        pinhole:  the camera.
        std:      standard deviation of a depth, m: a number, an image (H, W), or a function of depths (n,).
        nearest, farthest: m; depths outside are no return.
        stride:   every so many columns and rows.
        colour:   (H, W) grey or (H, W, 3), 0 to 1, or 0 to 255 as uint8.
    Raises:
        ValueError: an image of another size than the camera's, or a bad setting.
    """
    depth = np.ascontiguousarray(as_depth(depth, pinhole), np.float32)
    if not 0 < nearest < farthest:
        raise ValueError(f"nearest and farthest must be 0 < nearest < farthest, got {nearest} and {farthest}")
    if not isinstance(stride, (int, np.integer)) or stride < 1:
        raise ValueError(f"stride must be a whole number, at least 1, got {stride!r}")
    most = -(-pinhole.height // stride) * -(-pinhole.width // stride)
    points, pixel = np.empty((most, 3), np.float32), np.empty((most, 2), np.int32)
    intrinsics = (pinhole.fx, pinhole.fy, pinhole.cx, pinhole.cy)
    n = _unproject(depth, intrinsics, float(nearest), float(farthest), stride, points, pixel)
    points, pixel = points[:n], pixel[:n]
    return PointCloud(
        points,
        None if std is None else deviations(std, points[:, 2], pixel, depth.shape),
        pixel,
        None if colour is None else _colours(colour, pixel, depth.shape),
        stride,
    )


def deviations(std: Std, depth: np.ndarray, pixel: np.ndarray | None = None, shape=None) -> np.ndarray:
    """(n,) standard deviations, m, of depths (n,): of a number, a function, or an image of this shape."""
    if callable(std):
        value = np.broadcast_to(as_output("std", std(depth), (len(depth),), ()), (len(depth),))
    elif np.ndim(std) == 0:
        value = np.full(len(depth), float(std))  # type: ignore[arg-type]
    elif pixel is None or np.shape(std) != shape:
        accepted = "a function" if pixel is None else f"a function or an image of shape {shape}"
        raise ValueError(f"std must be a number, {accepted}, got an array of shape {np.shape(std)}")
    else:
        value = np.asarray(std)[pixel[:, 1], pixel[:, 0]]
    require_positive(std=value)
    return value


def to_open3d(cloud: PointCloud) -> Any:
    """An `open3d.geometry.PointCloud` of the points and their colours.

    Raises:
        ImportError: open3d is not installed.
    """
    o3d, cloud = _open3d(), as_cloud(cloud)
    out = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(cloud.points.astype(float)))
    if cloud.colour is not None:
        out.colors = o3d.utility.Vector3dVector(cloud.colour.astype(float))
    return out


def from_open3d(cloud: Any) -> PointCloud:
    """Points, and colours if there are some, of an `open3d.geometry.PointCloud`, which has no pixels.

    Raises:
        ValueError: points that are not finite; open3d's remove_non_finite_points() drops them.
    """
    return PointCloud(
        np.asarray(cloud.points), colour=np.asarray(cloud.colors) if cloud.has_colors() else None
    )


def _open3d():
    try:
        import open3d
    except ImportError as error:
        raise ImportError(NEEDS.format("open3d")) from error
    return open3d


def _colours(colour, pixel, shape):
    colour = np.asarray(colour)
    if colour.shape not in (shape, (*shape, 3)):
        raise ValueError(f"colour must have shape {shape} or {(*shape, 3)}, got {colour.shape}")
    found = colour[pixel[:, 1], pixel[:, 0]].astype(np.float32)
    if colour.dtype == np.uint8:
        found /= 255
    return found if found.ndim == 2 else np.repeat(found[:, None], 3, 1)


@compiled
def _unproject(depth, intrinsics, nearest, farthest, stride, points, pixel):
    """Fill points and pixels of all returns; their number."""
    fx, fy, cx, cy = intrinsics
    n = 0
    for row in range(0, depth.shape[0], stride):
        v = np.float32((row - cy) / fy)
        for column in range(0, depth.shape[1], stride):
            z = depth[row, column]
            if nearest <= z <= farthest and z < np.inf:  # NaN is neither
                points[n, 0], points[n, 1], points[n, 2] = np.float32((column - cx) / fx) * z, v * z, z
                pixel[n, 0], pixel[n, 1] = column, row
                n += 1
    return n
