"""The command line: exit status, one line of error, table on standard output, a whole JSON file or none."""

import json
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager

import pytest

from sims import compare
from sims.compare import main
from sims.scenarios import SCENARIOS
from sims.trackers import TRACKERS
from tracking import notice

QUICK = ["--scenario", "mt3-task1", "--trackers", "gnn", "pmb", "--runs", "2"]


def test_table_on_standard_output_json_in_the_file_nothing_else(tmp_path, capsys):
    file = tmp_path / "out.json"
    assert main([*QUICK, "--seed", "5", "--json", str(file)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("mt3-task1: noise-free smoke test")
    assert "2 runs of seed 5" in out
    assert err == ""
    result = json.loads(file.read_text())
    assert (result["scenario"], result["seed"], result["runs"]) == ("mt3-task1", 5, 2)
    assert list(result["trackers"]) == ["gnn", "pmb"]
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_the_same_command_gives_the_same_numbers(tmp_path, capsys):
    results = []
    for seed in ("0", "0", "1"):
        file = tmp_path / "out.json"
        argv = ["--scenario", "mt3-task2", "--runs", "2", "--trackers", "pmb", "gnn"]
        assert main([*argv, "--seed", seed, "--json", str(file)]) == 0
        trackers = json.loads(file.read_text())["trackers"]
        for row in trackers.values():
            del row["cpu_ms_per_scan"]
        results.append(trackers)
    assert results[0] == results[1] != results[2]


def test_defaults_are_the_demonstration():
    args = compare.parse([])
    assert args.scenario.name == "crossing"
    assert args.trackers == ["pmbm", "glmb", "lmb", "gnn"]
    assert args.runs == 10
    assert compare.parse(["--scenario", "small"]).runs == SCENARIOS["small"].runs
    assert compare.parse(["--trackers", "gnn", "pmb", "gnn"]).trackers == ["gnn", "pmb"]


def test_list_names_everything(capsys):
    assert main(["--list"]) == 0
    out = capsys.readouterr().out
    for name in SCENARIOS:
        assert f"\n{name} " in "\n" + out
    assert out.splitlines()[-1].split()[1:] == list(TRACKERS)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--scenario", "nowhere"], "unknown scenario 'nowhere', choose one of: crossing, williams15"),
        (["--trackers", "gnn", "kalman"], "unknown tracker 'kalman', choose of: pmbm, glmb"),
        (["--trackers", "no.safetensors"], "or give a file of weights of MT3"),
        (["--trackers"], "expected at least one argument"),
        (["--runs", "0"], "must be a whole number >= 1, got '0'"),
        (["--jobs", "x"], "must be a whole number >= 1, got 'x'"),
        (["--seed", "-1"], "must be a whole number >= 0, got '-1'"),
        (["--seed", "1.5"], "must be a whole number >= 0"),
        (["--json", "no/such/folder/out.json"], "is not a folder to write to"),
        (["--json", "."], "is not an ordinary file"),
        (["--scen", "small"], "unrecognized arguments: --scen small"),
        (["--cluster", "tcp://127.0.0.1:1", "--jobs", "2"], "--cluster goes without --jobs"),
        pytest.param(
            ["--cluster", "tcp://127.0.0.1:1"],
            "no cluster answers at 'tcp://127.0.0.1:1'",
            marks=pytest.mark.slow,
        ),
        (["--cluster", "nonsense://x"], "'nonsense://x' is no address of a cluster"),
        (["--cluster", ""], "'' is no address of a cluster"),
        (["--recording", "kitti", "x", "--cluster", "tcp://x:1"], "--recording goes without --cluster"),
        (["--recording", "kitti", "x", "--scenario", "small"], "--recording goes without --scenario"),
        (["--recording", "film", "x"], "film"),
        (["--recording", "csv", "no/such/file.csv"], "no/such/file.csv"),
        (["--recording", "csv", "x", "--trackers", "gnn", "mt3"], "--recording goes with pmbm, glmb"),
        (["--labels", "gt.txt"], "--labels goes with --recording"),
        (["--results", "out"], "--results goes with --recording"),
        (["--recording", "csv", "x", "--labels", "gt.txt"], "--labels goes with kitti and mot"),
        (["--recording", "csv", "x", "--results", __file__], "is not a folder"),
    ],
)
def test_bad_input_is_one_line_and_status_2(argv, says, capsys):
    try:
        status = main(argv)
    except SystemExit as stop:  # argparse leaves this way
        status = stop.code
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("python -m sims.compare: ")
    assert says in err


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_interrupted_leaves_the_old_file_whole(jobs, tmp_path, monkeypatch, capsys):
    file = tmp_path / "out.json"
    file.write_text("before")

    @contextmanager
    def progress(what, total):
        def advance():
            raise KeyboardInterrupt

        yield advance

    monkeypatch.setattr(compare, "progress", progress)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main([*QUICK, "--jobs", jobs, "--json", str(file)]) == 130
    out, err = capsys.readouterr()
    assert (out, err) == ("", "python -m sims.compare: interrupted\n")
    assert file.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_costs_the_file_not_the_table(tmp_path, monkeypatch, capsys):
    @contextmanager
    def full(path):
        raise OSError(28, "No space left on device")
        yield

    monkeypatch.setattr(compare.program, "atomic_write", full)
    assert main([*QUICK, "--json", str(tmp_path / "out.json")]) == 1
    out, err = capsys.readouterr()
    assert "gnn" in out
    assert err.count("\n") == 1
    assert "No space left on device" in err


def test_chosen_thresholds_are_used_and_told(tmp_path, capsys):
    file = tmp_path / "out.json"
    argv = ["--scenario", "mt3-task2", "--trackers", "gnn", "lmb", "--runs", "2"]
    assert main([*argv, "--choose-threshold", "--choose-runs", "3", "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    choice = result["settings"]["threshold_choice"]
    assert (choice["seed"], choice["runs"]) == (1_000_003, 3)
    for name, row in result["trackers"].items():
        assert row["settings"]["threshold"] == choice["thresholds"][name]
    assert result["trackers"]["lmb"]["settings"]["estimator"] == "marginal"
    assert "Thresholds chosen on 3 scenes of seed 1000003: gnn 0." in capsys.readouterr().out


def test_slow_compilation_is_announced_and_nothing_else(monkeypatch, capsys):
    monkeypatch.setattr(notice, "SLOW", 0.05)

    class Numba:
        def __init__(self, buffer):
            self.buffer = buffer

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    for events, said in (
        ([], ""),
        (["compile"], "compiling the filters' inner loops (once, cached on disk)\n"),
    ):
        monkeypatch.setattr(notice.event, "install_recorder", lambda kind, events=events: Numba(events))
        with notice.notice_of_compilation():
            time.sleep(0.3)
        assert capsys.readouterr().err == said


def test_it_runs_as_a_program_and_loads_neither_windows_nor_networks():
    code = (
        "import sys; from sims.compare import main; main(sys.argv[1:]); "
        "print(sorted({'torch', 'matplotlib', 'tkinter', 'urllib3', 'requests'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, *QUICK], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_leaves_early_is_no_crash():
    command = [sys.executable, "-m", "sims.compare", *QUICK]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == 1
