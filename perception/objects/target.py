"""What `ObjectNet` is to say of an image whose things are known."""

import numpy as np

from perception.pinhole import Pinhole

UNIT = 1 / 24  # m per pixel of focal length: depth that is said as 0
LEAST = 9  # pixels of a thing that counts


def target(label: np.ndarray, middles: np.ndarray, pinhole: Pinhole, least: int = LEAST) -> np.ndarray:
    """What is known of each pixel, (4, H, W).

    1 where a thing is seen, 0 where none is, -1 where it does not count; columns and rows to its middle;
    logarithm of the middle's depth, in 1 / 24 m per pixel of focal length.

    Args:
        label:   (H, W) which thing a pixel is of; negative: none.
        middles: (k, 3) of the things, m, in the camera's frame.
        pinhole: the camera.
        least:   pixels of a thing; fewer do not count, neither for nor against.
    Raises:
        ValueError: an image of another size, or labels without a middle.
    """
    if label.shape != (pinhole.height, pinhole.width) or label.dtype.kind not in "iu":
        raise ValueError(
            "labels are whole numbers, of an image of the camera's shape "
            f"({pinhole.height}, {pinhole.width}), got {label.dtype} {label.shape}"
        )
    if middles.shape != (len(middles), 3) or label.max(initial=-1) >= len(middles):
        raise ValueError(
            f"each label needs a middle (3,), got labels up to {label.max()} and middles {middles.shape}"
        )
    pixels = np.bincount(label[label >= 0], minlength=len(middles))
    counts = (pixels >= least) & (middles[:, 2] > 0)
    which = np.maximum(label, 0)
    safe = np.where(middles[:, 2:] > 0, middles, 1.0) if len(middles) else np.ones((1, 3))
    there = label >= 0
    known = there & counts[which] if len(middles) else there
    column, row = np.moveaxis(pinhole.project(safe)[which], -1, 0)
    rows, columns = np.mgrid[: pinhole.height, : pinhole.width]
    depth = np.log(safe[which, 2] / (UNIT * pinhole.fx))
    parts = np.stack((column - columns, row - rows, depth))
    return np.concatenate((np.where(there & ~known, -1.0, there)[None], np.where(known, parts, 0.0)))
