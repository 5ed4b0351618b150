"""The MT3 tracker behind the door of the filters."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from sims.evaluate import scene_of
from sims.scenarios import SCENARIOS
from sims.studies.mt3 import stream
from sims.trackers import TRACKERS, settings_of
from tracking.mt3 import MT3, Model, MT3Config, UntrainedWarning, load
from tracking.mt3.linking import Links, link


@pytest.fixture
def scans(scenario, rng):
    scene = scenario.draw(rng)
    return list(zip(scene.scans, scene.time))


def run(tracker, scans):
    return [tracker.step(z, t) for z, t in scans]


def assert_same(a, b):
    for name in ("label", "mean", "cov", "existence", "source"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_tracks_have_the_shapes_of_a_filter(model, scans):
    tracker = MT3(model, MT3Config(threshold=0.05))
    found = run(tracker, scans)
    assert any(len(tracks) for tracks in found)
    for tracks, (z, t) in zip(found, scans):
        n = len(tracks)
        assert tracks.time == t
        assert tracks.mean.shape == (n, 4)
        assert tracks.cov.shape == (n, 4, 4)
        assert len(np.unique(tracks.label)) == n
        assert ((tracks.existence >= 0.05) & (tracks.existence <= 1)).all()
        assert ((tracks.source >= -1) & (tracks.source < len(z))).all()
        if n:
            assert (np.linalg.eigvalsh(tracks.cov) > 0).all()
    assert tracker.expected_number >= sum(found[-1].existence) - 1e-9


def test_the_same_scans_give_the_same_tracks(model, scans):
    for a, b in zip(run(MT3(model), scans), run(MT3(model), scans)):
        assert_same(a, b)


def test_scans_may_be_observed_without_an_answer(model, scans):
    asked, watching = MT3(model), MT3(model)
    for k, (z, t) in enumerate(scans):
        expected = asked.step(z, t)
        if k % 5 < 4:
            assert watching.observe(z, t) is None
            assert (watching.time, watching.state.count) == (asked.time, asked.state.count)
        else:
            found = watching.step(z, t)
            assert watching.expected_number == asked.expected_number
            for name in ("mean", "cov", "existence", "source"):
                np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    before = watching.state
    for z, t, says in (([], 0.0, "backwards"), (np.zeros((1, 9)), 99.0, "z must have shape")):
        with pytest.raises(ValueError, match=says):
            watching.observe(z, t)
    assert watching.state is before
    answered = watching.expected_number
    watching.observe([], scans[-1][1] + 100.0)
    assert (len(watching.state.z), watching.expected_number) == (0, answered)


@pytest.mark.parametrize("every", [1, 3, 6, 10])
def test_labels_go_on_over_scans_that_were_observed_alone(every):
    tracker, rng, found = MT3("mt3-task2"), np.random.default_rng(3), []
    start, velocity = np.array([[-5.0, -5], [0, 4], [5, -2]]), np.array([[1.0, 0.5], [-0.5, 0], [0, 1]])
    for k in range(60):
        z = start + 0.1 * k * velocity + 0.1 * rng.standard_normal((3, 2))
        if k % every == every - 1 and k > 10:
            found.append(sorted(tracker.step(z, 0.1 * k).label.tolist()))
        else:
            tracker.observe(z, 0.1 * k)
    assert found == [[0, 1, 2]] * len(found)
    tracker.observe(z, 100.0)  # after a pause they are others
    z = np.concatenate([z] * 5)
    for k in range(1, 20):
        last = tracker.step(z[:3], 100.0 + 0.1 * k)
    assert len(last) == 3
    assert last.label.min() > 2


def test_labels_are_as_lasting_as_those_of_a_filter():
    """On a stream of the training's world: objects that get another label, of all that are found."""
    problem = stream(SCENARIOS["mt3-task2"], 120)
    scene, switches = scene_of(problem, 77, 0), {}
    for name in ("mt3", "pmbm"):
        tracker, last, found = TRACKERS[name](problem, **settings_of(problem, name)), {}, 0
        switches[name] = 0
        for k, (z, t) in enumerate(zip(scene.scans, scene.time)):
            tracks, x = tracker.step(z, t), scene.truth.states[:, k, :2]
            for i in np.flatnonzero(~np.isnan(x[:, 0])):
                far = np.hypot(*(tracks.mean[:, :2] - x[i]).T)
                if far.min(initial=9.0) < 0.5:
                    label = tracks.label[far.argmin()]
                    switches[name] += last.get(i, label) != label
                    last[i], found = label, found + 1
        assert found > 200
    assert switches["mt3"] <= 1.5 * switches["pmbm"] + 5


