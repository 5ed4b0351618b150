"""GM-PHD and GM-CPHD filters."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, multivariate_normal, poisson
from tiny_scene import mean_gospa, models, same, simulate, sorted_rows

from tracking.filters import cphd, phd
from tracking.filters.cphd import CPHD, CPHDConfig, CPHDDensity
from tracking.filters.local import Locals
from tracking.filters.phd import GMPHD, GMPHDConfig, GMPHDDensity
from tracking.filters.seeds import Seeds
from tracking.filters.tracker import Scan
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
KEEP_ALL = {"merge": 0.0, "min_weight": 0.0, "max_components": 10_000, "gate": 1e4}
BOTH = pytest.mark.parametrize("tracker_type", [GMPHD, CPHD])


def simple(tracker_type, p_detect=0.9, clutter=1e-5, birth=None, survival=0.99, std=1.0, **settings):
    """A tracker with uniform births in a box of 1 km^2 and rest_std 5 m/s."""
    return tracker_type(
        ConstantVelocity(dims=2, q=0.1),
        PositionSensor(std=std, p_detect=p_detect, clutter_intensity=clutter),
        UniformBirth(rate=0.1, rest_std=5.0, **BOX) if birth is None else birth,
        survival,
        **settings,
    )


def intensity(w, m, P, label=None, uniform=0.0):
    """A density of given Gaussians."""
    k = len(w)
    parts = Locals(
        np.asarray(w, float), np.asarray(m, float), np.asarray(P, float), np.full(k, -1), np.ones(k)
    )
    label = np.full(k, -1) if label is None else np.asarray(label)
    next_label = int(label.max(initial=-1)) + 1
    return GMPHDDensity(
        parts, uniform, label, np.zeros(k, np.bool_), Seeds.none(parts.m.shape[1]), next_label
    )


def crowd(rng, k=4, spread=6.0):
    """Some components that share measurements."""
    return intensity(
        rng.uniform(0.1, 1.2, k),
        np.concatenate((spread * rng.normal(size=(k, 2)), rng.normal(size=(k, 2))), axis=1),
        np.array([np.diag(rng.uniform(0.5, 4.0, 4)) for _ in range(k)]),
    )


def look(tracker, z):
    """A scan of the tracker's sensor."""
    z = np.asarray(z, float).reshape(-1, 2)
    return Scan(z, tracker.models.sensor.clutter(z), tracker.models.sensor)


def likelihoods(density, z, std=1.0):
    """N(z; H m, H P H' + R) as a table (k, m)."""
    H, R = np.eye(2, 4), std**2 * np.eye(2)
    pairs = zip(density.parts.m, density.parts.P)
    return np.array([multivariate_normal(H @ m, H @ P @ H.T + R).pdf(z).reshape(-1) for m, P in pairs])


# --- the PHD recursion -------------------------------------------------------------------------------------


def test_one_component_in_closed_form():
    p_d, kappa, w = 0.8, 1e-3, 0.6
    tracker = simple(GMPHD, p_detect=p_d, clutter=kappa, config=GMPHDConfig(**KEEP_ALL))
    density = intensity([w], [[0.0, 0.0, 1.0, 0.0]], [np.diag([4.0, 4.0, 1.0, 1.0])])
    z = np.array([[1.0, -2.0]])
    q = multivariate_normal([0.0, 0.0], 5 * np.eye(2)).pdf(z[0])
    after = tracker.update(density, look(tracker, z)).parts
    hit, missed = (np.flatnonzero(after.source == s)[0] for s in (0, -1))
    assert after.r[hit] == pytest.approx(p_d * w * q / (kappa + p_d * w * q), rel=1e-12)
    assert after.r[missed] == pytest.approx((1 - p_d) * w, rel=1e-12)
    np.testing.assert_allclose(after.m[hit], [0.8, -1.6, 1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(after.P[hit], np.diag([0.8, 0.8, 1.0, 1.0]), atol=1e-12)
    np.testing.assert_array_equal(after.m[missed], density.parts.m[0])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), m=st.integers(0, 6), uniform=st.floats(0.0, 3.0))
