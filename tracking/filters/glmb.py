"""Delta generalised labelled multi-Bernoulli (delta-GLMB) filter, joint prediction and update.

Every object has a label for life, and every hypothesis says of every label whether it exists. In one scan a
label dies or is not born, is missed, or is detected by one measurement:

    eta(died) = 1 - a     eta(missed) = a (1 - p_D)     eta(z) = a p_D N(z; z_hat, S) / clutter(z)

with a the survival probability of an old label, or the birth probability of a new one. The best children of
all hypotheses are ranked by Murty's algorithm or sampled by a Gibbs chain. Labels that share no measurement
are kept in separate tables (`split`), whose product the density is.

Sources: Vo, Vo, Hoang, "An efficient implementation of the generalized labeled multi-Bernoulli filter" (TSP
2017), eq. 14-27 and Algorithm 1; Beard, Vo, Vo (TSP 2020) for the product over groups of labels.
"""

from dataclasses import dataclass, replace

import numpy as np

from tracking.filters.births import bernoulli_births
from tracking.filters.estimate import ESTIMATORS, estimate
from tracking.filters.hypotheses import (
    Limits,
    Mixture,
    Options,
    associate,
    empty_mixture,
    limits_of,
    with_tracks,
)
from tracking.filters.local import Locals, after, outcomes
from tracking.filters.poisson import Poisson, detect_first, missed
from tracking.filters.seeds import Seeds, plant
from tracking.filters.settings import check_settings
from tracking.filters.tracker import Models, Scan, Tracker
from tracking.models.birth import UniformBirth
from tracking.models.survival import Survival


@dataclass(frozen=True, kw_only=True)
class GLMBConfig:
    """Settings of the delta-GLMB filter; every approximation it makes is one of these.

    gate:           squared Mahalanobis distance beyond which a measurement is not associated.
    max_hypotheses: hypotheses kept in a group of labels.
    min_weight:     hypotheses of less weight in their group are dropped.
    min_existence:  labels of less existence probability are dropped.
    split:          total variation below which labels of a group count as independent; below 0: one group
                    for everything, as in the 2017 paper.
    gibbs_sweeps:   length of the Gibbs chain that samples hypotheses; 0: Murty's algorithm.
    quota:          rank the children of each hypothesis apart, not all together.
    max_cluster:    labels times measurements of a cluster beyond which the labels are weighed apart, by
                    belief propagation, and keep their `keep_apart` likeliest hypotheses each.
    max_gated:      measurements in a gate that are considered, the nearest.
    threads:        that share the clusters of a scan out among them; the result does not depend on it.
    estimator:      "cardinality" (the usual one), "marginal", "best" or "gospa", see
                    `tracking.filters.estimate`.
    threshold:      existence probability from which an object is reported ("marginal").
    gospa_c, gospa_p, gospa_dims: cut-off (m), order and number of position coordinates of the metric that
                    the estimator "gospa" serves.
    """

    gate: float = 30.0
    max_hypotheses: int = 200
    min_weight: float = 1e-5
    min_existence: float = 1e-3
    split: float = 1e-3
    gibbs_sweeps: int = 0
    quota: bool = False
    max_cluster: int = 2000
    keep_apart: int = 3
    max_gated: int = 100
    threads: int = 1
    estimator: str = "cardinality"
    threshold: float = 0.5
    gospa_c: float = 10.0
    gospa_p: float = 2.0
    gospa_dims: int = 2

    def __post_init__(self):
        check_settings(self, estimator=ESTIMATORS)

    @property
    def limits(self) -> Limits:
        # Inside a hypothesis a label exists or does not.
        return limits_of(self, min_existence=0.0, recycle=self.min_existence)


@dataclass(frozen=True)
class GLMBDensity:
    """A product of delta-GLMB densities over groups of labels.

    local:      densities that labels may have; r is 1 after an update, and after a prediction the
                probability of existing before the scan was seen.
    label:      (t,) labels.
    mixture:    hypotheses: which density each label has, -1 where it does not exist.
    unborn:     objects of a `UniformBirth` that have not been detected yet.
    seeds:      measurements that births of a `MeasurementBirth` will start from.
    next_label: the first label that is still free.
    """

    local: Locals
    label: np.ndarray
    mixture: Mixture
    unborn: Poisson
    seeds: Seeds
    next_label: int = 0


