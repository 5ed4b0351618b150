"""Smoothed trajectories against one joint Gaussian, and what is kept to make them."""

import numpy as np
import pytest

from tracking import CKF, GNN, PMBM, UKF, GNNConfig, Late, Recorder, Tracks, ellipses, joined
from tracking.bridges.filterpy import Repeated
from tracking.gaussian import EKF
from tracking.metrics.trajectory import trajectory_gospa
from tracking.models import ConstantVelocity, CoordinatedTurn, GaussianBirth, PositionSensor, RangeBearing
from tracking.models.linear import LinearMotion
from tracking.smoothing import smoother_step
from tracking.tracks import Trajectories

MOTION = ConstantVelocity(dims=2, q=0.2)
SENSOR = PositionSensor(std=1.0, p_detect=0.9, clutter_intensity=1e-6)
BIRTH = GaussianBirth(0.1, np.zeros(4), np.diag([1e3, 1e3, 9.0, 9.0]))
TIMES = np.cumsum([0.0, 1.0, 0.5, 0.0, 2.0, 1.0, 1.0])
Z = [(0.0, 1.0), (1.0, 1.5), None, (1.7, 2.4), (4.1, 2.0), None, (6.5, 4.0)]


def scans(z):
    return [np.zeros((0, 2)) if row is None else np.array([row]) for row in z]


def joint(first, z, times, motion):
    """All states given all measurements after the first, from one Gaussian of everything at once."""
    m, P = first
    d, n = len(m), len(times)
    mean, A = [m], [np.eye(d)]  # states are A times (first state, noises)
    noises = [P]
    for dt in np.diff(times):
        F, Q = motion.jacobian(m[None], dt), motion.noise(m[None], dt)
        A = [*A, np.hstack((F @ A[-1], np.eye(d)))]
        mean.append(F @ mean[-1])
        noises.append(Q)
    full = np.vstack([np.pad(a, ((0, 0), (0, d * n - a.shape[1]))) for a in A])
    C = (
        full
        @ np.block([[noises[i] if i == k else np.zeros((d, d)) for k in range(n)] for i in range(n)])
        @ full.T
    )
    rows = [k * d + i for k in range(1, n) if z[k] is not None for i in range(2)]
    seen = np.concatenate([z[k] for k in range(1, n) if z[k] is not None])
    S = C[np.ix_(rows, rows)] + np.eye(len(rows))
    K = C[:, rows] @ np.linalg.inv(S)
    x = np.concatenate(mean)
    x, C = x + K @ (seen - x[rows]), C - K @ C[rows]
    return x.reshape(n, d), np.array([C[k * d : k * d + d, k * d : k * d + d] for k in range(n)])


@pytest.mark.parametrize("linearisation", [EKF(), UKF(), CKF()])
def test_one_object_is_the_joint_gaussian(linearisation):
    recorder = Recorder(GNN(MOTION, SENSOR, BIRTH, linearisation=linearisation))
    told = [recorder.step(z, time) for z, time in zip(scans(Z), TIMES)]
    (path,) = recorder.trajectories()
    mean, cov = joint((told[0].mean[0], told[0].cov[0]), Z, TIMES, MOTION)
    assert np.allclose(path.mean, mean, rtol=0, atol=1e-9)
    assert np.allclose(path.cov, cov, rtol=0, atol=1e-9)
    assert path.time.tolist() == TIMES.tolist()
    assert path.source.tolist() == [-1 if z is None else 0 for z in Z]
    assert np.allclose(path.mean[-1], told[-1].mean[0])
    assert path.existence.tolist() == [t.existence[0] for t in told]


def test_what_is_not_reported_is_a_miss():
    """The label goes on after a gap, and its states are there meanwhile, with no word on existence."""
    recorder = Recorder(GNN(MOTION, SENSOR, BIRTH, config=GNNConfig(threshold=0.99)))
    z = [(0.0, 0.0), (1.0, 1.0), (2.0, 2.0), None, None, (5.0, 5.0), (6.0, 6.0)]
    told = [recorder.step(row, k) for k, row in enumerate(scans(z))]
    first = next(k for k, t in enumerate(told) if len(t))
    (path,) = recorder.trajectories()
    silent = [len(t) == 0 for t in told[first:]]
    assert any(silent)
    assert np.isnan(path.existence).tolist() == silent
    mean, cov = joint((told[first].mean[0], told[first].cov[0]), z[first:], np.arange(first, 7.0), MOTION)
    assert np.allclose(path.mean, mean, atol=1e-9)
    assert np.allclose(path.cov, cov, atol=1e-9)


