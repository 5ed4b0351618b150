"""Delta-GLMB: the printed vector of one scan, its two ways of truncation, and labels."""

from dataclasses import replace

import numpy as np
import pytest

from tracking.filters.estimate import marginal_existence
from tracking.filters.glmb import GLMB, GLMBConfig, GLMBDensity
from tracking.filters.hypotheses import empty_mixture, with_tracks
from tracking.filters.lmb import LMB, LMBConfig, LMBDensity
from tracking.filters.local import Locals
from tracking.filters.poisson import Poisson
from tracking.filters.seeds import Seeds
from tracking.models import (
    ConstantVelocity,
    GaussianBirth,
    MeasurementBirth,
    PositionSensor,
    RandomWalk,
    UniformBirth,
)

NO_PRUNING = dict(gate=1e9, max_hypotheses=1000, min_weight=0.0, min_existence=0.0)
SURVIVOR, BIRTH = 0, 1  # labels
# What the two labels do (-1: dead or not born, 0: missed, j: detected by measurement j), and the weight.
CHILDREN = {
    (1, -1): 0.47471298,
    (1, 2): 0.39722020,
    (2, -1): 0.09051970,
    (2, 1): 0.02053946,
    (1, 0): 0.00527459,
    (0, -1): 0.00469600,
    (0, 2): 0.00392942,
    (0, 1): 0.00106555,
    (2, 0): 0.00100577,
    (-1, -1): 0.00047434,
    (-1, 2): 0.00039691,
    (-1, 1): 0.00010763,
    (0, 0): 5.218e-5,
    (-1, 0): 5.27e-6,
}


MODELS = (
    ConstantVelocity(1, q=0.25, noise_model="piecewise"),
    PositionSensor(1, std=1.0, p_detect=0.9, clutter_intensity=0.02),
    GaussianBirth(0.1, [5.0, 0.0], np.diag([4.0, 1.0])),
    0.99,
)


def after_one_scan(**settings):
    """One label that exists for certain, one birth, two measurements."""
    tracker = GLMB(*MODELS, GLMBConfig(**{**NO_PRUNING, "split": -1.0, **settings}))
    local = Locals.empty(2).add(np.ones(1), np.array([[0.0, 1.0]]), np.eye(2)[None])
    mixture = with_tracks(empty_mixture(), 1)
    tracker.density = GLMBDensity(local, np.array([SURVIVOR]), mixture, Poisson.empty(2), Seeds.none(2), 1)
    tracker.time = 0.0
    return tracker, tracker.step([[1.3], [4.2]], 1.0)


def children(density):
    """Weights by what happened to the two labels."""
    mixture, local = density.mixture, density.local
    out = {}
    for w, row in zip(mixture.weights(0), mixture.table(0)):
        fate = dict.fromkeys((SURVIVOR, BIRTH), -1)
        for label, h in zip(density.label, row):
            if h >= 0:
                fate[int(label)] = int(local.source[h]) + 1
        out[fate[SURVIVOR], fate[BIRTH]] = w
    return out


def test_murty_finds_all_children_of_the_printed_vector():
    tracker, tracks = after_one_scan(max_hypotheses=14)
    found = children(tracker.density)
    assert found.keys() == CHILDREN.keys()
    for fate, w in CHILDREN.items():
        assert found[fate] == pytest.approx(w, abs=1e-8)
    pmf = np.zeros(3)
    for fate, w in found.items():
        pmf[sum(f >= 0 for f in fate)] += w
    np.testing.assert_allclose(pmf, [4.7434e-4, 0.57043849, 0.42908717], atol=1e-8)
    existence = dict(zip(tracker.density.label.tolist(), marginal_existence(tracker.density)))
    assert existence[SURVIVOR] == pytest.approx(0.99901584, abs=1e-8)
    assert existence[BIRTH] == pytest.approx(0.42959698, abs=1e-8)
    assert tracks.label.tolist() == [SURVIVOR]  # one object is the most probable number
    assert tracks.source.tolist() == [0]


def test_fewer_hypotheses_are_the_best_ones_renormalised():
    tracker, _ = after_one_scan(max_hypotheses=5)
    top = dict(list(CHILDREN.items())[:5])
    found = children(tracker.density)
    assert found.keys() == top.keys()
    for fate, w in top.items():
        assert found[fate] == pytest.approx(w / sum(top.values()), abs=1e-7)


def test_gibbs_finds_the_best_children():
    tracker, _ = after_one_scan(gibbs_sweeps=10_000)
    found = children(tracker.density)
    assert list(found)[:8] == list(CHILDREN)[:8]
    total = sum(CHILDREN[fate] for fate in found)
    for fate, w in found.items():
        assert w == pytest.approx(CHILDREN[fate] / total, abs=1e-6)


