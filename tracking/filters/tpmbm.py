"""Trajectory Poisson multi-Bernoulli mixture (TPMBM) filter for the set of all trajectories, alive and dead.

    tracker = TPMBM(motion, sensor, birth, config=TPMBM.Config(window=10))
    for time, z in scans:
        tracks = tracker.step(z, time)       # who is there now, as of every tracker
    for path in tracker.trajectories():      # who has ever been there, as a Recorder gives them
        ...

Associations are those of the PMBM filter, weight by weight. A local hypothesis here is a trajectory: r says
whether there is one at all, and does not fall when it ends; `visible` is the probability that it has not
ended yet, since an object that is gone is one that is hidden for good. Its states are a `Path`, jointly
Gaussian over the last `window` scans.

It is the reference for small scenes: whole paths are kept for every local hypothesis, and none is dropped
because its object has gone. Motion and sensors are linear.

What is approximated besides the window: a trajectory starts where the likeliest component of the Poisson
density does (with a `UniformBirth`: at its first detection), and its past follows from the moments that PMBM
has of its first detection.

Sources: Granstrom, Svensson, Xia, Williams, Garcia-Fernandez, "Poisson multi-Bernoulli mixture trackers:
continuity through random finite sets of trajectories" (FUSION 2018); Garcia-Fernandez, Williams, Svensson,
Xia, "Trajectory Poisson multi-Bernoulli filters" (TSP 2020), for the L-scan approximation.
"""

from dataclasses import dataclass, replace

import numpy as np

from tracking.filters.estimate import estimate
from tracking.filters.hypotheses import Limits, Mixture, empty_mixture, limits_of, relabel
from tracking.filters.local import Locals, Outcomes, after, outcomes
from tracking.filters.paths import Path
from tracking.filters.pmbm import PMBMConfig, weigh
from tracking.filters.poisson import FirstDetections, Poisson, detect_first, missed, out_of_the_box
from tracking.filters.seeds import Seeds, plant, predict_undetected
from tracking.filters.tracker import Models, Scan, Tracker
from tracking.gaussian import log_likelihood
from tracking.smoothing import Trajectory


@dataclass(frozen=True, kw_only=True)
class TPMBMConfig(PMBMConfig):
    """Settings of the TPMBM filter: those of `PMBMConfig`, where nothing is recycled or merged, and two more.

    window:    scans whose states stay jointly Gaussian (L).
    min_alive: trajectories that go on with less probability have ended.
    """

    recycle: float = 0.0
    merge_poisson: float = 0.0
    window: int = 5
    min_alive: float = 1e-4

    def __post_init__(self):
        super().__post_init__()
        if self.recycle != 0 or self.merge_poisson != 0:
            raise ValueError(
                "recycle and merge_poisson must be 0, a trajectory cannot become a point again; got "
                f"{self.recycle} and {self.merge_poisson}"
            )

    @property
    def limits(self) -> Limits:
        return limits_of(self, recycle=0.0)


@dataclass(frozen=True)
class TPMBMDensity:
    """A Poisson multi-Bernoulli mixture of trajectories.

    poisson:    objects never detected; unseen: path of each of its Gaussians.
    local:      local hypotheses: existence, newest state, and in `visible` whether it is still there;
                paths: of each.
    label:      (t,) of the tracks.
    mixture:    which local hypotheses go together, with which weight.
    seeds:      measurements that births of a `MeasurementBirth` will start from.
    times:      of all scans, s.
    next_label: the first label that is still free.
    """

    poisson: Poisson
    unseen: tuple[Path, ...]
    local: Locals
    paths: tuple[Path, ...]
    label: np.ndarray
    mixture: Mixture
    seeds: Seeds
    times: tuple[float, ...]
    next_label: int = 0

    @property
    def alive(self) -> Locals:
        """Local hypotheses as those of PMBM: r is the probability of an object that is there now."""
        return replace(self.local, r=self.local.r * self.local.visible, visible=np.ones(len(self.local)))


