import numpy as np
import pytest

from tracking.models import (
    GaussianBirth,
    MeasurementBirth,
    PositionSensor,
    RangeBearing,
    RangeBearingDoppler,
    UniformBirth,
)


def test_gaussian_rates_add_up_over_time():
    birth = GaussianBirth([0.1, 0.3], np.zeros((2, 4)), np.eye(4))
    np.testing.assert_allclose(birth.expected(3.0, 2.0), [0.2, 0.6])
    whole = birth.expected(5.0, 1.0)
    parts = sum(birth.expected(4.0 + k / 10, 0.1) for k in range(1, 11))
    np.testing.assert_allclose(parts, whole)
    np.testing.assert_array_equal(birth.expected(5.0, 0.0), 0.0)


def test_one_rate_serves_all_components_and_covariances_broadcast():
    birth = GaussianBirth(0.2, [[0, 0], [1, 1], [2, 2]], np.eye(2))
    assert birth.cov.shape == (3, 2, 2)
    np.testing.assert_array_equal(birth.expected(0.0, 1.0), [0.2] * 3)
    assert GaussianBirth(0.2, [1.0, 2.0], np.eye(2)).mean.shape == (1, 2)


def test_rates_may_be_functions_of_time():
    birth = GaussianBirth(lambda t: [t, 0.0], np.zeros((2, 2)), np.eye(2))
    np.testing.assert_allclose(birth.expected(3.0, 0.5), [1.5, 0.0])
    np.testing.assert_allclose(
        GaussianBirth(lambda t: t, np.zeros((2, 2)), np.eye(2)).expected(3.0, 0.5), 1.5
    )
    assert UniformBirth(lambda t: 2 * t).expected(3.0, 0.5) == 3.0


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_bad_rates_from_functions_are_caught(bad):
    for birth in (
        UniformBirth(lambda t: bad),
        GaussianBirth(lambda t: [0.0, bad], np.zeros((2, 2)), np.eye(2)),
    ):
        with pytest.raises(ValueError, match=r"rate.*at time 7"):
            birth.expected(7.0, 1.0)


def test_births_keep_copies():
    mean, cov, rate = np.zeros((1, 2)), np.eye(2), np.array([0.1])
    birth = GaussianBirth(rate, mean, cov)
    mean[:], cov[:], rate[:] = 9, 9, 9
    assert birth.mean.max() == 0
    assert birth.cov.max() == 1
    assert birth.rate.max() == 0.1


def test_a_birth_at_a_position_measurement():
    birth = UniformBirth(1.0, rest_std=(3.0, 4.0), rest_mean=(0.5, -0.5))
    sensor = PositionSensor(std=(1.0, 2.0))
    z = np.array([[5.0, 6.0], [7.0, 8.0]])
    m, P, log_density = birth.start(z, sensor, 4)
    np.testing.assert_array_equal(m, [[5, 6, 0.5, -0.5], [7, 8, 0.5, -0.5]])
    np.testing.assert_array_equal(P, [np.diag([1.0, 4.0, 9.0, 16.0])] * 2)
    np.testing.assert_array_equal(log_density, 0.0)
    assert [a.shape for a in birth.start(z[:0], sensor, 4)] == [(0, 4), (0, 4, 4), (0,)]


def test_log_density_is_that_of_measuring_an_object_anywhere():
    """Objects uniform with density one per m^2: count the measurements in a small cell of (r, bearing)."""
    rng = np.random.default_rng(0)
    sensor = RangeBearing(std=(0.5, 0.01))
    n, half = 4_000_000, 60.0
    position = rng.uniform(-half, half, (n, 2))
    z = sensor.measure(position) + rng.normal(size=(n, 2)) * (0.5, 0.01)
    centre, cell = np.array([40.0, 0.8]), np.array([4.0, 0.1])
    inside = (np.abs(z - centre) < cell / 2).all(axis=1).sum()
    density = inside / (n / (2 * half) ** 2) / cell.prod()
    log_density = UniformBirth(1.0).start(centre[None], sensor, 4)[2]
    assert np.exp(log_density[0]) == pytest.approx(density, rel=0.03)


def test_a_range_rate_refines_the_velocity():
    """Position taken as exact, the radial speed follows from the rate; its density is that of the rate."""
    sensor = RangeBearingDoppler(std=(1e-4, 1e-6, 0.5))
    birth = UniformBirth(1.0, rest_std=2.0, rest_mean=(1.0, 0.0))
    z = np.array([[100.0, 0.0, 3.0]])
    m, P, log_density = birth.start(z, sensor, 4)
    gain = 4 / (4 + 0.25)
    np.testing.assert_allclose(m, [[100, 0, 1 + gain * (3 - 1), 0]], atol=1e-3)
    np.testing.assert_allclose(np.diag(P[0])[2:], [4 * (1 - gain), 4.0], rtol=1e-3)
    s2 = 4.25
    rate = -0.5 * (2**2 / s2 + np.log(2 * np.pi * s2))
    assert log_density[0] == pytest.approx(np.log(100.0) + rate, abs=1e-3)
    assert np.linalg.eigvalsh(P[0]).min() > 0
    assert [len(a) for a in birth.start(z[:0], sensor, 4)] == [0, 0, 0]


