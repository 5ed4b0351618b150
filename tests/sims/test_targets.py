"""The simulator draws what the models say, in the order that it documents."""

import copy
import time as clock
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sims.targets import Clutter, Process, draw_truth, observe, scripted_truth, simulate
from tracking.models import (
    ConstantVelocity,
    CoordinatedTurn,
    GaussianBirth,
    MeasurementBirth,
    PositionSensor,
    RangeBearing,
    Survival,
    UniformBirth,
)

LOWER, UPPER = (0.0, 0.0), (100.0, 100.0)


def process(*, n_clutter=5.0, sensor=None, **settings):
    """A small world; every part of it can be replaced."""
    clutter = settings.pop("clutter", Clutter(n_clutter, LOWER, UPPER))
    defaults = {
        "motion": ConstantVelocity(dims=2, q=0.1),
        "sensor": sensor or PositionSensor(std=1.0, p_detect=0.8, clutter_intensity=clutter.intensity),
        "clutter": clutter,
        "initial": UniformBirth(10.0, 2.0, 0.0, LOWER, UPPER),
        "birth": UniformBirth(1.0, 2.0, 0.0, LOWER, UPPER),
        "survival": Survival(0.95, LOWER, UPPER),
    }
    return Process(**{**defaults, **settings})


def alive(truth):
    return ~np.isnan(truth.states[..., 0])


def forever(**settings):
    """A world in which nothing dies, leaves or is born."""
    return process(**{"birth": None, "survival": Survival(1.0), **settings})


def same(a, b):
    return (
        np.array_equal(a.truth.states, b.truth.states, equal_nan=True)
        and all(np.array_equal(x, y) for x, y in zip(a.scans, b.scans, strict=True))
        and all(np.array_equal(x, y) for x, y in zip(a.origin, b.origin, strict=True))
    )


# ---------------------------------------------------------------- oracle: what the models say


def test_motion_noise_has_the_covariance_of_the_model():
    for motion in (
        ConstantVelocity(dims=2, q=0.7),
        ConstantVelocity(dims=2, q=0.7, noise_model="piecewise"),  # singular covariance
    ):
        world = forever(motion=motion, n_initial=20000)
        x = draw_truth(world, [0.0, 0.5], np.random.default_rng(0)).states
        e = x[:, 1] - motion.transition(x[:, 0], 0.5)
        Q = motion.noise(x[:, 0], 0.5)
        scale = np.sqrt(np.outer(np.diag(Q), np.diag(Q)))
        np.testing.assert_allclose(np.cov(e.T) / scale, Q / scale, atol=0.03)
        np.testing.assert_allclose(e.mean(0) / np.sqrt(np.diag(Q)), 0, atol=0.03)


def test_no_process_noise_is_the_transition_itself():
    motion = ConstantVelocity(dims=2, q=0.0)
    x = draw_truth(forever(motion=motion), [0.0, 0.3, 2.0], np.random.default_rng(0)).states
    np.testing.assert_allclose(x[:, 2], x[:, 0] + 2.0 * np.pad(x[:, 0, 2:], ((0, 0), (0, 2))), atol=1e-12)


def test_gaussian_births_have_the_moments_of_the_mixture():
    mean = np.array([[10.0, 20.0, 1.0, 0.0], [70.0, 60.0, 0.0, -2.0]])
    cov = np.array([np.diag([4.0, 1.0, 0.5, 0.5]), np.eye(4) + 0.5])
    world = forever(initial=GaussianBirth((1.0, 3.0), mean, cov), n_initial=40000)
    x = draw_truth(world, [0.0], np.random.default_rng(0)).states[:, 0]
    second = x[:, 0] > 40
    assert abs(second.mean() - 0.75) < 0.01
    for part, m, P in zip((x[~second], x[second]), mean, cov, strict=True):
        np.testing.assert_allclose(part.mean(0), m, atol=0.1)
        np.testing.assert_allclose(np.cov(part.T), P, atol=0.15)


