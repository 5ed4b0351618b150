"""Recognition: every representation learns, streams get their label; files are checked."""

import numpy as np
import pytest
import torch

from perception.events import EventStream, write
from perception.events.represent_torch import EventBatch
from perception.recognize import Classifier, load, recognize
from perception.recognize.__main__ import main
from perception.recognize.augment import Augment
from perception.recognize.fit import FitConfig, fit
from perception.recognize.network import NAMES, Network


def bar(upright, rng, n=300):
    """Events of a bar that moves."""
    along, across = rng.integers(4, 20, n), rng.integers(9, 14, n)
    x, y = (across, along) if upright else (along, across)
    return EventStream(x, y, np.sort(rng.integers(0, 100_000, n)), rng.integers(0, 2, n), 24, 24)


def bars(number, seed=0):
    rng = np.random.default_rng(seed)
    labels = ["upright" if k % 2 else "level" for k in range(number)]
    return [bar(label == "upright", rng) for label in labels], labels


@pytest.fixture(scope="module")
def classifier():
    return fit(
        *bars(24), FitConfig(width=4, bins=3, steps=60, batch=12, rate=1e-2, augment=Augment(turn=0.1))
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_representation_learns(name):
    config = FitConfig(
        representation=name, width=4, bins=2, steps=60, batch=12, rate=1e-2, augment=Augment(turn=0.1)
    )
    found = fit(*bars(24), config)
    streams, labels = bars(20, seed=1)
    said = found.probabilities(streams).argmax(1)
    assert np.mean([found.labels[k] == label for k, label in zip(said, labels)]) > 0.9


@pytest.mark.parametrize("name", [name for name in NAMES if name != "spikes"])
def test_a_stream_looks_the_same_whatever_its_company(name):
    short, long = (EventStream(s.x, s.y, s.t * k, s.p, 24, 24) for s, k in zip(bars(2)[0], (1, 7)))
    network = Network(2, name, bins=3, width=4)
    together = network.represent(EventBatch.of([short, long]))
    for k, stream in enumerate((short, long)):
        assert torch.allclose(network.represent(EventBatch.of([stream]))[0], together[k], atol=1e-6)


def test_probabilities_are_those_of_each_stream_alone(classifier):
    streams, _ = bars(70, seed=2)
    together = classifier.probabilities(streams)
    assert together.shape == (70, 2)
    assert np.allclose(together.sum(1), 1)
    alone = np.concatenate([classifier.probabilities([s]) for s in streams[60:]])
    assert np.allclose(together[60:], alone, atol=1e-5)
    assert classifier.probabilities([]).shape == (0, 2)


def test_a_saved_classifier_says_the_same(classifier, tmp_path):
    path = tmp_path / "bars.safetensors"
    classifier.save(path, steps=60)
    again = load(path)
    streams, _ = bars(6, seed=3)
    assert again.labels == classifier.labels
    assert (again.probabilities(streams) == classifier.probabilities(streams)).all()
    write(streams[1], tmp_path / "one.npz")
    assert recognize(tmp_path / "one.npz", path) == recognize(streams[1], again) == "upright"


def test_the_command_line_says_what_files_show(classifier, tmp_path, capsys):
    classifier.save(tmp_path / "bars.safetensors")
    streams, labels = bars(2, seed=4)
    names = [str(tmp_path / f"{k}.npz") for k in range(2)]
    for stream, name in zip(streams, names):
        write(stream, name)
    assert main([*names, "--weights", str(tmp_path / "bars.safetensors"), "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == names
    assert [line.split("\t")[1] for line in lines] == labels
    assert main([names[0], "--weights", str(tmp_path / "bars.safetensors"), "--json"]) == 0
    assert '"label": "level"' in capsys.readouterr().out
    assert main([str(tmp_path / "none.npz"), "--weights", str(tmp_path / "bars.safetensors")]) == 1
    assert main([names[0], "--weights", "nothing"]) == 2
    assert "are shipped" in capsys.readouterr().err
    write(EventStream.empty(24, 24), tmp_path / "still.npz")
    still = str(tmp_path / "still.npz")
    assert main([names[0], still, "--weights", str(tmp_path / "bars.safetensors")]) == 2
    assert f"{still}: stream 0 has no events" in capsys.readouterr().err


def test_what_cannot_be_recognized_is_said(classifier, tmp_path):
    with pytest.raises(ValueError, match="no events"):
        classifier.probabilities([EventStream.empty(24, 24)])
    with pytest.raises(ValueError, match="crop"):
        classifier.probabilities([EventStream.empty(30, 24)])
    with pytest.raises(ValueError, match="every stream needs its label"):
        fit(bars(3)[0], ["a"])
    with pytest.raises(ValueError, match="stream 1"):
        fit([bars(1)[0][0], EventStream.empty(24, 24)], ["a", "b"])
    with pytest.raises(ValueError, match="positive"):
        FitConfig(batch=0)
    with pytest.raises(ValueError, match="representation"):
        Network(2, "picture")
    path = tmp_path / "bars.safetensors"
    document = {
        "representation": "voxel",
        "bins": 3,
        "width": 10**6,
        "labels": ["a", "b"],
        "sensor": [24, 24],
    }
    from tracking.formats.weights import write_weights

    write_weights(path, "recognize", document, classifier.network.state_dict())
    with pytest.raises(ValueError, match="do not fit"):
        load(path)
    for wrong in (
        {"sensor": [float("inf"), 8]},
        {"sensor": "88"},
        {"labels": ["a", "a"]},
        {"labels": "ab"},
        {"bins": -1},
    ):
        write_weights(path, "recognize", document | {"width": 4} | wrong, classifier.network.state_dict())
        with pytest.raises(ValueError, match="does not hold a classifier"):
            load(path)
    broken = {name: value * float("nan") for name, value in classifier.network.state_dict().items()}
    write_weights(path, "recognize", document | {"width": 4}, broken)
    with pytest.raises(ValueError, match="not finite"):
        load(path)
    write_weights(path, "other", document, classifier.network.state_dict())
    with pytest.raises(ValueError, match="recognize"):
        load(path)


def test_augmented_streams_stay_in_the_sensor_and_the_rest_is_as_it_was():
    streams, _ = bars(4)
    events = EventBatch.of(streams)
    generator = torch.Generator().manual_seed(0)
    none = Augment(shift=0, turn=0, scale=1, shear=0, drop=0)(events, generator)
    assert torch.equal(none.x, events.x)
    assert torch.equal(none.y, events.y)
    much = Augment(shift=9, turn=1, scale=1.5, jitter=500)(events, generator)
    assert 0 < len(much.x) < len(events.x)
    assert ((much.x >= 0) & (much.x < 24) & (much.y >= 0) & (much.y < 24)).all()
    first, last = much.span[much.stream].unbind(-1)
    assert ((much.t >= first) & (much.t <= last)).all()


def test_a_turn_turns_about_the_middle():
    middle = EventStream([12], [5], [0], [1], 25, 25)
    turned = Augment(shift=0, turn=0.7, scale=1, shear=0, drop=0)(
        EventBatch.of([middle] * 50), torch.Generator()
    )
    away = ((turned.x - 12).double() ** 2 + (turned.y - 12).double() ** 2).sqrt()
    assert (away - 7).abs().max() < 0.75
    assert turned.x.double().std() > 1


def changed(n=400, **only):
    """Where two events, 8 pixels right of and below the middle, are after a change; (n, 2, 2)."""
    still = {"shift": 0, "turn": 0, "scale": 1, "shear": 0, "drop": 0}
    pair = EventStream([20, 12], [12, 20], [0, 1], [1, 1], 25, 25)
    found = Augment(**still | only)(EventBatch.of([pair] * n), torch.Generator().manual_seed(1))
    return torch.stack((found.x, found.y), -1).reshape(-1, 2, 2).double() - 12


def test_each_change_does_what_its_name_says():
    right, below = changed(turn=0.7).unbind(1)
    assert ((right * below).sum(1).abs() < 12).all()  # still at right angles, as far as pixels tell
    assert (right[:, 0] * below[:, 1] - right[:, 1] * below[:, 0] > 45).all()  # and not mirrored
    right, below = changed(shear=0.5).unbind(1)
    assert (right == torch.tensor([8.0, 0.0])).all()
    assert (below[:, 1] == 8).all()
    assert {-4.0, 4.0} <= set(below[:, 0].tolist())
    right, below = changed(scale=1.5).unbind(1)
    assert right[:, 0].max() >= 11.5
    assert right[:, 0].min() <= 6
    assert (right[:, 0] != below[:, 1]).any()  # each axis by its own factor
    moved = changed(shift=3.0)
    assert set(moved[:, 0, 0].tolist()) == {5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0}
    streams, _ = bars(60)
    events = EventBatch.of(streams)
    kept = Augment(shift=0, turn=0, scale=1, shear=0, drop=0.6)(events, torch.Generator().manual_seed(1))
    share = torch.bincount(kept.stream, minlength=60) / 300
    assert abs(float(share.mean()) - 0.7) < 0.06
    assert share.min() < 0.5
    assert share.max() > 0.9


def test_labels_are_names_in_order(classifier):
    assert isinstance(classifier, Classifier)
    assert classifier.labels == ("level", "upright")


def test_shipped_weights_know_the_digits_of_real_recordings(data, tmp_path, capsys):
    """They were trained on these; that they generalise is for `sims.studies.recognize` to show."""
    import zipfile

    with zipfile.ZipFile(data / "nmnist" / "nmnist_800.zip") as archive:
        rows = [line.split(",") for line in archive.read("labels.csv").decode().split()[1:41]]
        names = []
        for name, _ in rows:
            names.append(str(tmp_path / f"{name}.bin"))
            (tmp_path / f"{name}.bin").write_bytes(archive.read(f"events/{name}.bin"))
    assert main(names) == 0
    said = [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()]
    assert np.mean([a == label for a, (_, label) in zip(said, rows)]) >= 0.95


def test_shipped_weights_are_small_and_load():
    from perception.recognize.classifier import SHIPPED

    files = list(SHIPPED.glob("*.safetensors"))
    assert [file.stem for file in files] == ["nmnist"]
    assert sum(file.stat().st_size for file in files) < 4 << 20
    assert load().labels == tuple("0123456789")
    assert "N-MNIST" in (SHIPPED / "nmnist.md").read_text()
