"""The page of a replay: its numbers are the table's, its names are text, its file is whole or not there."""

import base64
import hashlib
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from sims import compare, evaluate
from sims.compare import main
from sims.report import command, rrd
from sims.report.document import TRACK, document
from sims.report.page import as_data, page
from sims.report.replay import LARGEST, Replay, of_scenario, positions, require_room, velocity_of
from sims.scenarios import scenario
from sims.trackers import settings_of
from tracking.models import ConstantVelocity, FunctionSensor, RandomWalk, RangeBearing, RangeBearingDoppler
from tracking.tracks import Tracks

NASTY = "</script><img src=x onerror=alert(1)><!--<script>&\u2028"
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
KITTI_ROWS = "".join(f"{k},2,600,150,700,220,9,1.5,1.6,4,0.1,1.6,{20 + k},0,0\n" for k in range(8))
KITTI_TRUTH = "".join(f"{k} 1 Car 0 0 0 600 150 700 220 1.5 1.6 4 0.1 1.6 {20 + k} 0\n" for k in range(8))


def replay_of(name="crossing", *trackers, seed=0):
    problem = scenario(name)
    return of_scenario(problem, {t: settings_of(problem, t) for t in trackers or ("gnn",)}, seed)


@pytest.fixture(scope="module")
def crossing():
    return replay_of("crossing", "gnn", "pmb")


def data_of(text):
    (found,) = DATA.findall(text)
    return json.loads(found)


def tracks_of(doc, tracker, k):
    """Rows (n, TRACK) of a scan."""
    return np.array(doc["trackers"][tracker]["scans"][k]).reshape(-1, TRACK)


@pytest.mark.parametrize("name", ["crossing", "williams15", "radar-1", "vo-bearing"])
def test_errors_of_every_scan_are_those_of_the_table(name):
    problem, seed = scenario(name), 3
    doc = document(replay_of(name, "gnn", seed=seed))
    shown = np.array(doc["trackers"][0]["errors"])  # (4, T)
    scene = evaluate.scene_of(problem, seed, 0)
    tracks = evaluate.track(evaluate.TRACKERS["gnn"](problem, **settings_of(problem, "gnn")), scene).tracks
    truth = [scene.truth.at(k) for k in range(len(scene))]
    power = 2 if problem.average == "rms" else 1
    counted = evaluate.errors(problem, truth, [t.mean for t in tracks])
    np.testing.assert_allclose(shown.T**power, counted, rtol=2e-5, atol=1e-9)
    scores = evaluate.run_once(problem, "gnn", settings_of(problem, "gnn"), seed, 0)
    scored = evaluate.scored_scans(problem, scene)
    np.testing.assert_allclose((shown.T**power)[scored].mean(axis=0), scores.gospa, rtol=2e-5, atol=1e-9)


def test_the_table_of_one_run_is_the_page(tmp_path, capsys):
    files = tmp_path / "out.json", tmp_path / "out.html"
    argv = ["--scenario", "mt3-task2", "--trackers", "gnn", "pmb", "--runs", "1", "--seed", "4"]
    assert main([*argv, "--json", str(files[0]), "--report", str(files[1])]) == 0
    table = json.loads(files[0].read_text())["trackers"]
    doc = data_of(files[1].read_text())
    assert [t["name"] for t in doc["trackers"]] == ["gnn", "pmb"]
    assert doc["shown"] == "run 0 of seed 4"
    for tracker in doc["trackers"]:
        row = table[tracker["name"]]
        means = dict(zip(doc["headings"], tracker["means"]))
        assert float(means["GOSPA"]) == pytest.approx(row["gospa"], abs=0.006)
        for part, values in zip(("gospa", "localisation", "missed", "false"), tracker["errors"]):
            assert values[-1] == pytest.approx(row[part], rel=1e-5)  # the last scan is scored
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.html", "out.json"]
    assert "n est/true" in capsys.readouterr().out


