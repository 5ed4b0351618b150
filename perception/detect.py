"""From depth images to measurements that a tracker takes.

    found = detect(depth, pinhole, pose=pose)
    noise, seen = DepthNoise(pinhole, pose=pose), InView(pinhole, 0.95, pose)
    tracks = tracker.step(found.z, time, sensor=PositionSensor(dims=3, cov=noise, p_detect=seen))

The last two are of `perception.depth_sensor`; what moves in front of an event camera is found by
`perception.event_clusters`. A pose is a rotation (3, 3) and a place (3,), m, camera to world: a point p of
the camera's frame is at rotation p + place. Without one, everything is in the camera's frame, that of
`perception.pinhole`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from perception.clusters import clusters
from perception.pinhole import Pinhole, as_depth
from perception.plane import ground
from perception.pointcloud import PointCloud, Std, cloud
from tracking.checks import require_positive, require_probability
from tracking.compiled import compiled

TINY = 1e-6  # of a deviation, where another is 0
Pose = tuple[np.ndarray, np.ndarray] | None


def two_percent(depth: np.ndarray) -> np.ndarray:
    """Standard deviation (n,) of depths (n,), m, where nothing better is known."""
    return 0.02 * depth


@dataclass(frozen=True, kw_only=True)
class DetectConfig:
    """What is an object, and how well its place is known.

    nearest, farthest: m; depths outside are no return.
    stride:      every so many columns and rows of the depth image are looked at.
    planes:      background planes that are taken out at most (floor, walls), the largest first.
    tolerance, up, tilt, share: of a plane, see `plane.ground`; `up` is in the frame of the detections,
                 and the share is one of all points.
    plane_extent: m; a plane whose points spread less than those of a square of this half side is the face of
                 an object and stays.
    margin:      m, and two deviations more, by which an object is nearer than the background image. Here and
                 for planes deviations are of what pixels err each on its own, see `correlation`.
    gap, slope, reach, min_points, noise: of a cluster, see `clusters.clusters`.
    max_extent:  m; what is larger, in half sizes, is no object.
    correlation: share of the variance of a depth that the pixels of an object have in common. The rest
                 averages out over them. 0: errors of pixels are independent; 1: an object is off as a whole.
    pixel:       deviation of where the middle of an object is in the image, in pixels times stride: edges
                 of clusters are off together.
    spread:      deviation of which point of an object is seen, in half sizes.
    behind:      how far behind what is seen of it the middle of an object is taken to be, in the smaller
                 of its half sizes across the ray: 0, not at all; 2/3 is right for balls.
    layer:       m, or two deviations if that is more, about the depth of the nearer quarter of the pixels
                 with events: what is farther off is not of the object (only `lift`).
    """

    nearest: float = 0.1
    farthest: float = np.inf
    stride: int = 1
    planes: int = 1
    tolerance: float = 0.03
    up: Sequence[float] | None = None
    tilt: float = 0.3
    share: float = 0.05
    plane_extent: float = 0.8
    margin: float = 0.1
    gap: float = 0.03
    slope: float = 6.0
    reach: int = 1
    min_points: int = 30
    noise: float = 1.0
    max_extent: float = np.inf
    correlation: float = 0.5
    pixel: float = 0.5
    spread: float = 0.25
    behind: float = 0.0
    layer: float = 0.2

    def __post_init__(self):
        require_positive(pixel=self.pixel)
        require_probability(correlation=self.correlation, share=self.share)
        require_positive(share=self.share)
        if not (self.planes >= 0 and self.planes % 1 == 0):
            raise ValueError(f"planes must be a whole number, at least 0, got {self.planes}")
        for name in ("plane_extent", "margin", "max_extent", "spread", "behind", "layer"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")


class Detections(NamedTuple):
    """Objects seen at one time, in the frame asked for.

    z:      (m, 3) mean of what is seen of each, m.
    cov:    (m, 3, 3) of its error, m^2.
    extent: (m, 3) half sizes along the axes of the frame, m.
    pixels: (m,) int64 points of each.
    box:    (m, 4) int64 left, top, right and bottom in the image, pixels, all included.
    source: (m,) int64 which cluster each is.
    """

    z: np.ndarray
    cov: np.ndarray
    extent: np.ndarray
    pixels: np.ndarray
    box: np.ndarray
    source: np.ndarray


def detect(
    depth: np.ndarray,
    pinhole: Pinhole,
    *,
    std: Std | None = None,
    pose: Pose = None,
    background: np.ndarray | None = None,
    ignore: np.ndarray | None = None,
    config: DetectConfig | None = None,
) -> Detections:
    """Objects in a depth image: what is left of it without background, in clusters.

    The depth error of an object is mostly one for all its pixels, so that the covariance does not fall with
    their number: along the viewing ray it is that of depths as `config.correlation` shares it out, across it
    `config.pixel`, and in every direction `config.spread` of the extent.

    Args:
        depth:      (H, W) m; NaN, infinite, and what is not > 0 are no return.
        pinhole:    the camera.
        std:        standard deviation of a depth, m: a number, an image (H, W), or a function of depths (n,).
                    None: two percent.
        pose:       of the camera; None: detections are in the camera's frame.
        background: (H, W) depth, m, without objects, by a camera that did not move since, or what
                    `perception.background` makes of this image; NaN where it is not known. Planes are then
                    not looked for.
        ignore:     (H, W) bool, pixels that are left out.
        config:     `DetectConfig()`.
    Raises:
        ValueError: images of other sizes than the camera's, or a pose that is none.
    """
    config = config or DetectConfig()
    rotation, _ = as_pose(pose)
    depth = as_depth(depth, pinhole)
    if ignore is not None:
        depth = np.where(_as_mask(ignore, depth.shape), np.nan, depth)
    std = two_percent if std is None else std
    points = cloud(depth, pinhole, std, config.nearest, config.farthest, config.stride)
    if background is None:
        points = _without_planes(points, rotation, config)
    else:
        points = _before(points, as_depth(background, pinhole), config)
    # The error that pixels have in common does not part neighbours.
    noise = config.noise * np.sqrt(1 - config.correlation)
    label = clusters(points, config.gap, config.slope, config.reach, config.min_points, noise)
    return measured(points, label, pinhole, pose, config)


def as_pose(pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) and place (3,) of a camera; None: those of the camera's own frame.

    Raises:
        ValueError: other shapes, or a matrix that does not rotate.
    """
    if pose is None:
        return np.eye(3), np.zeros(3)
    try:
        rotation, place = (np.asarray(part, float) for part in pose)
    except (TypeError, ValueError):
        raise ValueError(
            "a pose is a rotation (3, 3) and a place (3,), camera to world, got "
            f"{type(pose).__name__} of shape {getattr(pose, 'shape', 'unknown')}; of a matrix M (4, 4), "
            "give (M[:3, :3], M[:3, 3])"
        ) from None
    if rotation.shape != (3, 3) or place.shape != (3,) or not np.isfinite(place).all():
        raise ValueError(
            "a pose is a rotation (3, 3) and a finite place (3,), camera to world, "
            f"got {rotation.shape} and {place.tolist()}"
        )
    if not np.abs(rotation @ rotation.T - np.eye(3)).max() < 1e-4 or np.linalg.det(rotation) < 0:
        raise ValueError(f"the pose's rotation must be orthonormal and right-handed, got {rotation.tolist()}")
    return rotation, place