def test_the_threshold_hides_and_no_more(model, scans):
    low, high = (run(MT3(model, MT3Config(threshold=p)), scans) for p in (0.05, 0.2))
    for a, b in zip(low, high):
        a = a.take(np.flatnonzero(a.existence >= 0.2))
        for name in ("mean", "cov", "existence", "source"):  # labels are of what is reported
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize(
    ("z", "time", "says"),
    [
        (np.zeros((2, 5)), 0.1, "z must have shape"),
        ([[np.nan] * 3], 0.1, "z must"),
        (None, -1.0, "time must not run backwards"),
        (None, 0.13, r"whole number of steps of 0.1 s apart.* comes 0.13 s after"),
        (None, 0.0, "whole number of steps of 0.1 s apart"),
        (None, np.inf, "time must be one finite number"),
        ("far", 0.1, "outside the field of view that the weights"),
        ("many", 0.1, "measurements in 2 scans, accepted are 30"),
    ],
)
def test_bad_input_is_one_error_and_changes_nothing(model, scans, z, time, says):
    tracker = MT3(model, MT3Config(max_tokens=30))
    dim = model.task.sight.dim_z
    good = np.tile(np.add(model.task.sight.lower, model.task.sight.upper) / 2, (4, 1))
    tracker.step(good, 0.0)
    before = tracker.state
    z = np.full((1, dim), 1e3) if isinstance(z, str) and z == "far" else z
    z = np.tile(good[:1], (40, 1)) if isinstance(z, str) else z
    if isinstance(z, list):
        z = [[np.nan] * dim]
    with pytest.raises(ValueError, match=says):
        tracker.step(z, time)
    assert tracker.state is before
    assert tracker.time == 0.0
    tracker.step(good, 0.1)


def test_measurements_outside_can_be_dropped(model):
    dim = model.task.sight.dim_z
    centre = np.add(model.task.sight.lower, model.task.sight.upper)[None] / 2
    config = MT3Config(outside="drop", threshold=0.0)
    with_far, without = MT3(model, config), MT3(model, config)
    a = with_far.step(np.concatenate((np.full((1, dim), 1e3), centre, np.full((1, dim), -1e3))), 0.0)
    b = without.step(centre, 0.0)
    np.testing.assert_array_equal(a.mean, b.mean)
    np.testing.assert_array_equal(a.source, np.where(b.source == 0, 1, b.source))


def test_scans_left_out_count_as_empty(model, scans):
    skipping, empty = MT3(model), MT3(model)
    for k, (z, t) in enumerate(scans):
        if k in (5, 6):
            empty.step([], t)
        else:
            a, b = skipping.step(z, t), empty.step(z, t)
            np.testing.assert_array_equal(a.mean, b.mean)
            np.testing.assert_array_equal(a.existence, b.existence)


def test_a_long_pause_forgets(model, scans):
    paused, fresh = MT3(model), MT3(model)
    run(paused, scans[:6])
    for z, t in scans[:4]:
        a, b = paused.step(z, t + 1000.0), fresh.step(z, t)
        np.testing.assert_array_equal(a.mean, b.mean)


@pytest.mark.parametrize("period", [0.093, 0.097, 0.103, 0.107])
def test_a_period_that_is_wrong_is_seen_when_it_adds_up(model, scans, period):
    tracker = MT3(model)
    good = int(0.02 / abs(period - 0.1))
    for k, (z, _) in enumerate(scans[: good + 1]):
        tracker.step(z, period * k)
    with pytest.raises(ValueError, match=r"whole number of steps of 0.1 s apart"):
        tracker.step([], period * (good + 1))


def test_times_may_tremble_and_a_clock_may_drift_slowly(model, scans, rng):
    """No window is off by a fifth of a step, though the whole stream is; the answers are the same."""
    exact, late = MT3(model), MT3(model)
    many = [z for z, _ in scans] * 2
    time = 0.1 * np.arange(len(many)) * 1.006 + rng.uniform(-0.003, 0.003, len(many))
    for k, z in enumerate(many):
        a, b = exact.step(z, 0.1 * k), late.step(z, time[k])
        np.testing.assert_array_equal(a.mean, b.mean)
    assert abs(time[-1] - 0.1 * k) > 0.02


def test_what_is_older_than_the_window_need_not_be_on_the_step(model, scans):
    tracker = MT3(model)
    run(tracker, scans[:3])
    tracker.step(scans[3][0], scans[2][1] + 2.35)
    assert len(tracker.state.z) == len(scans[3][0])


