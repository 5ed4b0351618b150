"""The door of every filter, what comes in and what comes out; with the checks and the results it uses."""

import numpy as np
import pytest

from tracking.checks import as_covariance, as_measurements, require_positive, require_probability
from tracking.filters.estimate import expected_cardinality
from tracking.filters.glmb import GLMB, GLMBConfig
from tracking.filters.lmb import LMB
from tracking.filters.pmb import PMB
from tracking.filters.pmbm import PMBM, PMBMConfig
from tracking.filters.tracker import Tracker, elapsed
from tracking.gaussian import EKF, UKF
from tracking.models import (
    ConstantVelocity,
    FunctionMotion,
    FunctionSensor,
    GaussianBirth,
    MeasurementBirth,
    PositionSensor,
    RandomWalk,
    RangeBearingDoppler,
    Survival,
    UniformBirth,
)
from tracking.tracks import Tracks, Trajectories

MOTION = ConstantVelocity(2, q=0.1)
SENSOR = PositionSensor(std=1.0, p_detect=0.9, clutter_intensity=1e-3)
BIRTH = GaussianBirth([0.2, 0.1], [[0, 0, 0, 0], [9, 0, 0, 0]], np.diag([50.0, 50.0, 1.0, 1.0]))
BOX = UniformBirth(0.3, rest_std=1.5, lower=(-20, -20), upper=(40, 40))
FILTERS = pytest.mark.parametrize("kind", [PMBM, PMB, GLMB, LMB])


# --- time -----------------------------------------------------------------------------------------


def test_time_elapses():
    assert elapsed(None, 5.0) is None
    assert elapsed(2.0, 5.5) == 3.5
    assert elapsed(2.0, 2.0) == 0.0
    assert elapsed(-3, np.float32(-1)) == 2.0
    assert elapsed(1, np.array(4)) == 3.0


@pytest.mark.parametrize("time", [np.nan, np.inf, -np.inf, [1.0], np.ones((1, 1))])
def test_time_is_one_finite_number(time):
    with pytest.raises(ValueError, match="time must be one finite number of seconds"):
        elapsed(0.0, time)


def test_time_does_not_run_backwards():
    with pytest.raises(ValueError, match=r"backwards: got 1.5 s after 2.0 s\. Sort the scans"):
        elapsed(2.0, 1.5)


@pytest.mark.parametrize("first", [-1e6, 0, 1.7e9, np.float32(3)])
def test_time_may_start_anywhere(first):
    tracker = PMBM(MOTION, SENSOR, BIRTH)
    for k in range(4):
        tracks = tracker.step([[0.0, 0.0]], first + k)
    assert tracks.time == float(first) + 3
    assert isinstance(tracks.time, float)
    assert len(tracks) == 1


# --- measurements ---------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", [None, [], (), np.zeros(0), np.zeros((0, 2))])
def test_empty_scans_come_in_many_forms(empty):
    assert as_measurements(empty, 2).shape == (0, 2)


def test_measurements_become_fresh_floats():
    z = np.array([[1.0, 2.0]])
    got = as_measurements(z, 2)
    got[:] = 9
    assert z.tolist() == [[1.0, 2.0]]
    for form in ([[1, 2]], ((1, 2),), np.array([[1, 2]], np.int8), np.array([[1, 2]], np.float32)):
        assert as_measurements(form, 2).tolist() == [[1.0, 2.0]]
        assert as_measurements(form, 2).dtype == float
    assert as_measurements([1.0, 2.0, 3.0], 1).tolist() == [[1.0], [2.0], [3.0]]
    assert as_measurements(np.zeros((4, 6))[:, ::3], 2).shape == (4, 2)


