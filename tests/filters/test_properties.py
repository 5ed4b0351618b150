"""What every tracker promises, whatever it does inside."""

import copy
from dataclasses import fields, is_dataclass
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracking.filters.cphd import CPHD
from tracking.filters.estimate import expected_cardinality, marginal_existence
from tracking.filters.glmb import GLMB, GLMBConfig
from tracking.filters.gnn import GNN
from tracking.filters.hypotheses import Mixture
from tracking.filters.lmb import LMB
from tracking.filters.phd import GMPHD
from tracking.filters.pmb import PMB
from tracking.filters.pmbm import PMBM, PMBMConfig
from tracking.filters.poisson import Poisson
from tracking.gaussian import CKF, EKF, UKF
from tracking.models import (
    ConstantVelocity,
    CoordinatedTurn,
    FunctionSensor,
    GaussianBirth,
    MeasurementBirth,
    Occlusion,
    PositionSensor,
    RangeBearing,
    RangeBearingDoppler,
    Survival,
    UniformBirth,
)

TRACKERS = {kind.__name__: kind for kind in (PMBM, PMB, GLMB, LMB, GNN, GMPHD, CPHD)}
MIXTURES = ("PMBM", "GLMB")  # with global hypotheses
EACH = pytest.mark.parametrize("name", TRACKERS)

MOTION = ConstantVelocity(2, q=0.1)
SENSOR = PositionSensor(std=1.0, p_detect=0.9, clutter_intensity=5 / 80**2)
BIRTHS = {
    "gaussian": GaussianBirth([0.2, 0.1], [[0, 0, 0, 0], [20, 10, 0, 0]], np.diag([200.0, 200.0, 2.0, 2.0])),
    "uniform": UniformBirth(0.3, rest_std=1.5, lower=(-20, -20), upper=(60, 60)),
    "measurement": MeasurementBirth(0.3, rest_std=1.5),
}
EACH_BIRTH = pytest.mark.parametrize("birth", BIRTHS)


def make(name, birth="gaussian", sensor=SENSOR, motion=MOTION, survival=0.99, **arguments):
    birth = BIRTHS[birth] if isinstance(birth, str) else birth
    return TRACKERS[name](motion, sensor, birth, survival, **arguments)


def scans(seed, n=8, clutter=5, p_detect=0.9):
    """Three objects that move among clutter: (z, time, true positions)."""
    rng = np.random.default_rng(seed)
    x, v = rng.uniform(-10, 40, (3, 2)), 1.5 * rng.normal(size=(3, 2))
    time = 0.0
    for _ in range(n):
        dt = rng.choice([0.5, 1.0, 1.7])
        time, x = time + dt, x + dt * v
        seen = x[rng.random(3) < p_detect]
        false = rng.uniform(-20, 60, (rng.poisson(clutter), 2))
        yield rng.permutation(np.concatenate((seen + rng.normal(size=seen.shape), false))), time, x


def assert_same(a, b, path="density"):
    """Two densities, nested dataclasses and tuples of arrays, are equal bit for bit."""
    assert type(a) is type(b), path
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype, path
        np.testing.assert_array_equal(a, b, path)
    elif is_dataclass(a):
        for f in fields(a):
            assert_same(getattr(a, f.name), getattr(b, f.name), f"{path}.{f.name}")
    elif isinstance(a, tuple):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b)):
            assert_same(x, y, f"{path}[{i}]")
    else:
        assert a == b, path


def assert_covariances(P):
    assert np.isfinite(P).all()
    std = np.sqrt(np.diagonal(P, axis1=-2, axis2=-1))
    assert (np.abs(P - P.swapaxes(-1, -2)) <= 1e-12 * std[..., :, None] * std[..., None, :]).all()
    np.linalg.cholesky(P)


