"""Several motion models on one object: against filterpy, the joint Gaussian, and the textbook in loops."""

import numpy as np
import pytest
from joint_gaussian import condition
from turning_object import CHAIN, QUIET, SPREAD, START, WILD, one_object, path

from tracking import (
    GLMB,
    GNN,
    IMM,
    PMBM,
    ConstantAcceleration,
    ConstantVelocity,
    CoordinatedTurn,
    Embedded,
    from_filterpy,
)

KINDS = pytest.mark.parametrize("kind", [PMBM, GLMB, GNN])  # the others blend in that it was missed
H = np.eye(2, 4)


@KINDS
def test_on_one_object_it_is_the_estimator_of_filterpy(kind):
    kalman = pytest.importorskip("filterpy.kalman", reason="filterpy is in the extra `robotics`")

    def estimator():
        filters = []
        for motion in (QUIET, WILD):
            kf = kalman.KalmanFilter(4, 2)
            kf.x, kf.P, kf.H, kf.R = START.copy(), SPREAD.copy(), H, 4 * np.eye(2)
            kf.F, kf.Q = motion.matrix(0.5), motion.noise(None, 0.5)
            filters.append(kf)
        return kalman.IMMEstimator(filters, [0.75, 0.25], CHAIN)  # what the chain keeps: see `cbar` in update

    imm = estimator()
    tracker = from_filterpy(estimator(), 0.5, tracker=kind, clutter_intensity=1e-9, p_detect=0.99)
    for k, z in enumerate(path(np.random.default_rng(0))):
        if k:
            imm.predict()
        imm.update(z)
        tracks = tracker.step([z], 0.5 * k)
        assert len(tracks) == 1
        assert np.abs(tracks.modes[0] - imm.mu).max() < 1e-10
        assert np.abs(tracks.mean[0] - imm.x).max() < 1e-10
        assert np.abs(tracks.cov[0] - imm.P).max() < 1e-10


def test_what_of_an_estimator_has_no_counterpart_is_refused():
    kalman = pytest.importorskip("filterpy.kalman", reason="filterpy is in the extra `robotics`")
    filters = [kalman.KalmanFilter(2, 1), kalman.KalmanFilter(2, 1)]
    filters[1].R = 5 * np.eye(1)
    with pytest.raises(ValueError, match="one H and one R: an object switches how it moves"):
        from_filterpy(kalman.IMMEstimator(filters, [0.5, 0.5], CHAIN), 1.0, clutter_intensity=1e-6)
    filters[1].R = filters[0].R
    with pytest.raises(ValueError, match="dt is needed"):
        from_filterpy(kalman.IMMEstimator(filters, [0.5, 0.5], CHAIN), clutter_intensity=1e-6)


@KINDS
def test_two_scans_are_the_mixture_over_models(kind):
    """Before the second switch nothing is approximated: one joint Gaussian a model says all."""
    dt, (first, second) = 0.7, path(np.random.default_rng(1), 2)
    imm = IMM([QUIET, WILD], CHAIN, step=0.7, initial=[0.6, 0.4])
    tracker = one_object(imm, kind)
    tracker.step([first], 0.0)
    tracks = tracker.step([second], dt)
    found = [
        condition((START, SPREAD), [(m.matrix(dt), m.noise(None, dt))], H, 4 * np.eye(2), [first, second])
        for m in (QUIET, WILD)
    ]
    w = np.array([0.6, 0.4]) @ CHAIN * np.exp([log for _, _, log in found])
    w /= w.sum()
    mean = w @ [m for m, _, _ in found]
    cov = sum(p * (P + np.outer(m - mean, m - mean)) for p, (m, P, _) in zip(w, found))
    assert np.abs(tracks.modes[0] - w).max() < 1e-10
    assert np.abs(tracks.mean[0] - mean).max() < 1e-9
    assert np.abs(tracks.cov[0] - cov).max() < 1e-9


def textbook(imm, start, scans, R):
    """Blom and Bar-Shalom in loops, with the extended Kalman filter; z None is a miss."""
    k, last = len(imm.models), None
    p, x, P = np.array(imm.initial), [start[0]] * k, [start[1]] * k
    out = []
    for time, z in scans:
        for part in () if last is None else imm.parts(time - last):
            T = imm.chain(part)
            c = p @ T
            w = T * p[:, None] / c  # (from, to)
            mix = [sum(w[i, j] * x[i] for i in range(k)) for j in range(k)]
            spread = [
                sum(w[i, j] * (P[i] + np.outer(x[i] - mix[j], x[i] - mix[j])) for i in range(k))
                for j in range(k)
            ]
            F = [np.reshape(m.jacobian(a[None], part), (len(a), len(a))) for m, a in zip(imm.models, mix)]
            x = [m.transition(a[None], part)[0] for m, a in zip(imm.models, mix)]
            P = [A @ S @ A.T + m.noise(a[None], part) for A, S, m, a in zip(F, spread, imm.models, mix)]
            p = c
        last = time
        if z is not None:
            like = np.zeros(k)
            for j in range(k):
                M = np.eye(2, len(x[j]))
                S, nu = M @ P[j] @ M.T + R, z - M @ x[j]
                K = P[j] @ M.T @ np.linalg.inv(S)
                like[j] = np.exp(-0.5 * nu @ np.linalg.solve(S, nu)) / np.sqrt(np.linalg.det(2 * np.pi * S))
                x[j], P[j] = x[j] + K @ nu, P[j] - K @ S @ K.T
            p = p * like / (p @ like)
        mean = sum(a * b for a, b in zip(p, x))
        out.append((p, mean, sum(a * (B + np.outer(b - mean, b - mean)) for a, b, B in zip(p, x, P))))
    return out


TURN = IMM(
    [Embedded(ConstantVelocity(q=0.1), 5, rest_std=0.2), CoordinatedTurn(1.0, 0.05)],
    [[0.95, 0.05], [0.2, 0.8]],
    initial=[0.9, 0.1],
)
JERK = IMM(
    [Embedded(ConstantVelocity(q=0.1), 6, (2.0, 2.0)), ConstantAcceleration(q=0.5)], [[0.9, 0.1], [0.2, 0.8]]
)


@pytest.mark.parametrize("imm", [TURN, JERK])
@pytest.mark.parametrize("kind", [PMBM, GNN])
def test_states_of_different_sizes_and_scans_any_time_apart(imm, kind):
    time = np.cumsum([0.0, 1.0, 0.5, 0.0, 2.5, 1.0, 3.0, 0.25, 1.0])
    z = [None if k in (4, 6) else row for k, row in enumerate(path(np.random.default_rng(2), 9))]
    tracker = one_object(imm, kind)
    start = tracker.models.birth.mean[0], tracker.models.birth.cov[0]
    for (t, row), (p, mean, cov) in zip(zip(time, z), textbook(imm, start, zip(time, z), 4 * np.eye(2))):
        tracks = tracker.step([] if row is None else [row], t)
        assert np.abs(tracks.modes[0] - p).max() < 1e-9
        assert np.abs(tracks.mean[0] - mean).max() < 1e-8
        assert np.abs(tracks.cov[0] - cov).max() < 1e-8
