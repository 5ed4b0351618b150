"""`python -m tracking track`: inputs and outputs, exit status, one line of error, nothing half-written."""

import re
import subprocess
import sys

import numpy as np
import pytest

from tracking import notice
from tracking.__main__ import main
from tracking.formats import bags, csv, foxglove, kitti, mot, vision

PLANE = """
filter = "GNN"
[motion]
kind = "ConstantVelocity"
q = 0.5
[sensor]
kind = "PositionSensor"
std = 0.3
clutter_intensity = 1e-4
[birth]
kind = "UniformBirth"
rate = 0.5
lower = [-100.0, -100.0]
upper = [100.0, 100.0]
"""
BOXES = """
filter = "GNN"
[motion]
kind = "ConstantVelocity"
dims = 4
q = 50.0
[sensor]
kind = "PositionSensor"
dims = 4
std = 3.0
clutter_intensity = 1e-10
[birth]
kind = "MeasurementBirth"
rate = 5.0
max_probability = 0.5
rest_std = 20.0
"""
SCANS = 12
CSV = "time,x,y,z\n" + "".join(f"{0.1 * k!r},{0.2 * k!r},{5 - 0.1 * k!r},1.5\n" for k in range(SCANS))
KITTI = "".join(
    f"{k},2,600,150,700,220,9,1.5,1.6,4,{0.1 * k:.2f},1.6,{20 + k},0.5,0\n"
    f"{k},1,1,1,5,5,9,1.7,0.6,0.8,-5,1.6,9,0,0\n"
    for k in range(SCANS)
)
MOT = "".join(f"{k + 1},-1,{100 + 2 * k},200,30,60,0.9,-1,-1,-1\n" for k in range(SCANS))


@pytest.fixture(autouse=True)
def no_word_about_compilation(monkeypatch):
    monkeypatch.setattr(notice, "SLOW", 3600.0)


@pytest.fixture
def track(tmp_path, monkeypatch, capsys):
    """Write the inputs in an empty folder, run the program there; returns status, output and error."""
    monkeypatch.chdir(tmp_path)
    for name, content in (
        ("tracker.toml", PLANE),
        ("boxes.toml", BOXES),
        ("in.csv", CSV),
        ("kitti.txt", KITTI),
        ("mot.txt", MOT),
    ):
        (tmp_path / name).write_text(content)

    def run(source, out, *more, config="tracker.toml"):
        try:
            status = main(["track", source, "--config", config, "--out", out, *more])
        except SystemExit as stop:  # argparse leaves this way
            status = stop.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def bag(track, tmp_path):
    """A bag of detections."""
    with_z = PLANE + '[input]\ncoordinates = ["x", "y"]\n'
    (tmp_path / "xy.toml").write_text(with_z)
    assert track("in.csv", "bag", config="xy.toml")[0] == 0
    return tmp_path / "bag"


def test_csv_to_every_output(track, tmp_path):
    (tmp_path / "tracker.toml").write_text(PLANE + '[input]\ncoordinates = ["x", "y"]\n')
    said = r"in.csv \(csv\): 12 scans in 1.100 s with 12 detections, 1 tracks; [\d.]+ ms a scan \(median\), "
    for out in ("out.csv", "out.mcap", "sqlite", "mcap"):
        status, printed, err = track("in.csv", out, *(["--storage", "mcap"] if out == "mcap" else []))
        assert (status, err) == (0, "")
        assert re.match(said, printed)
    table = csv.read_tracks("out.csv")
    assert (tmp_path / "out.csv").read_text().startswith("time,label,x,y,vx,vy,existence,source,P_x_x,P_x_y")
    scenes = list(foxglove.read_tracks("out.mcap"))
    for name in ("sqlite", "mcap"):
        found = list(bags.read_tracks(name))
        assert len(found) == len(table) == len(scenes) == SCANS
        for a, b, c in zip(table, scenes, found):
            assert a.label.tolist() == b.label.tolist() == c.label.tolist()
            np.testing.assert_array_equal(a.mean, b.mean.reshape(a.mean.shape))
            np.testing.assert_array_equal(a.mean[:, :2], c.mean[:, :2])
            np.testing.assert_array_equal(a.cov, b.cov.reshape(a.cov.shape))
    assert len(table[-1].label) == 1
    assert table[-1].mean[0, :2] == pytest.approx([2.2, 3.9], abs=0.2)
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".part")]


