"""`sims.compare --recording` on small files: names, exit status, one line of error, the table in any case."""

import sys

import pytest

from sims.compare import main
from sims.recordings import run
from sims.recordings.names import distinct_names

MOT_ROWS = "".join(f"{k},-1,{10 + 2 * k},20,30,60,0.9,-1,-1,-1\n" for k in range(1, 8))
MOT_TRUTH = MOT_ROWS.replace(",-1,1", ",1,1").replace(",-1,2", ",1,2")
KITTI_ROWS = "".join(f"{k},2,600,150,700,220,9,1.5,1.6,4,0.1,1.6,{20 + k},0,0\n" for k in range(8))
KITTI_TRUTH = "".join(f"{k} 1 Car 0 0 0 600 150 700 220 1.5 1.6 4 0.1 1.6 {20 + k} 0\n" for k in range(8))
CALIBRATION = "P2: 700 0 600 0 0 700 180 0 0 0 1 0\n"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Write files by their names, in an empty folder that is also the current one."""
    monkeypatch.chdir(tmp_path)

    def write(**contents):
        for name, content in contents.items():
            path = tmp_path / name.replace("__", "/").replace("_txt", ".txt").replace("_csv", ".csv")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    return write


@pytest.fixture
def compare(capsys):
    """Run the command with PMBM; returns status, standard output and error."""

    def run_it(*argv):
        try:
            status = main([*argv, "--trackers", "pmbm"])
        except SystemExit as stop:  # argparse leaves this way
            status = stop.code
        return status, *capsys.readouterr()

    return run_it


@pytest.fixture
def no_tracking(monkeypatch):
    def refuse(*_):
        raise AssertionError("tracked before the input was known to be good")

    monkeypatch.setattr(run, "evaluate", refuse)
    monkeypatch.setattr(run, "warm_up", refuse)


def refused(outcome, status, says):
    assert outcome[:2] == (status, "")
    assert outcome[2].count("\n") == 1
    assert outcome[2].startswith("python -m sims.compare: ")
    assert says in outcome[2]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["det.txt"], ["det"]),
        (["x/one.csv", "x/two.csv"], ["one", "two"]),
        (["a/det.txt", "b/det.txt"], ["a", "b"]),
        (["M1/det/det.txt", "M2/det/det.txt", "other.txt"], ["M1", "M2", "other"]),
        (["a/b/../det.txt", "b/det.txt"], ["a", "b"]),
    ],
)
def test_names_are_those_of_the_nearest_difference(paths, names):
    assert distinct_names(paths) == names


@pytest.mark.parametrize(
    "paths", [["det.txt", "det.txt"], ["a/d.txt", "b/d.txt", "a.txt"], ["ALL.csv", "b.csv"]]
)
def test_names_that_stay_equal_are_refused(paths):
    with pytest.raises(ValueError, match="must have names of their own"):
        distinct_names(paths)


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        ("mot", "det.txt", MOT_ROWS),
        ("kitti", "0000.txt", KITTI_ROWS),
        ("csv", "ais.csv", "time,x,y,id\n0,0,0,1\n1,1,1,1\n2,2,2,1\n"),
    ],
)
def test_every_recording_has_a_row_and_a_file(kind, name, content, files, compare, tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(content)
    status, out, err = compare("--recording", kind, f"a/{name}", f"b/{name}", "--results", "R")
    assert (status, err) == (0, "")
    rows = {line.split()[1] for line in out.splitlines() if line.startswith("pmbm")}
    assert rows >= {"a", "b"}
    assert sorted(p.stem for p in (tmp_path / "R" / "pmbm").iterdir()) == ["a", "b"]
    refused(compare("--recording", kind, f"a/{name}", f"a/{name}"), 2, "must have names of their own")


@pytest.mark.usefixtures("no_tracking")
def test_results_that_cannot_be_written_are_known_before(files, compare):
    files(det_txt=MOT_ROWS, R__pmbm="a file where a folder belongs")
    refused(compare("--recording", "mot", "det.txt", "--results", "det.txt"), 2, "is not a folder")
    refused(compare("--recording", "mot", "det.txt", "--results", "R"), 1, "cannot write R/pmbm: ")
    refused(compare("--recording", "mot", "det.txt", "--results", "det.txt/R"), 1, "cannot write det.txt/R")
    if sys.platform == "linux":
        refused(compare("--recording", "mot", "det.txt", "--results", "/proc/R"), 1, "cannot write /proc/R")


def test_results_that_fail_late_cost_the_files_not_the_table(files, compare, tmp_path):
    files(det_txt=MOT_ROWS, R__pmbm__det_txt__inside="")
    status, out, err = compare("--recording", "mot", "det.txt", "--results", "R")
    assert status == 1
    assert "ms/scan" in out
    assert err.count("\n") == 1
    assert "cannot write to R: R/pmbm/det.txt is not an ordinary file" in err


@pytest.mark.parametrize("calibration", ["", CALIBRATION.replace("P2", "P3")])
@pytest.mark.usefixtures("no_tracking")
def test_kitti_calibration_needs_the_colour_camera(calibration, files, compare):
    files(detection__x_Car_y__0000_txt=KITTI_ROWS, calib__0000_txt=calibration)
    refused(compare("--recording", "kitti", "."), 2, "calib/0000.txt: no matrix P2")


@pytest.mark.parametrize("kind", ["mot", "kitti", "csv"])
@pytest.mark.usefixtures("no_tracking")
def test_empty_files_are_refused(kind, files, compare):
    files(det_txt="" if kind != "csv" else "time,x,y\n")
    refused(compare("--recording", kind, "det.txt"), 2, "det.txt: no ")


@pytest.mark.usefixtures("no_tracking")
def test_mot_refuses_a_box_without_area_and_empty_labels(files, compare):
    files(det_txt=MOT_ROWS, flat_txt=MOT_ROWS.replace(",30,60,", ",30,0,"), gt_txt="")
    refused(compare("--recording", "mot", "flat.txt"), 2, "flat.txt:1: a box of width 30 and height 0")
    refused(compare("--recording", "mot", "det.txt", "--labels", "gt.txt"), 2, "gt.txt: no rows")


def test_nothing_detected_but_labels_is_scored(files, compare):
    files(det_txt="", gt_txt=MOT_TRUTH)
    pytest.importorskip("trackeval", reason="needs the eval extra")
    status, out, _ = compare("--recording", "mot", "det.txt", "--labels", "gt.txt")
    assert status == 0
    assert out.splitlines()[-1].split()[2:4] == ["0.00", "0.00"]


@pytest.mark.usefixtures("no_tracking")
def test_kitti_labels_must_be_there(files, compare):
    files(a__0000_txt=KITTI_ROWS, a__0001_txt=KITTI_ROWS, labels__0000_txt=KITTI_TRUTH)
    refused(compare("--recording", "kitti", "a", "--labels", "nowhere"), 2, "nowhere: no such folder")
    refused(compare("--recording", "kitti", "a", "--labels", "labels"), 2, "labels: no labels 0001.txt")


@pytest.mark.usefixtures("no_tracking")
def test_a_missing_scorer_is_known_before_tracking(files, compare, monkeypatch):
    files(a__0000_txt=KITTI_ROWS, labels__0000_txt=KITTI_TRUTH)
    monkeypatch.setitem(sys.modules, "trackeval", None)
    words = ("--recording", "kitti", "a", "--labels", "labels")
    refused(compare(*words), 2, "pip install -c constraints.txt -e '.[eval]'")


def test_cyclists_and_recordings_without_labels_need_no_scorer(files, compare, monkeypatch):
    files(a__0000_txt=KITTI_ROWS, labels__0000_txt=KITTI_TRUTH)
    monkeypatch.setitem(sys.modules, "trackeval", None)
    assert compare("--recording", "kitti", "a")[0] == 0
    assert compare("--recording", "kitti", "a", "--labels", "labels", "--class", "Cyclist")[0] == 0
