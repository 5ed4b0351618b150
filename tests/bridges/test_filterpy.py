"""A filter of filterpy and the tracker made from it, step by step on one object."""

import numpy as np
import pytest

from tracking import GLMB, GMPHD, GNN, PMBM, GNNConfig, UniformBirth, from_filterpy
from tracking.bridges.filterpy import Repeated

filterpy = pytest.importorskip("filterpy", reason="filterpy is in the extra `robotics`")
kalman = pytest.importorskip("filterpy.kalman")

DT, SCANS = 0.5, 12
F = np.array([[1.0, DT, 0, 0], [0, 1, 0, 0], [0, 0, 1, DT], [0, 0, 0, 1]])  # filterpy's order: x, vx, y, vy
H = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0]])
Q = 0.1 * np.kron(np.eye(2), [[DT**3 / 3, DT**2 / 2], [DT**2 / 2, DT]])
START, SPREAD = np.array([50.0, 1.0, 30.0, -2.0]), np.diag([20.0, 4.0, 20.0, 4.0])
SURE = {"clutter_intensity": 1e-9, "p_detect": 0.99}


def linear_filter(column=True):
    kf = kalman.KalmanFilter(dim_x=4, dim_z=2)
    kf.x, kf.P = (START[:, None] if column else START).copy(), SPREAD.copy()
    kf.F, kf.H, kf.Q, kf.R = F, H, Q, np.diag([1.0, 2.0])
    return kf


def polar(x):
    x = np.ravel(x)
    return np.array([np.hypot(x[0], x[2]), np.arctan2(x[2], x[0])])


def polar_jacobian(x):
    px, _, py, _ = np.ravel(x)
    r = np.hypot(px, py)
    return np.array([[px / r, 0, py / r, 0], [-py / r**2, 0, px / r**2, 0]])


def extended_filter(kind=None):
    ekf = (kind or kalman.ExtendedKalmanFilter)(dim_x=4, dim_z=2)
    ekf.x, ekf.P = START.copy(), SPREAD.copy()
    ekf.F, ekf.Q, ekf.R = F, Q, np.diag([1.0, 1e-3])
    return ekf


def unscented_filter(points=None, **functions):
    points = points or kalman.MerweScaledSigmaPoints(4, alpha=0.4, beta=2.0, kappa=-1.0)

    def drag(x, dt):
        v = x[[1, 3]] * (1 - 0.02 * dt * np.hypot(x[1], x[3]))
        return np.array([x[0] + dt * v[0], v[0], x[2] + dt * v[1], v[1]])

    ukf = kalman.UnscentedKalmanFilter(4, 2, DT, polar, drag, points, **functions)
    ukf.x, ukf.P = START.copy(), SPREAD.copy()
    ukf.Q, ukf.R = Q, np.diag([1.0, 1e-3])
    return ukf


def track(rng, measure):
    """Times and measurements of one object; scans 4, 7 and 8 are left out."""
    x, out = rng.multivariate_normal(START, SPREAD), []
    for k in range(SCANS):
        if k not in (4, 7, 8):
            out.append((k * DT, measure(x)))
        x = F @ x + rng.multivariate_normal(np.zeros(4), Q)
    return out


def compare(tracker, kf, scans, update):
    """The one track of the tracker has the moments of the filter, in every scan."""
    last = None
    for time, z in scans:
        for _ in range(0 if last is None else round((time - last) / DT)):
            kf.predict()
        if hasattr(kf, "sigmas_f"):  # 1.4.5 does not draw them anew, nor do both before a first update
            kf.sigmas_f = kf.points_fn.sigma_points(kf.x, kf.P)
        last = time
        update(kf, z)
        tracks = tracker.step([z], time)
        assert len(tracks) == 1
        assert np.abs(tracks.mean[0] - np.ravel(kf.x)).max() < 1e-10
        assert np.abs(tracks.cov[0] - kf.P).max() < 1e-10
    return tracks


@pytest.mark.parametrize("tracker", [PMBM, GLMB, GNN])
@pytest.mark.parametrize("column", [True, False])
def test_kalman_filter(tracker, column):
    rng = np.random.default_rng(1)
    scans = track(rng, lambda x: H @ x + rng.normal(size=2))
    made = from_filterpy(linear_filter(column), DT, tracker=tracker, **SURE)
    assert isinstance(made, tracker)
    compare(made, linear_filter(column), scans, lambda kf, z: kf.update(z))


