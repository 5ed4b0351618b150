"""The study of backdoors: rows of poisoned teachers, scans, and what a defence costs clean ones."""

import json

import pytest

from sims.studies import abd


@pytest.mark.slow
def test_poisoned_and_clean_teachers_are_compared_and_kept(tmp_path, capsys):
    path = tmp_path / "abd.json"
    argv = ["--quick", "--scan", "--clean", "1", "--cost", "--json", str(path)]
    assert abd.main(argv) == 0
    out = capsys.readouterr().out
    assert "of clean teachers" in out
    assert "scan of" in out
    parts = json.loads(path.read_text())["parts"]
    assert set(parts) == {
        *(f"patch, 0, {row}" for row in ("teacher", "scan", "vanilla", "ABD")),
        *(f"clean, 0, {row}" for row in ("scan", "vanilla", "ABD")),
    }
    said = parts["clean, 0, scan"]
    assert all(0 <= share <= 1 for size in said["flips"] for share in size)
    assert len(said["margins"][0]) == 10
    assert parts["patch, 0, teacher"]["accuracy"] > 30
    assert abd.main(argv) == 0  # all of it is known
    assert capsys.readouterr().out == out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--first-seed", "-5"], "--first-seed"),
        (["--clean", "-3"], "--clean"),
        (["--calibrate", "2"], "at least three"),
        (["--cost"], "there are none"),
        (["--rows", "classwise, by the scan"], "--calibrate"),
    ],
)
def test_bad_arguments_of_the_abd_study_are_refused(argv, says, capsys):
    with pytest.raises(SystemExit):
        abd.main(argv)
    assert says in capsys.readouterr().err
