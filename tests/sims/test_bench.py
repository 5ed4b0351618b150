"""The benchmark measures what it says, writes what it promises, and refuses what it cannot do in one line."""

import importlib.util
import json
import os
import time
from contextlib import suppress

import numpy as np
import pytest
from rich.console import Console

from sims.bench import child, command, endurance, events, kernels, measure, naive, scaling, table, threads
from sims.bench.child import CutOff, Task, limited, peak_memory, track_within
from sims.bench.command import main
from sims.evaluate import errors, scene_of, track
from sims.parallel import Workers
from sims.scenarios import scenario
from sims.trackers import TRACKERS, settings_of
from tracking.association.belief import belief
from tracking.association.murty import k_best

QUICK = ["--scenario", "small", "--trackers", "gnn", "plain", "truth", "--runs", "2", "--scans", "8"]


class Slow:
    """Takes so much CPU time from its third scan on."""

    def __init__(self, seconds):
        self.seconds, self.scans = seconds, 0

    def step(self, z, t):
        self.scans += 1
        end = time.process_time() + (self.seconds if self.scans >= 3 else 0)
        while time.process_time() < end:
            with suppress(Exception):  # as careless trackers do
                sum(range(1000))
        return self.scans


SCANS = [(None, float(k)) for k in range(6)]


# ---------------------------------------------------------------- one measurement


def test_a_measurement_is_that_of_the_tracker_on_the_scene():
    found = child.measure(Task("small", 0, "gnn", 3, 1, 12, 10.0))
    problem = scenario("small")
    scene = scene_of(problem, 3, 1)
    tracks = track(TRACKERS["gnn"](problem, **settings_of(problem, "gnn")), scene, 12).tracks
    expected = errors(problem, [scene.truth.at(k) for k in range(12)], [t.mean for t in tracks]).mean(axis=0)
    assert found["gospa"] == expected.tolist()
    assert found["scans"] == len(found["cpu"]) == 12
    assert all(0 < seconds < 1 for seconds in found["cpu"])
    assert found["peak_mb"] > 50
    json.dumps(found, allow_nan=False)


def test_a_process_of_its_own_says_the_same_with_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    task = Task("small", 0, "plain", 0, 0, 10, 10.0)
    here, there = child.measure(task), measure.in_fresh_process(task)
    assert there["gospa"] == here["gospa"]
    assert set(measure.ONE_THREAD.values()) == {"1"}


def test_a_failing_process_says_what_failed(capfd):
    with pytest.raises(RuntimeError, match=r"nobody failed on run 4 of seed 9 of small \(exit status 1\)"):
        measure.in_fresh_process(Task("small", 0, "nobody", 9, 4, 2, 10.0))
    assert "KeyError" in capfd.readouterr().err


def test_a_slow_tracker_is_cut_off_in_the_scan_that_is_slow():
    started = time.process_time()
    tracks, cpu = track_within(Slow(30.0), SCANS, 0.2, 2.0)
    assert tracks == [1, 2]
    assert len(cpu) == 2
    assert time.process_time() - started < 3
    tracks, _ = track_within(Slow(0.15), SCANS, 10.0, 0.4)  # quick enough each, too slow in all
    assert tracks == [1, 2, 3, 4]


def spin():
    while True:
        pass


def test_waiting_is_not_computing():
    with limited(0.05):
        time.sleep(0.2)
    with pytest.raises(CutOff), limited(0.05):
        spin()


def test_memory_is_of_this_process():
    before = peak_memory()
    block = np.ones(20_000_000)
    assert peak_memory() - before > 100e6 or peak_memory() > block.nbytes
    assert before > 30e6


# ---------------------------------------------------------------- turns


def test_trackers_take_turns_and_what_was_cut_off_is_not_tried_again(monkeypatch):
    order = []

    def measured(task):
        order.append((task.run, task.tracker))
        done = 1 if task.tracker == "slow" else 3
        return {
            "scans": 3,
            "cpu": [0.5] * done,
            "peak_mb": 1.0,
            "gospa": None if done < 3 else [4.0, 3.0, 1.0, 0.0],
            "settings": {},
        }

    monkeypatch.setattr(measure, "in_fresh_process", measured)
    found = measure.take_turns(
        lambda name, run: Task("small", 0, name, 0, run, None, 1.0),
        ["slow", "quick"],
        3,
        Workers(),
        lambda: None,
    )
    assert order == [(0, "slow"), (0, "quick"), (1, "quick"), (2, "quick")]
    rows = table.scenario_document(scenario("small"), found)["trackers"]
    assert (rows["slow"]["finished"], rows["slow"]["gospa"], rows["slow"]["scans_done"]) == (False, None, [1])
    assert (rows["quick"]["gospa"], rows["quick"]["ci95"]) == (4.0, [4.0, 4.0])
    assert rows["quick"]["ratio"] == {"to": "slow", "gospa": None, "gospa_minus": None, "cpu": 1.0}


# ---------------------------------------------------------------- the command line


