"""The shared multi-target simulator: a generative process of objects, detections and clutter.

The standard point-target model (Mahler, "Statistical Multisource-Multitarget Information Fusion", 2007,
chapters 12-13), in the order of a scan:

    move     every object moves by the motion model
    leave    objects outside the survival region (its box, or a survival probability of 0) are gone for good
    die      survivors die with probability 1 - p_survival ** dt
    appear   Poisson births; those that appear outside the region do not count
    measure  detections with the sensor's probability and noise, Poisson clutter, in random order

With `newborns_die` births come before deaths, as in MT3's simulator. The first scan is drawn from `initial`
and measured; nothing moves or dies before it. Rates are per second, survival is a probability per second.

Objects are rows of one array: nothing here loops over objects, only over scans.
"""

from dataclasses import dataclass, field

import numpy as np

from tracking.models.birth import GaussianBirth, UniformBirth
from tracking.models.motion import Motion
from tracking.models.sensor import Sensor
from tracking.models.survival import Survival
from tracking.tracks import Trajectories

# Filters take the logarithm of the clutter intensity, so a world without clutter tells them this many a scan.
MIN_CLUTTER = 1e-6
MAX_REDRAWS = 1000


@dataclass(frozen=True)
class Clutter:
    """Poisson clutter, uniform over a box in measurement space.

    Args:
        mean:  expected clutter points per scan, >= 0.
        lower: corner of the box, (d_z,), in the units of the measurement.
        upper: the opposite corner.
    """

    mean: float
    lower: tuple[float, ...]
    upper: tuple[float, ...]

    def __post_init__(self):
        if not np.isfinite(self.mean) or self.mean < 0:
            raise ValueError(f"mean must be a finite number of clutter points >= 0, got {self.mean}")
        if np.shape(self.lower) != np.shape(self.upper) or not np.all(np.less(self.lower, self.upper)):
            raise ValueError(f"lower must be below upper, got {self.lower} and {self.upper}")
        object.__setattr__(self, "lower", tuple(self.lower))
        object.__setattr__(self, "upper", tuple(self.upper))

    @property
    def volume(self) -> float:
        """Volume of the box, in the product of the units of the measurement."""
        return float(np.prod(np.subtract(self.upper, self.lower)))

    @property
    def intensity(self) -> float:
        """The `clutter_intensity` of a sensor in this clutter, > 0."""
        return max(self.mean, MIN_CLUTTER) / self.volume

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Clutter (m, d_z) of one scan."""
        return rng.uniform(self.lower, self.upper, (rng.poisson(self.mean), len(self.lower)))

    def contains(self, z: np.ndarray) -> np.ndarray:
        """Which measurements (m, d_z) lie in the box, (m,) bool."""
        return np.all((z >= self.lower) & (z <= self.upper), axis=1)

    def check(self, sensor: Sensor) -> None:
        """Raise ValueError unless this is the clutter that the sensor states."""
        if sensor.dim_z != len(self.lower):
            raise ValueError(
                f"the clutter box must have a side per measurement component: "
                f"{sensor.dim_z}, got {len(self.lower)}"
            )
        corners = np.array([self.lower, np.add(self.lower, self.upper) / 2, self.upper])
        stated = sensor.clutter(corners) * self.volume
        if not np.allclose(stated, self.mean, rtol=1e-6, atol=2 * MIN_CLUTTER):
            raise ValueError(
                f"the sensor states {stated[1]:g} clutter points a scan in the clutter box, its mean is "
                f"{self.mean:g}. Build the sensor with clutter_intensity=clutter.intensity."
            )


@dataclass(frozen=True, kw_only=True)
class Process:
    """How objects appear, move, disappear and are measured: the world that `simulate` draws from.

    Args:
        motion:       motion model.
        sensor:       sensor model; its clutter intensity must be that of `clutter`.
        clutter:      clutter of every scan.
        initial:      birth model of the objects at the first scan, its `rate` read as their expected number.
        birth:        birth model of later objects, rates per second; None: no births.
        survival:     survival probability and the region that objects leave for good.
        n_initial:    exact number of objects at the first scan; None: Poisson.
        max_objects:  births that would make more objects than this are left out; None: no limit.
        quiet_scans:  scans without births at the end.
        newborns_die: whether objects may die in the scan in which they appear, before they are measured.
        crop:         whether detections outside the clutter box are lost, as at the edge of a field of view.
        nonempty:     draw the initial number given that it is > 0, and everything again while no object is
                      alive at the last scan or no measurement was made.
    """

    motion: Motion
    sensor: Sensor
    clutter: Clutter
    initial: GaussianBirth | UniformBirth
    birth: GaussianBirth | UniformBirth | None = None
    survival: Survival = field(default_factory=Survival)
    n_initial: int | None = None
    max_objects: int | None = None
    quiet_scans: int = 0
    newborns_die: bool = False
    crop: bool = False
    nonempty: bool = False

    def __post_init__(self):
        _check_birth("initial", self.initial, self.motion)
        if self.birth is not None:
            _check_birth("birth", self.birth, self.motion)
        for name in ("n_initial", "max_objects", "quiet_scans"):
            value = getattr(self, name)
            if value is not None and (int(value) != value or value < 0):
                raise ValueError(f"{name} must be a whole number >= 0, got {value}")
        self.clutter.check(self.sensor)


@dataclass(frozen=True)
class Scene:
    """A drawn truth and what the sensor made of it.

    time:   (T,) s.
    truth:  states of the objects at each scan, NaN where absent.
    scans:  T arrays (m_k, d_z) of measurements.
    origin: T arrays (m_k,) int64, the row of `truth` that caused the measurement, -1 for clutter.
    """

    time: np.ndarray
    truth: Trajectories
    scans: tuple[np.ndarray, ...] = field(repr=False)
    origin: tuple[np.ndarray, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.time)


def simulate(process: Process, time: np.ndarray, rng: np.random.Generator) -> Scene:
    """Draw a truth and its measurements.

    Args:
        process: the world.
        time:    (T,) increasing times of the scans, s.
        rng:     the only source of randomness: same state, same scene.
    Returns:
        A scene. Its truth holds the objects that were there at one scan at least, in order of appearance.
    Raises:
        ValueError: times do not increase, `rng` is not a Generator, or `process.nonempty` asks for what
            practically never happens.
    """
    for _ in range(MAX_REDRAWS):
        truth = draw_truth(process, time, rng)
        scene = observe(truth, process.sensor, process.clutter, rng, crop=process.crop)
        if not process.nonempty or (len(truth.at(-1)) > 0 and any(len(z) > 0 for z in scene.scans)):
            return scene
    raise ValueError(
        f"no scene of {MAX_REDRAWS} had an object at its last scan and a measurement. "
        "Raise the initial rate or the survival probability, or set nonempty=False."
    )


def draw_truth(process: Process, time: np.ndarray, rng: np.random.Generator) -> Trajectories:
    """Draw objects and their paths; arguments and errors as `simulate`, without its redraws."""
    time = _as_times(time)
    _check_generator(rng)
    survival, motion = process.survival, process.motion
    expected = process.initial.expected(time[0], 1.0)
    x = _appear(process, process.initial, expected, _initial_number(process, expected, rng), rng)
    row = np.arange(len(x))
    n_objects = len(x)
    history = [(row, x)]
    for k, dt in enumerate(np.diff(time), start=1):
        x = motion.transition(x, dt) + _gaussian(motion.noise(x, dt), len(x), rng)
        stay = _inside(survival, x)
        x, row = x[stay], row[stay]
        if not process.newborns_die:
            lives = rng.random(len(x)) < survival.lives(x, dt)
            x, row = x[lives], row[lives]
        if process.birth is not None and k < len(time) - process.quiet_scans:
            expected = process.birth.expected(time[k], dt)
            count = _capped(process, len(x), rng.poisson(np.sum(expected)))
            new = _appear(process, process.birth, expected, count, rng)
            x, row = np.concatenate((x, new)), np.append(row, n_objects + np.arange(len(new)))
            n_objects += len(new)
        if process.newborns_die:
            lives = rng.random(len(x)) < survival.lives(x, dt)
            x, row = x[lives], row[lives]
        history.append((row, x))
    states = np.full((n_objects, len(time), motion.dim), np.nan)
    for k, (row, x) in enumerate(history):
        states[row, k] = x
    seen = ~np.isnan(states[..., 0]).all(axis=1)  # a newborn may have died before it was there at a scan
    return Trajectories(time, np.arange(seen.sum()), states[seen])


def scripted_truth(motion: Motion, start, first, last, time: np.ndarray) -> Trajectories:
    """Paths of objects that move without noise.

    Args:
        motion: motion model.
        start:  (n, d) states at the first scan of each object.
        first:  (n,) index of the scan at which it appears.
        last:   (n,) index of its last scan, at most T - 1.
        time:   (T,) increasing times of the scans, s.
    Raises:
        ValueError: times do not increase, or an object ends before it starts or after the last scan.
    """
    time = _as_times(time)
    x, first, last = np.array(start, float), np.asarray(first), np.asarray(last)
    if not np.all((first >= 0) & (first <= last) & (last < len(time))):
        raise ValueError(
            f"scans must satisfy 0 <= first <= last < {len(time)}, got {first.tolist()}, {last.tolist()}"
        )
    states = np.full((len(x), len(time), motion.dim), np.nan)
    for k in range(len(time)):
        moving = (first < k) & (k <= last)
        if moving.any():
            x[moving] = motion.transition(x[moving], time[k] - time[k - 1])
        alive = (first <= k) & (k <= last)
        states[alive, k] = x[alive]
    return Trajectories(time, np.arange(len(x)), states)


def observe(
    truth: Trajectories, sensor: Sensor, clutter: Clutter, rng: np.random.Generator, *, crop: bool = False
) -> Scene:
    """Measure a truth: detections, noise and clutter, in random order within each scan.

    Args:
        truth:   states (n, T, d), NaN where absent.
        sensor:  sensor model; its clutter intensity must be that of `clutter`.
        clutter: clutter of every scan.
        crop:    whether detections outside the clutter box are lost.
    Raises:
        ValueError: the clutter is not what the sensor states, or `rng` is not a Generator.
    """
    clutter.check(sensor)
    _check_generator(rng)
    scans, origin = [], []
    for k in range(len(truth.time)):
        alive = np.flatnonzero(~np.isnan(truth.states[:, k, 0]))
        detected = alive[rng.random(len(alive)) < sensor.detection(truth.states[alive, k])]
        x = truth.states[detected, k]
        z = sensor.measure(x) + _gaussian(sensor.noise(x), len(x), rng)
        z = sensor.residual(z, np.zeros(sensor.dim_z))  # wraps angles
        if crop:
            inside = clutter.contains(z)
            z, detected = z[inside], detected[inside]
        false = clutter.draw(rng)
        order = rng.permutation(len(z) + len(false))
        scans.append(np.concatenate((z, false))[order])
        origin.append(np.append(detected, np.full(len(false), -1))[order])
    return Scene(truth.time, truth, tuple(scans), tuple(origin))


def _initial_number(process, expected, rng):
    if process.n_initial is not None:
        return process.n_initial
    for _ in range(MAX_REDRAWS if process.nonempty else 1):
        count = rng.poisson(np.sum(expected))
        if count > 0:
            break
    return _capped(process, 0, count)


def _capped(process, n, count):
    return count if process.max_objects is None else max(min(count, process.max_objects - n), 0)


def _appear(process, birth, expected, n, rng):
    """States of those of n births that lie in the region; `expected` says how they are shared out."""
    if isinstance(birth, GaussianBirth):
        shares = np.cumsum(expected)
        component = np.searchsorted(shares, shares[-1] * rng.random(n), side="right")
        x = birth.mean[component] + _gaussian(birth.cov[component], n, rng)
    else:
        dims = len(birth.lower)
        position = rng.uniform(birth.lower, birth.upper, (n, dims))
        rest = rng.normal(birth.rest_mean, birth.rest_std, (n, process.motion.dim - dims))
        x = np.concatenate((position, rest), axis=1)
    return x[_inside(process.survival, x)]


def _inside(survival, x):
    inside = np.ones(len(x), bool)
    if survival.bounded:
        position = x[:, : len(survival.lower)]
        inside = ((position >= survival.lower) & (position <= survival.upper)).all(axis=1)
    if callable(survival.probability):
        inside &= np.asarray(survival.probability(x)) > 0
    return inside


def _gaussian(cov, n, rng):
    """Zero-mean draws (n, d); the symmetric root also takes singular covariances, as of piecewise noise."""
    values, vectors = np.linalg.eigh(cov)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]) @ vectors.swapaxes(-1, -2)
    e = rng.standard_normal((n, cov.shape[-1]))
    return e @ root if cov.ndim == 2 else np.einsum("nij,nj->ni", root, e)


def _as_times(time):
    time = np.array(time, float)
    if time.ndim != 1 or len(time) == 0 or not np.isfinite(time).all() or not np.all(np.diff(time) > 0):
        raise ValueError(
            f"time must be one or more finite, increasing times of scans (T,), got {time.tolist()}"
        )
    return time


def _check_birth(name, birth, motion):
    if isinstance(birth, GaussianBirth):
        has, needs, what = birth.mean.shape[1], motion.dim, "state entries"
    elif isinstance(birth, UniformBirth):
        has, needs, what = len(birth.lower), motion.dims, "position coordinates"
    else:
        raise ValueError(f"{name} must be a GaussianBirth or a UniformBirth, got {birth!r}")
    if has != needs:
        raise ValueError(f"{name} must have {needs} {what} to fit the motion model, got {has}")


def _check_generator(rng):
    if not isinstance(rng, np.random.Generator):
        raise ValueError(
            f"rng must be a numpy.random.Generator, got {rng!r}. Use np.random.default_rng(seed)."
        )