def test_uniform_births_are_uniform_in_position_and_normal_in_the_rest():
    initial = UniformBirth(1.0, (2.0, 3.0), (1.0, -1.0), (0.0, 50.0), (10.0, 100.0))
    x = draw_truth(forever(initial=initial, n_initial=4000), [0.0], np.random.default_rng(0)).states[:, 0]
    assert stats.kstest(x[:, 0], stats.uniform(0, 10).cdf).pvalue > 1e-3
    assert stats.kstest(x[:, 1], stats.uniform(50, 50).cdf).pvalue > 1e-3
    assert stats.kstest(x[:, 2], stats.norm(1, 2).cdf).pvalue > 1e-3
    assert stats.kstest(x[:, 3], stats.norm(-1, 3).cdf).pvalue > 1e-3


def test_rates_and_survival_are_per_second_whatever_the_step():
    time = np.array([0.0, 0.1, 1.1, 3.6])
    world = process(
        survival=Survival(0.8), n_initial=20000, birth=UniformBirth(2000.0, 2.0, 0.0, LOWER, UPPER)
    )
    here = alive(draw_truth(world, time, np.random.default_rng(0)))
    first = here[:20000].mean(axis=0)
    np.testing.assert_allclose(first, 0.8**time, atol=4 * 0.5 / np.sqrt(20000))
    born = np.bincount(here.argmax(axis=1)[20000:], minlength=4)[1:]
    expected = 2000 * np.diff(time)
    assert np.all(np.abs(born - expected) < 4 * np.sqrt(expected))


def test_birth_rates_may_change_over_time_and_share():
    def rate(time):
        return np.array([100.0, 300.0]) if time < 1.5 else np.array([0.0, 0.0])

    birth = GaussianBirth(rate, np.array([[10.0, 10, 0, 0], [90.0, 90, 0, 0]]), np.eye(4))
    truth = draw_truth(forever(birth=birth, n_initial=0), [0.0, 0.5, 1.0, 3.0], np.random.default_rng(0))
    born = alive(truth).argmax(axis=1)
    assert abs(np.sum(born == 1) - 200) < 57
    assert abs(np.sum(born == 2) - 200) < 57
    assert np.sum(born == 3) == 0
    assert abs((truth.states[:, -1, 0] > 50).mean() - 0.75) < 0.1


def test_survival_may_depend_on_the_state():
    survival = Survival(lambda x: np.where(x[:, 0] < 50, 0.5, 1.0))
    world = process(
        motion=ConstantVelocity(q=0.0),
        survival=survival,
        birth=None,
        n_initial=20000,
        initial=UniformBirth(1.0, 1e-6, 0.0, LOWER, UPPER),
    )
    truth = draw_truth(world, [0.0, 1.0], np.random.default_rng(0))
    left = truth.states[:, 0, 0] < 50
    lived = alive(truth)[:, 1]
    assert lived[~left].all()
    assert abs(lived[left].mean() - 0.5) < 0.02


def test_newborns_die_only_when_asked():
    births = UniformBirth(2000.0, 2.0, 0.0, LOWER, UPPER)
    counts = {}
    for newborns_die in (False, True):
        world = process(
            survival=Survival(0.6), n_initial=0, birth=births, newborns_die=newborns_die, quiet_scans=0
        )
        counts[newborns_die] = len(draw_truth(world, [0.0, 1.0], np.random.default_rng(0)).at(1))
    assert abs(counts[False] - 2000) < 4 * np.sqrt(2000)
    assert abs(counts[True] - 1200) < 4 * np.sqrt(1200)


