"""How good a reconstruction is, whatever its gain and offset."""

from typing import NamedTuple

import numpy as np
import torch

from perception.reconstruct.losses import similarity, standardised


class Scores(NamedTuple):
    """Of images, one number each.

    error:      (n,) mean square after the best offset and gain >= 0, by the variance of the truth: 0 to 1.
    similarity: (n,) structural similarity after the same, with the range of the truth.
    """

    error: np.ndarray
    similarity: np.ndarray


def scores(image: np.ndarray, truth: np.ndarray) -> Scores:
    """Scores of images (n, H, W) against the truth (n, H, W), both log intensity.

    A truth without any contrast tells nothing: both scores are NaN.

    Raises:
        ValueError: different shapes, or images smaller than the window of structural similarity, 11 pixels.
    """
    image, truth = np.asarray(image, np.float32), np.asarray(truth, np.float32)
    if image.shape != truth.shape or image.ndim != 3 or min(image.shape[1:]) < 11:
        raise ValueError(
            f"images of one shape (n, H, W), sides of 11 at least, got {image.shape} and {truth.shape}"
        )
    said, true = (standardised(torch.from_numpy(a)[:, None]) for a in (image, truth))
    gain = (said * true).mean((1, 2, 3), keepdim=True).clamp(min=0)  # a negative is not the image
    fitted = gain * said
    error = (fitted - true).square().mean((1, 2, 3))
    span = true.amax((1, 2, 3), keepdim=True) - true.amin((1, 2, 3), keepdim=True)
    flat = span.flatten() == 0
    error, alike = (
        error.masked_fill(flat, torch.nan),
        similarity(fitted, true, span).masked_fill(flat, torch.nan),
    )
    return Scores(error.numpy(), alike.numpy())
