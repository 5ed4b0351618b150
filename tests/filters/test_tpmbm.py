"""Trajectories of TPMBM: associations of PMBM, states of the joint Gaussian, ends by enumeration."""

import numpy as np
import pytest
from tiny_scene import models, simulate

from tracking import (
    PMBM,
    TPMBM,
    ConstantVelocity,
    CoordinatedTurn,
    GaussianBirth,
    Late,
    MeasurementBirth,
    Occlusion,
    PMBMConfig,
    PositionSensor,
    RangeBearing,
    TPMBMConfig,
    joined,
)
from tracking.filters.paths import Path
from tracking.metrics.trajectory import trajectory_gospa

MOTION = ConstantVelocity(q=0.3)
START, SPREAD = np.array([10.0, -5.0, 1.0, 2.0]), np.diag([25.0, 25.0, 4.0, 4.0])
TIMES = np.cumsum([0.0, 1.0, 0.5, 2.0, 1.0, 1.0, 0.5])
EXACT = {
    "min_weight": 0.0,
    "min_existence": 0.0,
    "min_alive": 0.0,
    "min_poisson": 0.0,
    "max_hypotheses": 10_000,
}


def alone(window, p_detect=0.9, survival=0.95, clutter=1e-9, **settings):
    """A tracker of the one object there is, which is present from the first scan on."""
    birth, later = GaussianBirth(1.0, START, SPREAD), GaussianBirth(1e-12, START, SPREAD)
    sensor = PositionSensor(std=1.5, p_detect=p_detect, clutter_intensity=clutter)
    return TPMBM(MOTION, sensor, later, survival, TPMBMConfig(window=window, **settings), initial=birth)


def seen(rng):
    x = START + rng.normal(size=4)
    return [x[:2] + t * x[2:] + rng.normal(0, 1.5, 2) for t in TIMES]


def joint(times, z):
    """All states given all measurements from one Gaussian of everything; z None where there is none."""
    n, d = len(times), 4
    A, noises = [np.eye(d)], [SPREAD]
    for dt in np.diff(times):
        A.append(np.hstack((MOTION.matrix(dt) @ A[-1], np.eye(d))))
        noises.append(MOTION.noise(None, dt))
    full = np.vstack([np.pad(a, ((0, 0), (0, n * d - a.shape[1]))) for a in A])
    C = np.zeros((n * d, n * d))
    for k, Q in enumerate(noises):
        C[k * d : k * d + d, k * d : k * d + d] = Q
    C = full @ C @ full.T
    x = np.concatenate([a[:, :d] @ START for a in A])
    rows = [k * d + i for k in range(n) if z[k] is not None for i in range(2)]
    S = C[np.ix_(rows, rows)] + 1.5**2 * np.eye(len(rows))
    K = C[:, rows] @ np.linalg.inv(S)
    x = x + K @ (np.concatenate([a for a in z if a is not None]) - x[rows])
    C = C - K @ S @ K.T
    return x.reshape(n, d), np.array([C[k * d : k * d + d, k * d : k * d + d] for k in range(n)])


# --- oracles --------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [len(TIMES), 50])
def test_one_object_is_the_joint_gaussian(window):
    z = seen(np.random.default_rng(0))
    z[3] = None
    tracker = alone(window)
    for time, row in zip(TIMES, z):
        tracker.step([] if row is None else [row], time)
    (path,) = tracker.trajectories()
    mean, cov = joint(TIMES, z)
    assert np.abs(path.mean - mean).max() < 1e-9
    assert np.abs(path.cov - cov).max() < 1e-9
    assert path.time.tolist() == TIMES.tolist()
    assert path.source.tolist() == [-1 if row is None else 0 for row in z]


@pytest.mark.parametrize("window", [1, 3])
def test_a_state_that_leaves_the_window_stays_as_it_was(window):
    """The state of scan k is smoothed by the scans up to k + window - 1 and by no later one."""
    z = seen(np.random.default_rng(1))
    tracker = alone(window)
    for time, row in zip(TIMES, z):
        tracker.step([row], time)
    (path,) = tracker.trajectories()
    for k in range(len(TIMES)):
        n = min(k + window, len(TIMES))
        mean, cov = joint(TIMES[:n], z[:n])
        assert np.abs(path.mean[k] - mean[k]).max() < 1e-9
        assert np.abs(path.cov[k] - cov[k]).max() < 1e-9


