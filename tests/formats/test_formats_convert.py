import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.formats import Detections, convert, csv
from tracking.formats.convert import ais_to_csv, main, pedestrians_to_csv, tangent_plane

AIS = """Time,MMSI,Latitude_degrees,Longitude_degrees,COG_degrees,SOG_knots
2016-01-12 13:02:11.218,235070762,50.7730,-1.0929,157.8,5.9
2016-01-12 13:02:12.218,235013375,50.7766,-1.1087,14.7,19.8
2016-01-12 13:02:12.218,235070762,50.7731,-1.0929,157.8,5.9
2016-01-12 13:02:12.218,235070762,50.7731,-1.0929,157.8,5.9
2016-01-12 13:02:13.218,235070762,91,181,157.8,5.9
2016-01-12 13:02:14.218,235070762,50.7731,54.8,157.8,5.9
"""
WALK = "780\t1.0\t8.46\t3.59\n790\t1.0\t9.57\t3.79\n820\t2.0\t13.64\t5.8\n"


def test_ships(written, tmp_path):
    done = ais_to_csv(written(AIS), tmp_path / "ais.csv")
    assert (done.repeated, done.unusable) == (1, 2)
    d = csv.read_detections(tmp_path / "ais.csv")
    assert d.names == ("x", "y")
    assert d.time.tolist() == [0, 1]
    assert [len(z) for _, z in d] == [1, 2]
    assert d.extra["id"].tolist() == [235070762, 235013375, 235070762]
    assert d.z.tobytes() == done.detections.z.tobytes()
    step = d.z[2] - d.z[0]  # 1e-4 degrees to the north
    np.testing.assert_allclose(step, [0, 11.12], atol=0.01)


def test_other_spellings_and_zones_of_ships(written, tmp_path):
    text = "MMSI,BaseDateTime,LAT,LON\n"
    text += "1,2020-01-01T01:00:00+01:00,10,179.999\n2,2020-01-01T00:00:01Z,10,-179.999\n"
    d = ais_to_csv(written(text), tmp_path / "ais.csv").detections
    assert d.time.tolist() == [0, 1]
    np.testing.assert_allclose(d.z[1] - d.z[0], [219.3, 0], atol=0.1)  # across 180 degrees


def test_pedestrians(written, tmp_path):
    done = pedestrians_to_csv(written(WALK), tmp_path / "eth.csv")
    assert (tmp_path / "eth.csv").read_text() == (
        "time,x,y,id\n0.0,8.46,3.59,1\n0.4,9.57,3.79,1\n0.8,,,\n1.2,,,\n1.6,13.64,5.8,2\n"
    )
    assert str(done) == "3 rows of 2 objects in 5 scans; left out 0 repeated, 0 unusable"
    pedestrians_to_csv(written("6 1 0 0\n0 1 0 0\n"), tmp_path / "eth.csv", frame_rate=15.0, frame_step=6)
    assert csv.read_detections(tmp_path / "eth.csv").time.tolist() == [0, 0.4]


def test_empty_recordings(written, tmp_path):
    assert len(ais_to_csv(written(AIS.split("\n")[0]), tmp_path / "a.csv").detections) == 0
    assert len(pedestrians_to_csv(written(""), tmp_path / "p.csv").detections) == 0
    assert len(csv.read_detections(tmp_path / "p.csv")) == 0


@pytest.mark.parametrize(
    ("function", "content", "message"),
    [
        (ais_to_csv, "Time,Lat,Lon\n", ":1: no column of the MMSI; accepted is one of mmsi"),
        (
            ais_to_csv,
            AIS.replace("2016-01-12", "12/01/16", 1),
            ":2: time is '12/01/16 13:02:11.218'; accepted",
        ),
        (
            ais_to_csv,
            AIS.replace("50.7766", "95"),
            ":3: latitude is '95'; accepted are finite numbers from -91",
        ),
        (ais_to_csv, AIS.replace("235013375", "ship"), ":3: MMSI is 'ship'"),
        (pedestrians_to_csv, WALK + "785 1 0 0\n", ":4: frame is 785 after 780; accepted are steps of 10"),
        (pedestrians_to_csv, WALK + "830 1 0\n", ":4: 3 columns; accepted are 4"),
        (pedestrians_to_csv, WALK + "-10 1 0 0\n", ":4: frame is '-10'"),
    ],
)
def test_wrong_rows_are_named_with_their_line(written, tmp_path, function, content, message):
    path = written(content)
    with pytest.raises(ValueError) as error:
        function(path, tmp_path / "out.csv")
    assert str(error.value).startswith(f"{path}{message}")
    assert not (tmp_path / "out.csv").exists()


def test_the_input_is_never_overwritten(written):
    path = written(WALK)
    with pytest.raises(ValueError, match="is the input; accepted is another file"):
        pedestrians_to_csv(path, path)
    assert path.read_text() == WALK


