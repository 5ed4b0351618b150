"""The first example of each page of docs runs as it stands."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.slow
@pytest.mark.parametrize("page", ["adapt", "data_free", "diffusion", "mt3"])
def test_the_first_example_runs(page, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    block = re.search(r"```python\n(.*?)```", (DOCS / page / "README.md").read_text(), re.DOTALL)
    assert block is not None
    monkeypatch.chdir(tmp_path)
    exec(compile(block[1], str(DOCS / page / "README.md"), "exec"), {"__name__": "example"})
