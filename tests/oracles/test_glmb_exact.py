"""With every approximation off, delta-GLMB is the exact labelled posterior, hypothesis by hypothesis."""

from itertools import product
from math import sqrt

import numpy as np
import pytest
from enumeration import Extended, Linear, World, labelled_posterior

from tracking.filters.estimate import marginal_existence
from tracking.filters.glmb import GLMB, GLMBConfig
from tracking.filters.lmb import LMB, LMBConfig
from tracking.models import ConstantVelocity, GaussianBirth, Occlusion, PositionSensor, RangeBearing

EXACT = dict(gate=1e12, max_hypotheses=50_000, min_weight=0.0, min_existence=0.0)
SPLITS = (-1.0, 0.0, 1e-13)  # one table for all labels; none but an exact split; one that forgives rounding
TOLERANCE = dict(rtol=0, atol=1e-9)


def cv(dims, q):
    """Transition of constant velocity, and the noise of an acceleration held over the step."""
    eye = np.eye(dims)

    def noise(dt):
        G = np.concatenate((dt**2 / 2 * eye, dt * eye))
        return q * G @ G.T

    return lambda dt: np.block([[eye, dt * eye], [0 * eye, eye]]), noise


def line(seed, counts, time, births=1, initial=2):
    """A crowded scene on a line, and its models: world, motion, sensor, birth, initial, survival."""
    rng = np.random.default_rng(seed)
    n = max(births, initial)
    factor = rng.normal(size=(n, 2, 2)) / 2
    cov = factor @ factor.swapaxes(1, 2) + np.eye(2)
    mean, rate = 2 * rng.normal(size=(n, 2)), rng.uniform(0.1, 0.6, n)
    p_detect, p_survive = rng.uniform(0.5, 0.95), rng.uniform(0.7, 0.98)
    R, kappa = rng.uniform(0.3, 2.0), rng.uniform(0.02, 0.2)
    ratios = [rng.uniform(0.2, 5, m) for m in counts]
    components = list(zip(rate, mean, cov))
    steps = np.minimum(np.diff(time), -1 / np.log(p_survive))  # no births of objects long dead
    F, Q = cv(1, 0.5)
    world = World(
        time,
        [3 * rng.normal(size=(m, 1)) for m in counts],
        [kappa * r for r in ratios],
        [components[:initial]]
        + [[(min(r * dt, 0.99), m, P) for r, m, P in components[:births]] for dt in steps],
        Linear(F, Q, np.eye(1, 2), np.array([[R]])),
        lambda x: p_detect * np.exp(-abs(x[0]) / 30),
        lambda m, P, dt, before: p_survive**dt,
    )
    sensor = PositionSensor(
        1, std=sqrt(R), p_detect=lambda x: p_detect * np.exp(-np.abs(x[:, 0]) / 30), clutter_intensity=kappa
    )
    birth, first = (GaussianBirth(rate[:b], mean[:b], cov[:b]) for b in (births, initial))
    return (
        world,
        ratios,
        (ConstantVelocity(1, q=0.5, noise_model="piecewise"), sensor, birth, p_survive, first),
    )


def run(tracker, world, ratios):
    for z, time, ratio in zip(world.z, world.time, ratios):
        tracks = tracker.step(z, time, clutter_ratio=ratio)
    return tracks


def assert_exact(tracker, states, weights):
    """Every density, hypothesis weight and existence probability equals the enumeration."""
    density = tracker.density
    mixture, local = density.mixture, density.local
    history = {}
    for i, label in enumerate(density.label):
        candidates = [key for key in states if key[0] == label]
        for h in range(mixture.local_offset[i], mixture.local_offset[i + 1]):
            near = min(candidates, key=lambda key: np.abs(states[key][0] - local.m[h]).max())
            np.testing.assert_allclose(local.m[h], states[near][0], **TOLERANCE)
            np.testing.assert_allclose(local.P[h], states[near][1], **TOLERANCE)
            assert local.source[h] == (-1 if near[1][-1] is None else near[1][-1])
            candidates.remove(near)
            history[h] = near
    assert (local.r == 1).all()

    rows = [list(zip(mixture.weights(k), mixture.table(k))) for k in range(mixture.n_clusters)]
    found = {}
    for choice in product(*rows):
        key = frozenset(history[h] for _, row in choice for h in row if h >= 0)
        assert key not in found  # equal hypotheses are one
        found[key] = np.prod([w for w, _ in choice])
    assert found.keys() <= weights.keys()
    for key, w in weights.items():
        assert found.get(key, 0.0) == pytest.approx(w, abs=1e-9)

    exists = dict.fromkeys(density.label.tolist(), 0.0)
    for key, w in weights.items():
        for label, _ in key:
            if label in exists:
                exists[label] += w
    np.testing.assert_allclose(marginal_existence(density), list(exists.values()), **TOLERANCE)


@pytest.mark.parametrize(
    ("seed", "counts", "time"),
    [
        (0, (1, 2, 2), (0.0, 1.0, 2.0)),
        (1, (3, 1, 1), (0.0, 0.3, 2.1)),
        (2, (2, 0, 3), (5.0, 6.0, 6.5)),
        (3, (0, 2, 3), (-1.0, 0.0, 4.0)),
        (4, (1, 1, 1, 1), (0.0, 1.0, 1.5, 3.0)),
    ],
)
def test_labels_on_a_line(seed, counts, time):
    world, ratios, (*models, initial) = line(seed, counts, time)
    exact = labelled_posterior(world)
    for split in SPLITS:
        tracker = GLMB(*models, GLMBConfig(split=split, **EXACT), initial=initial)
        run(tracker, world, ratios)
        assert_exact(tracker, *exact)


