"""Occlusion: misses that come in runs, because an object is hidden for a while.

A constant detection probability takes every miss as fresh evidence that an object is gone, and drops tracks
behind the first pillar. Here an object is visible or hidden, switching between the two as a Markov chain, and
a hidden one cannot be detected; every local hypothesis carries the probability of being visible.
"""

from dataclasses import dataclass

import numpy as np

from tracking.checks import require_positive


@dataclass(frozen=True)
class Occlusion:
    """Two-state Markov chain in continuous time.

    Args:
        hide: rate at which visible objects become hidden, 1/s.
        show: rate at which hidden objects become visible, 1/s; 1 / show is the mean length of an occlusion.
    """

    hide: float
    show: float

    def __post_init__(self):
        require_positive(hide=self.hide, show=self.show)

    def predict(self, visible: np.ndarray, dt: float) -> np.ndarray:
        """Probability of being visible (n,) after `dt` seconds."""
        rate = self.hide + self.show
        steady = self.show / rate
        return steady + (visible - steady) * np.exp(-rate * dt)
