"""The studies of fleets and black boxes run, say what they found, and refuse what they cannot do."""

import json
import zipfile

import numpy as np
import pytest
import torch

from sims import labelled
from sims.studies import bidf_mkd, fedftg


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
    if " - " in row:
        assert found.config != fedftg.repair("fedavg + ftg", (1, 8, 8), 0).config


def test_bidf_mkd_compares_rows_and_counts_queries(tmp_path, capsys):
    path = tmp_path / "found.json"
    assert bidf_mkd.main(["--quick", "--http", "--json", str(path), "--rows", "random", "bidf-mkd"]) == 0
    assert "bidf-mkd" in capsys.readouterr().out
    rows = json.loads(path.read_text())["parts"]
    assert rows["0, random"]["queries"] == 0
    asked = bidf_mkd.META.queries_of(5)
    assert rows["0, bidf-mkd"]["queries"] == asked == 2 * 80 * 21 * 50
    assert [len(rows["0, bidf-mkd"]["1"][at]) for at in ("common", "best")] == [4, 4]


@pytest.mark.parametrize("split", ["digit", "class"])
def test_test_classes_are_new(split):
    args = bidf_mkd.parse(["--split", split])
    known = bidf_mkd.world(args, 3)
    sizes = [len(part) for part in (known.train, known.validation, known.test)]
    assert sizes == [35, 5, 10]
    classes = [x.numpy().tobytes() for part in (known.train, known.validation, known.test) for x in part]
    assert len(set(classes)) == 50
    assert known.shape == (1, 8, 8)
    if split == "digit":  # of a digit all five are on the same side
        plain = {x.tobytes() for c in range(10) for x in [labelled.digits().x[labelled.digits().y == c]]}
        assert [sum(x.numpy().tobytes() in plain for x in part) for part in (known.train, known.test)] == [
            7,
            2,
        ]


def test_turned_images_are_as_large_and_differ():
    images, of = bidf_mkd.turned(labelled.digits())
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
        (bidf_mkd.main, ["--tasks", "0"], "whole number >= 1"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(main, argv, words, capsys):
    assert ended(main, argv) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_files_of_images_are_read_or_refused(tmp_path):
    x, y = np.full((3, 28, 28), 255, np.uint8), np.array([1, 2, 3], np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    found = labelled.mnist(tmp_path / "a.npz", 2)
    assert found.x.shape == (2, 1, 28, 28)
    assert found.x.max() == 1
    assert found.y.tolist() == [1, 2]
    np.savez(tmp_path / "b.npz", x=x)
    np.savez(tmp_path / "c.npz", x=x, y=y[:2])
    for name in ("b", "c"):
        with pytest.raises(ValueError, match="must hold"):
            labelled.mnist(tmp_path / f"{name}.npz")
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(ValueError, match="has no ALPHABET"):
        labelled.omniglot(tmp_path / "d.zip")


def test_real_images(data):
    found = labelled.mnist(data / "digits" / "mnist_train.npz", 100)
    assert found.x.shape == (100, 1, 28, 28)
    assert set(found.y) <= set(range(10))
    characters = labelled.omniglot(data / "omniglot" / "images_background_small1.zip")
    counts = np.bincount(characters.y)
    assert set(counts) == {20}
    assert len(counts) > 100
    assert characters.x.shape[1:] == (1, 14, 14)
    assert 0 <= characters.x.min() < 0.05
    assert characters.x.max() == 1