def _as_mask(ignore, shape):
    ignore = np.asarray(ignore)
    if ignore.dtype != bool or ignore.shape != shape:
        raise ValueError(f"ignore must be a mask of shape {shape}, got {ignore.dtype} {ignore.shape}")
    return ignore


def _without_planes(points, rotation, config):
    """Points of no background plane; see `_apart`."""
    up = None if config.up is None else np.asarray(config.up, float) @ rotation  # in the camera's frame
    apart = replace(points, std=_apart(points, config))
    rest, faces = np.arange(len(points)), []
    found, least = 0, config.share * len(points)
    while found < config.planes and len(rest) > least:
        part = apart if len(rest) == len(points) else apart[rest]
        plane, mask = ground(part, config.tolerance, up, config.tilt, least / len(rest))
        if plane is None:
            break
        of_it, rest = rest[mask], rest[~mask]
        if _half_side(points.points[of_it]) < config.plane_extent:
            faces.append(of_it)
        else:
            found += 1
    if len(rest) == len(points):
        return points
    return points[np.sort(np.concatenate((rest, *faces)))]


def _half_side(points):
    """Half the side of a square whose points have this spread, m."""
    some = points[:: len(points) // 2000 + 1].astype(float)
    return np.sqrt(3 * np.linalg.eigvalsh(np.cov(some.T))[-1])


def _before(points, background, config):
    """Points that are clearly nearer than the background, or where it is not known; see `_apart`."""
    behind = background[points.pixel[:, 1], points.pixel[:, 0]]
    behind = np.where(behind > 0, behind, np.nan)
    return points[~(points.points[:, 2] >= behind - config.margin - 2 * _apart(points, config))]


def _apart(points, config):
    """(n,) standard deviation of depths, m, less the error that pixels have in common: it parts none."""
    return points.std * max(np.sqrt(1 - config.correlation), TINY)


def measured(
    points: PointCloud, label: np.ndarray, pinhole: Pinhole, pose: Pose, config: DetectConfig
) -> Detections:
    """Detections of labelled points (n,) in the camera's frame, those of -1 left out."""
    rotation, place = as_pose(pose)
    m = int(label.max(initial=-1)) + 1
    number, sums, low, high, box = _sums(points.points, points.std, points.pixel, label, rotation, place, m)
    extent = (high - low) / 2
    source = np.flatnonzero((number > 0) & (extent.max(1, initial=0) <= config.max_extent))
    number, extent, box = number[source], extent[source], box[source]
    mean, std, var = np.split(sums[source] / number[:, None], [3, 4], 1)
    cov = covariance(mean, std[:, 0], var[:, 0], number, extent, pinhole, rotation, config, points.stride)
    # Across the ray an object is seen whole: its half sizes there tell how far it goes on behind.
    across = (box[:, 2:] - box[:, :2] + 1) / 2 / (pinhole.fx, pinhole.fy) * mean[:, 2:]
    away = config.behind * across.min(1, initial=np.inf) / np.linalg.norm(mean, axis=1)
    z = mean * (1 + away[:, None]) @ rotation.T + place
    return Detections(z, cov, extent, number, box, source)


def covariance(
    mean: np.ndarray,
    std: np.ndarray,
    var: np.ndarray,
    number: np.ndarray,
    extent: np.ndarray,
    pinhole: Pinhole,
    rotation: np.ndarray,
    config: DetectConfig,
    stride: int,
) -> np.ndarray:
    """(m, 3, 3) m^2, of objects at (m, 3) in the camera's frame; extent (m, 3) is in that of the result.

    std and var (m,) are means of deviations and variances over an object's points, whose number (m,) is.
    """
    depth = mean[:, 2]
    along = config.correlation * std**2 + (1 - config.correlation) * var / number
    ray = mean / depth[:, None]
    cov = along[:, None, None] * ray[:, :, None] * ray[:, None, :]
    cov[:, 0, 0] += (config.pixel * stride * depth / pinhole.fx) ** 2
    cov[:, 1, 1] += (config.pixel * stride * depth / pinhole.fy) ** 2
    cov = rotation @ cov @ rotation.T
    cov[:, range(3), range(3)] += (config.spread * extent) ** 2
    return (cov + cov.swapaxes(1, 2)) / 2


@compiled
def _sums(points, std, pixel, label, rotation, place, m):
    """Of each label: points, sums of (x, y, z, std, variance), corners in the frame asked for, and box."""
    number, sums = np.zeros(m, np.int64), np.zeros((m, 5))
    low, high = np.full((m, 3), np.inf), np.full((m, 3), -np.inf)
    box = np.empty((m, 4), np.int64)
    for i in range(len(label)):
        k = label[i]
        if k < 0:
            continue
        if number[k] == 0:
            box[k, 0] = box[k, 2] = pixel[i, 0]
            box[k, 1] = box[k, 3] = pixel[i, 1]
        number[k] += 1
        sums[k, 3] += std[i]
        sums[k, 4] += std[i] * std[i]
        for c in range(3):
            sums[k, c] += points[i, c]
            at = place[c]
            for d in range(3):
                at += rotation[c, d] * points[i, d]
            low[k, c], high[k, c] = min(low[k, c], at), max(high[k, c], at)
        for c in range(2):
            box[k, c] = min(box[k, c], pixel[i, c])
            box[k, c + 2] = max(box[k, c + 2], pixel[i, c])
    return number, sums, low, high, box
