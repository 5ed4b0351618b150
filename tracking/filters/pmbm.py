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

from tracking.association.gating import gate
from tracking.checks import require_probability
from tracking.filters import poisson as ppp
from tracking.filters.estimate import ESTIMATORS, Estimator
from tracking.filters.hypotheses import Limits, Mixture, Options, associate, empty_mixture
from tracking.filters.poisson import Poisson
from tracking.filters.tracker import Models, Scan, Tracker
from tracking.gaussian import log_likelihood
from tracking.models.birth import MeasurementBirth
from tracking.tracks import Tracks


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
    estimator:      "marginal", "best", "cardinality", "map" or "gospa", see `tracking.filters.estimate`.
    threshold:      existence probability from which an object is reported ("marginal", "best").
    """

    gate: float = 20.0
    max_hypotheses: int = 200
    min_weight: float = 1e-4
    min_existence: float = 1e-5
    recycle: float = 1e-3
    split: float = 1e-3
    min_poisson: float = 1e-5
    merge_poisson: float = 4.0
    max_poisson: int = 1000
    gibbs_sweeps: int = 0
    quota: bool = False
    estimator: str = "marginal"
    threshold: float = 0.5

    def __post_init__(self):
        require_probability(
            min_weight=self.min_weight,
            min_existence=self.min_existence,
            recycle=self.recycle,
            threshold=self.threshold,
        )
        if self.estimator not in ESTIMATORS:
            raise ValueError(f"estimator must be one of {sorted(ESTIMATORS)}, got {self.estimator!r}")
        if self.max_hypotheses < 1:
            raise ValueError(f"max_hypotheses must be at least 1, got {self.max_hypotheses}")

    @property
    def limits(self) -> Limits:
        return Limits(
            self.max_hypotheses,
            self.min_weight,
            self.min_existence,
            self.recycle,
            self.split,
            self.gibbs_sweeps,
            self.quota,
        )


@dataclass(frozen=True)
class PMBMDensity:
    """A Poisson multi-Bernoulli mixture.

    poisson: objects never detected.
    r, m, P: (l,), (l, d), (l, d, d) local hypotheses of all tracks.
    source:  (l,) measurement of the last scan that updated it, -1 if none.
    label:   (t,) of the tracks.
    mixture: which local hypotheses go together, with which weight.
    next_label: the first label that is still free.
    """

    poisson: Poisson
    r: np.ndarray
    m: np.ndarray
    P: np.ndarray
    source: np.ndarray
    label: np.ndarray
    mixture: Mixture
    next_label: int = 0


class PMBM(Tracker):
    """Online PMBM tracker: keeps a density, delegates all maths to `predict`, `update` and an estimator."""

    Config = PMBMConfig

    def start(self):
        models = self.models
        initial = models.birth if models.initial is None else models.initial
        none, d = np.zeros(0, np.int64), models.motion.dim
        poisson = Poisson.empty(d).born(initial, 1.0)
        return PMBMDensity(
            poisson, np.zeros(0), np.zeros((0, d)), np.zeros((0, d, d)), none, none, empty_mixture()
        )

    def predict(self, density, dt):
        return predict(density, self.models, dt)

    def update(self, density, scan):
        return update(density, scan, self.models, self.config, self.rng)

    def extract(self, density, time):
        return extract(density, self.config, time)


def predict(density: PMBMDensity, models: Models, dt: float) -> PMBMDensity:
    """Survive, move, be born (eq. 14-16). Association weights do not change."""
    motion, survival, linearisation = models.motion, models.survival, models.linearisation
    m, P = linearisation.predict(density.m, density.P, motion, dt)
    poisson = density.poisson.predict(motion, models.birth, survival, dt, linearisation)
    return replace(
        density,
        poisson=poisson.born(models.birth, dt),
        r=density.r * survival(m, P, dt),
        m=m,
        P=P,
        source=np.full(len(m), -1),
    )


def update(density: PMBMDensity, scan: Scan, models: Models, config: PMBMConfig, rng) -> PMBMDensity:
    """Bayes' rule for one scan (eq. 17-32), and the reductions that keep the mixture finite."""
    z, clutter, sensor = scan
    linearisation = models.linearisation
    r, m, P = density.r, density.m, density.P

    # Each measurement may be the first detection of an object, or clutter (eq. 19-23).
    first = ppp.detect_first(density.poisson, z, sensor, models.birth, config.gate, linearisation)
    log_rho = np.logaddexp(first.log_e, np.log(clutter))  # (m,)
    r_new = np.exp(first.log_e - log_rho)

    # Each local hypothesis may be missed (eq. 24-25), or detected by a measurement in its gate (eq. 26-29).
    p_detect = sensor.detection(m)
    innovation = linearisation.innovate(m, P, sensor)
    pairs = gate(innovation, z, config.gate, sensor.angles)
    with np.errstate(divide="ignore"):
        log_detected = np.log(r * p_detect)[pairs.row] + log_likelihood(innovation, pairs.nu, pairs.row)
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
    out = associate(density.mixture, options, config.limits, rng)

    n_pairs, n_local = len(pairs.col), len(r)

    def become(option):  # the densities that options stand for
        detected, new = option[option < n_pairs], option[option >= n_pairs + n_local]
        kept = option[(option >= n_pairs) & (option < n_pairs + n_local)] - n_pairs
        order = np.argsort(np.argsort(np.digitize(option, [n_pairs, n_pairs + n_local]), kind="stable"))
        i, j = pairs.row[detected], new - n_pairs - n_local
        moved = m[i] + np.einsum("nij,nj->ni", innovation.gain[i], pairs.nu[detected])
        mean = np.concatenate((moved, m[kept], first.mean[j]))[order]
        cov = np.concatenate((innovation.P_post[i], P[kept], first.cov[j]))[order]
        source = np.concatenate((pairs.col[detected], np.full(len(kept), -1), j))[order]
        return mean, cov, source

    poisson = ppp.missed(density.poisson, sensor, models.birth)
    recycled_m, recycled_P, _ = become(out.recycled)
    poisson = poisson.add(out.recycled_weight, recycled_m, recycled_P)
    if isinstance(models.birth, MeasurementBirth) and len(z) > 0:
        start, start_P, _ = models.birth.start(z, sensor, m.shape[1])
        poisson = poisson.add(models.birth.weights(out.explained, 1.0), start, start_P)
    mean, cov, source = become(out.option)
    fresh = out.track < 0
    label = np.where(
        fresh,
        density.next_label - 1 - out.track,
        density.label[np.maximum(out.track, 0)] if len(density.label) else 0,
    )
    return PMBMDensity(
        ppp.reduce(poisson, config.min_poisson, config.merge_poisson, config.max_poisson),
        options.existence[out.option],
        mean,
        cov,
        source,
        label,
        out.mixture,
        density.next_label + len(z),
    )


def extract(density: PMBMDensity, config: PMBMConfig, time: float) -> Tracks:
    """Report objects by the configured estimator."""
    estimator: Estimator = ESTIMATORS[config.estimator]
    return estimator(density, config, time)
