"""The studies of fleets and black boxes run, say what they found, and refuse what they cannot do."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch

from adapt.black_box import Inversion
from adapt.federated import Aside
from sims.few_shot import IN_FOLDER, characters, turned, turned_digits
from sims.images import digits, event_counts, of_file, omniglot
from sims.meta_learners import META
from sims.studies import bidf_mkd, fedftg
from sims.teachers import task_of, trained


def ended(main, argv):
    """Exit status, also where the parser ends the program."""
    try:
        return main(argv)
    except SystemExit as end:
        return end.code


def test_fedftg_compares_rows_on_the_same_clients(tmp_path, capsys):
    path = tmp_path / "found.json"
    argv = ["--seeds", "1", "--rounds", "2", "--alphas", "0.1", "--json", str(path), "--rows"]
    assert fedftg.main([*argv, "fedavg", "fedavg + ftg", "fedavg + ftg - hard"]) == 0
    out = capsys.readouterr().out
    assert "Dirichlet 0.1" in out
    assert "fedavg + ftg minus fedavg + ftg - hard" in out
    parts = json.loads(path.read_text())["parts"]
    rows = {name.removeprefix("alpha 0.1, 0, "): run for name, run in parts.items()}
    assert set(rows) == {"fedavg", "fedavg + ftg", "fedavg + ftg - hard"}
    assert all(0.05 < run["last"] < 1 and len(run["scores"]) == 2 for run in rows.values())
    assert rows["fedavg + ftg"] != rows["fedavg + ftg - hard"]
    assert rows["fedavg"]["gain_per_repair"] is None
    assert 0 < rows["fedavg + ftg"]["client_cross_entropy"] < 10


@pytest.mark.parametrize("row", fedftg.ROWS)
def test_every_row_has_its_repair(row):
    found = fedftg.repair(row, (1, 8, 8), 0)
    assert (found is None) == (" + " not in row)
    assert isinstance(found, Aside) == row.endswith(", aside")
    if isinstance(found, Aside):
        found = found.refine
    if " - " in row:
        assert found.config != fedftg.repair("fedavg + ftg", (1, 8, 8), 0).config


def test_bidf_mkd_compares_rows_and_counts_queries(tmp_path, capsys):
    path = tmp_path / "found.json"
    assert bidf_mkd.main(["--quick", "--http", "--json", str(path), "--rows", "random", "bidf-mkd"]) == 0
    assert "bidf-mkd" in capsys.readouterr().out
    rows = json.loads(path.read_text())["parts"]
    assert rows["0, random"]["queries"] == 0
    asked = META.queries_of(5)
    assert rows["0, bidf-mkd"]["queries"] == asked == 2 * 80 * 21 * 50
    assert [len(rows["0, bidf-mkd"]["1"][at]) for at in ("common", "best")] == [4, 4]


def test_a_six_is_no_nine_of_the_other_side():
    pixels, labels, _ = digits()
    sixes, nines = (pixels[labels == k].numpy().tobytes() for k in (6, 9))
    for seed in range(20):
        known = turned_digits("digit", seed)
        train, test = ({x.numpy().tobytes() for x in part} for part in (known.train, known.test))
        assert not (sixes in train and nines in test)
        assert not (nines in train and sixes in test)


@pytest.mark.parametrize("split", ["digit", "class"])
def test_test_classes_are_new(split):
    known = turned_digits(split, 3)
    sizes = [len(part) for part in (known.train, known.validation, known.test)]
    assert sizes == [35, 5, 10]
    classes = [x.numpy().tobytes() for part in (known.train, known.validation, known.test) for x in part]
    assert len(set(classes)) == 50
    assert known.shape == (1, 8, 8)
    if split == "digit":  # of a digit all five are on the same side
        pixels, labels, _ = digits()
        plain = {pixels[labels == c].numpy().tobytes() for c in range(10)}
        assert [sum(x.numpy().tobytes() in plain for x in part) for part in (known.train, known.test)] == [
            7,
            2,
        ]


def test_mnist_is_turned_as_well(tmp_path):
    labels = np.arange(40) % 10
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    (tmp_path / "digits").mkdir()
    np.savez(tmp_path / IN_FOLDER["mnist"], x=images, y=labels)
    known = turned_digits("digit", 0, "mnist", tmp_path)
    assert [len(part) for part in (known.train, known.validation, known.test)] == [35, 5, 10]
    assert {tuple(x.shape) for x in known.train} == {(4, 1, 16, 16)}


def test_turned_images_are_as_large_and_differ():
    images, of = turned(digits())
    assert of == sorted(of)
    a, b, c, d, e = images[5:10]
    assert torch.equal(a.rot90(2, (2, 3)), c)
    assert torch.equal(b, a.rot90(1, (2, 3)))
    assert torch.equal(d, a.mT)
    assert torch.equal(e, 1 - a)


@pytest.mark.parametrize(
    ("main", "argv", "words"),
    [
        (fedftg.main, ["--alphas", "0"], "--alphas must be above 0"),
        (fedftg.main, ["--dataset", "mnist"], "say which with --data"),
        (fedftg.main, ["--rows", "nothing"], "invalid choice"),
        (bidf_mkd.main, ["--dataset", "omniglot"], "needs --data"),
        (bidf_mkd.main, ["--dataset", "mnist"], "digits/mnist_train.npz"),
        (fedftg.main, ["--width", "5"], "--width must be even"),
        (bidf_mkd.main, ["--quick", "--rows", "no replay"], "--quick has the rows"),
        (bidf_mkd.main, ["--tasks", "0"], "whole number >= 1"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(main, argv, words, capsys):
    assert ended(main, argv) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_files_of_characters_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(ValueError, match="has no ALPHABET"):
        omniglot(tmp_path / "a.zip")
    (tmp_path / "b.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:-10])
    with pytest.raises(ValueError, match="no zip of Omniglot"):
        omniglot(tmp_path / "b.zip")


def test_characters_are_shared_out_and_can_be_inverted(tmp_path):
    from PIL import Image

    path = tmp_path / IN_FOLDER["omniglot"]
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for c in range(50):
            for k in range(2):
                drawn = io.BytesIO()
                Image.new("L", (21, 21), 5 * c + k).save(drawn, "PNG")
                archive.writestr(f"all/Greek/character{c:02d}/{k}.png", drawn.getvalue())
    known = characters(tmp_path, 0)
    parts = (known.train, known.validation, known.test)
    assert [len(part) for part in parts] == [30, 5, 15]
    assert all(len(x) == 2 for part in parts for x in part)
    inversion = Inversion(torch.arange(2), known.shape, META.inversion)
    assert inversion.network(inversion.z).shape == (2, *known.shape)


def test_events_are_counted_by_place_and_polarity(tmp_path):
    def event(x, y, p):
        return bytes([x, y, p << 7, 0, 0])

    for label, events in (("3", [(5, 7, 1), (4, 6, 1), (33, 33, 0)]), ("0", [])):
        (tmp_path / label).mkdir()
        (tmp_path / label / "00001.bin").write_bytes(b"".join(event(*e) for e in events))
    x, y, _ = event_counts(tmp_path)
    assert (x.shape, y.tolist()) == ((2, 2, 20, 20), [0, 3])
    assert x[0].abs().max() == 0  # nothing happened, which is no division by zero
    assert x[1, 1, 3 + 1, 2 + 1] == 1
    assert x[1, 0, 16 + 1, 16 + 1] == pytest.approx(np.log(2) / np.log(3))
    assert (x[1] > 0).sum() == 2


def test_event_counts_teach_a_network_of_recognition(tmp_path):
    folder = tmp_path / "nmnist" / "nmnist_800.zip"  # a folder will do
    for label in range(4):
        (folder / str(label)).mkdir(parents=True)
        for k in range(10):
            events = [bytes([8 * label + i % 3, 8 * label + (i + k) % 4, 0, 0, 0]) for i in range(40)]
            (folder / str(label) / f"{k:05d}.bin").write_bytes(b"".join(events))
    task = task_of("nmnist", tmp_path, seed=1)
    assert task.shape == (2, 20, 20)
    assert (len(task.y), len(task.test_y)) == (30, 10)
    assert torch.equal(task_of("nmnist", tmp_path, seed=1).x, task.x)
    assert task.accuracy(trained(task, "recognition", 0, steps=60, batch=16)) == 100
    with pytest.raises(ValueError, match="say which with --data"):
        task_of("mnist")


def test_digits_are_shuffled_by_the_seed():
    one, other = task_of("digits", seed=0), task_of("digits", seed=1)
    assert (len(one.y), len(one.test_y)) == (1257, 540)
    assert not torch.equal(one.y, other.y)
    assert task_of("digits", side=4).shape == (1, 4, 4)


def test_real_images(data):
    found = of_file(data / "digits" / "mnist_train.npz")
    assert found.pixels.shape[1:] == (1, 28, 28)
    assert set(found.labels.tolist()) == set(range(10))
    drawn = omniglot(data / "omniglot" / "images_background_small1.zip")
    counts = np.bincount(drawn.labels)
    assert set(counts) == {20}
    assert len(counts) > 100
    assert drawn.pixels.shape[1:] == (1, 16, 16)
    assert 0 <= drawn.pixels.min() < 0.05
    assert drawn.pixels.max() == 1