def test_mass_after_a_scan(seed, m, uniform):
    rng = np.random.default_rng(seed)
    p_d, kappa = 0.7, 1e-3
    tracker = simple(GMPHD, p_detect=p_d, clutter=kappa, config=GMPHDConfig(**KEEP_ALL))
    density = replace(crowd(rng), uniform=uniform)
    z = 6.0 * rng.normal(size=(m, 2))
    a = p_d * (density.parts.r @ likelihoods(density, z).reshape(4, m) + uniform / 1e6) / kappa
    after = tracker.update(density, look(tracker, z))
    assert after.mass == pytest.approx((1 - p_d) * density.mass + (a / (1 + a)).sum(), rel=1e-9)
    assert after.uniform == pytest.approx((1 - p_d) * uniform, rel=1e-12)


def test_prediction_mass():
    tracker = simple(GMPHD, survival=0.9)
    density = replace(crowd(np.random.default_rng(0)), uniform=2.0)
    after = tracker.predict(density, 5.0, 2.0)
    assert after.mass == pytest.approx(0.81 * density.mass + 0.2, rel=1e-12)
    again = tracker.predict(density, 3.0, 0.0)
    assert again.mass == pytest.approx(density.mass, rel=1e-6)


def test_uniform_births_are_the_limit_of_many_gaussians():
    grid = np.stack(np.meshgrid(*[np.arange(-500.0, 501.0, 10.0)] * 2), axis=-1).reshape(-1, 2)
    mean = np.concatenate((grid, np.zeros_like(grid)), axis=1)
    many = GaussianBirth(rate=1.0 / 1e4, mean=mean, cov=np.diag([49.0, 49.0, 25.0, 25.0]))
    config = GMPHDConfig(max_components=30_000, min_weight=0.0, merge=0.0)
    dense = simple(GMPHD, birth=many, config=config, initial=many)
    box = UniformBirth(rate=1.0, rest_std=5.0, **BOX)
    sparse = simple(GMPHD, birth=box, config=config, initial=box)
    z = np.array([[12.0, -7.0], [203.0, 104.0]])
    a, b = (t.update(t.start(0.0), look(t, z)) for t in (dense, sparse))
    for j in range(2):
        mine, theirs = a.parts.source == j, b.parts.source == j
        assert theirs.sum() == 1
        w = a.parts.r[mine]
        assert w.sum() == pytest.approx(b.parts.r[theirs][0], rel=0.01)
        mean = w @ a.parts.m[mine] / w.sum()
        np.testing.assert_allclose(mean, b.parts.m[theirs][0], atol=0.05)


def test_merging_keeps_mass_and_mean():
    rng = np.random.default_rng(2)
    density = crowd(rng, k=60, spread=4.0)
    merged = phd.merge(density, GMPHDConfig(merge=4.0, min_weight=0.0)).parts
    assert len(merged) < 30
    assert merged.r.sum() == pytest.approx(density.parts.r.sum())
    np.testing.assert_allclose(merged.r @ merged.m, density.parts.r @ density.parts.m)
    assert (np.diff(merged.r) <= 0).all()


def test_pruning_and_the_cap_keep_the_heaviest():
    w = np.arange(1, 41) / 10.0
    m = np.zeros((40, 4))
    m[:, 0] = 100.0 * np.arange(40)
    density = intensity(w, m, np.tile(np.eye(4), (40, 1, 1)))
    kept = phd.merge(density, GMPHDConfig(min_weight=0.35, max_components=5, per_object=0.01)).parts
    np.testing.assert_allclose(kept.r, w[:-6:-1])
    assert len(phd.merge(density, GMPHDConfig(min_weight=0.35, max_components=5)).parts) == 37


# --- labels ------------------------------------------------------------------------------------------------


def test_a_component_of_two_objects_is_reported_twice():
    tracker = simple(GMPHD, p_detect=0.5, clutter=1e-9)
    density = intensity([4.2], [np.zeros(4)], [np.eye(4)], label=[7])
    tracks = tracker.extract(tracker.update(density, look(tracker, NONE)), 0.0)
    assert tracks.label.tolist() == [7, 8]
    np.testing.assert_array_equal(tracks.mean[0], tracks.mean[1])
    assert tracks.existence.tolist() == [1.0, 1.0]