@pytest.mark.parametrize("association", ["exhaustive", "belief"])
def test_lmb_has_the_existence_probabilities_of_the_vector(association):
    config = LMBConfig(gate=1e9, min_existence=0.0, association=association)
    tracker = LMB(*MODELS, config)
    none = tracker.start(0.0)
    old = none.tracks.empty(2).add(np.ones(1), np.array([SURVIVOR]), np.array([[0.0, 1.0]]), np.eye(2)[None])
    tracker.density, tracker.time = LMBDensity(old, none.unborn, none.seeds, 1), 0.0
    tracker.step([[1.3], [4.2]], 1.0)
    tolerance = 1e-8 if association == "exhaustive" else 0.02  # a loop of two rows and two columns
    assert tracker.density.tracks.label.tolist() == [SURVIVOR, BIRTH]
    assert tracker.density.tracks.r == pytest.approx([0.99901584, 0.42959698], abs=tolerance)


def walk(config, births, scans, **arguments):
    """Two objects and clutter, until the last scan."""
    sensor = PositionSensor(std=1.0, p_detect=0.9, clutter_intensity=1e-4)
    tracker = GLMB(ConstantVelocity(2, q=0.1), sensor, births, 0.99, config, **arguments)
    rng = np.random.default_rng(0)
    x = np.array([[0.0, 0.0], [30.0, 0.0]])
    for k in range(scans):
        x = x + np.array([1.0, 0.5])
        seen = x[rng.random(2) < 0.9]
        z = np.concatenate((seen + rng.normal(size=seen.shape), rng.uniform(-20, 60, (2, 2))))
        tracks = tracker.step(rng.permutation(z), float(k))
    return tracker, tracks, x


BIRTHS = {
    "gaussian": GaussianBirth([0.01, 0.01], [[0, 0, 0, 0], [30, 0, 0, 0]], np.diag([20.0, 20.0, 2.0, 2.0])),
    "uniform": UniformBirth(0.1, rest_std=1.5, lower=(-20, -20), upper=(60, 60)),
    "measurement": MeasurementBirth(0.1, rest_std=1.5),
}


@pytest.mark.parametrize("births", BIRTHS)
@pytest.mark.parametrize("sweeps", [0, 1000])
def test_follows_two_objects_from_any_kind_of_birth(births, sweeps):
    _, tracks, x = walk(GLMBConfig(gibbs_sweeps=sweeps), BIRTHS[births], 15)
    assert len(tracks) == 2
    np.testing.assert_allclose(tracks.mean[np.argsort(tracks.mean[:, 0]), :2], x, atol=3.0)


def test_groups_give_nearly_what_one_table_gives():
    _, one, _ = walk(GLMBConfig(split=-1.0, max_hypotheses=5000), BIRTHS["gaussian"], 8)
    tracker, many, _ = walk(GLMBConfig(), BIRTHS["gaussian"], 8)
    assert tracker.density.mixture.n_clusters > 1
    np.testing.assert_array_equal(many.label, one.label)
    np.testing.assert_allclose(many.mean, one.mean, atol=1e-2)


def test_quota_only_matters_when_hypotheses_are_dropped():
    config = GLMBConfig(max_hypotheses=100_000, min_weight=1e-9, min_existence=0.0, split=-1.0)
    a, _, _ = walk(config, BIRTHS["gaussian"], 2)
    b, _, _ = walk(replace(config, quota=True), BIRTHS["gaussian"], 2)
    np.testing.assert_allclose(marginal_existence(a.density), marginal_existence(b.density), atol=1e-6)


def test_every_birth_gets_a_fresh_label():
    tracker, _, _ = walk(GLMBConfig(min_existence=0.0, max_hypotheses=20), BIRTHS["gaussian"], 4)
    assert tracker.density.next_label == 8
    assert len(np.unique(tracker.density.label)) == len(tracker.density.label)


def test_births_that_are_not_certain_to_fit_a_step():
    """More than one birth expected in a step: at most one is born of each component."""
    birth = GaussianBirth(7.0, [0.0], [[4.0]])
    tracker = GLMB(RandomWalk(1), PositionSensor(1, std=1.0, clutter_intensity=1e-3), birth)
    tracker.step([[0.1]], 0.0)
    assert (tracker.density.local.r == 1).all()
    assert marginal_existence(tracker.density).max() <= 1 + 1e-12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_weight": 1.1}, "min_weight"),
        ({"min_existence": -0.1}, "min_existence"),
        ({"threshold": np.nan}, "threshold"),
        ({"estimator": "median"}, "estimator must be one of .*'median'"),
        ({"max_hypotheses": 0}, "max_hypotheses"),
        ({"gate": 0.0}, "gate"),
        ({"gibbs_sweeps": -5}, "gibbs_sweeps"),
        ({"split": np.nan}, "split"),
        ({"gospa_c": -1.0}, "gospa_c"),
    ],
)
def test_rejects_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        GLMBConfig(**settings)
