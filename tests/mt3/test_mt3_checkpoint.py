"""The state of MT3 in a file: nothing is lost, and it goes on with the same network only."""

import shutil

import numpy as np
import pytest
from mutations import attempt, mutated, mutated_arrays, mutated_document  # tests/mutations.py
from small_networks import SMALL, stirred  # tests/mt3/small_networks.py

from tracking import GNN, ConstantVelocity, MeasurementBirth, PositionSensor
from tracking.checkpoint import KIND, flatten
from tracking.formats.arrays import read_arrays, write_arrays
from tracking.mt3 import MT3, MT3Config, load
from tracking.mt3.model import SHIPPED, Model
from tracking.mt3.trajectory import TrajectoryNetwork

LOW = MT3Config(threshold=0.05)  # so that networks nobody trained report something
MUTATIONS = 1200


@pytest.fixture
def scans(scenario, rng):
    """More of them than a window has, some empty and some left out."""
    scene = scenario.draw(rng)
    z = [*scene.scans, *scene.scans[:8]]
    z[3] = z[22] = np.zeros((0, z[0].shape[1]))
    return [(z[k], round(0.1 * k, 1)) for k in range(len(z)) if k not in (6, 7)]


def run(tracker, scans):
    return [tracker.step(z, time) for z, time in scans]


def same(a, b):
    names = ("time", "label", "mean", "cov", "existence", "source")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


def same_state(a, b):
    a, b = (flatten(tracker.state) | {"at": np.array(tracker.time, object)} for tracker in (a, b))
    return all(x.dtype == b[name].dtype and np.array_equal(x, b[name]) for name, x in a.items())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.tracker"


@pytest.fixture
def written(model, scans, path):
    """A file with a state, its description and its arrays, to be spoilt and signed again."""
    tracker = MT3(model, LOW)
    run(tracker, scans[:9])
    tracker.save(path)
    return path, *read_arrays(path, KIND)


# --- nothing is lost ------------------------------------------------------------------------------


def test_a_stream_cut_at_any_scan_goes_on_bit_for_bit(model, scans, path):
    whole, other = MT3(model, LOW), MT3(model, LOW)
    expected = run(MT3(model, LOW), scans)
    assert sum(map(len, expected)) > 20
    for k, (z, time) in enumerate([*scans, (None, 0.0)]):
        whole.save(path)
        cut = MT3.load(path, weights=model)
        other.restore(path)
        assert same_state(cut, whole)
        assert same_state(other, whole)
        assert (cut.config, cut.expected_number) == (LOW, whole.expected_number)
        if k in (0, 8, 21):
            assert all(same(a, b) for a, b in zip(run(cut, scans[k:]), expected[k:], strict=True))
        if k < len(scans):
            assert same(whole.step(z, time), expected[k])


def test_shipped_weights_are_known_by_name_and_others_are_given(path, tmp_path):
    tracker = MT3("mt3-task2", LOW)
    tracker.step([[1.0, 2.0], [3.0, 4.0]], 0.0)
    tracker.save(path)
    again = MT3.load(path)
    assert again.model.name == "mt3-task2"
    assert same(again.step([[1.1, 2.0]], 0.1), tracker.step([[1.1, 2.0]], 0.1))
    mine = tmp_path / "mine.safetensors"
    shutil.copy(SHIPPED / "mt3-task2.safetensors", mine)
    tracker = MT3(mine)
    tracker.step([[1.0, 2.0]], 0.0)
    tracker.save(path)
    assert b"mine" not in path.read_bytes()
    with pytest.raises(ValueError, match=r"does not hold the weights.*MT3.load\(path, weights="):
        MT3.load(path)
    assert same_state(MT3.load(path, weights=mine), tracker)
    assert same_state(MT3.load(path, weights="mt3-task2"), tracker)  # the same network by another name


def test_saving_changes_nothing_and_twice_gives_the_same_file(model, scans, path, tmp_path):
    tracker, other = MT3(model, LOW), MT3(model, LOW)
    for each in (tracker, other):
        run(each, scans[:4])
    tracker.save(path)
    tracker.save(tmp_path / "again")
    assert path.read_bytes() == (tmp_path / "again").read_bytes()
    assert same_state(tracker, other)


def test_settings_may_change_on_the_way(written, model):
    path, _, _ = written
    assert MT3.load(path, model, config=MT3Config(threshold=0.9)).config.threshold == 0.9
    tracker = MT3(model, MT3Config(memory=2))
    tracker.restore(path)
    assert tracker.config.memory == 2
    with pytest.raises(ValueError, match="config must be an MT3Config, got GNNConfig"):
        MT3.load(path, model, config=GNN.Config())


def test_the_digest_is_of_what_decides_the_answers(model, tmp_path):
    model.save(tmp_path / "w.safetensors", note="says nothing of the answers")
    assert load(tmp_path / "w.safetensors").digest() == model.digest()
    assert model.with_reading(threshold=0.123).digest() != model.digest()
    other = TrajectoryNetwork(model.task.sight, model.task.scans, model.task.dt, SMALL)
    other.load_state_dict(model.network.state_dict())
    assert Model(other, model.task).digest() == model.digest()
    stirred(other)
    assert Model(other, model.task).digest() != model.digest()
    assert load("mt3-task2").with_reading(threshold=0.1).name is None


# --- nothing is believed --------------------------------------------------------------------------


def refused(path, model, match):
    """Loading and restoring end in the one error, and the tracker is as it was."""
    tracker, other = MT3(model), MT3(model)
    centre = np.add(model.task.sight.lower, model.task.sight.upper)[None] / 2
    for each in (tracker, other):
        each.step(centre, 0.0)
    for work in (lambda: MT3.load(path, weights=model), lambda: tracker.restore(path)):
        with pytest.raises(ValueError, match=match):
            work()
    assert same_state(tracker, other)


