"""Training and study of FUSE as programs."""

import json

import pytest

pytest.importorskip("peft")

from perception.depth.estimator import load
from sims.studies import fuse as study
from sims.train import fuse as train


def test_the_command_trains_resumes_and_writes(tmp_path, capsys):
    out, run = tmp_path / "w.safetensors", tmp_path / "run"
    argv = ["--rooms", "2", "--tests", "1", "--side", "32", "--scale", "0.0004"]
    argv += ["--resume", str(run), "--out", str(out)]
    assert train.main(argv) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["steps"] == "teach 1, align 1, fuse 1, adapt 1"
    assert set(first["errors"]) == set(train.CONDITIONS)
    assert load(out).farthest == train.FARTHEST
    assert "| night |" in out.with_suffix(".md").read_text()
    assert {p.name for p in tmp_path.glob("run.*")} == {f"run.{stage}" for stage in train.STEPS}
    assert train.main(argv) == 0  # nothing is left to do
    again = json.loads(capsys.readouterr().out)["errors"]
    for condition, row in first["errors"].items():
        assert again[condition] == pytest.approx(row)


@pytest.mark.parametrize("program", [train, study])
@pytest.mark.parametrize("argv", [["--scale", "0"], ["--rooms", "0"], ["--tests", "x"]])
def test_bad_arguments_are_one_line(program, argv, capsys):
    with pytest.raises(SystemExit) as end:
        program.main(argv)
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") <= 2


@pytest.mark.slow
def test_the_study_runs(tmp_path, capsys):
    path = tmp_path / "s.json"
    assert study.main(["--quick", "--side", "32", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert set(found["errors"]) == set(study.ROWS)
    assert "FUSE" in capsys.readouterr().out
