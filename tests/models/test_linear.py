"""Models given as matrices."""

import numpy as np
import pytest

from tracking.gaussian import EKF
from tracking.models.linear import MAX_STEPS, LinearMotion, LinearSensor, whole_steps

DT = 0.5
F = np.array([[1.0, DT, 0, 0], [0, 1, 0, 0], [0, 0, 1, DT], [0, 0, 0, 1]])
Q = 0.1 * np.kron(np.eye(2), [[DT**3 / 3, DT**2 / 2], [DT**2 / 2, DT]])
START, SPREAD = np.array([50.0, 1.0, 30.0, -2.0]), np.diag([20.0, 4.0, 20.0, 4.0])


def test_a_sensor_without_a_position():
    sensor = LinearSensor([[0.0, 1.0]], std=1.0)
    with pytest.raises(ValueError, match="Put the position first, or use GaussianBirth"):
        sensor.locate(np.zeros((1, 1)), 2)


def test_a_linear_sensor_in_other_units():
    sensor = LinearSensor([[2.0, 0.0, 0.0], [1.0, 4.0, 0.0], [0.0, 0.0, 1.0]], std=(1.0, 1.0, 0.1))
    position, cov, log_volume = sensor.locate(np.array([[2.0, 9.0, 5.0]]), 3)
    assert np.allclose(position, [[1.0, 2.0, 5.0]])
    assert np.allclose(sensor.H @ cov[0] @ sensor.H.T, np.diag([1.0, 1.0, 0.01]))
    assert np.allclose(log_volume, -np.log(8.0))


@pytest.mark.parametrize("steps", [0, 1, 2, 7, 64])
def test_many_steps_at_once_are_those_one_by_one(steps):
    motion = LinearMotion(F, Q, DT)
    m, P = START[None], SPREAD[None]
    for _ in range(steps):
        m, P = EKF().predict(m, P, motion, DT)
    again = EKF().predict(START[None], SPREAD[None], motion, steps * DT)
    assert np.allclose(again[0], m, rtol=1e-12, atol=1e-9)
    assert np.allclose(again[1], P, rtol=1e-12, atol=1e-9)


def test_steps_are_whole():
    assert whole_steps(1.02, 0.5) == 2
    assert whole_steps(1e9 + 0.1 - 1e9, 0.1) == 1
    for dt in (0.6, 0.5 * (MAX_STEPS + 1)):
        with pytest.raises(ValueError, match="Give F and Q as functions of the step"):
            whole_steps(dt, 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((F, Q[:2, :2], DT), "F and Q must be square and of one size"),
        ((F, -Q, DT), "Q must return covariances"),
        ((np.nan * F, Q, DT), "F must be finite"),
        ((F, Q, 0.0), "dt must be finite and > 0"),
        ((F, Q, DT, 5), "dims must be from 1 to 4"),
    ],
)
def test_matrices_that_are_no_motion(arguments, message):
    with pytest.raises(ValueError, match=message):
        LinearMotion(*arguments)