def test_chosen_thresholds_are_those_of_the_page(tmp_path):
    files = tmp_path / "out.json", tmp_path / "out.html"
    argv = ["--scenario", "mt3-task2", "--trackers", "gnn", "--runs", "1", "--choose-threshold"]
    argv += ["--choose-runs", "2", "--json", str(files[0]), "--report", str(files[1])]
    assert main(argv) == 0
    (tracker,) = data_of(files[1].read_text())["trackers"]
    assert tracker["errors"][0][-1] == pytest.approx(
        json.loads(files[0].read_text())["trackers"]["gnn"]["gospa"], rel=1e-5
    )


def test_what_is_drawn_is_what_was_tracked(crossing):
    doc = document(crossing)
    step, origin = doc["step"], np.array(doc["origin"])
    assert doc["step"] <= 1e-4 * 1000
    assert len(doc["time"]) == len(doc["measurements"]) == len(doc["truth"]["scans"]) == 40
    for i, scans in enumerate(crossing.tracks.values()):
        for k, tracks in enumerate(scans):
            rows = tracks_of(doc, i, k)
            labels = [doc["trackers"][i]["labels"][row] for row in rows[:, 0]]
            assert labels == [str(label) for label in tracks.label.tolist()]
            assert np.abs((rows[:, 1:3] + origin) * step - tracks.mean[:, :2]).max(initial=0) <= step
            speed = np.linalg.norm(tracks.mean[:, 2:4], axis=1)
            assert np.abs(rows[:, 7] * step - speed).max(initial=0) <= step
            assert np.abs(rows[:, 6] / 1000 - tracks.existence).max(initial=0) <= 6e-4
            assert (rows[:, 8] == (tracks.source >= 0)).all()
    for k, z in enumerate(crossing.measurements):
        drawn = (np.array(doc["measurements"][k]).reshape(-1, 2) + origin) * step
        assert np.abs(drawn - z).max(initial=0) <= step
        drawn = np.array(doc["truth"]["scans"][k]).reshape(-1, 3)
        assert np.abs((drawn[:, 1:] + origin) * step - crossing.truth.at(k)[:, :2]).max(initial=0) <= step


def test_matches_are_within_the_cutoff_and_count_misses_and_false(crossing):
    doc, c = document(crossing), 20.0
    for i, tracker in enumerate(doc["trackers"]):
        for k in range(40):
            match = tracks_of(doc, i, k)[:, 9]
            objects = np.array(doc["truth"]["scans"][k]).reshape(-1, 3)[:, 0]
            matched = match[match >= 0]
            assert len(set(matched)) == len(matched)
            assert set(matched) <= set(objects)
            assert tracker["errors"][2][k] == pytest.approx(c / 2 * (len(objects) - len(matched)))
            assert tracker["errors"][3][k] == pytest.approx(c / 2 * (match < 0).sum())


def test_ellipses_are_turned_as_the_covariance():
    cov = np.zeros((1, 4, 4))
    cov[0, :2, :2] = [[5.0, 3.0], [3.0, 5.0]]  # variances 8 along the diagonal, 2 across
    none = np.zeros(1, np.int64)
    tracks = Tracks(0.0, none, np.array([[50.0, 40.0, 3.0, 4.0]]), cov, np.ones(1), none - 1)
    doc = document(Replay("t", "", "", np.zeros(1), {"one": [tracks]}, velocity=2))
    label, _, _, major, minor, angle, existence, speed, seen, match = doc["trackers"][0]["scans"][0]
    assert (label, angle, existence, seen, match) == (0, 45, 1000, 0, -1)
    assert np.array((major, minor)) * doc["step"] == pytest.approx(
        np.sqrt([8 * 5.9915, 2 * 5.9915]), abs=1e-3
    )
    assert speed * doc["step"] == pytest.approx(5.0, abs=1e-3)


def test_an_empty_replay_has_a_page():
    doc = data_of(page(Replay("nothing", "", "", np.zeros(1), {"one": [Tracks.empty(0.0, 4)]})))
    assert doc["trackers"][0]["scans"] == [[]]
    assert doc["measurements"] is doc["truth"] is None


