import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.joint_gaussian import condition

from tracking.gaussian import (
    CKF,
    EKF,
    UKF,
    Innovation,
    cholesky,
    log_likelihood,
    mahalanobis2,
    moment_match,
    symmetrise,
)
from tracking.models import (
    ConstantAcceleration,
    ConstantVelocity,
    CoordinatedTurn,
    FunctionMotion,
    FunctionSensor,
    PositionSensor,
    RangeBearing,
    RangeBearingDoppler,
)

LINEARISATIONS = [EKF(), UKF(), UKF(alpha=0.5, kappa=1.0), CKF()]


def name(linearisation):
    return type(linearisation).__name__


def gaussians(seed, n, d, scale=1.0):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(n, d, d))
    return scale * rng.normal(size=(n, d)), scale**2 * (factor @ factor.swapaxes(1, 2) + 0.1 * np.eye(d))


def as_functions(motion, sensor):
    """The same linear models in a form that no filter can recognise as linear."""
    return (
        FunctionMotion(motion.dim, motion.transition, lambda dt: motion.noise(None, dt), dims=motion.dims),
        FunctionSensor(sensor.dim_z, sensor.measure, std=sensor.std, p_detect=sensor.p_detect),
    )


def test_kalman_filter_equals_conditioning_of_one_joint_gaussian():
    rng = np.random.default_rng(0)
    motion, sensor = ConstantAcceleration(2, q=0.3), PositionSensor(std=(0.5, 2.0))
    m, P = gaussians(1, 1, 6)
    prior, steps, seen, log_density = (m[0], P[0]), [], [], 0.0
    for k, dt in enumerate((None, 1.0, 0.2, 0.0, 3.0, 0.7)):
        if dt is not None:
            steps.append((motion.matrix(dt), motion.noise(None, dt)))
            m, P = EKF().predict(m, P, motion, dt)
        z = None if k in (1, 4) else 3 * rng.normal(size=2)
        seen.append(z)
        if z is not None:
            innovation = EKF().innovate(m, P, sensor)
            nu = z - innovation.z_hat
            log_density += log_likelihood(innovation, nu)[0]
            m = m + np.einsum("nij,nj->ni", innovation.gain, nu)
            P = innovation.P_post
        mean, cov, total = condition(prior, steps, np.eye(2, 6), sensor.noise(None), seen)
        np.testing.assert_allclose(m[0], mean, atol=1e-9)
        np.testing.assert_allclose(P[0], cov, atol=1e-9)
        assert log_density == pytest.approx(total, abs=1e-9)


def test_kalman_filter_equals_filterpy():
    kalman = pytest.importorskip("filterpy.kalman", reason="filterpy is in the robotics extra")
    motion, sensor = ConstantVelocity(2, q=0.4), PositionSensor(std=1.5)
    m, P = gaussians(2, 1, 4)
    other = kalman.KalmanFilter(dim_x=4, dim_z=2)
    other.x, other.P = m[0][:, None].copy(), P[0].copy()
    other.H, other.R = np.eye(2, 4), sensor.noise(None)
    rng = np.random.default_rng(0)
    for dt in (1.0, 0.3, 2.0):
        other.predict(F=motion.matrix(dt), Q=motion.noise(None, dt))
        m, P = EKF().predict(m, P, motion, dt)
        z = rng.normal(size=2)
        other.update(z[:, None])
        innovation = EKF().innovate(m, P, sensor)
        nu = z - innovation.z_hat
        np.testing.assert_allclose(log_likelihood(innovation, nu)[0], other.log_likelihood, atol=1e-10)
        m, P = m + np.einsum("nij,nj->ni", innovation.gain, nu), innovation.P_post
        np.testing.assert_allclose(m[0], other.x.ravel(), atol=1e-10)
        np.testing.assert_allclose(P[0], other.P, atol=1e-10)


@pytest.mark.parametrize("linearisation", LINEARISATIONS[1:], ids=name)
@pytest.mark.parametrize("disguised", [False, True])
def test_all_are_the_kalman_filter_on_linear_models(linearisation, disguised):
    motion, sensor = ConstantVelocity(2, q=0.7), PositionSensor(std=(0.5, 2.0))
    m, P = gaussians(3, 5, 4)
    expected = EKF().predict(m, P, motion, 0.8)
    innovation = EKF().innovate(m, P, sensor)
    if disguised:
        motion, sensor = as_functions(motion, sensor)
    for a, b in zip(linearisation.predict(m, P, motion, 0.8), expected):
        np.testing.assert_allclose(a, b, atol=1e-10)
    for a, b in zip(linearisation.innovate(m, P, sensor), innovation):
        np.testing.assert_allclose(a, b, atol=1e-10)


