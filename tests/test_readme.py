"""What README shows works."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import tracking
from sims import compare

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)


def commands():
    """Command lines of `sims.compare` in README, joined over line ends."""
    text = "\n".join(body for kind, body in BLOCKS if not kind).replace("\\\n", " ")
    return re.findall(r"-m sims\.compare (.+)", text)


@pytest.mark.parametrize("code", [body for kind, body in BLOCKS if kind == "python"])
def test_python_runs_as_pasted(code):
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 0, found.stderr
    assert len(found.stdout.splitlines()) == 10
    assert "[0 1]" in found.stdout.splitlines()[-1]


@pytest.mark.parametrize("line", commands())
def test_commands_are_understood(line):
    assert compare.parse(shlex.split(line)).trackers


def test_there_are_commands():
    assert len(commands()) >= 5


@pytest.mark.parametrize("name", re.findall(r"^make (\w+)", README, flags=re.MULTILINE))
def test_make_has_the_target(name):
    assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


def test_drawn_files_exist():
    tree = next(body for _, body in BLOCKS if body.startswith("tracking/"))
    for name in set(re.findall(r"\b[\w/]+\.py\b", tree)):
        assert list(ROOT.glob(f"*/**/{name}")), f"README draws {name}"


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
