import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracking.models import FunctionSensor, PositionSensor, RangeBearing, RangeBearingDoppler
from tracking.models.sensor import P_DETECT_MAX

POLAR = [
    RangeBearing(std=(2.0, 0.05)),
    RangeBearing(std=(2.0, 0.05), origin=(30.0, -10.0), from_north=True),
    RangeBearingDoppler(std=(2.0, 0.05, 0.3), origin=(-5.0, 8.0)),
    RangeBearingDoppler(std=(2.0, 0.05, 0.3), from_north=True),
]
ALL = [PositionSensor(std=1.0), PositionSensor(3, std=(1.0, 2.0, 3.0)), *POLAR]


def name(sensor):
    return type(sensor).__name__ + ("North" if getattr(sensor, "from_north", False) else "")


def states(seed, n=6, d=6):
    return np.random.default_rng(seed).normal(size=(n, d)) * 20


@pytest.mark.parametrize("sensor", ALL, ids=name)
def test_jacobian_is_the_derivative(sensor):
    x = states(0)
    H = np.broadcast_to(sensor.jacobian(x), (len(x), sensor.dim_z, 6))
    h = 1e-5
    for i in range(6):
        e = h * np.eye(6)[i]
        numeric = sensor.residual(sensor.measure(x + e), sensor.measure(x - e)) / (2 * h)
        np.testing.assert_allclose(H[:, :, i], numeric, atol=1e-7)


@pytest.mark.parametrize("sensor", POLAR, ids=name)
def test_differences_step_over_the_seam(sensor):
    """The derivative of a bearing is right where the bearing itself jumps."""
    along = (0.0, -1.0) if sensor.from_north else (-1.0, 0.0)
    x = np.zeros((1, 4))
    x[0, :2] = np.add(sensor.origin, np.multiply(40.0, along))
    free = FunctionSensor(sensor.dim_z, sensor.measure, std=sensor.std, angles=sensor.angles)
    np.testing.assert_allclose(free.jacobian(x), sensor.jacobian(x), atol=1e-8)


def test_measurements_by_hand():
    x = np.array([[3.0, 4.0, 1.0, 0.5]])
    np.testing.assert_allclose(PositionSensor(std=1).measure(x), [[3, 4]])
    np.testing.assert_allclose(RangeBearing(std=1).measure(x), [[5, np.arctan2(4, 3)]])
    np.testing.assert_allclose(RangeBearing(std=1, from_north=True).measure(x), [[5, np.arctan2(3, 4)]])
    np.testing.assert_allclose(RangeBearing(std=1, origin=(3, 5)).measure(x), [[1, -np.pi / 2]])
    np.testing.assert_allclose(RangeBearingDoppler(std=1).measure(x), [[5, np.arctan2(4, 3), 1.0]])


@pytest.mark.parametrize("sensor", ALL, ids=name)
def test_locate_inverts_measure(sensor):
    x = states(1)
    position, _, _ = sensor.locate(sensor.measure(x), 4)
    np.testing.assert_allclose(position, x[:, : position.shape[1]], atol=1e-10)


