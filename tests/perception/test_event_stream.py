"""EventStream: validation, slices without copies, and operations that lose nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception.events import EventStream, windows

W, H = 40, 30


def random_stream(n=1000, seed=0, width=W, height=H):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 10 * n + 1, n))
    return EventStream(
        rng.integers(0, width, n), rng.integers(0, height, n), t, rng.integers(0, 2, n), width, height
    )


@pytest.fixture
def stream():
    return random_stream()


def test_columns_have_the_types_of_the_docstring_and_cannot_be_written_to(stream):
    kinds = {"x": np.uint16, "y": np.uint16, "t": np.int64, "p": np.bool_}
    for name, kind in kinds.items():
        assert getattr(stream, name).dtype == kind
        with pytest.raises(ValueError, match="read-only"):
            getattr(stream, name)[0] = 1


def test_inputs_are_not_changed_and_stay_writable():
    x, p = np.array([1, 2], np.uint16), np.array([-1, 1])
    stream = EventStream(x, x, np.array([5, 5]), p, W, H)
    assert stream.p.tolist() == [False, True]
    assert p.tolist() == [-1, 1]
    x[0] = 3  # its own array is still the caller's


@pytest.mark.parametrize("n", [0, 1])
def test_no_event_and_one_event_are_streams(n):
    stream = random_stream(n)
    assert len(stream) == n
    assert stream.duration == 0
    assert stream.merge(stream).sign.shape == (2 * n,)
    assert len(list(stream.by_time(10))) == len(list(stream.by_count(10))) == n
    assert EventStream.from_structured(stream.structured(), W, H) == stream


@pytest.mark.parametrize(
    ("column", "value", "match"),
    [
        ("x", [0, W], rf"x\[1\] = {W} is outside the sensor, whose width is {W}"),
        ("y", [-1, 0], r"y\[0\] = -1 is outside"),
        ("x", [65_536, 0], "outside"),
        ("t", [5, 4], r"t\[1\] = 4 after 5"),
        ("t", [0.0, 0.5], r"0.5 at index 1.*seconds"),
        ("t", [0.0, np.nan], "nan at index 1"),
        ("t", np.array([0, 2**63], np.uint64), "got 9223372036854775808 at index 1"),
        ("p", [0, 2], "got 2 at index 1"),
        ("p", [-1, 0], "got 0 at index 1"),
        ("p", ["on", "off"], "whole numbers"),
        ("p", [1], "one length"),
        ("x", [[0, 1]], "one dimension"),
    ],
)
def test_wrong_columns_are_named_with_the_place(column, value, match):
    columns = {"x": [0, 1], "y": [0, 1], "t": [0, 1], "p": [0, 1]} | {column: value}
    with pytest.raises(ValueError, match=match):
        EventStream(**columns, width=W, height=H)


@pytest.mark.parametrize("side", [0, -1, 2.0, True, 65_537])
def test_a_sensor_has_whole_sides(side):
    with pytest.raises(ValueError, match="whole number from 1"):
        EventStream.empty(side, H)


def test_slices_share_memory(stream):
    for part in (stream[10:20], stream.between(100, 5000), next(stream.by_count(7))):
        for name in "xytp":
            assert np.shares_memory(getattr(part, name), getattr(stream, name))


def test_windows_in_time_hold_every_event_once(stream):
    windows = list(stream.by_time(333))
    assert sum(len(w) for w in windows) == len(stream)
    assert windows[0].merge(*windows[1:]) == stream
    start = stream.t[0]
    for k, window in enumerate(windows):
        assert ((window.t - start) // 333 == k).all()


def test_overlapping_windows(stream):
    windows = list(stream.by_time(400, step=100))
    assert windows[3] == stream.between(stream.t[0] + 300, stream.t[0] + 700)


def test_windows_by_count(stream):
    assert [len(w) for w in stream.by_count(300)] == [300, 300, 300, 100]


@given(st.integers(0, 200), st.integers(0, 2**31), st.integers(1, W), st.integers(1, H))
def test_crops_tile_the_sensor(n, seed, width, height):
    stream = random_stream(n, seed)
    found = np.zeros((H, W), int)
    for left in range(0, W, width):
        for top in range(0, H, height):
            tile = stream.crop(left, top, min(width, W - left), min(height, H - top))
            np.add.at(found, (tile.y.astype(int) + top, tile.x.astype(int) + left), 1)
    expected = np.zeros((H, W), int)
    np.add.at(expected, (stream.y, stream.x), 1)
    np.testing.assert_array_equal(found, expected)


def test_flips_undo_themselves_and_move_the_corner(stream):
    for how in ("horizontal", "vertical", "polarity"):
        assert stream.flip(**{how: True}).flip(**{how: True}) == stream
    assert (stream.flip(horizontal=True).x == W - 1 - stream.x.astype(int)).all()
    assert (stream.flip(polarity=True).sign == -stream.sign).all()


def test_merge_keeps_order_within_one_time():
    a = EventStream([0, 1], [0, 0], [5, 5], [0, 0], W, H)
    b = EventStream([2, 3], [0, 0], [4, 5], [1, 1], W, H)
    assert a.merge(b).x.tolist() == [2, 0, 1, 3]
    with pytest.raises(ValueError, match="sizes"):
        a.merge(EventStream.empty(W + 1, H))


def test_both_polarities_are_all(stream):
    assert stream.only(True).merge(stream.only(False)).sign.sum() == stream.sign.sum()
    assert stream.only(-1) == stream.only(0) == stream.only(False)
    assert stream.only(1) == stream.only(np.True_) == stream.only(True)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda s: s.between(0.2, 0.4), r"start must be whole microseconds, got 0.2.*round\(1e6"),
        (lambda s: s.between(0, np.nan), "stop must be whole microseconds, got nan"),
        (lambda s: s.between(None, 5), "start must be whole"),
        (lambda s: s.shift(0.5), "by must be whole"),
        (lambda s: next(s.by_time(7.5)), "length must be whole"),
        (lambda s: next(windows([s], 0.02)), "length must be whole"),
        (lambda s: s.crop(0, 0, 0, 0), "width must be a whole number from 1"),
        (lambda s: s.crop(0, 0, 3.5, 10), "width must be a whole number from 1"),
        (lambda s: s.crop(W - 1, 0, 2, 2), "does not lie within"),
        (lambda s: s.only("off"), "polarity must be"),
        (lambda s: s.only(2), "polarity must be"),
    ],
)
def test_halves_of_microseconds_and_pixels_are_refused(stream, call, match):
    with pytest.raises(ValueError, match=match):
        call(stream)


def test_whole_times_of_every_type_are_times(stream):
    for start, stop in ((100, 5000), (100.0, 5e3), (np.int32(100), np.float64(5000)), (np.uint64(100), 5000)):
        assert stream.between(start, stop) == stream[(stream.t >= 100) & (stream.t < 5000)]
    assert stream.between(-(2**70), 2**70) == stream
    assert len(stream.between(2**70, -(2**70))) == 0


def test_unsorted_events_are_sorted_stably():
    stream = EventStream.unsorted([0, 1, 2], [0, 0, 0], [7, 3, 3], [1, 0, 1], W, H)
    assert stream.x.tolist() == [1, 2, 0]


def test_a_backward_slice_and_a_wrong_mask_are_refused(stream):
    with pytest.raises(ValueError, match="forward"):
        stream[::-1]
    with pytest.raises(TypeError, match="mask of 1000"):
        stream[np.array([1, 2])]


def test_structured_arrays_as_tonic_has_them(stream):
    tonic = pytest.importorskip("tonic", reason="tonic is not installed (extra `events`)")
    assert stream.structured().dtype == tonic.io.events_struct
    assert EventStream.from_structured(stream.structured(), W, H) == stream
    with pytest.raises(ValueError, match="int16"):
        EventStream.empty(40_000, 1).structured()
    with pytest.raises(ValueError, match="fields x, y, t and p"):
        EventStream.from_structured(np.zeros(3), W, H)


def test_tensors_and_back(stream):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `learn`)")
    columns = stream.tensors()
    assert columns["t"].dtype == torch.int64
    assert EventStream.from_tensors(**columns, width=W, height=H) == stream
    columns["x"][0] = 0  # its own memory


def test_shift_keeps_within_the_range_of_times(stream):
    assert (stream.shift(-50).t == stream.t - 50).all()
    for far in (2**63, 2**61):
        with pytest.raises(ValueError, match="within"):
            stream.shift(far)


def test_windows_of_a_recording_do_not_depend_on_its_pieces():
    rng = np.random.default_rng(5)
    n = 3000
    t = np.sort(np.concatenate((rng.integers(0, 10_000, n // 2), rng.integers(35_000, 45_000, n // 2))))
    late = EventStream(rng.integers(0, 9, n), rng.integers(0, 7, n), t, rng.integers(0, 2, n), 9, 7)
    whole = list(windows([late], 4_000))
    for number in (1, 37, 1000):
        parts = list(windows(late.by_count(number), 4_000))
        assert [s for _, s in whole] == [s for _, s in parts]
        assert all(a == b for (a, _), (b, _) in zip(whole, parts))
    assert sum(len(w) for w, _ in whole) == len(late)
    assert min(len(w) for w, _ in whole) == 0
    assert [s for _, s in whole][:2] == [
        (int(t[0]), int(t[0]) + 3_999),
        (int(t[0]) + 4_000, int(t[0]) + 7_999),
    ]
    assert list(windows([], 10)) == list(windows([EventStream.empty(3, 2)], 10)) == []
    with pytest.raises(ValueError, match="length"):
        next(windows([late], 0))


def test_windows_of_streams_that_go_back_in_time_are_refused(stream):
    parts = windows([stream, stream], 1000)
    with pytest.raises(ValueError, match="follow each other in time"):
        list(parts)
    with pytest.raises(ValueError, match="one sensor"):
        list(windows([stream, random_stream(5, width=W + 1).shift(20_000)], 1000))


def test_a_window_of_many_pieces_is_joined_once_and_one_of_one_piece_no_copy(stream, monkeypatch):
    """Each piece was once merged with all before it, in time that grew with the square of their number."""
    merged, merge = [], EventStream.merge

    def counted(*parts):
        merged.append(sum(len(part) for part in parts))
        return merge(*parts)

    monkeypatch.setattr(EventStream, "merge", counted)
    ((found, span),) = windows(stream.by_count(1), 10**6)
    assert found == stream
    assert span == (stream.t[0], stream.t[0] + 10**6 - 1)
    assert sum(merged) <= len(stream)
    for window, _ in windows([stream], 300):
        assert np.shares_memory(window.t, stream.t)
