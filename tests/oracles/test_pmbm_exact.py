"""With every approximation off, PMBM is the exact posterior: each weight of each global hypothesis."""

from itertools import product
from math import erf, sqrt

import numpy as np
import pytest
from enumeration import Extended, Linear, World, poisson_posterior

from tracking.filters.estimate import expected_cardinality, local_weights, marginal_existence
from tracking.filters.pmbm import PMBM, PMBMConfig
from tracking.gaussian import moment_match
from tracking.models import (
    ConstantVelocity,
    GaussianBirth,
    Occlusion,
    PositionSensor,
    RangeBearing,
    Survival,
    UniformBirth,
)

EXACT = dict(
    gate=1e12,
    max_hypotheses=100_000,
    min_weight=0.0,
    min_existence=0.0,
    recycle=0.0,
    min_poisson=0.0,
    merge_poisson=0.0,
    max_poisson=100_000,
    estimator="marginal",
    threshold=0.0,
)
SPLITS = (-1.0, 0.0, 1e-13)  # one table for all tracks; none but an exact split; one that forgives rounding
TOLERANCE = dict(rtol=0, atol=1e-9)


def cv(dims, q):
    """Transition and white-acceleration noise of constant velocity, written out."""
    eye = np.eye(dims)
    return (
        lambda dt: np.block([[eye, dt * eye], [0 * eye, eye]]),
        lambda dt: q * np.block([[dt**3 / 3 * eye, dt**2 / 2 * eye], [dt**2 / 2 * eye, dt * eye]]),
    )


def random_births(rng, components, dims):
    """Mixture components that overlap, so that no association is negligible."""
    factor = rng.normal(size=(components, 2 * dims, 2 * dims)) / 2
    cov = factor @ factor.swapaxes(1, 2) + np.eye(2 * dims)
    return rng.uniform(0.05, 0.6, components), 2 * rng.normal(size=(components, 2 * dims)), cov


def assert_exact(world, models, ratios=None, **arguments):
    """PMBM of these models gives the enumerated posterior, however its clusters are split."""
    exact = poisson_posterior(world)
    for split in SPLITS:
        tracker = PMBM(*models, PMBMConfig(split=split, **EXACT), **arguments)
        for k, (z, time) in enumerate(zip(world.z, world.time)):
            tracks = tracker.step(z, time, clutter_ratio=None if ratios is None else ratios[k])
        assert_equal(tracker.density, tracks, world, *exact)


