"""The plane in a point cloud that things stand on."""

from typing import NamedTuple

import numpy as np

from perception.pointcloud import PointCloud, as_cloud
from tracking.checks import require_positive, require_probability
from tracking.compiled import compiled

TRIALS = 10_000  # planes tried; one with a tenth of the points is missed once in 20,000 times
SCORED = 1024  # points that a trial is judged by ...
BLOCK = 128  # ... so many at a time
FITTED = 4096  # points that the best one is fitted to
ROUNDS = 8  # of the fit


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
    Raises:
        TypeError:  no point cloud.
        ValueError: a bad setting.
    Source: Fischler, Bolles, "Random Sample Consensus" (1981); the best plane is fitted by least squares.
    """
    cloud = as_cloud(cloud)
    require_positive(tolerance=tolerance)
    require_probability(least=least)
    if not 0 <= tilt <= np.pi / 2:
        raise ValueError(f"tilt must be from 0 to pi / 2 rad, got {tilt}")
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
