"""Things of an image as measurements that a tracker takes."""

import numpy as np

from perception.detect import DetectConfig, Detections, Pose, as_pose, covariance
from perception.objects.votes import Found
from perception.pinhole import Pinhole, require_pinhole


def placed(
    found: Found, pinhole: Pinhole, pose: Pose = None, config: DetectConfig | None = None
) -> Detections:
    """Middles of things in space, with covariances.

    Args:
        found:   things of an image of the camera's size.
        pinhole: the camera.
        pose:    of the camera; None: detections are in the camera's frame.
        config:  whose `nearest`, `farthest`, `pixel` and `spread` count.
    Raises:
        ValueError: an image of another size, pixels of things that are not there, or a pose that is none.
    """
    config = config or DetectConfig()
    require_pinhole(pinhole)
    rotation, place = as_pose(pose)
    if found.label.shape != (pinhole.height, pinhole.width):
        raise ValueError(
            f"things of an image of the camera's shape ({pinhole.height}, {pinhole.width}) are expected, got "
            f"{found.label.shape}"
        )
    if found.label.max(initial=-1) >= len(found.depth):
        raise ValueError(f"pixels are of {found.label.max() + 1} things, got {len(found.depth)} of them")
    near = (found.depth >= config.nearest) & (found.depth <= config.farthest)
    seen = np.isfinite(found.depth) & np.isfinite(found.std) & np.isin(np.arange(len(near)), found.label)
    kept = np.flatnonzero(near & seen)
    mean = pinhole.rays(found.centre[kept]) * found.depth[kept, None]
    box, number = _boxes(found.label, len(found.depth))
    box, number, std = box[kept], number[kept], found.std[kept]
    across = (box[:, 2:] - box[:, :2] + 1) / 2 * found.depth[kept, None] / (pinhole.fx, pinhole.fy)
    half = np.column_stack((across, across.min(1, initial=np.inf)))  # it goes on behind as far as across
    extent = half @ np.abs(rotation).T
    # A middle is known as a whole, not pixel by pixel: its error is all in common.
    whole = DetectConfig(correlation=1.0, pixel=config.pixel, spread=config.spread)
    cov = covariance(mean, std, std**2, number, extent, pinhole, rotation, whole, 1)
    return Detections(mean @ rotation.T + place, cov, extent, number, box, kept)


def _boxes(label, m):
    """Left, top, right and bottom (m, 4) of labels in an image, and how many pixels each has."""
    rows, columns = np.nonzero(label >= 0)
    own = label[rows, columns]
    box = np.empty((m, 4), np.int64)
    for k, (at, end) in enumerate(
        ((columns, np.minimum), (rows, np.minimum), (columns, np.maximum), (rows, np.maximum))
    ):
        box[:, k] = np.iinfo(np.int64).max if k < 2 else -1
        end.at(box[:, k], own, at)
    return box, np.bincount(own, minlength=m)