def test_extended_filter():
    rng = np.random.default_rng(2)
    scans = track(rng, lambda x: polar(x) + rng.normal(size=2) * (1, 0.03))
    functions = {"Hx": polar, "HJacobian": polar_jacobian}
    made = from_filterpy(extended_filter(), DT, angles=(1,), **functions, **SURE)
    compare(made, extended_filter(), scans, lambda kf, z: kf.update(z, polar_jacobian, polar))


def test_extended_filter_with_its_own_motion():
    class Turning(kalman.ExtendedKalmanFilter):
        def predict_x(self, u=0):
            x, w = np.ravel(self.x), 0.01 * np.hypot(self.x[1], self.x[3])
            self.F = F @ (np.eye(4) + w * DT * np.array([[0.0] * 4, [0, 0, 0, -1], [0.0] * 4, [0, 1, 0, 0]]))
            self.x = self.F @ x

    rng = np.random.default_rng(3)
    scans = track(rng, lambda x: polar(x) + rng.normal(size=2) * (1, 0.03))
    ours, theirs = extended_filter(Turning), extended_filter(Turning)
    made = from_filterpy(ours, DT, angles=(1,), Hx=polar, HJacobian=polar_jacobian, **SURE)
    compare(made, theirs, scans, lambda kf, z: kf.update(z, polar_jacobian, polar))
    assert (ours.F == F).all()  # the filter itself has not moved


@pytest.mark.parametrize("julier", [False, True])
def test_unscented_filter(julier):
    points = kalman.JulierSigmaPoints(4, kappa=1.0) if julier else None
    rng = np.random.default_rng(4)
    scans = track(rng, lambda x: polar(x) + rng.normal(size=2) * (1, 0.03))
    made = from_filterpy(unscented_filter(points), **SURE)
    assert isinstance(made.models.linearisation, Repeated)
    compare(made, unscented_filter(points), scans, lambda kf, z: kf.update(z))


def test_functions_of_the_step_know_every_step():
    def matrices(dt):
        one = np.kron(np.eye(2), [[1.0, dt], [0, 1]])
        return one, 0.1 * np.kron(np.eye(2), [[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])

    functions = {"F": lambda dt: matrices(dt)[0], "Q": lambda dt: matrices(dt)[1]}
    made, kf = from_filterpy(linear_filter(), **functions, **SURE), linear_filter()
    last = None
    for time, z in [(0.0, (50.0, 30.0)), (0.3, (50.5, 29.0)), (1.77, (52.0, 27.0))]:
        if last is not None:
            kf.F, kf.Q = matrices(time - last)
            kf.predict()
        kf.update(np.array(z))
        tracks, last = made.step([z], time), time
        assert np.allclose(tracks.mean[0], np.ravel(kf.x), rtol=0, atol=1e-9)
        assert np.allclose(tracks.cov[0], kf.P, rtol=0, atol=1e-9)


def test_many_objects_in_one_line():
    rng = np.random.default_rng(5)
    kf = linear_filter()
    kf.x, kf.P = np.zeros((4, 1)), np.diag([1e4, 4.0, 1e4, 4.0])
    tracker = from_filterpy(kf, DT, clutter_intensity=2 / 400**2, birth=0.5)
    x = rng.multivariate_normal(np.zeros(4), kf.P, size=6)
    for k in range(10):
        z = np.concatenate((x @ H.T + rng.normal(size=(6, 2)), rng.uniform(-200, 200, (2, 2))))
        tracks = tracker.step(rng.permutation(z), k * DT)
        x = x @ F.T
    assert (tracks.existence > 0.95).sum() == 6
    nearest = np.linalg.norm(tracks.mean[:, None, [0, 2]] - (x @ np.linalg.inv(F).T)[None, :, [0, 2]], axis=2)
    assert nearest.min(axis=0).max() < 4


def test_models_are_saved(tmp_path):
    tracker = from_filterpy(linear_filter(), DT, tracker=GNN, config=GNNConfig(threshold=0.4), **SURE)
    tracker.step([[50.0, 30.0]], 0.0)
    tracker.save(tmp_path / "state")
    again = GNN.load(tmp_path / "state")
    assert again.step([[50.5, 29.0]], 1.0).mean.tolist() == tracker.step([[50.5, 29.0]], 1.0).mean.tolist()


# --- what has no counterpart is said --------------------------------------------------------------


def test_steps_that_are_no_steps():
    tracker = from_filterpy(linear_filter(), DT, **SURE)
    tracker.step([[50.0, 30.0]], 0.0)
    with pytest.raises(ValueError, match=r"whole number of steps of 0.5 s apart, at most 1000000, got 0.7 s"):
        tracker.step([[50.0, 30.0]], 0.7)
    assert tracker.time == 0.0
    tracker = from_filterpy(unscented_filter(), **SURE)
    tracker.step([polar(START)], 0.0)
    with pytest.raises(ValueError, match="accepted are 10000"):
        tracker.step([polar(START)], 1e5)


@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (lambda kf: None, {}, "dt is needed"),
        (lambda kf: None, {"dt": DT, "F": lambda dt: F}, "give both F and Q as functions"),
        (lambda kf: None, {"dt": DT, "angles": (1,)}, "angles are of an extended or unscented filter"),
        (lambda kf: None, {"dt": -1.0}, "dt must be finite and > 0"),
        (lambda kf: setattr(kf, "alpha", 1.1), {"dt": DT}, "fading memory"),
        (lambda kf: setattr(kf, "M", np.ones((4, 2))), {"dt": DT}, "fading memory"),
        (lambda kf: setattr(kf, "R", -np.eye(2)), {"dt": DT}, "cov must be positive definite"),
        (lambda kf: setattr(kf, "F", np.eye(3)), {"dt": DT}, "F and Q must be square and of one size"),
    ],
)
def test_what_a_kalman_filter_may_not_have(spoil, arguments, message):
    kf = linear_filter()
    spoil(kf)
    with pytest.raises(ValueError, match=message):
        from_filterpy(kf, clutter_intensity=1e-4, **arguments)