@pytest.mark.parametrize(
    ("z", "message"),
    [
        ([1.0, 2.0], r"z must have shape \(m, 2\).*got shape \(2,\).*z\[None, :\]"),
        (np.zeros((2, 3)), r"got shape \(2, 3\)"),
        (np.zeros((3, 0)), r"got shape \(3, 0\)"),
        (np.zeros((0, 3)), r"got shape \(0, 3\)"),
        (np.zeros((1, 1, 2)), r"got shape \(1, 1, 2\)"),
        (5.0, r"got shape \(\)"),
        ([[1, 2], [np.nan, 4]], r"finite, got \[nan, 4.0\] in row 1\. Drop such rows"),
        ([[1, -np.inf]], r"in row 0"),
        ([["a", "b"]], "real numbers in rows of one length"),
        ([[1, 2], [3]], "rows of one length"),
        ([["1", "2"]], "real numbers.*array of <U1"),
        (np.array([[1j, 2]]), "real numbers.*complex"),
        (np.array([["2020-01-01", "2020-01-02"]], "datetime64[D]"), "real numbers.*datetime64"),
        (np.ma.masked_array([[1.0, 2.0]], [[True, False]]), "masked"),
        ({}, "real numbers"),
    ],
)
def test_measurements_that_are_none(z, message):
    with pytest.raises(ValueError, match=message):
        as_measurements(z, 2)


# --- other checks ---------------------------------------------------------------------------------


def test_covariances():
    cov = np.diag([1.0, 2.0])
    got = as_covariance(cov, 2)
    got[:] = 0
    assert cov[0, 0] == 1.0
    assert as_covariance([[1, 0], [0, 1]], 2).dtype == float
    assert as_covariance(np.tile(np.eye(3), (4, 1, 1)), 3).shape == (4, 3, 3)
    nearly = np.array([[1e6, 1.0], [1.0 + 1e-7, 1.0]])
    as_covariance(nearly, 2)  # rounding in the caller's arithmetic is not an error
    for bad, message in (
        (np.eye(3), r"P must have shape \(..., 2, 2\), got \(3, 3\)"),
        (np.array([[1.0, 0.5], [0.4, 1.0]]), "P must be finite and symmetric"),
        (np.array([[np.inf, 0.0], [0.0, 1.0]]), "P must be finite and symmetric"),
        (np.diag([1.0, 0.0]), "P must be positive definite, its smallest eigenvalue is 0"),
        (np.array([np.eye(2), -np.eye(2)]), "smallest eigenvalue is -1"),
    ):
        with pytest.raises(ValueError, match=message):
            as_covariance(bad, 2, "P")


def test_numbers():
    require_positive(a=1, b=np.array([1e-9, 5.0]))
    require_probability(a=0, b=1.0, c=np.array([0.0, 0.5, 1.0]), d=[])
    for bad in (0, -1.0, np.nan, np.inf, [1.0, 0.0]):
        with pytest.raises(ValueError, match="gate must be finite and > 0"):
            require_positive(fine=1.0, gate=bad)
    for bad in (-1e-9, 1.1, np.nan):
        with pytest.raises(ValueError, match=f"r must be a probability in .* got {bad}"):
            require_probability(fine=1.0, r=bad)
    with pytest.raises(ValueError, match=r"got 2.0 at index \[1, 0\]"):
        require_probability(r=np.array([[0.0, 1.0], [2.0, 3.0]]))


# --- models ---------------------------------------------------------------------------------------


def test_what_a_tracker_assumes_unless_told():
    tracker = PMBM(MOTION, SENSOR, BIRTH)
    assert tracker.config == PMBMConfig()
    assert tracker.models.survival == Survival(0.99)
    assert tracker.models.linearisation == EKF()
    assert tracker.models.initial is BIRTH
    assert tracker.models.occlusion is None
    assert tracker.time is None
    ukf, initial = UKF(alpha=0.5), GaussianBirth(3.0, np.zeros(4), np.eye(4))
    tracker = PMBM(MOTION, SENSOR, BIRTH, Survival(0.5), initial=initial, linearisation=ukf)
    assert tracker.models.linearisation is ukf
    assert tracker.models.initial is initial
    assert tracker.models.survival == Survival(0.5)


