"""Streams with late and lost messages."""

import json

import numpy as np
import pytest

from sims.streams import Half, Link, World, main, simulate, study
from tracking import GNN


def test_messages_come_as_the_link_says():
    world = World(30)
    messages, truth = simulate(world, Link(late=0.3, lost=0.2), 6.0, np.random.default_rng(0))
    assert len(messages) == 60 + 150 + 18
    assert [t for t, _ in truth] == pytest.approx(np.arange(0, 6, 0.1))
    delay = np.array([m.arrival - m.time for m in messages])
    assert np.isinf(delay).mean() == pytest.approx(0.2, abs=0.01)
    assert ((delay > 0) & (delay <= 0.3)).mean() == pytest.approx(0.3, abs=0.01)
    camera = world.sensors[1][1]
    ours = np.concatenate([m.z for m in messages if m.sensor is messages[1].sensor])
    assert len(ours)
    assert camera.detection(np.array([[1.0, 0, 0, 0], [world.side, 0, 0, 0]])).tolist() == [0.8, 0.0]
    assert Half(0.5, 1.0)(np.zeros((1, 4))).tolist() == [0.5]


def test_late_messages_are_worth_taking_in():
    link = Link(late=0.5, lost=0.0, delay=0.3)
    found = study(World(40), link, GNN, 3.0, seed=1)
    late, thrown = (found["runs"][name]["ratio"] for name in ("late", "thrown away"))
    assert found["steps_repeated"] > 20
    assert found["too_late"] == 0
    assert found["runs"]["in order"]["gospa"] < 35  # of 40 objects, all of them missed would be 45
    assert late < thrown


def test_the_program(tmp_path, capsys):
    path = tmp_path / "streams.json"
    assert main(["--objects", "10", "--seconds", "2", "--json", str(path)]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(path.read_text())
    with pytest.raises(SystemExit, match="2"):
        main(["--objects", "0"])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_thousand_objects_within_five_percent_of_the_run_in_order(seed):
    found = study(World(1000), Link(), GNN, 10.0, seed)
    assert found["late"] > 0
    assert found["runs"]["late"]["ratio"] < 1.05
