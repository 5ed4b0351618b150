"""The studies of manoeuvres and of trajectories run, and find what they are there to find."""

import json

import numpy as np
import pytest

from sims.studies import manoeuvres, trajectories


def test_objects_fly_straight_and_turn():
    truth = manoeuvres.truth(np.random.default_rng(0)).states
    assert truth.shape == (manoeuvres.OBJECTS, manoeuvres.SCANS, 5)
    turning = truth[..., 4] != 0
    assert 0.2 < turning.mean() < 0.6
    assert np.abs(truth[..., 4]).max() <= manoeuvres.TURN[1]
    heading = np.unwrap(np.arctan2(truth[..., 3], truth[..., 2]), axis=1)
    turned = np.abs(np.diff(heading, axis=1))
    assert turned[turning[:, 1:]].min() > 0.08
    assert turned[~turning[:, 1:]].max() < 0.05


def test_several_models_follow_turns_better_than_one():
    """Settings as the study chose them, on scenes that it did not see."""
    rows = {
        arm: np.array([manoeuvres.score("gnn", arm, settings, 500 + s)[1] for s in range(12)])
        for arm, settings in (("cv", (16.0,)), ("ct", (3.0, 0.03)), ("imm", (0.3, 0.12)))
    }
    for arm in ("cv", "ct"):
        gap = rows[arm] - rows["imm"]
        assert gap.mean() - 2.2 * gap.std(ddof=1) / np.sqrt(len(gap)) > 0, arm


def test_the_program_of_manoeuvres(tmp_path, capsys, monkeypatch):
    few = {arm: (make, grid[:2]) for arm, (make, grid) in manoeuvres.ARMS.items()}
    monkeypatch.setattr(manoeuvres, "ARMS", few)
    monkeypatch.setattr(manoeuvres, "SCANS", 8)
    path = tmp_path / "found.json"
    assert manoeuvres.main(["--tracker", "gnn", "--seeds", "2", "--tuning", "1", "--json", str(path)]) == 0
    assert "minus imm" in capsys.readouterr().out
    found = json.loads(path.read_text())
    assert set(found["arms"]) == {"cv", "ct", "imm"}
    for arm, row in found["arms"].items():
        best = min(found["choice"][arm], key=lambda c: c["gospa"])
        assert row["settings"] == best["settings"]
        assert row["gospa"]["mean"] == pytest.approx(np.mean(row["gospa"]["runs"]))


def test_a_longer_window_places_objects_better():
    runs = [{arm: trajectories.score(arm, s) for arm in ("tpmbm 1", "tpmbm 5", "tpmbm 10")} for s in (1, 2)]
    for found in runs:
        one, five, ten = (found[arm][1] for arm in ("tpmbm 1", "tpmbm 5", "tpmbm 10"))
        assert ten < five < one  # localisation
        assert found["tpmbm 1"][2:5] == found["tpmbm 10"][2:5]  # who was there does not depend on it


def test_the_program_of_trajectories(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(trajectories, "SCANS", 8)
    path = tmp_path / "found.json"
    assert trajectories.main(["--seeds", "2", "--json", str(path)]) == 0
    assert "minus tpmbm 10" in capsys.readouterr().out
    rows = json.loads(path.read_text())["methods"]
    assert tuple(rows) == trajectories.ARMS
    assert rows["tpmbm 10"]["minus_reference"] == 0.0
    for row in rows.values():
        assert row["error"] == pytest.approx(np.mean(row["runs"]))
    with pytest.raises(SystemExit, match="2"):
        trajectories.main(["--seeds", "0"])