def test_objects_that_cross_keep_two_labels():
    for tracker_type in (GMPHD, CPHD):
        rng = np.random.default_rng(0)
        tracker, reports = simple(tracker_type, p_detect=0.99, clutter=1e-6), []
        for t in range(40):
            z = np.array([[5.0 * (t - 20), 3.0 * (t - 20)], [5.0 * (t - 20), 15.0 - 3.0 * (t - 20)]])
            tracks = tracker.step(z + rng.normal(size=(2, 2)), float(t))
            assert len(set(tracks.label.tolist())) == len(tracks)
            reports.append(tracks)
        assert set(reports[-1].label.tolist()) == set(reports[10].label.tolist())
        up = [r.label[np.argmax(r.mean[:, 1])] for r in reports if len(r) == 2]
        assert up[0] != up[-1]  # the one that was above is below, with the same label


@BOTH
def test_a_label_lasts_through_misses(tracker_type):
    rng = np.random.default_rng(1)
    tracker, labels = simple(tracker_type), []
    for t in range(40):
        z = np.array([[3.0 * t - 50.0, 0.0]]) + rng.normal(size=2)
        labels += tracker.step(z if t % 5 else NONE, float(t)).label.tolist()
    assert len(labels) > 25
    assert len(set(labels)) == 1


# --- the cardinality distribution --------------------------------------------------------------------------


def polynomial(a, k):
    """e_0 ... e_k as the coefficients of the product of 1 + a_i x."""
    e = np.ones(1)
    for value in a:
        e = np.convolve(e, [1.0, value])
    return np.append(e, np.zeros(k + 1))[: k + 1]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), m=st.integers(0, 8), k=st.integers(0, 8))
def test_symmetric_functions_and_their_derivatives(seed, m, k):
    rng = np.random.default_rng(seed)
    a, c = rng.exponential(2.0, m), rng.exponential(1.0, k + 1) * (rng.random(k + 1) < 0.8)
    with np.errstate(divide="ignore"):
        log_e, slope = cphd.symmetric(np.log(a), np.log(c))
    np.testing.assert_allclose(np.exp(log_e), polynomial(a, k), rtol=1e-9, atol=1e-12)
    without = [c[1:] @ polynomial(np.delete(a, i), k)[:k] for i in range(m)]
    np.testing.assert_allclose(np.exp(slope), without, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("m", [0, 3, 400])
def test_a_poisson_prior_gives_the_phd_update(m):
    rng = np.random.default_rng(m)
    mass, q = 12.0, 0.15
    a = np.exp(rng.normal(0.0, 6.0, m))
    p = poisson(mass).pmf(np.arange(700))
    after, factor, missed_factor = cphd.scanned(p, a, mass, q * mass)
    # The missed objects are Poisson still, and every measurement adds one object or none.
    np.testing.assert_allclose(factor, 1 / (1 + a), rtol=1e-8)
    assert missed_factor == pytest.approx(1.0, rel=1e-8)
    assert np.arange(700) @ after == pytest.approx(q * mass + (a / (1 + a)).sum(), rel=1e-8)


def enumerated(p, density, z, p_d, kappa):
    """Posterior number of objects and weights (k, m + 1) of "component c, missed or seen at z_j".

    Every object of every number chooses a component, and is missed or takes a measurement of its own.
    """
    N, k, m = density.parts.r.sum(), len(density.parts), len(z)
    seen = p_d * likelihoods(density, z).reshape(k, m) / kappa
    cell = density.parts.r[:, None] / N * np.concatenate((np.full((k, 1), 1 - p_d), seen), axis=1)
    number, weight = np.zeros(len(p)), np.zeros((k, m + 1))
    for n in range(len(p)):
        for options in product(range(m + 1), repeat=n):
            used = [o for o in options if o > 0]
            if len(set(used)) < len(used):
                continue
            for components in product(range(k), repeat=n):
                w = p[n] * np.prod([cell[c, o] for c, o in zip(components, options)])
                number[n] += w
                for c, o in zip(components, options):
                    weight[c, o] += w
    return number / number.sum(), weight / number.sum()


@pytest.mark.parametrize("m", [0, 1, 2, 3])
@pytest.mark.parametrize("certain", [False, True], ids=["p_D 0.7", "p_D 1"])
def test_cphd_update_against_enumeration(m, certain):
    rng = np.random.default_rng(m)
    p_d, kappa = (1 - 1e-9 if certain else 0.7), 0.02
    tracker = simple(CPHD, p_detect=p_d, clutter=kappa, config=CPHDConfig(**KEEP_ALL))
    density, z = crowd(rng, k=2, spread=2.0), 2.0 * rng.normal(size=(m, 2))
    p = np.array([0.1, 0.3, 0.4, 0.2])
    after = tracker.update(CPHDDensity(density, p), look(tracker, z))
    number, weight = enumerated(p, density, z, p_d, kappa)
    np.testing.assert_allclose(after.cardinality, number, atol=1e-7 if certain else 1e-12)
    np.testing.assert_allclose(
        np.sort(after.phd.parts.r), np.sort(weight[weight > 0].ravel()), rtol=1e-6, atol=1e-8
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), m=st.integers(0, 8), uniform=st.floats(0.0, 3.0))
def test_the_mean_number_is_the_mass(seed, m, uniform):
    rng = np.random.default_rng(seed)
    tracker = simple(CPHD, p_detect=0.7, clutter=1e-3, config=CPHDConfig(**KEEP_ALL))
    density = replace(crowd(rng), uniform=uniform)
    p = rng.dirichlet(np.ones(12))
    after = tracker.update(CPHDDensity(density, p), look(tracker, 6.0 * rng.normal(size=(m, 2))))
    assert after.cardinality.sum() == pytest.approx(1.0)
    assert np.arange(12) @ after.cardinality == pytest.approx(after.phd.mass, rel=1e-9)


