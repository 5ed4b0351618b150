import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracking.formats import Detections, kitti
from tracking.tracks import Tracks

DETECTION = "0,2,298.3,165.1,458.2,293.4,8.2,1.9,1.8,4.7,-4.5,1.8,13.5,-2.1,-1.7\n"
LABEL = "0 5 Car 0 2 -1.79 296.7 161.7 455.2 292.3 2.0 1.82 4.43 -4.55 1.85 13.41 -2.11\n"


def test_columns_of_a_detection(written):
    d = kitti.read_detections(written(DETECTION.replace("0,2,", "2,2,", 1)), n_frames=4)
    assert [z.tolist() for _, z in d] == [[], [], [[-4.5, 13.5]], []]
    np.testing.assert_allclose(d.time, [0, 0.1, 0.2, 0.3])
    assert d.names == ("x", "z")
    assert d.score.tolist() == [8.2]
    row = {name: column[0].tolist() for name, column in d.extra.items()}
    assert row == {
        "class": "Car",
        "box": [298.3, 165.1, 458.2, 293.4],
        "size": [1.9, 1.8, 4.7],
        "position": [-4.5, 1.8, 13.5],
        "heading": -2.1,
        "alpha": -1.7,
        "line": 1,
    }


def test_columns_of_a_label(written):
    d = kitti.read_labels(written(LABEL + LABEL.replace("5 Car", "-1 DontCare")), coordinates=("x", "y", "z"))
    assert d.score is None
    assert d.z.tolist() == [[-4.55, 1.85, 13.41]] * 2
    row = {name: column[0].tolist() for name, column in d.extra.items()}
    assert row == {
        "id": 5,
        "class": "Car",
        "truncated": 0.0,
        "occluded": 2,
        "alpha": -1.79,
        "box": [296.7, 161.7, 455.2, 292.3],
        "size": [2.0, 1.82, 4.43],
        "position": [-4.55, 1.85, 13.41],
        "heading": -2.11,
        "line": 1,
    }
    assert d.trajectories().label.tolist() == [5]


def test_empty_files_have_empty_scans(written):
    for read in (kitti.read_detections, kitti.read_labels):
        assert [z.shape for _, z in read(written(""), n_frames=2)] == [(0, 2), (0, 2)]
        assert len(read(written(""))) == 0


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (
            "detections",
            DETECTION.replace(",2,", ",4,", 1),
            ":1: class is '4'; accepted are whole numbers from",
        ),
        ("detections", DETECTION + DETECTION[:-6], ":2: 14 columns; accepted are 15"),
        (
            "detections",
            DETECTION.replace(",8.2,", ",nan,"),
            ":1: score is 'nan'; accepted are finite numbers",
        ),
        ("detections", DETECTION.replace(",8.2,", ",1e10,"), ":1: score is '1e10'"),
        ("detections", "7" + DETECTION[1:], ":1: frame is '7'; accepted are whole numbers from 0 to 4"),
        ("detections", "-1" + DETECTION[1:], ":1: frame is '-1'"),
        ("labels", LABEL + LABEL, ":2: id 5 comes again at the same time"),
        ("labels", LABEL.replace(" 5 ", " -2 "), ":1: id is '-2'"),
        ("labels", LABEL[:-1] + " 0.5\n" + LABEL, ":2: 17 columns; accepted are 18"),
        ("labels", LABEL.replace("0 2 -1.79", "0 9 -1.79"), ":1: occluded is '9'"),
        ("calibration", "P2: 1 2 3\n", ":1: P2 of 3 numbers; accepted is one P2 of 12 numbers"),
        ("calibration", "Px: 1 2 3\n", ":1: matrix 'Px:'; accepted are P0, P1"),
        ("calibration", "P2:" + " 1" * 12 + "\nP2:" + " 1" * 12, ":2: P2 again"),
    ],
)
def test_wrong_rows_are_named_with_their_line(written, read, content, message):
    path = written(content)
    options = {} if read == "calibration" else {"n_frames": 5}
    with pytest.raises(ValueError) as error:
        getattr(kitti, f"read_{read}")(path, **options)
    assert str(error.value).startswith(f"{path}{message}")


