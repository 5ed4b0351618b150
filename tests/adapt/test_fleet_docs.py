"""The examples of docs/federated and docs/black_box run as they are printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("federated", r"(\([\d, ]+\) \d\.\d+ \[\]\n){3}"),
        ("black_box", r"\{'one': (\d+), 'two': (\d+), 'three': (\d+)\} (0|1)\.\d+\n"),
    ],
)
def test_examples_run_as_pasted(name, pattern, tmp_path):
    text = (ROOT / "docs" / name / "README.md").read_text()
    code = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[0]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600
    )
    assert found.returncode == 0, found.stderr
    assert re.fullmatch(pattern, found.stdout), found.stdout