def test_a_bag_that_was_written_gives_the_same_tracks(track, tmp_path, bag):
    """Its tracks are detections of the next run, as those of a table are."""
    assert track("bag", "from_bag.csv", config="xy.toml")[0] == 0
    rows = [
        f"{t.time!r},{x!r},{y!r}" if len(t) else f"{t.time!r},,"
        for t in bags.read_tracks(bag)
        for x, y in (t.mean[:, :2].tolist() or [(0.0, 0.0)])
    ]
    (tmp_path / "again.csv").write_text("time,x,y\n" + "\n".join(rows) + "\n")
    assert track("again.csv", "from_csv.csv")[0] == 0
    assert (tmp_path / "from_bag.csv").read_text() == (tmp_path / "from_csv.csv").read_text()


def test_a_scene_is_an_input_too(track, bag):
    assert track("in.csv", "scene.mcap", config="xy.toml")[0] == 0
    status, printed, _ = track("scene.mcap", "again.mcap")
    assert status == 0
    assert "scene.mcap (scene): 12 scans" in printed
    assert len(list(foxglove.read_tracks("again.mcap"))) == SCANS
    says = r"no topic /lidar; there are /tracks \(foxglove.SceneUpdate\); accepted are .* or foxglove.Scene"
    refused(track("scene.mcap", "none.csv", "--topic", "/lidar"), 2, says)


def test_kitti_to_results_and_to_boxes(track):
    assert track("kitti.txt", "out.txt", "--class", "Car")[0] == 0
    results = kitti.read_results("out.txt")
    assert set(results.extra["class"].tolist()) == {"Car"}
    assert len(np.unique(results.extra["id"])) == 1
    assert results.extra["position"][-1] == pytest.approx([1.1, 1.6, 31.0], abs=0.3)
    assert track("kitti.txt", "bag", "--class", "Car", "--frame-rate", "5")[0] == 0
    *_, message = bags.read_scans("bag")
    assert message.time == pytest.approx((SCANS - 1) / 5)
    assert message.extra["position"][0] == pytest.approx([1.1, 0.85, 31.0], abs=0.3)  # the middle of the box
    assert message.extra["size"].tolist() == [[4.0, 1.5, 1.6]]
    assert message.extra["orientation"][0] == pytest.approx([0, np.sin(0.25), 0, np.cos(0.25)])
    assert message.extra["class"].tolist() == ["Car"]


def test_mot_to_results_and_to_boxes(track):
    assert track("mot.txt", "out.txt", config="boxes.toml")[0] == 0
    results = mot.read_results("out.txt", 25)
    assert len(np.unique(results.extra["id"])) == 1
    assert results.extra["box"][-1] == pytest.approx([122, 200, 152, 260], abs=3)
    assert track("mot.txt", "bag", config="boxes.toml")[0] == 0
    (channel,) = bags.topics("bag")
    assert channel.type == vision.DETECTIONS_2D
    *_, last = bags.read_scans("bag", coordinates=("x", "y", "width", "height"))
    assert last.z[0] == pytest.approx([137, 230, 30, 60], abs=3)
    assert track("bag", "again.csv", config="boxes.toml")[0] == 0
    status, _, err = track("mot.txt", "out.mcap", config="boxes.toml")
    assert status == 2
    assert "coordinates must be different ones of x, y, z" in err


def refused(outcome, status, says):
    assert outcome[0] == status
    assert outcome[1] == ""
    assert outcome[2].count("\n") == 1
    assert outcome[2].startswith("python -m tracking")
    assert re.search(says, outcome[2])


