"""Weights: saved and loaded, never unpickled; training that resumes to the step."""

import json
import pickle
import struct
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from small_networks import SMALL, stirred  # tests/mt3/small_networks.py

from sims.train.mt3 import main
from sims.train.mt3 import trajectory_loss_of as loss_of
from sims.windows import WindowSimulator
from tracking.mt3 import MT3, load, shipped
from tracking.mt3.export import export
from tracking.mt3.graphs import Replayed
from tracking.mt3.model import Model, Reading
from tracking.mt3.trainer import TrainConfig, Trainer
from tracking.mt3.trajectory import TrajectoryNetwork


def test_what_was_saved_is_loaded(model, windows, tmp_path):
    path = tmp_path / "w.safetensors"
    model.with_reading(threshold=0.37, radius=0.8).save(path, note="a test")
    again = load(path)
    assert (again.task, again.reading.threshold, again.reading.radius) == (model.task, 0.37, 0.8)
    assert again.network.config == SMALL
    again = again.with_reading(radius=model.reading.radius)
    for a, b in zip(model.objects(windows), again.objects(windows), strict=True):
        for x, y in zip(a, b):
            np.testing.assert_array_equal(x, y)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a file ran code",))


def changed(path, **keys):
    """A weights file with another description."""
    raw = path.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + n])
    document = json.loads(header["__metadata__"]["mt3"]) | keys
    header["__metadata__"]["mt3"] = json.dumps(document)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + n :])


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"network": "os.system"}, "does not hold weights of MT3"),
        ({"config": {"width": 8}}, "does not hold weights of MT3"),
        ({"config": {"width": 80_000, "heads": 4}}, "do not fit"),  # 25 GB if it were built
        ({"config": {"depth": 8}}, "does not hold weights of MT3"),
        ({"reading": {"mood": 1}}, "does not hold weights of MT3"),
        ({"task": {}}, "does not hold weights of MT3"),
    ],
)
def test_a_file_of_something_else_is_refused(model, tmp_path, keys, says):
    path = tmp_path / "w.safetensors"
    model.save(path)
    changed(path, **keys)
    with pytest.raises(ValueError, match=says):
        load(path)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("reading", {"threshold": float("nan")}),
        ("reading", {"threshold": 7.0}),
        ("reading", {"threshold": "x"}),
        ("reading", {"radius": None}),
        ("reading", {"radius": -1.0}),
        ("reading", {"gain": float("nan")}),
        ("reading", {"offset": float("inf")}),
        ("task", {"dt": 1e-300}),
        ("task", {"dt": float("nan")}),
        ("task", {"scans": 10**9}),
        ("task", {"objects": -3}),
        ("task", {"objects": "many"}),
        ("task", {"p_detect": 2.0}),
        ("sight", {"std": [-1.0, 1.0]}),
        ("sight", {"lower": [9.0, 99.0], "upper": [10.0, 10.0]}),
        ("sight", {"lower": [float("nan"), 0.0]}),
    ],
)
def test_a_description_that_answers_nothing_is_refused(trajectory, task, tmp_path, part, change):
    if task.sight.radar:
        pytest.skip("sizes of the plane")
    path = tmp_path / "w.safetensors"
    Model(trajectory, task).save(path)
    document = json.loads(json.dumps({"reading": asdict(Reading()), "task": asdict(task)}))
    (document["task"]["sight"] if part == "sight" else document[part]).update(change)
    changed(path, **document)
    with pytest.raises(ValueError, match="does not hold weights of MT3"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"hello", pickle.dumps(Bomb()), b"\x08" + b"\0" * 7 + b"{}      "])
def test_no_file_can_run_code(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.safetensors"):
        load(path)


def test_names_and_paths_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match="no weights named 'mt3-task9' are shipped, choose of:"):
        load("mt3-task9")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.safetensors")


def test_shipped_weights_load_and_are_small():
    for name in shipped():
        assert name.startswith(load(name).task.name)
    rooms = [Path(__file__).parents[2] / name for name in ("adapt", "perception", "tracking")]
    sizes = [path.stat().st_size for room in rooms for path in room.rglob("*.safetensors")]
    assert len(sizes) > len(shipped())
    assert max(sizes) < 16e6
    assert sum(sizes) < 40e6


def trainer(scenario, task, device="cpu", **settings):
    torch.manual_seed(0)
    network = TrajectoryNetwork(task.sight, task.scans, task.dt, SMALL).to(device)
    world = WindowSimulator(scenario, 3, device)
    config = TrainConfig(steps=8, batch=2, pool=6, **settings)
    return Trainer(network, task, loss_of(task), world.draw, world.generator, config)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(scenario, task, tmp_path):
    whole = trainer(scenario, task)
    whole.run(1e9)
    part = trainer(scenario, task)
    for _ in range(4):
        part._step()
    part.save(tmp_path / "run.pt")
    rest = trainer(scenario, task)
    rest.resume(tmp_path / "run.pt")
    rest.run(1e9)
    assert rest.progress.step == whole.progress.step == 8
    for (name, a), b in zip(whole.network.state_dict().items(), rest.network.state_dict().values()):
        assert torch.equal(a, b), name
    for a, b in zip(whole.average.values(), rest.average.values()):
        assert torch.equal(a, b)