def test_more_than_in_the_training_is_warned_of(model, scans):
    for task, says in (
        (replace(model.task, measurements=5), "more measurements in a window than 5, the most"),
        (replace(model.task, objects=0), "nearly 0 objects, the most of 2,000 windows"),
    ):
        tracker = MT3(Model(model.network, task))
        with pytest.warns(UntrainedWarning, match=says):
            run(tracker, scans[:3])
        before = tracker.state
        with warnings.catch_warnings():
            warnings.simplefilter("error", UntrainedWarning)
            with pytest.raises(UntrainedWarning):
                tracker.step(*scans[3])
        assert tracker.state is before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(MT3(model), scans)  # the training of this one is not known


@pytest.mark.parametrize("clutter", [0, 60])
def test_shipped_weights_know_their_limits(clutter):
    """Thirty objects are not passed over in silence, with no clutter or twice that of the training."""
    model, rng = load("mt3-task2"), np.random.default_rng(0)
    assert model.task.objects > 10
    assert model.task.measurements > 700
    tracker, low, high = MT3(model), model.task.sight.lower, model.task.sight.upper
    start = rng.uniform(-8, 8, (30, 2))
    seen = [start[rng.random(30) < 0.8] + 0.1 * rng.standard_normal((1, 2)) for _ in range(20)]
    scans = [(np.concatenate((z, rng.uniform(low, high, (clutter, 2)))), 0.1 * k) for k, z in enumerate(seen)]
    with pytest.warns(
        UntrainedWarning, match="more measurements in a window than" if clutter else "nearly 14 objects"
    ):
        run(tracker, scans)
    assert tracker.expected_number < 20  # it levels off, as the documents say


def test_empty_scans_are_scans(model):
    tracker = MT3(model)
    for k in range(3):
        assert len(tracker.step([], 0.1 * k)) == 0
    assert tracker.expected_number == 0.0


@pytest.mark.parametrize(
    "bad", [{"threshold": 2.0}, {"outside": "ignore"}, {"max_tokens": 0}, {"gate": -1.0}, {"memory": -1}]
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        MT3Config(**bad)


def test_the_device_is_that_of_the_model(model):
    assert MT3(model, device="cpu").model.device.type == "cpu"
    for device in ("cuda:99", 3, "tpu"):
        with pytest.raises(ValueError, match="accepted here are cpu"):
            MT3(model, device=device)
        with pytest.raises(ValueError, match="accepted here are cpu"):
            MT3("mt3-task1", device=device)


def test_a_config_of_another_tracker_is_refused(model):
    from tracking import PMBM

    with pytest.raises(ValueError, match="config must be an MT3Config, got PMBMConfig"):
        MT3(model, PMBM.Config())


def answers(*positions, velocity=(1.0, 0.0), std=0.1):
    mean = np.array([[*p, *velocity] for p in positions], float).reshape(-1, 4)
    return mean, np.tile(std**2 * np.eye(4), (len(mean), 1, 1))


def test_labels_follow_objects_that_cross():
    links, found = Links.none(), []
    for k in range(8):
        x = 0.1 * k
        a, b = answers((x - 0.35, 0.2)), answers((0.35 - x, 0.0), velocity=(-1.0, 0.0))
        mean, cov = (np.concatenate(pair) for pair in zip(a, b))
        label, links = link(links, mean, cov, np.array([2 * k, 2 * k + 1]), x, 25.0, 0.5)
        found.append(label.tolist())
    assert found == [[0, 1]] * 8


def test_a_label_waits_and_then_is_gone():
    mean, cov = answers((0, 0), velocity=(0, 0))
    none = answers()
    for pause, expected in ((0.4, 0), (0.6, 1)):
        _, links = link(Links.none(), mean, cov, np.array([0]), 0.0, 25.0, 0.5)
        _, links = link(links, *none, np.zeros(0, int), 0.3, 25.0, 0.5)
        label, links = link(links, mean, cov, np.array([7]), pause, 25.0, 0.5)
        assert label.tolist() == [expected]
        assert links.next_label == expected + 1


def test_the_same_measurement_means_the_same_object():
    mean, cov = answers((0, 0), (0.3, 0), velocity=(0, 0))
    label, links = link(Links.none(), mean, cov, np.array([4, 5]), 0.0, 25.0, 0.5)
    again, _ = link(links, mean[::-1], cov, np.array([4, 5]), 0.1, 25.0, 0.5)
    assert again.tolist() == label.tolist()


def test_far_answers_are_new_objects():
    mean, cov = answers((0, 0))
    _, links = link(Links.none(), mean, cov, np.array([0]), 0.0, 25.0, 0.5)
    label, _ = link(links, mean + 5, cov, np.array([1]), 0.1, 25.0, 0.5)
    assert label.tolist() == [1]
