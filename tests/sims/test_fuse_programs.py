"""Training and study of FUSE as programs."""

import json

import numpy as np
import pytest

pytest.importorskip("peft")

from perception.depth.estimator import load
from sims.rooms import CONDITIONS
from sims.studies import fuse as study
from sims.train import fuse as train
from sims.train.fuse_data import recorded
from sims.train.fuse_score import FARTHEST
from sims.train.fuse_stages import STEPS


@pytest.mark.slow
def test_the_command_trains_resumes_and_writes(tmp_path, capsys):
    out, run = tmp_path / "w.safetensors", tmp_path / "run"
    argv = ["--rooms", "2", "--tests", "1", "--side", "32", "--scale", "0.0002"]
    argv += ["--resume", str(run), "--out", str(out)]
    assert train.main(argv) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["steps"] == "teach 1, align 1, fuse 1, adapt 1"
    assert set(first["errors"]) == set(CONDITIONS)
    assert load(out).farthest == FARTHEST
    assert "| night |" in out.with_suffix(".md").read_text()
    assert {p.name for p in tmp_path.glob("run.*")} == {f"run.{stage}" for stage in STEPS}
    assert train.main(argv) == 0  # nothing is left to do
    again = json.loads(capsys.readouterr().out)["errors"]
    for condition, row in first["errors"].items():
        assert again[condition] == pytest.approx(row)
    assert train.main([*argv, "--farthest", "20"]) == 2  # what was learned is another metric depth
    assert "run.adapt" in capsys.readouterr().err


def test_recordings_are_taken_instead_of_rooms(tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for k in range(12):
        image.fromarray(rng.integers(0, 255, (24, 32, 3), np.uint8)).save(tmp_path / f"{k}.png")
        np.save(tmp_path / f"{k}_depth.npy", rng.uniform(2, 60, (24, 32)).astype(np.float32))
        np.save(tmp_path / f"{k}_voxel.npy", rng.normal(size=(3, 24, 32)).astype(np.float32))
    (tmp_path / "list.txt").write_text("".join(f"{k}.png {k}_depth.npy {k}_voxel.npy\n" for k in range(12)))
    out = tmp_path / "w.safetensors"
    argv = ["--data", "list", str(tmp_path / "list.txt"), "--farthest", "80", "--scale", "0.0002"]
    assert train.main([*argv, "--out", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["data"] == "11 samples of list, list.txt"
    assert set(found["errors"]) == {"held out"}
    assert load(out).farthest == 80
    kept = recorded("list", [str(tmp_path / "list.txt")] * 2, 50_000)
    assert [len(part) for part in kept] == [22, 2]
    last = np.load(tmp_path / "11_depth.npy")
    assert np.array_equal(kept[1][[0, 1]].depth, [last, last])


@pytest.mark.parametrize("argv", [["--data", "list"], ["--data", "other", "x"], ["--window", "10"]])
def test_odd_recordings_are_one_line(argv, capsys):
    with pytest.raises(SystemExit) as end:
        train.main(argv)
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") <= 2


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
    assert set(found["parts"]["seed 0"]["errors"]) == set(study.ROWS)
    assert "FUSE" in capsys.readouterr().out