def test_number_of_survivors_and_births():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(9))
    survivors = sum(p[n] * np.append(binom(n, 0.8).pmf(np.arange(n + 1)), np.zeros(8 - n)) for n in range(9))
    np.testing.assert_allclose(cphd.thinned(p, 0.8), survivors, atol=1e-14)
    np.testing.assert_allclose(cphd.thinned(p, 1.0), p, atol=1e-14)
    np.testing.assert_allclose(cphd.thinned(p, 0.0), np.eye(9)[0], atol=1e-14)
    together = cphd.born(p, 1.5, 500)
    expected = np.convolve(p, poisson(1.5).pmf(np.arange(60)))[: len(together)]
    np.testing.assert_allclose(together, expected, atol=1e-10)
    np.testing.assert_allclose(cphd.born(p, 0.0, 500), p)
    assert len(cphd.born(p, 50.0, 20)) <= 21
    assert cphd.born(p, 50.0, 20).sum() == pytest.approx(1.0)


def test_several_hundred_measurements_and_objects_stay_finite():
    rng = np.random.default_rng(0)
    p = poisson(300.0).pmf(np.arange(501))
    a = np.exp(rng.normal(0.0, 30.0, 600))
    after, factor, missed_factor = cphd.scanned(p, a, 300.0, 1e-9 * 300.0)
    assert np.isfinite(after).all()
    assert np.isfinite(factor).all()
    assert np.isfinite(missed_factor)
    # every object is detected, and those measurements are its that are likeliest
    mean = np.arange(501) @ after
    assert (a * factor).sum() == pytest.approx(mean, rel=1e-6)


def test_the_most_probable_number_is_reported():
    w = np.array([1.85, 0.9, 0.8, 0.35, 0.1])
    for number, expected in ((0, [0] * 5), (2, [1, 1, 0, 0, 0]), (4, [2, 1, 1, 0, 0]), (9, [2, 1, 1, 1, 0])):
        assert cphd.heaviest(w, number, 0.3).tolist() == expected


def test_components_of_equal_weight_are_reported_together_or_not_at_all():
    assert cphd.heaviest(np.full(4, 0.6), 3, 0.3).tolist() == [0, 0, 0, 0]
    assert cphd.heaviest(np.full(4, 0.6), 4, 0.3).tolist() == [1, 1, 1, 1]


def test_the_number_is_steadier_than_that_of_the_phd():
    scene = {"p_detect": 0.75, "clutter": 20, "born": 1e-3}
    error = {GMPHD: [], CPHD: []}
    for seed in range(3):
        for tracker_type, found in error.items():
            tracker = tracker_type(**models(**scene))
            for time, truth, z in simulate(seed, **scene):
                tracker.step(z, time)
                density = tracker.density.phd if tracker_type is CPHD else tracker.density
                if time > 5:
                    found.append(density.mass - len(truth))
    assert np.std(error[CPHD]) < 0.8 * np.std(error[GMPHD])


# --- both trackers through the door ------------------------------------------------------------------------