def assert_equal(density, tracks, world, exact, weights):
    """Every local hypothesis, global weight, marginal and Poisson component equals the enumeration."""
    mixture, local = density.mixture, density.local
    counts = [len(z) for z in world.z]
    started = [(k, j) for k, n in enumerate(counts) for j in range(n)]  # by label
    pattern = {}
    for i, label in enumerate(density.label):
        first, j = started[label]
        candidates = {p for p in exact if p[:first] == (None,) * first and p[first] == j}
        for h in range(mixture.local_offset[i], mixture.local_offset[i + 1]):
            near = min(
                candidates, key=lambda p: np.abs(exact[p].m - local.m[h]).max() + abs(exact[p].r - local.r[h])
            )
            np.testing.assert_allclose(local.m[h], exact[near].m, **TOLERANCE)
            np.testing.assert_allclose(local.P[h], exact[near].P, **TOLERANCE)
            assert local.r[h] == pytest.approx(exact[near].r, abs=1e-9)
            last = near[-1]
            assert local.source[h] == (-1 if last is None else last)
            candidates.discard(near)  # two local hypotheses never stand for the same history
            pattern[h] = near

    rows = [list(zip(mixture.weights(k), mixture.table(k))) for k in range(mixture.n_clusters)]
    found = {}
    for choice in product(*rows):
        key = frozenset(pattern[h] for _, row in choice for h in row if h >= 0)
        found[key] = found.get(key, 0.0) + np.prod([w for w, _ in choice])
    assert found.keys() <= weights.keys()
    for key, w in weights.items():
        assert found.get(key, 0.0) == pytest.approx(w, abs=1e-9)

    probability = dict.fromkeys(exact, 0.0)  # of every pattern to be a track whose object exists
    for key, w in weights.items():
        for p in key:
            probability[p] += w * exact[p].r
    found = local_weights(mixture) * local.r
    np.testing.assert_allclose(found, [probability[pattern[h]] for h in range(len(local))], **TOLERANCE)
    existence = np.zeros(len(density.label))
    for i, (k, j) in enumerate(started[label] for label in density.label):
        mine = [p for p in exact if p[:k] == (None,) * k and p[k] == j]
        existence[i] = sum(probability[p] for p in mine)
        if existence[i] > 1e-6:  # below, the quotient says nothing about the ninth digit
            part = slice(mixture.local_offset[i], mixture.local_offset[i + 1])
            moments = moment_match(found[part], local.m[part], local.P[part])
            mean = sum(probability[p] * exact[p].m for p in mine) / existence[i]
            spread = [exact[p].P + np.outer(exact[p].m - mean, exact[p].m - mean) for p in mine]
            cov = sum(probability[p] * P for p, P in zip(mine, spread)) / existence[i]
            np.testing.assert_allclose(moments[0], mean, **TOLERANCE)
            np.testing.assert_allclose(moments[1], cov, **TOLERANCE)
    np.testing.assert_allclose(marginal_existence(density), existence, **TOLERANCE)
    assert tracks.label.tolist() == density.label.tolist()
    np.testing.assert_allclose(tracks.existence, existence, **TOLERANCE)

    last = len(world.z) - 1
    undetected = [c for c in world.undetected(last) if c[0] > 0]
    missed = [w * (1 - world.p_detect(m)) for w, m, _ in undetected]
    poisson, born, d = density.poisson, density.poisson.w > 0, local.m.shape[1]
    np.testing.assert_allclose(poisson.w[born], missed, **TOLERANCE)
    np.testing.assert_allclose(
        poisson.m[born], np.reshape([m for _, m, _ in undetected], (-1, d)), **TOLERANCE
    )
    np.testing.assert_allclose(
        poisson.P[born], np.reshape([P for _, _, P in undetected], (-1, d, d)), **TOLERANCE
    )
    if world.uniform is None:
        assert density.poisson.uniform == 0
    else:
        left = world.unseen_uniform(last) * (1 - world.p_detect(world.uniform[2](None)[0]))
        assert density.poisson.uniform == pytest.approx(left, abs=1e-9)
    total = existence.sum() + sum(missed) + density.poisson.uniform
    assert expected_cardinality(density) == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize(
    ("seed", "counts", "time"),
    [
        (0, (3, 3, 3), (0.0, 1.0, 2.0)),
        (1, (2, 3, 2), (0.0, 0.3, 2.1)),
        (2, (3, 0, 3), (5.0, 5.0, 6.0)),
        (3, (0, 2, 3), (-1.0, 0.0, 4.0)),
        (4, (1, 1, 1, 1), (0.0, 1.0, 1.5, 3.0)),
    ],
)
def test_gaussian_mixture_births_on_a_line(seed, counts, time):
    rng = np.random.default_rng(seed)
    rate, mean, cov = random_births(rng, 2, 1)
    p_detect, p_survive, kappa = rng.uniform(0.5, 0.99), rng.uniform(0.7, 0.99), rng.uniform(0.01, 0.2)
    R = rng.uniform(0.3, 2.0)
    F, Q = cv(1, 0.5)
    steps = [1.0, *np.minimum(np.diff(time), -1 / np.log(p_survive))]  # no births of objects long dead
    z = [3 * rng.normal(size=(n, 1)) for n in counts]
    world = World(
        time,
        z,
        [np.full(n, kappa) for n in counts],
        [[(r * dt, m, P) for r, m, P in zip(rate, mean, cov)] for dt in steps],
        Linear(F, Q, np.eye(1, 2), np.array([[R]])),
        lambda x: p_detect,
        lambda m, P, dt, before: p_survive**dt,
    )
    sensor = PositionSensor(1, std=sqrt(R), p_detect=p_detect, clutter_intensity=kappa)
    birth = GaussianBirth(rate, mean, cov)
    assert_exact(world, (ConstantVelocity(1, q=0.5), sensor, birth, p_survive))


