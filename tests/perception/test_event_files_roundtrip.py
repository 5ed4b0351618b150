"""Conformance: what is written in any format is read back the same, whole, in windows and in chunks."""

import numpy as np
import pytest
from event_file_cases import CASES  # tests/perception/event_file_cases.py

from perception.events import DamagedError, EventStream, chunks, describe, read, write
from perception.events.files import aedat3, aedat4, blocks, evt, hdf5, npz, seek, text


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks and strides so small that a short file has many."""
    for module in (blocks, evt, npz, hdf5, aedat3, aedat4):
        monkeypatch.setattr(module, "BLOCK", 64)
    monkeypatch.setattr(text, "STEP", 1000)
    monkeypatch.setattr(aedat3, "PER_PACKET", 150)
    monkeypatch.setattr(aedat4, "PER_PACKET", 150)
    monkeypatch.setattr(seek, "STRIDE", 256)
    monkeypatch.setattr(seek, "SHORT", 0)
    monkeypatch.setattr(blocks.read_words, "__defaults__", (64,))


def test_a_stream_comes_back(case, tmp_path):
    stream = case.stream()
    assert case.read(case.write(stream, tmp_path)) == stream


@pytest.mark.parametrize("n", [0, 1, 2])
def test_empty_and_short_streams_come_back(case, tmp_path, n):
    stream = case.stream(n)
    path = case.write(stream, tmp_path)
    assert case.read(path) == stream
    assert [len(part) for part in chunks(path, 1, **case.known)] == [1] * n
    assert case.read(path, 0, 100) == stream.between(0, 100)


def test_ties_keep_their_order(case, tmp_path):
    n, (wide, high) = 500, case.size
    rng = np.random.default_rng(1)
    stream = EventStream(
        rng.integers(0, 34, n),
        rng.integers(0, 4, n),
        np.sort(rng.integers(0, 20, n)),
        rng.integers(0, 2, n),
        wide,
        high,
    )
    assert case.read(case.write(stream, tmp_path)) == stream


def test_the_corners_of_the_sensor_come_back(case, tmp_path):
    wide, high = case.size
    stream = EventStream(
        [0, wide - 1, 0, wide - 1], [0, 0, high - 1, high - 1], [0, 1, 1, 2], [0, 1, 1, 0], wide, high
    )
    assert case.read(case.write(stream, tmp_path)) == stream


def test_windows_are_slices(case, tmp_path, small_blocks):
    stream = case.stream()
    path = case.write(stream, tmp_path)
    rng = np.random.default_rng(2)
    edges = [(0, 1), (0, case.end), (-5, 10**6), (case.end, case.end + 1), (-10, -5), (3_000_000, 3_000_000)]
    exact = [(int(stream.t[700]), int(stream.t[900])), (int(stream.t[-1]), int(stream.t[-1]) + 1)]
    for start, stop in [*edges, *exact, *np.sort(rng.integers(0, case.end, (20, 2))).tolist()]:
        assert case.read(path, start, stop) == stream.between(start, stop), (start, stop)
    assert case.read(path, start=4_000_000) == stream[stream.t >= 4_000_000]
    assert case.read(path, stop=4_000_000) == stream[stream.t < 4_000_000]


@pytest.mark.parametrize("number", [1, 7, 64, 2000, 10**9])
def test_chunks_joined_are_the_whole(case, tmp_path, small_blocks, number):
    stream = case.stream(300 if number == 1 else 2000)
    path = case.write(stream, tmp_path)
    parts = list(chunks(path, number, **case.known))
    assert [len(part) for part in parts] == [len(part) for part in stream.by_count(number)]
    assert parts[0].merge(*parts[1:]) == stream
    window = list(chunks(path, number, 2_000_000, 5_000_000, **case.known))
    assert window[0].merge(*window[1:]) == stream.between(2_000_000, 5_000_000)


def test_chunks_of_one_file_are_written_to_another(case, tmp_path):
    stream = case.stream()
    first = case.write(stream, tmp_path)
    second = case.write(chunks(first, 128, **case.known), tmp_path, "copy")
    assert case.read(second) == stream
    assert (
        case.read(case.write((part for part in [stream[:5], stream[5:5], stream[5:]]), tmp_path, "c"))
        == stream
    )


def test_description(case, tmp_path, small_blocks):
    stream = case.stream()
    path = case.write(stream, tmp_path)
    info = describe(path)
    assert info.format == case.format
    assert info.size == (case.size if case.told else None)
    assert info.first == stream.t[0]
    assert info.last in (None, stream.t[-1])
    assert info.count in (None, len(stream))
    empty = describe(case.write(case.stream(0), tmp_path, "empty"))
    assert (empty.first, empty.last, empty.count or 0) == (None, None, 0)


def test_unknown_sizes_are_those_of_the_largest_pixels(tmp_path):
    stream = EventStream([3, 1], [0, 7], [0, 1], [0, 1], 20, 20)
    write(stream, tmp_path / "a.csv")
    assert (read(tmp_path / "a.csv").width, read(tmp_path / "a.csv").height) == (4, 8)
    assert [(part.width, part.height) for part in chunks(tmp_path / "a.csv", 1)] == [(4, 8)] * 2
    assert read(tmp_path / "a.csv", size=(20, 20)) == stream


def test_files_are_recognised_by_content_under_any_name(case, tmp_path):
    stream = case.stream(50)
    path = case.write(stream, tmp_path)
    other = tmp_path / "events.what"
    path.rename(other)
    if case.format in ("csv", "txt", "nmnist"):
        with pytest.raises(ValueError, match=r"events\.what: neither content nor extension"):
            case.read(other)
        assert case.read(other, format=case.format) == stream
    else:
        assert case.read(other) == stream


def test_what_cannot_be_written_leaves_no_file(case, tmp_path):
    stream = case.stream(5)
    with pytest.raises(ValueError, match="follow each other in time"):
        case.write([stream.shift(100), stream.shift(50)], tmp_path)
    other = EventStream.empty(5, 5)
    with pytest.raises(ValueError, match="one sensor"):
        case.write([stream, other], tmp_path)
    with pytest.raises(ValueError, match="nothing to write"):
        case.write([], tmp_path)
    assert list(tmp_path.iterdir()) == []


LIMITS = {  # the first time that a format does not hold, from a stream that starts with it
    "evt2": 1 << 40, "evt21": 1 << 40, "evt3": 1 << 40, "dat": 1 << 32,
    "davis346": 1 << 32, "dvs128": 1 << 32,
    "aedat3": 1 << 61, "mvsec": 1 << 50, "cnn": 1 << 50, "bag": 10**6 << 32, "npz": 10**17, "csv": 10**17,
    "txt": 1 << 50, "nmnist": 1 << 23,
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_times_beyond_a_format_are_refused(name, tmp_path):
    case = CASES[name]
    wide, high = case.size
    late = EventStream([1], [1], [LIMITS[name] - 1], [1], wide, high)
    assert case.read(case.write(late, tmp_path)) == late
    with pytest.raises(ValueError, match=r"time|clock"):
        case.write(late.shift(1), tmp_path, "beyond")


SIGNED = ("aedat4", "hdf5", "mvsec", "cnn", "npz", "csv", "dsec")


def test_negative_times_come_back_or_are_refused(case, tmp_path):
    stream = case.stream(50).shift(-1_000_000)
    if any(case is CASES[name] for name in SIGNED) or case.format == "aedat4":
        assert case.read(case.write(stream, tmp_path)) == stream
    else:
        with pytest.raises(ValueError, match="times from 0"):
            case.write(stream, tmp_path)


def test_sensors_beyond_a_format_are_refused(tmp_path):
    huge = EventStream.empty(65_536, 65_536)
    for name in ("evt2", "evt21", "evt3", "dat", "dvs128", "aedat3", "aedat4", "mvsec", "nmnist"):
        with pytest.raises(ValueError, match=r"sensors of"):
            CASES[name].write(huge, tmp_path)


def test_dsec_holds_71_minutes_from_its_offset(tmp_path):
    case = CASES["dsec"]
    stream = EventStream([1, 2], [1, 1], [10**12, 10**12 + 2**32 - 1], [1, 0], *case.size)
    path = case.write(stream, tmp_path)
    assert case.read(path) == stream
    assert case.read(path, start=10**12 + 5) == stream[1:]
    with pytest.raises(ValueError, match="DSEC holds times"):
        case.write([stream, EventStream([1], [1], [10**12 + 2**32], [1], *case.size)], tmp_path)


def test_an_unknown_format_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"format must be one of evt3, .*, got 'evt9'"):
        write(EventStream.empty(2, 2), tmp_path / "a.raw", format="evt9")
    with pytest.raises(ValueError, match=r"neither content nor extension"):
        write(EventStream.empty(2, 2), tmp_path / "a.aedat")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.raw")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"start": 0.2, "stop": 0.4}, r"start must be whole microseconds, got 0\.2"),
        ({"stop": np.nan}, "stop must be whole microseconds"),
        ({"late": -5}, "late must be at least 0 us"),
        ({"late": 0.5}, "late must be whole"),
        ({"size": (0, 0)}, "width must be a whole number from 1"),
        ({"size": (346.5, 260)}, "width must be a whole number from 1"),
        ({"size": (346, 260, 2)}, r"size must be \(width, height\), got"),
        ({"size": "346x260"}, r"size must be \(width, height\), got"),
    ],
)
def test_wrong_arguments_are_refused_and_not_blamed_on_the_file(tmp_path, options, match):
    path = CASES["evt3"].write(CASES["evt3"].stream(10), tmp_path)
    for call in (read, chunks):
        with pytest.raises(ValueError, match=match) as caught:
            call(path, **options)
        assert not isinstance(caught.value, DamagedError)


def test_windows_from_whole_numbers_of_any_type_and_size(tmp_path):
    stream = CASES["evt2"].stream(100)
    path = CASES["evt2"].write(stream, tmp_path)
    assert read(path, 1e6, np.float64(5e6)) == stream.between(10**6, 5 * 10**6)
    assert read(path, -(2**70), 2**70, size=np.array([346, 260])) == stream


@pytest.mark.parametrize("what", [[1, 2], [None], CASES["evt2"].stream(3).structured()])
def test_what_is_no_stream_is_not_written(tmp_path, what):
    with pytest.raises(TypeError, match="an EventStream, or several, can be written"):
        write(what, tmp_path / "a.raw")
    assert list(tmp_path.iterdir()) == []