def test_wrong_arguments(written):
    path = written(DETECTION)
    for coordinates in (("x", "w"), ("x", "x"), ()):
        with pytest.raises(ValueError, match="coordinates must be different ones"):
            kitti.read_detections(path, coordinates=coordinates)
    for n_frames in (-1, 10**9):
        with pytest.raises(ValueError, match="n_frames must be"):
            kitti.read_detections(path, n_frames)
    with pytest.raises(ValueError, match=":1: a row; accepted is none: n_frames is 0"):
        kitti.read_detections(path, 0)
    with pytest.raises(ValueError, match="frame_rate must be"):
        kitti.read_labels(path, frame_rate=0.0)


def test_one_far_frame_takes_no_memory(written):
    with pytest.raises(ValueError, match="accepted are whole numbers from 0 to 999999"):
        kitti.read_detections(written("99999999999" + DETECTION[1:]))
    assert len(kitti.read_detections(written("999999" + DETECTION[1:]))) == 1_000_000


NUMBERS = st.floats(-kitti.LARGEST, kitti.LARGEST)


@st.composite
def result_rows(draw):
    pairs = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2**31 - 1)), max_size=6, unique=True))
    n = len(pairs)

    def columns(*shape):
        return np.array([draw(NUMBERS) for _ in range(n * int(np.prod(shape)))], float).reshape(n, *shape)

    extra = {
        "id": np.array([i for _, i in pairs], np.int64),
        "class": np.array([draw(st.sampled_from(["Car", "Van", "Person_sitting"])) for _ in pairs], np.str_),
        "box": columns(4),
        "position": columns(3),
        "size": columns(3),
        "heading": columns(),
    }
    if draw(st.booleans()):
        extra["alpha"] = columns()
        extra["truncated"] = np.array([draw(st.floats(-1, 2)) for _ in pairs])
        extra["occluded"] = np.array([draw(st.integers(-1, 4)) for _ in pairs], np.int64)
    score = columns() if draw(st.booleans()) or not pairs else None
    z = extra["position"][:, [0, 2]]
    return Detections.from_rows(np.arange(5) / 10, [k for k, _ in pairs], z, ("x", "z"), score, extra)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("kitti") / "0000.txt"


@given(result_rows())
@settings(max_examples=100, deadline=None)
def test_results_come_back_bit_for_bit(path, rows):
    kitti.write_results(path, rows)
    back = kitti.read_results(path, n_frames=5)
    assert (back.offsets == rows.offsets).all()
    for name, column in rows.extra.items():
        np.testing.assert_array_equal(back.extra[name], column, strict=True)
    if len(rows.z):
        assert (back.score is None) == (rows.score is None)
        assert rows.score is None or (back.score == rows.score).all()
    if "truncated" not in rows.extra:
        assert (back.extra["truncated"] == -1).all()
        assert (back.extra["occluded"] == -1).all()


def detected():
    """One car, seen in frames 0 and 1 and not in 2 and 3."""
    extra = {
        "class": np.array(["Car", "Car"]),
        "box": np.array([[90.0, 80, 110, 100], [95, 80, 115, 100]]),
        "position": np.array([[0.0, 1, 10], [0.5, 1, 10]]),
        "size": np.ones((2, 3)),
        "heading": np.zeros(2),
        "alpha": np.zeros(2),
    }
    z = extra["position"][:, [0, 2]]
    return Detections.from_rows(np.arange(4) / 10, [0, 1], z, ("x", "z"), np.ones(2), extra)


def tracked(sources=(0, 0, -1, -1)):
    """The track of that car, at x = 0, 0.5, 1, 1.5 m and, after it is lost, at twice the distance."""
    return [
        Tracks(
            k / 10,
            np.array([6]),
            np.array([[k / 2, 10.0 if k < 2 else 20.0, 0, 0]]),
            np.eye(4)[None],
            np.array([0.9 - k / 10]),
            np.array([j]),
        )
        for k, j in enumerate(sources)
    ]


