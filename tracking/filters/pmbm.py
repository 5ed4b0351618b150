"""Poisson multi-Bernoulli mixture (PMBM) filter.

The posterior of the standard point-target model is, exactly, a Poisson density of the objects never detected
and a mixture of multi-Bernoullis over the associations of those detected:

    f(X) = sum over X_u + X_d = X of  Poisson(X_u)  sum_a w_a  MB_a(X_d)

Every measurement starts a track; every track keeps its local hypotheses (r, m, P); global hypotheses choose
one local hypothesis a track and live in a table per cluster (`tracking.filters.hypotheses`).

Sources: Williams, "Marginal multi-Bernoulli filters: RFS derivation of MHT, JIPDA, and association-based
MeMBer" (TAES 2015); Garcia-Fernandez, Williams, Granstrom, Svensson, "Poisson multi-Bernoulli mixture filter:
direct derivation and implementation" (TAES 2018). Equation numbers below are those of the latter.
"""

from dataclasses import dataclass, replace

import numpy as np

from tracking.filters.estimate import ESTIMATORS, estimate
from tracking.filters.hypotheses import Limits, Mixture, Options, associate, empty_mixture, limits_of, relabel
from tracking.filters.local import Locals, Outcomes, after, outcomes
from tracking.filters.poisson import FirstDetections, Poisson, detect_first, missed, reduce
from tracking.filters.seeds import Seeds, plant, predict_undetected
from tracking.filters.settings import check_settings
from tracking.filters.tracker import Models, Scan, Tracker

TINY = 1e-300  # keeps log(r p_D) finite where an object cannot be detected


@dataclass(frozen=True, kw_only=True)
class PMBMConfig:
    """Settings of the PMBM filter; every approximation it makes is one of these.

    gate:           squared Mahalanobis distance beyond which a measurement is not associated.
    max_hypotheses: global hypotheses kept in a cluster.
    min_weight:     global hypotheses of less weight in their cluster are dropped.
    min_existence:  local hypotheses of less existence probability are dropped.
    recycle:        tracks of less marginal existence probability return to the Poisson density.
    split:          total variation below which tracks of a cluster count as independent; below 0: one
                    cluster for everything, as in the 2018 paper.
    min_poisson:    Poisson components of less expected objects are dropped.
    merge_poisson:  squared Mahalanobis distance below which Poisson components are merged; 0: never.
    max_poisson:    Poisson components kept.
    gibbs_sweeps:   0: rank associations by Murty's algorithm; else by that many sweeps of a Gibbs chain.
    quota:          rank the children of each hypothesis apart, as the 2018 paper does, not all together.
    max_cluster:    tracks times measurements of a cluster beyond which the tracks are weighed apart, by
                    belief propagation, and keep their `keep_apart` likeliest hypotheses each.
    max_gated:      measurements in a gate that are considered, the nearest.
    threads:        that share the clusters of a scan out among them; the result does not depend on it.
    estimator:      "best", "map", "cardinality", "marginal" or "gospa", see `tracking.filters.estimate`.
    threshold:      existence probability from which an object is reported ("marginal", "best").
    gospa_c, gospa_p, gospa_dims: cut-off (m), order and number of position coordinates of the metric that
                    the estimator "gospa" serves.
    """

    gate: float = 20.0
    max_hypotheses: int = 100
    min_weight: float = 1e-4
    min_existence: float = 1e-5
    recycle: float = 1e-2
    split: float = 1e-2
    min_poisson: float = 1e-5
    merge_poisson: float = 4.0
    max_poisson: int = 100_000
    gibbs_sweeps: int = 0
    quota: bool = False
    max_cluster: int = 2000
    keep_apart: int = 3
    max_gated: int = 100
    threads: int = 1
    estimator: str = "best"
    threshold: float = 0.5
    gospa_c: float = 10.0
    gospa_p: float = 2.0
    gospa_dims: int = 2

    def __post_init__(self):
        check_settings(self, estimator=ESTIMATORS)

    @property
    def limits(self) -> Limits:
        return limits_of(self)