def test_detection_rate_and_measurement_noise_follow_the_state():
    def p_detect(x):
        return np.where(x[:, 0] < 50, 0.9, 0.4)

    def cov(x):
        return (1 + (x[:, 0] > 50))[:, None, None] * np.array([[1.0, 0.6], [0.6, 2.0]])

    sensor = PositionSensor(cov=cov, p_detect=p_detect, clutter_intensity=5e-4)
    scene = simulate(forever(sensor=sensor, n_initial=20000), [0.0], np.random.default_rng(0))
    origin, z = scene.origin[0], scene.scans[0]
    true = origin >= 0
    x = scene.truth.states[:, 0]
    e = z[true] - x[origin[true], :2]
    for side, p, scale in ((x[:, 0] < 50, 0.9, 1.0), (x[:, 0] >= 50, 0.4, 2.0)):
        assert abs(np.isin(np.flatnonzero(side), origin).mean() - p) < 0.02
        np.testing.assert_allclose(
            np.cov(e[side[origin[true]]].T), scale * np.array([[1.0, 0.6], [0.6, 2.0]]), atol=0.15
        )


def test_clutter_is_poisson_and_uniform_and_anywhere_in_the_scan():
    scene = simulate(
        forever(
            n_clutter=7.0, n_initial=7, sensor=PositionSensor(std=1.0, p_detect=1.0, clutter_intensity=7e-4)
        ),
        np.arange(2000.0),
        np.random.default_rng(0),
    )
    count = np.array([(o == -1).sum() for o in scene.origin])
    assert abs(count.mean() - 7) < 4 * np.sqrt(7 / 2000)
    assert abs(count.var() / 7 - 1) < 0.15
    false = np.concatenate([z[o == -1] for z, o in zip(scene.scans, scene.origin, strict=True)])
    for i in range(2):
        assert stats.kstest(false[:, i], stats.uniform(0, 100).cdf).pvalue > 1e-3
    rank = np.concatenate([(np.flatnonzero(o == -1) + 0.5) / len(o) for o in scene.origin])
    assert abs(rank.mean() - 0.5) < 0.02
    assert all((np.bincount(o[o >= 0], minlength=7) == 1).all() for o in scene.origin)  # p_D = 1


def test_scripted_paths_are_the_closed_form():
    time = np.array([0.0, 1.0, 3.0, 3.5])
    start = np.array([[0.0, 0.0, 1.0, 2.0], [5.0, 5.0, -1.0, 0.0]])
    truth = scripted_truth(ConstantVelocity(), start, [0, 1], [3, 2], time)
    np.testing.assert_allclose(truth.states[0, :, 0], time)
    np.testing.assert_allclose(truth.states[0, :, 1], 2 * time)
    np.testing.assert_allclose(truth.states[1, 1:3, 0], [5.0, 3.0])
    assert np.isnan(truth.states[1, [0, 3]]).all()
    np.testing.assert_array_equal(start[1], [5.0, 5.0, -1.0, 0.0])


# ---------------------------------------------------------------- property


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_initial=st.integers(0, 8) | st.none(),
    birth=st.booleans(),
    newborns_die=st.booleans(),
    crop=st.booleans(),
    turn=st.booleans(),
    n_clutter=st.sampled_from([0.0, 0.5, 10.0]),
    steps=st.lists(st.floats(0.01, 5.0), max_size=8),
)
def test_any_scene_is_well_formed(seed, n_initial, birth, newborns_die, crop, turn, n_clutter, steps):
    world = process(n_clutter=n_clutter, n_initial=n_initial, newborns_die=newborns_die, crop=crop)
    world = replace(world, motion=CoordinatedTurn() if turn else world.motion)
    world = world if birth else replace(world, birth=None)
    time = np.cumsum([0.0, *steps])
    scene = simulate(world, time, np.random.default_rng(seed))
    n, d = len(scene.truth), world.motion.dim
    assert len(scene) == len(scene.scans) == len(scene.origin) == len(time)
    assert scene.truth.states.shape == (n, len(time), d)
    here = alive(scene.truth)
    assert (np.isnan(scene.truth.states).any(axis=2) == ~here).all()  # a state is there as a whole or not
    assert here.any(axis=1).all()
    assert (np.abs(np.diff(np.pad(here, ((0, 0), (1, 1))).astype(int), axis=1)).sum(axis=1) == 2).all()
    assert (np.diff(here.argmax(axis=1)) >= 0).all()  # in order of appearance, gone for good
    position = scene.truth.states[here][:, :2]
    assert ((position >= LOWER) & (position <= UPPER)).all()
    for k, (z, origin) in enumerate(zip(scene.scans, scene.origin, strict=True)):
        assert z.shape == (len(origin), 2)
        assert np.isfinite(z).all()
        assert origin.dtype == np.int64
        true = origin[origin >= 0]
        assert len(np.unique(true)) == len(true)
        assert here[true, k].all()
        assert (np.abs(z[origin >= 0] - scene.truth.states[true, k, :2]) < 7).all()
        inside = ((z >= LOWER) & (z <= UPPER)).all(axis=1)
        assert inside[origin == -1].all()
        assert inside.all() or not crop


