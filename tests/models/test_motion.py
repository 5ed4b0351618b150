import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from tracking.models import (
    ConstantAcceleration,
    ConstantVelocity,
    CoordinatedTurn,
    FunctionMotion,
    RandomWalk,
)
from tracking.models.motion import central_differences

LINEAR = [
    ConstantVelocity(1),
    ConstantVelocity(3, q=0.5),
    ConstantVelocity(2, noise_model="piecewise"),
    ConstantAcceleration(2, q=2.0),
    ConstantAcceleration(1, noise_model="piecewise"),
    RandomWalk(2, q=0.3),
    ConstantVelocity(2, q=(0.3, 2.0)),
    ConstantAcceleration(3, q=(0.3, 2.0, 0.0)),
]
BENT = FunctionMotion(
    3,
    lambda x, dt: np.stack((x[:, 0] + dt * np.sin(x[:, 1]), x[:, 1] + dt * x[:, 2] ** 2, x[:, 2]), axis=1),
    lambda dt: dt * np.eye(3),
)
ALL = [*LINEAR, CoordinatedTurn(2.0, 0.1), BENT]
STEPS = st.floats(0, 20)


def name(motion):
    return type(motion).__name__


def states(motion, seed, n=4):
    return np.random.default_rng(seed).normal(size=(n, motion.dim)) * 3


@pytest.mark.parametrize("motion", ALL, ids=name)
@pytest.mark.parametrize("dt", [0.0, 1e-3, 0.7, 5.0])
def test_jacobian_is_the_derivative(motion, dt):
    x = states(motion, 0)
    J = np.broadcast_to(motion.jacobian(x, dt), (len(x), motion.dim, motion.dim))
    h = 1e-6
    for i in range(motion.dim):
        e = h * np.eye(motion.dim)[i]
        numeric = (motion.transition(x + e, dt) - motion.transition(x - e, dt)) / (2 * h)
        np.testing.assert_allclose(J[:, :, i], numeric, atol=2e-7 * max(1, dt) ** 2)


@settings(max_examples=60, deadline=None)
@given(omega=st.floats(-1e-3, 1e-3) | st.floats(-3, 3), dt=st.floats(0, 5))
def test_turn_jacobian_near_and_at_straight_ahead(omega, dt):
    motion, x = CoordinatedTurn(), np.array([[1.0, -2.0, 3.0, 0.5, omega]])
    h = 1e-5
    e = h * np.eye(5)[4]
    numeric = (motion.transition(x + e, dt) - motion.transition(x - e, dt)) / (2 * h)
    np.testing.assert_allclose(motion.jacobian(x, dt)[:, :, 4], numeric, atol=1e-6)


def test_straight_ahead_turns_into_constant_velocity():
    x = np.array([[1.0, 2.0, 3.0, -4.0, 0.0]])
    straight = ConstantVelocity(2).transition(x[:, :4], 1.7)
    np.testing.assert_allclose(CoordinatedTurn().transition(x, 1.7)[:, :4], straight, atol=1e-12)


def test_a_full_turn_comes_back():
    x = np.array([[1.0, 2.0, 3.0, -4.0, 0.5]])
    np.testing.assert_allclose(CoordinatedTurn().transition(x, 4 * np.pi), x, atol=1e-12)
    quarter = CoordinatedTurn().transition(np.array([[0.0, 0.0, 1.0, 0.0, np.pi / 2]]), 1.0)
    np.testing.assert_allclose(quarter, [[2 / np.pi, 2 / np.pi, 0, 1, np.pi / 2]], atol=1e-12)


@pytest.mark.parametrize("motion", [*LINEAR, CoordinatedTurn()], ids=name)
@settings(max_examples=30, deadline=None)
@given(a=STEPS, b=STEPS)
def test_transitions_compose(motion, a, b):
    x = states(motion, 1)
    if not motion.linear:
        x[:, 4] /= 10
    np.testing.assert_allclose(
        motion.transition(motion.transition(x, a), b), motion.transition(x, a + b), rtol=1e-9, atol=1e-9
    )
    np.testing.assert_allclose(motion.transition(x, 0.0), x, atol=1e-12)


@pytest.mark.parametrize(
    "motion", [m for m in LINEAR if getattr(m, "noise_model", "") != "piecewise"], ids=name
)
@settings(max_examples=30, deadline=None)
@given(a=STEPS, b=STEPS)
def test_white_noise_does_not_depend_on_how_a_step_is_cut(motion, a, b):
    F, (Qa, Qb, Q) = motion.matrix(b), (motion.noise(None, dt) for dt in (a, b, a + b))
    np.testing.assert_allclose(F @ Qa @ F.T + Qb, Q, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("motion", "order"),
    [(RandomWalk(1, q=0.7), 1), (ConstantVelocity(1, q=0.7), 2), (ConstantAcceleration(1, q=0.7), 3)],
)
def test_white_noise_is_that_of_the_continuous_model(motion, order):
    """Van Loan: Q by the exponential of a block matrix of the differential equation."""
    A, dt = np.diag(np.ones(order - 1), 1), 1.3
    L = np.zeros((order, order))
    L[-1, -1] = 0.7
    block = expm(np.block([[-A, L], [np.zeros_like(A), A.T]]) * dt)
    F = block[order:, order:].T
    np.testing.assert_allclose(motion.matrix(dt), F, atol=1e-12)
    np.testing.assert_allclose(motion.noise(None, dt), F @ block[:order, order:], atol=1e-12)


