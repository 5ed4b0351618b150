"""A pinhole camera: where points appear in an image, and where pixels of a known depth lie in space.

Cameras look along +z with x to the right and y downwards, metres; depth is z along the axis, not the length
of the ray. Pixel centres are at whole numbers: (0, 0) is the middle of the pixel at the upper left.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pinhole:
    """Intrinsics of a camera without distortion.

    Args:
        width, height: of the image, pixels.
        fx, fy:        focal lengths, pixels.
        cx, cy:        column and row of the axis, pixels.
    Raises:
        ValueError: one that is missing or not finite, or a size or focal length that is not > 0.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self):
        for name in ("width", "height"):
            side = getattr(self, name)
            if not isinstance(side, (int, np.integer)) or isinstance(side, bool) or side < 1:
                raise ValueError(f"{name} must be a whole number of pixels, at least 1, got {side!r}")
            object.__setattr__(self, name, int(side))
        for name in ("fx", "fy", "cx", "cy"):
            value = getattr(self, name)
            if not isinstance(value, (int, float, np.number)) or not np.isfinite(value):
                raise ValueError(
                    f"{name} must be a finite number of pixels, got {value!r}. It comes from the camera's "
                    "calibration; Pinhole.of(width, height, focal) puts the axis in the image's middle."
                )
            object.__setattr__(self, name, float(value))
        if not (self.fx > 0 and self.fy > 0):
            raise ValueError(f"fx and fy must be > 0 pixels, got {self.fx} and {self.fy}")

    @classmethod
    def of(cls, width: int, height: int, focal: float) -> "Pinhole":
        """A camera with square pixels, whose axis goes through the image's middle."""
        return cls(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)

    def scaled(self, width: int, height: int) -> "Pinhole":
        """The same view in an image of another size."""
        across, down = width / self.width, height / self.height
        # The middle of the upper left pixel moves, its outer corner at -1/2 does not.
        cx, cy = (self.cx + 0.5) * across - 0.5, (self.cy + 0.5) * down - 0.5
        return Pinhole(width, height, self.fx * across, self.fy * down, cx, cy)

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """(..., 3) points at a depth of 1 m, of pixels (..., 2), column before row."""
        pixels = _rows("pixels", pixels, 2)
        u, v = (pixels[..., 0] - self.cx) / self.fx, (pixels[..., 1] - self.cy) / self.fy
        return np.stack((u, v, np.ones_like(u)), -1)

    def project(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) column and row of points (..., 3), m; NaN for those not in front of the camera."""
        points = _rows("points", points, 3)
        z = np.where(points[..., 2] > 0, points[..., 2], np.nan)
        return np.stack((points[..., 0] / z * self.fx + self.cx, points[..., 1] / z * self.fy + self.cy), -1)

    def unproject(self, depth: np.ndarray) -> np.ndarray:
        """(H, W, 3) points, m, of depths (H, W); NaN where a depth is not finite."""
        depth = as_depth(depth, self)
        depth = np.where(np.isfinite(depth), depth, np.nan)
        rows, columns = np.mgrid[: self.height, : self.width]
        return (self.rays(np.stack((columns, rows), -1)) * depth[..., None]).astype(depth.dtype)


def require_pinhole(pinhole: Pinhole) -> None:
    """Raise ValueError unless it is a camera."""
    if not isinstance(pinhole, Pinhole):
        raise ValueError(
            f"pixels become points by the camera's intrinsics, a Pinhole, got {pinhole!r}. "
            "Pinhole.of(width, height, focal) makes one."
        )


def as_depth(depth: np.ndarray, pinhole: Pinhole) -> np.ndarray:
    """A depth image (H, W) of a camera as floats, metres.

    Raises:
        ValueError: no camera, an image of another size, or numbers that cannot be metres.
    """
    require_pinhole(pinhole)
    if isinstance(depth, np.ma.MaskedArray):
        raise ValueError("depth must be a plain array, got a masked one: depth.filled(np.nan)")
    depth = np.asarray(depth)
    if depth.dtype.kind != "f":
        raise ValueError(
            f"depth must be metres as floats, got {depth.dtype}. Of millimetres, give depth / 1000."
        )
    if depth.shape != (pinhole.height, pinhole.width):
        raise ValueError(
            f"depth must have the camera's shape ({pinhole.height}, {pinhole.width}), got {depth.shape}. "
            "Pinhole.scaled(width, height) is the camera of a resized image."
        )
    return depth


def _rows(name, value, length):
    value = np.asarray(value)
    if value.ndim == 0 or value.shape[-1] != length:
        raise ValueError(f"{name} must have shape (..., {length}), got {value.shape}")
    return value