@pytest.fixture
def in_this_process(monkeypatch):
    """Fresh processes take seconds to start; what they measure is tested above."""
    monkeypatch.setattr(measure, "in_fresh_process", lambda task: json.loads(json.dumps(child.measure(task))))


@pytest.mark.usefixtures("in_this_process")
def test_tables_and_json(tmp_path, capfd):
    file = tmp_path / "bench.json"
    assert main([*QUICK, "--seed", "4", "--json", str(file)]) == 0
    out, _ = capfd.readouterr()
    assert out.startswith("small: 10 objects")
    assert "2 runs of 8 scans" in out
    assert "peak of the whole" in out
    result = json.loads(file.read_text())
    assert (result["seed"], result["runs"]) == (4, 2)
    assert result["settings"] == {"cap_s": 10, "scans": 8}
    assert {"cpus", "python", "numpy", "numba"} <= set(result["machine"])
    assert os.uname().nodename not in file.read_text()
    rows = result["scenarios"]["small"]["trackers"]
    assert list(rows) == ["gnn", "plain", "truth"]
    for row in rows.values():
        assert row["gospa"] == pytest.approx(row["localisation"] + row["missed"] + row["false"])
        assert row["scans_done"] == row["scans"] == [8, 8]
        assert 0 < row["cpu_ms_per_scan"]["median"] <= row["cpu_ms_per_scan"]["p95"]
        assert row["peak_mb"] > 50
        assert row["ratio"]["to"] == "plain"
    assert rows["plain"]["ratio"]["gospa"] == rows["plain"]["ratio"]["cpu"] == 1
    assert rows["truth"]["gospa"] < rows["gnn"]["gospa"]


@pytest.mark.slow
def test_numbers_do_not_depend_on_processes(tmp_path, capfd):
    found = []
    for jobs in ("1", "2"):
        file = tmp_path / f"{jobs}.json"
        assert main([*QUICK, "--jobs", jobs, "--json", str(file)]) == 0
        rows = json.loads(file.read_text())["scenarios"]["small"]["trackers"]
        found.append([row["gospa_of_runs"] for row in rows.values()])
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("stonesoup") is None, reason="the peers extra is not installed")
def test_stone_soup_runs_on_the_same_scenes(tmp_path, capfd):
    file = tmp_path / "bench.json"
    argv = ["--scenario", "small", "--trackers", "plain", "truth", "--runs", "1", "--scans", "25", "--peers"]
    assert main([*argv, "--json", str(file)]) == 0
    rows = json.loads(file.read_text())["scenarios"]["small"]["trackers"]
    assert list(rows) == ["plain", "truth", "stonesoup-gnn", "stonesoup-jpda", "stonesoup-phd"]
    for name in list(rows)[2:]:
        assert rows["truth"]["gospa"] < rows[name]["gospa"] < 2 * rows["plain"]["gospa"]


def test_defaults():
    args = command.parse([])
    assert [s.name for s in args.scenario] == ["small", "dense", "large", "huge", "mega"]
    assert (args.runs, args.scans, args.cap) == (5, None, 10)
    assert "plain" in command.trackers_of(args)
    args = command.parse(["--scaling"])
    assert (scaling.OBJECTS[0], scaling.OBJECTS[-1]) == (10, 10_000)
    assert command.trackers_of(args) == ["pmbm", "lmb", "gnn", "plain"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--scenario", "nowhere"], "unknown scenario 'nowhere'"),
        (["--trackers", "kalman"], "unknown tracker 'kalman', choose of: pmbm"),
        (["--runs", "0"], "must be a whole number >= 1, got '0'"),
        (["--cap", "-1"], "must be a whole number >= 1, got '-1'"),
        (["--json", "no/such/folder/out.json"], "is not a folder to write to"),
        (["--scaling", "--kernels"], "--scaling goes without --kernels"),
        (["--scaling", "--scenario", "small"], "--scenario goes without --scaling"),
        (["--plot", "x.png"], "--plot goes with --scaling"),
        (["--kernels", "--trackers", "gnn"], "--kernels goes without --trackers"),
        (["--threads", "2", "--peers"], "--threads goes without --trackers, --peers"),
        (["--threads", "2", "--scaling"], "--scaling goes without --threads"),
        (["--jobs", "2", "--cluster", "tcp://127.0.0.1:1"], "--cluster goes without --jobs"),
        (["--cluster", "here"], "'here' is no address of a cluster"),
    ],
)
def test_bad_input_is_one_line_and_status_2(argv, says, capsys):
    try:
        status = main(argv)
    except SystemExit as stop:  # argparse leaves this way
        status = stop.code
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("python -m sims.bench: ")
    assert says in err


def test_peers_without_stone_soup_say_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        main(["--peers"])
    assert "pip install '.[peers]'" in capsys.readouterr().err


def test_a_failure_is_one_line_after_what_the_process_said(monkeypatch, capfd):
    monkeypatch.setattr(
        command, "take_turns", lambda *_: measure.in_fresh_process(Task("small", 0, "x", 0, 0, 1, 1.0))
    )
    assert main(QUICK) == 1
    err = capfd.readouterr().err
    assert err.splitlines()[-1].startswith("python -m sims.bench: x failed on run 0")


