"""The API reference: a page for every module, the docstrings in it."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pdoc", reason="pages are built by pdoc, of the extra dev")

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_every_module_has_its_page(tmp_path):
    done = subprocess.run(
        [sys.executable, "docs/reference/build.py", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    left_out = {line.split()[0] for line in done.stderr.splitlines() if "is left out" in line}
    assert all("is left out" in line for line in done.stderr.splitlines()), done.stderr
    for package in ("tracking", "perception", "adapt", "sims"):
        for file in (ROOT / package).rglob("[!_]*.py"):
            path = file.relative_to(ROOT).with_suffix("")
            if ".".join(path.parts) not in left_out:
                assert (tmp_path / path).with_suffix(".html").exists(), path
    page = (tmp_path / "tracking" / "filters" / "pmbm.html").read_text()
    assert "direct derivation and implementation" in page
    assert "<strong>max_hypotheses</strong>: global hypotheses kept in a cluster" in page
    assert "does not depend" in page
    public = (tmp_path / "adapt.html").read_text()
    assert 'id="adapt"' in public  # brought when asked for, documented all the same
