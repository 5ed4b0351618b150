"""What README and the first examples of events and depth show works."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import tracking
from sims import compare

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("tracking", "perception", "adapt", "sims")
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)


def commands():
    """Command lines of `sims.compare` in README, joined over line ends."""
    text = "\n".join(body for kind, body in BLOCKS if not kind).replace("\\\n", " ")
    return re.findall(r"-m sims\.compare (.+)", text)


def python_blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)


TRACKING, ADAPTATION = python_blocks(ROOT / "README.md")
EVENTS, ROOMS = python_blocks(ROOT / "docs" / "events" / "README.md")
(DEPTH,) = python_blocks(ROOT / "docs" / "depth" / "README.md")


def printed(code, folder):
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()


def test_tracking_runs_as_pasted(tmp_path):
    lines = printed(TRACKING, tmp_path)
    assert len(lines) == 10
    assert "[0 1]" in lines[-1]


def test_adaptation_is_the_example_of_its_page():
    """Which tests/test_docs_pages.py runs."""
    assert python_blocks(ROOT / "docs" / "adapt" / "README.md")[0] == ADAPTATION


def test_events_run_as_pasted(tmp_path):
    part, kept = printed(EVENTS, tmp_path)
    assert part.endswith("346 x 260) (5, 260, 346)")
    assert 0 < int(kept) < 100_000


@pytest.mark.slow
def test_rooms_run_as_pasted(tmp_path):
    (line,) = printed(ROOMS, tmp_path)
    events, *shape, depth = line.split()
    assert int(events) > 1000
    assert shape == ["(64,", "64)"]
    assert 0.5 < float(depth) < 5


@pytest.mark.slow
def test_depth_runs_as_pasted(tmp_path):
    pytest.importorskip("transformers")
    (line,) = printed(DEPTH, tmp_path)
    assert re.fullmatch(r"both \(64, 64\) \d+", line)


@pytest.mark.slow
def test_a_recording_is_described_shown_and_turned_into_images(tmp_path):
    printed(EVENTS, tmp_path)
    lines = [line for line in shell_lines("perception") if "PATH/TO" not in line]
    assert len(lines) == 3
    for line in lines:
        run_line(line, tmp_path)
    assert {"events.png", "events.gif", "images.gif"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("line", commands())
def test_commands_are_understood(line):
    assert compare.parse(shlex.split(line)).trackers


def shell_lines(rooms="sims|tracking"):
    """All commands of Python in README's blocks, as one shell would run them."""
    text = "\n".join(body for kind, body in BLOCKS if not kind).replace("\\\n", " ")
    return re.findall(rf"^\.venv/bin/python (-m (?:{rooms})\.\S+ .+)$", text, flags=re.MULTILINE)


def without_data():
    """Those that need no file, the runs of a scenario marked as slow."""
    for line in shell_lines():
        if not any(word in line for word in ("--recording", "convert")):
            yield pytest.param(line, marks=pytest.mark.slow if "--runs" in line else ())


def run_line(line, folder):
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    found = subprocess.run(
        [sys.executable, *shlex.split(line)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout or "--out" in line
    return found.stdout


@pytest.mark.parametrize("line", list(without_data()))
def test_commands_without_data_run(line, tmp_path):
    assert "pmbm" in run_line(line, tmp_path)


def test_reports_of_ships_are_converted_and_tracked(tmp_path):
    """The two commands of README, one after the other, in a folder with a small file."""
    rows = [
        f"2016-01-12T13:00:{k:02d},23500000{i},50.7{k:02d},-1.{2 + i}" for k in range(60) for i in range(3)
    ]
    (tmp_path / "REPORTS.csv").write_text("\n".join(["Time,MMSI,Latitude,Longitude", *rows]) + "\n")
    convert, track = (line for line in shell_lines() if "ais.csv" in line)
    assert "180 rows of 3 objects in 60 scans" in run_line(convert, tmp_path)
    found = run_line(track, tmp_path)
    assert "csv: 60 scans" in found
    assert re.search(r"^pmbm +ais", found, flags=re.MULTILINE)


def test_pedestrians_are_converted(tmp_path):
    (tmp_path / "walk.txt").write_text("".join(f"{10 * k} 1 {0.5 * k} 2.0\n" for k in range(5)))
    found = run_line("-m tracking.formats.convert pedestrians walk.txt walk.csv", tmp_path)
    assert found.startswith("5 rows of 1 objects in 5 scans")
    assert (tmp_path / "walk.csv").read_text().startswith("time,x,y,id\n")


def test_boxes_are_tracked(tmp_path):
    row = "{0},{1},{2},20,30,60,{3},-1,-1,-1\n"
    for name, label, score in (("det", -1, 0.9), ("gt", 1, 1)):
        lines = (row.format(k, label, 10 + 2 * k, score) for k in range(1, 20))
        (tmp_path / f"{name}.txt").write_text("".join(lines))
    (line,) = (line for line in shell_lines() if "--recording mot" in line)
    assert "mot: 19 scans" in run_line(line, tmp_path)


def test_there_are_commands():
    assert len(commands()) >= 5


@pytest.mark.parametrize("name", re.findall(r"^make (\w+)", README, flags=re.MULTILINE))
def test_make_has_the_target(name):
    assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


def test_drawn_files_exist():
    tree = next(body for _, body in BLOCKS if body.startswith("tracking/"))
    there = [path.as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    for name in set(re.findall(r"\b[\w/]+\.py\b", tree)):
        assert any(path.endswith(f"/{name}") for path in there), f"README draws {name}"


def test_links_lead_somewhere():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*/README.md")]
    for page in pages:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_named_programs_exist():
    for name in re.findall(r"`(sims\.studies\.\w+)`", README):
        assert (ROOT / name.replace(".", "/")).with_suffix(".py").exists(), name


def test_named_filters_are_public():
    for name in (
        "PMBM",
        "GLMB",
        "LMB",
        "PMB",
        "GMPHD",
        "CPHD",
        "GNN",
        "ScoreModel",
        "Confidence",
        "Occlusion",
    ):
        assert hasattr(tracking, name)


def test_import_tracking_brings_no_deep_learning():
    heavy = ("torch", "tonic", "open3d", "flwr", "diffusers")
    code = f"import sys, tracking; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=ROOT
    )
    assert found.stdout.strip() == "[]"
