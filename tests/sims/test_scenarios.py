"""The named scenarios are those of their sources, and the models told to filters fit the scenes."""

from functools import cache
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest

from sims.scenarios import SCENARIOS, scenario
from sims.scenarios.literature import williams_truth
from sims.scenarios.radar import FIELD_LOWER, FIELD_UPPER, InField, polar_birth, radar, radar_noise
from sims.scenarios.scenario import Scenario
from sims.targets import Clutter, Process, draw_truth
from tracking.gaussian import EKF, UKF
from tracking.models import Survival

NAMES = [
    "crossing",
    "williams15",
    "williams15-fixed",
    "vo-linear",
    "vo-bearing",
    "mt3-task1",
    "mt3-task2",
    "radar-1",
    "radar-2",
    "radar-3",
    "radar-4",
    "small",
    "dense",
    "large",
    "huge",
    "mega",
]


def world(name) -> Process:
    return next(a for a in scenario(name).draw.args if isinstance(a, Process))


def clutter(name) -> Clutter:
    parts = scenario(name).draw.args
    return next(a if isinstance(a, Clutter) else a.clutter for a in parts if isinstance(a, Clutter | Process))


def draws(name, n, seed=0):
    rng = np.random.default_rng(seed)
    return [scenario(name).draw(rng) for _ in range(n)]


@cache
def truths(name, n):
    process, time = world(name), next(a for a in scenario(name).draw.args if isinstance(a, np.ndarray))
    rng = np.random.default_rng(0)
    return [draw_truth(process, time, rng) for _ in range(n)]


def radar_grid():
    r, theta = (a.ravel() for a in np.meshgrid(np.linspace(0.5, 15, 59), np.linspace(-1.3, 1.3, 53)))
    return np.stack((r * np.cos(theta), r * np.sin(theta)), axis=1), r, theta


# ---------------------------------------------------------------- all of them


def test_every_name_is_there_and_a_wrong_one_lists_them():
    assert list(SCENARIOS) == NAMES
    assert all(scenario(name).name == name for name in NAMES)
    with pytest.raises(ValueError, match=r"'big'.*crossing, williams15.*mega"):
        scenario("big")


@pytest.mark.parametrize("name", NAMES)
def test_a_scene_fits_the_models_of_its_scenario(name):
    s = scenario(name)
    scene = draws(name, 1)[0]
    states = scene.truth.states
    assert states.shape[2] == s.motion.dim
    here = ~np.isnan(states[..., 0])
    assert np.isfinite(states[here]).all()
    assert np.isnan(states[~here]).all()
    assert here.any()
    for z, origin in zip(scene.scans, scene.origin, strict=True):
        assert z.shape == (len(origin), s.sensor.dim_z)
        assert np.isfinite(z).all()
    assert isinstance(s.survival, Survival)
    assert s.metric_dims <= s.motion.dim
    assert "\n" not in s.about
    assert len(s.about) < 130


@pytest.mark.parametrize("name", NAMES)
def test_the_stated_clutter_is_the_clutter(name):
    box = clutter(name)
    rng = np.random.default_rng(0)
    z = rng.uniform(box.lower, box.upper, (10, len(box.lower)))
    expected = scenario(name).sensor.clutter(z) * np.prod(np.subtract(box.upper, box.lower))
    np.testing.assert_allclose(expected, box.mean, rtol=1e-6, atol=1e-5)
    scenes = draws(name, 1 if name in ("huge", "mega") else 5)
    count = np.array([(origin == -1).sum() for scene in scenes for origin in scene.origin])
    assert abs(count.mean() - box.mean) <= 4.5 * np.sqrt(box.mean / len(count))


@pytest.mark.parametrize("name", NAMES)
def test_worker_processes_can_be_sent_a_scenario_and_seeds_decide(name):
    if name == "mega":
        return
    s = scenario(name)
    copy = ForkingPickler.loads(ForkingPickler.dumps(s))
    a, b = s.draw(np.random.default_rng(5)), copy.draw(np.random.default_rng(5))
    np.testing.assert_array_equal(a.truth.states, b.truth.states)
    assert all(np.array_equal(x, y) for x, y in zip(a.scans, b.scans, strict=True))
    c = s.draw(np.random.default_rng(6))
    assert not all(np.array_equal(x, y) for x, y in zip(a.scans, c.scans))