def test_piecewise_noise_is_that_of_a_held_acceleration():
    g = np.array([[2.0], [2.0]])  # dt^2 / 2 and dt at dt = 2
    np.testing.assert_allclose(
        ConstantVelocity(1, q=0.5, noise_model="piecewise").noise(None, 2.0), 0.5 * g @ g.T
    )
    g = np.array([[2.0], [2.0], [1.0]])
    np.testing.assert_allclose(
        ConstantAcceleration(1, q=0.5, noise_model="piecewise").noise(None, 2.0), 0.5 * g @ g.T
    )


@pytest.mark.parametrize("kind", [RandomWalk, ConstantVelocity, ConstantAcceleration])
@pytest.mark.parametrize("noise_model", ["white", "piecewise"])
def test_each_axis_has_its_noise(kind, noise_model):
    options = {} if kind is RandomWalk else {"noise_model": noise_model}
    Q = kind(2, q=(0.3, 2.0), **options).noise(None, 1.7)
    for axis, q in enumerate((0.3, 2.0)):
        np.testing.assert_allclose(Q[axis::2, axis::2], kind(1, q=q, **options).noise(None, 1.7))
    assert (Q[0::2, 1::2] == 0).all()


@pytest.mark.parametrize("motion", ALL, ids=name)
@pytest.mark.parametrize("dt", [0.0, 1e-6, 0.3, 1.0, 100.0])
def test_noise_is_a_covariance(motion, dt):
    Q = motion.noise(states(motion, 0), dt)
    assert Q.shape == (motion.dim, motion.dim)
    np.testing.assert_array_equal(Q, Q.T)
    assert np.linalg.eigvalsh(Q).min() >= -1e-12 * max(np.abs(Q).max(), 1)


@pytest.mark.parametrize("motion", ALL, ids=name)
def test_batches_are_rows_apart_and_inputs_stay(motion):
    x = states(motion, 2, 5)
    before = x.copy()
    together = motion.transition(x, 0.9)
    one_by_one = np.concatenate([motion.transition(row[None], 0.9) for row in x])
    np.testing.assert_allclose(together, one_by_one, atol=1e-14)
    assert motion.transition(x[:0], 0.9).shape == (0, motion.dim)
    motion.jacobian(x, 0.9)
    motion.noise(x, 0.9)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("motion", ALL, ids=name)
def test_position_comes_first(motion):
    assert 1 <= motion.dims <= motion.dim
    x = np.zeros((1, motion.dim))
    if isinstance(motion, (ConstantVelocity, CoordinatedTurn)):
        x[0, motion.dims : 2 * motion.dims] = 1.0
        np.testing.assert_allclose(motion.transition(x, 0.5)[0, : motion.dims], 0.5)


def test_function_motion_uses_the_given_jacobian():
    F = np.array([[1.0, 2.0], [0.0, 1.0]])
    motion = FunctionMotion(
        2, lambda x, dt: x @ F.T, lambda dt: np.eye(2), lambda x, dt: np.tile(7 * F, (len(x), 1, 1)), dims=1
    )
    np.testing.assert_array_equal(motion.jacobian(np.zeros((3, 2)), 1.0), np.tile(7 * F, (3, 1, 1)))
    assert motion.dims == 1


def test_central_differences_scale_with_the_state():
    x = np.array([[1e6, 1e-3], [-2e4, 5.0]])
    J = central_differences(lambda x: np.stack((x[:, 0] ** 2, x[:, 0] * x[:, 1]), axis=1), x)
    exact = np.stack(
        (np.stack((2 * x[:, 0], 0 * x[:, 0]), axis=1), np.stack((x[:, 1], x[:, 0]), axis=1)), axis=1
    )
    np.testing.assert_allclose(J, exact, rtol=1e-8, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConstantVelocity(0), "dims"),
        (lambda: ConstantVelocity(1.5), "dims"),
        (lambda: ConstantVelocity(2, q=-1), "q must"),
        (lambda: ConstantVelocity(2, q=np.nan), "q must"),
        (lambda: ConstantVelocity(2, q=(1.0, -1.0)), "q must"),
        (lambda: ConstantVelocity(2, q=(1.0, 1.0, 1.0)), "q must be one number, or one for each of 2"),
        (lambda: RandomWalk(2, q=[[1.0, 1.0]]), "q must"),
        (lambda: ConstantVelocity(2, noise_model="pink"), "noise_model.*pink"),
        (lambda: ConstantAcceleration(-1), "dims"),
        (lambda: ConstantAcceleration(2, q=np.inf), "q must"),
        (lambda: ConstantAcceleration(2, noise_model=""), "noise_model"),
        (lambda: RandomWalk(0), "dims"),
        (lambda: RandomWalk(2, q=-0.1), "q must"),
        (lambda: CoordinatedTurn(acceleration_std=0), "acceleration_std"),
        (lambda: CoordinatedTurn(turn_rate_std=np.nan), "turn_rate_std"),
    ],
)
def test_rejects(make, message):
    with pytest.raises(ValueError, match=message):
        make()
