"""Scores under KITTI's rules: a scene counted by hand, and recordings scored apart from this code."""

import importlib.util
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from tracking.formats import kitti
from tracking.metrics import combine, combine_ground, kitti_2d, kitti_ground

DATA = Path(os.environ.get("TOOLKIT_DATA", Path(__file__).parents[3] / "shared" / "data")) / "kitti"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs the KITTI recordings (TOOLKIT_DATA)")
needs_trackeval = pytest.mark.skipif(
    importlib.util.find_spec("trackeval") is None, reason="needs the eval extra: pip install '.[eval]'"
)


def row(frame, label, kind, x, z, occluded=0, truncated=0, left=None, height=50, score=""):
    """A line of a KITTI file; its box is 40 px wide, and apart from others unless `left` says otherwise."""
    left = 100.0 * x + 500 if left is None else left
    box = f"{left} 100 {left + 40} {100 + height}"
    return f"{frame} {label} {kind} {truncated} {occluded} 0 {box} 1.5 1.6 4 {x} 1.7 {z} 0 {score}\n"


REGION = row(0, -1, "DontCare", 90, 0, left=900, height=300)
LABELS = (
    row(0, 0, "Car", 0, 10)
    + row(0, 1, "Car", 5, 20)
    + row(0, 2, "Car", 10, 30, occluded=3)  # need not be found
    + row(0, 3, "Van", 15, 40)
    + REGION
    + row(1, 0, "Car", 0, 11)
    + row(1, 1, "Car", 5, 21)
    + row(1, 4, "Van", 30, 30)
    + row(2, 0, "Car", 0, 12)
)
RESULTS = (
    row(0, 7, "Car", 0.5, 10, left=500)
    + row(0, 8, "car", 15, 41)  # on the van
    + row(0, 9, "Car", 60, 60, left=900)  # in the region
    + row(0, 10, "Car", 70, 60, height=20)  # small
    + row(0, 11, "Car", 80, 60)  # false
    + row(0, 7, "Pedestrian", 0, 10)  # another class, the id is free
    + row(1, 8, "Car", 0, 11, score=9.5).replace(" 9.5", "")
    + row(1, 12, "Car", 5, 21)
    + row(1, 13, "Car", 30, 33)  # on the van in the image, too far from it in the plane
    + row(2, 8, "Car", 0, 12)
)


def test_ground_scores_by_hand():
    s = kitti_ground({"a": RESULTS}, {"a": LABELS})["a"]
    counts = dict(
        frames=3, truths=6, estimates=9, matches=4, misses=2, falses=5, misses_dc=1, falses_dc=2, switches=1
    )
    assert {name: value for name, value in asdict(s).items() if name in counts} == counts
    assert (s.localisation, s.missed, s.false) == pytest.approx((0.5 / 3, 2 * 2 / 3, 5 * 2 / 3))
    assert (s.gospa, s.missed_dc, s.false_dc) == pytest.approx((14.5 / 3, 2 / 3, 4 / 3))
    assert s.gospa_dc == pytest.approx(6.5 / 3)


def test_ground_scores_of_higher_order():
    s = kitti_ground({"a": RESULTS}, {"a": LABELS}, c=2.0, p=2.0)["a"]
    assert s.gospa == pytest.approx(((0.5**2 + 2 * 6) ** 0.5 + 2**0.5) / 3)
    assert s.localisation == pytest.approx(0.5**2 / 3)


@needs_trackeval
def test_box_scores_by_hand(capfd):
    s = kitti_2d({"a": RESULTS}, {"a": LABELS})["a"]
    # Of 5 cars that count, one is missed; one estimate is false; one car changes its label.
    assert (s.tp, s.fn, s.fp, s.id_switches) == (4, 1, 1, 1)
    assert s.mota == pytest.approx(1 - 3 / 5)
    assert s.idf1 == pytest.approx(2 * 3 / (2 * 3 + 2 + 2))
    assert capfd.readouterr() == ("", "")


