"""The things in a point cloud: points that touch, in linear time."""

import numpy as np

from perception.pointcloud import PointCloud, as_cloud
from tracking.association.components import join, root
from tracking.checks import require_positive
from tracking.compiled import compiled

MAX_VOXELS = 2**20  # along each axis: three numbers of a voxel fit one of 64 bits


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
    cloud = as_cloud(cloud)
    if cloud.pixel is None:
        raise ValueError(
            "clusters joins neighbours in an image, and this cloud has no pixels: voxel_clusters"
        )
    whole = 1 <= reach < np.inf and reach == int(reach) and min_points >= 1
    if not (whole and gap >= 0 and slope >= 0 and noise >= 0):
        raise ValueError(
            "gap, slope and noise must be >= 0, reach whole, reach and min_points at least 1, "
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
    cloud = as_cloud(cloud)
    require_positive(size=size)
    if not min_points >= 1:
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