def assert_tracks(tracks, time, m, dim):
    """What the caller may rely on."""
    n = len(tracks)
    assert tracks.time == time
    assert isinstance(tracks.time, float)
    assert tracks.label.dtype == np.int64
    assert tracks.source.dtype == np.int64
    shapes = [a.shape for a in (tracks.label, tracks.mean, tracks.cov, tracks.existence, tracks.source)]
    assert shapes == [(n,), (n, dim), (n, dim, dim), (n,), (n,)]
    assert len(np.unique(tracks.label)) == n
    assert (tracks.label >= 0).all()
    assert np.isfinite(tracks.mean).all()
    assert ((tracks.existence >= 0) & (tracks.existence <= 1 + 1e-12)).all()
    assert ((tracks.source >= -1) & (tracks.source < m)).all()
    assert_covariances(tracks.cov)


def assert_density(density, name):
    """Weights are probabilities, covariances are covariances, tables refer to what exists."""
    if name in MIXTURES:
        assert_mixture(density)
        assert len(np.unique(density.label)) == len(density.label)
    if name in ("PMB", "LMB"):
        tracks = density.tracks
        assert ((tracks.r >= 0) & (tracks.r <= 1)).all()
        assert len(np.unique(tracks.label)) == len(tracks)
        assert (np.diff(tracks.offset) >= 1).all()
        np.testing.assert_allclose(np.bincount(tracks.track, tracks.component.r), 1, atol=1e-9)
        assert_covariances(tracks.component.P)
    for poisson in (getattr(density, part, None) for part in ("poisson", "unborn")):
        if isinstance(poisson, Poisson):
            assert (poisson.w >= 0).all()
            assert poisson.uniform >= 0
            assert np.isfinite(poisson.mass)
            assert_covariances(poisson.P)


def assert_mixture(density):
    mixture, local = density.mixture, density.local
    assert isinstance(mixture, Mixture)
    assert ((local.r > 0) & (local.r <= 1)).all()
    assert_covariances(local.P)
    marginal = marginal_existence(density)
    assert ((marginal >= 0) & (marginal <= 1 + 1e-9)).all()
    assert mixture.n_tracks == len(density.label)
    assert mixture.local_offset[-1] == len(local)
    assert mixture.row_offset[-1] == len(mixture.log_w)
    assert mixture.entry_offset[-1] == len(mixture.entry)
    for k in range(mixture.n_clusters):
        w, table = mixture.weights(k), mixture.table(k)
        assert len(w) == len(table)
        assert w.sum() == pytest.approx(1, abs=1e-9)
        assert (np.diff(w) <= 1e-15).all()
        assert len(np.unique(table, axis=0)) == len(table)
        for column, i in zip(table.T, range(mixture.track_offset[k], mixture.track_offset[k + 1])):
            mine = range(mixture.local_offset[i], mixture.local_offset[i + 1])
            assert set(column.tolist()) - {-1} == set(mine)


@EACH
@EACH_BIRTH
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_estimates_and_densities_are_valid(name, birth, seed):
    tracker = make(name, birth)
    for z, time, _ in scans(seed):
        tracks = tracker.step(z, time)
        assert_tracks(tracks, time, len(z), 4)
        assert_density(tracker.density, name)


@EACH
@EACH_BIRTH
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_measurements_does_not_matter(name, birth, seed):
    """Ties excepted, as when a limit cuts through equal weights: no two places here are quite alike."""
    rng = np.random.default_rng(seed)
    uneven = PositionSensor(
        std=1.0, p_detect=lambda x: 0.9 + 0.01 * np.sin(x[:, 0] + 2 * x[:, 1]), clutter_intensity=5 / 80**2
    )
    one, other = make(name, birth, uneven), make(name, birth, uneven)
    names = {}  # labels of one by those of the other
    for z, time, _ in scans(seed):
        order = rng.permutation(len(z))
        a, b = one.step(z, time), other.step(z[order], time)
        assert len(a) == len(b)
        by_a, by_b = (np.lexsort(np.round(t.mean.T, 6)) for t in (a, b))
        np.testing.assert_allclose(a.mean[by_a], b.mean[by_b], atol=1e-6)
        np.testing.assert_allclose(a.cov[by_a], b.cov[by_b], atol=1e-6)
        np.testing.assert_allclose(a.existence[by_a], b.existence[by_b], atol=1e-6)
        assert a.source[by_a].tolist() == np.append(order, -1)[b.source[by_b]].tolist()
        for x, y in zip(a.label[by_a].tolist(), b.label[by_b].tolist()):
            assert names.setdefault(y, x) == x