def test_another_network_does_not_go_on(written, model):
    path, _, _ = written
    says = r"was saved with other weights.*MT3.load\(path, weights=\.\.\.\)"
    refused(path, model.with_reading(radius=0.9), says)
    refused(path, Model(stirred(model.network, 1), model.task), says)


def test_files_of_something_else(model, path, tmp_path):
    with pytest.raises(FileNotFoundError):
        MT3.load(path)
    refused(tmp_path, model, "is not an ordinary file")
    path.write_bytes(b"x")
    refused(path, model, "is no file of arrays")
    gnn = GNN(ConstantVelocity(), PositionSensor(std=0.5), MeasurementBirth(0.1))
    gnn.save(path)
    refused(path, model, "holds the state of another filter, 'GNN', not of MT3")
    MT3(model).save(path)
    with pytest.raises(ValueError, match="holds the state of another filter, 'MT3', not of GNN"):
        gnn.restore(path)


@pytest.mark.parametrize("name", ["../weights/mt3-task2", str(SHIPPED / "mt3-task2.safetensors"), 3, ["a"]])
def test_no_file_names_a_path(written, name):
    path, document, arrays = written
    write_arrays(path, KIND, {**document, "weights": name}, arrays)
    with pytest.raises(ValueError, match="names none that are shipped"):
        MT3.load(path)


def at(index, value):
    def change(a):
        a.flat[index] = value

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("z", at(0, np.nan)),
        ("z", at(0, 1e9)),
        ("time", at(0, -1e6)),
        ("time", at(-1, 1e6)),
        ("time", at(-1, 0.0)),
        ("count", at(0, 0)),
        ("count", at(0, 2**62)),
        ("expected", at(0, -1.0)),
        ("expected", at(0, np.nan)),
        ("expected", at(0, 1e9)),
        ("links.label", at(0, 10**6)),
        ("links.label", at(slice(2), 0)),
        ("links.mean", at(0, np.inf)),
        ("links.mean", at(0, 1e200)),
        ("links.cov", at(0, -1.0)),
        ("links.cov", at(1, 1e3)),
        ("links.token", at(0, -1)),
        ("links.token", at(0, 10**6)),
        ("links.time", at(0, np.nan)),
        ("links.time", at(0, 10.0)),
        ("links.next_label", at(0, 0)),
    ],
)
def test_every_number_is_looked_at(written, model, name, change):
    path, document, arrays = written
    change(arrays[name])
    write_arrays(path, KIND, document, arrays)
    refused(path, model, "holds no state of MT3 to go on from")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d, a: a.pop("time"), "holds no state of MT3"),
        (lambda d, a: a.update(more=np.zeros(3)), "unknown arrays"),
        (lambda d, a: a.update(z=a["z"][:, :1]), "measurements in the field of view"),
        (lambda d, a: a.update(z=a["z"][1:]), "measurements in the field of view"),
        (lambda d, a: a.update(time=a["time"][::-1].copy()), "times must rise"),
        (lambda d, a: a.update(time=np.where(a["time"] < 0.8, a["time"] - 0.05, a["time"])), "whole steps"),
        (lambda d, a: a.update(time=np.linspace(0.0, 0.8, len(a["time"]))), "of at most 20 scans"),
        (lambda d, a: a.update(observed=np.array(-1.0)), "observed must lie in"),
        (lambda d, a: a.update({"links.mean": a["links.mean"][:, :2]}), "links.m must be finite"),
        (lambda d, a: d.update(time=None), "without a time"),
        (lambda d, a: d.update(time="now"), "time must be one finite number"),
        (lambda d, a: d.pop("time"), "holds no state of MT3"),
        (lambda d, a: d.update(digest=None), "other weights"),
        (lambda d, a: d.update(version=2), "is of version 2, accepted is version 1"),
    ],
)
def test_what_else_a_stranger_may_write(written, model, change, says):
    path, document, arrays = written
    change(document, arrays)
    write_arrays(path, KIND, document, arrays)
    refused(path, model, says)


@pytest.mark.parametrize("change", [{"gate": "wide"}, {"outside": "eval"}, {"threshold": [0.5]}, {"more": 1}])
def test_settings_of_a_stranger(written, model, change):
    """They matter only where a tracker is made of them."""
    path, document, arrays = written
    document["config"].update(change)
    write_arrays(path, KIND, document, arrays)
    with pytest.raises(ValueError, match="settings are none of MT3Config"):
        MT3.load(path, model)
    MT3.load(path, model, config=LOW)
    MT3(model).restore(path)


@pytest.mark.slow
def test_more_than_a_thousand_mutations_give_clear_errors_only(written, model, scans):
    """Bytes of the file, and numbers of it with a fresh digest, as a stranger would write them."""
    path, document, arrays = written
    content, rng, taken = path.read_bytes(), np.random.default_rng(11), 0
    for i in range(MUTATIONS):
        if i % 2:
            path.write_bytes(mutated(content, rng))
        else:
            write_arrays(path, KIND, mutated_document(document, rng), mutated_arrays(arrays, rng))
        tracker, error = attempt(lambda: MT3.load(path, weights=model))
        assert tracker is not None or str(path) in error
        if tracker is not None:
            taken += 1
            attempt(lambda tracker=tracker: run(tracker, scans[9:12]))
    assert MUTATIONS / 100 < taken < MUTATIONS / 2  # neither all nor none