@needs_trackeval
def test_detections_score_as_their_text(tmp_path):
    (tmp_path / "labels.txt").write_text(LABELS)
    (tmp_path / "results.txt").write_text(RESULTS.replace("0 7 Pedestrian", "0 20 Pedestrian"))
    labels, results = kitti.read_labels(tmp_path / "labels.txt"), kitti.read_results(tmp_path / "results.txt")
    assert kitti_ground({"a": results}, {"a": labels}) == kitti_ground({"a": RESULTS}, {"a": LABELS})
    assert kitti_2d({"a": results}, {"a": labels}) == kitti_2d({"a": RESULTS}, {"a": LABELS})


@needs_trackeval
def test_no_estimates_and_frames_without_rows(tmp_path):
    (tmp_path / "labels.txt").write_text(LABELS)
    labels = {"a b": kitti.read_labels(tmp_path / "labels.txt", n_frames=5)}
    ground, boxes = kitti_ground({"a b": ""}, labels)["a b"], kitti_2d({"a b": ""}, labels)["a b"]
    assert (ground.frames, ground.misses, ground.falses) == (5, 6, 0)
    assert ground.missed == pytest.approx(6 * 2 / 5)
    assert (boxes.fn, boxes.tp, boxes.mota) == (5, 0, 0)
    assert kitti_2d({"a b": row(4, 0, "Car", 0, 0)}, labels)["a b"].fp == 1


@needs_trackeval
def test_large_ids_are_only_names():
    results, labels = (rows.replace("0 7 Car", "0 2147480000 Car") for rows in (RESULTS, LABELS))
    assert kitti_2d({"a": results}, {"a": labels}) == kitti_2d({"a": RESULTS}, {"a": LABELS})


@needs_trackeval
def test_a_sequence_without_frames():
    assert kitti_2d({"a": ""}, {"a": ""})["a"].tp == 0
    assert kitti_ground({"a": ""}, {"a": ""})["a"].frames == 0


def test_combined_means_are_over_all_frames():
    one = kitti_ground({"a": RESULTS}, {"a": LABELS})["a"]
    two = kitti_ground({"a": ""}, {"a": row(0, 0, "Car", 0, 0)})["a"]
    both = combine_ground([one, two])
    assert (both.frames, both.misses) == (4, 3)
    assert both.gospa == pytest.approx((3 * one.gospa + two.gospa) / 4)
    with pytest.raises(ValueError, match="at least one"):
        combine_ground([])


@pytest.mark.parametrize(
    ("results", "labels", "message"),
    [
        ({"a": ""}, {"b": LABELS}, r"same sequences, got \['a'\] and \['b'\]"),
        ({"a": row(3, 0, "Car", 0, 0)}, {"a": LABELS}, r"frames 0\.\.2.*got frame 3"),
        ({"a": row(0, 0, "Car", 0, 0) * 2}, {"a": LABELS}, "several rows"),
        ({"a": row(0, -2, "Car", 0, 0)}, {"a": LABELS}, "ids must"),
        ({"a": "0 0 Car 0 0"}, {"a": LABELS}, "17 or 18 columns, got 5"),
        ({"a": row(0, 0, "Car", float("nan"), 0)}, {"a": LABELS}, "must be finite"),
        ({"a": row(0.5, 0, "Car", 0, 0)}, {"a": LABELS}, "whole frames"),
        ({"a": row(10**9, 0, "Car", 0, 0)}, {"a": LABELS}, "whole frames"),
        ({"a": row(0, "x", "Car", 0, 0)}, {"a": LABELS}, "numbers but for the class"),
        ({"a": ["0 0 Car"]}, {"a": LABELS}, "got list"),
        ({}, {}, "at least one sequence"),
    ],
)
def test_refuses(results, labels, message):
    with pytest.raises(ValueError, match=message):
        kitti_ground(results, labels)


def test_refuses_classes_without_rules():
    with pytest.raises(ValueError, match="Tram"):
        kitti_ground({}, {}, "Tram")
    with pytest.raises(ValueError, match="Cyclist"):
        kitti_2d({}, {}, "Cyclist")


