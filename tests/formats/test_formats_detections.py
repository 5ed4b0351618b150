import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.formats import Detections, detections


def example():
    """Scans of 2, 0 and 1 rows."""
    return Detections.from_rows(
        time=[0.0, 0.5, 1.0],
        scan=[2, 0, 0],
        z=[[1, 2], [3, 4], [5, 6]],
        names=("x", "y"),
        score=[0.1, 0.2, 0.3],
        extra={"id": np.array([7, 7, -1]), "class": ["a", "b", "c"]},
    )


def test_scans_come_in_order_and_empty_ones_stay():
    got = [(time, z.tolist()) for time, z in example()]
    assert got == [(0.0, [[3, 4], [5, 6]]), (0.5, []), (1.0, [[1, 2]])]
    assert all(z.shape[1] == 2 for _, z in example())


def test_rows_of_a_scan_keep_their_order_and_their_extras():
    d = example()
    assert d.score.tolist() == [0.2, 0.3, 0.1]
    assert d.extra["class"][d.rows(0)].tolist() == ["b", "c"]
    assert d.scan.tolist() == [0, 0, 2]
    assert len(d) == 3


def test_select_keeps_all_scans():
    d = example().select(np.array([False, True, False]))
    assert [len(z) for _, z in d] == [1, 0, 0]
    assert d.extra["class"].tolist() == ["c"]
    assert d.score.tolist() == [0.3]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30))
def test_select_is_the_same_before_and_after_sorting(pairs):
    scan = np.array([k for k, _ in pairs], int)
    keep = np.array([b for _, b in pairs], bool)
    z = np.arange(len(pairs), dtype=float)[:, None]
    d = Detections.from_rows(np.arange(6), scan, z, ("x",))
    after = d.select(keep[d.z[:, 0].astype(int)])
    before = Detections.from_rows(np.arange(6), scan[keep], z[keep], ("x",))
    assert (after.z == before.z).all()
    assert (after.offsets == before.offsets).all()


@pytest.mark.parametrize("keep", [[0, 2], [True, False], [True, False, True, True]])
def test_select_wants_a_bool_for_each_row(keep):
    with pytest.raises(ValueError, match="keep must be a bool for each of the 3 rows"):
        example().select(keep)


def test_trajectories_are_nan_where_an_id_has_no_row():
    truth = example().trajectories()
    assert truth.label.tolist() == [7]
    np.testing.assert_array_equal(truth.states, [[[3, 4], [np.nan, np.nan], [1, 2]]])
    assert truth.time.tolist() == [0.0, 0.5, 1.0]


def test_an_id_twice_in_a_scan_is_no_trajectory():
    d = Detections.from_rows([0.0], [0, 0], [[1], [2]], ("x",), extra={"id": np.array([4, 4])})
    with pytest.raises(ValueError, match="id 4 has 2 rows in scan 0"):
        d.trajectories()


def test_of_rows_with_times_the_nearest_counts():
    extra = {"id": np.array([4, 4, 4]), "time": np.array([0.6, 0.9, 1.3])}
    d = Detections.from_rows([0.0, 1.0], [1, 1, 1], [[1], [2], [3]], ("x",), extra=extra)
    np.testing.assert_array_equal(d.trajectories().states, [[[np.nan], [2]]])


def test_trajectories_that_would_not_fit_are_refused(monkeypatch):
    monkeypatch.setattr(detections, "MAX_STATES", 5)
    with pytest.raises(ValueError, match="1 ids over 3 scans make 6 numbers, accepted are 5"):
        example().trajectories()


def test_no_rows_and_no_scans():
    d = Detections.from_rows([], [], [], ("x", "y"), extra={"id": np.zeros(0, int)})
    assert list(d) == []
    assert d.z.shape == (0, 2)
    assert d.trajectories().states.shape == (0, 0, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time": [0.0, 0.0]}, "strictly increasing"),
        ({"time": [0.0, np.nan]}, "finite"),
        ({"scan": [0, 2]}, r"scan must lie in 0..1, got 0..2"),
        ({"scan": [-1, 0]}, r"scan must lie in 0..1, got -1..0"),
        ({"score": [1.0]}, "score must have 2 rows"),
        ({"z": [[1], [2], [3]]}, "z must have 2 rows"),
        ({"z": [[1, 2], [3, 4]]}, "z must have shape"),
        ({"extra": {"class": ["a"]}}, "class must have 2 rows"),
        ({"extra": {"id": [0.5, 1.0]}}, "id must be int64"),
    ],
)
def test_wrong_arrays_are_refused(change, message):
    good = {"time": [0.0, 1.0], "scan": [0, 1], "z": [[1], [2]], "names": ("x",)}
    Detections.from_rows(**good)
    with pytest.raises(ValueError, match=message):
        Detections.from_rows(**good | change)


def test_the_constructor_checks_shapes():
    time, z = np.array([0.0]), np.zeros((2, 2))
    with pytest.raises(ValueError, match="offsets must rise from 0 to 2"):
        Detections(time, np.array([0, 1]), z, ("x", "y"))
    with pytest.raises(ValueError, match=r"z must have shape \(N, 1\)"):
        Detections(time, np.array([0, 2]), z, ("x",))
    with pytest.raises(ValueError, match="score must have 2 rows"):
        Detections(time, np.array([0, 2]), z, ("x", "y"), np.zeros(3))
    with pytest.raises(ValueError, match="ids"):
        Detections(time, np.array([0, 2]), z, ("x", "y")).trajectories()


def test_inputs_are_not_shared():
    z = np.ones((1, 1))
    d = Detections.from_rows([0.0], [0], z, ("x",))
    z[:] = 9
    assert d.z[0, 0] == 1