@EACH
def test_inputs_are_not_changed_and_not_kept(name):
    mean, cov, std = np.zeros((1, 4)), np.diag([200.0, 200.0, 2.0, 2.0]), np.array([1.0, 1.0])
    sensor = PositionSensor(std=std, p_detect=0.9, clutter_intensity=1e-3)
    tracker = make(name, GaussianBirth(0.3, mean, cov), sensor)
    twin = make(name, GaussianBirth(0.3, mean.copy(), cov.copy()), sensor)
    mean[:], cov[:] = np.nan, np.nan  # the models have copies
    for z, time, _ in scans(3):
        ratio = np.random.default_rng(0).uniform(0.5, 2, len(z))
        given_z, given_ratio = z.copy(), ratio.copy()
        tracks = tracker.step(given_z, time, clutter_ratio=given_ratio)
        np.testing.assert_array_equal(given_z, z)
        np.testing.assert_array_equal(given_ratio, ratio)
        given_z[:], given_ratio[:] = np.nan, np.nan  # nor does the tracker look at them again
        expected = twin.step(z, time, clutter_ratio=ratio)
        assert_same(tracks, expected, "tracks")
        for array in (tracks.label, tracks.mean, tracks.cov, tracks.existence, tracks.source):
            array[:] = -7  # an estimate belongs to the caller
    assert_same(tracker.density, twin.density)


DEFAULTS = [(name, None) for name in TRACKERS]
CHAINS = [
    ("PMBM", PMBMConfig(gibbs_sweeps=30, max_hypotheses=20)),
    ("GLMB", GLMBConfig(gibbs_sweeps=30, max_hypotheses=20)),
]
EACH_CONFIG = pytest.mark.parametrize(
    ("name", "config"), DEFAULTS + CHAINS, ids=[*TRACKERS, *(f"{name}-gibbs" for name, _ in CHAINS)]
)


@EACH_CONFIG
def test_same_seed_same_result(name, config):
    one, other = (make(name, config=config, seed=5) for _ in range(2))
    for z, time, _ in scans(4):
        assert_same(one.step(z, time), other.step(z, time), "tracks")
        assert_same(one.density, other.density)


def out_of_range(x):
    return np.full(len(x), 2.0)


NONE = np.zeros((0, 2))
REJECTED = {
    "NaN": dict(z=[[0.0, np.nan]]),
    "infinite": dict(z=[[np.inf, 0.0]]),
    "too many columns": dict(z=np.zeros((2, 3))),
    "a flat vector": dict(z=[1.0, 2.0]),
    "a cube": dict(z=np.zeros((1, 2, 2))),
    "a number": dict(z=3.0),
    "words": dict(z=[["a", "b"]]),
    "measurements without entries": dict(z=np.zeros((3, 0))),
    "time backwards": dict(time=-1.0),
    "time NaN": dict(time=np.nan),
    "time infinite": dict(time=np.inf),
    "time an array": dict(time=np.array([100.0])),
    "time missing": dict(time=None),
    "time a word": dict(time="later"),
    "ratio zero": dict(clutter_ratio=[1.0, 0.0]),
    "ratio negative": dict(clutter_ratio=[1.0, -1.0]),
    "ratio NaN": dict(clutter_ratio=[1.0, np.nan]),
    "ratio infinite": dict(clutter_ratio=[1.0, np.inf]),
    "ratio too short": dict(clutter_ratio=[1.0]),
    "ratio a number": dict(clutter_ratio=2.0),
    "ratio a table": dict(clutter_ratio=np.ones((2, 1))),
    "detection not a probability": dict(sensor=PositionSensor(std=1.0, p_detect=out_of_range)),
    "clutter not positive": dict(
        sensor=PositionSensor(std=1.0, clutter_intensity=lambda z: np.array([1.0, 0.0]))
    ),
}


