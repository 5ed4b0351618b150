"""Other packages read what we write, and we read what they write, event by event.

They need not be installed. Left out: EVT3 as expelliarmus reads it, with times that no other finds.
"""

import numpy as np
import pytest

from perception.events import EventStream, read, write

WIDTH, HEIGHT = 346, 260


def stream(n=20_000, seed=0):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(1_000, 2_000_000, n))
    x, y = rng.integers(0, WIDTH, n), rng.integers(0, HEIGHT, n)
    return EventStream(x, y, t, rng.integers(0, 2, n), WIDTH, HEIGHT)


def columns(events):
    """x, y, t, p as lists, those of one time in order of place."""
    x, y, t, p = (np.asarray(c).astype(np.int64) for c in events)
    order = np.lexsort((p > 0, x, y, t))
    return [c[order].tolist() for c in (x, y, t, p > 0)]


def of_stream(events):
    return columns((events.x, events.y, events.t, events.p))


def by_expelliarmus(path, encoding):
    found = pytest.importorskip("expelliarmus").Wizard(encoding=encoding).read(str(path))
    return found["x"], found["y"], found["t"], found["p"]


def by_aedat(path):
    packets = [p["events"] for p in pytest.importorskip("aedat").Decoder(str(path)) if "events" in p]
    found = np.concatenate(packets)
    return found["x"], found["y"], found["t"], found["on" if "on" in found.dtype.names else "p"]


def by_eventcv(path):
    found = pytest.importorskip("eventcv").load(str(path), sensor_size=(WIDTH, HEIGHT)).numpy()
    return found[:, 0], found[:, 1], found[:, 2], found[:, 3]


def by_evlib(path):
    frame = pytest.importorskip("evlib").load_events(str(path)).collect()
    t = frame["t"].dt.total_microseconds().to_numpy()
    return frame["x"].to_numpy(), frame["y"].to_numpy(), t, frame["polarity"].to_numpy()


def by_faery(path):
    packets = list(pytest.importorskip("faery").events_stream_from_file(str(path)))
    found = np.concatenate(packets)
    return found["x"], found["y"], found["t"], found["on"]


def by_tonic(path):
    found = pytest.importorskip("tonic.io").read_mnist_file(str(path), dtype=np.dtype("i8,i8,i8,i8"))
    return found["f0"], found["f1"], found["f2"], found["f3"]


def by_dv(path):
    io = pytest.importorskip("dv_processing").io
    recording = io.MonoCameraRecording(str(path))
    parts = []
    while (part := recording.getNextEventBatch()) is not None:
        parts.append(part.numpy())
    found = np.concatenate(parts)
    return found["x"], found["y"], found["timestamp"], found["polarity"]


READERS = [
    ("dat", "dat", lambda path: by_expelliarmus(path, "dat")),
    ("raw", "evt2", lambda path: by_expelliarmus(path, "evt2")),
    ("aedat4", "aedat4", by_aedat),
    ("aedat4", "aedat4", by_dv),
    ("raw", "evt2", by_evlib),
    ("raw", "evt3", by_evlib),
    ("raw", "evt2", by_faery),
    ("raw", "evt3", by_faery),
    ("dat", "dat", by_eventcv),
    ("raw", "evt2", by_eventcv),
    ("raw", "evt3", by_eventcv),
    ("aedat4", "aedat4", by_eventcv),
]


@pytest.mark.parametrize(("suffix", "format", "reader"), READERS)
def test_others_read_what_we_write(tmp_path, suffix, format, reader):
    path = tmp_path / f"a.{suffix}"
    write(stream(), path, format=format)
    assert columns(reader(path)) == of_stream(stream())


@pytest.mark.parametrize("encoding", ["dat", "evt2"])  # its EVT3 files hold one time for all events
def test_we_read_what_expelliarmus_writes(tmp_path, encoding):
    wizard = pytest.importorskip("expelliarmus").Wizard(encoding=encoding)
    events = stream()
    array = np.empty(len(events), [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1")])
    for name in "txyp":
        array[name] = getattr(events, name)
    path = tmp_path / f"a.{'dat' if encoding == 'dat' else 'raw'}"
    wizard.save(str(path), array)
    found = read(path, size=(WIDTH, HEIGHT), **({"shift": False} if encoding == "evt2" else {}))
    assert of_stream(found) == of_stream(events)


def test_we_read_what_dv_writes(tmp_path):
    dv = pytest.importorskip("dv_processing")
    events = stream(3_000)
    store = dv.EventStore()
    for t, x, y, p in zip(*(getattr(events, name).tolist() for name in "txyp")):
        store.push_back(t, x, y, p)
    path = tmp_path / "a.aedat4"
    writer = dv.io.MonoCameraWriter(
        str(path), dv.io.MonoCameraWriter.EventOnlyConfig("DAVIS", (WIDTH, HEIGHT))
    )
    writer.writeEvents(store)
    del writer
    found = read(path)
    assert (found.width, found.height) == (WIDTH, HEIGHT)
    assert of_stream(found) == of_stream(events)


def test_tonic_reads_our_nmnist_files_and_real_ones_are_read_alike(tmp_path):
    rng = np.random.default_rng(0)
    n = 4000
    events = EventStream(
        rng.integers(0, 34, n),
        rng.integers(0, 34, n),
        np.sort(rng.integers(0, 300_000, n)),
        rng.integers(0, 2, n),
        34,
        34,
    )
    write(events, tmp_path / "a.bin")
    assert columns(by_tonic(tmp_path / "a.bin")) == of_stream(events)


def test_real_nmnist_recordings_are_read_as_tonic_reads_them(data, tmp_path):
    import zipfile

    with zipfile.ZipFile(data / "nmnist" / "nmnist_800.zip") as archive:
        for name in sorted(archive.namelist())[1:40:7]:
            (tmp_path / "a.bin").write_bytes(archive.read(name))
            assert of_stream(read(tmp_path / "a.bin", size=(34, 34))) == columns(by_tonic(tmp_path / "a.bin"))