def test_existence_and_end_by_enumeration():
    """One object, one measurement, then silence: every end and the clutter, each with its weight."""
    p_detect, survival, clutter, rate = 0.7, 0.8, 1e-2, 1.0
    z = START[:2] + 1.0
    tracker = alone(10, p_detect, survival, clutter, **EXACT)
    tracker.step([z], 0.0)
    for k in range(1, 5):
        tracker.step([], float(k))
        S = SPREAD[:2, :2] + 1.5**2 * np.eye(2)
        nu = z - START[:2]
        like = np.exp(-0.5 * nu @ np.linalg.solve(S, nu)) / np.sqrt(np.linalg.det(2 * np.pi * S))
        born = rate * p_detect * like
        # ends after scan e < k, having been missed in scans 1 ... e; or is there still
        ends = [(survival * (1 - p_detect)) ** e * (1 - survival) for e in range(k)]
        alive = (survival * (1 - p_detect)) ** k
        weight = born * (sum(ends) + alive)
        local = tracker.density.local
        (i,) = np.flatnonzero(local.r > 0)
        total = sum(ends) + alive
        assert local.r[i] == pytest.approx(weight / (weight + clutter), rel=1e-9)
        assert local.visible[i] == pytest.approx(alive / total, rel=1e-6)
        assert np.allclose(tracker.density.paths[i].ended, [*(e / total for e in ends), 0.0], rtol=1e-6)
        assert tracker.density.paths[i].ended.sum() + local.visible[i] == pytest.approx(1.0, abs=1e-12)


def three(seed):
    """Scans with two objects and a clutter point, all in each other's way."""
    rng = np.random.default_rng(seed)
    a, b, c = np.array([0.0, 0.0]), np.array([4.0, 1.0]), np.array([2.0, 2.0])
    z = [np.stack((a + k, b + k * np.array([0.5, 1.0]), c)) for k in range(3)]
    return [(float(k), START[:2] + row + rng.normal(0, 1, (3, 2)) - 2) for k, row in enumerate(z)]


@pytest.mark.parametrize("birth", ["gaussian", "uniform", "measurement"])
@pytest.mark.parametrize("split", [-1.0, 1e-3])
def test_what_is_there_now_is_that_of_pmbm(birth, split):
    """Same hypotheses, same weights: the newest states are PMBM's to the last digits."""
    limits = {"split": split, "min_weight": 1e-4, "min_existence": 0.0, "min_poisson": 0.0}
    given = models()
    if birth == "gaussian":
        given |= {
            "birth": GaussianBirth(
                [0.2, 0.1], [[500.0, 500, 0, 0], [300, 500, 1, 0]], np.diag([1e5, 1e5, 25, 25])
            )
        }
        given |= {"initial": given["birth"]}
    elif birth == "measurement":
        given |= {"birth": MeasurementBirth(1.0, rest_std=5.0)}
    plain = PMBM(**given, config=PMBMConfig(recycle=0.0, merge_poisson=0.0, estimator="marginal", **limits))
    ours = TPMBM(**given, config=TPMBMConfig(min_alive=0.0, estimator="marginal", **limits))
    for time, _, z in simulate(5, objects=4, clutter=4, scans=8):
        a, b = plain.step(z, time), ours.step(z, time)
        assert a.label.tolist() == b.label.tolist()
        assert np.allclose(a.mean, b.mean, rtol=0, atol=1e-9)
        assert np.allclose(a.cov, b.cov, rtol=0, atol=1e-9)
        assert np.allclose(a.existence, b.existence, rtol=0, atol=1e-9)
        assert np.allclose(plain.density.mixture.log_w, ours.density.mixture.log_w, atol=1e-8)
        assert np.array_equal(plain.density.mixture.entry, ours.density.mixture.entry)
        assert np.allclose(plain.density.local.r, ours.density.alive.r, atol=1e-10)
        for i, path in enumerate(ours.density.paths):
            assert np.allclose(path.mean[-1], ours.density.local.m[i], atol=1e-7)
            assert np.allclose(path.cov[-4:, -4:], ours.density.local.P[i], atol=1e-6)
            assert path.ended.sum() + ours.density.local.visible[i] == pytest.approx(1.0, abs=1e-9)
            assert path.start + len(path) == len(ours.density.times)