@pytest.mark.parametrize("seed", [0, 1])
def test_everything_depends_on_something(seed):
    """Detection, survival and clutter by place, a border, scores, births over time."""
    rng = np.random.default_rng(seed)
    _, mean, cov = random_births(rng, 2, 2)
    time, counts = (2.0, 2.5, 4.0), (2, 3, 2)
    lower, upper = np.array([-6.0, -5.0]), np.array([7.0, 8.0])
    z = [2 * rng.normal(size=(n, 2)) for n in counts]
    ratios = [rng.uniform(0.1, 10, n) for n in counts]

    def rate(t):
        return np.array([0.3 + 0.1 * t, 0.2])

    def clutter(z):
        return 0.01 + 0.002 * z[:, 0] ** 2

    def inside(m, P):
        std = np.sqrt(np.diag(P)[:2] * 2)
        return np.prod(
            [(erf((u - x) / s) - erf((a - x) / s)) / 2 for a, u, x, s in zip(lower, upper, m, std)]
        )

    F, Q = cv(2, 0.3)
    world = World(
        time,
        z,
        [clutter(a) * b for a, b in zip(z, ratios)],
        [
            [(r * dt, m, P) for r, m, P in zip(rate(t), mean, cov)]
            for t, dt in zip(time, [1.0, *np.diff(time)])
        ],
        Linear(F, Q, np.eye(2, 4), np.diag([0.5, 1.5])),
        lambda x: 0.9 * np.exp(-np.hypot(x[0], x[1]) / 10),
        lambda m, P, dt, before: (
            (0.95 - 0.1 * np.tanh(m[0] / 9) ** 2) ** dt * min(inside(m, P) / inside(*before), 1)
        ),
    )
    sensor = PositionSensor(
        std=np.sqrt([0.5, 1.5]),
        p_detect=lambda x: 0.9 * np.exp(-np.hypot(x[:, 0], x[:, 1]) / 10),
        clutter_intensity=clutter,
    )
    survival = Survival(lambda x: 0.95 - 0.1 * np.tanh(x[:, 0] / 9) ** 2, lower, upper)
    assert_exact(
        world, (ConstantVelocity(2, q=0.3), sensor, GaussianBirth(rate, mean, cov), survival), ratios
    )


def test_objects_before_the_first_scan_and_none_born_later():
    rng = np.random.default_rng(5)
    _, mean, cov = random_births(rng, 1, 1)
    F, Q = cv(1, 1.0)
    time, counts = (0.0, 0.7, 1.9), (3, 3, 3)
    z = [2 * rng.normal(size=(n, 1)) for n in counts]
    world = World(
        time,
        z,
        [np.full(n, 0.03) for n in counts],
        [[(2.5, mean[0], cov[0])], [], []],
        Linear(F, Q, np.eye(1, 2), np.eye(1)),
    )
    sensor = PositionSensor(1, std=1.0, p_detect=0.9, clutter_intensity=0.03)
    never = GaussianBirth(lambda t: 0.0, mean, cov)
    assert_exact(world, (ConstantVelocity(1), sensor, never, 0.99), initial=GaussianBirth(2.5, mean, cov))


