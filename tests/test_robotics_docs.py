"""The snippets of docs/robotics run as they stand, in order."""

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "docs" / "robotics" / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.S)


def test_there_are_some():
    assert len(SNIPPETS) == 7


@pytest.mark.parametrize("first", [0, 1, 2])
def test_snippets_run(first, monkeypatch):
    """The first ones need libraries of robotics, the others build on each other."""
    monkeypatch.chdir(Path(__file__).parents[1])
    if first < 2:
        for name in (("rosbags", "mcap"), ("filterpy",))[first]:
            pytest.importorskip(name, reason=f"{name} is in the extra `robotics`")
    names: dict = {}
    for snippet in SNIPPETS[first : first + 1] if first < 2 else SNIPPETS[2:]:
        exec(compile(snippet, "docs/robotics/README.md", "exec"), names)