def test_a_run_of_something_else_is_refused(scenario, task, tmp_path):
    run = trainer(scenario, task)
    run.save(tmp_path / "run.pt")
    other = trainer(scenario, task)
    object.__setattr__(other, "task", type(task)(**{**task.__dict__, "name": "other"}))
    with pytest.raises(ValueError, match=f"task, are {task.name}, not other"):
        other.resume(tmp_path / "run.pt")
    for settings in ({"rate": 0.1}, {"seed": 1}, {"muon": 2.0}):
        with pytest.raises(ValueError, match="settings, training, are"):
            trainer(scenario, task, **settings).resume(tmp_path / "run.pt")
    longer = trainer(scenario, task, minutes=99.0)
    longer.resume(tmp_path / "run.pt")
    (tmp_path / "bomb.pt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="bomb"):
        run.resume(tmp_path / "bomb.pt")


def test_a_run_that_is_refused_one_goes_on_as_if_it_had_not_been_asked(scenario, task, tmp_path):
    whole, run, further = (trainer(scenario, task) for _ in range(3))
    for _ in range(4):
        run._step()
        further._step()
    further._step()
    further.save(tmp_path / "further.pt")
    state = torch.load(tmp_path / "further.pt", weights_only=True)
    for missing in state:
        torch.save({name: value for name, value in state.items() if name != missing}, tmp_path / "odd.pt")
        with pytest.raises(ValueError, match="not a run of this network"):
            run.resume(tmp_path / "odd.pt")
    whole.run(1e9)
    run.run(1e9)
    for (name, a), b in zip(whole.average.items(), run.average.values()):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("multiple", [8, 32])
def test_batches_have_lengths_of_which_there_are_few(scenario, task, multiple):
    run = trainer(scenario, task)
    run.multiple = multiple
    for batch in run._pooled():
        longest = int(batch.real.sum(1).max())
        assert batch.z.shape[1] == -(-longest // multiple) * multiple
        assert (batch.origin[~batch.real] == -1).all()
        assert not batch.z[~batch.real].any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="steps are recorded on a GPU")
def test_recorded_steps_leave_the_gradients_of_steps(scenario, task):
    runs = [trainer(scenario, task, "cuda", bfloat16=False, graphs=graphs) for graphs in (True, False)]
    assert isinstance(runs[0].gradients, Replayed)
    assert not isinstance(runs[1].gradients, Replayed)
    for windows in [*runs[0]._pooled()][:3] * 2:  # each length is recorded, and replayed
        said, expected = (run.gradients(windows) for run in runs)
        torch.testing.assert_close(said, expected, rtol=1e-3, atol=1e-4)
        for p, q in zip(*(run.network.parameters() for run in runs)):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_training_lowers_the_loss(scenario, task):
    run = trainer(scenario, task, rate=3e-3, warm_up=1)
    object.__setattr__(run.config, "steps", 60)
    for _ in range(5):
        run._step()
    first = run.run(0.0).parts["loss"]
    for _ in range(40):
        run._step()
    assert run.run(0.0).parts["loss"] < 0.9 * first


def test_the_command_trains_resumes_and_writes(tmp_path, capsys):
    out, run = tmp_path / "w.safetensors", tmp_path / "run.pt"
    argv = [
        "--scenario",
        "mt3-task1",
        "--steps",
        "2",
        "--batch",
        "2",
        "--score",
        "8",
        "--resume",
        str(run),
        "--out",
        str(out),
    ]
    assert main(argv) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["steps"], result["windows"], result["tested_on"]) == (2, 4, 8)
    assert result["gospa"] > 0
    assert load(out).task.name == "mt3-task1"
    assert main(argv) == 0  # nothing is left to do
    assert json.loads(capsys.readouterr().out)["steps"] == 2
    again = tmp_path / "again.safetensors"
    more = ["--scenario", "mt3-task1", "--start", str(out), "--steps", "1", "--batch", "2", "--score", "8"]
    assert main([*more, "--out", str(again), "--half"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["steps"], result["windows"]) == (3, 6)
    assert again.stat().st_size < 0.6 * out.stat().st_size
    assert main([*more, "--size", "M"]) == 2
    assert "holds a network with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--minutes", "-1"], "must be at least 0 and finite"),
        (["--minutes", "nan"], "must be at least 0 and finite"),
        (["--batch", "0"], "must be a whole number >= 1"),
        (["--score", "0"], "must be a whole number >= 1"),
        (["--threads", "0"], "must be a whole number >= 1"),
        (["--out", "weights.md"], "--out is a .safetensors file"),
        (["--resume", "no/folder/run.pt"], "--resume is a file in a folder that is there"),
    ],
)
def test_a_training_that_could_not_end_well_does_not_begin(argv, says, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--scenario", "mt3-task1", *argv])
    assert stop.value.code == 2
    assert says in capsys.readouterr().err


def test_half_precision_changes_little(model, windows, tmp_path):
    model.save(tmp_path / "w.safetensors", half=True)
    other = load(tmp_path / "w.safetensors")
    for name, value in other.network.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, model.network.state_dict()[name], rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_onnx_says_the_same(model, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model.network.train()
    export(model, tmp_path / "w.onnx", tokens=128, batch=2)
    assert model.network.training
    session = pytest.importorskip("onnxruntime").InferenceSession(tmp_path / "w.onnx")
    said = json.loads(session.get_modelmeta().custom_metadata_map["mt3"])
    assert said["reading"]["threshold"] == model.reading.threshold
    assert said["task"]["dt"] == model.task.dt


def test_an_export_that_differs_is_not_written(model, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.setattr("tracking.mt3.export.TOLERANCE", 0.0)
    with pytest.raises(RuntimeError, match="differs"):
        export(model, tmp_path / "w.onnx", tokens=128)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "device", "says"),
    [
        ("mt3-task1", "cuda:99", "device is 'cuda:99'; accepted here are cpu"),
        ("mt3-task1", "abc", "device is 'abc'"),
        (None, "cpu", "weights are a name or a path, got None"),
        (3, "cpu", "weights are a name or a path, got 3"),
    ],
)
def test_where_there_is_nothing_to_load(name, device, says):
    with pytest.raises(ValueError, match=says):
        MT3(name, device=device)


def test_a_model_keeps_the_mode_of_its_network(trajectory, task, windows):
    trained = stirred(trajectory).train()
    Model(trained, task).objects(windows)
    assert trained.training


def test_calibration_makes_what_is_said_likelier_and_reports_the_same(tmp_path):
    from sims.scenarios import SCENARIOS
    from sims.train.score import calibrated, hits
    from tracking.mt3.batch import found_in
    from tracking.mt3.model import as_arrays

    windows = WindowSimulator(SCENARIOS["mt3-task2"], 11).draw(12)
    plain = load("mt3-task2").with_reading(gain=2.0, offset=-1.0, threshold=0.5)  # said too surely
    twisted = plain.with_reading(gain=1.0, offset=0.0)
    better = calibrated(twisted, windows)

    def loss(model):
        p, hit = hits(found_in(model, windows), as_arrays(windows))
        p = np.clip(p, 1e-9, 1 - 1e-9)
        return -(hit * np.log(p) + (1 - hit) * np.log1p(-p)).mean()

    assert loss(better) < loss(twisted) + 1e-9
    assert loss(better) < loss(plain)
    better.save(tmp_path / "w.safetensors")
    again = load(tmp_path / "w.safetensors")
    assert again.reading == better.reading
    for a, b, c in zip(*(found_in(m, windows) for m in (twisted, better, again))):
        assert (b.existence == c.existence).all()
        kept, same = a.above(twisted.reading.threshold), b.above(better.reading.threshold)
        np.testing.assert_array_equal(kept.token, same.token)
    p = np.linspace(0, 1, 101)
    assert (np.diff(better.reading.existence(p))[1:-1] > 0).all()


@pytest.mark.parametrize(("gain", "high", "offset"), [(1.0, 1.0, 0.0), (1.6, 0.6, 0.3), (0.4, 2.0, -1.0)])
def test_calibration_finds_what_twisted_the_probabilities(gain, high, offset):
    from sims.train.score import beta_calibration

    rng = np.random.default_rng(0)
    p = 1 / (
        1 + np.exp(-5 * rng.normal(size=40_000))
    )  # many near 0 and 1, where a full Newton step flies off
    true = Reading(gain=gain, gain_high=high, offset=offset).existence(p)
    assert (np.diff(true[p.argsort()]) >= 0).all()
    found = beta_calibration(p, (rng.random(len(p)) < true).astype(float))
    assert found == pytest.approx((gain, high, offset), abs=0.1)


def test_hits_are_near_or_within_what_is_said_of_the_place():
    from sims.train.score import hits
    from tracking.mt3.objects import Objects

    cov = np.tile(np.diag((25.0, 0.01, 1.0, 1.0)), (4, 1, 1))
    mean = np.array([[0.0, 0, 0, 0], [100.0, 0, 0, 0], [200.0, 0, 0, 0], [300.0, 0, 0, 0]])
    truth = np.array([[14.0, 0, 0, 0], [100.0, 1.9, 0, 0], [200.0, 2.5, 0, 0], [316.0, 0, 0, 0]])
    objects = Objects(mean, cov, np.array([0.9, 0.8, 0.7, 0.6]), np.arange(4))
    said, true = hits([objects], [truth])
    assert said.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert true.tolist() == [1, 1, 0, 0]
    twice = Objects(mean[[0, 0]], cov[:2], np.array([0.4, 0.9]), np.arange(2))
    assert hits([twice], [truth[:1]])[1].tolist() == [1, 0]  # the likelier one first
