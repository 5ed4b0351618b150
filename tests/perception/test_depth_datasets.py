"""Depth data sets: small files in the layouts of EventScape, DENSE, MVSEC and FUSE's lists, also damaged."""

import os
import pickle

import h5py
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perception.depth.datasets import DENSE, MVSEC, EventScape, Listed, arrays, read_list, sample, sequences
from perception.events import EventStream

Image = pytest.importorskip("PIL.Image", reason="the viz extra is not installed")

W, H = 8, 6
STEP = 40_000  # us from frame to frame


def picture(seed, shape=(H, W, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def metres(seed, dtype=np.float32):
    depth = np.random.default_rng(seed).uniform(2, 1000, (H, W)).astype(dtype)
    depth[0, :4] = 0, -1, np.inf, np.nan
    return depth


def packet(k, n=20):
    """Events of frame k, whose depth is at STEP * (k + 1) us: n of them, the last at that time."""
    rng = np.random.default_rng(k)
    t = np.sort(rng.integers(STEP * k + 1, STEP * (k + 1) + 1, n))
    t[n - 1 :] = STEP * (k + 1)
    return EventStream(rng.integers(0, W, n), rng.integers(0, H, n), t, rng.integers(0, 2, n), W, H)


class Carla:
    """Writes a sequence in one of the two layouts."""

    def __init__(self, folder, kind):
        self.folder, self.kind = folder, kind
        self.scape = kind is EventScape

    def path(self, what, k):
        scape, dense = {
            "image": ("rgb/data/05_043_{:04d}_image.png", "rgb/frames/frame_{:010d}.png"),
            "depth": ("depth/data/05_043_{:04d}_depth.npy", "depth/data/depth_{:010d}.npy"),
            "events": ("events/data/05_043_{:04d}_events.npz", "events/data/events_{:010d}.npy"),
        }[what]
        path = self.folder / (scape if self.scape else dense).format(k)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def events(self, k, stream):
        if self.scape:
            np.savez_compressed(
                self.path("events", k), x=stream.x, y=stream.y, t=stream.t, p=stream.p.astype(np.uint8)
            )
        else:  # as float64, with ns and -1 and 1
            columns = (1000 * stream.t, stream.x, stream.y, stream.sign)
            np.save(self.path("events", k), np.stack(columns, axis=1).astype(float))

    def times(self, seconds):
        path = self.path("depth", 0).with_name("timestamps.txt")
        path.write_text("".join(f"{k} {s!r}\n" for k, s in enumerate(seconds)))

    def frames(self, number):
        for k in range(number):
            Image.fromarray(picture(k)).save(self.path("image", k))
            np.save(self.path("depth", k), metres(k))
            self.events(k, packet(k))
        self.times([STEP * (k + 1) / 1e6 for k in range(number)])
        return self


@pytest.fixture(params=[EventScape, DENSE])
def carla(request, tmp_path):
    return Carla(tmp_path / "sequence_43", request.param).frames(3)


def refuses(call, match, kind=ValueError):
    with pytest.raises(kind, match=match) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1


def test_a_sample_of_carla_is_what_its_files_hold(carla):
    data = carla.kind(carla.folder)
    assert len(data) == 3
    for k, found in enumerate(data):
        np.testing.assert_array_equal(found.image, picture(k))
        assert found.events == packet(k)
        assert found.time == STEP * (k + 1)
        assert (found.depth.dtype, found.depth.shape) == (np.float32, (H, W))
        assert np.isnan(found.depth[0, :4]).all()
        np.testing.assert_array_equal(found.depth.ravel()[4:], metres(k).ravel()[4:])
        assert found.name == f"sequence_43/{carla.path('depth', k).stem}"


def test_positions_count_from_both_ends_and_stop_there(carla):
    data = carla.kind(carla.folder)
    assert data[-1].time == data[2].time == data[np.int64(2)].time
    assert [s.time for s in data] == [STEP, 2 * STEP, 3 * STEP]
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"sample {index} was asked for, there are 3"):
            data[index]
    with pytest.raises(TypeError):
        data[0:2]


def test_frames_are_in_order_of_their_numbers(tmp_path):
    carla = Carla(tmp_path, EventScape).frames(2)
    for what in ("image", "depth", "events"):
        for k, name in ((0, "5_43_2"), (1, "5_43_10")):  # "10" comes before "2" as text
            path = carla.path(what, k)
            path.rename(path.with_name(path.name.replace(f"05_043_{k:04d}", name)))
    first, second = EventScape(tmp_path)
    assert (first.events, second.events) == (packet(0), packet(1))


@settings(deadline=None, max_examples=20)
@given(window=st.integers(1, 4 * STEP))
@example(window=STEP + 1)  # the last event of the frame before is the first
@pytest.mark.parametrize("kind", [EventScape, DENSE])
def test_a_window_reaches_over_as_many_frames_as_it_takes(tmp_path_factory, kind, window):
    folder = tmp_path_factory.getbasetemp() / f"windows_{kind.__name__}"
    if not folder.exists():
        Carla(folder, kind).frames(3)
    whole = packet(0).merge(packet(1), packet(2))
    data = kind(folder, window=window)
    for k in range(3):
        time = STEP * (k + 1)
        assert data[k].events == whole.between(time - window + 1, time + 1)


def test_events_of_a_frame_are_sorted_whatever_their_order(carla):
    stream = packet(1)
    order = np.random.default_rng(0).permutation(len(stream))
    x, y, t, p = (getattr(stream, name)[order] for name in "xytp")
    if carla.scape:
        np.savez(carla.path("events", 1), x=x, y=y, t=t, p=p)
    else:
        np.save(carla.path("events", 1), np.stack((1000 * t, x, y, p), axis=1))
    assert carla.kind(carla.folder)[1].events == EventStream.unsorted(x, y, t, p, W, H)


def test_a_sample_without_events_is_an_error_or_taken_when_asked_for(carla):
    carla.events(1, EventStream.empty(W, H))
    refuses(lambda: carla.kind(carla.folder)[1], r"events\.np[yz]|events_\d+\.npy.*no events.*empty=True")
    found = carla.kind(carla.folder, empty=True)[1].events
    assert found == EventStream.empty(W, H)
    whole = carla.kind(carla.folder, window=2 * STEP)[1].events  # those of the frame before
    assert whole == packet(0)


def test_nothing_is_read_before_it_is_asked_for(carla, monkeypatch):
    carla.path("depth", 2).write_bytes(b"no array")
    carla.path("image", 2).write_bytes(b"no image")
    reads = []
    monkeypatch.setattr("perception.depth.datasets.carla.read_image", lambda path: reads.append(path))
    assert len(carla.kind(carla.folder)) == 3
    assert reads == []
    monkeypatch.undo()
    assert carla.kind(carla.folder)[1].time == 2 * STEP


def test_data_sets_can_be_sent_to_other_processes(carla):
    data = carla.kind(carla.folder, window=1234)
    assert data[0].events == pickle.loads(pickle.dumps(data))[0].events


def test_a_torch_loader_takes_them(carla):
    loader = pytest.importorskip(
        "torch.utils.data", reason="torch is not installed (extra `learn`)"
    ).DataLoader
    batches = list(loader(carla.kind(carla.folder), batch_size=2, collate_fn=list))
    assert [[s.time for s in batch] for batch in batches] == [[STEP, 2 * STEP], [3 * STEP]]


def without(what, k=1):
    return lambda carla: carla.path(what, k).unlink()


def folder_gone(what):
    def change(carla):
        folder = carla.path(what, 0).parent
        folder.rename(folder.with_name("elsewhere"))

    return change


def put_array(what, array, k=1):
    return lambda carla: np.save(carla.path(what, k), array)


def cut(what, k=1):
    def change(carla):
        path = carla.path(what, k)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])

    return change


