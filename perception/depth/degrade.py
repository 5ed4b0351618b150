"""What befalls frames and events in training, so that fusion learns which of the two to trust.

Source: the code of FUSE (Sun et al., IROS 2025). It sends voxel grids, which have a sign, through the same
8-bit routine as frames: values are rounded, all that is negative becomes 0, and so the events of whatever got
darker vanish in training alone. Here grids stay as they are but for blur and holes.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

SHARE = 0.2  # of the sides of the image, of a rectangle
RECTANGLES = 3
SIGMA = 2.0  # pixels
FRAME, VOXELS = ("blur", "overexpose", "mask"), ("blur", "mask")


def degraded_frames(
    frames: np.ndarray,
    rng: np.random.Generator,
    brightness: tuple[float, float] = (0.5, 1.5),
    share: float = 0.5,
) -> np.ndarray:
    """Frames (b, H, W) or (b, H, W, 3) of 0 to 1 after a change of brightness and, some, rectangles.

    Args:
        rng:        what happens.
        brightness: least and largest factor.
        share:      of the frames that get rectangles of blur, overexposure or nothing.
    """
    if frames.dtype.kind != "f":
        raise ValueError(f"frames of 0 to 1 as floats are expected, got {frames.dtype}: frames / 255")
    if frames.ndim not in (3, 4):
        raise ValueError(f"frames (b, H, W) or (b, H, W, 3) are expected, got {frames.shape}")
    out = np.empty_like(frames)
    for k, frame in enumerate(frames):
        bright = np.clip(frame * rng.uniform(*brightness), 0, 1)
        out[k] = _struck(bright, rng, FRAME, (0, 1)) if rng.random() < share else bright
    return out


def degraded_voxels(
    voxels: np.ndarray, rng: np.random.Generator, share: float = 0.5, compat_uint8_voxel: bool = False
) -> np.ndarray:
    """Voxel grids (b, bins, H, W) after, some, rectangles of blur or nothing.

    `compat_uint8_voxel` loses sign and fractions as the released code does, to repeat what it reports.
    """
    if voxels.ndim != 4 or voxels.dtype.kind != "f":
        raise ValueError(f"grids (b, bins, H, W) of floats are expected, got {voxels.dtype} {voxels.shape}")
    out = np.empty_like(voxels)
    for k, grid in enumerate(voxels):
        grid = np.clip(np.round(grid), 0, 255) if compat_uint8_voxel else grid
        out[k] = _struck(grid, rng, VOXELS, (1, 2)) if rng.random() < share else grid
    return out


def _struck(image, rng, effects, axes):
    """With rectangles in which something happened; `axes` are rows and columns."""
    image = image.copy()
    height, width = (image.shape[axis] for axis in axes)
    h, w = max(round(SHARE * height), 1), max(round(SHARE * width), 1)
    for _ in range(RECTANGLES):
        top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
        where: list[slice] = [slice(None)] * image.ndim
        where[axes[0]], where[axes[1]] = slice(top, top + h), slice(left, left + w)
        effect = effects[rng.integers(len(effects))]
        if effect == "blur":
            sigma = [SIGMA if axis in axes else 0.0 for axis in range(image.ndim)]
            image[tuple(where)] = gaussian_filter(image.astype(np.float32), sigma)[tuple(where)]
        elif effect == "overexpose":
            image[tuple(where)] = np.clip(2.5 * image[tuple(where)] + 200 / 255, 0, 1)
        else:
            image[tuple(where)] = 0
    return image