@pytest.mark.parametrize("reason", REJECTED)
@EACH_CONFIG
def test_a_rejected_call_changes_nothing(name, config, reason):
    tracker, twin = make(name, config=config), make(name, config=config)
    stream = list(scans(2, 4))
    for z, time, _ in stream[:3]:
        tracker.step(z, time)
        twin.step(z, time)
    before = copy.deepcopy(tracker.density), tracker.time, copy.deepcopy(tracker.rng.bit_generator.state)
    call = {"z": [[0.0, 0.0], [20.0, 10.0]], "time": stream[3][1], **REJECTED[reason]}
    with pytest.raises(ValueError):
        tracker.step(**call)
    assert_same(tracker.density, before[0])
    assert tracker.time == before[1]
    assert tracker.rng.bit_generator.state == before[2]
    z, time, _ = stream[3]
    assert_same(tracker.step(z, time), twin.step(z, time), "tracks")
    assert_same(tracker.density, twin.density)


@EACH
def test_a_rejected_first_call_is_as_if_it_had_not_been(name):
    tracker = make(name)
    for call in REJECTED.values():
        call = {"z": [[0.0, 0.0], [20.0, 10.0]], "time": 0.0, **call}
        if call["time"] == -1.0:
            continue
        with pytest.raises(ValueError):
            tracker.step(**call)
        assert tracker.density is None
        assert tracker.time is None
    assert_same(tracker.step([[0.0, 0.0]], -5.0), make(name).step([[0.0, 0.0]], -5.0), "tracks")


@EACH
@EACH_BIRTH
def test_an_object_by_itself_keeps_its_label(name, birth):
    sensor = PositionSensor(std=1.0, p_detect=0.95, clutter_intensity=1e-5)
    tracker = make(name, birth, sensor)
    rng = np.random.default_rng(1)
    labels, errors = [], []
    for k in range(40):
        x = np.array([0.7 * k, 10.0 - 0.2 * k])
        z = x + rng.normal(size=(1, 2)) if k in (0, 1) or rng.random() < 0.95 else NONE
        tracks = tracker.step(z, float(k))
        if k >= 5:
            assert len(tracks) == 1
            labels.append(int(tracks.label[0]))
            errors.append(np.linalg.norm(tracks.mean[0, :2] - x))
    assert len(set(labels)) == 1
    assert np.mean(errors) < 1.5


@EACH
@EACH_BIRTH
def test_time_may_stand_still(name, birth):
    tracker = make(name, birth)
    for k in range(4):
        for _ in range(3):
            tracks = tracker.step([[0.0, 0.0], [20.0, 10.0]], float(k))
            assert_tracks(tracks, float(k), 2, 4)
            assert_density(tracker.density, name)
    assert len(tracks) == 2


@EACH
@EACH_BIRTH
@pytest.mark.parametrize("dt", [1e3, 1e6, 1e9])
@pytest.mark.filterwarnings("error")
def test_a_very_long_pause(name, birth, dt):
    tracker = make(name, birth)
    for k in range(4):
        tracker.step([[0.0, 0.0], [20.0, 10.0]], float(k))
    for _ in range(3):
        time = tracker.time + dt
        assert_tracks(tracker.step([[0.0, 0.0], [20.0, 10.0]], time), time, 2, 4)
        assert_density(tracker.density, name)
    for k in range(6):
        tracker.step([[0.0, 0.0], [20.0, 10.0]], time + 1.0 + k)
        assert_density(tracker.density, name)