def test_several_births_a_scan():
    world, ratios, (*models, initial) = line(7, (2, 2), (0.0, 0.8), births=2, initial=3)
    exact = labelled_posterior(world)
    for split in SPLITS:
        tracker = GLMB(*models, GLMBConfig(split=split, **EXACT), initial=initial)
        run(tracker, world, ratios)
        assert_exact(tracker, *exact)


def test_range_and_bearing():
    rng = np.random.default_rng(1)
    origin = np.array([9.0, -0.5])
    time, counts = (0.0, 0.4, 1.3), (2, 2, 1)

    def h(x):
        dx = x[:2] - origin
        return np.array([np.hypot(*dx), np.arctan2(dx[0], dx[1])])  # from north

    def dh(x):
        dx, dy = x[:2] - origin
        r2 = dx**2 + dy**2
        return np.array([[dx, dy, 0, 0] / np.sqrt(r2), np.array([dy, -dx, 0, 0]) / r2])

    mean, cov = rng.normal(size=(2, 4)), np.diag([2.0, 1.0, 0.5, 0.5])
    births = [(0.4, mean[0], cov), (0.3, mean[1], cov)]
    F, Q = cv(2, 0.2)
    world = World(
        time,
        [np.array([h(rng.normal(size=2)) for _ in range(n)]) for n in counts],
        [np.full(n, 0.08) for n in counts],
        [births, [(0.4 * 0.4, *births[0][1:])], [(0.4 * 0.9, *births[0][1:])]],
        Extended(F, Q, h, dh, np.diag([0.3**2, 0.1**2]), wraps=(1,)),
        lambda x: 0.85,
    )
    sensor = RangeBearing(
        std=(0.3, 0.1), origin=tuple(origin), from_north=True, p_detect=0.85, clutter_intensity=0.08
    )
    exact = labelled_posterior(world)
    for split in SPLITS:
        tracker = GLMB(
            ConstantVelocity(2, q=0.2, noise_model="piecewise"),
            sensor,
            GaussianBirth(0.4, mean[0], cov),
            0.99,
            GLMBConfig(split=split, **EXACT),
            initial=GaussianBirth([0.4, 0.3], mean, cov),
        )
        run(tracker, world, [None] * 3)
        assert_exact(tracker, *exact)


def test_labels_that_hide():
    world, ratios, (*models, initial) = line(8, (2, 1, 2), (0.0, 0.5, 2.0))
    world.occlusion = (0.4, 0.9)
    exact = labelled_posterior(world)
    for split in SPLITS:
        config = GLMBConfig(split=split, **EXACT)
        tracker = GLMB(*models, config, initial=initial, occlusion=Occlusion(0.4, 0.9))
        run(tracker, world, ratios)
        assert_exact(tracker, *exact)


@pytest.mark.parametrize("seed", range(5))
def test_one_scan_of_lmb_has_the_exact_marginals(seed):
    world, ratios, (*models, initial) = line(seed, (3,), (0.0,), initial=3)
    config = LMBConfig(gate=1e12, min_existence=0.0, min_weight=0.0, merge=0.0, max_components=100)
    tracker = LMB(*models, config, initial=initial)
    run(tracker, world, ratios)
    states, weights = labelled_posterior(world)
    tracks = tracker.density.tracks
    assert tracks.label.tolist() == [0, 1, 2]
    for i, label in enumerate(tracks.label):
        mine = {key: sum(w for h, w in weights.items() if key in h) for key in states if key[0] == label}
        assert tracks.r[i] == pytest.approx(sum(mine.values()), abs=1e-9)
        part = slice(tracks.offset[i], tracks.offset[i + 1])
        for w, m, P in zip(tracks.component.r[part], tracks.component.m[part], tracks.component.P[part]):
            near = min(mine, key=lambda key: np.abs(states[key][0] - m).max())
            np.testing.assert_allclose(m, states[near][0], **TOLERANCE)
            np.testing.assert_allclose(P, states[near][1], **TOLERANCE)
            assert w * tracks.r[i] == pytest.approx(mine.pop(near), abs=1e-9)
        assert sum(mine.values()) < 1e-9


@pytest.mark.parametrize("occlusion", [None, (0.4, 0.9)])
@pytest.mark.parametrize("seed", range(3))
def test_lmb_is_exact_for_one_label_over_time(seed, occlusion):
    world, ratios, (motion, sensor, birth, survival, initial) = line(
        seed, (2, 1, 3), (0.0, 1.0, 1.7), births=1, initial=1
    )
    world.births[1:] = [[], []]
    world.occlusion = occlusion
    config = LMBConfig(gate=1e12, min_existence=0.0, min_weight=0.0, merge=0.0, max_components=1000)
    once = GaussianBirth(lambda t: 0.0, birth.mean, birth.cov)
    hides = None if occlusion is None else Occlusion(*occlusion)
    tracker = LMB(motion, sensor, once, survival, config, initial=initial, occlusion=hides)
    run(tracker, world, ratios)
    states, weights = labelled_posterior(world)
    tracks = tracker.density.tracks
    exact = {key: sum(w for h, w in weights.items() if key in h) for key in states}
    assert tracks.r == pytest.approx([sum(exact.values())], abs=1e-9)
    found = sorted(tracks.component.r * tracks.r)
    np.testing.assert_allclose(found[-len(exact) :], sorted(exact.values()), **TOLERANCE)
