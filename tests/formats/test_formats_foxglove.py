"""Tracks as scenes in MCAP: read back exactly, by the library too; and files that are none, or too much."""

import json
import struct
import tracemalloc

import numpy as np
import pytest
from bag_files import EPOCH, scan_at, serialised, tracks_at
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from tracking.formats import bags, foxglove, mcap, vision
from tracking.formats.foxglove_schema import SCENE, SCHEMA
from tracking.formats.scans import Attributes, LastSeen, TimedScan
from tracking.tracks import Tracks


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tracks.mcap"


def write(path, n=4, names=("x", "y", "z")):
    seen = LastSeen()
    with foxglove.writer(path) as scene:
        for k in range(n):
            scan = scan_at(k, names)
            scene.write(tracks_at(k), scan, seen.step(tracks_at(k), scan))


def stored(path, messages, schema=SCENE, encoding="json", compression=CompressionType.ZSTD, **about):
    """An MCAP file by the library alone."""
    with open(path, "wb") as file:
        out = Writer(file, compression=compression, **about)
        out.start()
        channel = out.register_channel("/scene", encoding, out.register_schema(schema, "jsonschema", b"{}"))
        for time, data in messages:
            out.add_message(channel, time, data, time)
        out.finish()


def refused(path, says, read=foxglove.read_tracks):
    with pytest.raises(ValueError, match=says) as error:
        list(read(path))
    assert str(error.value).startswith(str(path))
    assert len(str(error.value)) < 1000


def entity(**changes):
    """An entity of somebody else's scene."""
    pose = {"position": {"x": 1.0, "y": 2.0, "z": 3.0}, "orientation": {"x": 0, "y": 0, "z": 0, "w": 1}}
    body = {"pose": pose, "size": {"x": 4.0, "y": 2.0, "z": 1.5}}
    return {"id": "a", "frame_id": "map", "cubes": [body], "spheres": [], "metadata": []} | changes


def scene(*entities):
    return json.dumps({"deletions": [], "entities": entities}).encode()


def test_tracks_come_back_bit_for_bit(path):
    write(path)
    back = list(foxglove.read_tracks(path))
    assert len(back) == 4
    for k, tracks in enumerate(back):
        for name in ("label", "mean", "cov", "existence", "source"):
            np.testing.assert_array_equal(getattr(tracks, name), getattr(tracks_at(k), name))
        assert tracks.time == pytest.approx(tracks_at(k).time, abs=1e-6)
    scans = list(foxglove.read_scans(path, coordinates=("z", "x")))
    assert [s.stamp for s in scans] == [scan_at(k).stamp for k in range(4)]
    np.testing.assert_array_equal(scans[3].z, tracks_at(3).mean[:, [2, 0]])
    assert scans[0].frame == "map"


def test_the_library_reads_what_foxglove_needs(path):
    write(path)
    with open(path, "rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        found = list(reader.iter_messages())
    (schema,) = summary.schemas.values()
    (channel,) = summary.channels.values()
    assert (schema.name, schema.encoding) == ("foxglove.SceneUpdate", "jsonschema")
    assert (channel.topic, channel.message_encoding) == ("/tracks", "json")
    assert json.loads(schema.data) == json.loads(json.dumps(SCHEMA))
    assert summary.statistics.message_count == 4
    scenes = [json.loads(message.data) for _, _, message in found]
    assert [message.log_time for _, _, message in found] == [scan_at(k).stamp for k in range(4)]
    assert [[d["id"] for d in s["deletions"]] for s in scenes] == [[], ["7"], ["8"], ["9"]]
    for each in scenes:
        conforms(each, SCHEMA)


def conforms(value, schema):
    """Whether a value is of a JSON schema of objects, arrays and simple types, with no unknown names."""
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "integer": int,
        "number": (int, float),
    }
    assert isinstance(value, kinds[schema["type"]]), (value, schema)
    if schema["type"] == "object":
        for name, inner in value.items():
            conforms(inner, schema["properties"][name])
    for item in value if schema["type"] == "array" else ():
        conforms(item, schema["items"])


def one(mean, cov, size=(0.0, 0.0, 0.0), names=("x", "y", "z"), cls="car"):
    tracks = Tracks(
        1.0, np.array([5]), np.array([mean], float), np.array([cov]), np.array([0.5]), np.array([-1])
    )
    scan = TimedScan(1.0, np.zeros((0, len(names))), names, frame="map")
    return foxglove.scene_of(tracks, scan, [Attributes(cls, size, position=(9.0, 9.0, 9.0))])["entities"][0]