@EACH
@EACH_BIRTH
def test_empty_scans(name, birth):
    tracker = make(name, birth)
    for time, z in enumerate(([], None, NONE, ())):
        assert_tracks(tracker.step(z, float(time)), float(time), 0, 4)
        assert_density(tracker.density, name)
    for k in range(4, 12):
        tracks = tracker.step([[0.0, 0.0]], float(k))
    assert len(tracks) == 1
    for k in range(12, 30):
        tracks = tracker.step([], float(k))
        assert_tracks(tracks, float(k), 0, 4)
    assert len(tracks) == 0


@EACH
@EACH_BIRTH
def test_hundreds_of_scans_without_an_object(name, birth):
    """First nothing at all, then clutter: nothing piles up, and hardly anything is reported."""
    rng = np.random.default_rng(0)
    sensor = PositionSensor(std=1.0, p_detect=0.9, clutter_intensity=3 / 80**2)
    weak = {
        "gaussian": GaussianBirth(0.01, [20, 20, 0, 0], np.diag([400.0, 400.0, 2.0, 2.0])),
        "uniform": UniformBirth(0.01, rest_std=1.5, lower=(-20, -20), upper=(60, 60)),
        "measurement": MeasurementBirth(0.01, rest_std=1.5),
    }
    tracker = make(name, weak[birth], sensor)
    reported, sizes = 0, []
    start = perf_counter()
    for k in range(250):
        count = rng.poisson(3) if k >= 100 else 0
        reported += len(tracker.step(rng.uniform(-20, 60, (count, 2)), float(k)))
        sizes.append(size(tracker.density))
    assert perf_counter() - start < 15
    assert reported <= 10
    assert max(sizes[:100]) < 1000
    assert max(sizes[180:]) <= 2 * max(sizes[110:180]) + 1000
    assert_density(tracker.density, name)


def size(density):
    """Numbers that a density holds."""
    if isinstance(density, np.ndarray):
        return density.size
    if is_dataclass(density):
        return sum(size(getattr(density, f.name)) for f in fields(density))
    return sum(map(size, density)) if isinstance(density, tuple) else 1


@EACH
@EACH_BIRTH
def test_ten_thousand_clutter_points(name, birth):
    rng = np.random.default_rng(0)
    side = 10_000.0
    sensor = PositionSensor(std=1.0, p_detect=0.9, clutter_intensity=1e4 / side**2)
    wide = {
        "gaussian": GaussianBirth(
            1.0, [side / 2, side / 2, 0, 0], np.diag([side**2 / 4, side**2 / 4, 2.0, 2.0])
        ),
        "uniform": UniformBirth(1.0, rest_std=1.5, lower=(0, 0), upper=(side, side)),
        "measurement": MeasurementBirth(1.0, rest_std=1.5),
    }
    tracker = make(name, wide[birth], sensor)
    start = perf_counter()
    for k in range(3):
        z = rng.uniform(0, side, (10_000, 2))
        tracks = tracker.step(z, float(k))
        assert_tracks(tracks, float(k), len(z), 4)
    assert perf_counter() - start < 15
    assert len(tracks) < 10


@EACH
@pytest.mark.parametrize("linearisation", [EKF(), UKF(), CKF()], ids=lambda a: type(a).__name__)
def test_several_sensors_in_one_stream(name, linearisation):
    """Camera-like positions, a radar and a bearing-only sensor see one object, at odd times."""
    rng = np.random.default_rng(0)
    camera = PositionSensor(std=2.0, p_detect=0.9, clutter_intensity=1e-4)
    radar = RangeBearingDoppler(
        std=(1.0, 0.02, 0.3), origin=(-100.0, 0.0), p_detect=0.9, clutter_intensity=1e-4
    )
    sonar = RangeBearing(std=(3.0, 0.01), origin=(60.0, 0.0), p_detect=0.9, clutter_intensity=1e-4)

    def bearing(x):
        return np.arctan2(x[:, 1] + 100.0, x[:, 0])[:, None]

    direction = FunctionSensor(1, bearing, std=0.01, p_detect=0.9, clutter_intensity=0.05, angles=(0,))
    birth = GaussianBirth(0.1, [0, 0, 0, 0], np.diag([100.0, 100.0, 4.0, 4.0]))
    tracker = make(name, birth, camera, ConstantVelocity(2, q=0.01), linearisation=linearisation)
    for k in range(24):
        time = 0.5 * k
        x = np.array([[1.0 * time, 0.5 * time, 1.0, 0.5]])
        sensor = (camera, radar, sonar, direction)[k % 4]
        z = sensor.measure(x) + np.sqrt(np.diag(sensor.noise(x))) * rng.normal(size=(1, sensor.dim_z))
        tracks = tracker.step(z if k > 20 or rng.random() < 0.9 else z[:0], time, sensor=sensor)
        assert_tracks(tracks, time, 1, 4)
        assert_density(tracker.density, name)
    assert tracker.models.sensor is camera
    assert len(tracks) == 1
    assert np.abs(tracks.mean[0] - x[0])[:2].max() < 2.0
    assert np.abs(tracks.mean[0] - x[0])[2:].max() < 0.6


