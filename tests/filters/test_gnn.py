"""Global nearest neighbour tracker."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from tiny_scene import line, mean_gospa, models, same, simulate, sorted_rows

from tracking.filters.gnn import GNN, GNNConfig, nearest
from tracking.gaussian import CKF, EKF, UKF
from tracking.models import (
    ConstantVelocity,
    GaussianBirth,
    MeasurementBirth,
    PositionSensor,
    RangeBearing,
    Survival,
    UniformBirth,
)
from tracking.models.occlusion import Occlusion

NONE = np.zeros((0, 2))
BOX = {"lower": (-500.0, -500.0), "upper": (500.0, 500.0)}


def simple(p_detect=0.9, clutter=1e-5, rate=0.1, survival=0.99, std=1.0, **settings):
    """A tracker with uniform births in a box of 1 km^2 and rest_std 5 m/s."""
    return GNN(
        ConstantVelocity(dims=2, q=0.1),
        PositionSensor(std=std, p_detect=p_detect, clutter_intensity=clutter),
        UniformBirth(rate=rate, rest_std=5.0, **BOX),
        survival,
        **settings,
    )


# --- assignment --------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 8), m=st.integers(0, 8), share=st.floats(0.1, 1.0))
def test_nearest_is_the_best_assignment(seed, n, m, share):
    rng = np.random.default_rng(seed)
    gain = rng.normal(1.0, 2.0, (n, m))
    row, col = np.nonzero(rng.random((n, m)) < share)
    offset = np.searchsorted(row, np.arange(n + 1))
    taken = nearest(offset, row, col, gain[row, col], m)

    used = np.flatnonzero(taken >= 0)
    assert (row[taken[used]] == used).all()
    assert len(set(col[taken[used]].tolist())) == len(used)
    assert (gain[row, col][taken[used]] > 0).all()
    table = np.zeros((n, m))
    table[row, col] = np.maximum(gain[row, col], 0.0)
    best = table[linear_sum_assignment(-table)].sum()
    assert gain[row, col][taken[used]].sum() == pytest.approx(best, abs=1e-9)


def test_association_is_global_not_greedy():
    tracker = simple()
    for t in range(5):
        tracker.step([[0.0, 0.0], [6.0, 0.0]], float(t))
    left = tracker.step([[0.0, 0.0], [6.0, 0.0]], 5.0)
    left = left.label[np.argmin(left.mean[:, 0])]
    tracks = tracker.step([[4.0, 0.0], [9.5, 0.0]], 6.0)  # 4 is nearer to the object at 6
    source = dict(zip(tracks.label.tolist(), tracks.source.tolist()))
    assert source[int(left)] == 0
    assert sorted(source.values()) == [0, 1]


# --- existence and state in closed form --------------------------------------------------------------------


def test_existence_follows_the_odds():
    p_d, p_s, kappa, rate, std = 0.8, 0.97, 1e-4, 0.2, 1.0
    tracker = simple(
        p_detect=p_d, clutter=kappa, rate=rate, survival=p_s, std=std, config=GNNConfig(threshold=0.0)
    )
    tracks = tracker.step([[10.0, 20.0]], 0.0)
    new = p_d * rate / 1e6
    r = new / (new + kappa)
    assert tracks.existence == pytest.approx([r], rel=1e-9)

    tracks = tracker.step([[11.0, 20.0]], 1.0)
    S = std**2 + 25.0 + std**2 + 0.1 / 3
    density = np.exp(-0.5 / S) / (2 * np.pi * S)
    undetected = rate * (1 - p_d) * p_s + rate
    odds = r * p_s / (1 - r * p_s) * p_d * density / (kappa + p_d * undetected / 1e6)
    assert tracks.existence == pytest.approx([odds / (1 + odds)], rel=1e-6)

    r = tracks.existence[0] * p_s
    tracks = tracker.step(NONE, 2.0)
    odds = r / (1 - r) * (1 - p_d)
    assert tracks.existence == pytest.approx([odds / (1 + odds)], rel=1e-9)
    assert tracks.source.tolist() == [-1]


def test_one_object_gets_the_kalman_filter():
    rng = np.random.default_rng(3)
    time, truth = line(scans=12)
    z = truth + rng.normal(size=truth.shape)
    tracker = simple(std=1.0)
    F = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    Q = tracker.models.motion.noise(None, 1.0)
    H = np.eye(2, 4)
    x, P = np.append(z[0], [0.0, 0.0]), np.diag([1.0, 1.0, 25.0, 25.0])
    for k, t in enumerate(time):
        tracks = tracker.step(z[k : k + 1], t)
        if k > 0:
            x, P = F @ x, F @ P @ F.T + Q
            K = P @ H.T @ np.linalg.inv(H @ P @ H.T + np.eye(2))
            x, P = x + K @ (z[k] - H @ x), (np.eye(4) - K @ H) @ P
    assert tracks.label.tolist() == [0]
    np.testing.assert_allclose(tracks.mean[0], x, rtol=1e-9)
    np.testing.assert_allclose(tracks.cov[0], P, rtol=1e-8, atol=1e-12)
    assert tracks.source.tolist() == [0]


def test_two_half_steps_are_one_step():
    whole, halves = simple(), simple()
    for tracker in (whole, halves):
        for t in range(4):
            tracker.step([[3.0 * t, 0.0]], float(t))
    whole, half = whole.predict(whole.density, 4.0, 1.0), halves.predict(halves.density, 3.5, 0.5)
    half = halves.predict(half, 4.0, 0.5)
    np.testing.assert_allclose(half.tracks.r, whole.tracks.r, rtol=1e-12)
    np.testing.assert_allclose(half.tracks.m, whole.tracks.m, rtol=1e-12)
    np.testing.assert_allclose(half.tracks.P, whole.tracks.P, rtol=1e-9)


# --- births, sensors, models -------------------------------------------------------------------------------

BIRTHS = {
    "uniform": UniformBirth(rate=0.1, rest_std=5.0, **BOX),
    "gaussian": GaussianBirth(
        rate=0.1, mean=[[100.0, 50.0, 0.0, 0.0]], cov=np.diag([100.0, 100.0, 25.0, 25.0])
    ),
    "measurement": MeasurementBirth(rate=0.1, rest_std=5.0),
}


@pytest.mark.parametrize("birth", BIRTHS.values(), ids=BIRTHS)
@pytest.mark.parametrize("linearisation", [EKF(), UKF(), CKF()], ids=["ekf", "ukf", "ckf"])
@pytest.mark.parametrize("radar", [False, True], ids=["position", "radar"])
def test_finds_and_follows_an_object(birth, linearisation, radar):
    rng = np.random.default_rng(0)
    if radar:
        sensor = RangeBearing(std=(1.0, 0.01), p_detect=0.95, clutter_intensity=1e-3)
    else:
        sensor = PositionSensor(std=1.0, p_detect=0.95, clutter_intensity=1e-5)
    tracker = GNN(ConstantVelocity(dims=2, q=0.1), sensor, birth, 0.99, linearisation=linearisation)
    time = np.cumsum(rng.uniform(0.2, 2.0, 15))
    truth = np.array([100.0, 50.0]) + (time - time[0])[:, None] * [3.0, 1.0]
    labels = []
    for t, x in zip(time, truth):
        z = sensor.measure(np.append(x, [0.0, 0.0])[None]) + rng.normal(size=2) * np.sqrt(
            np.diag(sensor.noise(None))
        )
        tracks = tracker.step(z, t)
        labels += tracks.label.tolist()
    assert len(tracks) == 1
    assert np.hypot(*(tracks.mean[0, :2] - truth[-1])) < 4.0
    assert np.hypot(*(tracks.mean[0, 2:] - [3.0, 1.0])) < 2.0
    assert len(set(labels)) == 1
    assert len(labels) >= 11


def test_two_sensors_at_one_time_sharpen_the_estimate():
    one, both = simple(), simple()
    other = PositionSensor(std=0.1, p_detect=0.9, clutter_intensity=1e-5)
    for t in range(4):
        a = one.step([[2.0 * t, 0.0]], float(t))
        both.step([[2.0 * t, 0.0]], float(t))
        b = both.step([[2.0 * t + 0.05, 0.0]], float(t), sensor=other)
    assert len(a) == len(b) == 1
    assert np.trace(b.cov[0]) < 0.5 * np.trace(a.cov[0])
    assert b.existence[0] > a.existence[0]


def test_clutter_ratio_multiplies_the_clutter():
    plain, doubled = simple(clutter=1e-5), simple(clutter=2e-5)
    for t in range(4):
        z = np.array([[2.0 * t, 0.0]])
        a = plain.step(z, float(t), clutter_ratio=[2.0])
        b = doubled.step(z, float(t))
    assert same(a, b)
    assert len(simple().step([[0.0, 0.0]], 0.0, clutter_ratio=[1e-4])) == 1  # a score that only objects have
    assert len(simple().step([[0.0, 0.0]], 0.0)) == 0


def test_an_object_that_leaves_the_region_is_given_up_at_once():
    region = Survival(0.99, (-500.0, -500.0), (500.0, 500.0))
    bounded, open_ = simple(p_detect=0.5, survival=region), simple(p_detect=0.5)
    for t in range(6):
        z = [[475.0 + 4.0 * t, 0.0]]
        bounded.step(z, float(t))
        open_.step(z, float(t))
    for t in range(6, 8):
        inside, outside = bounded.step(NONE, float(t)), open_.step(NONE, float(t))
    assert len(inside) == 0
    assert len(outside) == 1


def test_occlusion_keeps_a_hidden_object():
    plain, patient = simple(), simple(occlusion=Occlusion(hide=0.05, show=0.2))
    for tracker in (plain, patient):
        for t in range(8):
            tracker.step([[0.0, 0.0]], float(t))
        for t in range(8, 13):
            tracks = tracker.step(NONE, float(t))
    assert len(plain.extract(plain.density, 12.0)) == 0
    assert len(tracks) == 1


def test_thresholds_hold_where_even_a_new_track_is_unlikely():
    # One birth in a million seconds: r_new is far below `delete`, and still the object is found.
    tracker = simple(rate=1e-6, clutter=1e-4, p_detect=0.95)
    found = [len(tracker.step([[2.0 * t, 0.0]], float(t))) for t in range(8)]
    assert found[0] == 0
    assert found[-1] == 1


# --- edges -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", [None, [], NONE])
def test_empty_scans(empty):
    tracker = simple()
    for t in (0.0, 0.0, 1.0, 5.0):
        tracks = tracker.step(empty, t)
        assert len(tracks) == 0
        assert tracks.mean.shape == (0, 4)


def test_ten_thousand_clutter_points_need_no_dense_table():
    rng = np.random.default_rng(0)
    tracker = simple(clutter=0.01, rate=1.0, std=0.5)
    scans = [rng.uniform(-500, 500, (10_000, 2)) for _ in range(3)]
    tracker.step(scans[0][:10], -1.0)
    tracemalloc.start()
    for t, z in enumerate(scans):
        tracks = tracker.step(z, float(t))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(tracks) == 0
    assert peak < 200e6  # 10,000 x 10,000 numbers would be 800 MB


def test_identical_measurements_and_certain_detection():
    tracker = simple(p_detect=1.0)
    for t in range(4):
        tracks = tracker.step(np.zeros((3, 2)), float(t))
        assert np.isfinite(tracks.mean).all()
        assert np.isfinite(tracks.existence).all()
    assert len(set(tracks.label.tolist())) == len(tracks)


def test_extreme_intensities_stay_finite():
    for clutter in (1e-300, 1e300):
        tracker = simple(clutter=clutter)
        for t in range(3):
            tracks = tracker.step([[0.0, 0.0]], float(t))
        assert np.isfinite(tracker.density.tracks.r).all()
        assert len(tracks) == (clutter < 1)


def reject(tracker, **settings):
    settings = {"z": [[0.0, 0.0]], "time": 9.0, **settings}
    with pytest.raises(ValueError):
        tracker.step(**settings)


def test_a_rejected_call_changes_nothing():
    tracker = simple()
    for t in range(4):
        tracker.step([[float(t), 0.0]], float(t))
    before, time = tracker.density, tracker.time
    reject(tracker, z=[[np.nan, 0.0]])
    reject(tracker, z=[[0.0, 0.0, 0.0]])
    reject(tracker, time=2.0)
    reject(tracker, time=np.nan)
    reject(tracker, clutter_ratio=[1.0, 1.0])
    reject(tracker, sensor=PositionSensor(std=1.0, p_detect=lambda x: np.full(len(x), 2.0)))
    assert tracker.density is before
    assert tracker.time == time
    twin = simple()
    for t in range(4):
        twin.step([[float(t), 0.0]], float(t))
    assert same(tracker.step([[4.0, 0.0]], 4.0), twin.step([[4.0, 0.0]], 4.0))


@pytest.mark.parametrize("bad", [{"gate": 0.0}, {"threshold": 1.5}, {"delete": -0.1}, {"give_up": np.nan}])
def test_settings_are_checked(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        GNNConfig(**bad)


# --- properties and behaviour ------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_measurements_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    one, other = GNN(**models()), GNN(**models())
    for time, _, z in simulate(seed % 1000, scans=8):
        order = rng.permutation(len(z))
        a, b = one.step(z, time), other.step(z[order], time)
        np.testing.assert_allclose(sorted_rows(a), sorted_rows(b), rtol=1e-6, atol=1e-6)
        assert sorted(a.source[a.source >= 0].tolist()) == sorted(order[b.source[b.source >= 0]].tolist())


def test_same_scans_same_tracks_and_inputs_stay_untouched():
    one, other = GNN(**models()), GNN(**models())
    for time, _, z in simulate(5, scans=15):
        before = z.copy()
        density = one.density
        kept = None if density is None else (density, density.tracks.r.copy(), density.tracks.m.copy())
        a, b = one.step(z, time), other.step(z, time)
        assert same(a, b)
        np.testing.assert_array_equal(z, before)
        if kept is not None:  # the old density is still what it was
            np.testing.assert_array_equal(kept[0].tracks.r, kept[1])
            np.testing.assert_array_equal(kept[0].tracks.m, kept[2])


def test_a_label_lasts_through_misses():
    rng = np.random.default_rng(1)
    tracker, labels = simple(), []
    for t in range(40):
        z = np.array([[3.0 * t - 50.0, 0.0]]) + rng.normal(size=2)
        labels += tracker.step(z if t % 4 else NONE, float(t)).label.tolist()
    assert len(labels) > 30
    assert len(set(labels)) == 1


@pytest.mark.parametrize(
    ("scene", "bound"),
    [({"clutter": 10, "p_detect": 0.9}, 36.0), ({"clutter": 60, "p_detect": 0.75}, 53.0)],
    ids=["light", "dense"],
)
def test_reaches_a_good_gospa(scene, bound):
    error = np.mean([mean_gospa(GNN(**models(**scene)), simulate(seed, **scene)) for seed in range(4)])
    assert error < bound, error