def test_scoring_is_one_of_the_known_kinds():
    settings = {f: getattr(scenario("small"), f) for f in Scenario.__dataclass_fields__}
    for field in ("scored", "average", "linearisation"):
        with pytest.raises(ValueError, match=f"{field} must be one of"):
            Scenario(**{**settings, field: "some"})


@pytest.mark.parametrize("name", ["williams15", "small", "dense", "mt3-task2", "radar-1"])
def test_a_filter_told_the_associations_is_consistent(name):
    """Normalised innovations squared average one: noise, motion and geometry are those told to filters."""
    s = scenario(name)
    linearisation = UKF() if s.linearisation == "ukf" else EKF()
    P0 = np.diag([4.0, 4.0, 1.0, 1.0])
    nis = []
    for seed, scene in enumerate(draws(name, 20 if s.scored == "last" else 3)):
        rng = np.random.default_rng(seed)
        for i, states in enumerate(scene.truth.states):
            scans = np.flatnonzero(~np.isnan(states[:, 0]))
            m, P = (states[scans[0]] + rng.multivariate_normal(np.zeros(4), P0))[None], P0[None]
            for k in scans:
                if k > scans[0]:
                    m, P = linearisation.predict(m, P, s.motion, scene.time[k] - scene.time[k - 1])
                z = scene.scans[k][scene.origin[k] == i]
                if len(z):
                    innovation = linearisation.innovate(m, P, s.sensor)
                    nu = s.sensor.residual(z, innovation.z_hat)
                    nis.append(nu[0] @ innovation.S_inv[0] @ nu[0] / s.sensor.dim_z)
                    m, P = m + nu @ innovation.gain[0].T, innovation.P_post
    assert len(nis) > 300
    assert abs(np.mean(nis) - 1) < 0.2


# ---------------------------------------------------------------- williams15


def test_williams_targets_meet_at_41_where_one_disappears():
    s = scenario("williams15")
    scene = draws("williams15", 1)[0]
    assert scene.time[40] == 41.0
    assert len(scene) == 81
    count = [len(scene.truth.at(k)) for k in range(81)]
    assert count == [4] * 40 + [3] * 41
    whole = np.array([williams_truth(s.motion, np.random.default_rng(i)).states for i in range(400)])
    meeting = whole[:, 1:, 40, :2]
    assert abs(meeting.mean() - 150) < 0.05
    assert abs(meeting.var() - 0.1) < 0.015
    steps = np.concatenate((whole[:, 1:, 1:] - whole[:, 1:, :-1] @ s.motion.matrix(1.0).T,), axis=0)
    Q = s.motion.noise(whole[0, 0], 1.0)
    np.testing.assert_allclose(np.cov(steps.reshape(-1, 4).T), Q, atol=2e-4)  # backwards as forwards
    gone = whole[:, 0, 39]  # target 1, one step before k = 41: F^-1 (x + w)
    F_inv = s.motion.matrix(-1.0)
    np.testing.assert_allclose(np.cov(gone.T), F_inv @ (0.1 * np.eye(4) + Q) @ F_inv.T, atol=0.05)


def test_williams_truth_is_new_each_run_unless_fixed():
    new = [w.truth.states for w in draws("williams15", 2)]
    fixed = [w.truth.states for w in draws("williams15-fixed", 2)]
    assert not np.array_equal(*new, equal_nan=True)
    np.testing.assert_array_equal(*fixed)


# ---------------------------------------------------------------- vo


def test_vo_linear_truth_is_the_table():
    truth = scenario("vo-linear").draw.args[0]
    states = truth.states
    assert states.shape == (12, 100, 4)
    np.testing.assert_allclose(states[0, 0], [0, -10, 0, -10])  # moved once before the first scan
    np.testing.assert_allclose(states[3, 19], [393, -604, -7, -4])
    np.testing.assert_allclose(states[2, 69, :2], [-800 + 70 * 20, -200 - 70 * 5])
    count = (~np.isnan(states[..., 0])).sum(axis=0)
    assert [count[k - 1] for k in (1, 19, 20, 39, 40, 60, 70, 71, 79, 80, 100)] == [
        3, 3, 6, 6, 8, 10, 10, 8, 8, 10, 10,
    ]  # fmt: skip
    assert np.nanmax(np.abs(states[..., :2])) < 1000


