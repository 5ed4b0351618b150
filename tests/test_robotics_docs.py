"""The snippets of docs/robotics run as they stand, in order."""

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "docs" / "robotics" / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.S)


def test_there_are_some():
    assert len(SNIPPETS) == 6


@pytest.mark.parametrize("first", [0, 1])
def test_snippets_run(first):
    """The first one needs filterpy, the others build on each other."""
    if first == 0:
        pytest.importorskip("filterpy", reason="filterpy is in the extra `robotics`")
    names: dict = {}
    for snippet in SNIPPETS[:1] if first == 0 else SNIPPETS[1:]:
        exec(compile(snippet, "docs/robotics/README.md", "exec"), names)