def claims(shape):
    """An array whose header claims another shape than it has."""

    def change(carla):
        path = carla.path("depth", 1)
        path.write_bytes(path.read_bytes().replace(b"(6, 8), }", shape))

    return change


def pictured(image, **how):
    return lambda carla: image.save(carla.path("image", 1), **how)


def times(*seconds):
    return lambda carla: carla.times(seconds)


def timestamps(text):
    return lambda carla: carla.path("depth", 0).with_name("timestamps.txt").write_text(text)


def twice(carla):
    path = carla.path("depth", 1)
    path.with_name(path.name.replace("0001", "1").replace("000000", "")).write_bytes(b"")


DAMAGE = {
    "no image": (
        without("image"),
        ValueError,
        "2 images, 3 depths, 3 events, frame 1 is missing from images",
    ),
    "no depth": (
        without("depth"),
        ValueError,
        "3 images, 2 depths, 3 events, frame 1 is missing from depths",
    ),
    "no events": (without("events"), ValueError, "frame 1 is missing from events"),
    "no images": (folder_gone("image"), FileNotFoundError, "sequence_43 has no folder rgb/"),
    "no depths": (folder_gone("depth"), FileNotFoundError, "has no folder depth/data"),
    "two depths": (twice, ValueError, "frame 1 is also .*depth"),
    "no times": (
        lambda carla: carla.path("depth", 0).with_name("timestamps.txt").unlink(),
        FileNotFoundError,
        r"timestamps\.txt",
    ),
    "few times": (times(0.1, 0.2), ValueError, r"timestamps\.txt: 2 times; accepted: one for each of 3"),
    "falling times": (times(0.1, 0.3, 0.2), ValueError, r"time 0.2 s of frame 2; accepted: .* do not fall"),
    "no numbers": (timestamps("0 soon\n"), ValueError, r"timestamps\.txt:1: time is 'soon'"),
    "endless times": (timestamps("0 inf\n"), ValueError, r"timestamps\.txt:1: time is 'inf'"),
    "three columns": (timestamps("0 1 2\n"), ValueError, r"timestamps\.txt:1: 3 columns"),
    "cut depth": (cut("depth"), ValueError, r"depth.*type float32 in 32 bytes; accepted: depth \(H, W\)"),
    "long depth": (
        lambda carla: carla.path("depth", 1).open("ab").write(b"\0"),
        ValueError,
        "float32 in 193 bytes",
    ),
    "whole numbers": (put_array("depth", np.ones((H, W), int)), ValueError, "type int64"),
    "three axes": (put_array("depth", np.ones((1, H, W))), ValueError, r"shape \(1, 6, 8\).*2 dimensions"),
    "other size": (
        put_array("depth", np.ones((H, W - 1))),
        ValueError,
        "7 x 6 pixels; .*its image has, 8 x 6",
    ),
    "no size": (put_array("depth", np.ones((0, W))), ValueError, "8 x 0 pixels"),
    "objects": (put_array("depth", np.full((H, W), None)), ValueError, "type object"),
    "huge claim": (claims(b"(900000000, 900000000), }"), ValueError, "no array|shape"),
    "negative claim": (claims(b"(-6, -8),}"), ValueError, "no array .*-6"),
    "open header": (claims(b"(6, 8), ( "), ValueError, "no array"),
    "wide claim": (claims(b"(6,99), }"), ValueError, r"shape \(6, 99\) and type float32 in 192 bytes"),
    "no array": (lambda c: c.path("depth", 1).write_bytes(b"\0" * 99), ValueError, "no array .*magic"),
    "cut image": (cut("image"), ValueError, r"image|frame.*png: no image .*; accepted: a whole PNG"),
    "no PNG": (pictured(Image.new("L", (W, H)), format="BMP"), ValueError, "no image"),
    "16 bits": (pictured(Image.new("I;16", (W, H))), ValueError, "of kind I;16; accepted: 8 bits"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_one_line_that_names_the_file(carla, name):
    change, kind, match = DAMAGE[name]
    change(carla)
    refuses(lambda: carla.kind(carla.folder)[1], match, kind)


def test_events_off_the_image_or_of_another_kind_are_refused(tmp_path):
    scape = Carla(tmp_path / "scape", EventScape).frames(1)
    path, stream = scape.path("events", 0), packet(0)
    columns = {"x": stream.x, "y": stream.y, "t": stream.t, "p": stream.p}
    for changed, match in (
        ({"x": stream.x + W}, rf"events\.npz:event 0: pixel .* sensor of {W} x {H}"),
        ({"t": np.full(20, np.nan)}, r"events\.npz:event 0: an event .*nan"),
        ({"p": np.full(20, None)}, r"events\.npz:byte 0: no events"),
        ({"p": stream.p[1:]}, r"events\.npz:byte 0: no events"),
    ):
        np.savez(path, **columns | changed)
        refuses(lambda: EventScape(tmp_path / "scape")[0], match)
    dense = Carla(tmp_path / "dense", DENSE).frames(1)
    for table, match in (
        (np.zeros((5, 3)), r"events_0000000000\.npy: a table of shape \(5, 3\); accepted: \(n, 4\)"),
        (np.zeros(5), r"events_0000000000\.npy: an array of shape \(5,\)"),
        (np.full((5, 4), None), r"events_0000000000\.npy: an array .* type object"),
        (np.array([[0.0, W, 0, 1]]), rf"events_0000000000\.npy:event 0: pixel \({W}, 0\)"),
        (np.array([[0.0, 0, 0, 1], [0, 0, 0, 7]]), r"events_0000000000\.npy:event 1: an event"),
    ):
        np.save(dense.path("events", 0), table)
        refuses(lambda: DENSE(tmp_path / "dense")[0], match)


def test_dense_times_are_rounded_to_microseconds(tmp_path):
    carla = Carla(tmp_path, DENSE).frames(1)
    np.save(carla.path("events", 0), np.array([[1499, 0, 0, 0], [1501, 1, 0, 1], [40_000_000, 2, 0, 1]]))
    assert DENSE(tmp_path)[0].events.t.tolist() == [1, 2, 40_000]


def test_dense_may_have_npz_and_images_in_data(tmp_path):
    carla = Carla(tmp_path, DENSE).frames(1)
    stream, path = packet(0), carla.path("events", 0)
    np.savez(path.with_suffix(".npz"), x=stream.x, y=stream.y, t=1000 * stream.t, p=stream.p)
    path.unlink()
    (tmp_path / "rgb/frames").rename(tmp_path / "rgb/data")
    assert DENSE(tmp_path)[0].events == stream


def test_more_events_than_a_sample_may_have(carla, monkeypatch):
    monkeypatch.setattr(sample, "MAX_EVENTS", 39)
    assert len(carla.kind(carla.folder)[1].events) == 20
    refuses(lambda: carla.kind(carla.folder, window=2 * STEP)[1], "40 events in one window; .* window=")
    monkeypatch.setattr(sample, "MAX_EVENTS", 19)
    refuses(lambda: carla.kind(carla.folder)[1], "events.*: 20 events in one window")


def test_sequences_are_found_in_order(tmp_path):
    for name in ("Town05/sequence_10", "Town05/sequence_2", "Town02/sequence_3"):
        Carla(tmp_path / name, EventScape).frames(1)
    (tmp_path / "Town05/notes/depth/data").mkdir(parents=True)
    found = [str(path.relative_to(tmp_path)) for path in sequences(tmp_path)]
    assert found == ["Town02/sequence_3", "Town05/sequence_2", "Town05/sequence_10"]
    assert len(EventScape(sequences(tmp_path)[0])) == 1
    refuses(lambda: sequences(tmp_path / "Town05/notes"), "no sequence; accepted: folders", FileNotFoundError)
    refuses(lambda: EventScape(tmp_path / "Town9"), "Town9 is no folder", FileNotFoundError)
    refuses(lambda: EventScape(tmp_path, window=0), "window must be")
    refuses(lambda: EventScape(tmp_path, window=1.5), "window must be")


@pytest.mark.parametrize(
    ("image", "shape"),
    [
        (Image.fromarray(picture(0, (H, W))), (H, W)),
        (Image.fromarray(picture(0, (H, W, 4))), (H, W, 3)),
        (Image.fromarray(picture(0)).quantize(4), (H, W, 3)),
    ],
)
def test_grey_is_grey_and_other_kinds_have_three_colours(tmp_path, image, shape):
    image.save(tmp_path / "a.png")
    found = arrays.read_image(tmp_path / "a.png")
    assert (found.dtype, found.shape) == (np.uint8, shape)
    expected = image if image.mode == "L" else image.convert("RGB")
    np.testing.assert_array_equal(found, np.asarray(expected))


def test_sizes_are_checked_before_memory_is_taken(tmp_path, monkeypatch):
    Image.new("L", (W, H)).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", np.ones((H, W)))
    monkeypatch.setattr(arrays, "MAX_PIXELS", W * H - 1)
    refuses(lambda: arrays.read_image(tmp_path / "a.png"), "a.png: 8 x 6 pixels .* 47 pixels at most")
    refuses(lambda: arrays.read_array(tmp_path / "a.npy", 2, "depth"), "a.npy: .* 47 numbers at most")


@pytest.mark.parametrize("name", ["a.png", "a.npy"])
def test_damage_of_any_kind_is_a_value_error(tmp_path, name):
    path = tmp_path / name
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", metres(0))
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(150):
        content = bytearray(whole)
        for at in rng.integers(0, len(content), rng.integers(1, 4)):
            content[at] = rng.integers(0, 256)
        path.write_bytes(content[: rng.integers(0, len(content))] if rng.random() < 0.3 else content)
        try:
            arrays.read_image(path) if name == "a.png" else arrays.read_array(path, 2, "depth")
        except ValueError as error:
            refused += str(error).startswith(f"{path}: ") or pytest.fail(str(error))
    assert refused > 20


# MVSEC


EPOCH = 1_506_117_888.0  # s, as the drives have
IMAGES = EPOCH + np.array([0.00, 0.10, 0.20, 0.30])
DEPTHS = EPOCH + np.array([0.06, 0.11, 0.15, 0.16, 0.21, 0.26, 0.31])  # more than images, as at night


def driving(n=500, seed=0):
    """(n, 4) events as MVSEC has them, over 0.35 s."""
    rng = np.random.default_rng(seed)
    t = EPOCH + np.sort(rng.uniform(0, 0.35, n))
    return np.stack((rng.integers(0, W, n), rng.integers(0, H, n), t, rng.choice([-1.0, 1.0], n)), axis=1)


def mvsec(folder, camera="left", data=None, truth=None):
    """Write a sequence; data and truth replace datasets by name, None: without it."""
    left = {
        "events": driving(),
        "image_raw": picture(1, (4, H, W)),
        "image_raw_ts": IMAGES,
    }
    right = {"depth_image_raw": np.stack([metres(k) for k in range(7)]), "depth_image_raw_ts": DEPTHS}
    for name, content in (
        ("drive1_data.hdf5", left | (data or {})),
        ("drive1_gt.hdf5", right | (truth or {})),
    ):
        with h5py.File(folder / name, "w") as file:
            for key, array in content.items():
                if array is not None:
                    how = {} if key.endswith("_ts") else {"chunks": True, "compression": "gzip"}
                    file.create_dataset(f"davis/{camera}/{key}", data=array, **how)
    return folder / "drive1_data.hdf5"


def within(events, time, window):
    """Rows with time - window < t <= time, in whole microseconds, one after the other."""
    kept = [row for row in events.tolist() if time - window < round(1e6 * row[2]) <= time]
    return [(int(x), int(y), round(1e6 * t), p > 0) for x, y, t, p in kept]


def rows(stream):
    return list(zip(stream.x.tolist(), stream.y.tolist(), stream.t.tolist(), stream.p.tolist()))


def test_a_sample_of_mvsec_is_what_its_files_hold(tmp_path):
    data = MVSEC(mvsec(tmp_path))
    assert len(data) == 7
    expected = [1, 1, 1, 2, 2, 3, 3]  # 0.15 s lies between two: the earlier
    for k, found in enumerate(data):
        time = round(1e6 * DEPTHS[k])
        assert (found.time, found.name) == (time, f"drive1/{k:05d}")
        np.testing.assert_array_equal(found.image, picture(1, (4, H, W))[expected[k]])
        np.testing.assert_array_equal(found.depth.ravel()[4:], metres(k).ravel()[4:])
        assert np.isnan(found.depth[0, :4]).all()
        assert rows(found.events) == within(driving(), time, 50_000)
        assert len(found.events) > 20
        assert data[k - 7].name == found.name
        assert (found.events.width, found.events.height) == (W, H)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 2**31),
    st.integers(1, 400_000),
    st.sampled_from(["spread", "ties", "halves"]),
    st.integers(1, 40),
)
def test_windows_of_mvsec_are_those_of_a_search_through_all(tmp_path_factory, seed, window, kind, n):
    folder = tmp_path_factory.getbasetemp() / "searched"
    folder.mkdir(exist_ok=True)
    events = driving(n, seed)
    rng = np.random.default_rng(seed)
    if kind == "ties":  # many at the times of depths and at the edges of windows
        edges = np.concatenate((DEPTHS, DEPTHS - window / 1e6))
        events[:, 2] = np.sort(rng.choice(edges, n))
    if kind == "halves":  # of microseconds, which round either way
        events[:, 2] = np.sort(rng.choice(DEPTHS, n) + rng.integers(-3, 4, n) * 5e-7)
    data = MVSEC(mvsec(folder, data={"events": events}), window=window, empty=True)
    for k in range(7):
        assert rows(data[k].events) == within(events, round(1e6 * DEPTHS[k]), window)
    data._held.events.file.close()
    data._held.depths.file.close()


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=8).map(sorted),
    st.lists(st.integers(0, 60), min_size=1, max_size=8),
)
def test_images_belong_to_depths_by_time(images, depths):
    data = object.__new__(MVSEC)
    data._held = type("Times", (), {"image_times": np.array(images), "depth_times": np.array(depths)})()
    data._held.process = os.getpid()
    for k, time in enumerate(depths):
        apart = [abs(t - time) for t in images]
        found = data.image_of(k)
        assert 0 <= found < len(images)
        assert apart[found] == min(apart)
        assert images[found] == images[apart.index(min(apart))]  # the earlier of two as near