@pytest.mark.parametrize("seed", [0, 1])
def test_range_and_bearing_behind_the_sensor(seed):
    """EKF; the scene lies across bearing +-pi."""
    rng = np.random.default_rng(10 + seed)
    rate, mean, cov = random_births(rng, 2, 2)
    mean = mean / 2
    origin = np.array([12.0, 0.5])
    time, counts = (0.0, 0.4, 1.7), (2, 2, 3)

    def h(x):
        dx = x[:2] - origin
        return np.array([np.hypot(*dx), np.arctan2(dx[1], dx[0])])

    def dh(x):
        dx, dy = x[:2] - origin
        r2 = dx**2 + dy**2
        return np.array([[dx, dy, 0, 0] / np.sqrt(r2), np.array([-dy, dx, 0, 0]) / r2])

    z = [np.array([h(rng.normal(size=2) * 1.5) for _ in range(n)]) for n in counts]
    assert len({np.sign(b) for scan in z for _, b in scan}) == 2
    F, Q = cv(2, 0.2)
    R = np.diag([0.4**2, 0.06**2])
    world = World(
        time,
        z,
        [np.full(n, 0.05) for n in counts],
        [[(r * dt, m, P) for r, m, P in zip(rate, mean, cov)] for dt in [1.0, *np.diff(time)]],
        Extended(F, Q, h, dh, R, wraps=(1,)),
    )
    sensor = RangeBearing(std=(0.4, 0.06), origin=tuple(origin), p_detect=0.9, clutter_intensity=0.05)
    assert_exact(world, (ConstantVelocity(2, q=0.2), sensor, GaussianBirth(rate, mean, cov), 0.99))


def test_uniform_births():
    rng = np.random.default_rng(20)
    time, counts = (0.0, 0.5, 2.0), (2, 3, 2)
    z = [rng.uniform(-4, 4, size=(n, 2)) for n in counts]

    def start(z):
        position = np.zeros(2) if z is None else z
        return np.concatenate((position, [0.3, -0.2])), np.diag([0.5, 0.5, 1.2**2, 0.7**2])

    F, Q = cv(2, 0.4)
    world = World(
        time,
        z,
        [np.full(n, 0.02) for n in counts],
        [[], [], []],
        Linear(F, Q, np.eye(2, 4), 0.5 * np.eye(2)),
        lambda x: 0.8 - 0.01 * x[0] + 0.005 * x[1],  # its mean over the box is that at the centre
        lambda m, P, dt, before: 0.9**dt,
        uniform=([0.7, 0.7 * 0.5, 0.7 * 1.5], 400.0, start),
    )
    sensor = PositionSensor(
        std=sqrt(0.5), p_detect=lambda x: 0.8 - 0.01 * x[:, 0] + 0.005 * x[:, 1], clutter_intensity=0.02
    )
    birth = UniformBirth(0.7, (1.2, 0.7), (0.3, -0.2), (-10, -10), (10, 10))
    assert_exact(world, (ConstantVelocity(2, q=0.4), sensor, birth, 0.9))


def test_objects_that_hide():
    rng = np.random.default_rng(30)
    rate, mean, cov = random_births(rng, 1, 1)
    time, counts = (0.0, 0.6, 1.5, 3.5), (2, 2, 1, 1)
    F, Q = cv(1, 0.4)
    world = World(
        time,
        [2 * rng.normal(size=(n, 1)) for n in counts],
        [np.full(n, 0.05) for n in counts],
        [[(rate[0] * dt, mean[0], cov[0])] for dt in [1.0, *np.diff(time)]],
        Linear(F, Q, np.eye(1, 2), np.eye(1)),
        lambda x: 0.95,
        occlusion=(0.3, 0.8),
    )
    sensor = PositionSensor(1, std=1.0, p_detect=0.95, clutter_intensity=0.05)
    models = (ConstantVelocity(1, q=0.4), sensor, GaussianBirth(rate, mean, cov), 0.99)
    assert_exact(world, models, occlusion=Occlusion(0.3, 0.8))


def test_local_weights_are_marginals_of_the_global_ones():
    rng = np.random.default_rng(3)
    rate, mean, cov = random_births(rng, 2, 1)
    sensor = PositionSensor(1, std=1.0, p_detect=0.8, clutter_intensity=0.05)
    tracker = PMBM(
        ConstantVelocity(1), sensor, GaussianBirth(rate, mean, cov), config=PMBMConfig(split=-1.0, **EXACT)
    )
    for k in range(3):
        tracker.step(rng.normal(size=(3, 1)), float(k))
    mixture = tracker.density.mixture
    table, w = mixture.table(0), mixture.weights(0)
    expected = [w[(table == h).any(axis=1)].sum() for h in range(len(tracker.density.local))]
    np.testing.assert_allclose(local_weights(mixture), expected, atol=1e-13)