def test_far_away_and_large_labels_stay_exact(crossing):
    scans = [
        replace(t, label=t.label + 2**62, mean=np.where(np.arange(4) == 0, 1e300, t.mean))
        for t in crossing.tracks["gnn"]
    ]
    doc = document(replace(crossing, tracks={"gnn": scans}, errors={}))
    labels = {int(label) for label in doc["trackers"][0]["labels"]}
    assert labels == {label for t in scans for label in t.label.tolist()}
    assert max(max(flat, default=0) for flat in doc["trackers"][0]["scans"]) < 2**53


def test_names_cannot_be_markup(crossing):
    texts = dict.fromkeys(("title", "about", "shown", "metric", "unit"), NASTY)
    texts |= {"headings": [NASTY], "axes": (NASTY, NASTY), "rows": {NASTY: [NASTY]}}
    tracks, errors = {NASTY: crossing.tracks["gnn"]}, {NASTY: crossing.errors["gnn"]}
    text = page(replace(crossing, **texts, tracks=tracks, errors=errors))
    assert "onerror=alert(1)>" not in text
    assert text.count("</script>") == page(crossing).count("</script>") == 3
    assert text.count("<!--") == 0
    doc = data_of(text)
    assert doc["title"] == doc["trackers"][0]["name"] == doc["trackers"][0]["means"][0] == NASTY
    assert json.loads(as_data({NASTY: [NASTY]})) == {NASTY: [NASTY]}


def test_the_script_sets_text_and_never_markup(crossing):
    text = page(crossing)
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert way not in text
    assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", text)  # an address
    assert not re.search(r"\b(src|href)=(?!\"data:,\")", text)
    assert not re.search(r"\bstyle=|\bon[a-z]+=\"", text)  # the policy would refuse them


def test_the_policy_allows_exactly_what_is_there(crossing):
    text = page(crossing)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    for kind, pattern in (
        ("script-src", r"<script(?: type=\"module\")?>(.*?)</script>"),
        ("style-src", r"<style>(.*?)</style>"),
    ):
        parts = re.findall(pattern, text, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(p.encode()).digest()).decode() for p in parts]
        assert rules[kind].split() == [f"'sha256-{each}'" for each in hashes]
        assert "unsafe" not in rules[kind]


def test_a_hundred_scans_of_five_trackers_are_small():
    """Eighty objects at a time are many times what the tables of the literature have."""
    one = replay_of("large", "gnn")
    assert len(one) == 100
    found = one.tracks["gnn"]
    assert np.mean([len(t) for t in found]) > 75
    names = [f"tracker-{i}" for i in range(5)]
    text = page(
        replace(
            one,
            tracks=dict.fromkeys(names, found),
            errors=dict.fromkeys(names, one.errors["gnn"]),
            rows=dict.fromkeys(names, one.rows["gnn"]),
        )
    )
    assert len(text.encode()) < 3_000_000


def test_what_no_browser_would_show_is_refused_before_it_is_run(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(compare, "evaluate", lambda *_, **__: pytest.fail("it ran"))
    require_room(20_000, 10_000, 5)
    with pytest.raises(ValueError, match=r"would have about \d+ MB, accepted are 30"):
        require_room(0, LARGEST // 38, 2)
    assert main(["--scenario", "mega", "--report", str(tmp_path / "out.html")]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "Compare fewer trackers" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "says"),
    [("no/such/folder/out.html", "is not a folder to write to"), (".", "is not an ordinary file")],
)
@pytest.mark.parametrize("option", ["--report", "--rrd"])
def test_a_path_that_cannot_be_written_is_known_before(option, path, says, monkeypatch, capsys):
    monkeypatch.setattr(compare, "evaluate", lambda *_, **__: pytest.fail("it ran"))
    with pytest.raises(SystemExit) as stop:
        main([option, path])
    assert stop.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("too large")])