class Watched:
    """A dataset that counts the rows that are read of it."""

    def __init__(self, dataset):
        self.dataset, self.read = dataset, 0

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, key):
        found = self.dataset[key]
        self.read += len(found) if found.ndim == 2 else 1
        return found


def test_events_are_bisected_and_not_read_whole(tmp_path):
    data = MVSEC(mvsec(tmp_path, data={"events": driving(20_000)}), window=1000)
    assert data._held is None  # not even opened
    watched = Watched(data._files.events)
    data._held = data._files._replace(events=watched)
    found = data[3].events
    assert 20 < len(found) < 200
    assert watched.read <= len(found) + 2 * 15  # 2^15 > 20,000


def test_another_process_opens_the_files_for_itself(tmp_path, monkeypatch):
    data = MVSEC(mvsec(tmp_path))
    first = data[2]
    sent = pickle.loads(pickle.dumps(data))
    assert sent._held is None
    assert sent[2].events == first.events
    held = data._held
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert data[2].events == first.events
    assert data._held is not held


def test_the_other_camera_and_other_names(tmp_path):
    path = mvsec(tmp_path, camera="right")
    refuses(lambda: MVSEC(path)[0], "drive1_data.hdf5: davis/left/events cannot be read .no dataset")
    assert len(MVSEC(path, camera="right")) == 7
    path.rename(tmp_path / "a.h5")
    refuses(lambda: MVSEC(tmp_path / "a.h5"), "a.h5: the other file's name is unknown; .* truth=")
    data = MVSEC(tmp_path / "a.h5", truth=tmp_path / "drive1_gt.hdf5", camera="right")
    assert data[0].name == "a.h5/00000"
    refuses(lambda: MVSEC(tmp_path / "b_data.hdf5"), "b_data.hdf5 is missing", FileNotFoundError)
    (tmp_path / "drive1_gt.hdf5").unlink()
    (tmp_path / "a.h5").rename(path)
    refuses(lambda: MVSEC(path), "drive1_gt.hdf5 is missing", FileNotFoundError)


