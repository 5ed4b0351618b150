"""ROS 2 bags: what was written is read, by us and by rosbags; what is none is said."""

import os
import shutil
import sqlite3
import tracemalloc

import numpy as np
import pytest
from bag_files import EPOCH, scan_at, serialised, tracks_at, write_messages, write_tracks
from rosbags.highlevel import AnyReader
from rosbags.rosbag2.enums import CompressionMode

from tracking.formats import bags, vision
from tracking.formats.vision_definitions import typestore

HERE = ("/detections", vision.DETECTIONS_3D)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bag"


def storage_file(folder):
    return next(p for p in folder.iterdir() if p.suffix in (".db3", ".mcap"))


def changed(folder, *statements):
    with sqlite3.connect(storage_file(folder)) as file:
        for statement in statements:
            file.execute(statement)
    file.close()


def refused(path, says, **about):
    with pytest.raises(ValueError, match=says) as error:
        list(bags.read_scans(path, **about))
    assert str(error.value).startswith(str(path))
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize("storage", bags.STORAGES)
@pytest.mark.parametrize("kind", vision.TYPES)
def test_tracks_come_back_bit_for_bit(path, storage, kind):
    d = 3 if kind == vision.DETECTIONS_3D else 2
    names = ("x", "y", "z")[:d]
    written = write_tracks(path, names=names, kind=kind, storage=storage)
    for source in (path, storage_file(path)):
        back = list(bags.read_tracks(source))
        assert len(back) == len(written)
        for a, b in zip(written, back):
            for name, value in (("mean", a.mean[:, :d]), ("cov", a.cov[:, :d, :d])):
                np.testing.assert_array_equal(getattr(b, name), value)
            assert b.label.tolist() == a.label.tolist()
            assert b.existence.tolist() == a.existence.tolist()
        scans = list(bags.read_scans(source))
        assert [s.stamp for s in scans] == [scan_at(k).stamp for k in range(4)]
        assert {s.frame for s in scans} == {"map"}
        np.testing.assert_array_equal(scans[2].z, written[2].mean[:, :d])
        np.testing.assert_array_equal(scans[2].cov, written[2].cov[:, :d, :d])
    assert sorted(p.name for p in path.parent.iterdir()) == ["bag"]


@pytest.mark.parametrize("storage", bags.STORAGES)
def test_rosbags_reads_what_is_written(path, storage):
    written = write_tracks(path, storage=storage)
    with AnyReader([path]) as reader:  # with the definitions in the bag, or ours
        (connection,) = reader.connections
        assert (connection.topic, connection.msgtype) == ("/tracks", vision.DETECTIONS_3D)
        messages = [reader.deserialize(data, c.msgtype) for c, _, data in reader.messages()]
    assert len(messages) == 4
    found = messages[1].detections[1]
    assert (found.id, found.header.frame_id, messages[1].header.stamp.sec) == ("8", "map", EPOCH)
    assert found.results[0].hypothesis.score == 0.875
    assert found.bbox.center.position.x == written[1].mean[1, 0]
    assert found.results[0].pose.covariance.reshape(6, 6)[1, 1] == written[1].cov[1, 1, 1]


def test_the_only_topic_is_taken_and_otherwise_they_are_listed(path):
    text = bytes(
        typestore().serialize_cdr(typestore().types["std_msgs/msg/String"](data="x"), "std_msgs/msg/String")
    )
    one = [(EPOCH * 10**9, serialised(0))]
    write_messages(path, {HERE: one, ("/chat", "std_msgs/msg/String"): [(1, text)]})
    assert len(list(bags.read_scans(path))) == 1
    assert len(list(bags.read_scans(path, "/detections"))) == 1
    refused(path, r"topic /chat is not of an accepted type; .*/chat \(std_msgs/msg/String\)", topic="/chat")
    refused(
        path, r"no topic /x; there are /detections \(vision_msgs/msg/Detection3DArray\), /chat", topic="/x"
    )
    two = path.with_name("two")
    write_messages(two, {HERE: one, ("/camera", vision.DETECTIONS_3D): one})
    refused(two, "2 topics could be meant, /detections, /camera; accepted is one: name it as topic")
    assert len(list(bags.read_scans(two, "/camera"))) == 1
    none = path.with_name("none")
    write_messages(none, {("/chat", "std_msgs/msg/String"): [(1, text)]})
    refused(none, "no topic of an accepted type; there are /chat")


