"""Detector scores as evidence: how much likelier clutter makes a score than an object does.

A cut on the score throws away what is below it and believes all that is above. Here every detection is kept,
and its score enters as a likelihood ratio that multiplies the clutter intensity (`step(clutter_ratio=...)`),
so a track survives on weak detections that alone would start nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tracking.checks import require_positive


@dataclass(frozen=True)
class ScoreModel:
    """log p(score | object) - log p(score | clutter), linear in the score, bounded, neutral by range.

    Args:
        slope:   change of the log ratio per unit of score, > 0.
        neutral: score that says nothing either way: a number, or one for each entry of `ranges`.
        ranges:  distances from the sensor, m, increasing; `neutral` is linear between and constant beyond.
        bound:   the log ratio stays within +- bound: no single score proves anything.
    """

    slope: float
    neutral: float | Sequence[float]
    ranges: Sequence[float] = (0.0,)
    bound: float = 8.0

    def __post_init__(self):
        require_positive(slope=self.slope, bound=self.bound)
        neutral, ranges = np.atleast_1d(self.neutral), np.atleast_1d(self.ranges)
        if neutral.shape != ranges.shape or not (np.diff(ranges) > 0).all() or not np.isfinite(neutral).all():
            raise ValueError(
                "neutral and ranges must be finite and of one length, and ranges must increase, "
                f"got {self.neutral} and {self.ranges}"
            )

    def clutter_ratio(self, score: np.ndarray, distance: np.ndarray | float = 0.0) -> np.ndarray:
        """p(score | clutter) / p(score | object) of scores (m,) at distances (m,) m."""
        neutral = np.interp(distance, np.atleast_1d(self.ranges), np.atleast_1d(self.neutral))
        return np.exp(-np.clip(self.slope * (np.asarray(score, float) - neutral), -self.bound, self.bound))