def test_what_the_others_may_not_have():
    sure = {"clutter_intensity": 1e-4}
    with pytest.raises(ValueError, match=r"kf must be a KalmanFilter.*got dict"):
        from_filterpy({}, DT, **sure)
    with pytest.raises(ValueError, match="fading memory"):
        from_filterpy(kalman.FadingKalmanFilter(1.02, 4, 2), DT, **sure)
    with pytest.raises(ValueError, match=r"give them here too: from_filterpy\(ekf, dt, Hx="):
        from_filterpy(extended_filter(), DT, **sure)
    with pytest.raises(ValueError, match="say which components of z are angles"):
        from_filterpy(unscented_filter(residual_z=lambda a, b: a - b), **sure)
    with pytest.raises(ValueError, match="x_mean_fn, residual_x and state_add"):
        from_filterpy(unscented_filter(x_mean_fn=lambda s, w: w @ s), **sure)
    with pytest.raises(ValueError, match="sigma points of SimplexSigmaPoints have no counterpart"):
        from_filterpy(unscented_filter(kalman.SimplexSigmaPoints(4)), **sure)
    points = kalman.MerweScaledSigmaPoints(
        4, 0.4, 2.0, -1.0, sqrt_method=lambda A: 2 * np.linalg.cholesky(A).T
    )
    with pytest.raises(ValueError, match="are not those of its alpha, beta and kappa"):
        from_filterpy(unscented_filter(points), **sure)
    bank = kalman.MMAEFilterBank([linear_filter(), linear_filter()], [0.5, 0.5], 4, H)
    with pytest.raises(ValueError, match="got MMAEFilterBank"):
        from_filterpy(bank, DT, **sure)


# --- the models it makes --------------------------------------------------------------------------


def test_births_at_measurements_need_the_position_first():
    box = UniformBirth(1.0, lower=(0.0,), upper=(100.0,), rest_std=30.0)
    tracker = from_filterpy(linear_filter(), DT, birth=box, tracker=GMPHD, **SURE)
    assert tracker.models.motion.dims == tracker.models.sensor.dims == 1  # of (x, vx, y, vy) x alone is first
    for k in range(4):
        tracks = tracker.step([[50.0 + k, 30.0 - k]], k * DT)
    assert np.abs(tracks.mean[0][[0, 2]] - (53, 27)).max() < 2