def test_same_seed_same_scene():
    world = process()
    time = np.arange(20.0)
    first, again, other = (simulate(world, time, np.random.default_rng(s)) for s in (3, 3, 4))
    assert same(first, again)
    assert not same(first, other)


def test_inputs_are_not_mutated():
    mean, cov = np.array([[50.0, 50.0, 0.0, 0.0]]), np.eye(4)
    world = process(initial=GaussianBirth(5.0, mean, cov), birth=GaussianBirth(1.0, mean, cov))
    time = np.arange(10.0)
    before = copy.deepcopy((world.initial.mean, world.initial.cov, world.birth.rate, time))
    scene = simulate(world, time, np.random.default_rng(0))
    for was, now in zip(before, (world.initial.mean, world.initial.cov, world.birth.rate, time), strict=True):
        np.testing.assert_array_equal(was, now)
    states = scene.truth.states.copy()
    observe(scene.truth, world.sensor, world.clutter, np.random.default_rng(1))
    np.testing.assert_array_equal(states, scene.truth.states)
    time += 1
    assert scene.time[0] == 0.0


# ---------------------------------------------------------------- edge


def test_nobody_there():
    world = process(n_clutter=0.0, n_initial=0, birth=None)
    scene = simulate(world, [0.0, 1.0], np.random.default_rng(0))
    assert scene.truth.states.shape == (0, 2, 4)
    assert all(z.shape == (0, 2) and o.shape == (0,) for z, o in zip(scene.scans, scene.origin, strict=True))


def test_angles_are_wrapped_and_cropping_loses_detections_at_the_edge():
    clutter = Clutter(1.0, (0.0, -np.pi), (50.0, np.pi))
    sensor = RangeBearing(std=(1.0, 0.3), p_detect=1.0, clutter_intensity=clutter.intensity)
    motion = ConstantVelocity(q=0.0)
    truth = scripted_truth(
        motion, [[-30.0, 0.0, 0.0, 0.0], [50.0, 0.0, 0.0, 0.0]], [0, 0], [999, 999], np.arange(1000.0)
    )
    scene = observe(truth, sensor, clutter, np.random.default_rng(0))
    bearing = np.concatenate([z[o == 0, 1] for z, o in zip(scene.scans, scene.origin, strict=True)])
    assert np.all((bearing > -np.pi) & (bearing <= np.pi))
    assert abs((bearing > 0).mean() - 0.5) < 0.07
    cropped = observe(truth, sensor, clutter, np.random.default_rng(0), crop=True)
    kept = np.array([[np.sum(o == i) for i in range(2)] for o in cropped.origin]).mean(axis=0)
    assert kept[0] == 1.0
    assert abs(kept[1] - 0.5) < 0.07