def test_a_tracker_without_a_filter_is_none():
    class Nothing(Tracker):
        Config = PMBMConfig

    tracker = Nothing(MOTION, SENSOR, BIRTH)
    for call in (
        lambda: tracker.start(0.0),
        lambda: tracker.predict(None, 0.0, 1.0),
        lambda: tracker.update(None, None),
        lambda: tracker.extract(None, 0.0),
        lambda: tracker.step([], 0.0),
    ):
        with pytest.raises(TypeError, match="Nothing is not a filter"):
            call()


def expected(tracker):
    """Expected number of objects of a density of any of the four filters."""
    density = tracker.density
    if hasattr(density, "mixture"):
        total = expected_cardinality(density)
    else:
        total = density.tracks.r.sum() + (density.poisson.mass if hasattr(density, "poisson") else 0.0)
    return total + (density.unborn.mass if hasattr(density, "unborn") else 0.0)


BLIND = PositionSensor(std=1.0, p_detect=0.0, clutter_intensity=1e-3)


@FILTERS
@pytest.mark.parametrize("initial", [None, 0.3, "gaussian", "uniform"])
@pytest.mark.parametrize("birth", [BIRTH, BOX])
def test_objects_before_the_first_scan(kind, initial, birth):
    """`rate` of `initial` is a number of objects; `birth` lasts one second there, and rate * dt later."""
    initials = {
        "gaussian": GaussianBirth([0.5, 0.3], np.zeros((2, 4)), np.eye(4)),
        "uniform": UniformBirth(0.8, lower=BOX.lower, upper=BOX.upper),
        0.3: GaussianBirth(0.3, np.zeros(4), np.eye(4)),
        None: None,
    }
    tracker = kind(MOTION, BLIND, birth, 0.9, initial=initials[initial])
    tracker.step([], 100.0)
    number = {None: 0.3, 0.3: 0.3}.get(initial, 0.8)
    assert expected(tracker) == pytest.approx(number, abs=1e-3)
    tracker.step([], 102.0)
    assert expected(tracker) == pytest.approx(number * 0.9**2 + 2 * 0.3, abs=2e-3)


@FILTERS
def test_objects_before_the_first_scan_are_detected(kind):
    """Wherever they come from, and whatever is born later."""
    for birth in (BIRTH, BOX, MeasurementBirth(0.1)):
        for initial in (GaussianBirth(1.0, [9, 0, 0, 0], np.diag([50.0, 50.0, 1.0, 1.0])), BOX):
            tracker = kind(MOTION, SENSOR, birth, initial=initial)
            for k in range(4):
                tracks = tracker.step([[8.0, 1.0]], float(k))
            assert len(tracks) == 1, (birth, initial)


def test_two_boxes_are_one_too_many():
    other = UniformBirth(1.0, lower=(0, 0), upper=(5, 5))
    with pytest.raises(ValueError, match="same box"):
        PMBM(MOTION, SENSOR, BOX, initial=other)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sensor": PositionSensor(3, std=1.0)}, "sensor"),  # would read a velocity as a height
        ({"birth": GaussianBirth(0.1, np.zeros(2), np.eye(2))}, "birth"),
        ({"birth": UniformBirth(0.1, lower=(0, 0, 0), upper=(9, 9, 9))}, "birth"),
        ({"birth": UniformBirth(0.1, lower=(0,), upper=(9,))}, "birth"),
        (
            {"birth": UniformBirth(0.1, rest_std=(1.0, 1.0, 1.0), lower=(0, 0), upper=(9, 9))},
            "birth|rest_std",
        ),
        ({"initial": GaussianBirth(0.1, np.zeros(6), np.eye(6))}, "initial"),
        ({"survival": Survival(0.9, (0, 0, 0), (9, 9, 9))}, "survival"),
    ],
)
def test_models_must_fit_together(changed, message):
    with pytest.raises(ValueError, match=message):
        PMBM(**{"motion": MOTION, "sensor": SENSOR, "birth": BIRTH, **changed})


