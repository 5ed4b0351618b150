"""Poisson multi-Bernoulli (PMB) filter: PMBM with one mixture per track instead of global hypotheses.

Its association marginals come from belief propagation, at a cost that grows with the gated pairs alone; it is
the filter for clutter so dense that global hypotheses starve.

Source: Williams, "Marginal multi-Bernoulli filters" (TAES 2015), the track-oriented TOMB/P filter with the
belief propagation of Williams, Lau (TAES 2014), and recycling (section V).
"""

from dataclasses import dataclass, replace

import numpy as np

from tracking.filters import bernoulli
from tracking.filters.bernoulli import Bernoullis
from tracking.filters.lmb import LMBConfig
from tracking.filters.poisson import Poisson, detect_first, missed, reduce
from tracking.filters.seeds import Seeds, plant, predict_undetected
from tracking.filters.tracker import Models, Scan, Tracker


@dataclass(frozen=True, kw_only=True)
class PMBConfig(LMBConfig):
    """Settings of the PMB filter: those of `LMBConfig` with other defaults, and of its Poisson part.

    recycle:       tracks of less existence probability return to the Poisson density.
    min_poisson, merge_poisson, max_poisson: expected objects below which a Poisson component is dropped,
                   squared Mahalanobis distance below which two are merged, and how many are kept.
    """

    gate: float = 20.0
    association: str = "belief"
    min_existence: float = 0.0
    merge: float = np.inf
    max_components: int = 1
    estimator: str = "marginal"
    recycle: float = 0.05
    min_poisson: float = 1e-5
    merge_poisson: float = 4.0
    max_poisson: int = 100_000


@dataclass(frozen=True)
class PMBDensity:
    """A Poisson multi-Bernoulli density.

    poisson: objects never detected; tracks: detected ones; seeds: of a `MeasurementBirth`;
    next_label: the first label that is still free.
    """

    poisson: Poisson
    tracks: Bernoullis
    seeds: Seeds
    next_label: int = 0


class PMB(Tracker):
    """Online PMB tracker."""

    Config = PMBConfig

    def start(self, time):
        d = self.models.motion.dim
        none = self.models.no_modes
        poisson = Poisson.empty(d, none).born(self.models.initial, self.models, time, 1.0)
        return PMBDensity(poisson, Bernoullis.empty(d, none), Seeds.none(d))

    def predict(self, density, time, dt):
        return predict(density, self.models, time, dt)

    def update(self, density, scan):
        return update(density, scan, self.models, self.config)

    def extract(self, density, time):
        return bernoulli.extract(density.tracks, self.config, time)


def predict(density: PMBDensity, models: Models, time: float, dt: float) -> PMBDensity:
    """Survive, move, be born."""
    poisson = predict_undetected(density.poisson, density.seeds, models, time, dt)
    moved = density.tracks.predict(models, dt)
    return replace(density, poisson=poisson, tracks=moved, seeds=density.seeds.left(dt))


def update(density: PMBDensity, scan: Scan, models: Models, config: PMBConfig) -> PMBDensity:
    """Bayes' rule for one scan, marginalised to tracks; unlikely tracks return to the Poisson density."""
    first = detect_first(density.poisson, scan, models, config.gate)
    tracks, explained = bernoulli.update(density.tracks, scan, first, models, config, density.next_label)
    tracks, unlikely = bernoulli.reduce(
        tracks, config.recycle, config.min_weight, config.merge, config.max_components
    )
    recycled = unlikely.component
    poisson = missed(density.poisson, scan.sensor, models)
    poisson = poisson.add(unlikely.r[unlikely.track] * recycled.r, recycled.m, recycled.P, recycled.modes)
    return PMBDensity(
        reduce(poisson, config.min_poisson, config.merge_poisson, config.max_poisson),
        tracks,
        plant(scan, explained, models, density.seeds),
        density.next_label + len(scan.z),
    )