@given(st.floats(-89, 89), st.floats(-180, 180), st.floats(0, 2 * np.pi), st.floats(1, 30_000))
def test_the_plane_has_metres(latitude, longitude, bearing, distance):
    """Oracle: radii of curvature of the ellipsoid, meridian and prime vertical, for a small step."""
    e2 = convert.FLATTENING * (2 - convert.FLATTENING)
    w = 1 - e2 * np.sin(np.radians(latitude)) ** 2
    meridian, normal = convert.EARTH_RADIUS * (1 - e2) / w**1.5, convert.EARTH_RADIUS / np.sqrt(w)
    step = 1.0 if abs(latitude) > 60 else 100.0
    north = latitude + np.degrees(step * np.cos(bearing) / meridian)
    east = longitude + np.degrees(step * np.sin(bearing) / (normal * np.cos(np.radians(latitude))))
    x, y, away = tangent_plane([north], [east], (latitude, longitude))
    expected = step * np.array([np.sin(bearing), np.cos(bearing)])
    np.testing.assert_allclose([x[0], y[0]], expected, atol=0.02 * step)
    np.testing.assert_allclose(away, step, rtol=0.02)
    far = tangent_plane([latitude + np.degrees(distance / meridian)], [longitude], (latitude, longitude))
    np.testing.assert_allclose(far[1], distance, rtol=3e-3)
    np.testing.assert_allclose(far[0], 0, atol=1e-6)


def test_the_command_line(written, tmp_path, capsys):
    source, target = written(WALK), tmp_path / "eth.csv"
    assert main(["pedestrians", str(source), str(target)]) == 0
    assert capsys.readouterr().out.startswith("3 rows of 2 objects in 5 scans")
    assert main(["pedestrians", str(source), str(target), "--frame-step", "20"]) == 1
    captured = capsys.readouterr()
    assert captured.err == (
        f"{source}:2: frame is 790 after 780; accepted are steps of 20, or set frame_step\n"
    )
    assert captured.out == ""
    assert main(["ais", str(tmp_path / "none"), str(target)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["ais", str(source), str(target), "--max-range", "-1"]) == 1
    assert capsys.readouterr().err == "max_range must be finite and > 0, got -1.0\n"
    for wrong in ([], ["cars", "a", "b"], ["ais", "a"], ["ais", "a", "b", "--max-range", "far"]):
        with pytest.raises(SystemExit) as exit_info:
            main(wrong)
        assert exit_info.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_the_module_runs(written, tmp_path):
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "tracking.formats.convert",
        "ais",
        written(AIS),
        tmp_path / "a.csv",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "3 rows of 2 objects in 2 scans; left out 1 repeated, 2 unusable\n"


def test_the_conversions_in_the_docstring_of_csv_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "biwi_eth.txt").write_text(WALK)
    names = {"np": np, "Detections": Detections, "tangent_plane": tangent_plane}
    names |= {"write_detections": csv.write_detections, "seconds": [0.0, 0.0, 2.0]}
    names |= {"mmsi": np.array([1, 2, 1]), "latitude_deg": [50.0, 50.1, 50.2], "longitude_deg": [0, 0.1, 0.2]}
    snippets = [block for block in csv.__doc__.split("\n\n") if "write_detections(" in block]
    assert len(snippets) == 2
    for snippet in snippets:
        exec(textwrap.dedent(snippet), names)
    assert np.diff(csv.read_detections("ais.csv").offsets).tolist() == [2, 1]
    pedestrians_to_csv("biwi_eth.txt", "same.csv")
    ours, theirs = csv.read_detections("same.csv"), csv.read_detections("eth.csv")
    np.testing.assert_allclose(theirs.time, ours.time)
    np.testing.assert_array_equal(theirs.z, ours.z)
    np.testing.assert_array_equal(theirs.extra["id"], ours.extra["id"])


def test_real_ships(data, tmp_path):
    (source,) = (data / "ais").glob("*.csv")
    done = ais_to_csv(source, tmp_path / "ais.csv")
    assert len(done.detections.z) + done.repeated + done.unusable == 18_623
    assert (done.repeated, done.unusable) == (3, 1)  # one report lies in 54.8 degrees east
    d = csv.read_detections(tmp_path / "ais.csv", scan_period=10.0)
    assert d.time[-1] == pytest.approx(84 * 60 + 30, abs=15)
    truth = d.trajectories()
    assert len(truth) == 91
    step = np.diff(truth.states, axis=1)
    speed = np.linalg.norm(step[np.isfinite(step).all(axis=2)], axis=1) / 10.0
    assert np.percentile(speed, 99) < 25  # m/s, ferries


@pytest.mark.parametrize(("name", "rows", "people"), [("biwi_eth", 5492, 360), ("crowds_zara01", 5153, 148)])
def test_real_pedestrians(data, tmp_path, name, rows, people):
    pedestrians_to_csv(data / "pedestrians" / f"{name}.txt", tmp_path / "p.csv")
    d = csv.read_detections(tmp_path / "p.csv")
    assert len(d.z) == rows
    np.testing.assert_allclose(np.diff(d.time), 0.4)
    truth = d.trajectories()
    assert len(truth) == people
    step = np.diff(truth.states, axis=1)
    speed = np.linalg.norm(step[np.isfinite(step).all(axis=2)], axis=1) / 0.4
    assert 0.5 < np.median(speed) < 2.5  # m/s, people walk
