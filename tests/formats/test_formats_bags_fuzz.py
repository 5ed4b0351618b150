"""Mutated bags, MCAP files and descriptions: they are read, or one ValueError says what is wrong.

Bytes of the files change, and messages inside a sound container, as a stranger would write them.
"""

import resource
import shutil
import sqlite3
from contextlib import closing, suppress

import numpy as np
import pytest
from bag_files import scan_at, serialised, tracks_at, write_messages, write_tracks
from mcap.writer import CompressionType, Writer

from tracking.description import read_description
from tracking.formats import bags, foxglove, vision
from tracking.formats.foxglove_schema import SCENE
from tracking.formats.scans import LastSeen

FEW, MANY = 60, 10_000
NUMBERS = [0, 1, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1, 65535]
DESCRIPTION = b"""filter = "PMBM"
seed = 1
survival = 0.9
[config]
threshold = 0.7
gate = inf
[motion]
kind = "ConstantVelocity"
dims = 2
q = [0.5, 0.5]
[sensor]
kind = "PositionSensor"
std = 0.3
[birth]
kind = "UniformBirth"
rate = 0.5
lower = [-50.0, -50.0]
upper = [50.0, 50.0]
[score]
slope = 8.0
neutral = 0.5
[input]
coordinates = ["x", "y"]
reorder = 1.0
"""
WORDS = [
    b"inf",
    b"nan",
    b"-1",
    b"1e999",
    b"9" * 400,
    b"true",
    b"[]",
    b"{}",
    b'""',
    b"[[1]]",
    b"'x'",
    b"2020-01-01",
]
WORDS += [
    b"\n[motion]\n",
    b"kind",
    b"=",
    b"\0",
    b"\xff",
    b"[" * 500,
    b'"CoordinatedTurn"',
    b"1_0",
    b"0x7fffffffffffffff",
]


def mutated(content, rng, words=()):
    """A copy with bytes changed, cut out, repeated, or numbers and words put in."""
    found = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at, length = int(rng.integers(0, len(found) + 1)), int(rng.integers(1, 17))
        match rng.integers(0, 6):
            case 0:
                found[at : at + length] = rng.bytes(length)
            case 1:
                del found[at : at + length]
            case 2:
                found[at:at] = found[at : at + length]
            case 3 if rng.random() < 0.2:
                del found[at:]
            case 4 if words:
                found[at : at + length] = words[rng.integers(len(words))]
            case 4:
                size = int(rng.choice([4, 8]))
                found[at : at + size] = (NUMBERS[rng.integers(len(NUMBERS))] % 256**size).to_bytes(
                    size, "little"
                )
            case _ if at < len(found):
                found[at] ^= 1 << int(rng.integers(0, 8))
    return bytes(found)


def outcome(read, path):
    """Whether it was read; that it was refused is said in one message with the path."""
    said = ""
    try:
        for item in read(path):
            assert np.isfinite(getattr(item, "time", 0.0))
    except ValueError as error:
        said = str(error) or "nothing"
    assert said == "" or said.startswith(str(path)), said
    assert len(said) < 3000
    return said == ""


def survived(number, work):
    """Do it so often; both outcomes occur, and memory stays in bounds."""
    rng = np.random.default_rng(number)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    good = sum(work(rng) for _ in range(number))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert 0 < good < number
    assert grown < 2**19  # KiB


def read_bag(path):
    yield from bags.read_scans(path)
    yield from bags.read_tracks(path)


often = pytest.mark.parametrize("number", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])


@often
def test_bytes_of_a_bag(tmp_path, number):
    """Of its database and, as a parser of YAML takes its time, in every twentieth of its metadata.yaml."""
    path = tmp_path / "bag"
    write_tracks(path, 3)
    files = {name: (path / name).read_bytes() for name in ("bag.db3", "metadata.yaml")}

    def work(rng):
        name, read = ("bag.db3", path / "bag.db3") if rng.random() < 0.95 else ("metadata.yaml", path)
        (path / name).write_bytes(mutated(files[name], rng))
        good = outcome(read_bag, read)
        (path / name).write_bytes(files[name])
        return good

    survived(number, work)


@often
def test_messages_of_a_bag(tmp_path, number):
    """In a sound database."""
    path = tmp_path / "bag.db3"
    kinds = vision.TYPES
    for kind in kinds:
        write_messages(
            tmp_path / kind[-16:], {("/x", kind): [(5, serialised(0, kind)), (6, serialised(1, kind))]}
        )
    files = {kind: next((tmp_path / kind[-16:]).glob("*.db3")) for kind in kinds}

    def work(rng):
        kind = kinds[rng.integers(2)]
        shutil.copy(files[kind], path)
        with closing(sqlite3.connect(path)) as file, file:
            file.execute("PRAGMA synchronous = OFF")
            data = mutated(serialised_once(kind), rng)
            file.execute("UPDATE messages SET data = ? WHERE id = 1", (data,))
        return outcome(read_bag, path)

    survived(number, work)


def serialised_once(kind, kept={}):  # noqa: B006
    """A message of each kind, made once."""
    if kind not in kept:
        kept[kind] = serialised(0, kind)
    return kept[kind]


@often
def test_bytes_of_mcap_bags(tmp_path, number):
    path = tmp_path / "bag.mcap"
    write_tracks(tmp_path / "bag", 3, storage="mcap")
    content = next((tmp_path / "bag").glob("*.mcap")).read_bytes()

    def work(rng):
        path.write_bytes(mutated(content, rng))
        return outcome(read_bag, path)

    survived(number, work)


@often
def test_bytes_and_messages_of_scenes(tmp_path, number):
    """Half of them changed in the file, half in a message of a sound file."""
    path = tmp_path / "scene.mcap"
    seen, scenes = LastSeen(), []
    with foxglove.writer(path) as out:
        for k in range(3):
            out.write(tracks_at(k), scan_at(k), seen.step(tracks_at(k), scan_at(k)))
    content = path.read_bytes()
    scenes = [message.data for message in foxglove.mcap.messages(path)]

    def read(path):
        yield from foxglove.read_scans(path)
        yield from foxglove.read_tracks(path)

    def work(rng):
        if rng.random() < 0.5:
            path.write_bytes(mutated(content, rng))
            return outcome(read, path)
        with open(path, "wb") as file:
            out = Writer(file, compression=CompressionType.NONE)
            out.start()
            channel = out.register_channel("/x", "json", out.register_schema(SCENE, "jsonschema", b"{}"))
            out.add_message(channel, 5, mutated(scenes[0], rng, WORDS), 5)
            out.finish()
        return outcome(read, path)

    survived(number, work)


@often
def test_descriptions(tmp_path, number):
    """What is accepted makes a tracker that takes a scan, or says why not."""
    path = tmp_path / "tracker.toml"

    def read(path):
        tracker = read_description(path).tracker()
        with suppress(ValueError):  # a model may find out when it is used that its numbers are no use
            if rng_of_steps.random() < 0.05:
                tracker.step(np.zeros((2, tracker.models.sensor.dim_z)), 0.0)
        return []

    rng_of_steps = np.random.default_rng(0)

    digits = [at for at, byte in enumerate(DESCRIPTION) if chr(byte).isdigit()]

    def work(rng):
        content = bytearray(DESCRIPTION)
        content[rng.choice(digits)] = ord("0") + rng.integers(10)  # most other numbers are accepted
        path.write_bytes(content if rng.random() < 0.2 else mutated(DESCRIPTION, rng, WORDS))
        return outcome(read, path)

    survived(number, work)