def test_numeric_derivatives_make_the_same_ekf():
    motion, sensor = ConstantVelocity(2, q=0.7), PositionSensor(std=(0.5, 2.0))
    free_motion, free_sensor = as_functions(motion, sensor)
    m, P = gaussians(3, 5, 4)
    for a, b in zip(EKF().predict(m, P, free_motion, 0.8), EKF().predict(m, P, motion, 0.8)):
        np.testing.assert_allclose(a, b, atol=1e-8)
    for a, b in zip(EKF().innovate(m, P, free_sensor), EKF().innovate(m, P, sensor)):
        np.testing.assert_allclose(a, b, atol=1e-8)


def sampled(m, P, function, n=400_000):
    x = np.random.default_rng(0).multivariate_normal(m, P, n)
    y = function(x)
    return x, y, y.mean(axis=0), np.cov(y.T)


@pytest.mark.parametrize("linearisation", LINEARISATIONS[1:], ids=name)
def test_sigma_points_have_the_moments_they_stand_for(linearisation):
    m, P = gaussians(7, 3, 4)
    points, w_mean, w_cov = linearisation.points(m, P)
    assert w_mean.sum() == pytest.approx(1)
    np.testing.assert_allclose(np.einsum("k,nki->ni", w_mean, points), m, atol=1e-12)
    e = points - m[:, None]
    np.testing.assert_allclose(np.einsum("k,nki,nkj->nij", w_cov, e, e), P, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0])
def test_unscented_moments_of_a_square_are_exact(alpha):
    """beta = 2 is the value for a Gaussian: x^2 of x ~ N(0, s) has mean s and variance 2 s^2."""
    square = FunctionSensor(1, lambda x: x**2, std=1e-6)
    innovation = UKF(alpha=alpha, kappa=0.0).innovate(np.zeros((1, 1)), np.array([[[3.0]]]), square)
    assert innovation.z_hat[0, 0] == pytest.approx(3.0)
    assert innovation.S[0, 0, 0] == pytest.approx(2 * 3.0**2)


@pytest.mark.parametrize("linearisation", [UKF(), CKF()], ids=name)
def test_sigma_points_predict_the_moments_of_a_turn(linearisation):
    motion = CoordinatedTurn(1e-6, 1e-6)
    m = np.array([10.0, 20.0, 15.0, -5.0, 0.3])
    P = np.diag([4.0, 4.0, 1.0, 1.0, 0.05**2])
    _, _, mean, cov = sampled(m, P, lambda x: motion.transition(x, 2.0))
    got_mean, got_cov = linearisation.predict(m[None], P[None], motion, 2.0)
    std = np.sqrt(np.diag(cov))
    np.testing.assert_allclose(got_mean[0], mean, atol=0.02 * std.max())
    np.testing.assert_allclose(got_cov[0] / np.outer(std, std), cov / np.outer(std, std), atol=0.06)
    ekf_mean = EKF().predict(m[None], P[None], motion, 2.0)[0][0]
    assert np.abs(got_mean[0] - mean).max() < np.abs(ekf_mean - mean).max() / 5


@pytest.mark.parametrize("linearisation", [UKF(), CKF()], ids=name)
@pytest.mark.parametrize("bearing", [0.4, np.pi, -np.pi + 0.02])
def test_sigma_points_predict_the_moments_of_range_and_bearing(linearisation, bearing):
    sensor = RangeBearing(std=(0.5, 0.01))
    m = np.array([50 * np.cos(bearing), 50 * np.sin(bearing), 1.0, 0.0])
    P = np.diag([5.0, 8.0, 1.0, 1.0])
    centre = sensor.measure(m[None])
    x, _, mean, cov = sampled(m, P, lambda x: sensor.residual(sensor.measure(x), centre))
    z_hat = linearisation.innovate(m[None], P[None], sensor)
    std = np.sqrt(np.diag(cov))
    np.testing.assert_allclose(sensor.residual(z_hat.z_hat, centre)[0] / std, mean / std, atol=0.02)
    S = (cov + sensor.noise(None)) / np.outer(std, std)
    np.testing.assert_allclose(z_hat.S[0] / np.outer(std, std), S, atol=0.03)
    cross = (x - m).T @ sensor.residual(sensor.measure(x), centre + mean) / len(x)
    np.testing.assert_allclose(z_hat.gain[0] @ z_hat.S[0], cross, atol=0.03 * np.abs(cross).max())