def test_scans_come_in_the_order_of_their_stamps(path):
    order = [2, 0, 1, 4, 3]
    write_messages(path, {HERE: [(EPOCH * 10**9 + n, serialised(k)) for n, k in enumerate(order)]})
    assert [s.stamp for s in bags.read_scans(path)] == [scan_at(k).stamp for k in range(5)]
    late = path.with_name("late")
    write_messages(late, {HERE: [(n, serialised(k)) for n, k in enumerate([0, 2, 3, 1])]})
    refused(late, r"scan 3 .* came after that .* up to 0.05 s out of order", reorder=0.05)
    assert [s.stamp for s in bags.read_scans(late)] == [scan_at(k).stamp for k in range(4)]
    by_bag = list(bags.read_scans(path, clock="bag"))
    assert [s.stamp for s in by_bag] == [EPOCH * 10**9 + n for n in range(5)]
    assert by_bag[0].z.tolist() == tracks_at(2).mean[:, :3].tolist()


def test_stamps_that_are_not_set(path):
    write_messages(path, {HERE: [(5, serialised(0, stamp=0))]})
    refused(path, 'message 0 of /detections: its header.stamp is 0, not set; accepted is clock="bag"')
    assert [s.stamp for s in bags.read_scans(path, clock="bag")] == [5]
    with pytest.raises(ValueError, match="clock must be one of header, bag, got 'wall'"):
        bags.read_scans(path, clock="wall")
    simulated = path.with_name("simulated")
    write_messages(simulated, {HERE: [(0, serialised(0, stamp=0)), (9, serialised(1, stamp=9))]})
    assert [s.stamp for s in bags.read_scans(simulated)] == [0, 9]


def test_frames_must_not_change(path):
    write_messages(path, {HERE: [(1, serialised(0)), (2, serialised(1, frame="odom"))]})
    refused(
        path, "message 1 of /detections: it is in frame 'odom', those before in 'map'; accepted is one frame"
    )


@pytest.mark.parametrize("version", [8, 9])
def test_messages_that_are_compressed_one_by_one(path, version):
    write_messages(path, {HERE: [(EPOCH * 10**9, serialised(0))]}, CompressionMode.MESSAGE, version)
    assert len(list(bags.read_scans(path))) == 1


def test_files_that_are_compressed_are_refused(path):
    write_messages(path, {HERE: [(EPOCH * 10**9, serialised(0))]}, CompressionMode.FILE)
    refused(path, r"metadata.yaml: compression by file; accepted are .* ros2 bag convert")


def test_a_recording_that_was_cut_off_has_no_metadata(path):
    write_tracks(path)
    (path / "metadata.yaml").unlink()
    shutil.copy(storage_file(path), path / "bag_10.db3")
    os.rename(path / "bag.db3", path / "bag_9.db3")
    changed(path, "UPDATE messages SET timestamp = timestamp")
    files = [file.name for file, _ in bags._files(path)]
    assert files == ["bag_9.db3", "bag_10.db3"]
    assert bags.is_bag(path)


def test_several_files_are_one_recording(path):
    write_tracks(path)
    text = (path / "metadata.yaml").read_text()
    shutil.copy(path / "bag.db3", path / "again.db3")
    (path / "metadata.yaml").write_text(text.replace("- bag.db3\n", "- bag.db3\n  - again.db3\n", 1))
    changed(path, "UPDATE messages SET timestamp = timestamp")
    assert len(list(bags.read_tracks(path))) == 8


def test_messages_of_another_version_are_refused(path):
    write_tracks(path)
    changed(path, "UPDATE topics SET type_description_hash = 'RIHS01_00'")
    refused(path, "with fields of hash RIHS01_00; accepted is cdr with RIHS01_.* vision_msgs 4")
    changed(path, "UPDATE topics SET type_description_hash = ''", "UPDATE messages SET data = x'0001000003'")
    refused(path, "message 0 of /tracks: it is no vision_msgs/msg/Detection3DArray .* vision_msgs 4")


