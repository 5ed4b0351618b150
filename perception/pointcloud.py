"""Depth images as point clouds, the plane that things stand on, and the things: in linear time.

    points = cloud(depth, pinhole)
    plane, mask = ground(points)
    label = clusters(points[~mask])          # (n,), -1: none

Frames are those of `perception.pinhole`: z along the camera's axis, x to the right, y downwards, metres.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from perception.pinhole import Pinhole, as_depth
from tracking.association.components import join, root
from tracking.checks import as_output, require_finite, require_positive
from tracking.compiled import compiled

NEEDS = "{} needs the pointcloud extra: pip install -c constraints.txt -e '.[pointcloud]'"
TRIALS = 10_000  # planes tried; one with a tenth of the points is missed once in 20,000 times
SCORED = 1024  # points that a trial is judged by ...
BLOCK = 128  # ... so many at a time
FITTED = 4096  # points that the best one is fitted to
ROUNDS = 8  # of the fit
MAX_SIDE = 2**14  # of a depth image, pixels
MAX_VOXELS = 2**20  # along each axis: three numbers of a voxel fit one of 64 bits

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
            value = np.ascontiguousarray(value, kind)
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


class Plane(NamedTuple):
    """The points p with normal . p = offset.

    normal: (3,) of length 1.
    offset: m.
    """

    normal: np.ndarray
    offset: float

    def distance(self, points: np.ndarray) -> np.ndarray:
        """(...) m of points (..., 3), positive on the side to which the normal points."""
        return points @ self.normal - self.offset


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


def ground(
    cloud: PointCloud,
    tolerance: float = 0.03,
    up: np.ndarray | None = None,
    tilt: float = 0.3,
    least: float = 0.1,
    seed: int | np.random.Generator = 0,
) -> tuple[Plane | None, np.ndarray]:
    """The plane with the most points, and which points are of it (n,); None if no plane has enough.

    Its normal points to the origin, where the camera is, or to the side of `up`.

    Args:
        cloud:     points.
        tolerance: distance within which a point is of the plane, m; where depths have deviations, what two of
                   them along its ray move a point towards the plane, if that is more.
        up:        (3,) the direction that the normal must have, of any length; None: any.
        tilt:      rad by which it may differ.
        least:     share of the points that the plane must have.
        seed:      of the planes tried.
    Source: Fischler, Bolles, "Random Sample Consensus" (1981); the best plane is fitted by least squares.
    """
    require_positive(tolerance=tolerance)
    axis, cosine = _direction(up), (-1.0 if up is None else float(np.cos(tilt)))
    nowhere = np.zeros(len(cloud), bool)
    if len(cloud) < 3:
        return None, nowhere
    rng = np.random.default_rng(seed)
    if cloud.std is None:
        doubt = np.zeros(len(cloud), np.float32)
    else:
        doubt = 2 * cloud.std / np.abs(cloud.points[:, 2])
    some = rng.integers(0, len(cloud), FITTED) if len(cloud) > FITTED else rng.permutation(len(cloud))
    points, uncertain = cloud.points[some], doubt[some]
    triples = rng.integers(0, len(points), (TRIALS, 3))
    near = np.float32(tolerance)
    plane = _best_plane(points, uncertain, near, triples, axis, cosine, min(SCORED, len(points)))
    if not plane[:3].any():
        return None, nowhere
    plane = _fitted(plane, points, uncertain, near, axis, cosine)
    mask = _of_plane(cloud.points, doubt, near, plane)
    if mask.sum() < least * len(cloud):
        return None, nowhere
    if (plane[3] > 0) if up is None else (plane[:3] @ axis < 0):
        plane = -plane
    return Plane(plane[:3], float(plane[3])), mask


def clusters(
    cloud: PointCloud,
    gap: float = 0.03,
    slope: float = 6.0,
    reach: int = 1,
    min_points: int = 30,
    noise: float = 1.0,
) -> np.ndarray:
    """(n,) int64 label of the cluster of each point of a depth image, 0 the largest; -1: none.

    Neighbours in the image belong together where their depths differ by no more than a surface that leans
    explains: gap + slope (distance of their rays at that depth) + noise (deviation of the difference).

    Args:
        cloud:      points of a depth image, some of which may have been taken out.
        gap:        m.
        slope:      tangent of the steepest lean; 6: 80 degrees.
        reach:      pixels, times the stride of the cloud, to which neighbours go: more than 1 bridges holes.
        min_points: of a cluster.
        noise:      deviations of the difference of two depths, where the cloud knows them.
    Source: Borges, Aldon, "Line Extraction in 2D Range Images for Mobile Robotics" (2004), adaptive
        breakpoint detector, here for images.
    """
    if cloud.pixel is None:
        raise ValueError(
            "clusters joins neighbours in an image, and this cloud has no pixels: voxel_clusters"
        )
    if not (gap >= 0 and slope >= 0 and noise >= 0 and reach == int(reach)) or reach < 1 or min_points < 1:
        raise ValueError(
            "gap, slope and noise must be >= 0, reach and min_points whole and at least 1, "
            f"got {gap}, {slope}, {noise}, {reach} and {min_points}"
        )
    if not len(cloud):
        return np.zeros(0, np.int64)
    if not cloud.points[:, 2].min() > 0:
        raise ValueError("points of a depth image are in front of the camera, got one with z <= 0")
    at = cloud.pixel // np.int32(cloud.stride) if cloud.stride > 1 else cloud.pixel
    std = np.zeros(0, np.float32) if cloud.std is None else cloud.std * np.float32(noise)
    parent = _join_neighbours(cloud.points, at, std, np.float32(gap), np.float32(slope), reach)
    return _numbered(parent, min_points)


def voxel_clusters(cloud: PointCloud, size: float = 0.1, min_points: int = 30) -> np.ndarray:
    """(n,) int64 label of the cluster of each point of any cloud, 0 the largest; -1: none.

    Points of one voxel belong together, and those of voxels that touch, at corners too: so points nearer than
    `size` always do, and those farther than 2 sqrt(3) `size` only by way of others.

    Args:
        cloud:      points.
        size:       side of a voxel, m.
        min_points: of a cluster.
    """
    require_positive(size=size)
    if min_points < 1:
        raise ValueError(f"min_points must be at least 1, got {min_points}")
    if not len(cloud):
        return np.zeros(0, np.int64)
    lower = cloud.points.min(0)
    if not (cloud.points.max(0) - lower).max() / size < MAX_VOXELS - 3:
        raise ValueError(
            f"a cloud of {(cloud.points.max(0) - lower).tolist()} m has too many voxels of {size} m: at most "
            f"{MAX_VOXELS} are accepted along each axis. Drop far points or take larger voxels."
        )
    return _numbered(_join_voxels(cloud.points, lower.astype(float), float(size)), min_points)


def to_open3d(cloud: PointCloud) -> Any:
    """An `open3d.geometry.PointCloud` of the points and their colours.

    Raises:
        ImportError: open3d is not installed.
    """
    o3d = _open3d()
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


def _direction(up):
    """`up` with length 1; zeros where there is none."""
    if up is None:
        return np.zeros(3)
    up = np.asarray(up, float)
    if up.shape != (3,) or not np.isfinite(up).all() or not up.any():
        raise ValueError(f"up must be a direction (3,), got {up.tolist()}")
    return up / np.linalg.norm(up)


def _fitted(plane, points, doubt, near, axis, cosine):
    """A plane (4,), normal and offset, after least squares over the points near it."""
    last = 0
    for _ in range(ROUNDS):
        inside = points[_of_plane(points, doubt, near, plane)].astype(float)
        if len(inside) < 3 or len(inside) == last:
            break
        last = len(inside)
        middle = inside.mean(0)
        normal = np.linalg.eigh(np.cov((inside - middle).T))[1][:, 0]
        if abs(normal @ axis) < cosine:  # it would tilt too far
            break
        plane = np.append(normal, normal @ middle)
    return plane


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


@compiled
def _best_plane(points, doubt, near, triples, axis, cosine, scored):
    """Normal and offset (4,) of the plane through three points that most are near to; zeros if none."""
    px, py, pz = points[:scored, 0].copy(), points[:scored, 1].copy(), points[:scored, 2].copy()
    best, top = np.zeros(4), 0
    for k in range(len(triples)):
        a, b, c = points[triples[k, 0]], points[triples[k, 1]], points[triples[k, 2]]
        x = (b[1] - a[1]) * (c[2] - a[2]) - (b[2] - a[2]) * (c[1] - a[1])
        y = (b[2] - a[2]) * (c[0] - a[0]) - (b[0] - a[0]) * (c[2] - a[2])
        z = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        length = np.sqrt(x * x + y * y + z * z)
        if not length > 0:
            continue
        x, y, z = x / length, y / length, z / length
        if abs(x * axis[0] + y * axis[1] + z * axis[2]) < cosine:
            continue
        offset = x * a[0] + y * a[1] + z * a[2]
        count = 0
        for start in range(0, scored, BLOCK):
            if count + scored - start <= top:  # even if all others were of it
                break
            part = slice(start, min(start + BLOCK, scored))
            count += _near(px[part], py[part], pz[part], doubt[part], near, x, y, z, offset)
        if count > top:
            top = count
            best[0], best[1], best[2], best[3] = x, y, z, offset
    return best


@compiled
def _near(px, py, pz, doubt, near, x, y, z, offset):
    """How many points are near a plane: a loop so plain that it runs on several points at once."""
    count, height = np.int32(0), abs(offset)
    for i in range(px.size):
        off = abs(x * px[i] + y * py[i] + z * pz[i] - offset)
        count += np.int32(off <= max(near, doubt[i] * height))
    return count


@compiled
def _of_plane(points, doubt, near, plane):
    """Which points (n, 3) are as near to a plane (4,) as asked.

    Where a depth is wrong by a share of itself, the point's distance to the plane is by that of the camera's.
    """
    x, y, z, offset = np.float32(plane[0]), np.float32(plane[1]), np.float32(plane[2]), np.float32(plane[3])
    mask = np.empty(len(points), np.bool_)
    for i in range(len(points)):
        off = x * points[i, 0] + y * points[i, 1] + z * points[i, 2] - offset
        mask[i] = abs(off) <= max(near, doubt[i] * abs(offset))
    return mask


@compiled
def _join_neighbours(points, at, std, gap, slope, reach):
    """Forest (n,) of the points at places (n, 2) of a grid."""
    width, height = at[:, 0].max() + 1, at[:, 1].max() + 1
    grid = np.full((height, width), -1, np.int32)
    for i in range(len(at)):
        grid[at[i, 1], at[i, 0]] = i
    parent = np.arange(len(at), dtype=np.int32)
    for i in range(len(at)):
        z = points[i, 2]
        u, v = points[i, 0] / z, points[i, 1] / z
        for up in range(reach + 1):
            row = at[i, 1] - up
            if row < 0:
                break
            for across in range(-reach, reach + 1):
                column = at[i, 0] + across
                if up == 0 and across == 0:  # the others of this row have the same pair
                    break
                if not 0 <= column < width or grid[row, column] < 0:
                    continue
                j = grid[row, column]
                other = points[j, 2]
                x, y = points[j, 0] / other - u, points[j, 1] / other - v
                apart = gap + slope * min(z, other) * np.sqrt(x * x + y * y)
                if len(std):
                    apart += np.sqrt(std[i] * std[i] + std[j] * std[j])
                if abs(z - other) <= apart:
                    join(parent, i, j)
    return parent


@compiled
def _join_voxels(points, lower, size):
    """Forest (n,) of the points, by a hash table of their voxels; its trees are those of voxels."""
    n = len(points)
    slots = 16
    while slots < 2 * n:
        slots *= 2
    key = np.full(slots, -1, np.int64)
    first = np.empty(slots, np.int32)  # point of a voxel
    parent = np.arange(n, dtype=np.int32)
    for i in range(n):
        code = np.int64(0)
        for k in range(3):
            code = (code << 21) | (np.int64((points[i, k] - lower[k]) / size) + 1)
        slot = _slot(key, code)
        if key[slot] < 0:
            key[slot], first[slot] = code, i
        else:
            join(parent, first[slot], i)
    for s in range(slots):
        if key[s] < 0:
            continue
        for step in range(14, 27):  # half of the 26 around: the others have the same pairs
            x, y, z = step // 9 - 1, step // 3 % 3 - 1, step % 3 - 1
            other = _slot(key, key[s] + (np.int64(x) << 42) + (np.int64(y) << 21) + z)
            if key[other] >= 0:
                join(parent, first[s], first[other])
    return parent


@compiled
def _slot(key, code):
    """Where a code is in the table, or would be."""
    mask = np.uint64(len(key) - 1)
    mixed = np.uint64(code) * np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: Knuth, volume 3, 6.4
    slot = (mixed >> np.uint64(32)) & mask
    while key[slot] >= 0 and key[slot] != code:
        slot = (slot + np.uint64(1)) & mask
    return slot


def _numbered(parent, min_points):
    """Labels (n,) of a forest by size of its trees, -1 for those that are too small."""
    size = _count(parent)
    roots = np.flatnonzero(size >= min_points)
    roots = roots[np.argsort(-size[roots], kind="stable")]
    label = np.full(len(parent), -1, np.int64)
    label[roots] = np.arange(len(roots))
    return label[parent]


@compiled
def _count(parent):
    """Point all at their roots; members (n,) of the tree of each root, 0 for what is none."""
    size = np.zeros(len(parent), np.int64)
    for i in range(len(parent)):
        parent[i] = root(parent, i)
        size[parent[i]] += 1
    return size