def test_a_window_of_mvsec_without_events(tmp_path):
    path = mvsec(tmp_path, data={"events": driving()[400:]})
    refuses(lambda: MVSEC(path)[0], "drive1_data.hdf5: no events in the window; .* empty=True")
    assert len(MVSEC(path, empty=True)[0].events) == 0
    (tmp_path / "none").mkdir()
    none = mvsec(tmp_path / "none", data={"events": np.zeros((0, 4))})
    assert len(MVSEC(none, empty=True)[6].events) == 0


def test_more_events_of_mvsec_than_a_sample_may_have(tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "MAX_EVENTS", 50)
    refuses(lambda: MVSEC(mvsec(tmp_path))[3], r"drive1_data.hdf5: \d+ events in one window; .* at most 50")


def changed(array, where, value):
    array = array.copy()
    array[where] = value
    return array


STAMPS = {"nan": changed(DEPTHS, 2, np.nan), "falling": DEPTHS[::-1], "huge": changed(DEPTHS, 6, 1e300)}
BROKEN = {
    "few images": ({"image_raw": picture(1, (3, H, W))}, {}, "3 of /davis/left/image_raw and 4 times"),
    "few depths": ({}, {"depth_image_raw_ts": DEPTHS[1:]}, "7 of /davis/left/depth_image_raw and 6 times"),
    "no frames": (
        {},
        {"depth_image_raw": np.zeros((0, H, W)), "depth_image_raw_ts": np.zeros(0)},
        "0 of .* from 1 to",
    ),
    "no events": ({"events": None}, {}, "davis/left/events cannot be read .no dataset"),
    "no depth": ({}, {"depth_image_raw": None}, "depth_image_raw cannot be read"),
    "no times": ({"image_raw_ts": None}, {}, "image_raw_ts cannot be read"),
    "three columns": ({"events": driving()[:, :3]}, {}, r"events of shape \(500, 3\); accepted: \(n, 4\)"),
    "flat events": ({"events": driving()[:, 0]}, {}, r"events of shape \(500,\)"),
    "whole events": ({"events": driving().astype(int)}, {}, "type int64"),
    "16 bits": ({"image_raw": np.zeros((4, H, W), np.uint16)}, {}, "type uint16; accepted: uint8"),
    "colours": ({"image_raw": picture(1, (4, H, W, 3))}, {}, r"image_raw of shape \(4, 6, 8, 3\)"),
    "other size": (
        {"image_raw": picture(1, (4, H, W + 1))},
        {},
        r"of the size of depth_image_raw, \(7, 6, 8\)",
    ),
    "whole depth": ({}, {"depth_image_raw": np.ones((7, H, W), int)}, "type int64"),
    "no number": ({}, {"depth_image_raw_ts": STAMPS["nan"]}, "time nan s of frame 2"),
    "falling": ({}, {"depth_image_raw_ts": STAMPS["falling"]}, "of frame 1; accepted: .* do not fall"),
    "huge time": ({}, {"depth_image_raw_ts": STAMPS["huge"]}, r"time 1e\+300 s of frame 6"),
    "nan event": ({"events": changed(driving(), (slice(None), 2), np.nan)}, {}, "event 250 at nan s"),
    "off the image": (
        {"events": changed(driving(), (slice(None), 0), W)},
        {},
        r"pixel \(8, \d\); .* of 8 x 6",
    ),
    "odd polarity": ({"events": changed(driving(), (slice(None), 3), 3.0)}, {}, r":event \d+: an event"),
    "unsorted": (
        {"events": np.concatenate((driving()[:150], driving()[150:160][::-1], driving()[160:]))},
        {},
        r":event 15\d: time .* after",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_of_mvsec_are_one_line_that_names_the_file(tmp_path, name):
    data, truth, match = BROKEN[name]
    path = mvsec(tmp_path, data=data, truth=truth)
    refuses(lambda: MVSEC(path)[3], r"drive1_(data|gt)\.hdf5.*" + match)


def test_what_is_no_hdf5_and_what_is_cut(tmp_path):
    path = mvsec(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refuses(lambda: len(MVSEC(path)), r"drive1_data\.hdf5: the file cannot be read")
    path.write_bytes(b"none")
    refuses(lambda: len(MVSEC(path)), r"drive1_data\.hdf5: the file cannot be read")


def test_chunks_beyond_the_bound_are_not_read(tmp_path):
    path = mvsec(tmp_path, data={"image_raw": None})
    with h5py.File(path, "a") as file:
        file.create_dataset(
            "davis/left/image_raw", (4, H, W), "u1", chunks=(1 << 23, H, W), maxshape=(None, H, W)
        )
    refuses(lambda: MVSEC(path)[0], r"drive1_data\.hdf5: davis/left/image_raw cannot be read .*8388608")


@pytest.mark.parametrize(
    ("settings_", "match"),
    [
        ({"window": 0}, "window must be"),
        ({"window": None}, "window must be"),
        ({"camera": "top"}, "camera must be"),
    ],
)
def test_wrong_settings_of_mvsec_are_refused(tmp_path, settings_, match):
    refuses(lambda: MVSEC(mvsec(tmp_path), **settings_), match)


# lists


@pytest.fixture
def listed(tmp_path):
    """Two samples of FUSE's layout and a list of them, with paths as on another machine."""
    lines = []
    for k in range(2):
        for folder in ("images", "depths", "voxels"):
            (tmp_path / "day1" / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(k, (H, W))).save(tmp_path / f"day1/images/{k:05d}.png")
        np.save(tmp_path / f"day1/depths/{k:05d}.npy", metres(k))
        np.save(tmp_path / f"day1/voxels/{k:05d}.npy", np.random.default_rng(k).normal(size=(3, H, W)))
        names = (f"images/{k:05d}.png", f"depths/{k:05d}.npy", f"voxels/{k:05d}.npy")
        lines.append(" ".join(f"/data/mvsec/day1/{name}" for name in names))
    (tmp_path / "test.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "test.txt"


def test_samples_of_a_list(listed):
    data = Listed(listed, strip="/data/mvsec")
    assert len(data) == 2
    for k, found in enumerate(data):
        np.testing.assert_array_equal(found.image, picture(k, (H, W)))
        np.testing.assert_array_equal(found.depth.ravel()[4:], metres(k).ravel()[4:])
        assert np.isnan(found.depth[0, :4]).all()
        assert (found.voxel.dtype, found.voxel.shape) == (np.float32, (3, H, W))
        np.testing.assert_allclose(found.voxel, np.random.default_rng(k).normal(size=(3, H, W)), rtol=1e-6)
        assert found.name == str(listed.parent / f"day1/depths/{k:05d}.npy")
    assert data[-1].name == data[1].name
    with pytest.raises(IndexError, match="sample 2"):
        data[2]


def test_paths_of_a_list(listed, tmp_path):
    assert read_list(listed)[0].depth.as_posix() == "/data/mvsec/day1/depths/00000.npy"
    found = read_list(listed, root="/here", strip="/data/")[1]
    assert [path.as_posix() for path in found] == [
        "/here/mvsec/day1/images/00001.png",
        "/here/mvsec/day1/depths/00001.npy",
        "/here/mvsec/day1/voxels/00001.npy",
    ]
    (tmp_path / "b.txt").write_text("i.png d.npy v.npy\n\n")
    assert read_list(tmp_path / "b.txt")[0].image == tmp_path / "i.png"
    refuses(lambda: read_list(listed, strip="/mnt"), r"test\.txt:1: the path '/data.* begin with '/mnt'")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("a b\n", r"list\.txt:1: 2 columns; accepted are 3"),
        ("a b c\nd e f g\n", r"list\.txt:2: 4 columns"),
        ("\n", r"list\.txt: no lines; accepted: one 'image depth voxel'"),
        ("a b \0\n", r"list\.txt:1: a zero byte"),
    ],
)
def test_wrong_lists_are_refused(tmp_path, content, match):
    (tmp_path / "list.txt").write_text(content)
    refuses(lambda: Listed(tmp_path / "list.txt"), match)


def test_missing_and_damaged_files_of_a_list(listed):
    folder = listed.parent / "day1"
    data = Listed(listed, strip="/data/mvsec")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.txt"):
        Listed(listed.with_name("nowhere.txt"))
    for array, match in (
        (np.ones((H, W)), r"voxels/00001\.npy: an array of shape \(6, 8\).*\(bins, H, W\)"),
        (np.ones((3, H, W + 1)), r"voxels/00001\.npy: 9 x 6 pixels; .* 8 x 6"),
        (np.full((3, H, W), np.nan), r"voxels/00001\.npy: numbers that are not finite"),
        (np.ones((3, H, W), int), r"voxels/00001\.npy: .* type int64"),
    ):
        np.save(folder / "voxels/00001.npy", array)
        refuses(lambda: data[1], match)
    assert data[0].voxel.any()
    (folder / "images/00000.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"images/00000\.png"):
        data[0]
