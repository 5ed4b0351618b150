import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracking.formats import Detections, csv
from tracking.formats.csv import Columns
from tracking.tracks import Tracks

FINITE = st.floats(allow_nan=False, allow_infinity=False)
TIMES = st.lists(FINITE, max_size=5, unique=True).map(sorted)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("csv") / "file.csv"


@st.composite
def recordings(draw):
    time = draw(TIMES)
    scan = draw(st.lists(st.integers(0, len(time) - 1), max_size=8)) if time else []
    n, d = len(scan), draw(st.integers(1, 3))
    z = [[draw(FINITE) for _ in range(d)] for _ in range(n)]
    score = [draw(FINITE) for _ in range(n)] if draw(st.booleans()) else None
    named = draw(st.booleans())
    label = draw(st.lists(st.integers(-1, 2**63 - 1), min_size=n, max_size=n, unique=True))
    extra = {"id": np.array(label, np.int64)} if named else {}
    return Detections.from_rows(time, scan, z, ("x", "y", "speed")[:d], score, extra)


@given(recordings())
@settings(max_examples=80, deadline=None)
def test_detections_come_back_bit_for_bit(path, d):
    csv.write_detections(path, d)
    back = csv.read_detections(path)
    assert back.names == d.names
    for name in ("time", "offsets", "z"):
        assert getattr(back, name).tobytes() == getattr(d, name).tobytes(), name
    assert (back.score is None) == (d.score is None)
    assert d.score is None or back.score.tobytes() == d.score.tobytes()
    assert ("id" in back.extra) == ("id" in d.extra)
    assert "id" not in d.extra or (back.extra["id"] == d.extra["id"]).all()


@st.composite
def tracked(draw):
    d = draw(st.sampled_from([1, 2, 4, 6]))
    scans = []
    for time in draw(TIMES):
        label = draw(st.lists(st.integers(0, 2**63 - 1), max_size=3, unique=True))
        n = len(label)
        numbers = np.array([draw(FINITE) for _ in range(n * (d + 1))]).reshape(n, d + 1)
        cov = numbers[:, :d, None] * np.array(draw(st.floats(-1, 1))) + np.arange(d)
        existence = np.array([draw(st.floats(0, 1)) for _ in range(n)])
        source = np.array([draw(st.integers(-1, 9)) for _ in range(n)], np.int64)
        scans.append(Tracks(time, np.array(label, np.int64), numbers[:, :d], cov, existence, source))
    return scans


@given(tracked(), st.booleans())
@settings(max_examples=80, deadline=None)
def test_tracks_come_back_bit_for_bit(path, scans, covariance):
    csv.write_tracks(path, scans, covariance=covariance)
    back = csv.read_tracks(path)
    assert len(back) == len(scans)
    for a, b in zip(scans, back):
        assert a.time == b.time
        for name in ("label", "mean", "existence", "source"):
            assert np.asarray(getattr(a, name)).tobytes() == getattr(b, name).tobytes(), name
        assert a.cov.shape == b.cov.shape
        assert (a.cov.tobytes() == b.cov.tobytes()) if covariance else np.isnan(b.cov).all()


def test_the_files_look_as_documented(path):
    extra = {"id": np.array([7, -1])}
    d = Detections.from_rows([0.0, 0.4], [0, 0], [[12.5, -3.1], [1, 2]], ("x", "y"), [0.9, 0.5], extra)
    csv.write_detections(path, d)
    assert path.read_text() == "time,x,y,score,id\n0.0,12.5,-3.1,0.9,7\n0.0,1.0,2.0,0.5,\n0.4,,,,\n"
    one = Tracks(0.5, np.array([3]), np.ones((1, 2)), np.eye(2)[None], np.array([0.25]), np.array([-1]))
    csv.write_tracks(path, [Tracks.empty(0.0, 2), one], covariance=True)
    assert path.read_text() == (
        "time,label,x,y,existence,source,P_x_x,P_x_y,P_y_x,P_y_y\n0.0,,,,,,,,,\n"
        "0.5,3,1.0,1.0,0.25,-1,1.0,0.0,0.0,1.0\n"
    )
    csv.write_tracks(path, [], names=("a", "b"))
    assert path.read_text() == "time,label,a,b,existence,source\n"
    assert csv.read_tracks(path) == []


def test_tracks_without_sources_are_read_too(written):
    (tracks,) = csv.read_tracks(written("time,label,x,existence\n1,5,2.5,1\n"))
    assert tracks.source.tolist() == [-1]
    assert tracks.mean.tolist() == [[2.5]]


def test_rows_are_sorted_and_equal_times_are_one_scan(written):
    d = csv.read_detections(written("time,x\n2,1\n1,2\n2.0,3\n-0.0,\n0,\n"))
    assert [(time, z.ravel().tolist()) for time, z in d] == [(0.0, []), (1.0, [2.0]), (2.0, [1.0, 3.0])]
    assert d.extra["line"].tolist() == [3, 2, 4]


def test_columns_can_be_named(written):
    path = written('"t [s]",east,north,name,p\n1,2,3,"Queen Mary, 2",0.5\n')
    d = csv.read_detections(path, Columns(time="t [s]", coordinates=("north", "east"), score="p"))
    assert d.names == ("north", "east")
    assert d.z.tolist() == [[3, 2]]
    assert d.score.tolist() == [0.5]
    with pytest.raises(ValueError, match=":2: name is 'Queen Mary, 2'; accepted are finite numbers"):
        csv.read_detections(path, Columns(time="t [s]", score="p"))


