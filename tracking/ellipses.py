"""Uncertainty as it is drawn: the ellipse in which a position lies with a given probability."""

from typing import NamedTuple

import numpy as np
from scipy.stats import chi2

from tracking.tracks import Tracks


class Ellipses(NamedTuple):
    """Ellipses in the plane.

    center: (n, 2) m; major, minor: (n,) half axes, m; angle: (n,) of the major axis from the x axis,
    counter-clockwise, rad in (-pi/2, pi/2].
    """

    center: np.ndarray
    major: np.ndarray
    minor: np.ndarray
    angle: np.ndarray

    def outline(self, points: int = 33) -> np.ndarray:
        """Closed outlines (n, points, 2), m, to draw."""
        t = np.linspace(0, 2 * np.pi, points)
        x, y = self.major[:, None] * np.cos(t), self.minor[:, None] * np.sin(t)
        cos, sin = np.cos(self.angle)[:, None], np.sin(self.angle)[:, None]
        return self.center[:, None] + np.stack((cos * x - sin * y, sin * x + cos * y), axis=-1)


def ellipses(tracks: Tracks, probability: float = 0.95, axes: tuple[int, int] = (0, 1)) -> Ellipses:
    """Ellipses that hold the positions of tracks, Gaussian as their filters say, with a probability.

    Args:
        tracks:      of a scan; anything with `mean` (n, d) and `cov` (n, d, d).
        probability: that the position lies inside, in (0, 1).
        axes:        entries of the state that are drawn as x and y.
    Raises:
        ValueError: probability is not in (0, 1).
    """
    if not 0 < probability < 1:
        raise ValueError(f"probability must lie between 0 and 1, got {probability}")
    at = list(axes)
    values, vectors = np.linalg.eigh(tracks.cov[:, at][:, :, at])  # rising
    half = np.sqrt(np.maximum(values, 0.0) * chi2.ppf(probability, 2))
    angle = np.arctan2(vectors[:, 1, 1], vectors[:, 0, 1])
    angle = np.pi / 2 - np.mod(np.pi / 2 - angle, np.pi)  # an axis has no direction
    return Ellipses(tracks.mean[:, at], half[:, 1], half[:, 0], angle)
