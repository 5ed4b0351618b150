"""Whatever is in a file: a reader returns, or raises ValueError with the file and the line."""

import io
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tracking.formats import convert, csv, files, kitti, mot

CAR = "0,2,298.3,165.1,458.2,293.4,8.2,1.9,1.8,4.7,-4.5,1.8,13.5,-2.1,-1.7\n"
OBJECT = "0 5 Car 0 2 -1.79 296.7 161.7 455.2 292.3 2.0 1.82 4.43 -4.55 1.85 13.41 -2.11 0.5\n"
SEEDS = {
    "kitti detections": CAR + CAR.replace("0,2", "3,2", 1),
    "kitti results": OBJECT + OBJECT.replace("0 5", "2 5", 1),
    "kitti calibration": "P2:" + " 7.2e+02" * 12 + "\nR_rect" + " 1.0" * 9 + "\n",
    "mot": "1,-1,281.9,187.4,79.9,209.5,0.99,-1,-1,-1\n2,3,63,153,82,288,1,-1,-1,-1\n",
    "corners": "0, 54.7,147.3,165.4,442.6,0.87\n1, 54.7,147.3,165.4,442.6,0.87\n",
    "csv": "time,x,y,score,id\n0.0,12.5,-3.1,0.9,7\n0.4,,,,\n0.8,1,2,0.5,\n",
    "csv in periods": "time,x,y,score,id\n0.0,12.5,-3.1,0.9,7\n0.4,,,,\n0.8,1,2,0.5,\n",
    "tracks": "time,label,x,existence,source,P_x_x\n0.0,1,2.5,0.9,-1,1.0\n0.5,,,,,\n1.0,1,3.5,0.9,0,1.0\n",
    "ais": "Time,MMSI,Latitude_degrees,Longitude_degrees\n2016-01-12 13:02:11.218,235070762,50.77,-1.09\n"
    "2016-01-12 13:02:12.218,235070762,50.78,-1.09\n",
    "pedestrians": "780\t1.0\t8.46\t3.59\n790\t1.0\t9.57\t3.79\n",
}
READERS = {
    "kitti detections": kitti.read_detections,
    "kitti results": kitti.read_results,
    "kitti calibration": kitti.read_calibration,
    "mot": lambda path: mot.read_detections(path, 25, point="box"),
    "corners": lambda path: mot.read_corners(path, 25),
    "csv": csv.read_detections,
    "csv in periods": lambda path: csv.read_detections(path, scan_period=0.1),
    "tracks": csv.read_tracks,
    "ais": lambda path: convert.ais_to_csv(path, path.with_suffix(".out")),
    "pedestrians": lambda path: convert.pedestrians_to_csv(path, path.with_suffix(".out")),
}
TOKENS = [b"nan", b"-inf", b"1e999", b"-1", b"-0.0", b"9" * 30, b"1e18", b"9" * 5000, b"1.5", b"1_0", b"0x1"]
TOKENS += [
    b"",
    b" ",
    b"\t",
    b",",
    b",,",
    b'"',
    b"'",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    "\u0663é\u2028\ufeff".encode(),
]
TOKENS += [
    b"x",
    b"time",
    b"id",
    b"Car",
    b"True",
    b"None",
    b"__import__('os')",
    b"0001-01-01",
    b"9999-12-31T23:59",
]


def mutated(seed: bytes, rng) -> bytes:
    content = bytearray(seed)
    for _ in range(rng.integers(1, 4)):
        i, j = np.sort(rng.integers(0, len(content) + 1, 2))
        token = TOKENS[rng.integers(len(TOKENS))]
        match rng.integers(6):
            case 0:
                content[i:i] = token
            case 1:
                content[i : min(j, i + 8)] = token
            case 2:
                del content[i:j]
            case 3:
                content[j:j] = content[i:j]
            case 4:
                content[i : i + 1] = bytes([rng.integers(256)])
            case 5:  # a whole field becomes the token
                fields = re.split(rb"([,\s])", bytes(content))
                fields[2 * rng.integers((len(fields) + 1) // 2)] = token
                content = bytearray(b"".join(fields))
    return bytes(content)


@pytest.fixture
def refusal(monkeypatch):
    """What the ValueError of a reader says about a content, or None; the files are in memory, to be quick."""
    monkeypatch.setattr(convert, "write_detections", lambda *_: None)

    def read(name, content):
        monkeypatch.setattr(files, "open", lambda *_: io.BytesIO(content), raising=False)
        try:
            READERS[name](Path("folder/file.txt"))
        except ValueError as error:
            return str(error)

    return read


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", [2000, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", READERS)
def test_mutated_files_are_read_or_refused(name, number, refusal):
    rng = np.random.default_rng(len(name) + number)
    wanted = re.compile(r"folder/file\.txt:\d+: .+; .+", re.DOTALL)
    refused = 0
    for _ in range(number):
        content = mutated(SEEDS[name].encode(), rng)
        message = refusal(name, content)
        if message is not None:
            refused += 1
            assert wanted.fullmatch(message), (content, message)
            assert len(message) < 1000
    assert 0.3 * number < refused < number  # the mutations are neither all harmless nor all fatal


@pytest.mark.parametrize("name", READERS)
def test_random_bytes_are_refused(name, tmp_path):
    path, rng = tmp_path / "file.txt", np.random.default_rng(0)
    for size in (1, 10, 100, 10_000):
        path.write_bytes(rng.bytes(size).replace(b"\n", b"\xff"))
        with pytest.raises(ValueError, match=r"file.txt:1: .+; .+"):
            READERS[name](path)


HOSTILE = {
    "kitti detections": "999999999" + CAR[1:],
    "kitti results": OBJECT + "9" * 30 + OBJECT[1:],
    "mot": SEEDS["mot"] + "1000001,-1,1,1,1,1,1,-1,-1,-1\n",
    "corners": "1e300,1,1,1,1,1\n",
    "csv in periods": "time,x\n0,1\n1e15,1\n",
    "tracks": "time,label," + ",".join(f"s{i}" for i in range(2000)) + ",existence,P_a_b\n",
    "pedestrians": "0 1 0 0\n1000000000 1 0 0\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_numbers_in_a_file_do_not_decide_on_memory(name, tmp_path):
    path = tmp_path / "file.txt"
    path.write_text(HOSTILE[name])
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"file.txt:\d+: "):
        READERS[name](path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50_000_000