@dataclass(frozen=True)
class PMBMDensity:
    """A Poisson multi-Bernoulli mixture.

    poisson:    objects never detected.
    local:      local hypotheses of all tracks.
    label:      (t,) of the tracks.
    mixture:    which local hypotheses go together, with which weight.
    seeds:      measurements that births of a `MeasurementBirth` will start from.
    next_label: the first label that is still free.
    """

    poisson: Poisson
    local: Locals
    label: np.ndarray
    mixture: Mixture
    seeds: Seeds
    next_label: int = 0


class PMBM(Tracker):
    """Online PMBM tracker: keeps a density, delegates all maths to `predict`, `update` and an estimator."""

    Config = PMBMConfig

    def start(self, time):
        d = self.models.motion.dim
        none = self.models.no_modes
        poisson = Poisson.empty(d, none).born(self.models.initial, self.models, time, 1.0)
        local = Locals.empty(d, none)
        return PMBMDensity(poisson, local, np.zeros(0, np.int64), empty_mixture(), Seeds.none(d))

    def predict(self, density, time, dt):
        return predict(density, self.models, time, dt)

    def update(self, density, scan):
        return update(density, scan, self.models, self.config, self.rng)

    def extract(self, density, time):
        return estimate(density, self.config, time)


def predict(density: PMBMDensity, models: Models, time: float, dt: float) -> PMBMDensity:
    """Survive, move, be born (eq. 14-16). Association weights do not change."""
    poisson = predict_undetected(density.poisson, density.seeds, models, time, dt)
    moved = density.local.predict(models, dt)
    return replace(density, poisson=poisson, local=moved, seeds=density.seeds.left(dt))


def update(density: PMBMDensity, scan: Scan, models: Models, config: PMBMConfig, rng) -> PMBMDensity:
    """Bayes' rule for one scan (eq. 17-32), and the reductions that keep the mixture finite."""
    first = detect_first(density.poisson, scan, models, config.gate)
    out = outcomes(density.local, scan, models.linearisation, config.gate, config.max_gated)
    options, new = weigh(density, scan, first, out, config, rng)

    # Undetected objects, and tracks too unlikely to be kept as such (Williams 2015, section V).
    recycled = after(out, new.recycled, options.existence, 1, first)
    poisson = missed(density.poisson, scan.sensor, models)
    poisson = poisson.add(new.recycled_weight, recycled.m, recycled.P, recycled.modes)
    return PMBMDensity(
        reduce(poisson, config.min_poisson, config.merge_poisson, config.max_poisson),
        after(out, new.option, options.existence, 1, first),
        relabel(density.label, new.track, density.next_label),
        new.mixture,
        plant(scan, new.explained, models, density.seeds),
        density.next_label + len(scan.z),
    )


def weigh(density, scan: Scan, first: FirstDetections, out: Outcomes, config: PMBMConfig, rng):
    """What can become of the local hypotheses in a scan, and the best global hypotheses of it.

    Args:
        density: anything with `local` hypotheses and a `mixture` of them.
        first:   what each measurement says as the first detection of an object (eq. 19-23).
        out:     what the scan can make of the local hypotheses.
    Returns:
        `Options` and `Associated`.
    """
    # Each measurement may be the first detection of an object, or clutter.
    log_rho = np.logaddexp(first.log_e, np.log(scan.clutter))  # (m,)
    r_new = np.exp(first.log_e - log_rho)

    # Each local hypothesis may be missed (eq. 24-25), or detected by a measurement in its gate (eq. 26-29).
    pairs, p_detect, r = out.pairs, out.p_detect, density.local.r
    log_detected = np.log(r * p_detect + TINY)[pairs.row] + out.log_likelihood
    log_missed = np.log1p(-r * p_detect)
    r_missed = r * (1 - p_detect) / (1 - r * p_detect)

    # Global hypotheses: the best children of every cluster (eq. 30-32).
    options = Options(
        pairs.offset,
        pairs.col,
        log_rho[pairs.col] - log_detected,
        -log_missed[:, None],
        np.concatenate((np.ones(len(pairs.col)), r_missed, r_new)),
    )
    return options, associate(density.mixture, options, config.limits, rng, config.threads)