def test_results_have_the_estimate_and_the_box_last_attached():
    rows = kitti.results(tracked(), detected())
    assert rows.extra["position"].tolist() == [[0, 1, 10], [0.5, 1, 10], [1, 1, 20], [1.5, 1, 20]]
    assert rows.extra["box"][:, 0].tolist() == [90, 95, 95, 95]
    assert rows.extra["id"].tolist() == [6] * 4
    np.testing.assert_allclose(rows.score, [0.9, 0.8, 0.7, 0.6])
    assert rows.extra["coast"].tolist() == [0, 0, 1, 2]
    assert kitti.results(tracked(), detected(), max_coast=1).scan.tolist() == [0, 1, 2]
    assert kitti.results(tracked(), detected(), max_coast=0).scan.tolist() == [0, 1]


def test_a_track_without_a_detection_yet_has_no_box():
    assert kitti.results(tracked((-1, 0, -1, -1)), detected()).scan.tolist() == [1, 2, 3]


def test_boxes_of_coasting_tracks_move_as_the_camera_sees_it():
    camera = np.array([[100.0, 0, 90, 7], [0, 100, 80, 0], [0, 0, 1, 0.01]])
    rows = kitti.results(tracked(), detected(), camera=camera)
    assert rows.extra["box"][:2].tolist() == detected().extra["box"].tolist()

    def projected(point):
        u, v, w = camera @ (*point, 1.0)
        return np.array([u / w, v / w]), w

    before, depth_before = projected((0.5, 1, 10))
    after, depth_after = projected((1, 1, 20))
    corners = np.array([[95, 80], [115, 100]])
    expected = after + (corners - before) * depth_before / depth_after
    np.testing.assert_allclose(rows.extra["box"][2], expected.ravel())


def test_a_box_that_cannot_be_projected_stays():
    behind = [
        Tracks(t.time, t.label, t.mean * [1, -1, 0, 0], t.cov, t.existence, t.source) for t in tracked()
    ]
    rows = kitti.results(behind, detected(), camera=np.eye(3, 4))
    assert rows.extra["box"][2:].tolist() == [[95, 80, 115, 100]] * 2
    with pytest.raises(ValueError, match=r"projection of shape \(3, 4\)"):
        kitti.results(behind, detected(), camera=np.eye(3))


def test_tracks_and_detections_must_belong_together():
    with pytest.raises(ValueError, match="one for each of the 4 recorded, got 3"):
        kitti.results(tracked()[:3], detected())
    with pytest.raises(ValueError, match=r"scans\[2\] has source 0, its scan has 0 detections"):
        kitti.results(tracked((0, 0, 0, -1)), detected())
    late = [*tracked()[:3], Tracks.empty(0.35, 4)]
    with pytest.raises(ValueError, match=r"scans\[3\] is of 0.35 s, the recorded scan of 0.3"):
        kitti.results(late, detected())
    with pytest.raises(ValueError, match="rows must have extra class, box"):
        kitti.results([], Detections.from_rows([], [], [], ("x", "z")))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("id", np.array([-1, 6]), "ids must lie in 0..2147483647, got -1..6"),
        ("id", np.array([6, 2**31]), "ids must lie in 0"),
        ("box", np.full((2, 4), np.nan), "finite"),
        ("heading", np.array([0, 1e10]), "in row 1"),
        ("class", np.array(["Car", "my car"]), "class must be one word"),
    ],
)
def test_results_that_no_one_could_read_are_not_written(tmp_path, name, value, message):
    d = detected()
    extra = {**d.extra, "id": np.array([6, 6]), name: value}
    with pytest.raises(ValueError, match=message):
        kitti.write_results(tmp_path / "r.txt", Detections(d.time, d.offsets, d.z, d.names, d.score, extra))
    assert list(tmp_path.iterdir()) == []


def test_an_id_twice_in_a_frame_is_not_written(tmp_path):
    d = detected()
    extra = {**d.extra, "id": np.array([6, 6])}
    both = Detections.from_rows([0.0], [0, 0], d.z, d.names, d.score, extra)
    with pytest.raises(ValueError, match="id 6 has several rows in scan 0"):
        kitti.write_results(tmp_path / "r.txt", both)