def test_a_failure_costs_the_page_not_the_table(error, monkeypatch, capsys, tmp_path):
    file = tmp_path / "out.html"
    file.write_text("before")

    def fail(_):
        raise error

    monkeypatch.setattr(command, "page", fail)
    assert main(["--scenario", "mt3-task1", "--trackers", "gnn", "--runs", "1", "--report", str(file)]) == 1
    out, err = capsys.readouterr()
    assert "gnn" in out
    assert err.startswith("python -m sims.compare: no replay: ")
    assert file.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        ("csv", "ais.csv", "time,x,y,id\n" + "".join(f"{k},{3 * k},{k * k},7\n" for k in range(8))),
        ("kitti", "detection/x_Car_y/0000.txt", KITTI_ROWS),
        ("mot", "det.txt", "".join(f"{k},-1,{10 + 2 * k},20,30,60,0.9,-1,-1,-1\n" for k in range(1, 8))),
    ],
)
def test_recordings_have_a_page(kind, name, content, tmp_path, monkeypatch):
    pytest.importorskip("trackeval", reason="needs the eval extra")
    monkeypatch.chdir(tmp_path)
    for file, text in ((name, content), ("label_02/0000.txt", KITTI_TRUTH)):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    path = "." if kind == "kitti" else name
    argv = ["--recording", kind, path, "--trackers", "gnn", "--json", "o.json", "--report", "o.html"]
    assert main(argv) == 0
    doc = data_of((tmp_path / "o.html").read_text())
    (tracker,) = doc["trackers"]
    row = next(iter(json.loads((tmp_path / "o.json").read_text())["trackers"]["gnn"].values()))
    assert sum(map(len, tracker["scans"])) > 0
    assert (doc["unit"], doc["yDown"]) == (("px", True) if kind == "mot" else ("m", False))
    if kind == "mot":
        assert tracker["errors"] is None
    else:
        assert np.mean(tracker["errors"][0]) == pytest.approx(row["gospa"], rel=1e-4, abs=1e-6)
    assert len(tracker["means"]) == len(doc["headings"])


@pytest.mark.parametrize("from_north", [False, True])
def test_measurements_of_a_radar_are_drawn_where_they_came_from(from_north):
    x = np.array([[30.0, 40.0, 1.0, 2.0], [-20.0, 5.0, 0.0, 0.0]])
    for sensor in (
        RangeBearing(std=(1.0, 0.01), from_north=from_north, origin=(3.0, -2.0)),
        RangeBearingDoppler(std=(1.0, 0.01, 0.1), from_north=from_north, origin=(3.0, -2.0)),
    ):
        (found,) = positions(sensor, [sensor.measure(x)], 4)
        np.testing.assert_allclose(found, x[:, :2], atol=1e-9)


def test_a_sensor_that_tells_no_positions_has_none_drawn():
    bearing = FunctionSensor(1, lambda x: np.arctan2(x[:, 1:2], x[:, :1]), std=0.1)
    assert positions(bearing, [np.zeros((2, 1))], 4) is None
    assert velocity_of(ConstantVelocity(dims=3, q=1.0)) == 3
    assert velocity_of(RandomWalk(dims=2, q=1.0)) is None


def test_a_recording_for_rerun_is_whole_or_not_there(crossing, tmp_path, monkeypatch):
    rerun = pytest.importorskip("rerun", reason="needs the viz extra")
    rrd.write(tmp_path / "out.rrd", crossing)
    assert (tmp_path / "out.rrd").read_bytes()[:4] == b"RRF2"
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / "out.rrd").write_text("before")
    monkeypatch.setattr(rerun, "LineStrips2D", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        rrd.write(tmp_path / "out.rrd", crossing)
    assert (tmp_path / "out.rrd").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_extra_is_known_before(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "rerun", None)
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SystemExit) as stop:
        main(["--rrd", str(tmp_path / "out.rrd")])
    assert stop.value.code == 2
    assert "pip install -c constraints.txt -e '.[viz]'" in capsys.readouterr().err
    with pytest.raises(ImportError, match="viz extra"):
        rrd.write(tmp_path / "out.rrd", None)