def test_periods_collect_the_nearest_rows_and_keep_empty_scans(written):
    path = written("time,x,id\n10,0,1\n10.4,1,1\n10.6,2,1\n11.2,3,1\n13,4,2\n")
    d = csv.read_detections(path, scan_period=1.0)
    assert d.time.tolist() == [10, 11, 12, 13]
    assert [z.ravel().tolist() for _, z in d] == [[0, 1], [2, 3], [], [4]]
    truth = d.trajectories()
    np.testing.assert_array_equal(truth.states[:, :, 0], [[0, 3, np.nan, np.nan], [np.nan] * 3 + [4]])


def test_a_regular_recording_is_not_split_by_rounding(written):
    time = np.arange(1000) * 0.1
    path = written("time,x\n" + "".join(f"{t!r},0\n" for t in time.tolist()))
    d = csv.read_detections(path, scan_period=0.1)
    assert np.diff(d.offsets).tolist() == [1] * 1000


@pytest.mark.parametrize(
    ("content", "period"),
    [
        ("time,x\n0,1\n1e9,1\n", 1e-3),
        ("time,x\n-1e308,1\n1e308,1\n", 1.0),
        ("time,x\n1e17,1\n1.0000000000000004e17,2\n", 1.0),
    ],
)
def test_too_many_scans_are_refused_with_the_line(written, content, period):
    path = written(content)
    with pytest.raises(ValueError, match=r":3: times from .* accepted are at most 1000000 scans"):
        csv.read_detections(path, scan_period=period)
    with pytest.raises(ValueError, match="scan_period must be"):
        csv.read_detections(path, scan_period=0.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ":1: an empty file; accepted is a header like time,x,y"),
        ("t,x\n", ":1: columns t,x; accepted is a header with a column 'time'"),
        ("time,score\n", ":1: columns time,score; accepted is a header with coordinates"),
        ("time,x,x\n", ":1: two columns 'x'"),
        ("time,x,\n", ":1: the name of column 3 is ''"),
        ("time,x\n1,a\n", ":2: x is 'a'; accepted are finite numbers"),
        ("time,x\n1,nan\n", ":2: x is 'nan'"),
        ("time,x\n,1\n", ":2: time is ''"),
        ("time,x\n1\n", ":2: 1 columns; accepted are 2"),
        ("time,x,y\n1,2,\n", ":2: y is ''"),
        ("time,x,score\n1,2,\n", ":2: score is ''"),
        ("time,x,id\n1,2,1.5\n", ":2: id is '1.5'; accepted are whole numbers from -1"),
        ("time,x,id\n1,2,ship\n", ":2: id is 'ship'"),
        ("time,x,id\n1,2,5\n2,2,5\n1,3,5\n", ":4: id 5 comes again"),
    ],
)
def test_wrong_detections_are_named_with_their_line(written, content, message):
    path = written(content)
    with pytest.raises(ValueError) as error:
        csv.read_detections(path)
    assert str(error.value).startswith(f"{path}{message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("time,x\n", ":1: columns time,x; accepted are time,label"),
        ("time,label,x,existence,P_x_y\n", ":1: columns"),
        ("time,label,existence\n", ":1: columns"),
        ("time,label,x,existence\n1,-1,2,1\n", ":2: label is -1; accepted are whole numbers >= 0"),
        ("time,label,x,existence\n1,,2,1\n", ":2: label is -1"),
        ("time,label,x,existence\n\n1,1,2,1.5\n", ":3: existence is 1.5; accepted are probabilities"),
        ("time,label,x,existence,source\n1,1,2,1,0.5\n", ":2: source is 0.5; accepted are whole"),
        ("time,label,x,existence\n1,1,2,1\n1,1,3,1\n", ":3: id 1 comes again"),
    ],
)
def test_wrong_tracks_are_named_with_their_line(written, content, message):
    path = written(content)
    with pytest.raises(ValueError) as error:
        csv.read_tracks(path)
    assert str(error.value).startswith(f"{path}{message}")


def one_track(time=0.0, label=(1,), existence=1.0, x=0.0, d=2):
    n = len(label)
    mean, cov = np.full((n, d), x), np.tile(np.eye(d), (n, 1, 1))
    return Tracks(time, np.array(label), mean, cov, np.full(n, existence), np.full(n, -1))


@pytest.mark.parametrize(
    ("scans", "names", "message"),
    [
        ([one_track(1.0), one_track(1.0)], None, "strictly increasing"),
        ([one_track(label=(1, 1))], None, "id 1 has several rows in scan 0"),
        ([one_track(label=(-1,))], None, "ids must lie in 0"),
        ([one_track(existence=1.5)], None, "existence must be a probability"),
        ([one_track(x=np.nan)], None, "values must be finite"),
        ([one_track(0.0), one_track(1.0, d=3)], None, r"scans\[1\] must have mean \(1, 2\)"),
        ([one_track()], ("x",), "names must be 2"),
        ([one_track()], ("x", "x"), "names of columns must be different"),
        ([one_track()], ("x", "label"), "names of columns must be different"),
        ([one_track()], ("x", "a,b"), "names of columns"),
        ([one_track()], ("x", "a\nb"), "names of columns"),
    ],
)
def test_tracks_that_could_not_be_read_back_are_not_written(tmp_path, scans, names, message):
    with pytest.raises(ValueError, match=message):
        csv.write_tracks(tmp_path / "t.csv", scans, names)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("z", "names", "message"),
    [
        ([[np.inf]], ("x",), "finite"),
        ([[1.0]], ("id",), "must not be named id"),
        ([[1.0]], ("",), "names of"),
    ],
)
def test_detections_that_could_not_be_read_back_are_not_written(tmp_path, z, names, message):
    with pytest.raises(ValueError, match=message):
        csv.write_detections(tmp_path / "d.csv", Detections.from_rows([0.0], [0], z, names))
    assert list(tmp_path.iterdir()) == []