def test_an_object_is_a_cube_if_its_size_is_known():
    drawn = one([1, 2, 3, 0, 0, 0], np.eye(6), (4.0, 2.0, 1.5))
    assert drawn["cubes"][0]["size"] == {"x": 4.0, "y": 2.0, "z": 1.5}
    assert drawn["cubes"][0]["pose"]["position"] == {"x": 1.0, "y": 2.0, "z": 3.0}
    assert len(drawn["spheres"]) == 1
    assert drawn["texts"][0]["text"] == "5 car 0.50"
    plain = one([1, 2, 3, 0, 0, 0], np.eye(6), cls="")
    assert plain["cubes"] == []
    assert len(plain["spheres"]) == 2
    assert plain["arrows"] == []  # it stands
    assert plain["texts"][0]["text"] == "5 0.50"


def test_the_ellipsoid_holds_the_position_with_its_probability():
    rng = np.random.default_rng(0)
    half = rng.normal(size=(3, 3))
    cov = half @ half.T
    full = np.eye(6)
    full[:3, :3] = cov
    ellipsoid = one([0, 0, 0, 0, 0, 0], full)["spheres"][-1]
    turn = Rotation.from_quat([ellipsoid["pose"]["orientation"][a] for a in "xyzw"]).as_matrix()
    radii = np.array([ellipsoid["size"][a] for a in "xyz"]) / 2
    np.testing.assert_allclose(turn @ np.diag(radii**2) @ turn.T, cov * chi2.ppf(0.95, 3), rtol=1e-9)
    points = rng.multivariate_normal(np.zeros(3), cov, 20_000) @ turn / radii
    assert np.mean((points**2).sum(axis=1) < 1) == pytest.approx(0.95, abs=0.01)


def test_a_track_in_a_plane_is_drawn_there():
    drawn = one([1, 3, 2, -1], np.eye(4), names=("x", "z"))
    assert drawn["spheres"][0]["pose"]["position"] == {"x": 1.0, "y": 9.0, "z": 3.0}
    arrow = drawn["arrows"][0]
    turn = Rotation.from_quat([arrow["pose"]["orientation"][a] for a in "xyzw"])
    speed = arrow["shaft_length"] + arrow["head_length"]
    np.testing.assert_allclose(speed * turn.apply([1.0, 0.0, 0.0]), [2, 0, -1], atol=1e-12)
    with pytest.raises(ValueError, match="coordinates must be different ones of x, y, z"):
        one([1, 2, 3, 4], np.eye(4), names=("east", "north"))


def test_scenes_of_others_are_detections(path):
    pose = entity()["cubes"][0]["pose"]
    ball = {"pose": pose | {"position": {"x": 7, "y": 8, "z": 9}}, "size": {"x": 1, "y": 1, "z": 1}}
    stored(path, [(5, scene(entity(), entity(cubes=[], spheres=[ball]), entity(cubes=[]))), (6, scene())])
    first, second = foxglove.read_scans(path)
    assert first.z.tolist() == [[1, 2, 3], [7, 8, 9]]
    assert first.extra["size"].tolist() == [[4, 2, 1.5], [1, 1, 1]]
    assert second.z.shape == (0, 3)
    refused(path, "message 0 of /scene is no scene")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{", "is no scene"),
        (b"[]", "is no scene"),
        (b'{"entities": 3}', "entities must be a list"),
        (b"[" * 100_000, "is no scene"),
        (b'{"entities": [{}]}', "is no scene"),
        (scene(entity(frame_id="map"), entity(frame_id="odom")), r"several frames, \['map', 'odom'\]"),
        (scene(entity()).replace(b"1.0", b"NaN"), "NaN is no number"),
        (scene(entity()).replace(b"1.0", b"1e400"), "not finite or beyond"),
        (scene(entity()).replace(b"1.0", b'"1"'), "numbers are"),
        (scene(entity()).replace(b"1.0", b"9" * 5000), "is no scene"),
    ],
)
def test_messages_that_are_no_scene(path, data, says):
    stored(path, [(5, data)])
    refused(path, says, foxglove.read_scans)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mean": "[1.0, NaN]"}, "NaN is no number"),
        ({"cov": "[[1.0]]"}, "is no scene"),
        ({"mean": "[]"}, "state of 0 entries"),
        ({"existence": "1.5"}, "no probability"),
        ({"source": "-2"}, "no row"),
        ({"source": "true"}, "no row"),
    ],
)
def test_tracks_of_a_stranger(path, change, says):
    exact = {"existence": "0.5", "source": "-1", "mean": "[1.0, 2.0]", "cov": "[[1, 0], [0, 1]]"} | change
    stored(path, [(5, scene(entity(id="3", metadata=[{"key": k, "value": v} for k, v in exact.items()])))])
    refused(path, says)