def test_births_respect_the_cap_and_the_quiet_end():
    world = process(
        birth=UniformBirth(20.0, 2.0, 0.0, LOWER, UPPER), max_objects=16, quiet_scans=2, nonempty=True
    )
    for seed in range(20):
        here = alive(draw_truth(world, np.arange(6.0), np.random.default_rng(seed)))
        assert here.sum(axis=0).max() == 16
        assert here.argmax(axis=1).max() <= 3


def test_nonempty_scenes_have_an_object_at_the_end():
    world = process(
        initial=UniformBirth(0.5, 2.0, 0.0, LOWER, UPPER), birth=None, survival=Survival(0.5), nonempty=True
    )
    for seed in range(50):
        scene = simulate(world, np.arange(3.0), np.random.default_rng(seed))
        assert len(scene.truth.at(-1)) > 0
        assert sum(len(z) for z in scene.scans) > 0
    with pytest.raises(ValueError, match="nonempty=False"):
        simulate(replace(world, survival=Survival(0.0)), [0.0, 1.0], np.random.default_rng(0))


def test_births_outside_the_region_do_not_count():
    initial = GaussianBirth(1.0, [[0.0, 50.0, 0.0, 0.0]], np.eye(4))  # half of it outside
    truth = draw_truth(process(initial=initial, n_initial=4000, birth=None), [0.0], np.random.default_rng(0))
    assert abs(len(truth) - 2000) < 130
    assert (truth.states[:, 0, 0] >= 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_clutter": 6.0, "sensor": PositionSensor(std=1.0, clutter_intensity=5e-4)}, "clutter_intensity"),
        (
            {"clutter": Clutter(5.0, (0.0,), (1.0,)), "sensor": PositionSensor(std=1.0)},
            "side per measurement",
        ),
        ({"initial": MeasurementBirth(1.0)}, "initial must be a GaussianBirth or a UniformBirth"),
        ({"birth": 3.0}, "birth must be"),
        ({"initial": GaussianBirth(1.0, [[0.0, 0.0]], np.eye(2))}, "4 state entries"),
        ({"birth": UniformBirth(1.0, 1.0, 0.0, (0.0,), (1.0,))}, "2 position coordinates"),
        ({"n_initial": -1}, "n_initial"),
        ({"max_objects": 1.5}, "max_objects"),
        ({"quiet_scans": -2}, "quiet_scans"),
    ],
)
def test_a_world_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        process(**change)


def test_bad_times_generators_and_boxes_are_refused():
    for time in ([], [[0.0]], [0.0, 0.0], [1.0, 0.0], [0.0, np.nan]):
        with pytest.raises(ValueError, match="increasing"):
            simulate(process(), time, np.random.default_rng(0))
    with pytest.raises(ValueError, match="default_rng"):
        simulate(process(), [0.0], 3)
    with pytest.raises(ValueError, match="below"):
        Clutter(1.0, (0.0, 1.0), (1.0, 1.0))
    with pytest.raises(ValueError, match=">= 0"):
        Clutter(-1.0, (0.0,), (1.0,))
    with pytest.raises(ValueError, match="first <= last"):
        scripted_truth(ConstantVelocity(), np.zeros((1, 4)), [1], [5], np.arange(3.0))


# ---------------------------------------------------------------- behaviour


def test_ten_thousand_objects_take_seconds():
    lower, upper = (0.0, 0.0), (63000.0, 63000.0)
    clutter = Clutter(5000.0, lower, upper)
    world = process(
        clutter=clutter,
        sensor=PositionSensor(std=5.0, clutter_intensity=clutter.intensity),
        initial=UniformBirth(1e4, 5.0, 0.0, lower, upper),
        birth=UniformBirth(100.0, 5.0, 0.0, lower, upper),
        survival=Survival(0.99, lower, upper),
    )
    start = clock.process_time()
    scene = simulate(world, np.arange(50.0), np.random.default_rng(0))
    assert clock.process_time() - start < 5.0  # 0.3 s on a slow core
    assert len(scene.truth) > 12000