def test_alpha_is_the_heading_along_the_ray(tmp_path):
    extra = {**detected().extra, "id": np.array([6, 6])}
    extra["position"], extra["heading"] = np.array([[10.0, 0, 10], [-10, 0, 0]]), np.array([1.0, 2.0])
    del extra["alpha"]
    d = detected()
    kitti.write_results(tmp_path / "r.txt", Detections(d.time, d.offsets, d.z, d.names, d.score, extra))
    alpha = kitti.read_results(tmp_path / "r.txt").extra["alpha"]
    np.testing.assert_allclose(alpha, [1 - np.pi / 4, 2 + np.pi / 2 - 2 * np.pi])


def test_calibration_in_both_spellings(written):
    twelve, nine = " ".join(map(str, range(12))), " ".join(map(str, range(9)))
    path = written(f"P2: {twelve}\nR_rect {nine}\nTr_velo_cam {twelve}\nTr_imu_to_velo: {twelve}  \n")
    matrices = kitti.read_calibration(path)
    assert {name: m.shape for name, m in matrices.items()} == {
        "P2": (3, 4),
        "R0_rect": (3, 3),
        "Tr_velo_to_cam": (3, 4),
        "Tr_imu_to_velo": (3, 4),
    }
    assert matrices["P2"][1].tolist() == [4, 5, 6, 7]


def test_the_development_kit_reads_results(tmp_path):
    """trackeval's reader of the kit's format sees the same rows."""
    trackeval = pytest.importorskip("trackeval", reason="needs the eval extra")
    (tmp_path / "gt" / "label_02").mkdir(parents=True)
    (tmp_path / "gt" / "evaluate_tracking.seqmap.here").write_text("0000 empty 000000 000004\n")
    (tmp_path / "gt" / "label_02" / "0000.txt").write_text(LABEL)
    out = tmp_path / "trackers" / "ours" / "data"
    out.mkdir(parents=True)
    rows = kitti.results(tracked(), detected())
    kitti.write_results(out / "0000.txt", rows)
    folders = {"GT_FOLDER": tmp_path / "gt", "TRACKERS_FOLDER": tmp_path / "trackers"}
    options = {name: str(folder) for name, folder in folders.items()}
    options |= {"OUTPUT_FOLDER": str(tmp_path), "SPLIT_TO_EVAL": "here", "PRINT_CONFIG": False}
    raw = trackeval.datasets.Kitti2DBox(options).get_raw_seq_data("ours", "0000")
    assert [ids.tolist() for ids in raw["tracker_ids"]] == [[6]] * 4
    np.testing.assert_allclose(np.concatenate(raw["tracker_dets"]), rows.extra["box"])
    np.testing.assert_allclose(np.concatenate(raw["tracker_confidences"]), rows.score)


def test_real_sequences(data, tmp_path):
    labels = sorted((data / "kitti" / "label_02").glob("*.txt"))
    assert labels
    for file in labels:
        truth = kitti.read_labels(file)
        table = np.loadtxt(file, usecols=(0, 1, 13, 15))
        assert len(truth) == table[:, 0].max() + 1
        np.testing.assert_array_equal(truth.z, table[:, 2:])
        np.testing.assert_array_equal(truth.extra["id"], table[:, 1])
        cars = truth.select(truth.extra["class"] == "Car")
        assert np.isfinite(cars.trajectories().states[:, :, 0]).sum() == len(cars.z)
        assert (truth.extra["id"][truth.extra["class"] == "DontCare"] == -1).all()
        for name in kitti.CLASSES:
            seen = data / "kitti" / "detection" / f"pointrcnn_{name}_val" / file.name
            d = kitti.read_detections(seen, len(truth))
            table = np.loadtxt(seen, delimiter=",")
            assert len(d) == len(truth)
            assert set(d.extra["class"].tolist()) == {name}
            np.testing.assert_array_equal(np.column_stack((d.scan, d.z, d.score)), table[:, [0, 10, 12, 6]])
        named = truth.select(truth.extra["id"] >= 0)
        kitti.write_results(tmp_path / file.name, named)
        back = kitti.read_results(tmp_path / file.name, len(truth))
        for key in set(named.extra) - {"line"}:
            np.testing.assert_array_equal(back.extra[key], named.extra[key])


def test_real_calibrations(data):
    for file in (data / "kitti" / "calib").glob("*.txt"):
        matrices = kitti.read_calibration(file)
        assert len(matrices) == 7
        R = matrices["R0_rect"]
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-5)
