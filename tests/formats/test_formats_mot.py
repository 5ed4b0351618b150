from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracking.formats import Detections, mot
from tracking.tracks import Tracks

ROW = "2,-1,10,20,30,40,0.9,-1,-1,-1\n"
NUMBERS = st.floats(-1e5, 1e5)


def test_columns_of_a_row(written):
    d = mot.read_detections(written(ROW), frame_rate=25, n_frames=3)
    assert [z.tolist() for _, z in d] == [[], [[25, 40]], []]
    assert d.time.tolist() == [0, 1 / 25, 2 / 25]
    assert d.score.tolist() == [0.9]
    row = {name: column[0].tolist() for name, column in d.extra.items()}
    assert row == {"id": -1, "box": [10, 20, 40, 60], "line": 1, "world": [-1, -1, -1]}


@pytest.mark.parametrize(
    ("point", "names", "z"),
    [
        ("centre", ("x", "y"), [25, 40]),
        ("foot", ("x", "bottom"), [25, 60]),
        ("box", ("x", "y", "width", "height"), [25, 40, 30, 40]),
    ],
)
def test_what_is_measured(written, point, names, z):
    d = mot.read_detections(written(ROW), 25, point=point)
    assert d.names == names
    assert d.z.tolist() == [z]
    assert mot.read_detections(written(""), 25, point=point, n_frames=1).z.shape == (0, len(z))


def test_ground_truth_of_2016_has_class_and_visibility(written):
    d = mot.read_truth(written("1,1,1,2,3,4,1,7,0.5\n1,2,1,2,3,4,0,1,1\n"), 30)
    assert d.extra["class"].tolist() == [7, 1]
    assert d.extra["visibility"].tolist() == [0.5, 1]
    assert d.select(d.score > 0).trajectories().label.tolist() == [1]


def test_seven_columns(written):
    d = mot.read_detections(written("1,-1,1689,385,146.62,332.71,0.99644\n"), 30)
    assert sorted(d.extra) == ["box", "id", "line"]


def test_corners(written):
    d = mot.read_corners(written("0, 1.5,2,3.5,4,0.9\n2, 1,2,3,4,0.8\n"), 25)
    assert len(d) == 3
    assert d.extra["box"].tolist() == [[1.5, 2, 3.5, 4], [1, 2, 3, 4]]
    assert d.z.tolist() == [[2.5, 3], [2, 3]]
    assert d.score.tolist() == [0.9, 0.8]
    with pytest.raises(ValueError, match="frame is '0'; accepted are whole numbers from 1"):
        mot.read_corners(written("0,1,2,3,4,0.9\n"), 25, first_frame=1)
    with pytest.raises(ValueError, match=r":2: a box of width 2 and height 0; accepted are boxes of x1 < x2"):
        mot.read_corners(written("0,1,2,3,4,0.9\n0,1,2,3,2,0.9\n"), 25)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0" + ROW[1:], ":1: frame is '0'; accepted are whole numbers from 1 to 5"),
        ("6" + ROW[1:], ":1: frame is '6'"),
        (ROW.replace("-1,10", "-2,10"), ":1: id is '-2'"),
        (ROW.replace("30", "inf"), ":1: width is 'inf'; accepted are finite numbers"),
        ("1,1,1,1,1,1\n", ":1: 6 columns; accepted are 7 or 9 or 10"),
        (ROW + "1,1,1,1,1,1,1\n", ":2: 7 columns; accepted are 10"),
        (ROW.replace("-1,10", "3,10") * 2, ":2: id 3 comes again"),
        (ROW + ROW.replace("30", "0"), ":2: a box of width 0 and height 40; accepted are boxes of width and"),
        (ROW + ROW.replace("40", "-4"), ":2: a box of width 30 and height -4; accepted"),
    ],
)
def test_wrong_rows_are_named_with_their_line(written, content, message):
    path = written(content)
    with pytest.raises(ValueError) as error:
        mot.read_detections(path, 25, n_frames=5)
    assert str(error.value).startswith(f"{path}{message}")


def test_wrong_arguments(written):
    path = written(ROW)
    with pytest.raises(ValueError, match="point must be one of centre, foot, box"):
        mot.read_detections(path, 25, point="head")
    with pytest.raises(ValueError, match="frame_rate must be finite and > 0"):
        mot.read_detections(path, 0)


@given(st.lists(st.tuples(NUMBERS, NUMBERS, st.floats(0, 1e5), st.floats(0, 1e5)), max_size=5))
def test_boxes_and_back(rows):
    box = np.array(rows).reshape(-1, 4)
    before = box.copy()
    np.testing.assert_allclose(mot.xyxy_to_ltwh(mot.ltwh_to_xyxy(box)), box, atol=1e-9)
    assert (box == before).all()
    assert mot.ltwh_to_xyxy([1, 2, 3, 4]).tolist() == [1, 2, 4, 6]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("mot") / "results.txt"


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_results_come_back(path, data):
    pairs = st.tuples(st.integers(0, 3), st.integers(0, 2**31 - 1))
    pairs = data.draw(st.lists(pairs, max_size=5, unique=True))
    table = np.array([[data.draw(NUMBERS) for _ in range(5)] for _ in pairs]).reshape(-1, 5)
    box = np.hstack((table[:, :2], table[:, :2] + 1e-3 + np.abs(table[:, 2:4])))
    extra = {"id": np.array([i for _, i in pairs], np.int64), "box": box}
    scan = [k for k, _ in pairs]
    rows = Detections.from_rows(
        np.arange(4) / 25, scan, np.zeros((len(pairs), 2)), ("x", "y"), table[:, 4], extra
    )
    mot.write_results(path, rows)
    back = mot.read_results(path, 25, n_frames=4)
    assert (back.offsets == rows.offsets).all()
    assert (back.time == rows.time).all()
    assert (back.extra["id"] == rows.extra["id"]).all()
    assert (back.score == rows.score).all()
    np.testing.assert_allclose(back.extra["box"], rows.extra["box"], rtol=0, atol=1e-10)  # width, not corner