def trivial_tracks(path, kind):
    """Text of tracks that join each detection of score >= 2 to the nearest last one within 2 m."""
    table = np.loadtxt(path, delimiter=",")
    last, lines = {}, []
    for frame in range(int(table[:, 0].max()) + 1):
        taken = set()
        for d in table[(table[:, 0] == frame) & (table[:, 6] >= 2)]:
            free = [(np.hypot(d[10] - e[10], d[12] - e[12]), k) for k, e in last.items() if k not in taken]
            distance, label = min(free, default=(np.inf, 0))
            label = label if distance < 2 else len(last)
            taken.add(label)
            last[label] = d
            columns = " ".join(f"{v:.6f}" for v in (d[14], *d[2:6], *d[7:13], d[13], d[6]))
            lines.append(f"{frame} {label} {kind} 0 0 {columns}\n")
    return "".join(lines)


# Scores of the trivial tracks by a separate evaluator; percentages for the first six.
BOXES = ("hota", "det_a", "ass_a", "loc_a", "mota", "idf1", "id_switches", "fragments", "tp", "fn", "fp")
PLANE = ("gospa", "localisation", "missed", "false", "gospa_dc", "missed_dc", "false_dc")
COUNTS = (
    "truths",
    "estimates",
    "matches",
    "misses",
    "falses",
    "misses_dc",
    "falses_dc",
    "switches",
    "frames",
)
RECORDED = [
    (
        "Car",
        ["0003"],
        (70.35365344090074, 72.53827997726626, 68.2787034673681, 88.33590500425711, 76.04790419161677),
        (76.11940298507463, 18, 6, 304, 30, 32),
        (2.1350138889240973, 0.48223611114631837, 0.5, 1.1527777777777777),
        (1.3433472222574288, 0.4166666666666667, 0.4444444444444444),
        (363, 410, 327, 36, 83, 30, 32, 21, 144),
    ),
    (
        "Car",
        ["0003", "0004"],
        (52.877288409828424, 60.53367970169173, 46.20520967423591, 87.96461096853938, 43.103448275862064),
        (55.310110450297366, 205, 40, 966, 136, 286),
        (3.1315934453455334, 0.45473755014902634, 0.6768558951965066, 2.0),
        (2.2844318732931304, 0.5938864628820961, 1.2358078602620088),
        (1181, 1484, 1026, 155, 458, 136, 283, 229, 458),
    ),
    (
        "Pedestrian",
        ["0017"],
        (44.94477703594727, 47.796246669486564, 42.46974707046902, 70.80961706513168, 58.18181818181818),
        (71.78393745557925, 11, 75, 548, 222, 89),
        (2.4619256714538973, 0.4343394645573452, 1.9448275862068964, 0.08275862068965517),
        (2.323994636971139, 1.8620689655172413, 0.027586206896551724),
        (782, 647, 641, 141, 6, 135, 2, 10, 145),
    ),
]


@needs_data
@needs_trackeval
@pytest.mark.parametrize(
    ("kind", "names", "percent", "identity", "strict", "lenient", "counts"),
    RECORDED,
    ids=["one", "two", "pedestrians"],
)
def test_recordings(kind, names, percent, identity, strict, lenient, counts):
    folder = DATA / "detection" / f"pointrcnn_{kind}_val"
    results = {name: trivial_tracks(folder / f"{name}.txt", kind) for name in names}
    labels = {name: (DATA / "label_02" / f"{name}.txt").read_text() for name in names}
    boxes = combine(kitti_2d(results, labels, kind).values())
    scale = (100,) * 6 + (1,) * 5
    found = [getattr(boxes, name) * factor for name, factor in zip(BOXES, scale)]
    assert found == pytest.approx([*percent, *identity], rel=1e-12)
    plane = combine_ground(kitti_ground(results, labels, kind).values())
    assert [getattr(plane, name) for name in PLANE] == pytest.approx([*strict, *lenient], rel=1e-12)
    assert tuple(getattr(plane, name) for name in COUNTS) == counts


@needs_data
@needs_trackeval
def test_labels_score_perfectly_against_themselves():
    labels = {"0003": kitti.read_labels(DATA / "label_02" / "0003.txt")}
    boxes, plane = kitti_2d(labels, labels)["0003"], kitti_ground(labels, labels)["0003"]
    assert (boxes.hota, boxes.mota, boxes.idf1, boxes.fp, boxes.fn) == (1, 1, 1, 0, 0)
    assert (plane.gospa, plane.gospa_dc, plane.switches) == (0, 0, 0)
