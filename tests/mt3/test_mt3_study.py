"""The study of MT3: other worlds, long streams, and its command line, with weights that know nothing."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from small_networks import SMALL, stirred  # tests/mt3/small_networks.py

from sims.compare import main as compare
from sims.evaluate import scene_of, score, track
from sims.scenarios import SCENARIOS
from sims.studies.mt3 import SHIFTS, main, shifted, stream
from sims.trackers import TRACKERS
from sims.train.mt3 import task_of
from tracking.mt3 import model as models
from tracking.mt3.trajectory import TrajectoryNetwork


@pytest.fixture
def weights(tmp_path, monkeypatch):
    task = task_of(SCENARIOS["mt3-task2"])
    torch.manual_seed(0)
    network = stirred(TrajectoryNetwork(task.sight, task.scans, task.dt, SMALL))
    models.Model(network, task).with_reading(threshold=0.1).save(tmp_path / "mt3-task2.safetensors")
    monkeypatch.setattr(models, "SHIPPED", tmp_path)


def drawn(problem, seed):
    rng = np.random.default_rng(seed)
    return [problem.draw(rng) for _ in range(80)]


@cache
def usual(name):
    return drawn(SCENARIOS[name], 0)


@pytest.mark.parametrize("name", ["mt3-task2", "radar-2", pytest.param("radar-4", marks=pytest.mark.slow)])
@pytest.mark.parametrize("change", SHIFTS.values(), ids=SHIFTS)
def test_a_shifted_world_is_as_it_says(name, change):
    problem = SCENARIOS[name]
    other = shifted(problem, **change, told=True)
    a, b = usual(name), drawn(other, 1)
    clutter = [np.mean([sum((o < 0).sum() for o in scene.origin) for scene in scenes]) for scenes in (a, b)]
    assert clutter[1] / clutter[0] == pytest.approx(change.get("clutter", 1.0), rel=0.04)
    found = []
    for scenes in (a, b):
        hits = sum(sum((o >= 0).sum() for o in scene.origin) for scene in scenes)
        found.append(hits / sum((~np.isnan(scene.truth.states[..., 0])).sum() for scene in scenes))
    assert found[1] / found[0] == pytest.approx(change.get("p_detect", 1.0), rel=0.06)
    speed = [np.nanstd([v for s in scenes for v in s.truth.states[:, 0, 2:].ravel()]) for scenes in (a, b)]
    assert speed[1] / speed[0] == pytest.approx(change.get("speed", 1.0), rel=0.12)
    number = [np.mean([len(s.truth.at(len(s) - 1)) for s in scenes]) for scenes in (a, b)]
    assert number[1] / number[0] == pytest.approx(change.get("objects", 1.0), rel=0.25)
    kept = shifted(problem, **change, told=False)
    assert (kept.sensor, kept.initial, kept.birth) == (problem.sensor, problem.initial, problem.birth)


def test_a_stream_lasts(weights):
    long = stream(SCENARIOS["mt3-task2"], 50)
    scene = long.draw(np.random.default_rng(0))
    assert len(scene) == 50
    assert long.birth.rate > 0
    assert long.scored == "all"


@pytest.mark.slow
def test_the_study_prints_its_tables_and_writes_them(weights, tmp_path, capsys):
    path = tmp_path / "study.json"
    argv = [
        "--runs",
        "2",
        "--few",
        "2",
        "--shifts",
        "--streams",
        "1",
        "--trackers",
        "pmbm",
        "mt3",
        "--json",
        str(path),
    ]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "mt3" in out
    assert "not told" in out
    assert "200 scans" in out
    result = json.loads(path.read_text())
    assert list(result["tasks"]) == ["mt3-task2"]
    assert "mt3 minus it" in out
    rows = result["tasks"]["mt3-task2"]["trackers"]
    assert all(row["cpu_ms_per_window"] > 0 for row in rows.values())
    assert len(result["shifts"]) == 2 * len(SHIFTS)
    assert result["streams"]["mt3-task2"]["trackers"]["mt3"]["ospa2"] > 0


def test_where_the_last_scan_counts_a_network_is_asked_for_it_alone(weights):
    problem = SCENARIOS["mt3-task2"]
    scene = scene_of(problem, 0, 0)
    whole, last = (track(TRACKERS["mt3"](problem), scene, scored=scored) for scored in ("all", "last"))
    assert whole.asked.all()
    assert last.asked.tolist() == [False] * (len(scene) - 1) + [True]
    assert [len(t) for t in last.tracks[:-1]] == [0] * (len(scene) - 1)
    np.testing.assert_array_equal(last.tracks[-1].mean, whole.tracks[-1].mean)
    assert last.expected[-1] == whole.expected[-1]
    assert (last.cpu >= 0).all()  # what watching costs is counted
    found, counted = score(problem, scene, last), score(problem, scene, whole)
    np.testing.assert_array_equal(found.gospa, counted.gospa)
    assert track(TRACKERS["gnn"](problem), scene, scored="last").asked.all()


def test_weights_of_a_file_are_a_tracker(weights, tmp_path, capsys):
    file = str(tmp_path / "mt3-task2.safetensors")
    argv = [
        "--scenario",
        "mt3-task2",
        "--trackers",
        "mt3",
        file,
        "--runs",
        "2",
        "--json",
        f"{tmp_path}/o.json",
    ]
    assert compare(argv) == 0
    found = json.loads((tmp_path / "o.json").read_text())["trackers"]
    assert found["mt3"]["gospa"] == found[file]["gospa"]
    assert main(["--scenario", "mt3-task1", "--trackers", "gnn", file, "--runs", "1"]) == 2
    assert "holds weights for mt3-task2, not for mt3-task1" in capsys.readouterr().err
    (tmp_path / "other.safetensors").write_bytes(b"nothing of the kind")
    assert main(["--trackers", "mt3", str(tmp_path / "other.safetensors"), "--runs", "1"]) == 2
    assert "other.safetensors" in capsys.readouterr().err


def test_a_scenario_without_weights_is_one_line(weights, capsys):
    assert main(["--scenario", "radar-1", "--runs", "1"]) == 2
    assert "mt3 has no weights for radar-1, choose of: mt3-task2" in capsys.readouterr().err


def test_compare_knows_mt3(weights, capsys):
    assert compare(["--scenario", "mt3-task2", "--trackers", "gnn", "mt3", "--runs", "1"]) == 0
    assert "mt3" in capsys.readouterr().out
    assert compare(["--scenario", "small", "--trackers", "mt3", "--runs", "1"]) == 2
    assert "mt3 has no weights for small" in capsys.readouterr().err