class GLMB(Tracker):
    """Online delta-GLMB tracker."""

    Config = GLMBConfig

    def start(self, time):
        d = self.models.motion.dim
        local, unborn = (kind.empty(d, self.models.no_modes) for kind in (Locals, Poisson))
        none = GLMBDensity(local, np.zeros(0, np.int64), empty_mixture(), unborn, Seeds.none(d))
        return born(none, replace(self.models, birth=self.models.initial, survival=Survival(1.0)), time, 1.0)

    def predict(self, density, time, dt):
        return predict(density, self.models, time, dt)

    def update(self, density, scan):
        return update(density, scan, self.models, self.config, self.rng)

    def extract(self, density, time):
        return estimate(density, self.config, time)


def predict(density: GLMBDensity, models: Models, time: float, dt: float) -> GLMBDensity:
    """Move the labels; how many survive is decided together with the update."""
    moved = replace(
        density, local=density.local.predict(models, dt), unborn=density.unborn.predict(models, dt)
    )
    return replace(born(moved, models, time, dt), seeds=density.seeds.left(dt))


def born(density: GLMBDensity, models: Models, time: float, dt: float) -> GLMBDensity:
    """Add a label for every birth; a `UniformBirth` waits in `unborn` for its first detection."""
    if isinstance(models.birth, UniformBirth):
        unborn = density.unborn.born(models.birth, models, time, models.birth_time(dt))
        return replace(density, unborn=unborn)
    r, m, P, modes = bernoulli_births(density.seeds, models, time, dt)
    return _add_labels(density, density.local.add(r, m, P, None, modes), len(r))


def _add_labels(density, local, n):
    label = np.concatenate((density.label, density.next_label + np.arange(n)))
    mixture = with_tracks(density.mixture, n)
    return replace(density, local=local, label=label, mixture=mixture, next_label=density.next_label + n)


def update(density: GLMBDensity, scan: Scan, models: Models, config: GLMBConfig, rng) -> GLMBDensity:
    """Bayes' rule for one scan (Vo, Vo, Hoang 2017, eq. 23-27), pruned to the best hypotheses."""
    out = outcomes(density.local, scan, models.linearisation, config.gate, config.max_gated)
    pairs, p_detect, a = out.pairs, out.p_detect, density.local.r
    with np.errstate(divide="ignore"):
        died, undetected = -np.log1p(-a), -np.log(a * (1 - p_detect))
        detected = np.log(scan.clutter)[pairs.col] - np.log(a * p_detect)[pairs.row] - out.log_likelihood
    private = np.stack((died, undetected), axis=1)
    offset, col = pairs.offset, pairs.col
    n_pairs, n_old, m = len(col), len(density.local), len(scan.z)

    # Objects of a uniform birth get their label at their first detection: one candidate a measurement,
    # either not born (weight 1) or detected by it (weight e / clutter), never missed.
    first = detect_first(density.unborn, scan, models, config.gate)
    seen = np.flatnonzero(np.isfinite(first.log_e))
    density = _add_labels(density, density.local, len(seen))
    offset = np.concatenate((offset, offset[-1] + 1 + np.arange(len(seen))))
    col = np.concatenate((col, seen))
    detected = np.concatenate((detected, np.log(scan.clutter[seen]) - first.log_e[seen]))
    private = np.concatenate((private, np.tile([0.0, np.inf], (len(seen), 1))))

    existence = np.concatenate((np.ones(len(col)), np.tile([0.0, 1.0], len(private)), np.zeros(m)))
    new = associate(
        density.mixture,
        Options(offset, col, detected, private, existence),
        config.limits,
        rng,
        config.threads,
    )
    # Number the options as if the candidates' pairs were tracks that the measurements start.
    option = np.where(new.option >= len(col), new.option - len(seen), new.option)
    candidate = (new.option >= n_pairs) & (new.option < len(col))
    option[candidate] = n_pairs + 2 * n_old + col[new.option[candidate]]
    local = after(out, option, np.ones(n_pairs + 2 * n_old + m), 2, first)
    return GLMBDensity(
        local,
        density.label[new.track],
        new.mixture,
        missed(density.unborn, scan.sensor, models),
        plant(scan, new.explained, models, density.seeds),
        density.next_label,
    )