@pytest.mark.parametrize("linearisation", [EKF(), UKF(), CKF()], ids=name)
def test_bearings_on_both_sides_of_the_seam_update_alike(linearisation):
    """Turning the whole scene by a quarter turns the result, also where the bearing jumps."""
    sensor = RangeBearing(std=(1.0, 0.05))
    turn = np.kron(np.eye(2), [[0.0, -1.0], [1.0, 0.0]])
    m, P = np.array([[-40.0, -0.3, 1.0, 2.0]]), np.diag([9.0, 9.0, 1.0, 1.0])[None]
    P[:, :2, 2:] = P[:, 2:, :2] = 2 * np.eye(2)  # with this P sigma points turn with the scene
    nu = np.array([[0.5, 0.08]])
    here = linearisation.innovate(m, P, sensor)
    there = linearisation.innovate(m @ turn.T, turn @ P @ turn.T, sensor)
    np.testing.assert_allclose(here.S, there.S, atol=1e-9)
    moved = np.einsum("nij,nj->ni", here.gain, nu) @ turn.T
    np.testing.assert_allclose(moved, np.einsum("nij,nj->ni", there.gain, nu), atol=1e-9)
    assert np.abs(sensor.residual(here.z_hat, sensor.measure(m))).max() < 0.5


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 4))
def test_innovations_are_consistent(seed, n):
    """The parts of an `Innovation` fit together, for every linearisation, also without any Gaussian."""
    m, P = gaussians(seed, n, 4, 3.0)
    sensor = RangeBearingDoppler(std=(1.0, 0.1, 0.5), origin=(30.0, 30.0))
    before = m.copy(), P.copy()
    for linearisation in LINEARISATIONS:
        got = linearisation.innovate(m, P, sensor)
        assert [a.shape for a in got] == [(n, 3), (n, 3, 3), (n, 3, 3), (n,), (n, 4, 3), (n, 4, 4)]
        np.testing.assert_allclose(got.S @ got.S_inv, np.tile(np.eye(3), (n, 1, 1)), atol=1e-8)
        np.testing.assert_allclose(got.log_det, np.linalg.slogdet(got.S)[1], atol=1e-9)
        np.testing.assert_allclose(
            got.P_post,
            P - got.gain @ got.S @ got.gain.swapaxes(1, 2),
            atol=1e-8 * (1 + np.abs(P).max(initial=0)),
        )
        np.testing.assert_array_equal(got.P_post, got.P_post.swapaxes(1, 2))
    np.testing.assert_array_equal(m, before[0])
    np.testing.assert_array_equal(P, before[1])


@pytest.mark.parametrize("linearisation", LINEARISATIONS, ids=name)
def test_no_gaussians(linearisation):
    m, P = np.zeros((0, 5)), np.zeros((0, 5, 5))
    moved = linearisation.predict(m, P, CoordinatedTurn(), 1.0)
    assert [a.shape for a in moved] == [(0, 5), (0, 5, 5)]
    assert linearisation.innovate(m, P, RangeBearing(std=1.0)).S.shape == (0, 2, 2)


