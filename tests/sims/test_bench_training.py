"""How fast MT3 trains: the program runs and says so."""

import json

import pytest

from sims.bench import training


def test_speed_is_measured_and_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training, "BATCHES", 2)
    path = tmp_path / "t.json"
    argv = ["--scenario", "mt3-task1", "--networks", "trajectory-S", "--batch", "1", "--seconds", "0.01"]
    assert training.main([*argv, "--device", "cpu", "--json", str(path)]) == 0
    found = json.loads(path.read_text())["found"]
    assert found["simulator"]["windows_per_s"] > 10
    row = found["trajectory-S, batch 1"]
    assert row["windows_per_s"] * row["ms_per_step"] == pytest.approx(1000)
    assert "trajectory-S, batch 1" in capsys.readouterr().out


def test_unknown_networks_are_one_line(capsys):
    with pytest.raises(SystemExit) as end:
        training.main(["--networks", "huge"])
    assert end.value.code == 2
    assert "trajectory-S" in capsys.readouterr().err