BIRTHS = {
    "uniform": UniformBirth(rate=0.1, rest_std=5.0, **BOX),
    "gaussian": GaussianBirth(
        rate=0.1, mean=[[100.0, 50.0, 0.0, 0.0]], cov=np.diag([100.0, 100.0, 25.0, 25.0])
    ),
    "measurement": MeasurementBirth(rate=0.1, rest_std=5.0),
}


@BOTH
@pytest.mark.parametrize("birth", BIRTHS.values(), ids=BIRTHS)
@pytest.mark.parametrize("linearisation", [EKF(), UKF(), CKF()], ids=["ekf", "ukf", "ckf"])
@pytest.mark.parametrize("radar", [False, True], ids=["position", "radar"])
def test_finds_and_follows_an_object(tracker_type, birth, linearisation, radar):
    rng = np.random.default_rng(0)
    if radar:
        sensor = RangeBearing(std=(1.0, 0.01), p_detect=0.95, clutter_intensity=1e-3)
    else:
        sensor = PositionSensor(std=1.0, p_detect=0.95, clutter_intensity=1e-5)
    tracker = tracker_type(ConstantVelocity(dims=2, q=0.1), sensor, birth, 0.99, linearisation=linearisation)
    time = np.cumsum(rng.uniform(0.2, 2.0, 15))
    truth = np.array([100.0, 50.0]) + (time - time[0])[:, None] * [3.0, 1.0]
    std, labels = np.sqrt(np.diag(sensor.noise(None))), []
    for t, x in zip(time, truth):
        tracks = tracker.step(sensor.measure(np.append(x, [0.0, 0.0])[None]) + std * rng.normal(size=2), t)
        labels += tracks.label.tolist()
    assert len(tracks) == 1
    assert np.hypot(*(tracks.mean[0, :2] - truth[-1])) < 4.0
    assert np.hypot(*(tracks.mean[0, 2:] - [3.0, 1.0])) < 2.0
    assert len(set(labels)) == 1
    assert len(labels) >= 10


@BOTH
def test_two_sensors_at_one_time(tracker_type):
    one, both = simple(tracker_type), simple(tracker_type)
    other = PositionSensor(std=0.1, p_detect=0.9, clutter_intensity=1e-5)
    for t in range(4):
        a = one.step([[2.0 * t, 0.0]], float(t))
        both.step([[2.0 * t, 0.0]], float(t))
        b = both.step([[2.0 * t + 0.05, 0.0]], float(t), sensor=other)
    assert len(a) == len(b) == 1
    assert np.trace(b.cov[0]) < 0.5 * np.trace(a.cov[0])


@BOTH
def test_clutter_ratio_multiplies_the_clutter(tracker_type):
    plain, doubled = simple(tracker_type, clutter=1e-5), simple(tracker_type, clutter=2e-5)
    for t in range(4):
        z = np.array([[2.0 * t, 0.0]])
        a = plain.step(z, float(t), clutter_ratio=[2.0])
        b = doubled.step(z, float(t))
    assert same(a, b)


@BOTH
def test_an_object_that_leaves_the_region_is_given_up(tracker_type):
    region = Survival(0.99, (-500.0, -500.0), (500.0, 500.0))
    bounded = simple(tracker_type, survival=region)
    for t in range(6):
        bounded.step([[475.0 + 4.0 * t, 0.0]], float(t))
    before = mass_of(bounded)
    bounded.step(NONE, 8.0)
    assert mass_of(bounded) - rest_of(bounded) < 0.1 * (1 - 0.9) * before


@BOTH
def test_occlusion_keeps_the_weight_of_a_hidden_object(tracker_type):
    plain, patient = simple(tracker_type), simple(tracker_type, occlusion=Occlusion(hide=0.05, show=0.2))
    for tracker in (plain, patient):
        for t in range(8):
            tracker.step([[0.0, 0.0]], float(t))
        tracker.step(NONE, 8.0)
        tracker.step(NONE, 9.0)
    assert mass_of(patient) - rest_of(patient) > 1.5 * (mass_of(plain) - rest_of(plain))


def mass_of(tracker):
    return getattr(tracker.density, "phd", tracker.density).mass


def rest_of(tracker):
    return getattr(tracker.density, "phd", tracker.density).uniform


@BOTH
@pytest.mark.parametrize("empty", [None, [], NONE])
def test_empty_scans(tracker_type, empty):
    for birth in BIRTHS.values():
        tracker = simple(tracker_type, birth=birth)
        for t in (0.0, 0.0, 1.0, 50.0):
            tracks = tracker.step(empty, t)
            assert len(tracks) == 0
            assert tracks.mean.shape == (0, 4)