def test_a_count_that_promises_more_than_there_is_takes_no_memory(path):
    write_tracks(path)
    data = bytearray(serialised(0))
    place = data.index(b"map\0") + 4
    data[place : place + 4] = (2**31).to_bytes(4, "little")
    with sqlite3.connect(storage_file(path)) as file:
        file.execute("UPDATE messages SET data = ?", (bytes(data),))
    file.close()
    list(bags.topics(path))
    tracemalloc.start()
    refused(path, "it is no vision_msgs")
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("statements", "says"),
    [
        (
            [
                "DROP TABLE messages",
                "CREATE VIEW messages AS SELECT 1 id, 1 topic_id, 1 timestamp, zeroblob(9e8) data",
            ],
            "it has a view 'messages', accepted are plain tables",
        ),
        (["CREATE TRIGGER t AFTER INSERT ON topics BEGIN DELETE FROM topics; END"], "it has a trigger 't'"),
        (["CREATE VIRTUAL TABLE v USING fts5(a)"], "it has a table 'v', accepted are plain tables"),
        (
            [
                "DROP TABLE messages",
                "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, "
                "data BLOB AS (zeroblob(900000000)))",
                "INSERT INTO messages(topic_id, timestamp) VALUES (1, 1)",
            ],
            "table messages has computed columns",
        ),
        (["UPDATE messages SET data = 'text'"], "a message of str at"),
        (["DROP TABLE topics"], "accepted are sound bags"),
    ],
)
def test_databases_that_do_more_than_hold_rows_are_refused(path, statements, says):
    write_tracks(path)
    changed(path, *statements)
    tracemalloc.start()
    refused(path, says)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_a_message_that_unpacks_to_more_than_it_may(path):
    import zstandard

    write_messages(path, {HERE: [(1, serialised(0))]}, CompressionMode.MESSAGE)
    bomb = zstandard.compress(bytes(2**28))
    assert len(bomb) < 20_000
    with sqlite3.connect(storage_file(path)) as file:
        file.execute("UPDATE messages SET data = ?", (bomb,))
    file.close()
    tracemalloc.start()
    refused(path, "16777217 bytes, accepted are 16777216")
    assert tracemalloc.get_traced_memory()[1] < 60_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: "a: [", "accepted is the description of a bag"),
        (lambda text: "", "no table rosbag2_bagfile_information; accepted is the description of a bag"),
        (lambda text: text[:10], "no table rosbag2_bagfile_information"),
        (lambda text: text.replace("bag.db3", "../../secret.db3"), "lists 'secret.db3'; accepted are"),
        (lambda text: text.replace("bag.db3", "metadata.yaml"), "lists 'metadata.yaml'"),
        (lambda text: "!!python/object/apply:os.system ['touch hacked']", "accepted is the description"),
        (lambda text: "x: " + "[" * 1_000_000, "brackets nested 21 deep"),
        (lambda text: "- " * 100_000, "accepted is the description"),
        (lambda text: "x: &a [1]\n" + "y: *b\n", "accepted is the description"),
    ],
)
def test_metadata_of_a_stranger(path, change, says, monkeypatch):
    write_tracks(path)
    monkeypatch.chdir(path.parent)
    about = path / "metadata.yaml"
    about.write_text(change(about.read_text()))
    refused(path, says)
    assert not (path.parent / "hacked").exists()


def test_what_is_no_bag(path, tmp_path):
    with pytest.raises(FileNotFoundError):
        bags.read_scans(tmp_path / "missing.db3")
    (tmp_path / "text.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "noise.db3").write_bytes(b"\0" * 5000)
    (tmp_path / "what?.db3").write_bytes(b"")
    refused(tmp_path / "text.txt", "is no bag; accepted are folders, .db3 and .mcap files")
    refused(tmp_path / "empty", "is no bag; accepted are folders with metadata.yaml")
    refused(tmp_path / "noise.db3", "accepted are sound bags")
    refused(tmp_path / "what?.db3", "accepted are paths without")
    assert not bags.is_bag(tmp_path / "empty")


def test_nothing_is_left_of_a_bag_that_failed(path):
    with pytest.raises(RuntimeError), bags.writer(path):
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    write_tracks(path)
    with pytest.raises(ValueError, match="is there already; accepted is the name of a new folder"):
        write_tracks(path)
    assert len(list(bags.read_tracks(path))) == 4
    for wrong in ({"storage": "tape"}, {"kind": "std_msgs/msg/String"}, {"topic": "/a b"}):
        with pytest.raises(ValueError, match="must be"):
            write_tracks(path.with_name("other"), **wrong)
    assert [p.name for p in path.parent.iterdir()] == ["bag"]


@pytest.mark.parametrize("storage", bags.STORAGES)
def test_memory_does_not_grow_with_a_bag(path, storage):
    """Reading is a stream: four hundred scans take what forty take."""
    write_tracks(path, 400, storage=storage)
    peaks = []
    for n in (40, 400):
        tracemalloc.start()
        scans = bags.read_scans(path)
        for _ in range(n):
            next(scans)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        scans.close()
    assert peaks[1] < 1.2 * peaks[0] + 200_000
