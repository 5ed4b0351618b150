"""Things of an image whose pixels each say where the middle of their thing is: a Hough transform.

Source: Leibe, Leonardis, Schiele, "Robust Object Detection with Interleaved Categorization and Segmentation"
(IJCV 2008); as Panoptic-DeepLab (Cheng et al., CVPR 2020) has it, but for middles that may be hidden or
outside of the image: votes are counted, and no second image of middles is asked for.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter, label, maximum_filter
from scipy.spatial import KDTree

from tracking.checks import require_positive, require_probability

LEAST = 1e-12  # votes
FARTHEST = 4096  # pixels, of settings


@dataclass(frozen=True, kw_only=True)
class VoteConfig:
    """Which votes make a thing.

    there:  probability from which a pixel votes.
    votes:  sum of the probabilities of a thing's pixels, at least.
    blur:   standard deviation by which votes are off, pixels.
    apart:  pixels between two middles at least, along columns or rows.
    reach:  pixels from a middle within which votes are its own.
    beyond: pixels outside of the image where middles may lie.
    """

    there: float = 0.4
    votes: float = 6.0
    blur: float = 1.0
    apart: int = 3
    reach: float = 3.0
    beyond: int = 16

    def __post_init__(self):
        require_probability(there=self.there)
        require_positive(votes=self.votes, blur=self.blur, reach=self.reach)
        for name, least in (("apart", 1), ("beyond", 0)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= FARTHEST:
                raise ValueError(
                    f"{name} must be a whole number of pixels from {least} to {FARTHEST}, got {value!r}"
                )


class Found(NamedTuple):
    """Things in one image, those with most votes first.

    centre: (m, 2) column and row of the middle, pixels; it may be hidden, or outside of the image.
    depth:  (m,) of the middle along the camera's axis, m.
    std:    (m,) standard deviation of that, m.
    votes:  (m,) sums of probabilities of the pixels.
    label:  (H, W) int64 which thing a pixel is of; -1: none.
    """

    centre: np.ndarray
    depth: np.ndarray
    std: np.ndarray
    votes: np.ndarray
    label: np.ndarray

    @classmethod
    def none(cls, shape: tuple[int, ...]) -> "Found":
        """Nothing in an image (H, W)."""
        empty = np.zeros(0)
        return cls(np.zeros((0, 2)), empty, empty, empty, np.full(shape, -1, np.int64))


def things(
    there: np.ndarray, way: np.ndarray, depth: np.ndarray, doubt: np.ndarray, config: VoteConfig | None = None
) -> Found:
    """Things that pixels vote for.

    Args:
        there: (H, W) probability of a thing.
        way:   (2, H, W) columns and rows to its middle, pixels.
        depth: (H, W) logarithm of its depth, m.
        doubt: (H, W) logarithm of the scale of a Laplace distribution of the error of that.
        config: `VoteConfig()`.
    Raises:
        ValueError: images of different sizes, numbers that are not finite, or no probabilities.
    """
    config = config or VoteConfig()
    shapes = {"way": (2, *there.shape), "depth": there.shape, "doubt": there.shape}
    for name, image in (("there", there), ("way", way), ("depth", depth), ("doubt", doubt)):
        if image.shape != shapes.get(name, there.shape) or not np.isfinite(image).all():
            raise ValueError(
                f"{name} must be finite, of shape {shapes.get(name, there.shape)}, got {image.shape}"
            )
    if there.ndim != 2 or not ((there >= 0) & (there <= 1)).all():
        raise ValueError("there must be an image (H, W) of probabilities")
    rows, columns = np.nonzero(there >= max(config.there, LEAST))
    weight = there[rows, columns].astype(float)
    middle = np.stack((columns + way[0, rows, columns], rows + way[1, rows, columns]), -1).astype(float)
    peaks = _peaks(middle, weight, there.shape, config)
    if not len(peaks):
        return Found.none(there.shape)
    _, own = KDTree(peaks).query(middle, distance_upper_bound=config.reach)  # len(peaks): of none
    votes = np.bincount(own, weight, len(peaks) + 1)[:-1]
    order = np.argsort(-votes, kind="stable")
    order = order[votes[order] >= config.votes]
    place = np.full(len(peaks) + 1, -1)
    place[order] = np.arange(len(order))
    own = place[own]
    which = np.full(there.shape, -1, np.int64)
    which[rows, columns] = own
    said, off = (image[rows, columns].astype(float) for image in (depth, doubt))
    own, weight, middle, said, off = (a[own >= 0] for a in (own, weight, middle, said, off))

    def mean(value, weight):
        return np.bincount(own, weight * value, len(order)) / np.bincount(own, weight, len(order))

    centre = np.stack([mean(middle[:, k], weight) for k in (0, 1)], -1)
    far = np.exp(mean(said, weight * np.exp(-2 * np.clip(off - off.min(initial=np.inf), 0, 100))))
    # Pixels of a thing err together: their doubts are no reason to be surer than each.
    std = far * np.sqrt(2) * np.exp(mean(off, weight))
    return Found(centre, far, std, votes[order], which)


def _peaks(middle, weight, shape, config):
    """(k, 2) columns and rows of local maxima of the votes."""
    edge = config.beyond
    votes = np.zeros(np.add(shape, 2 * edge))
    at = np.round(middle) + edge
    inside = ((at >= 0) & (at < votes.shape[::-1])).all(1)
    column, row = at[inside].astype(np.int64).T
    np.add.at(votes, (row, column), weight[inside])
    votes = gaussian_filter(votes, config.blur, mode="constant")
    high = (votes == maximum_filter(votes, 2 * config.apart - 1)) & (votes > LEAST)
    whole, _ = label(high, np.ones((3, 3)))  # neighbours of equal votes are one maximum
    row, column = np.nonzero(high)
    first = np.unique(whole[row, column], return_index=True)[1]
    return np.stack((column, row), -1)[first] - edge
