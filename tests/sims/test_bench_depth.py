"""The program that times depth, points and detections."""

import json

import pytest

pytest.importorskip("transformers")

from sims.bench import depth


def test_it_times_each_part_once_and_writes(tmp_path, capsys):
    path = tmp_path / "d.json"
    assert depth.main(["--sides", "32", "--seconds", "0.001", "--json", str(path)]) == 0
    found = json.loads(path.read_text())["found"]
    assert len(found) == 7
    assert "things, 32 x 32" in found
    assert any(name.startswith("FUSE, 32 x 32") for name in found)
    assert all(row["frames_per_s"] > 0 and row["calls"] >= 5 for row in found.values())
    assert "frames/s" in capsys.readouterr().out
