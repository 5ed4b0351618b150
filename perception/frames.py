"""Frames of a camera as numbers from 0 to 1."""

import numpy as np

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601


def as_image(frame: np.ndarray) -> np.ndarray:
    """float32 of 0 to 1, of a frame (H, W) or (H, W, 3) of uint8 or of such numbers.

    Raises:
        ValueError: it is no image, or holds other numbers.
    """
    frame = np.asarray(frame)
    if frame.dtype.kind not in "uifb":
        raise ValueError(f"a frame of numbers is expected, got {frame.dtype}")
    if frame.ndim not in (2, 3) or (frame.ndim == 3 and frame.shape[-1] != 3) or not frame.size:
        raise ValueError(f"a frame (H, W) or (H, W, 3) is expected, got shape {frame.shape}")
    image = frame.astype(np.float32) / (255 if frame.dtype == np.uint8 else 1)
    if not (image.min() >= 0 and image.max() <= 1):
        raise ValueError(
            f"a frame of uint8 or of numbers from 0 to 1 is expected, got {frame.dtype} "
            f"from {frame.min()} to {frame.max()}"
        )
    return image


def as_grey(frame: np.ndarray) -> np.ndarray:
    """(H, W) float32 of 0 to 1, of the same."""
    image = as_image(frame)
    return image if image.ndim == 2 else image @ np.array(LUMA, np.float32)
