"""Data sets of tonic as streams: all kinds of items and columns that its data sets have."""

import numpy as np
import pytest

from perception.events import EventStream, TonicEvents

W, H = 34, 30
KINDS = {  # of columns, in the order of the fields, as tonic 1.7 declares them
    "NMNIST": [("x", int), ("y", int), ("t", int), ("p", int)],
    "CIFAR10DVS": [("t", np.uint64), ("x", np.uint16), ("y", np.uint16), ("p", bool)],
    "DVSGesture": [("x", np.int16), ("y", np.int16), ("p", bool), ("t", np.int64)],
    "DAVISDATA": [("t", int), ("x", int), ("y", int), ("p", int)],
    "computed": [("t", float), ("x", np.int16), ("y", np.int16), ("p", np.int8)],
}


def a_stream(n=50, seed=0):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 1000, n))
    return EventStream(rng.integers(0, W, n), rng.integers(0, H, n), t, rng.integers(0, 2, n), W, H)


def array(stream, kinds=KINDS["NMNIST"]):
    events = np.empty(len(stream), kinds)
    for name, _ in kinds:
        events[name] = getattr(stream, name)
    return events


class Dataset:
    sensor_size = (W, H, 2)

    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_and_order_of_columns_is_the_same_stream(kind):
    stream = a_stream()
    events = array(stream, KINDS[kind])
    before = events.copy()
    found = TonicEvents(Dataset((events, 7)))
    assert len(found) == 1
    assert found[0] == (stream, 7)
    assert [target for _, target in found] == [7]
    assert (events == before).all()
    assert TonicEvents(events, size=(W, H))[0] == stream
    if kind in ("NMNIST", "DAVISDATA", "computed"):
        events["p"] = stream.sign
        assert TonicEvents(events, size=(W, H))[0] == stream


@pytest.mark.parametrize("n", [0, 1])
def test_no_event_and_one_event(n):
    assert TonicEvents(Dataset(array(a_stream(n))))[0] == a_stream(n)


def test_items_with_several_cameras_and_other_sensors_keep_their_form():
    """DSEC has a list, MVSEC, DAVISDATA and VPR a tuple, TUM-VIE a dict of them."""
    left, right = a_stream(seed=1), a_stream(seed=2)
    imu, images = {"ts": np.arange(3)}, np.zeros((2, H, W), np.uint8)
    items = (
        [array(left), array(right)],
        (array(left), array(right), imu, None, images),
        {"events_left": array(left), "events_right": array(right), "imu": imu},
    )
    found = TonicEvents(Dataset(*((item, "target") for item in items)))
    both, many, named = (found[k][0] for k in range(3))
    assert both == [left, right]
    assert isinstance(many, tuple)
    assert many[:4] == (left, right, imu, None)
    assert many[4] is images
    assert named == {"events_left": left, "events_right": right, "imu": imu}
    assert found[2][1] == "target"


def test_what_is_no_event_or_not_sorted_is_refused():
    with pytest.raises(ValueError, match=r"give size=\(width, height\)"):
        TonicEvents([array(a_stream())])
    for data in (
        np.zeros(3),
        [],
        [np.zeros(3)],
        {"imu": 1},
        np.zeros(3, [("x", int), ("t", int), ("p", int)]),
    ):
        with pytest.raises(ValueError, match="fields x, y, t and p"):
            TonicEvents(Dataset((data, 0)))[0]
    back = array(a_stream())[::-1]
    with pytest.raises(ValueError, match="t must not fall"):
        TonicEvents(Dataset(back))[0]
    assert (TonicEvents(Dataset(back), sort=True)[0].t == a_stream().t).all()
    outside = array(a_stream())
    outside["x"][3] = W
    with pytest.raises(ValueError, match=r"x\[3\] = 34 is outside"):
        TonicEvents(Dataset(outside))[0]


def test_a_data_set_of_tonic_from_files_on_disk(tmp_path, monkeypatch):
    tonic = pytest.importorskip("tonic", reason="tonic is not installed (extra `events`)")
    from perception.events import write

    stream = a_stream()
    folder = tmp_path / "NMNIST" / "Test" / "3"
    folder.mkdir(parents=True)
    write(stream, folder / "00001.bin")
    monkeypatch.setattr(tonic.datasets.NMNIST, "_check_exists", lambda self: True)
    found = TonicEvents(tonic.datasets.NMNIST(save_to=str(tmp_path), train=False))
    assert (found.width, found.height, len(found)) == (34, 34, 1)
    events, target = found[0]
    assert target == 3
    assert all((getattr(events, name) == getattr(stream, name)).all() for name in "xytp")
