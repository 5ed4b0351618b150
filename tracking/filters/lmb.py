"""Labelled multi-Bernoulli (LMB) filter.

The delta-GLMB posterior is approximated by independent labelled tracks after every scan. Labels that share no
measurement are weighed apart, which is exact, because the prior is a product (grouping).

Source: Reuter, Vo, Vo, Dietmayer, "The labeled multi-Bernoulli filter" (TSP 2014), eq. 15-33 and section IV.
"""

from dataclasses import dataclass, replace

import numpy as np

from tracking.filters import bernoulli
from tracking.filters.bernoulli import Bernoullis
from tracking.filters.births import bernoulli_births
from tracking.filters.poisson import Poisson, detect_first, missed
from tracking.filters.seeds import Seeds, plant
from tracking.filters.settings import check_settings
from tracking.filters.tracker import Models, Scan, Tracker
from tracking.models.birth import UniformBirth
from tracking.models.survival import Survival


@dataclass(frozen=True, kw_only=True)
class LMBConfig:
    """Settings of the LMB filter; every approximation it makes is one of these.

    gate:           squared Mahalanobis distance beyond which a measurement is not associated.
    association:    "exhaustive": the best joint associations of every group of labels; "belief": loopy
                    belief propagation.
    max_hypotheses, max_gap, max_cluster: of "exhaustive": joint associations of a group, log weight below
                    the best from which they are left out, and labels times measurements of a group beyond
                    which it is belief propagation after all.
    max_gated:      measurements in a gate that are considered, the nearest.
    min_existence:  tracks of less existence probability are dropped.
    min_weight, merge, max_components: of the Gaussian mixture of a track: weight below which a component is
                    dropped, squared Mahalanobis distance below which two are merged, and how many are kept.
    estimator:      "cardinality", "marginal" or "gospa", see `tracking.filters.bernoulli.extract`.
    threshold:      existence probability from which "marginal" reports an object.
    gospa_c, gospa_p, gospa_dims: cut-off (m), order and number of position coordinates of the metric that
                    the estimator "gospa" serves.
    """

    gate: float = 30.0
    association: str = "exhaustive"
    max_hypotheses: int = 1000
    max_gap: float = 20.0
    max_cluster: int = 2000
    max_gated: int = 100
    min_existence: float = 1e-3
    min_weight: float = 1e-5
    merge: float = 4.0
    max_components: int = 10
    estimator: str = "cardinality"
    threshold: float = 0.5
    gospa_c: float = 10.0
    gospa_p: float = 2.0
    gospa_dims: int = 2

    def __post_init__(self):
        check_settings(
            self, association=("belief", "exhaustive"), estimator=("cardinality", "gospa", "marginal")
        )


@dataclass(frozen=True)
class LMBDensity:
    """Independent labelled tracks.

    tracks:     the tracks.
    unborn:     objects of a `UniformBirth` that have not been detected yet.
    seeds:      measurements that births of a `MeasurementBirth` will start from.
    next_label: the first label that is still free.
    """

    tracks: Bernoullis
    unborn: Poisson
    seeds: Seeds
    next_label: int = 0


class LMB(Tracker):
    """Online LMB tracker."""

    Config = LMBConfig

    def start(self, time):
        d = self.models.motion.dim
        modes = self.models.no_modes
        none = LMBDensity(Bernoullis.empty(d, modes), Poisson.empty(d, modes), Seeds.none(d))
        return born(none, replace(self.models, birth=self.models.initial, survival=Survival(1.0)), time, 1.0)

    def predict(self, density, time, dt):
        return predict(density, self.models, time, dt)

    def update(self, density, scan):
        return update(density, scan, self.models, self.config)

    def extract(self, density, time):
        return bernoulli.extract(density.tracks, self.config, time)


def predict(density: LMBDensity, models: Models, time: float, dt: float) -> LMBDensity:
    """Survive, move (eq. 17-18), be born."""
    moved = replace(
        density, tracks=density.tracks.predict(models, dt), unborn=density.unborn.predict(models, dt)
    )
    return replace(born(moved, models, time, dt), seeds=density.seeds.left(dt))


def born(density: LMBDensity, models: Models, time: float, dt: float) -> LMBDensity:
    """Add a track for every birth; a `UniformBirth` waits in `unborn` for its first detection."""
    if isinstance(models.birth, UniformBirth):
        unborn = density.unborn.born(models.birth, models, time, models.birth_time(dt))
        return replace(density, unborn=unborn)
    r, m, P, modes = bernoulli_births(density.seeds, models, time, dt)
    tracks = density.tracks.add(r, density.next_label + np.arange(len(r)), m, P, modes)
    return replace(density, tracks=tracks, next_label=density.next_label + len(r))


def update(density: LMBDensity, scan: Scan, models: Models, config: LMBConfig) -> LMBDensity:
    """Bayes' rule for one scan, marginalised to tracks (eq. 27-33)."""
    first = detect_first(density.unborn, scan, models, config.gate)
    tracks, explained = bernoulli.update(density.tracks, scan, first, models, config, density.next_label)
    tracks, _ = bernoulli.reduce(
        tracks, config.min_existence, config.min_weight, config.merge, config.max_components
    )
    return LMBDensity(
        tracks,
        missed(density.unborn, scan.sensor, models),
        plant(scan, explained, models, density.seeds),
        density.next_label + len(scan.z),
    )