def test_births_are_counted_by_time():
    """Ten short steps bring as many objects as a long one, but for those that die on the way."""
    for birth in (BIRTH, BOX):
        long, short = (PMBM(MOTION, BLIND, birth, 1.0, PMBMConfig(min_poisson=0.0)) for _ in range(2))
        long.step([], 0.0)
        short.step([], 0.0)
        long.step([], 5.0)
        for k in range(10):
            short.step([], 0.5 * (k + 1))
        assert expected(long) == pytest.approx(0.3 + 5 * 0.3, abs=1e-6)
        assert expected(short) == pytest.approx(0.3 + 5 * 0.3, abs=1e-6)


@FILTERS
@pytest.mark.parametrize("birth", [GaussianBirth(0.05, np.zeros(4), np.eye(4)), UniformBirth(0.05)])
@pytest.mark.parametrize("survival", [0.9, lambda x: np.full(len(x), 0.9)])
@pytest.mark.parametrize("pause", [1e3, 1e9])
def test_a_pause_brings_the_births_that_live_to_see_its_end(kind, birth, survival, pause):
    """Births and deaths balance at rate times lifetime, after a pause however long."""
    tracker = kind(MOTION, BLIND, birth, survival)
    tracker.step([], 0.0)
    tracker.step([], pause)
    assert expected(tracker) == pytest.approx(0.05 / -np.log(0.9), rel=0.01)


# --- step -----------------------------------------------------------------------------------------


@FILTERS
def test_another_sensor_serves_one_scan_only(kind):
    seen = []

    class Watched(PositionSensor):
        def detection(self, x):
            seen.append(self.p_detect)
            return super().detection(x)

    mine, guest = (Watched(std=1.0, p_detect=p, clutter_intensity=1e-3) for p in (0.9, 0.4))
    tracker = kind(MOTION, mine, BIRTH)
    for k, sensor in enumerate((None, guest, None)):
        seen.clear()
        tracker.step([[0.0, 0.0]], float(k), sensor=sensor)
        assert set(seen) == {0.9 if sensor is None else 0.4}


@FILTERS
def test_ratios_multiply_the_clutter_at_each_measurement(kind):
    """Also a clutter intensity that depends on the place."""

    def clutter(z):
        return 1e-3 * (1 + z[:, 0] ** 2)

    ratios = {0.0: 0.2, 3.0: 7.0, 8.0: 1.5}
    z = np.array([[x, 0.0] for x in ratios])
    by_ratio = kind(MOTION, PositionSensor(std=1.0, clutter_intensity=clutter), BIRTH)
    product = PositionSensor(
        std=1.0, clutter_intensity=lambda z: clutter(z) * np.array([ratios[x] for x in z[:, 0]])
    )
    by_place = kind(MOTION, product, BIRTH)
    for k in range(3):
        a = by_ratio.step(z, float(k), clutter_ratio=list(ratios.values()))
        b = by_place.step(z, float(k))
        np.testing.assert_array_equal(a.existence, b.existence)
        np.testing.assert_array_equal(a.mean, b.mean)
    assert len(by_ratio.step([], 3.0, clutter_ratio=[])) <= 3