@pytest.mark.parametrize("sensor", ALL, ids=name)
def test_locate_gives_covariance_and_volume_of_the_inverse(sensor):
    z = sensor.measure(states(2))
    position, cov, log_volume = sensor.locate(z, 4)
    dims, h = position.shape[1], 1e-6
    J = np.empty((len(z), dims, dims))
    for i in range(dims):
        e = h * np.eye(sensor.dim_z)[i]
        J[:, :, i] = (sensor.locate(z + e, 4)[0] - sensor.locate(z - e, 4)[0]) / (2 * h)
    np.testing.assert_allclose(log_volume, np.linalg.slogdet(J)[1], atol=1e-6)
    R = sensor.noise(position)[:dims, :dims]
    np.testing.assert_allclose(cov, J @ R @ J.swapaxes(1, 2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sensor", POLAR, ids=name)
def test_located_covariance_holds_for_many_noisy_measurements(sensor):
    rng = np.random.default_rng(3)
    z0 = np.array([[200.0, 2.0, 0.0]])[:, : sensor.dim_z]
    cov = sensor.locate(z0, 4)[1]
    std = np.sqrt(np.diag(sensor.noise(z0)))
    noisy = sensor.locate(z0 + std * rng.normal(size=(100_000, sensor.dim_z)), 4)[0]
    np.testing.assert_allclose(np.cov(noisy.T), cov[0], atol=0.02 * np.trace(cov[0]))


def test_locate_of_no_measurements():
    for sensor in ALL:
        position, cov, log_volume = sensor.locate(np.zeros((0, sensor.dim_z)), 4)
        assert len(position) == len(cov) == len(log_volume) == 0


def test_noise_that_depends_on_the_state_gets_whole_states():
    """Also where there is only a measurement so far: an object at rest there."""
    sensor = RangeBearing(
        cov=lambda x: (1 + x[:, 3:4, None] ** 2 + x[:, :1, None]) * np.eye(2), origin=(1, 0)
    )
    cov = sensor.locate(np.array([[2.0, 0.0]]), 4)[1]
    np.testing.assert_allclose(cov, [np.diag([4.0, 4 * 2.0**2])])


@pytest.mark.parametrize("sensor", ALL, ids=name)
def test_nothing_is_changed(sensor):
    x, z = states(4), sensor.measure(states(5))
    before = x.copy(), z.copy()
    sensor.jacobian(x)
    sensor.residual(z, sensor.measure(x))
    position, _, _ = sensor.locate(z, 4)
    position += 1.0  # the caller may do with results what he likes
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(z, before[1])


@settings(max_examples=100, deadline=None)
@given(a=st.floats(-50, 50), b=st.floats(-50, 50))
def test_residual_wraps(a, b):
    nu = RangeBearing(std=1).residual(np.array([[7.0, a]]), np.array([[5.0, b]]))[0]
    assert nu[0] == 2.0
    assert -np.pi < nu[1] <= np.pi
    assert np.exp(1j * nu[1]) == pytest.approx(np.exp(1j * (a - b)), abs=1e-9)


def test_residual_at_the_seam():
    sensor = RangeBearing(std=1)
    nu = sensor.residual(np.array([[0.0, np.pi], [0.0, -3.1]]), np.array([[0.0, 0.0], [0.0, 3.1]]))
    assert nu[0, 1] == np.pi  # the interval is (-pi, pi]
    assert nu[1, 1] == pytest.approx(2 * np.pi - 6.2)
    free = FunctionSensor(3, lambda x: x, std=1, angles=(0, 2))
    np.testing.assert_allclose(
        free.residual(np.full((1, 3), 6.0), np.zeros(3)), [[6 - 2 * np.pi, 6, 6 - 2 * np.pi]]
    )
    np.testing.assert_allclose(PositionSensor(std=1).residual(np.full((1, 2), 6.0), np.zeros(2)), 6.0)


def test_noise_from_std_and_cov():
    np.testing.assert_array_equal(PositionSensor(std=3.0).noise(None), 9 * np.eye(2))
    np.testing.assert_array_equal(RangeBearing(std=(2, 0.1)).noise(None), np.diag([4, 0.1**2]))
    cov = np.array([[2.0, 0.5], [0.5, 1.0]])
    sensor = PositionSensor(cov=cov)
    cov[0, 0] = 99.0
    assert sensor.noise(None)[0, 0] == 2.0  # a copy
    farther = RangeBearing(cov=lambda x: np.einsum("n,ij->nij", 1 + np.hypot(x[:, 0], x[:, 1]), np.eye(2)))
    np.testing.assert_allclose(farther.noise(np.array([[3.0, 4.0]])), [6 * np.eye(2)])
    assert not farther.linear
    assert not PositionSensor(cov=lambda x: np.eye(2)).linear
    assert PositionSensor(std=1).linear


def test_detection_probability():
    x = states(0)
    np.testing.assert_array_equal(PositionSensor(std=1, p_detect=0.7).detection(x), 0.7)
    np.testing.assert_array_equal(PositionSensor(std=1, p_detect=1.0).detection(x), P_DETECT_MAX)
    by_place = PositionSensor(std=1, p_detect=lambda x: (x[:, 0] > 0) * 1.0)
    np.testing.assert_array_equal(by_place.detection(x), np.where(x[:, 0] > 0, P_DETECT_MAX, 0.0))
    assert PositionSensor(std=1).detection(x[:0]).shape == (0,)


def test_clutter_intensity():
    z = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(PositionSensor(std=1, clutter_intensity=0.3).clutter(z), 0.3)
    by_place = PositionSensor(std=1, clutter_intensity=lambda z: z[:, 0])
    np.testing.assert_array_equal(by_place.clutter(z), [1, 3])
    assert PositionSensor(std=1).clutter(z[:0]).shape == (0,)


@pytest.mark.parametrize("bad", [1.5, -0.1, np.nan, np.inf])
def test_bad_probabilities_from_functions_are_caught(bad):
    sensor = PositionSensor(std=1, p_detect=lambda x: np.array([0.5, bad]))
    with pytest.raises(ValueError, match=r"p_detect.*index \[1\]"):
        sensor.detection(np.zeros((2, 4)))


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_bad_clutter_from_functions_is_caught(bad):
    sensor = PositionSensor(std=1, clutter_intensity=lambda z: np.array([1.0, bad]))
    with pytest.raises(ValueError, match="clutter_intensity"):
        sensor.clutter(np.zeros((2, 2)))


def test_function_sensor_needs_locate_fn_only_for_births_at_measurements():
    sensor = FunctionSensor(1, lambda x: x[:, :1], std=1)
    with pytest.raises(ValueError, match=r"locate_fn.*GaussianBirth"):
        sensor.locate(np.zeros((1, 1)), 4)
    given_one = FunctionSensor(1, lambda x: x[:, :1], locate_fn=lambda z: (z, z[:, :, None], z[:, 0]), std=1)
    assert given_one.locate(np.ones((1, 1)), 2)[0] == 1
    H = FunctionSensor(1, lambda x: x[:, :1], lambda x: np.full((len(x), 1, 2), 5.0), std=1)
    np.testing.assert_array_equal(H.jacobian(np.zeros((2, 2))), np.full((2, 1, 2), 5.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of std and cov"),
        ({"std": 1, "cov": np.eye(2)}, "exactly one of std and cov"),
        ({"std": 0.0}, "std"),
        ({"std": (1.0, np.nan)}, "std"),
        ({"std": (1.0, 2.0, 3.0)}, "std|broadcast"),
        ({"cov": np.eye(3)}, r"cov must have shape \(..., 2, 2\)"),
        ({"cov": [[1.0, 2.0], [0.0, 1.0]]}, "symmetric"),
        ({"cov": [[1.0, 2.0], [2.0, 1.0]]}, "positive definite.*-1"),
        ({"cov": [[np.nan, 0.0], [0.0, 1.0]]}, "finite"),
        ({"std": 1, "p_detect": 1.1}, "p_detect.*1.1"),
        ({"std": 1, "p_detect": np.nan}, "p_detect"),
        ({"std": 1, "clutter_intensity": 0.0}, "clutter_intensity.*> 0"),
        ({"std": 1, "clutter_intensity": np.inf}, "clutter_intensity"),
    ],
)
@pytest.mark.parametrize("kind", [PositionSensor, RangeBearing])
def test_rejects(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(**arguments)