def test_every_path_is_the_joint_gaussian_along_its_associations():
    """With one Gaussian of births all states of a local hypothesis follow from its detections."""
    tracker = alone(10, 0.8, 0.95, 1e-2, **EXACT, split=-1.0)
    scans = three(2)
    for time, z in scans:
        tracker.step(z, time)
    checked = 0
    for path in tracker.density.paths:
        if path.start > 0:  # of the births after the first scan, which hardly exist
            continue
        z = [None if s < 0 else scans[k][1][s] for k, s in enumerate(path.source)]
        if all(row is None for row in z):
            continue
        mean, cov = joint(np.array([t for t, _ in scans[: len(path)]]), z)
        found = path.states()
        assert np.abs(found[0] - mean).max() < 1e-8
        assert np.abs(found[1] - cov).max() < 1e-8
        checked += 1
    assert checked > 10


# --- behaviour ------------------------------------------------------------------------------------


def test_an_object_that_went_is_still_told_of():
    rng = np.random.default_rng(3)
    tracker = alone(5, survival=0.99)
    z = seen(rng)
    for time, row in zip(TIMES, z):
        tracker.step([row], time)
    for k in range(12):
        tracks = tracker.step([], 7.0 + k)
    assert len(tracks) == 0
    (path,) = tracker.trajectories()
    assert path.time.tolist() == TIMES.tolist()  # until it was last seen
    assert path.existence[0] > 0.99
    assert (np.diff(path.existence) <= 1e-12).all()
    lengths = [len(p) for p in tracker.density.paths if p.source[0] == 0]
    assert max(lengths) < len(TIMES) + 12  # what is surely gone goes no further
    assert joined([path], TIMES).states.shape == (1, len(TIMES), 4)
    truth = np.array([z])
    assert trajectory_gospa(truth, joined([path], TIMES).states[..., :2]).missed == 0


def test_late_scans_too():
    given = {**models(), "config": TPMBMConfig(window=3)}
    scans = [(time, z) for time, _, z in simulate(6, objects=3, clutter=3, scans=7)]
    late, plain = Late(TPMBM(**given), lag=3.0), TPMBM(**given)
    for k in (0, 2, 1, 4, 3, 5, 6):
        late.step(scans[k][1], scans[k][0])
    for time, z in scans:
        plain.step(z, time)
    for a, b in zip(late.tracker.trajectories(), plain.trajectories(), strict=True):
        assert np.array_equal(a.time, b.time)
        assert np.array_equal(a.mean, b.mean)


def test_a_second_sensor_at_the_same_time():
    tracker = alone(4)
    sharp = PositionSensor(std=0.1, p_detect=0.9, clutter_intensity=1e-9)
    tracker.step([START[:2]], 0.0)
    tracker.step([START[:2] + 0.1], 0.0, sensor=sharp)
    (path,) = tracker.trajectories()
    assert path.time.tolist() == [0.0, 0.0]
    assert np.allclose(path.mean[0], path.mean[1], atol=1e-9)


def test_the_empty_filter():
    tracker = alone(2)
    assert tracker.trajectories() == []
    assert len(tracker.step([], 0.0)) == 0
    assert tracker.trajectories() == []


def test_a_path_of_one_state_and_an_anchor():
    path = Path.begun(3, START, SPREAD).moved(MOTION.matrix(1.0), MOTION.noise(None, 1.0), 5)
    same = path.anchored(path.mean[-1], path.cov[-4:, -4:])
    assert np.allclose(same.mean, path.mean)
    assert np.allclose(same.cov, path.cov)
    tight = path.anchored(path.mean[-1] + 1.0, 0.01 * path.cov[-4:, -4:])
    assert np.trace(tight.cov[:4, :4]) < np.trace(path.cov[:4, :4])
    assert path.ending(0.25).span(0.75) == 2
    assert path.ending(0.25).reached(0.75).tolist() == [1.0, 1.0]
    assert np.linalg.eigvalsh(tight.cov).min() > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TPMBMConfig(window=0), "window must be a whole number from 1"),
        (lambda: TPMBMConfig(min_alive=-0.1), "min_alive must be a probability"),
        (lambda: TPMBMConfig(recycle=0.1), "recycle and merge_poisson must be 0"),
        (lambda: TPMBM(**{**models(), "occlusion": Occlusion(0.1, 1.0)}), "occlusion has no place"),
        (
            lambda: TPMBM(**{**models(), "sensor": RangeBearing(std=1.0)}),
            "sensor must be linear.*RangeBearing",
        ),
        (
            lambda: TPMBM(**{**models(), "motion": CoordinatedTurn()}),
            "motion must be linear.*CoordinatedTurn",
        ),
        (lambda: alone(2).step([], 0.0, sensor=RangeBearing(std=1.0)), "sensor must be linear"),
        (lambda: alone(2).save("nowhere"), "TPMBM cannot be saved"),
    ],
)
def test_what_it_cannot_do_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()