@FILTERS
@pytest.mark.parametrize("where", ["p_detect", "clutter_intensity", "survival"])
def test_errors_of_user_functions_come_through_and_change_nothing(kind, where):
    class OutOfOrderError(Exception):
        pass

    broken = []

    def function(value):
        def of_state(x):
            if broken:
                raise OutOfOrderError
            return np.full(len(x), value)

        return of_state

    sensor = PositionSensor(
        std=1.0,
        p_detect=function(0.9) if where == "p_detect" else 0.9,
        clutter_intensity=function(1e-3) if where == "clutter_intensity" else 1e-3,
    )
    tracker, twin = (
        kind(MOTION, sensor, BIRTH, function(0.99) if where == "survival" else 0.99) for _ in range(2)
    )
    for k in range(3):
        tracker.step([[0.0, 0.0]], float(k))
        twin.step([[0.0, 0.0]], float(k))
    density = tracker.density
    broken.append(True)
    with pytest.raises(OutOfOrderError):
        tracker.step([[0.0, 0.0]], 3.0)
    assert tracker.density is density
    assert tracker.time == 2.0
    broken.clear()
    np.testing.assert_array_equal(tracker.step([[0.0, 0.0]], 3.0).mean, twin.step([[0.0, 0.0]], 3.0).mean)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (PMBM, PMBMConfig(gibbs_sweeps=30, max_hypotheses=20)),
        (GLMB, GLMBConfig(gibbs_sweeps=30, max_hypotheses=20)),
    ],
)
def test_random_numbers_of_a_failed_call_are_drawn_again(kind, config):
    """The last question to the sensor comes after the Gibbs chain."""
    left = [np.inf]  # calls until the function fails

    def p_detect(x):
        left[0] -= 1
        if left[0] < 0:
            raise ZeroDivisionError
        return np.full(len(x), 0.9)

    sensor = PositionSensor(std=1.0, p_detect=p_detect, clutter_intensity=1e-3)
    tracker, twin = (kind(MOTION, sensor, BIRTH, config=config) for _ in range(2))
    z = [[0.0, 0.0], [3.0, 0.0], [9.0, 0.0]]
    for k in range(3):
        tracker.step(z, float(k))
        left[0] = 1000
        twin.step(z, float(k))
        left[0], calls = np.inf, 1000 - left[0]
    state = tracker.rng.bit_generator.state
    left[0] = calls - 1
    with pytest.raises(ZeroDivisionError):
        tracker.step(z, 3.0)
    left[0] = np.inf
    assert tracker.rng.bit_generator.state == state
    assert tracker.step(z, 3.0).existence.tolist() == twin.step(z, 3.0).existence.tolist()
    assert tracker.rng.bit_generator.state != state


# --- results --------------------------------------------------------------------------------------


def some_tracks(time, label):
    n = len(label)
    mean = np.array([[10.0 * i, time] for i in label]).reshape(n, 2)
    return Tracks(
        time, np.array(label, np.int64), mean, np.tile(np.eye(2), (n, 1, 1)), np.ones(n), np.arange(n)
    )


def test_tracks_can_be_counted_and_taken():
    tracks = some_tracks(1.0, [4, 7, 9])
    assert len(tracks) == 3
    some = tracks.take(np.array([2, 0]))
    assert some.label.tolist() == [9, 4]
    assert some.mean[:, 0].tolist() == [90.0, 40.0]
    assert some.source.tolist() == [2, 0]
    assert some.time == 1.0
    none = Tracks.empty(3.0, 4)
    assert len(none) == 0
    assert none.mean.shape == (0, 4)
    assert none.cov.shape == (0, 4, 4)


def test_trajectories_join_labels():
    joined = Trajectories.from_tracks(
        [some_tracks(0.0, [7]), some_tracks(1.0, [2, 7]), some_tracks(2.0, []), some_tracks(3.0, [2])]
    )
    assert len(joined) == 2
    assert joined.label.tolist() == [2, 7]
    assert joined.time.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert np.isnan(joined.states[:, :, 0]).tolist() == [
        [True, False, True, False],
        [False, False, True, True],
    ]
    assert joined.states[1, 1].tolist() == [70.0, 1.0]
    assert joined.at(1).tolist() == [[20.0, 1.0], [70.0, 1.0]]
    assert joined.at(2).shape == (0, 2)
    assert len(Trajectories.from_tracks([])) == 0


# --- user functions and models that break their promises --------------------------------------------------