# ---------------------------------------------------------------- scaling


def test_the_exponent_is_that_of_the_power_law():
    n = np.array(scaling.OBJECTS)
    assert scaling.growth(n, 0.02 * n**1.15) == pytest.approx(1.15)
    bent = 1.0 + 0.02 * n  # a constant, and proportional to n
    assert scaling.growth(n, bent) < scaling.growth(n, bent, start=100) < 1
    rng = np.random.default_rng(0)
    assert scaling.growth(n, 0.1 * n * np.exp(rng.normal(0, 0.1, len(n)))) == pytest.approx(1, abs=0.1)
    assert scaling.growth([10, 100], [1.0, 2.0], start=100) is None


def test_the_density_is_that_of_large():
    large = scenario("large")
    for n in (10, 1000):
        same = scaling.at_density(n, 3)
        assert n / same.survival.upper[0] ** 2 == pytest.approx(100 / large.survival.upper[0] ** 2)
        assert same.sensor.clutter_intensity == pytest.approx(large.sensor.clutter_intensity)
    assert settings_of(same, "pmbm") == settings_of(large, "pmbm")
    assert len(scene_of(same, 0, 0)) == 3


@pytest.mark.usefixtures("in_this_process")
def test_scaling_prints_and_draws(tmp_path, capfd):
    pytest.importorskip("matplotlib", reason="the viz extra is not installed")
    argv = ["--scaling", "--objects", "20", "5", "--trackers", "gnn", "plain", "--scans", "6"]
    assert main([*argv, "--plot", str(tmp_path / "s.png"), "--json", str(tmp_path / "s.json")]) == 0
    result = json.loads((tmp_path / "s.json").read_text())["scaling"]
    assert result["objects"] == [5, 20]
    for row in result["trackers"].values():
        assert list(row["sizes"]) == ["5", "20"]
        assert np.isfinite(row["exponent"])
        assert row["exponent_from_100"] is None
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    assert "exponent" in capfd.readouterr().out


# ---------------------------------------------------------------- parts


def test_the_naive_parts_compute_the_same():
    rng = np.random.default_rng(0)
    for n, m in ((3, 5), (6, 6), (8, 12)):
        cost = rng.random((n, m))
        np.testing.assert_allclose(naive.k_best(cost, 40), k_best(cost, 40)[0])
    assert len(naive.k_best(np.eye(2), 40)) == 2
    tracks = kernels.scene_of(rng, 200)
    for ours, other in zip(kernels.kalman(tracks), naive.kalman(tracks), strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-9, atol=1e-9)
    case = kernels.pairs_of(tracks)
    offset, _, col, weight, m = case
    np.testing.assert_allclose(naive.belief(case), belief(offset, col, weight, m).pair, atol=1e-5)


def test_threads_are_timed(capsys):
    assert command.main(["--threads", "2", "--objects", "20"]) == 0
    assert "2 threads" in capsys.readouterr().out
    row = threads.measure(20, 2, 0)
    assert row["speed_up"] == pytest.approx(row["ms_one"] / row["ms"])


def test_kernels_are_timed():
    found = [kernels.timed(kernel) for kernel in kernels.kernels(0, repeats=2, tracks=50)]
    assert [row["of"] for row in found] == [
        "10 x 20",
        "30 x 60",
        "100 x 200",
        "50 tracks",
        "50 tracks",
        "5 tracks",
    ]
    for row in found:
        assert row["ms"] > 0
        assert row["p05"] <= row["ms"] <= row["p95"]
        assert row["other_ms"] > 0


def test_events_are_timed_beside_whoever_is_there(tmp_path, capsys):
    found = events.operations(2000, 3, tmp_path, peers=("tonic",))
    assert {"voxel grid, 5 bins", "background activity", "camera, noisy pixels", "read evt3.raw"} <= set(
        found
    )
    rows = {}
    for name in ("voxel grid, 5 bins", "refractory", "read dat", "camera, noisy pixels"):
        rows[name] = events.timed(found[name], None if name.startswith("camera") else 2000, rounds=2)
        for row in rows[name].values():
            assert row["ms"] > 0
            assert row["mev_per_s"] == pytest.approx(row["events"] / row["ms"] / 1e3)
    memory = events.streamed(1_000_000, tmp_path)
    assert memory["events"] == 1_000_000
    assert 30 < memory["peak_mb"] < 1000
    table.show_events(
        {"about": "few", "operations": rows, "versions": {}, "streaming": [memory]}, Console(width=120)
    )
    said = capsys.readouterr().out
    assert "Million events" in said
    assert "camera, noisy pixels" in said


def test_endurance_measures_on_the_way(tmp_path, capsys):
    path = tmp_path / "e.json"
    assert endurance.main(["--scans", "200", "--trackers", "gnn", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["trackers"]["gnn"]
    assert [row["scans"] for row in rows] == [2, 20, 100, 200]
    assert all(row["mb"] > 20 and row["ms"] > 0 for row in rows)
    assert 2 <= rows[-1]["most_tracks"] < 30
    assert "gnn" in capsys.readouterr().out