def seen(point):
    z = {"centre": [[25, 40]], "foot": [[25, 60]], "box": [[25, 40, 30, 40]]}[point]
    extra = {"box": np.array([[10.0, 20, 40, 60]])}
    return Detections.from_rows([0.0, 0.04], [0], z, mot.POINTS[point], np.ones(1), extra)


def tracks_at(*means):
    return [
        Tracks(k * 0.04, np.array([3]), np.array([mean], float), np.eye(len(mean))[None], np.array([0.5]), j)
        for k, (mean, j) in enumerate(zip(means, (np.array([0]), np.array([-1]))))
    ]


@pytest.mark.parametrize(
    ("point", "means", "moved"),
    [
        ("centre", ([24, 40, 0, 0], [30, 42, 0, 0]), [15, 22, 45, 62]),
        ("foot", ([25, 61], [30, 62]), [15, 22, 45, 62]),
        ("box", ([25, 40, 30, 40], [30, 42, 36, 44]), [12, 20, 48, 64]),
        ("box", ([25, 40, 30, 40], [25, 40, -9, 40]), [24.5, 20, 25.5, 60]),
    ],
)
def test_boxes_of_coasting_tracks_move_with_the_estimate(point, means, moved):
    rows = mot.results(tracks_at(*means), seen(point))
    assert rows.extra["box"].tolist() == [[10, 20, 40, 60], moved]
    assert mot.results(tracks_at(*means), seen(point), max_coast=0).scan.tolist() == [0]


def test_results_look_as_the_challenge_wants(tmp_path):
    rows = mot.results(tracks_at([25, 40], [25, 40]), seen("centre"))
    mot.write_results(tmp_path / "r.txt", rows)
    assert (tmp_path / "r.txt").read_text() == (
        "1,3,10.0,20.0,30.0,40.0,0.5,-1.0,-1.0,-1.0\n2,3,10.0,20.0,30.0,40.0,0.5,-1.0,-1.0,-1.0\n"
    )
    flat = replace(rows, extra={**rows.extra, "box": np.array([[10.0, 20, 10, 60]] * 2)})
    with pytest.raises(ValueError, match="boxes must have x1 < x2 and y1 < y2, got a size of 0"):
        mot.write_results(tmp_path / "r.txt", flat)
    with pytest.raises(ValueError, match="rows must have extra id"):
        mot.write_results(tmp_path / "r.txt", seen("centre"))


def test_the_challenge_reads_results(tmp_path):
    """trackeval's reader sees the same rows."""
    trackeval = pytest.importorskip("trackeval", reason="needs the eval extra")
    (tmp_path / "gt" / "S1" / "gt").mkdir(parents=True)
    (tmp_path / "gt" / "S1" / "gt" / "gt.txt").write_text("1,1,10,20,30,40,1,-1,-1,-1\n")
    (tmp_path / "gt" / "S1" / "seqinfo.ini").write_text("[Sequence]\nseqLength=2\n")
    (tmp_path / "seqmap.txt").write_text("name\nS1\n")
    out = tmp_path / "trackers" / "ours" / "data"
    out.mkdir(parents=True)
    rows = mot.results(tracks_at([25, 40], [30, 42]), seen("centre"))
    mot.write_results(out / "S1.txt", rows)
    options = {"GT_FOLDER": str(tmp_path / "gt"), "TRACKERS_FOLDER": str(tmp_path / "trackers")}
    options |= {"OUTPUT_FOLDER": str(tmp_path), "SEQMAP_FILE": str(tmp_path / "seqmap.txt")}
    options |= {"SKIP_SPLIT_FOL": True, "BENCHMARK": "MOT15", "PRINT_CONFIG": False}
    raw = trackeval.datasets.MotChallenge2DBox(options).get_raw_seq_data("ours", "S1")
    assert [ids.tolist() for ids in raw["tracker_ids"]] == [[3], [3]]
    np.testing.assert_allclose(np.concatenate(raw["tracker_dets"]), mot.xyxy_to_ltwh(rows.extra["box"]))


def test_real_sequence(data):
    folder = data / "tud_campus"
    truth = mot.read_truth(folder / "gt.txt", 25)
    table = np.loadtxt(folder / "gt.txt", delimiter=",")
    assert len(truth) == 71
    order = np.argsort(table[:, 0], kind="stable")
    np.testing.assert_allclose(mot.xyxy_to_ltwh(truth.extra["box"]), table[order, 2:6], atol=1e-12)
    states = truth.trajectories().states
    assert states.shape == (8, 71, 2)
    assert np.isfinite(states[:, :, 0]).sum() == len(table)
    d = mot.read_detections(folder / "det_faster_rcnn.txt", 25, n_frames=71)
    assert len(d.z) == 321
    assert d.score.min() > 0.5
    corners = mot.read_corners(folder / "det_fairmot.txt", 25, n_frames=71)
    assert len(corners.z) == 358
    near = [np.linalg.norm(z[:, None] - g[None], axis=2).min(0) for (_, z), (_, g) in zip(corners, truth)]
    assert np.median(np.concatenate(near)) < 10  # px: the same people at the same times
