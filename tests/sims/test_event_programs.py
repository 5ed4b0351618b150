"""The programs that train and study what sees events: they run, say what they found, and refuse bad input."""

import json
from functools import partial

import pytest

from perception.events import write
from perception.recognize import load
from perception.reconstruct.model import load as load_reconstructor
from sims import digits
from sims.studies import recognize as recognize_study
from sims.studies import reconstruct as reconstruct_study
from sims.train import recognize, reconstruct


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder as tonic has N-MNIST's."""
    folder = tmp_path_factory.mktemp("digits")
    streams, labels = digits.saccades(number=30)
    for k, (stream, label) in enumerate(zip(streams, labels)):
        (folder / label).mkdir(exist_ok=True)
        write(stream, folder / label / f"{k}.bin")
    return folder


@pytest.fixture
def few_clips(monkeypatch):
    """Few and small ones: what is left of a clip after the first windows is two."""
    small = partial(reconstruct.random_clip, side=16, frames=reconstruct.SKIPPED + 2)
    monkeypatch.setattr(reconstruct, "random_clip", small)
    for name in ("N_HELD_OUT", "N_TEST"):
        monkeypatch.setattr(reconstruct, name, 2)


@pytest.mark.parametrize("extra", [[], ["--how", "photometric"], ["--how", "photometric", "--flow", "known"]])
def test_reconstruction_is_trained_saved_and_goes_on(tmp_path, capsys, few_clips, extra):
    out = tmp_path / "net.safetensors"
    argv = ["--clips", "2", "--batch", "1", "--steps", "2", "--resume", str(tmp_path / "run.pt"), *extra]
    assert reconstruct.main([*argv, "--out", str(out)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["steps"] == 2
    assert 0 < said["error"] <= 1.0001
    assert -1 < said["highpass_similarity"] < 1
    assert "structural similarity" in out.with_suffix(".md").read_text()
    assert load_reconstructor(out).period == 20_000
    assert (tmp_path / "run.pt").exists()
    assert reconstruct.main(argv) == 0  # nothing is left to do
    assert json.loads(capsys.readouterr().out)["error"] == pytest.approx(said["error"])


@pytest.mark.slow
def test_the_study_of_reconstruction_prints_its_table(tmp_path, capsys):
    assert reconstruct_study.main(["--quick", "--json", str(tmp_path / "a.json")]) == 0
    assert "without labels, flow known" in capsys.readouterr().out
    rows = json.loads((tmp_path / "a.json").read_text())["parts"]
    assert len(rows) >= 6
    assert len(rows["sums of events"]["error"]) == 3


def test_recognition_is_trained_and_saved(folder, tmp_path, capsys):
    out = tmp_path / "net.safetensors"
    argv = ["--data", str(folder), "--steps", "3", "--width", "4"]
    assert recognize.main([*argv, "--out", str(out)]) == 0
    assert json.loads(capsys.readouterr().out)["recordings"] == 30
    assert load(out).labels == tuple("0123456789")
    assert "N-MNIST" in out.with_suffix(".md").read_text()


def test_the_study_of_recognition_prints_its_table(folder, tmp_path, capsys):
    argv = ["--data", str(folder), "--representations", "count", "--steps", "2", "--folds", "3"]
    assert recognize_study.main([*argv, "--json", str(tmp_path / "a.json")]) == 0
    assert "count" in capsys.readouterr().out
    found = json.loads((tmp_path / "a.json").read_text())["parts"]
    assert list(found) == ["count, fold 1", "count, fold 2", "count, fold 3"]
    assert all(0 <= part["accuracy"] <= 1 for part in found.values())


def test_bad_command_lines_are_one_line(tmp_path, capsys):
    for program, argv in (
        (reconstruct, ["--flow", "known"]),
        (recognize_study, ["--data", "x", "--folds", "1"]),
        (reconstruct_study, ["--tests", "1"]),
    ):
        with pytest.raises(SystemExit) as stop:
            program.main(argv)
        assert stop.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert recognize_study.main(["--data", str(tmp_path)]) == 2
    assert "neither" in capsys.readouterr().err
    assert recognize.main(["--data", str(tmp_path / "none.zip")]) == 2


def test_digits_are_seen_by_cameras_that_differ():
    streams, labels = digits.saccades(number=4)
    assert labels == ["0", "1", "2", "3"]
    assert len({len(s) for s in streams}) == 4
    assert all((s.width, s.height) == (34, 34) and len(s) > 500 for s in streams)
    again, _ = digits.saccades(number=2)
    assert again == streams[:2]