@pytest.mark.parametrize("linearisation", [EKF(), UKF(), CKF()], ids=name)
@pytest.mark.parametrize("sensor", [PositionSensor(std=0.1), RangeBearing(std=(0.1, 0.001))], ids=name)
def test_covariances_stay_positive_definite_over_ten_thousand_steps(linearisation, sensor):
    """10,000 predict-update steps: 20 states side by side, 500 steps of very different lengths."""
    rng = np.random.default_rng(0)
    motion = ConstantVelocity(2, q=1e-3) if sensor.linear else CoordinatedTurn(0.1, 0.01)
    truth = np.tile([1000.0, 500.0, -1.0, 2.0, 0.001][: motion.dim], (20, 1))
    m, P = (
        truth + rng.normal(size=truth.shape) * 0.01,
        np.tile(np.diag([1e4, 1e4, 1e2, 1e2, 1e-4][: motion.dim]), (20, 1, 1)),
    )
    for _ in range(500):
        dt = 10 ** rng.uniform(-4, 1)
        truth = motion.transition(truth, dt)
        m, P = linearisation.predict(m, P, motion, dt)
        assert_covariances(P)
        innovation = linearisation.innovate(m, P, sensor)
        z = sensor.measure(truth) + rng.normal(size=(20, 2)) * np.sqrt(np.diag(sensor.noise(truth)))
        m = m + np.einsum("nij,nj->ni", innovation.gain, sensor.residual(z, innovation.z_hat))
        P = innovation.P_post
        assert_covariances(P)
    std = np.sqrt(np.diagonal(P, axis1=1, axis2=2)[:, :2])
    assert (np.abs(m - truth)[:, :2] < 6 * std).all()


def assert_covariances(P):
    np.testing.assert_array_equal(P, P.swapaxes(1, 2))
    np.linalg.cholesky(P)


def test_log_likelihood_is_the_density():
    stats = pytest.importorskip("scipy.stats")
    m, P = gaussians(4, 3, 4)
    sensor = PositionSensor(std=(1.0, 0.2))
    innovation = EKF().innovate(m, P, sensor)
    z = np.random.default_rng(1).normal(size=(3, 2))
    expected = [
        stats.multivariate_normal(a, S).logpdf(b) for a, S, b in zip(innovation.z_hat, innovation.S, z)
    ]
    nu = z - innovation.z_hat
    np.testing.assert_allclose(log_likelihood(innovation, nu), expected, atol=1e-10)
    pick = np.array([2, 0, 2])
    np.testing.assert_allclose(
        log_likelihood(innovation, nu[pick], pick), np.array(expected)[pick], atol=1e-10
    )
    d2 = [v @ np.linalg.inv(S) @ v for v, S in zip(nu, innovation.S)]
    np.testing.assert_allclose(mahalanobis2(innovation, nu), d2, atol=1e-10)


def test_log_likelihood_does_not_underflow():
    S = np.array([[[1e-200]]])
    innovation = Innovation(np.zeros((1, 1)), S, 1 / S, np.log(S).ravel(), None, None)
    assert log_likelihood(innovation, np.array([[1e-100]]))[0] == pytest.approx(
        -0.5 * (1 + np.log(2 * np.pi) - 200 * np.log(10))
    )


def test_moment_match_against_samples_and_by_hand():
    w, (m, P) = np.array([2.0, 6.0]), gaussians(6, 2, 3)
    mean, cov = moment_match(w, m, P)
    rng = np.random.default_rng(0)
    which = rng.random(400_000) < 0.25
    x = np.where(which[:, None], *(rng.multivariate_normal(a, C, 400_000) for a, C in zip(m, P)))
    np.testing.assert_allclose(mean, x.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(cov, np.cov(x.T), atol=0.04)
    one = moment_match([0.3], m[:1], P[:1])
    np.testing.assert_allclose(one[0], m[0])
    np.testing.assert_allclose(one[1], P[0])


def test_symmetrise_and_cholesky():
    a = np.random.default_rng(0).normal(size=(2, 3, 3))
    np.testing.assert_array_equal(symmetrise(a), (a + a.swapaxes(1, 2)) / 2)
    _, P = gaussians(0, 3, 4)
    np.testing.assert_allclose(cholesky(P), np.linalg.cholesky(P))


def test_cholesky_survives_singular_covariances():
    v = np.array([[1.0, 2.0, 3.0]])
    P = np.stack((v.T @ v, np.diag([1.0, 0.0, -1e-14]), np.eye(3)))
    L = cholesky(P)
    np.testing.assert_allclose(L @ L.swapaxes(1, 2), P, atol=1e-10)


def test_compiled_sizes_have_names_of_their_own():
    """On disk numba knows functions by name; of two with one name, one got what belonged to the other."""
    from tracking import kalman

    found = [kalman._gains(4, 2), kalman._gains(8, 4), kalman._propagation(4), kalman._propagation(8)]
    assert len({function.__qualname__ for function in found}) == 4