class TPMBM(Tracker):
    """Online TPMBM tracker, for linear models; arguments as of every filter, without occlusion."""

    Config = TPMBMConfig

    def __init__(self, motion, sensor, birth, survival=0.99, config=None, **more):
        super().__init__(motion, sensor, birth, survival, config, **more)
        if self.models.occlusion is not None:
            raise ValueError("occlusion has no place in TPMBM: use PMBM with a Recorder for it")
        _require_linear("motion", self.models.motion)
        _require_linear("sensor", self.models.sensor)

    def start(self, time):
        d = self.models.motion.dim
        poisson = Poisson.empty(d).born(self.models.initial, self.models, time, 1.0)
        unseen = tuple(Path.begun(0, m, P) for m, P in zip(poisson.m, poisson.P))
        none = np.zeros(0, np.int64)
        times = (float(time),)
        return TPMBMDensity(poisson, unseen, Locals.empty(d), (), none, empty_mixture(), Seeds.none(d), times)

    def predict(self, density, time, dt):
        return predict(density, self.models, self.config, time, dt)

    def update(self, density, scan):
        _require_linear("sensor", scan.sensor)
        return update(density, scan, self.models, self.config, self.rng)

    def extract(self, density, time):
        return estimate(replace(density, local=density.alive), self.config, time)

    def trajectories(self) -> list[Trajectory]:
        """All trajectories of the best global hypotheses that exist with `config.threshold`, by label.

        Each goes to its most probable last state. `existence` (k,) is the probability, given all scans so
        far, that the object was there at the time.
        """
        return [] if self.density is None else trajectories(self.density, self.config)


def _require_linear(name, model):
    if not getattr(model, "linear", False):
        raise ValueError(
            f"{name} must be linear for joint densities of states over time, got {type(model).__name__}; "
            "use PMBM with a Recorder for others"
        )


def predict(density: TPMBMDensity, models: Models, config: TPMBMConfig, time: float, dt: float):
    """Move on, or end; be born."""
    scan, motion, local = len(density.times), models.motion, density.local
    poisson = predict_undetected(density.poisson, density.seeds, models, time, dt)
    F, Q = motion.jacobian(local.m, dt), motion.noise(local.m, dt)
    unseen = [path.moved(F, Q, config.window) for path in density.unseen]
    unseen += [Path.begun(scan, m, P) for m, P in zip(poisson.m[len(unseen) :], poisson.P[len(unseen) :])]

    m, P, _ = models.predict(local.m, local.P, None, dt)
    stays = local.visible * models.survival(m, P, dt, (local.m, local.P))
    stays[stays < config.min_alive] = 0.0
    goes, paths = stays > 0, []
    for path, was, now in zip(density.paths, local.visible, stays):
        if was > 0:
            path = path.ending(was - now)  # what is too little to go on counts as an end
        paths.append(path.moved(F, Q, config.window) if now > 0 else path)
    moved = Locals(
        local.r,
        np.where(goes[:, None], m, local.m),
        np.where(goes[:, None, None], P, local.P),
        np.full(len(local), -1),
        stays,
    )
    return replace(
        density,
        poisson=poisson,
        unseen=tuple(unseen),
        local=moved,
        paths=tuple(paths),
        seeds=density.seeds.left(dt),
        times=(*density.times, float(time)),
    )


def update(density: TPMBMDensity, scan: Scan, models: Models, config: TPMBMConfig, rng) -> TPMBMDensity:
    """Bayes' rule for one scan, with the associations of PMBM."""
    first = detect_first(density.poisson, scan, models, config.gate)
    out = _of_the_living(outcomes(density.local, scan, models.linearisation, config.gate, config.max_gated))
    options, new = weigh(density, scan, first, out, config, rng)
    poisson = missed(density.poisson, scan.sensor, models)
    heaviest = np.argsort(-poisson.w, kind="stable")[: config.max_poisson]
    keep = np.sort(heaviest[poisson.w[heaviest] >= config.min_poisson])
    return TPMBMDensity(
        Poisson(poisson.w[keep], poisson.m[keep], poisson.P[keep], poisson.uniform),
        tuple(density.unseen[i] for i in keep),
        after(out, new.option, options.existence, 1, first),
        _paths(density, scan, first, out, new.option, models),
        relabel(density.label, new.track, density.next_label),
        new.mixture,
        plant(scan, new.explained, models, density.seeds),
        density.times,
        density.next_label + len(scan.z),
    )


