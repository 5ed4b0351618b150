"""Births from the measurements of the scan before (`MeasurementBirth`).

A measurement seeds a birth in proportion to how little the tracks explain it.

Source: Reuter, Vo, Vo, Dietmayer (TSP 2014), section V.
"""

from typing import NamedTuple

import numpy as np

from tracking.filters.poisson import Poisson
from tracking.filters.tracker import Models, Scan
from tracking.models.birth import MeasurementBirth


class Seeds(NamedTuple):
    """Where objects may be born before the next scan.

    explained: (m,) probability that a track explains the measurement; m: (m, d) and P: (m, d, d) the state of
    an object seen there.
    """

    explained: np.ndarray
    m: np.ndarray
    P: np.ndarray

    @classmethod
    def none(cls, dim: int) -> "Seeds":
        """No measurements yet."""
        return cls(np.zeros(0), np.zeros((0, dim)), np.zeros((0, dim, dim)))

    def births(self, models: Models, time: float, dt: float):
        """Expected objects (m,), means (m, d), covariances (m, d, d) and modes of births up to `time`."""
        expected = models.birth.expected(time, models.birth_time(dt))
        moved = models.predict(self.m, self.P, models.modes(self.m, self.P), dt)
        return models.birth.share(self.explained, expected), *moved

    def left(self, dt: float) -> "Seeds":
        """What a step leaves of them: a second sensor at the same time finds them all."""
        return self if dt == 0 else Seeds.none(self.m.shape[1])


def plant(scan: Scan, explained: np.ndarray, models: Models, seeds: Seeds) -> Seeds:
    """Seeds for the next step, beside those that are left; none unless births are measurement-driven."""
    dim = models.motion.dim
    if not isinstance(models.birth, MeasurementBirth):
        return Seeds.none(dim)
    m, P, _ = models.birth.start(scan.z, scan.sensor, dim)
    return Seeds(*(np.concatenate(pair) for pair in zip(seeds, (explained, m, P))))


def predict_undetected(poisson: Poisson, seeds: Seeds, models: Models, time: float, dt: float) -> Poisson:
    """Undetected objects at `time`, `dt` seconds later: survivors, and births of every kind."""
    poisson = poisson.predict(models, dt).born(models.birth, models, time, models.birth_time(dt))
    return (
        poisson.add(*seeds.births(models, time, dt))
        if isinstance(models.birth, MeasurementBirth)
        else poisson
    )
