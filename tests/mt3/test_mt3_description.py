"""MT3 in tracker.toml: the same questions as of a filter, and `python -m tracking track`."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from mutations import attempt, mutated  # tests/mutations.py

from tracking.__main__ import main
from tracking.description import description_of, read_description
from tracking.formats import csv, foxglove
from tracking.formats.scans import TimedScan
from tracking.mt3 import MT3, MT3Config, shipped
from tracking.mt3.model import SHIPPED

LEAST = {"filter": "MT3", "weights": "mt3-task2"}
TOML = 'filter = "MT3"\nweights = "{}"\ndevice = "cpu"\n[config]\nthreshold = 0.3\n'
SCANS = 12
POSITIONS = [[[0.3 * k - 2, 1.0], [4.0, 0.2 * k - 3]] for k in range(SCANS)]
RADAR = [[[5 + 0.1 * k, 0.3, 1.0], [9.0, -0.4 - 0.01 * k, 0.0]] for k in range(SCANS)]


def table(header, scans):
    """Text of a CSV file; one detection a row has a score, which nobody asks for."""
    rows = (f"{0.1 * k:.1f},{','.join(map(str, z))},0.9\n" for k, scan in enumerate(scans) for z in scan)
    return f"{header},score\n" + "".join(rows)


@pytest.fixture
def track(tmp_path, monkeypatch, capsys):
    """Write a description and a recording in an empty folder and run the program there."""
    monkeypatch.chdir(tmp_path)

    def run(toml, content, out):
        (tmp_path / "tracker.toml").write_text(toml)
        (tmp_path / "in.csv").write_text(content)
        status = main(["track", "in.csv", "--config", "tracker.toml", "--out", out])
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("name", "header", "scans", "states"),
    [
        ("mt3-task2", "time,east,north", POSITIONS, "east,north,veast,vnorth"),
        ("radar-1", "time,range,bearing,range_rate", RADAR, "x,y,vx,vy"),
    ],
)
def test_a_table_is_tracked_as_by_the_class(track, tmp_path, name, header, scans, states):
    status, said, err = track(TOML.format(name), table(header, scans), "out.csv")
    assert (status, err) == (0, "")
    assert said.startswith("in.csv (csv): 12 scans in 1.100 s with 24 detections")
    assert (tmp_path / "out.csv").read_text().startswith(f"time,label,{states},existence,source,P_")
    tracker = MT3(name, MT3Config(threshold=0.3))
    expected = [tracker.step(z, round(0.1 * k, 1)) for k, z in enumerate(scans)]
    assert len(expected[-1]) > 0
    for found, one in zip(csv.read_tracks("out.csv"), expected, strict=True):
        assert found.label.tolist() == one.label.tolist()
        assert np.array_equal(found.mean.reshape(one.mean.shape), one.mean)
        assert np.array_equal(found.cov.reshape(one.cov.shape), one.cov)


def test_a_table_becomes_a_scene(track):
    assert track(TOML.format("mt3-task2"), table("time,x,y", POSITIONS), "out.mcap")[0] == 0
    assert len(list(foxglove.read_tracks("out.mcap"))) == SCANS


def test_what_is_wrong_is_one_line(track):
    toml, good = TOML.format("mt3-task2"), table("time,x,y", POSITIONS)
    for wrong, content, says in (
        (toml, table("time,x,y,z", RADAR), "in.csv gives x, y, z, the sensor measures 2 numbers"),
        (toml, good.replace("4.0,", "400,"), "is outside the field of view that the weights"),
        (toml, good.replace("0.3,", "0.33,"), "scans must be a whole number of steps of 0.1 s apart"),
        (TOML.format("mine.safetensors"), good, "tracker.toml: weights is 'mine.safetensors'; accepted are"),
    ):
        status, out, err = track(wrong, content, "out.csv")
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert says in err


@pytest.mark.parametrize("name", shipped())
def test_all_shipped_weights_can_be_described(name):
    description = description_of({**LEAST, "weights": name})
    assert description.config == MT3Config()
    assert description.tracker().model.name == name
    assert description.dim_z == (3 if name.startswith("radar") else 2)
    assert len(description.state_names(["a", "b", "c"][: description.dim_z])) == 4
    scan = TimedScan(0.0, np.zeros((1, 2)), ("x", "y"), np.array([0.9]))
    assert description.clutter_ratio(scan) is None


def test_a_file_beside_the_description(tmp_path, monkeypatch):
    """Wherever the program runs; an absolute path is one, too."""
    (tmp_path / "night").mkdir()
    mine = tmp_path / "night" / "mine.safetensors"
    shutil.copy(SHIPPED / "mt3-task1.safetensors", mine)
    monkeypatch.chdir(tmp_path)
    for place, given in ("night", "mine.safetensors"), (".", "night/mine.safetensors"), (".", mine):
        (tmp_path / place / "tracker.toml").write_text(TOML.format(given))
        for path in (f"{place}/tracker.toml", tmp_path / place / "tracker.toml"):
            description = read_description(path)
            assert (description.model.task.name, description.model.name) == ("mt3-task1", None)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"motion": {"kind": "ConstantVelocity"}},
            "motion is of filters; MT3 has weights in place of models",
        ),
        ({"sensor": {}}, "sensor is of filters"),
        ({"birth": {}}, "birth is of filters"),
        ({"score": {"slope": 1.0, "neutral": 0.5}}, "score is of filters; .* takes no scores"),
        ({"seed": 0}, "seed is of filters"),
        ({"weight": 1}, "unknown 'weight'; accepted are filter, weights, device, config, input"),
        ({"weights": None}, "weights is None; accepted are mt3-task1, .* or the path of a safetensors file"),
        ({"weights": 3}, "weights is 3"),
        ({"weights": ["mt3-task2"]}, r"weights is \['mt3-task2'\]"),
        ({"weights": "mt3-task9"}, "weights is 'mt3-task9'"),
        ({"weights": "a\0"}, "weights is"),
        ({"weights": "x" * 60_000}, "weights is"),
        ({"weights": __file__}, "weights: .* is no safetensors file"),
        ({"device": "cuda:99"}, "device is 'cuda:99'; accepted here are cpu"),
        ({"device": 0}, "device is 0"),
        ({"config": {"gates": 1}}, r"\[config\]: unknown 'gates'; accepted are threshold, outside"),
        ({"config": {"threshold": 2.0}}, r"\[config\].*threshold must be a probability"),
        ({"config": {"outside": "clip"}}, r"\[config\].*outside must be one of"),
        ({"input": {"clock": "wall"}}, r"\[input\]: clock must be one of header, bag"),
        ({"input": 3}, "input is 3; accepted is a table"),
    ],
)
def test_what_describes_no_tracker_is_said(changes, says):
    with pytest.raises(ValueError, match=says) as error:
        description_of(LEAST | changes)
    assert len(str(error.value)) < 1000


def test_a_filter_has_no_weights():
    models = {"motion": {"kind": "ConstantVelocity"}, "sensor": {}, "birth": {}}
    with pytest.raises(ValueError, match="the file: unknown 'weights'; accepted are filter, seed"):
        description_of({**LEAST, **models, "filter": "GNN"})
    with pytest.raises(ValueError, match=r"filter is 'mt3'; accepted are PMBM, .*MT3"):
        description_of({"filter": "mt3"})


def test_every_tracker_is_a_new_one():
    description = description_of(LEAST)
    first, second = description.tracker(), description.tracker()
    first.step([[1.0, 1.0]], 0.0)
    assert second.time is None
    assert isinstance(first.model.device, torch.device)


@pytest.mark.slow
def test_mutated_descriptions_give_clear_errors_only(tmp_path):
    path, rng, taken = tmp_path / "tracker.toml", np.random.default_rng(11), 0
    comment = f"# {'-' * 60}\n"  # bytes near the start change most
    content = f'{comment}{TOML.format("mt3-task1")}[input]\ncoordinates = ["x", "y"]\n'.encode()
    for _ in range(1000):
        path.write_bytes(mutated(content, rng))
        description, error = attempt(lambda: read_description(path))
        assert description is not None or error.startswith(str(path))
        if description is not None:
            taken += 1
            attempt(lambda description=description: description.tracker().step([[1.0, 1.0]], 0.0))
    assert 10 < taken < 500


def test_without_the_extra_the_error_names_it(tmp_path, monkeypatch):
    (tmp_path / "tracker.toml").write_text(TOML.format("mt3-task2"))
    (tmp_path / "in.csv").write_text("time,x,y\n0.0,1.0,1.0\n")
    argv = ["track", "in.csv", "--config", "tracker.toml", "--out", "out.csv"]
    code = f"import sys, tracking.__main__ as m; sys.modules['torch'] = None; sys.exit(m.main({argv}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 1
    assert done.stderr.startswith("python -m tracking: MT3 needs the learn extra (")
    assert done.stderr.endswith("pip install -c constraints.txt -e '.[learn]'\n")
    assert done.stderr.count("\n") == 1
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"MT3 needs the learn extra .*safetensors"):
        description_of(LEAST)