def test_vo_bearing_truth_turns_and_stays_in_front():
    s = scenario("vo-bearing")
    states = s.draw.args[0].states
    count = (~np.isnan(states[..., 0])).sum(axis=0)
    assert [count[k - 1] for k in (1, 9, 10, 20, 40, 60, 66, 67, 80, 81, 100)] == [
        1, 1, 4, 5, 8, 10, 10, 9, 9, 7, 7,
    ]  # fmt: skip
    here = ~np.isnan(states[..., 0])
    speed = np.hypot(states[..., 2], states[..., 3])
    assert all(np.ptp(v[~np.isnan(v)]) < 1e-9 for v in speed)
    heading = np.unwrap(np.arctan2(states[0, :, 3], states[0, :, 2]))
    np.testing.assert_allclose(np.diff(heading), np.deg2rad(0.25), atol=1e-12)
    z = s.sensor.measure(states[here])
    assert z[:, 0].max() < 2125
    assert np.abs(z[:, 1]).max() < np.pi / 2
    np.testing.assert_allclose(s.sensor.measure(np.array([[3.0, 4.0, 0, 0, 0]])), [[5.0, np.arctan2(3, 4)]])


# ---------------------------------------------------------------- mt3 and radar


def test_mt3_task1_is_free_of_noise_and_clutter():
    for scene in draws("mt3-task1", 20):
        for k, (z, origin) in enumerate(zip(scene.scans, scene.origin, strict=True)):
            np.testing.assert_array_equal(z, scene.truth.states[origin, k, :2])
            assert len(z) == len(scene.truth.at(k))
        np.testing.assert_array_equal(scene.time, 0.1 * np.arange(20))


def test_mt3_task2_has_no_births_at_the_end_and_births_before():
    born = np.zeros(20)
    for truth in truths("mt3-task2", 300):
        here = ~np.isnan(truth.states[..., 0])
        assert here.sum(axis=0).max() <= 16
        born += np.bincount(here.argmax(axis=1), minlength=20)
    assert born[18:].sum() == 0
    assert abs(born[1:18].mean() / 300 - 0.4 * 0.95) < 0.03  # newborns die, too
    assert abs(born[0] / 300 - 6 / (1 - np.exp(-6))) < 0.4


@pytest.mark.parametrize(
    ("name", "objects"),
    [("mt3-task1", 3.1), ("mt3-task2", 5.335), ("radar-1", 2.5), ("radar-2", 6.0)],
)
def test_number_of_objects_at_the_end_is_near_that_of_the_source(name, objects):
    # The sources counted 1,000 windows and, where objects die, those that die in the last scan.
    count = np.array([len(truth.at(-1)) for truth in truths(name, 300)])
    assert count[count > 0].mean() == pytest.approx(objects, rel=0.08)


@pytest.mark.parametrize("name", ["mt3-task1", "mt3-task2", "radar-1", "radar-2"])
def test_initial_rate_told_to_filters_is_the_number_at_the_first_scan(name):
    count = np.array([len(truth.at(0)) for truth in truths(name, 300)])
    expected = np.sum(scenario(name).initial.rate)
    assert abs(count.mean() - expected) < 4 * count.std() / np.sqrt(len(count)) + 0.02 * expected


@pytest.mark.parametrize("task", [1, 3])
def test_radar_objects_and_detections_stay_in_the_field_of_view(task):
    s = radar(task)
    rng = np.random.default_rng(0)
    for _ in range(20):
        scene = s.draw(rng)
        states = scene.truth.states[~np.isnan(scene.truth.states[..., 0])]
        z = np.concatenate((s.sensor.measure(states), *scene.scans))
        assert ((z >= FIELD_LOWER) & (z <= FIELD_UPPER)).all()
        assert (s.sensor.detection(states) == 0.95).all()