def test_the_box():
    birth = UniformBirth(1.0, rest_mean=(5.0, 6.0), lower=(-1.0, 0.0), upper=(3.0, 10.0))
    assert birth.volume == 40.0
    x = birth.grid(4)
    np.testing.assert_array_equal(x[:, 2:], np.tile([5.0, 6.0], (len(x), 1)))
    assert ((x[:, :2] > (-1, 0)) & (x[:, :2] < (3, 10))).all()


@pytest.mark.parametrize("dims", [1, 2, 3, 4, 5])
def test_the_grid_averages_over_the_box(dims):
    lower, upper = -np.arange(1.0, dims + 1), np.full(dims, 2.0)
    x = UniformBirth(1.0, lower=lower, upper=upper).grid(dims)
    assert x.shape[1] == dims
    assert len(x) <= 5000
    np.testing.assert_allclose(x.mean(axis=0), (lower + upper) / 2, atol=1e-12)
    np.testing.assert_allclose(x.var(axis=0), (upper - lower) ** 2 / 12, rtol=0.07)
    assert len(np.unique(x, axis=0)) == len(x)


@pytest.mark.parametrize(("std", "dt"), [(1.0, 1.0), ((3.0, 0.5), 2.0), (2.0, 0.0)])
@pytest.mark.parametrize("mean", [0.0, (-3.0, 1.5)])
def test_staying_in_the_box_against_simulation(mean, std, dt):
    rng = np.random.default_rng(0)
    lower, upper = np.array([-40.0, 0.0]), np.array([60.0, 70.0])
    birth = UniformBirth(1.0, std, mean, lower, upper)
    velocity = np.asarray(mean) + np.asarray(std) * rng.normal(size=(400_000, 2))
    x = rng.uniform(lower, upper, (400_000, 2)) + dt * velocity
    stays = ((x > lower) & (x < upper)).all(axis=1).mean()
    assert birth.stay(dt, lower, upper) == pytest.approx(stays, abs=4e-3)
    assert birth.stay(1e9, lower, upper) == 0.0
    assert birth.stay(dt, lower - 1e3, upper + 1e3) == 1.0  # out of the box, not out of the region
    one_side = birth.stay(dt, lower, upper + 1e3)
    assert birth.stay(dt, lower, upper) <= one_side <= 1.0


def test_measurement_births_share_what_is_expected():
    birth = MeasurementBirth(1.0, max_probability=0.5)
    np.testing.assert_allclose(birth.share(np.array([0.0, 1.0, 0.5]), 0.3), [0.2, 0.0, 0.1])
    np.testing.assert_allclose(birth.share(np.zeros(2), 5.0), [0.5, 0.5])  # capped
    np.testing.assert_array_equal(birth.share(np.ones(3), 1.0), 0.0)  # all explained
    np.testing.assert_array_equal(birth.share(np.array([1 + 1e-12, -1e-12]), 0.1), [0.0, 0.1])  # rounding
    assert birth.share(np.zeros(0), 1.0).shape == (0,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianBirth(0.0, np.zeros(2), np.eye(2)), "rate"),
        (lambda: GaussianBirth([0.1, -0.1], np.zeros((2, 2)), np.eye(2)), "rate"),
        (lambda: GaussianBirth([0.1, 0.2, 0.3], np.zeros((2, 2)), np.eye(2)), "rate|broadcast"),
        (lambda: GaussianBirth(0.1, [0.0, np.nan], np.eye(2)), "mean must be finite"),
        (lambda: GaussianBirth(0.1, np.zeros(2), np.eye(3)), "cov must have shape"),
        (lambda: GaussianBirth(0.1, np.zeros(2), -np.eye(2)), "positive definite"),
        (lambda: GaussianBirth(0.1, np.zeros(2), [[1, 2], [0, 1]]), "symmetric"),
        (lambda: GaussianBirth(0.1, np.zeros((3, 2)), np.tile(np.eye(2), (2, 1, 1))), "cov|broadcast"),
        (lambda: UniformBirth(0.0), "rate"),
        (lambda: UniformBirth(np.nan), "rate"),
        (lambda: UniformBirth(1.0, rest_std=0.0), "rest_std"),
        (lambda: UniformBirth(1.0, rest_std=(1.0, -1.0)), "rest_std"),
        (lambda: UniformBirth(1.0, lower=(0, 0), upper=(1, 0)), "lower must be below upper"),
        (lambda: UniformBirth(1.0, lower=(0, 0), upper=(1, 1, 1)), "lower must be below upper"),
        (lambda: MeasurementBirth(-1.0), "rate"),
        (lambda: MeasurementBirth(1.0, max_probability=1.5), "max_probability"),
        (lambda: MeasurementBirth(1.0, rest_std=np.inf), "rest_std"),
    ],
)
def test_rejects(make, message):
    with pytest.raises(ValueError, match=message):
        make()
