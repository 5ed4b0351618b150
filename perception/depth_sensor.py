"""What a tracker is told of `perception.detect`: covariance and probability of a detection, by its place."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from perception.detect import DetectConfig, Pose, as_pose, covariance, two_percent
from perception.pinhole import Pinhole, require_pinhole
from perception.pointcloud import deviations
from tracking.checks import require_positive, require_probability


@dataclass(frozen=True, eq=False)
class DepthNoise:
    """Covariance of a detection as a function of where the object is: `cov` of a `PositionSensor(dims=3)`.

    It is that of `detect` with the same config, for an object of this size that is seen whole.

    Args:
        pinhole: the camera.
        std:     standard deviation of a depth, m: a number or a function of depths (n,); None: two percent.
        pose:    of the camera; None: states are in the camera's frame.
        size:    half size of an object, m.
        config:  of the detector; None: `DetectConfig()`.
    """

    pinhole: Pinhole
    std: float | Callable | None = None
    pose: Pose = None
    size: float = 0.25
    config: DetectConfig | None = None

    def __post_init__(self):
        require_pinhole(self.pinhole)
        as_pose(self.pose)
        require_positive(size=self.size)
        if self.std is not None:
            deviations(self.std, np.ones(1))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(n, 3, 3) covariances, m^2, at states (n, d) that begin with the position; n may be 0."""
        config = self.config or DetectConfig()
        rotation, place = as_pose(self.pose)
        seen = (x[:, :3] - place) @ rotation
        seen[:, 2] = np.maximum(
            seen[:, 2], config.nearest
        )  # what is behind the camera is not detected anyway
        std = deviations(two_percent if self.std is None else self.std, seen[:, 2])
        side = 2 * self.size / config.stride / seen[:, 2]
        number = np.maximum(side**2 * self.pinhole.fx * self.pinhole.fy, 1)
        extent = np.full((len(x), 3), self.size)
        return covariance(seen, std, std**2, number, extent, self.pinhole, rotation, config, config.stride)


@dataclass(frozen=True, eq=False)
class InView:
    """Detection probability as a function of where the object is: `p_detect` of a `PositionSensor(dims=3)`.

    Args:
        pinhole:  the camera.
        p_detect: of objects whose middle is in the image, not nearer or farther than `config` has it; all
                  others have 0.
        pose:     of the camera; None: states are in the camera's frame.
        config:   of the detector; None: `DetectConfig()`.
    """

    pinhole: Pinhole
    p_detect: float = 0.9
    pose: Pose = None
    config: DetectConfig | None = None

    def __post_init__(self):
        require_pinhole(self.pinhole)
        as_pose(self.pose)
        require_probability(p_detect=self.p_detect)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(n,) probabilities of states (n, d) that begin with the position."""
        config = self.config or DetectConfig()
        rotation, place = as_pose(self.pose)
        seen = (x[:, :3] - place) @ rotation
        column, row = np.moveaxis(self.pinhole.project(seen), -1, 0)
        inside = (column >= -0.5) & (column < self.pinhole.width - 0.5)
        inside &= (row >= -0.5) & (row < self.pinhole.height - 0.5)
        inside &= (seen[:, 2] >= config.nearest) & (seen[:, 2] <= config.farthest)
        return np.where(inside, self.p_detect, 0.0)