def trajectories(density: TPMBMDensity, config: TPMBMConfig) -> list[Trajectory]:
    """As `TPMBM.trajectories`."""
    best, times = density.mixture.best, np.array(density.times)
    found = []
    for i in np.argsort(density.label):
        if best[i] < 0 or density.local.r[best[i]] < config.threshold:
            continue
        path, r, alive = (a[best[i]] for a in (density.paths, density.local.r, density.local.visible))
        n = path.span(alive)
        mean, cov = path.states()
        found.append(
            Trajectory(
                int(density.label[i]),
                times[path.start : path.start + n],
                mean[:n],
                cov[:n],
                r * path.reached(alive)[:n],
                np.array(path.source[:n], np.int64),
            )
        )
    return found


def _of_the_living(out: Outcomes) -> Outcomes:
    """Outcomes without detections of trajectories that have ended."""
    pairs = out.pairs
    keep = out.local.visible[pairs.row] > 0
    if keep.all():
        return out
    offset = np.concatenate((np.zeros(1, np.int64), np.cumsum(keep)))[pairs.offset]
    thinned = pairs._replace(
        offset=offset, row=pairs.row[keep], col=pairs.col[keep], d2=pairs.d2[keep], nu=pairs.nu[keep]
    )
    return out._replace(pairs=thinned, log_likelihood=out.log_likelihood[keep])


def _paths(density, scan: Scan, first: FirstDetections, out: Outcomes, option, models) -> tuple[Path, ...]:
    """Path of every local hypothesis that is left, by the option that it took."""
    H, R = scan.sensor.jacobian(density.local.m), scan.sensor.noise(density.local.m)
    n_pairs, n_old = len(out.pairs.col), len(out.local)
    origin = _origins(density, scan, models) if len(scan.z) else np.zeros(0, np.int64)
    found = []
    for o in option:
        if o < n_pairs:
            path = density.paths[out.pairs.row[o]]
            found.append(path.detected(out.pairs.nu[o], H, R, int(out.pairs.col[o])))
        elif o < n_pairs + n_old:
            i = o - n_pairs
            found.append(replace(density.paths[i], ended=density.paths[i].ended / (1 - out.p_detect[i])))
        else:
            j = int(o - n_pairs - n_old)
            m, P = first.mean[j], first.cov[j]
            if origin[j] < 0:
                found.append(Path.begun(len(density.times) - 1, m, P, j))
            else:
                path = density.unseen[origin[j]]
                nu = scan.sensor.residual(scan.z[j], H @ path.mean[-1])
                found.append(path.detected(nu, H, R, j).anchored(m, P))
    return tuple(found)


def _origins(density, scan: Scan, models: Models) -> np.ndarray:
    """Component (m,) of the Poisson density that each measurement fits best, -1: the uniform share."""
    poisson, sensor, m = density.poisson, scan.sensor, len(scan.z)
    log_c = np.full((len(poisson.w) + 1, m), -np.inf)
    innovation = models.linearisation.innovate(poisson.m, poisson.P, sensor)
    with np.errstate(divide="ignore"):
        log_w = np.log(sensor.detection(poisson.m) * poisson.w)
    for i in range(len(poisson.w)):
        nu = sensor.residual(scan.z, innovation.z_hat[i])
        log_c[i] = log_w[i] + log_likelihood(innovation, nu, np.full(m, i))
    if models.box is not None and poisson.uniform > 0:
        log_c[-1] = out_of_the_box(poisson, scan, models.box)[0]
    best = np.argmax(log_c, axis=0)
    return np.where(best == len(poisson.w), -1, best)
