"""Training of the finder of things as a program."""

import json

import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("torch")

from perception.depth.fuse import KINDS
from perception.objects.finder import SHIPPED, load
from sims.rooms import CONDITIONS
from sims.train import objects as train
from sims.train.fuse_data import made


def test_the_command_trains_resumes_and_writes(tmp_path, capsys):
    out, saved = tmp_path / "w.safetensors", tmp_path / "run"
    argv = ["--rooms", "3", "--tests", "2", "--side", "32", "--steps", "2"]
    argv += ["--resume", str(saved), "--out", str(out)]
    assert train.main(argv) == 0
    first = json.loads(capsys.readouterr().out)
    assert set(first["errors"]) == set(CONDITIONS)
    assert all(set(row) == set(KINDS) for row in first["errors"].values())
    assert load(out).side == 32
    assert "| night |" in out.with_suffix(".md").read_text()
    assert train.main(argv) == 0  # nothing is left to do
    assert json.loads(capsys.readouterr().out)["errors"] == first["errors"]
    assert train.main([*argv, "--steps", "3"]) == 2
    assert "is not a run of this network" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--out", "w.md"], "--out is a .safetensors file"),
        (["--resume", "nowhere/run"], "in a folder that is there"),
        (["--side", "8"], "--side must be at least 16"),
        (["--device", "tpu"], "tpu"),
    ],
)
def test_bad_arguments_are_one_line_before_any_work(argv, says, capsys):
    with pytest.raises(SystemExit) as end:
        train.main(argv)
    assert end.value.code == 2
    assert says in capsys.readouterr().err.strip().splitlines()[-1]


def test_rooms_are_the_same_however_many_processes_make_them():
    pytest.importorskip("joblib")
    one, several = (made(range(4), 16, Console(quiet=True), jobs=jobs, objects=True) for jobs in (1, 2))
    for name in ("clean", "seen", "voxels", "depth", "objects"):
        np.testing.assert_array_equal(getattr(one, name), getattr(several, name))


def test_shipped_weights_find_things_by_night():
    """Of rooms that they have not seen, from events."""

    finder = load(SHIPPED / "objects-tiny.safetensors")
    test = made(range(9_000_000, 9_000_012), finder.side, Console(quiet=True), ("night",), objects=True)
    found = {kind: train.scores(finder.network, test, kind) for kind in KINDS}
    assert found["both"]["overlap"] > 0.6
    assert found["both"]["overlap"] > found["frames"]["overlap"] + 0.1
    assert found["both"]["depth"] < found["frames"]["depth"]