def test_scenes_in_another_encoding_are_refused(path):
    stored(path, [(5, b"")], encoding="protobuf")
    refused(path, "has scenes in 'protobuf'; accepted is json")
    stored(path, [(5, b"")], schema="foxglove.Log")
    refused(
        path,
        r"no topic of an accepted type; there are /scene \(foxglove.Log\); accepted are foxglove.SceneUpdate",
    )


@pytest.mark.parametrize("compression", list(CompressionType))
@pytest.mark.parametrize("chunks", [True, False])
def test_every_compression_is_read(path, compression, chunks):
    stored(
        path,
        [(k, scene(entity())) for k in range(300)],
        compression=compression,
        use_chunking=chunks,
        chunk_size=999,
    )
    assert [s.stamp for s in foxglove.read_scans(path)] == list(range(300))


def test_a_file_without_a_summary_is_read_from_its_beginning(path):
    stored(path, [(5, scene(entity()))], repeat_channels=False, repeat_schemas=False, use_statistics=False)
    assert len(list(foxglove.read_scans(path))) == 1


def test_a_file_that_was_cut_off_gives_what_comes_before(path):
    stored(path, [(k, scene(entity())) for k in range(300)], chunk_size=999)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    messages = mcap.messages(path)
    for _ in range(100):
        next(messages)
    with pytest.raises(ValueError, match=r"the file ends .* too early; accepted are sound MCAP files"):
        list(messages)


def test_messages_of_ros_in_a_file_alone(path):
    stored(path, [(EPOCH * 10**9, serialised(0))], schema=vision.DETECTIONS_3D, encoding="cdr")
    (scan,) = bags.read_scans(path)
    np.testing.assert_array_equal(scan.z, tracks_at(0).mean[:, :3])
    stored(path, [(EPOCH * 10**9, b"{}")], schema=vision.DETECTIONS_3D, encoding="json")
    refused(path, "in 'json'", bags.read_scans)


@pytest.mark.parametrize("compression", [CompressionType.ZSTD, CompressionType.LZ4])
def test_a_chunk_that_unpacks_to_more_than_it_may(path, compression):
    stored(path, [(1, bytes(2**27))], compression=compression)
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    refused(path, "accepted are 67108864", foxglove.read_scans)
    assert tracemalloc.get_traced_memory()[1] < 2**28
    tracemalloc.stop()


@pytest.mark.parametrize("length", [2**26 + 1, 2**40, 2**63, 2**64 - 1])
@pytest.mark.parametrize("place", ["header", "chunk", "data", "summary"])
def test_lengths_in_a_file_do_not_decide_on_memory(path, length, place):
    stored(path, [(1, scene(entity()))])
    content = bytearray(path.read_bytes())
    (header,) = struct.unpack_from("<Q", content, 9)
    chunk = 8 + 9 + header  # where the record begins: opcode, length, two times, size, checksum, "zstd", data
    (summary,) = struct.unpack_from("<Q", content, len(content) - 37 + 9)
    at = {"header": 9, "chunk": chunk + 1, "data": chunk + 9 + 28 + 8, "summary": summary + 1}[place]
    content[at : at + 8] = struct.pack("<Q", length)
    path.write_bytes(content)
    tracemalloc.start()
    try:
        refused(path, "accepted are sound MCAP files", foxglove.read_scans)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_a_damaged_chunk_is_found_by_its_checksum(path):
    stored(path, [(1, scene(entity()))], compression=CompressionType.NONE)
    path.write_bytes(path.read_bytes().replace(b'"map"', b'"mop"', 1))
    refused(path, "crc validation failed", foxglove.read_scans)


def test_nothing_is_left_of_a_file_that_failed(path):
    with pytest.raises(RuntimeError), foxglove.writer(path):
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    tracks = tracks_at(0)
    tracks.mean[0, 0] = np.nan
    with foxglove.writer(path) as out, pytest.raises(ValueError, match="not finite"):
        out.write(tracks, scan_at(0), [Attributes(), Attributes()])
    assert list(foxglove.read_tracks(path)) == []


def test_what_is_no_mcap(path):
    for content in (b"", b"\x89MCAP0\r\n", bytes(100), b"x" * 10_000):
        path.write_bytes(content)
        refused(path, "accepted are sound MCAP files")
    with pytest.raises(FileNotFoundError):
        list(mcap.messages(path.with_name("missing.mcap")))
