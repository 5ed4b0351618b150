"""Scans in the order of their times, and what is remembered of their objects."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.formats.detections import Detections
from tracking.formats.scans import (
    MAX_WAITING,
    Attributes,
    LastSeen,
    TimedScan,
    in_order,
    nanoseconds,
    scans_of,
)
from tracking.tracks import Tracks


def scan(time, m=0, **about):
    return TimedScan(time, np.zeros((m, 2)), ("x", "y"), **about)


@given(st.permutations(range(6)), st.integers(0, 5))
def test_scans_within_the_window_come_in_order(order, shift):
    """Whatever the order of arrival, if it is within the window."""
    times = [0.1 * k + shift for k in order]
    assert [s.time for s in in_order(map(scan, times), 0.51)] == sorted(times)


def test_equal_times_keep_their_order():
    scans = [scan(1.0, m) for m in (3, 1, 2)]
    assert [len(s) for s in in_order(scans)] == [3, 1, 2]


def test_scans_are_passed_on_as_soon_as_may_be():
    given_out = in_order(map(scan, [0.0, 0.5, 1.2]), 1.0)
    assert next(given_out).time == 0.0

    def endless():
        time = 0.0
        while True:
            yield scan(time)
            time += 0.1

    first = in_order(endless(), 1.0)
    assert [round(next(first).time, 1) for _ in range(3)] == [0.0, 0.1, 0.2]


def test_what_comes_too_late_is_an_error():
    with pytest.raises(ValueError, match=r"scan 3 is of 0.5.* up to 1 s out of order. Set reorder to more"):
        list(in_order(map(scan, [0.0, 1.0, 2.5, 0.5]), 1.0))
    with pytest.raises(ValueError, match=f"{MAX_WAITING + 1} scans within 1 s"):
        list(in_order((scan(0.0) for _ in range(2 * MAX_WAITING)), 1.0))
    with pytest.raises(ValueError, match="reorder must be"):
        list(in_order([], 0.0))


def test_scans_of_a_recording():
    extra = {"class": np.array(["a", "b", "c"])}
    rows = Detections.from_rows(
        [0.0, 1.0, 2.0], [0, 2, 2], [[1, 2], [3, 4], [5, 6]], ("x", "y"), [1, 2, 3], extra
    )
    found = list(scans_of(rows))
    assert [s.z.tolist() for s in found] == [[[1, 2]], [], [[3, 4], [5, 6]]]
    assert found[2].extra["class"].tolist() == ["b", "c"]
    kept = found[2].select(found[2].extra["class"] == "c")
    assert kept.z.tolist() == [[5, 6]]
    assert kept.score.tolist() == [3]


def tracks(time, label, source):
    n = len(label)
    arrays = np.zeros((n, 2)), np.zeros((n, 2, 2)), np.ones(n), np.array(source, np.int64)
    return Tracks(time, np.array(label, np.int64), *arrays)


def test_attributes_are_those_of_the_last_detection():
    seen = LastSeen(memory=10.0)
    extra = {"class": np.array(["car", "bus"]), "size": np.arange(6.0).reshape(2, 3)}
    first = seen.step(tracks(0.0, [5, 6, 7], [1, 0, -1]), scan(0.0, 2, extra=extra))
    assert [a.cls for a in first] == ["bus", "car", ""]
    assert first[0].size == (3.0, 4.0, 5.0)
    assert first[2] == Attributes()
    later = seen.step(tracks(9.0, [5], [-1]), scan(9.0))
    assert later == first[:1]
    assert seen.step(tracks(15.0, [5, 6], [-1, -1]), scan(15.0)) == [first[0], Attributes()]  # 6 is forgotten
    with pytest.raises(ValueError, match="source 3, their scan has 1 detections"):
        seen.step(tracks(16.0, [5], [3]), scan(16.0, 1))


def test_stamps():
    assert nanoseconds(scan(1.5)) == 1_500_000_000
    assert nanoseconds(scan(1.5, stamp=7)) == 7
    for time in (-0.1, 2.0**31):
        with pytest.raises(ValueError, match="accepted are 0 s up to"):
            nanoseconds(scan(time))