def many(seed=0, n=5, steps=30, sensor=SENSOR):
    rng = np.random.default_rng(seed)
    x = np.concatenate((rng.uniform(-40, 40, (n, 2)), rng.normal(0, 2, (n, 2))), axis=1)
    states, out = [], []
    noise = np.linalg.cholesky(MOTION.noise(None, 1.0))
    for _ in range(steps):
        states.append(x)
        seen = x[rng.random(n) < 0.9]
        z = sensor.measure(seen) + rng.normal(size=(len(seen), 2)) * np.sqrt(np.diagonal(sensor.noise(seen)))
        out.append(rng.permutation(z))
        x = MOTION.transition(x, 1.0) + rng.normal(size=x.shape) @ noise.T
    return np.arange(float(steps)), np.stack(states, axis=1), out


def test_smoothed_is_nearer_than_filtered():
    time, states, z = many()
    truth = Trajectories(time, np.arange(5), states)
    recorder = Recorder(PMBM(MOTION, SENSOR, GaussianBirth(0.5, np.zeros(4), np.diag([1e3, 1e3, 9.0, 9.0]))))
    told = Trajectories.from_tracks([recorder.step(row, t) for row, t in zip(z, time)])
    smoothed = joined(recorder.trajectories(), time)
    assert smoothed.label.tolist() == told.label.tolist()
    errors = [
        trajectory_gospa(truth.states[..., :2], found.states[..., :2], c=5.0).localisation
        for found in (told, smoothed)
    ]
    assert errors[1] < 0.75 * errors[0]
    some = recorder.trajectories([int(told.label[1])])
    assert [path.label for path in some] == [told.label[1]]
    assert np.array_equal(some[0].mean, recorder.trajectories()[1].mean)


def test_covariances_are_honest_with_a_radar():
    """Normalised errors squared of positions are chi-square of two degrees, 2 in the mean."""
    sensor = RangeBearing(origin=(-150.0, 0.0), std=(1.0, 0.01), p_detect=0.9, clutter_intensity=1e-6)
    nees = []
    for seed in range(12):
        time, states, z = many(seed, n=1, sensor=sensor)
        birth = GaussianBirth(0.5, np.zeros(4), np.diag([1e3, 1e3, 9.0, 9.0]))
        recorder = Recorder(GNN(MOTION, sensor, birth, linearisation=UKF()))
        for row, t in zip(z, time):
            recorder.step(row, t)
        path = max(recorder.trajectories(), key=len)
        e = path.mean[:, :2] - states[0, path.time.astype(int), :2]
        nees.append(np.einsum("ki,kij,kj->k", e, np.linalg.inv(path.cov[:, :2, :2]), e).mean())
    assert 1.4 < np.mean(nees) < 2.7


def test_gains_reach_back_as_samples_do():
    """Cov(state, later state) of a turning object, against samples."""
    motion, rng = CoordinatedTurn(0.5, 0.05), np.random.default_rng(0)
    m, P = np.array([[0.0, 0, 5, 0, 0.3]]), np.diag([1.0, 1, 0.5, 0.5, 0.01])[None]
    x = rng.multivariate_normal(m[0], P[0], 100_000)
    y = motion.transition(x, 1.0)
    cross = (x - x.mean(0)).T @ (y - y.mean(0)) / len(x)
    for linearisation, tolerance in ((EKF(), 0.15), (UKF(), 0.05), (CKF(), 0.05)):
        _, spread, gain = smoother_step(m, P, motion, linearisation, 1.0)
        assert np.abs(gain[0] @ spread[0] - cross).max() < tolerance


