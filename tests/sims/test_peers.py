"""The plain GNN tracks as well as tuned thresholds can, and the truth is better than all."""

import numpy as np
import pytest

from sims.evaluate import errors, scene_of, track
from sims.peers import PEERS, REFERENCES, assignment, peer_settings
from sims.peers.plain import PlainGNN, PlainSettings
from sims.scenarios import SCENARIOS, scenario
from sims.trackers import TRACKERS, settings_of


def gospa_of(name, tracker, run=0, scans=None):
    problem = scenario(name)
    scene = scene_of(problem, 0, run)
    if tracker in TRACKERS:
        made = TRACKERS[tracker](problem, **settings_of(problem, tracker))
    else:
        made = (REFERENCES | PEERS)[tracker](problem, scene, **peer_settings(problem, tracker))
    tracks = track(made, scene, scans).tracks
    return errors(problem, [scene.truth.at(k) for k in range(len(tracks))], [t.mean for t in tracks])[
        :, 0
    ].mean()


@pytest.mark.parametrize("tracker", ["plain", "gnn", "pmbm", "lmb"])
@pytest.mark.parametrize("name", ["small", "dense"])
def test_the_truth_is_a_floor(name, tracker):
    assert gospa_of(name, "truth") < gospa_of(name, tracker)


@pytest.mark.parametrize(("name", "bound"), [("small", 46.3), ("dense", 62.0)])
def test_plain_is_as_good_as_its_kind_gets(name, bound):
    assert np.mean([gospa_of(name, "plain", run) for run in range(3)]) < bound


def test_plain_and_truth_scale():
    assert gospa_of("huge", "truth", scans=12) < gospa_of("huge", "plain", scans=12) < 6000


def test_an_undisturbed_object_is_one_track_from_its_confirmation_on():
    tracker = PlainGNN(scenario("small"), hits=2, window=2, misses=3, silent=2)
    path = [np.array([[100.0 + 5 * k, 200.0]]) for k in range(8)]
    for k in (4, 5, 6):  # missed: reported once more, then not, then dropped
        path[k] = np.zeros((0, 2))
    tracks = [tracker.step(z, float(k)) for k, z in enumerate(path)]
    assert [t.label.tolist() for t in tracks] == [[], [0], [0], [0], [0], [], [], []]
    assert [t.source.tolist() for t in tracks] == [[], [0], [0], [0], [-1], [], [], []]
    assert tracks[3].mean[0] == pytest.approx((115, 200, 5, 0), abs=1.5)
    assert len(tracker.x) == 1  # the one that the last measurement starts


def test_objects_that_leave_the_field_are_dropped():
    tracker = PlainGNN(scenario("small"), hits=1, window=1)
    assert len(tracker.step(np.array([[999.0, 500.0], [500.0, 500.0]]), 0.0)) == 2
    tracker.x[0, 2] = 20.0
    assert tracker.step(np.zeros((0, 2)), 1.0).label.tolist() == [1]


def test_the_tree_and_components_find_what_the_table_finds(monkeypatch):
    problem = scenario("dense")
    scene = scene_of(problem, 0, 0)
    found = []
    for table in (10**9, 0):
        monkeypatch.setattr(assignment, "TABLE", table)
        found.append(track(PlainGNN(problem, hits=2, window=3), scene, 30).tracks)
    for a, b in zip(*found, strict=True):
        assert np.array_equal(a.label, b.label)
        np.testing.assert_allclose(a.mean, b.mean)


def test_assignment_is_of_greatest_gain(monkeypatch):
    rng = np.random.default_rng(0)
    for _ in range(50):
        row, col = np.nonzero(rng.random((7, 9)) < 0.25)
        gain = rng.uniform(0.1, 5, len(row))
        total = {}
        for table in (10**9, 0):
            monkeypatch.setattr(assignment, "TABLE", table)
            taken = assignment.assign(row, col, gain, 7, 9)
            used = taken[taken >= 0]
            assert len(np.unique(used)) == len(used)
            total[table] = sum(g for r, c, g in zip(row, col, gain) if taken[r] == c)
        assert total[0] == pytest.approx(total[10**9])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"hits": 3, "window": 2}, "1 <= hits <= window <= 63, got 3, 2"),
        ({"silent": 5, "misses": 4}, "1 <= silent <= misses <= 63, got 5, 4"),
        ({"gate": 0.0}, "gate must be positive, got 0.0"),
    ],
)
def test_bad_thresholds_say_what_is_wanted(settings, says):
    with pytest.raises(ValueError, match="must be") as caught:
        PlainSettings(**settings)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["vo-bearing", "williams15", "radar-1"])
def test_other_models_are_refused(name):
    problem = SCENARIOS[name]
    with pytest.raises(ValueError, match="births anywhere in a box, got"):
        PlainGNN(problem)