def test_radar_sees_nothing_outside_its_field_of_view():
    states = np.array(
        [[7.0, 0, 0, 0], [0.3, 0, 0, 0], [16, 0, 0, 0], [1, 9, 0, 0], [-5, 0, 0, 0], [7, 0, 31, 0]]
    )
    np.testing.assert_array_equal(InField(0.5)(states), [0.5, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(scenario("radar-2").sensor.detection(states), [0.5, 0, 0, 0, 0, 0])


def test_realistic_radar_covariance_is_positive_definite_all_over():
    x, r, theta = radar_grid()
    R = radar_noise(np.pad(x, ((0, 0), (0, 2))))
    np.testing.assert_array_equal(R, R.swapaxes(1, 2))
    np.linalg.cholesky(R)
    std = np.sqrt(np.diagonal(R, axis1=1, axis2=2))
    correlation = R / std[:, :, None] / std[:, None, :]
    assert np.linalg.eigvalsh(correlation).min() > 0.14  # of the base matrix: 0.147
    assert (std >= np.array([0.075, 0.1, 0.977866]) * (1 - 1e-12)).all()
    far = r > 5.9
    expected = 0.102190 / np.cos(theta[far]) * (r[far] / 5.80128) ** 2
    np.testing.assert_allclose(std[far, 1], expected, rtol=1e-12)
    np.testing.assert_allclose(
        correlation[far][:, [0, 0, 1], [1, 2, 2]] - [0.416176, -0.446441, 0.416484], 0, atol=1e-12
    )
    outside = radar_noise(
        np.array([[-3.0, 4.0], [0.0, 40.0]])
    )  # bearings beyond 90 degrees, range beyond 15 m
    assert np.linalg.eigvalsh(outside).min() > 0


def test_births_told_to_radar_filters_are_those_of_the_tasks():
    rng = np.random.default_rng(0)
    x = np.stack((rng.normal(7, np.sqrt(10), 200000), rng.normal(0.01, np.sqrt(30), 200000)), axis=1)
    birth = polar_birth(2.0)
    inside = InField(1.0)(np.pad(x, ((0, 0), (0, 2)))) > 0
    assert birth.rate.sum() == pytest.approx(2 * inside.mean(), rel=0.02)
    assert (InField(1.0)(birth.mean) == 1).all()
    y = x[inside][:2000]
    y = y[(np.hypot(*y.T) > 2) & (np.hypot(*y.T) < 13) & (np.abs(np.arctan2(y[:, 1], y[:, 0])) < 1)]
    e = y[:, None] - birth.mean[None, :, :2]
    P = birth.cov[:, :2, :2]
    d2 = np.einsum("nki,kij,nkj->nk", e, np.linalg.inv(P), e)
    mixture = (birth.rate * np.exp(-0.5 * d2) / (2 * np.pi * np.sqrt(np.linalg.det(P)))).sum(axis=1)
    exact = 2 * np.exp(-((y[:, 0] - 7) ** 2) / 20 - (y[:, 1] - 0.01) ** 2 / 60) / (2 * np.pi * np.sqrt(300))
    assert np.abs(mixture / exact - 1).mean() < 0.1
    assert np.abs(mixture / exact - 1).max() < 0.35
    with pytest.raises(ValueError, match="1, 2, 3 or 4"):
        radar(5)


# ---------------------------------------------------------------- scale and crossing


@pytest.mark.parametrize(
    ("name", "side", "n0", "n_clutter", "p_detect", "n_scans"),
    [
        ("small", 1000, 10, 10, 0.9, 100),
        ("dense", 1000, 10, 60, 0.75, 100),
        ("large", 4000, 100, 100, 0.9, 100),
        ("huge", 20000, 1000, 500, 0.9, 50),
        ("mega", 63000, 10000, 5000, 0.9, 50),
    ],
)
def test_the_number_of_objects_stays_near_n0(name, side, n0, n_clutter, p_detect, n_scans):
    s, box = scenario(name), clutter(name)
    assert (box.mean, box.upper, s.sensor.p_detect) == (n_clutter, (side, side), p_detect)
    runs = truths(name, {10: 60, 100: 20}.get(n0, 1))
    count = np.mean([(~np.isnan(t.states[..., 0])).sum(axis=0) for t in runs], axis=0)
    assert count[0] == n0
    assert len(count) == n_scans
    # The source's birth rate takes the rim as 0.7 as dense as the middle: in a small field too little.
    assert count.mean() == pytest.approx(n0, rel=0.18 if n0 == 10 else 0.06)


def test_crossing_objects_come_close_in_the_middle():
    truth = scenario("crossing").draw.args[0]
    states = truth.states
    assert states.shape == (6, 40, 4)
    assert np.nanmin(states[..., :2]) > 0
    assert np.nanmax(states[..., :2]) < 1000
    distance = np.linalg.norm(states[:, None, :, :2] - states[None, :, :, :2], axis=3)
    closest = np.nanmin(distance, axis=2)[np.triu_indices(6, 1)]
    assert (closest < 20).sum() >= 4
    step = states[:, 1:, :2] - states[:, :-1, :2]
    np.testing.assert_allclose(step[0], (states[0, 1:, 2:] + states[0, :-1, 2:]) / 2, atol=0.05)
