"""Recordings: models, evidence of scores, results and what they reach on real data."""

import argparse

import numpy as np
import pytest

from sims.recordings import csv, kitti, mot, run
from tracking.formats import kitti as kitti_format
from tracking.formats.detections import Detections
from tracking.formats.results import require_ids


def arguments(*words, trackers=("pmbm",)):
    parser = argparse.ArgumentParser()
    run.add_options(parser)
    parser.set_defaults(trackers=list(trackers), jobs=1, json=None)
    return parser.parse_args(list(words))


def tracked(*words, trackers=("pmbm",), jobs=1):
    args = arguments(*words, trackers=trackers)
    recordings = run.load(args)
    module = run.FORMATS[args.recording[0]]
    found = run.evaluate(module, recordings, args.trackers, jobs, lambda: None)
    return run.document(module, args, recordings, found), found, recordings


@pytest.fixture
def walk(tmp_path):
    """A CSV of two people who walk past each other."""
    rng = np.random.default_rng(0)
    lines = ["time,x,y,id"]
    for k in range(60):
        for label, x, y in ((1, -15 + 0.5 * k, 1.0), (2, 15 - 0.5 * k, -1.0)):
            if rng.random() < 0.9:
                lines.append(f"{0.4 * k},{x + rng.normal(0, 0.1)},{y + rng.normal(0, 0.1)},{label}")
    path = tmp_path / "walk.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


CSV = ("--std", "0.1", "--speed", "1.5", "--q", "0.1", "--clutter", "0.05", "--lifetime", "30")


def test_csv_keeps_two_people_apart(walk):
    result, found, _ = tracked("--recording", "csv", str(walk), *CSV, trackers=("pmbm", "gnn"))
    for name in ("pmbm", "gnn"):
        scores = result["trackers"][name]["walk"]
        assert scores["mota"] > 90
        assert scores["id_switches"] == 0
        require_ids(found[name]["walk"].rows)


def test_jobs_do_not_change_the_result(walk):
    one, rows, _ = tracked("--recording", "csv", str(walk), *CSV)
    two, others, _ = tracked("--recording", "csv", str(walk), *CSV, jobs=2)
    np.testing.assert_array_equal(rows["pmbm"]["walk"].rows.z, others["pmbm"]["walk"].rows.z)
    drop = "cpu_ms_per_scan"
    first, second = (dict(r["trackers"]["pmbm"]["walk"]) for r in (one, two))
    first.pop(drop), second.pop(drop)
    assert first == second


def test_csv_truth_bridges_gaps():
    states = np.array([[np.nan], [0.0], [np.nan], [4.0], [np.nan]])
    bridged = csv._bridged(np.arange(5.0), states)
    np.testing.assert_array_equal(bridged[:, 0], [np.nan, 0.0, 2.0, 4.0, np.nan])


def test_results_are_written_and_read_back(data, tmp_path):
    _, found, recordings = tracked(
        "--recording", "kitti", str(data / "kitti/detection/pointrcnn_Car_val/0017.txt")
    )
    run.make_folders(["pmbm"], tmp_path)
    run.write_results(kitti, found, tmp_path)
    rows = kitti_format.read_results(tmp_path / "pmbm" / "0017.txt", n_frames=len(recordings[0].detections))
    np.testing.assert_allclose(rows.z, found["pmbm"]["0017"].rows.z)


def test_trackers_never_see_labels(data):
    """Tracking is the same with and without labels, but for the number of frames they tell."""
    file = data / "kitti/detection/pointrcnn_Car_val/0003.txt"
    seen = kitti._recording(file, "Car", data / "kitti/label_02", None, kitti.models(kitti.SETTINGS["Car"]))
    blind = kitti._recording(file, "Car", None, None, kitti.models(kitti.SETTINGS["Car"]))
    a, b = run.track("pmbm", seen, kitti.rows).rows, run.track("pmbm", blind, kitti.rows).rows
    n = min(len(a.z), len(b.z))
    np.testing.assert_array_equal(a.z[:n], b.z[:n])


def test_tracking_is_online(data):
    """What is reported of the first frames does not depend on later ones."""
    whole = kitti.load([data / "kitti/detection/pointrcnn_Car_val/0003.txt"], "Car")[0]
    seen, cut = whole.detections, 60
    rows = seen.offsets[cut]
    extra = {name: column[:rows] for name, column in seen.extra.items()}
    head = Detections(
        seen.time[:cut], seen.offsets[: cut + 1], seen.z[:rows], seen.names, seen.score[:rows], extra
    )
    short = kitti.Recording(
        "cut", head, None, whole.models, whole.clutter_ratio[:rows], whole.class_model, cls="Car"
    )
    a, b = run.track("pmbm", whole, kitti.rows).rows, run.track("pmbm", short, kitti.rows).rows
    np.testing.assert_array_equal(a.z[: len(b.z)], b.z)


def test_tud_campus(data):
    folder = data / "tud_campus"
    result, _, _ = tracked(
        "--recording", "mot", str(folder / "det_faster_rcnn.txt"), "--labels", str(folder / "gt.txt")
    )
    assert result["trackers"]["pmbm"]["det_faster_rcnn"]["mota"] > 60.0


@pytest.mark.slow
def test_kitti_cars(data):
    result, _, _ = tracked("--recording", "kitti", str(data / "kitti"), "--class", "Car")
    scores = result["trackers"]["pmbm"]["ALL"]
    assert scores["hota"] >= 75.0
    assert scores["mota"] >= 80.5
    assert scores["gospa_dc"] <= 2.0


@pytest.mark.slow
def test_kitti_pedestrians(data):
    """Above AB3DMOT online on the same detections: HOTA 41.65, MOTA 44.18."""
    result, _, _ = tracked("--recording", "kitti", str(data / "kitti"), "--class", "Pedestrian")
    scores = result["trackers"]["pmbm"]["ALL"]
    assert scores["hota"] >= 41.65
    assert scores["mota"] >= 44.18


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--recording", "avi", "x"), "kitti, mot, csv"),
        (("--recording", "csv"), "a path"),
        (("--recording", "kitti", "nowhere"), "no such"),
        (("--recording", "kitti", ".", "--class", "Tram"), "Car, Pedestrian, Cyclist"),
        (("--recording", "mot", "a", "b", "--labels", "c"), "one recording"),
    ],
)
def test_bad_input_is_a_value_error(words, message):
    with pytest.raises(ValueError, match=message):
        run.load(arguments(*words))


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "broken.csv"
    path.write_text("time,x,y\n0,1,2\n1,two,3\n")
    with pytest.raises(ValueError, match=r"broken\.csv:3"):
        run.load(arguments("--recording", "csv", str(path)))


@pytest.mark.parametrize("wrong", [{"std": 0.0}, {"p_detect": 1.5}, {"clutter": -1.0}, {"scan_period": 0.0}])
def test_csv_options_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        csv.Options(**wrong)


def test_mot_models_scale_with_the_box():
    models = mot.models(640.0, 480.0)
    x = np.zeros((2, 8))
    x[:, 3] = 100.0, 200.0
    Q, R = models["motion"].noise(x, 0.04), models["sensor"].noise(x)
    np.testing.assert_allclose(Q[1], 4 * Q[0])
    np.testing.assert_allclose(R[1], 4 * R[0])