@BOTH
def test_ten_thousand_clutter_points(tracker_type):
    rng = np.random.default_rng(0)
    tracker = simple(tracker_type, clutter=0.01, std=0.5)
    for t in range(2):
        tracks = tracker.step(rng.uniform(-500, 500, (10_000, 2)), float(t))
    assert len(tracks) == 0
    assert np.isfinite(mass_of(tracker))
    assert mass_of(tracker) < 1.0


@BOTH
def test_extreme_settings_stay_finite(tracker_type):
    for clutter, p_detect in ((1e-300, 1.0), (1e300, 0.5), (1e-5, 0.0)):
        tracker = simple(tracker_type, clutter=clutter, p_detect=p_detect)
        for t in range(3):
            tracks = tracker.step(np.zeros((3, 2)), float(t))
        assert np.isfinite(mass_of(tracker))
        assert np.isfinite(tracks.mean).all()
        assert len(set(tracks.label.tolist())) == len(tracks)


@BOTH
def test_a_rejected_call_changes_nothing(tracker_type):
    tracker, twin = simple(tracker_type), simple(tracker_type)
    for t in range(4):
        tracker.step([[float(t), 0.0]], float(t))
        twin.step([[float(t), 0.0]], float(t))
    before, time = tracker.density, tracker.time
    broken = PositionSensor(std=1.0, p_detect=lambda x: np.full(len(x), 2.0))
    for wrong in (
        {"z": [[np.nan, 0.0]]},
        {"z": [[0.0, 0.0, 0.0]]},
        {"time": 2.0},
        {"clutter_ratio": [1.0, 1.0]},
        {"sensor": broken},
    ):
        with pytest.raises(ValueError):
            tracker.step(**{"z": [[0.0, 0.0]], "time": 9.0, **wrong})
    assert tracker.density is before
    assert tracker.time == time
    assert same(tracker.step([[4.0, 0.0]], 4.0), twin.step([[4.0, 0.0]], 4.0))


@BOTH
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_measurements_does_not_matter(tracker_type, seed):
    rng = np.random.default_rng(seed)
    one, other = tracker_type(**models()), tracker_type(**models())
    for time, _, z in simulate(seed % 1000, scans=6):
        order = rng.permutation(len(z))
        a, b = one.step(z, time), other.step(z[order], time)
        np.testing.assert_allclose(sorted_rows(a), sorted_rows(b), rtol=1e-6, atol=1e-6)


@BOTH
def test_same_scans_same_tracks_and_inputs_stay_untouched(tracker_type):
    one, other = tracker_type(**models()), tracker_type(**models())
    for time, _, z in simulate(5, scans=12):
        before = z.copy()
        parts = None if one.density is None else getattr(one.density, "phd", one.density).parts
        kept = None if parts is None else (parts.r.copy(), parts.m.copy())
        assert same(one.step(z, time), other.step(z, time))
        np.testing.assert_array_equal(z, before)
        if parts is not None:  # the old density is still what it was
            np.testing.assert_array_equal(parts.r, kept[0])
            np.testing.assert_array_equal(parts.m, kept[1])


@pytest.mark.parametrize("bad", [{"gate": -1.0}, {"merge": -1.0}, {"min_weight": 2.0}, {"max_components": 0}])
def test_settings_are_checked(bad):
    for config in (GMPHDConfig, CPHDConfig):
        with pytest.raises(ValueError, match=next(iter(bad))):
            config(**bad)
    with pytest.raises(ValueError, match="max_objects"):
        CPHDConfig(max_objects=0)


@pytest.mark.parametrize(
    ("tracker_type", "scene", "bound"),
    [
        (GMPHD, {"clutter": 10, "p_detect": 0.9}, 40.0),
        (GMPHD, {"clutter": 60, "p_detect": 0.75}, 63.0),
        (CPHD, {"clutter": 10, "p_detect": 0.9}, 41.0),
        (CPHD, {"clutter": 60, "p_detect": 0.75}, 63.0),
    ],
)
def test_reaches_a_good_gospa(tracker_type, scene, bound):
    error = np.mean(
        [mean_gospa(tracker_type(**models(**scene)), simulate(seed, **scene)) for seed in range(4)]
    )
    assert error < bound, error