@EACH
def test_births_at_measurements_outlive_a_second_sensor_at_the_same_time(name):
    """Another sensor, which sees nothing here, takes its turn after each scan of the first."""
    tracker = make(name, "measurement")
    blind = PositionSensor(std=1.0, p_detect=0.0, clutter_intensity=1e-3)
    for k in range(10):
        tracks = tracker.step([[0.0, 0.0]], float(k))
        tracker.step([], float(k), sensor=blind)
    assert len(tracks) == 1


@EACH
@pytest.mark.parametrize(
    ("birth", "linearisation"),
    [("gaussian", EKF()), ("uniform", UKF()), ("measurement", CKF()), ("gaussian", UKF())],
    ids=["gaussian-EKF", "uniform-UKF", "measurement-CKF", "gaussian-UKF"],
)
def test_turning_targets_seen_by_a_radar(name, birth, linearisation):
    """Nonlinear motion and sensor, a field of view, and a border that objects leave through."""
    rng = np.random.default_rng(0)
    radar = RangeBearing(
        std=(1.0, 0.01),
        origin=(0.0, -80.0),
        p_detect=lambda x: 0.95 * np.exp(-np.hypot(x[:, 0], x[:, 1] + 80) / 2000),
        clutter_intensity=1e-3,
    )
    births = {
        "gaussian": GaussianBirth(0.1, [0, 0, 0, 0, 0], np.diag([100.0, 100.0, 9.0, 9.0, 0.01])),
        "uniform": UniformBirth(0.1, rest_std=(3.0, 3.0, 0.1), lower=(-60.0, -60.0), upper=(60.0, 60.0)),
        "measurement": MeasurementBirth(0.1, rest_std=(3.0, 3.0, 0.1)),
    }
    survival = Survival(0.99, (-60.0, -60.0), (60.0, 60.0))
    motion = CoordinatedTurn(0.2, 0.01)
    tracker = make(name, births[birth], radar, motion, survival, linearisation=linearisation)
    x = np.array([[5.0, 0.0, 2.0, 0.0, 0.1]])
    for k in range(20):
        z = radar.measure(x) + rng.normal(size=(1, 2)) * (1.0, 0.01)
        false = np.column_stack((rng.uniform(20, 140, 2), rng.uniform(0.5, 2.5, 2)))
        tracks = tracker.step(np.concatenate((z, false)), float(k))
        assert_tracks(tracks, float(k), 3, 5)
        assert_density(tracker.density, name)
        x = motion.transition(x, 1.0)
    near = np.hypot(*(tracks.mean[:, :2] - motion.transition(x, -1.0)[0, :2]).T)
    assert near.min() < 4.0
    for k in range(20, 26):  # out of the region: gone at once
        tracks = tracker.step([], float(k))
    assert len(tracks) == 0