def test_repeated_steps_reach_back_as_one():
    F, Q = MOTION.matrix(0.5), MOTION.noise(None, 0.5)
    once = smoother_step(np.ones((1, 4)), np.eye(4)[None], LinearMotion(F, Q, 0.5), EKF(), 1.5)
    thrice = smoother_step(
        np.ones((1, 4)), np.eye(4)[None], LinearMotion(F, Q, 0.5), Repeated(EKF(), 0.5), 1.5
    )
    assert all(np.allclose(a, b, atol=1e-12) for a, b in zip(once, thrice))


def test_memory_is_as_long_as_asked():
    recorder = Recorder(GNN(MOTION, SENSOR, BIRTH), memory=5.0)
    for k in range(60):
        recorder.step([[0.1 * k, 0.0]], 0.5 * k)
        assert len(recorder.scans) <= 11
    (path,) = recorder.trajectories()
    assert path.time[0] == 29.5 - 5.0
    assert len(path) == 11


def test_nothing_recorded_and_nothing_found():
    recorder = Recorder(GNN(MOTION, SENSOR, BIRTH))
    assert recorder.trajectories() == []
    recorder.step([], 0.0)
    assert recorder.trajectories() == []
    assert joined([], np.arange(3.0)).states.shape[:2] == (0, 3)


def test_a_late_tracker_is_refused():
    """Its tracks are at the newest scan, so rows of a late one would be taken for theirs."""
    late = Late(GNN(MOTION, SENSOR, BIRTH), lag=1.0)
    with pytest.raises(ValueError, match="scans in order of time, a Late does not"):
        Recorder(late, motion=MOTION, sensor=SENSOR)


def test_a_tracker_without_models_is_told_them():
    class Plain:
        def step(self, z, time):
            one = np.ones(1)
            return Tracks(time, np.zeros(1, np.int64), np.zeros((1, 4)), np.eye(4)[None], one, np.array([-1]))

    with pytest.raises(ValueError, match=r"Plain has no models: give motion= and sensor="):
        Recorder(Plain())
    with pytest.raises(ValueError, match="memory must be finite and > 0"):
        Recorder(GNN(MOTION, SENSOR, BIRTH), memory=0.0)
    recorder = Recorder(Plain(), motion=MOTION, sensor=SENSOR)
    recorder.step([], 0.0)
    assert recorder.trajectories()[0].mean.shape == (1, 4)


@pytest.mark.parametrize("probability", [0.5, 0.95])
def test_ellipses_hold_what_they_promise(probability):
    rng = np.random.default_rng(1)
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])  # by 0.6435 rad
    cov = np.zeros((1, 4, 4))
    cov[0, 2:, 2:] = np.eye(2)
    cov[0, :2, :2] = turn @ np.diag([9.0, 1.0]) @ turn.T
    none = np.zeros(1)
    tracks = Tracks(0.0, np.zeros(1, np.int64), np.array([[3.0, 4, 0, 0]]), cov, none, none)
    found = ellipses(tracks, probability)
    assert found.major[0] / found.minor[0] == pytest.approx(3.0)
    assert found.angle[0] == pytest.approx(np.arctan2(0.6, 0.8))
    x = (rng.multivariate_normal([3, 4], cov[0, :2, :2], 50_000) - found.center) @ turn
    inside = ((x / (found.major[0], found.minor[0])) ** 2).sum(axis=1) < 1
    assert inside.mean() == pytest.approx(probability, abs=0.01)
    outline = (found.outline(9)[0] - found.center) @ turn / (found.major[0], found.minor[0])
    assert np.allclose((outline**2).sum(axis=1), 1.0)
    with pytest.raises(ValueError, match="probability must lie between 0 and 1, got 1"):
        ellipses(tracks, 1)


@pytest.mark.slow
def test_memory_is_flat_over_a_hundred_thousand_scans():
    """What the process holds at most grows by no more than 5 MB after the first 20,000 scans."""
    resource = pytest.importorskip("resource", reason="of POSIX")
    recorder = Recorder(GNN(MOTION, SENSOR, BIRTH), memory=10.0)
    rng, peaks = np.random.default_rng(0), []
    for k in range(100_000):
        recorder.step(rng.normal(0, 1, (1, 2)), 0.1 * k)
        if k % 20_000 == 19_999:
            recorder.trajectories()
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    assert peaks[-1] - peaks[0] < 5
