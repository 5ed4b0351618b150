"""From pixels to tracks: the whole chain, on true depth and on that of a network."""

import json
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("transformers")

from perception.depth.backbone import Backbone
from perception.depth.estimator import Estimator
from perception.depth.fuse import FUSE
from perception.pinhole import Pinhole
from sims import scene
from sims.scene import Chain, main, moments, scores_of


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    small = {"hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": 2}
    backbone = Backbone.tiny(64, **small)
    Estimator(FUSE(backbone, backbone.without_head()), 10.0, 50_000).save(path)
    return path


def test_a_film_has_no_gap_and_its_truth_is_that_of_the_room():
    film = list(moments(3, 3, "clean"))
    assert [m.time for m in film] == [50_000, 100_000, 150_000]
    for before, after in pairwise(film):
        assert before.events.t.max() <= after.events.t.min()
        assert before.events.t.max() <= before.time
    lens = Pinhole.of(scene.SIDE, scene.SIDE, scene.FOCAL)
    for m in film:
        seen = np.bincount(m.view.object[m.view.object >= 0])
        assert len(m.places) == (seen >= scene.SEEN).sum()
        uv = lens.project(m.view.pose.to_camera(m.places))
        assert ((uv > -20) & (uv < scene.SIDE + 20)).all()
    for before, after in pairwise(film):
        _, one, other = np.intersect1d(before.objects, after.objects, return_indices=True)
        assert len(one) > 1
        gone = np.linalg.norm(before.places[one] - after.places[other], axis=1)
        assert 0 < gone.max() < 0.4 * 0.05 + 1e-9  # at 0.4 m/s for 50 ms


def test_with_true_depth_objects_are_detected_and_tracked():
    rows = []
    for seed in range(3):
        chain = Chain("truth", None)
        for k, moment in enumerate(moments(seed, 10, "night")):
            outcome = chain.step(moment)
            if k >= scene.FIRST:
                rows.append(scores_of(moment, outcome))
    mean = {name: np.mean([row[name] for row in rows]) for name in rows[0]}
    assert mean["depth"] == 0
    assert mean["recall"] > 0.7
    assert mean["gospa"] < 0.6 * scene.C * mean["objects"] / 2  # of a tracker that says nothing


def test_the_program_prints_and_writes(weights, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    sheet, table = tmp_path / "s.png", tmp_path / "t.json"
    argv = ["--weights", str(weights), "--runs", "2", "--steps", "6", "--kinds", "both", "frames", "events"]
    assert main([*argv, "--sheet", str(sheet), "--json", str(table)]) == 0
    out = capsys.readouterr().out
    assert "objects can be seen" in out
    found = json.loads(table.read_text())
    assert set(found["kinds"]) == {"both", "frames", "events"}
    assert len(found["kinds"]["both"]) == 2
    assert sheet.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("option", "name", "needs"), [("--film", "f.mp4", "av"), ("--rrd", "f.rrd", "rerun")]
)
def test_what_it_showed_is_written(tmp_path, option, name, needs):
    pytest.importorskip(needs)
    assert main(["--runs", "1", "--steps", "5", "--kinds", "truth", option, str(tmp_path / name)]) == 0
    assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--steps", "3"], "more than"),
        (["--weights", "nothing"], "nothing"),
        (["--condition", "fog"], "fog"),
        (["--kinds", "radar"], "radar"),
    ],
)
def test_bad_arguments_are_one_line(argv, says, capsys):
    try:
        status = main(argv)
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert says in capsys.readouterr().err.strip().splitlines()[-1]


def test_what_cannot_be_seen_now_counts_neither_for_nor_against():
    moment = next(iter(moments(0, 1, "clean")))
    pose = moment.view.pose
    ahead = pose.to_world(np.array([[0.0, 0.0, 2.0]]))
    behind, aside = pose.to_world(np.array([[0.0, 0.0, -2.0], [8.0, 0.0, 2.0]]))
    near_hidden = moment._replace(places=ahead + 3.0, hidden=ahead + 0.2)
    near_seen = moment._replace(places=ahead + 0.1, hidden=ahead + 0.2)
    assert len(scene.scored(near_seen, np.concatenate((ahead, [behind, aside])))) == 1
    assert len(scene.scored(near_hidden, ahead)) == 0
    alone = moment._replace(places=np.zeros((0, 3)), hidden=np.zeros((0, 3)))
    assert len(scene.scored(alone, ahead)) == 1  # a track of nothing is false
    assert len(scene.scored(alone, np.zeros((0, 3)))) == 0


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--film", "f.avi"], "--film"),
        (["--seed", "9" * 20], "18 digits"),
        (["--seed", "9" * 5000], "18 digits"),
    ],
)
def test_what_could_not_be_done_is_said_before_anything_is_computed(argv, says, monkeypatch, capsys):
    monkeypatch.setattr(scene, "simulate", lambda args: pytest.fail("it began"))
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    assert says in capsys.readouterr().err


def test_outputs_that_need_a_package_are_refused_without_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as end:
        main(["--rrd", str(tmp_path / "f.rrd")])
    assert end.value.code == 2
    assert "viz extra" in capsys.readouterr().err


def test_the_largest_seed_draws_a_room():
    assert len(list(moments(10**18 - 1, 1, "clean"))) == 1
