"""The one door of every filter: check the scan, predict, update, extract, and only then keep the state."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tracking.checks import as_measurements, as_numbers, require_positive
from tracking.gaussian import EKF, Linearisation
from tracking.models.birth import GaussianBirth, MeasurementBirth, UniformBirth
from tracking.models.motion import Motion
from tracking.models.occlusion import Occlusion
from tracking.models.sensor import RangeBearing, RangeBearingDoppler, Sensor
from tracking.models.survival import Survival, as_survival
from tracking.modes import Modes, combined, predict, started
from tracking.tracks import Tracks


class Scan(NamedTuple):
    """Measurements of one sensor at one time: z (m, d_z), clutter intensity at each (m,), and the sensor."""

    z: np.ndarray
    clutter: np.ndarray
    sensor: Sensor


@dataclass(frozen=True)
class Models:
    """What a filter assumes of the world."""

    motion: Motion
    sensor: Sensor
    birth: Any
    survival: Survival
    linearisation: Linearisation
    occlusion: Occlusion | None
    initial: Any  # births before the first scan, `rate` read as expected objects

    def __post_init__(self):
        self._check_sizes()
        boxes = [b for b in (self.birth, self.initial) if isinstance(b, UniformBirth)]
        if len(boxes) == 2 and not all(
            np.array_equal(getattr(boxes[0], side), getattr(boxes[1], side)) for side in ("lower", "upper")
        ):
            raise ValueError(
                "birth and initial must be uniform over the same box, got "
                f"{boxes[0].lower} to {boxes[0].upper} and {boxes[1].lower} to {boxes[1].upper}"
            )

    def _check_sizes(self):
        for name, birth in (("birth", self.birth), ("initial", self.initial)):
            if not isinstance(birth, (GaussianBirth, UniformBirth, MeasurementBirth)):
                raise ValueError(
                    f"{name} must be a GaussianBirth, UniformBirth or MeasurementBirth, got {birth!r}"
                )
        self._check_births()

    def _check_births(self):
        """Raise ValueError where a model is made for another state than the motion model's."""
        dim, dims = self.motion.dim, self.motion.dims
        self.check_sensor(self.sensor)
        for name, birth in (("birth", self.birth), ("initial", self.initial)):
            if isinstance(birth, GaussianBirth) and birth.mean.shape[1] != dim:
                raise ValueError(f"{name} has states of {birth.mean.shape[1]} entries, motion of {dim}")
            if isinstance(birth, UniformBirth) and len(birth.lower) != dims:
                raise ValueError(
                    f"{name} has a box of {len(birth.lower)} dimensions, the position has {dims}"
                )
            rest = np.shape(getattr(birth, "rest_std", 0.0))
            if rest not in ((), (dim - dims,)):
                raise ValueError(
                    f"{name} has {rest[0]} rest_std, the state {dim - dims} entries after the position"
                )
        if self.survival.lower is not None and len(self.survival.lower) > dims:
            raise ValueError(
                f"survival has a region of {len(self.survival.lower)} dimensions, the position has {dims}"
            )

    def check_sensor(self, sensor):
        """Raise ValueError unless a sensor can measure the states of the motion model."""
        missing = [name for name in ("dim_z", "measure", "detection", "clutter") if not hasattr(sensor, name)]
        if missing:
            raise ValueError(
                f"sensor must be a sensor model, got {type(sensor).__name__} without {', '.join(missing)}"
            )
        dim, dims = self.motion.dim, self.motion.dims
        measured = getattr(sensor, "dims", dims)
        if measured > dims:
            raise ValueError(f"sensor measures {measured} position coordinates, the state has {dims}")
        if isinstance(sensor, RangeBearing) and dims < 2:
            raise ValueError(
                f"a range and bearing need a position in the plane, the state has {dims} coordinate"
            )
        if isinstance(sensor, RangeBearingDoppler) and (dims != 2 or dim < 4):
            raise ValueError(
                "a range rate needs a state (px, py, vx, vy, ...), "
                f"the motion model has {dims} position coordinates of {dim} entries"
            )

    def predict(self, m, P, modes: Modes | None, dt: float):
        """Moments (n, d), (n, d, d) after `dt` seconds, and those under each model of an `IMM`."""
        if modes is None:
            return *self.linearisation.predict(m, P, self.motion, dt), None
        modes = predict(modes, self.motion, self.linearisation, dt)  # type: ignore[arg-type]
        return *combined(modes), modes

    def modes(self, m, P) -> Modes | None:
        """Objects that appear with moments (n, d), (n, d, d), under each model of an `IMM`."""
        return started(m, P, self.motion)

    @property
    def no_modes(self) -> Modes | None:
        """Those of no objects."""
        d = self.motion.dim
        return self.modes(np.zeros((0, d)), np.zeros((0, d, d)))

    def birth_time(self, dt: float) -> float:
        """Seconds of births that count in a step: of a pause beyond the mean lifetime most are gone again."""
        birth, dim = self.birth, self.motion.dim
        if isinstance(birth, UniformBirth):
            born = birth.grid(dim)
        else:
            born = birth.mean if isinstance(birth, GaussianBirth) else np.zeros((0, dim))
        return min(dt, self.survival.lifetime(born))

    @property
    def box(self) -> UniformBirth | None:
        """The birth model whose box the uniform share of undetected objects lies in, if there is one."""
        return next((b for b in (self.birth, self.initial) if isinstance(b, UniformBirth)), None)


