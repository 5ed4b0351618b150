"""What is around things, from the depth image that shows them."""

import numpy as np
from scipy.ndimage import grey_closing


def surroundings(depth: np.ndarray, size: int) -> np.ndarray:
    """(H, W) depth without what is nearer than all around it and narrower than a square of pixels.

    It is the background that `detect` asks for, where there is none of an empty scene. Walls and floors stay
    as they are, however they lean: no plane has to be found, and what depth errs in as a whole cancels.

    Args:
        depth: (H, W) m; not finite or not > 0: no return.
        size:  side of the square, pixels: larger than the things, smaller than the space between walls.
    Raises:
        ValueError: no such image, or no such size.
    Source: Serra, "Image Analysis and Mathematical Morphology" (1982): closing by a flat square.
    """
    if not isinstance(size, (int, np.integer)) or size < 1:
        raise ValueError(f"size must be a whole number of pixels, at least 1, got {size!r}")
    depth = np.asarray(depth)
    if depth.ndim != 2 or depth.dtype.kind != "f":
        raise ValueError(f"depth (H, W) of floats, m, is expected, got {depth.dtype} {depth.shape}")
    known = np.isfinite(depth) & (depth > 0)
    closed = grey_closing(np.where(known, depth, 0.0), (size, size))  # what is unknown is never the farthest
    return np.where(closed > 0, closed, np.nan)
