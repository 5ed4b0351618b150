"""Tasks of adaptation: their data, networks, and the study over them."""

import io
import json
import time
import zipfile

import numpy as np
import pytest
import torch

from adapt.source_free.adaptation import CANDIDATES, adapt
from sims import shapes, shifts
from sims.shift_sources import bound, network, predicted, trained
from sims.studies import sfda2


@pytest.mark.parametrize("name", list(shifts.SHIFTS))
def test_tasks_have_source_and_target_of_the_same_kind_and_seeds(name):
    one, again, other = (shifts.shift(name, seed) for seed in (3, 3, 4))
    assert one.x.dtype == one.x_target.dtype == np.float32
    assert one.x.shape[1:] == one.x_target.shape[1:]
    assert set(one.y) == set(one.y_target) == set(range(one.classes))
    np.testing.assert_array_equal(one.x_target, again.x_target)
    assert not np.array_equal(one.x_target, other.x_target)
    with torch.no_grad():
        assert network(name, one.classes).eval()(torch.from_numpy(one.x[:3])).shape == (3, one.classes)


def test_tails_are_reversed_and_accuracy_is_of_classes():
    task = shifts.lt(0)
    source, target = np.bincount(task.y), np.bincount(task.y_target)
    assert source[0] > 7 * source[9]
    assert target[9] > 7 * target[0]
    always = np.full(len(task.y_target), 9)
    assert task.accuracy(always) == pytest.approx(0.1)
    assert task.accuracy(task.y_target) == 1.0


def test_no_digit_is_in_source_and_target(monkeypatch):
    labels = np.arange(200) % 10
    monkeypatch.setattr(
        shifts, "_digits", lambda: (np.arange(200.0)[:, None, None].repeat(8, 1).repeat(8, 2), labels)
    )
    for make in (shifts.mid, shifts.lt):
        task = make(0)
        source = set(np.rint(task.x[:, 0, 4, 4]).astype(int))
        target = set(np.rint((task.x_target[:, 0, 4, 4] - 0.08) / 0.8).astype(int))
        assert not source & target


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_shapes_are_what_they_are_called(name):
    x = shapes.surface(name, 2000, np.random.default_rng(0))
    assert x.shape == (2000, 3)
    spread = np.linalg.eigvalsh(np.cov(x.T))
    expected = {
        "sphere": lambda: np.allclose(np.linalg.norm(x, axis=1), 1),
        "box": lambda: np.allclose(np.abs(x).max(1), 0.8),
        "cylinder": lambda: np.allclose(np.hypot(x[:, 0], x[:, 1]), 0.6),
        "cone": lambda: np.allclose(np.hypot(x[:, 0], x[:, 1]), 0.45 * (1 - x[:, 2])),
        "torus": lambda: np.allclose((np.hypot(x[:, 0], x[:, 1]) - 0.8) ** 2 + x[:, 2] ** 2, 0.09),
        "plate": lambda: spread[0] < 0.02 * spread[1],
        "helix": lambda: np.allclose(np.hypot(x[:, 0], x[:, 1]), 0.7) and np.allclose(
            np.arctan2(x[:, 1], x[:, 0]), np.angle(np.exp(2j * np.pi * (x[:, 2] + 1)))
        ),
        "cross": lambda: (np.sort(np.abs(x), 1)[:, 1] <= 0.15).all(),
    }  # fmt: skip
    assert expected[name]()


def test_clouds_are_centred_and_scaled_and_the_poor_sensor_repeats_points():
    rng = np.random.default_rng(0)
    for poor in (False, True):
        x, y = shapes.clouds(80, rng, poor)
        assert x.shape == (80, shapes.POINTS, 3)
        np.testing.assert_allclose(x.mean(1), 0, atol=1e-6)
        np.testing.assert_allclose(np.abs(x).max((1, 2)), 1, rtol=1e-6)
        assert (np.bincount(y) == 10).all()


@pytest.mark.slow
def test_a_network_learns_the_source_and_adaptation_helps_on_the_target():
    """One seed of the digits of the study; docs/adapt has all."""
    torch.set_num_threads(1)
    task = shifts.mid(11)
    net = trained(task, 11)
    accuracy = {"source": task.accuracy(predicted(net, task.x_target).argmax(1).numpy())}
    assert np.mean(predicted(net, task.x).argmax(1).numpy() == task.y) > 0.98
    for name in ("adabn", "sfda2"):
        found = adapt(net, task.x_target, name)
        accuracy[name] = task.accuracy(predicted(found.model, task.x_target).argmax(1).numpy())
    assert accuracy["sfda2"] > accuracy["source"] + 0.2
    assert accuracy["sfda2"] > accuracy["adabn"] > accuracy["source"]
    assert task.accuracy(bound(task, net, 0)) > accuracy["sfda2"] - 0.02