@dataclass(frozen=True)
class Snapshot:
    """All that a filter is at one time. Densities are never written to, so it costs no memory to take one.

    density: of the filter, None before the first scan; time: of the last scan, s, or None;
    random:  state of the random numbers.
    """

    density: Any
    time: float | None
    random: dict[str, Any]


class Tracker:
    """A filter over time. Children name their density's pure functions; nothing else differs.

    Args:
        motion:        motion model.
        sensor:        sensor model, the default of `step`.
        birth:         birth model.
        survival:      `Survival`, or the probability to survive one second, or a function of the states.
        config:        settings of the filter.
        initial:       birth model of the objects present at the first scan, its `rate` read as their
                       expected number; None: `birth` over one second.
        occlusion:     `Occlusion` when misses come in runs; None: misses are independent.
        linearisation: `EKF()`, `UKF()` or `CKF()`; with linear models all are the Kalman filter.
        seed:          of the random numbers that the filter draws, if it draws any.
    """

    Config: type

    def __init__(
        self,
        motion,
        sensor,
        birth,
        survival=0.99,
        config=None,
        *,
        initial=None,
        occlusion=None,
        linearisation=None,
        seed=0,
    ):
        self.models = Models(
            motion,
            sensor,
            birth,
            as_survival(survival),
            linearisation or EKF(),
            occlusion,
            birth if initial is None else initial,
        )
        self.config = self.Config() if config is None else config
        if not isinstance(self.config, self.Config):
            raise ValueError(f"config must be a {self.Config.__name__}, got {type(config).__name__}")
        self.time: float | None = None
        self.rng = np.random.default_rng(seed)
        self.density: Any = None

    def start(self, time: float):
        """The density just before the first scan."""
        raise TypeError(f"{type(self).__name__} is not a filter: it has no start()")

    def predict(self, density, time: float, dt: float):
        """The density at `time`, `dt` seconds later."""
        raise TypeError(f"{type(self).__name__} is not a filter: it has no predict()")

    def update(self, density, scan: Scan):
        """The density given a scan."""
        raise TypeError(f"{type(self).__name__} is not a filter: it has no update()")

    def extract(self, density, time: float) -> Tracks:
        """The estimate that a density stands for."""
        raise TypeError(f"{type(self).__name__} is not a filter: it has no extract()")

    def step(self, z, time: float, *, sensor: Sensor | None = None, clutter_ratio=None) -> Tracks:
        """Take in one scan.

        Args:
            z:             (m, d_z) measurements in any order; an empty scan may be [] or None.
            time:          of the scan, s; never before the last one.
            sensor:        that made the scan; None: the tracker's own.
            clutter_ratio: (m,) per measurement, how much likelier clutter makes a detection with this score
                           than an object does, p(score | clutter) / p(score | object); > 0. It multiplies
                           the clutter intensity.
        Returns:
            Estimated objects after the scan.
        Raises:
            ValueError: bad shape or value, or a time before the last one; the tracker is then unchanged.
        """
        if sensor is None:
            sensor = self.models.sensor
        else:
            self.models.check_sensor(sensor)
        z = as_measurements(z, sensor.dim_z)
        dt = elapsed(self.time, time)
        clutter = sensor.clutter(z) * _as_ratio(clutter_ratio, len(z))
        require_positive(**{"clutter intensity times clutter_ratio": clutter})
        scan = Scan(z, clutter, sensor)
        state = self.rng.bit_generator.state
        try:
            density = self.start(time) if dt is None else self.predict(self.density, time, dt)
            density = self.update(density, scan)
            tracks = self.extract(density, float(time))
        except BaseException:
            self.rng.bit_generator.state = state
            raise
        self.density, self.time = density, float(time)
        return tracks

    def snapshot(self) -> Snapshot:
        """What the filter is now, to `rewind` to."""
        return Snapshot(self.density, self.time, self.rng.bit_generator.state)

    def rewind(self, snapshot: Snapshot) -> None:
        """Become what a filter of this kind was when it took a snapshot.

        Raises:
            ValueError: the random numbers were of another generator.
        """
        self.rng.bit_generator.state = snapshot.random
        self.density, self.time = snapshot.density, snapshot.time

    def save(self, path) -> None:
        """Write the whole state to a file, from which `load` or `restore` go on bit for bit.

        Args:
            path: of the file; it is replaced at once or not at all.
        Raises:
            ValueError: the random numbers are not those of a whole number as seed.
        """
        from tracking.checkpoint import save  # which knows all filters

        save(self, path)

    def restore(self, path) -> None:
        """Go on from a file that `save` wrote, with the models and settings of this tracker.

        Raises:
            ValueError: it is no whole state of such a filter, or of states of another size; the tracker is
                        then unchanged.
            OSError:    the file is missing or cannot be read.
        """
        from tracking.checkpoint import restore

        restore(self, path)

    @classmethod
    def load(cls, path, **given):
        """A new tracker that goes on from a file that `save` wrote.

        Args:
            path:  of the file; one from a stranger can neither run code nor take more memory than its size.
            given: models by their names above, or `config`, in place of those in the file; what holds
                   functions must be given, no file has it.
        Raises:
            ValueError: it is no whole state of such a filter, or a model is missing.
            OSError:    the file is missing or cannot be read.
        """
        from tracking.checkpoint import load

        return load(cls, path, given)


def elapsed(last: float | None, time: float) -> float | None:
    """Seconds since the last scan, None at the first."""
    if (
        isinstance(time, bool)
        or not isinstance(time, (int, float, np.number, np.ndarray))
        or not _is_time(time)
    ):
        raise ValueError(f"time must be one finite number of seconds, got {time!r}")
    if last is not None and time < last:
        raise ValueError(
            f"time must not run backwards: got {time} s after {last} s. Sort the scans by time, "
            "or start a new tracker for a new recording."
        )
    return None if last is None else float(time) - last


MAX_TIME = 1e100  # s, either way: nothing overflows before


def _is_time(time) -> bool:
    real = np.ndim(time) == 0 and np.isrealobj(time) and not isinstance(time, np.datetime64)
    return real and abs(time) <= MAX_TIME


def _as_ratio(ratio, m: int) -> np.ndarray:
    if ratio is None:
        return np.ones(m)
    ratio = as_numbers("clutter_ratio", ratio)
    if ratio.shape != (m,):
        raise ValueError(
            f"clutter_ratio must have one entry per measurement, ({m},), got shape {ratio.shape}"
        )
    require_positive(clutter_ratio=ratio)
    return ratio