def test_what_is_wrong_is_one_line(track, tmp_path, bag):
    (tmp_path / "empty").mkdir()
    (tmp_path / "words.txt").write_text("a b c\n")
    (tmp_path / "in.dat").write_text("")
    (tmp_path / "bad.toml").write_text("filter = 3")
    before = sorted(p.name for p in tmp_path.iterdir())
    refused(track("in.csv", "out.csv"), 2, "gives x, y, z, the sensor measures 2 numbers; .* Set coordinates")
    refused(track("missing.csv", "out.csv"), 2, "missing.csv: no such file or folder")
    refused(track("in.csv", "out.csv", config="none.toml"), 2, "none.toml: no such file")
    refused(track("in.csv", "out.csv", config="bad.toml"), 2, "bad.toml: filter is 3")
    refused(track("empty", "out.csv"), 2, "no bag in this folder")
    refused(track("words.txt", "out.csv"), 2, "words.txt:1: 1 columns; accepted are 15 of KITTI")
    refused(
        track("in.dat", "out.csv"), 2, "no known recording; accepted are a bag's folder, .db3, .mcap, .csv"
    )
    refused(track("bag", "out.txt", config="xy.toml"), 2, "no known output; .*txt needs KITTI")
    refused(
        track("kitti.txt", "out.dat"),
        2,
        "no known output; accepted are a new folder for a bag, .mcap, .csv, and",
    )
    refused(track("bag", "bag/x/y.csv"), 2, "is not a folder to write to")
    refused(track("in.csv", "in.csv", config="xy.toml"), 2, "in.csv is the input; accepted is another name")
    (tmp_path / "link.csv").symlink_to("xy.toml")
    refused(track("in.csv", "link.csv", config="xy.toml"), 2, "link.csv is the description of the tracker")
    (tmp_path / "link.csv").unlink()
    refused(track("bag", "bag/out.csv", config="xy.toml"), 2, "bag/out.csv lies in the bag that is read")
    refused(track("kitti.txt", "bag"), 2, "bag is there already; accepted is the name of a new folder")
    refused(
        track("bag", "out.csv", "--topic", "/lidar"), 2, r"no topic /lidar; there are /tracks \(vision_msgs"
    )
    refused(track("in.csv", "out.csv", "--class", "Car", config="xy.toml"), 2, "does not tell classes")
    refused(track("mot.txt", "out.csv", "--frame-rate", "0"), 2, "frame_rate must be a finite number > 0")
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_an_error_on_the_way_leaves_nothing(track, tmp_path, bag, monkeypatch):
    content = next(bag.glob("*.db3"))
    content.write_bytes(content.read_bytes()[:-4096])
    for out in ("out.csv", "out.mcap", "other"):
        status, _, err = track("bag", out, config="xy.toml")
        assert status == 2
        assert err.count("\n") == 1
        assert not (tmp_path / out).exists()


def test_scans_at_one_time_are_reported_once(track, tmp_path):
    """Two sensors may see at the same time; a table has each time once."""
    from bag_files_of_twins import write_twins  # beside this file

    write_twins(tmp_path / "twins")
    assert track("twins", "out.csv")[0] == 0
    times = [t.time for t in csv.read_tracks("out.csv")]
    assert times == sorted(set(times))
    assert len(times) == 5


def test_other_sensors_are_written_in_x_and_y(track, tmp_path):
    radar = PLANE.replace('"PositionSensor"\nstd = 0.3', '"RangeBearing"\nstd = [0.3, 0.02]')
    (tmp_path / "radar.toml").write_text(radar)
    rows = "".join(f"{0.1 * k!r},{10 + 0.1 * k!r},0.5\n" for k in range(SCANS))
    (tmp_path / "radar.csv").write_text("time,range,bearing\n" + rows)
    assert track("radar.csv", "out.mcap", config="radar.toml")[0] == 0
    *_, last = foxglove.read_scans("out.mcap")
    assert last.z[0, :2] == pytest.approx([11.1 * np.cos(0.5), 11.1 * np.sin(0.5)], abs=0.5)


def test_help_and_slips(capsys):
    for argv, status in (["--help"], 0), (["track", "--help"], 0), ([], 2), (["follow"], 2), (["track"], 2):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        out, err = capsys.readouterr()
        assert stop.value.code == status
        assert (out == "") == bool(status)
        assert err.count("\n") == bool(status)


def test_it_runs_as_a_program(track, tmp_path):
    argv = ["track", "in.csv", "--config", "tracker.toml", "--out", "out.csv"]
    done = subprocess.run(
        [sys.executable, "-m", "tracking", *argv], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("python -m tracking: in.csv gives x, y, z, the sensor measures 2")