@pytest.mark.parametrize("name", ["pts", "imu"])
def test_networks_of_points_and_windows_are_adapted(name):
    task = shifts.SHIFTS[name](0, 90)
    torch.manual_seed(0)
    net = network(name, task.classes).eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    found = adapt(net, task.x_target, "sfda2", epochs=1, guard=False)
    assert found.report.head == "2"
    assert found.report.after["information"] > found.report.before["information"]
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.slow
def test_five_thousand_samples_take_less_than_two_minutes():
    torch.set_num_threads(2)
    torch.manual_seed(0)
    layers = torch.nn
    net = layers.Sequential(
        layers.Conv2d(1, 16, 3, padding=1), layers.BatchNorm2d(16), layers.ReLU(), layers.MaxPool2d(2),
        layers.Conv2d(16, 32, 3, padding=1), layers.BatchNorm2d(32), layers.ReLU(), layers.MaxPool2d(2),
        layers.Flatten(), layers.Linear(32 * 49, 64), layers.BatchNorm1d(64), layers.Linear(64, 10),
    ).eval()  # fmt: skip
    start = time.process_time()
    adapt(net, torch.rand(5000, 1, 28, 28), "sfda2", guard=False)
    torch.set_num_threads(1)
    assert time.process_time() - start < 2 * 120  # of two cores, whatever else they do


def test_the_study_writes_goes_on_and_refuses(tmp_path, capsys):
    path = tmp_path / "found.json"
    assert sfda2.main(["--quick", "--tasks", "mid", "--json", str(path)]) == 0
    said = capsys.readouterr()
    assert "mid, 1 seeds" in said.out
    rows = {"source", *sfda2.ADAPTED, "auto", "bound"}
    assert all(row in said.out for row in rows)
    document = json.loads(path.read_text())
    found = document["parts"]["mid 0"]
    assert found["accuracy"].keys() == rows
    assert found["chosen"] in CANDIDATES
    assert found["accuracy"]["auto"] == found["accuracy"][found["chosen"]]
    document["parts"]["mid 0"]["accuracy"]["aad"] = 0.5
    path.write_text(json.dumps(document))
    assert sfda2.main(["--quick", "--tasks", "mid", "--json", str(path)]) == 0  # nothing is computed again
    assert json.loads(path.read_text())["tasks"]["mid"]["aad"]["mean"] == 50.0
    path.write_text("[]")
    assert sfda2.main(["--quick", "--json", str(path)]) == 2
    assert "not of this study" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        sfda2.parse(["--tasks", "m2u"])


def test_real_digits_are_read(data):
    folder = data / "digits"
    if not folder.is_dir():
        pytest.skip("no digits there")
    task = shifts.shift("m2u", 0, folder)
    assert task.x.shape == (3000, 1, 16, 16)
    assert task.x_target.shape == (2000, 1, 16, 16)
    assert 0 <= task.x.min() < task.x.max() <= 1
    assert 0 <= task.x_target.min() < task.x_target.max() <= 1


def test_files_without_digits_are_refused(tmp_path):
    np.savez(tmp_path / "mnist_train.npz", images=np.zeros((4, 28, 28)))
    with pytest.raises(ValueError, match="must have images"):
        shifts.m2u(0, tmp_path)
    with pytest.raises(ValueError, match="needs a folder"):
        shifts.shift("m2u", 0)
    (tmp_path / "mnist_train.npz").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"no \.npz"):
        shifts.m2u(0, tmp_path)


def test_characters_of_source_and_target_are_by_other_people(tmp_path, monkeypatch):
    from PIL import Image

    path = tmp_path / "omniglot.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for character in range(3):
            for person in range(4):
                file = io.BytesIO()
                drawn = np.full((32, 32), 255, np.uint8)
                drawn[8 * person : 8 * person + 8] = 0  # where tells who
                Image.fromarray(drawn).save(file, "PNG")
                archive.writestr(f"some/alphabet/character{character}/{person}.png", file.getvalue())
    monkeypatch.setattr(shifts, "rotate", lambda x, *a, **k: x)
    task = shifts.shift("omni", 1, path)
    assert task.classes == 3
    assert (np.bincount(task.y) == 2 * shifts.COPIES[0]).all()
    assert (np.bincount(task.y_target) == 2 * shifts.COPIES[1]).all()
    for c in range(3):
        who = [set(x[y == c].mean((1, 3)).reshape(-1, 4, 4).mean(2).argmax(1)) for x, y in
               ((task.x, task.y), (task.x_target, task.y_target))]  # fmt: skip
        assert sorted(who[0] | who[1]) == [0, 1, 2, 3]
        assert not who[0] & who[1]
    assert sfda2.main(["--quick", "--tasks", "omni", "--omniglot", str(path)]) == 0


def test_real_characters_are_adapted_to(data):
    path = data / "omniglot" / "images_background_small1.zip"
    if not path.is_file():
        pytest.skip("no Omniglot there")
    task = shifts.shift("omni", 0, path)
    assert task.x.shape == (80 * 10 * 4, 1, 16, 16)
    assert task.x_target.shape == (80 * 10 * 2, 1, 16, 16)
    assert set(task.y) == set(task.y_target) == set(range(80))