def moved(x, dt):
    return x @ MOTION.matrix(dt).T


@FILTERS
@pytest.mark.parametrize(
    ("models", "message"),
    [
        (
            {"motion": FunctionMotion(4, lambda x, dt: np.nan * x, lambda dt: np.eye(4))},
            "transition_fn.*finite",
        ),
        ({"motion": FunctionMotion(4, lambda x, dt: x[:, :3], lambda dt: np.eye(4))}, "transition_fn.*shape"),
        ({"motion": FunctionMotion(4, moved, lambda dt: np.full((4, 4), np.nan))}, "noise_fn.*finite"),
        (
            {"motion": FunctionMotion(4, moved, lambda dt: -0.05 * np.eye(4))},
            "noise_fn must return covariances",
        ),
        ({"sensor": FunctionSensor(2, lambda x: x[:1, :2], std=1.0)}, "measure_fn.*shape"),
        ({"sensor": FunctionSensor(2, lambda x: np.inf * x[:, :2], std=1.0)}, "measure_fn.*finite"),
        (
            {"sensor": PositionSensor(cov=lambda x: np.tile(-np.eye(2), (len(x), 1, 1)))},
            "cov must return covariances",
        ),
        ({"sensor": PositionSensor(cov=lambda x: np.full((len(x), 2, 2), np.nan))}, "finite"),
        ({"sensor": PositionSensor(std=1.0, clutter_intensity=lambda z: np.zeros(len(z)))}, "clutter"),
    ],
)
def test_functions_that_break_their_promise_are_named_and_change_nothing(kind, models, message):
    """What they return would spoil every other density without a word, or crash compiled code."""
    good = {"motion": MOTION, "sensor": PositionSensor(std=1.0, clutter_intensity=1e-3), "birth": BIRTH}
    with np.errstate(all="ignore"):
        tracker = kind(**(good | models))
        with pytest.raises(ValueError, match=message):
            run(tracker, [[0.0, 0.0], [3.0, 1.0]], 3)
    assert tracker.time in (None, 0.0, 1.0)


def run(tracker, z, scans):
    for k in range(scans):
        tracker.step(z, float(k))


@pytest.mark.parametrize(
    ("sensor", "message"),
    [
        (PositionSensor(dims=3, std=0.5), "measures 3 position coordinates"),
        ("radar", "sensor model, got str"),
        (RangeBearingDoppler(std=1.0), "range rate needs a state"),
    ],
)
def test_sensors_that_cannot_measure_the_state_are_refused(sensor, message):
    motion = RandomWalk(2) if isinstance(sensor, RangeBearingDoppler) else MOTION
    birth = GaussianBirth(0.1, np.zeros(motion.dim), np.eye(motion.dim))
    tracker = PMBM(motion, PositionSensor(std=1.0), birth)
    with pytest.raises(ValueError, match=message):
        tracker.step([], 0.0, sensor=sensor)


def test_the_wrong_parts_are_refused_when_a_tracker_is_made():
    with pytest.raises(ValueError, match="config must be a PMBMConfig, got GLMBConfig"):
        PMBM(MOTION, PositionSensor(std=1.0), BIRTH, config=GLMB.Config())
    with pytest.raises(ValueError, match="birth must be"):
        PMBM(MOTION, PositionSensor(std=1.0), "anywhere")
    with pytest.raises(ValueError, match="alpha"):
        UKF(alpha=0.0)
    with pytest.raises(ValueError, match="rest_mean"):
        UniformBirth(0.1, rest_mean=np.nan)
    with pytest.raises(ValueError, match="std"):
        PositionSensor(std=1e160)


@pytest.mark.parametrize("time", [True, 1 + 0j, np.datetime64("2020-01-01"), 10**400, 1e300, "now", {}])
def test_times_that_are_none(time):
    with pytest.raises(ValueError, match="time must be"):
        PMBM(MOTION, PositionSensor(std=1.0), BIRTH).step([], time)