@EACH
def test_objects_that_hide_are_kept_longer(name):
    lengths = []
    for occlusion in (None, Occlusion(hide=1.5, show=0.3)):
        tracker = make(name, sensor=PositionSensor(std=1.0, p_detect=0.95), occlusion=occlusion)
        for k in range(10):
            tracker.step([[0.0, 0.0]], float(k))
        missed = 0
        while len(tracker.step([], 10.0 + missed)) > 0 and missed < 40:
            missed += 1
        lengths.append(missed)
    assert lengths[0] < 5
    assert lengths[1] > lengths[0]


@EACH
def test_a_clutter_ratio_is_a_clutter_intensity(name):
    one = make(name)
    other = make(name, sensor=PositionSensor(std=1.0, p_detect=0.9, clutter_intensity=1.0))
    for z, time, _ in scans(6):
        a = one.step(z, time)
        b = other.step(z, time, clutter_ratio=np.full(len(z), 5 / 80**2))
        assert a.label.tolist() == b.label.tolist()
        np.testing.assert_allclose(a.mean, b.mean, atol=1e-9)
        np.testing.assert_allclose(a.existence, b.existence, atol=1e-9)


@EACH
def test_a_score_that_says_clutter_starts_no_track(name):
    tracks = {}
    for ratio in (1e-3, 1.0, 1e6):
        tracker = make(name)
        for k in range(5):
            tracks[ratio] = tracker.step([[0.0, 0.0]], float(k), clutter_ratio=[ratio])
    assert len(tracks[1e-3]) == 1
    assert len(tracks[1.0]) == 1
    assert len(tracks[1e6]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rate", "clutter"),
    [
        ("PMBM", 0.25, 3.0),
        ("PMB", 0.25, 3.0),
        ("LMB", 0.25, 3.0),
        ("GLMB", 0.1, 1.0),  # its 200 hypotheses do not hold more
    ],
)
def test_the_expected_number_of_objects_is_calibrated(name, rate, clutter):
    """On scenes drawn from the model, the posterior mean of the number is right on average."""
    box, p_survive, p_detect, runs = 30.0, 0.9, 0.8, 150
    noise = np.linalg.cholesky(MOTION.noise(None, 1.0))
    prior = np.diag([36.0, 36.0, 1.0, 1.0])
    sensor = PositionSensor(std=1.0, p_detect=p_detect, clutter_intensity=clutter / (2 * box) ** 2)
    birth = GaussianBirth([rate, rate], [[-5, 0, 0, 0], [8, 3, 0, 0]], prior)
    difference, truth = [], []
    for run in range(runs):
        rng = np.random.default_rng(1000 + run)
        tracker = make(name, birth, sensor, survival=p_survive)
        x = np.zeros((0, 4))
        for k in range(15):
            x = x[rng.random(len(x)) < p_survive]
            x = MOTION.transition(x, 1.0) + rng.normal(size=x.shape) @ noise.T
            born = rng.poisson(rate, 2) if name in ("PMBM", "PMB") else rng.random(2) < rate
            new = np.repeat(birth.mean, born, axis=0)
            x = np.concatenate((x, new + rng.normal(size=new.shape) * np.sqrt(np.diag(prior))))
            seen = x[rng.random(len(x)) < p_detect, :2]
            false = rng.uniform(-box, box, (rng.poisson(clutter), 2))
            tracker.step(np.concatenate((seen + rng.normal(size=seen.shape), false)), float(k))
            if k >= 5:
                difference.append(count(tracker.density) - len(x))
                truth.append(len(x))
    by_run = np.reshape(difference, (runs, -1)).mean(axis=1)
    error = by_run.std(ddof=1) / np.sqrt(runs)
    assert abs(by_run.mean()) < 3 * error + 0.01 * np.mean(truth)  # they are approximations
    assert 3 * error < 0.06 * np.mean(truth)  # or the line above would say little


def count(density):
    """Expected number of objects of any density."""
    if hasattr(density, "mixture"):
        return expected_cardinality(density)
    poisson = getattr(density, "poisson", None)
    return density.tracks.r.sum() + (0.0 if poisson is None else poisson.mass)
