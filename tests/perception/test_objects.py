"""Things in frames and events: targets, votes, places, the network, and what is refused."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from perception.depth.fuse import KINDS
from perception.depth.pairs import Pairs
from perception.detect import DetectConfig
from perception.events.stream import EventStream
from perception.objects.finder import Finder, load
from perception.objects.fit import find
from perception.objects.network import ObjectNet
from perception.objects.place import placed
from perception.objects.target import UNIT, target
from perception.objects.votes import Found, VoteConfig, things
from perception.pinhole import Pinhole
from perception.training import Run, RunConfig
from sims.rooms import room_pairs
from tracking.formats.weights import read_weights, write_weights

CAMERA = Pinhole.of(40, 32, 50.0)
MIDDLES = np.array([[-0.4, 0.1, 2.0], [0.5, -0.2, 4.0], [0.0, 0.5, 2.5]])


def discs(radius=4.0):
    """Which of three things a pixel is of: discs about their middles in the image, one cut by its edge."""
    rows, columns = np.mgrid[:32, :40]
    label = np.full((32, 40), -1)
    for k, (u, v) in enumerate(CAMERA.project(MIDDLES)):
        label[np.hypot(columns - u, rows - v) <= radius] = k
    return label


def said(known, doubt=-2.0):
    """What a network that knows the targets says, as `things` takes it."""
    there = np.where(known[0] > 0, 0.95, 0.02)
    return there, known[1:3], known[3] + np.log(UNIT * CAMERA.fx), np.full(there.shape, doubt)


def test_targets_and_votes_are_each_others_inverse():
    label = discs()
    found = things(*said(target(label, MIDDLES, CAMERA)))
    assert len(found.depth) == 3
    order = [int(np.argmin(np.linalg.norm(found.centre - uv, axis=1))) for uv in CAMERA.project(MIDDLES)]
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(found.centre[order], CAMERA.project(MIDDLES), atol=1e-6)
    np.testing.assert_allclose(found.depth[order], MIDDLES[:, 2], rtol=1e-9)
    np.testing.assert_allclose(found.std, found.depth * np.sqrt(2) * np.exp(-2.0))
    for k, at in enumerate(order):
        np.testing.assert_array_equal(found.label == at, label == k)
    assert (np.diff(found.votes) <= 0).all()


def test_middles_may_be_hidden_or_outside():
    label = discs()
    label[:, 20:] = -1  # half of what is in the middle is covered
    middles = MIDDLES.copy()
    middles[0, 0] -= 0.5  # its middle is left of the image
    found = things(*said(target(label, middles, CAMERA)))
    assert (found.centre[:, 0] < -2).any()
    np.testing.assert_allclose(
        found.centre[np.argmin(found.centre[:, 0])], CAMERA.project(middles[:1])[0], atol=1e-6
    )


def test_what_is_too_small_or_behind_counts_neither_for_nor_against():
    label = np.full((32, 40), -1)
    label[2, 2:5] = 0
    label[10:20, 10:20] = 1
    middles = np.array([[-1.0, -1.0, 3.0], [0.0, 0.0, -1.0]])
    known = target(label, middles, CAMERA)
    assert (known[0][label >= 0] == -1).all()
    assert (known[0][label < 0] == 0).all()
    assert not target(np.full((32, 40), -1), np.zeros((0, 3)), CAMERA).any()


@pytest.mark.parametrize(("there", "votes", "number"), [(0.5, 8.0, 3), (0.96, 8.0, 0), (0.5, 1000.0, 0)])
def test_settings_decide_what_is_a_thing(there, votes, number):
    known = target(discs(), MIDDLES, CAMERA)
    found = things(*said(known), VoteConfig(there=there, votes=votes))
    assert len(found.depth) == number
    assert found.label.max() == number - 1


def test_sure_pixels_count_more_for_depth():
    known = target(discs(), MIDDLES, CAMERA)
    there, way, depth, _ = said(known)
    wrong = np.indices(depth.shape)[1] % 2 == 0
    off = things(there, way, depth + wrong, np.where(wrong, 1.0, -3.0))
    np.testing.assert_allclose(np.sort(off.depth), np.sort(MIDDLES[:, 2]), rtol=0.02)


def test_places_and_covariances_are_those_of_the_camera():
    found = things(*said(target(discs(), MIDDLES, CAMERA)))
    turn = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    at = np.array([1.0, 2.0, 3.0])
    here, there = placed(found, CAMERA), placed(found, CAMERA, (turn, at))
    np.testing.assert_allclose(np.sort(here.z, 0), np.sort(MIDDLES, 0), atol=1e-6)
    np.testing.assert_allclose(there.z, here.z @ turn.T + at)
    np.testing.assert_allclose(there.cov, turn @ here.cov @ turn.T, atol=1e-9)
    ray = here.z[0] / np.linalg.norm(here.z[0])
    across = np.cross(ray, [0, 1, 0])
    along = ray @ here.cov[0] @ ray
    assert along == pytest.approx((found.std[0] * np.linalg.norm(here.z[0]) / here.z[0, 2]) ** 2, rel=0.2)
    assert along > 3 * across @ here.cov[0] @ across
    near = placed(found, CAMERA, config=DetectConfig(farthest=3.0))
    assert list(near.source) == list(np.flatnonzero(found.depth <= 3.0))
    for k, box in zip(here.source, here.box):
        rows, columns = np.nonzero(found.label == k)
        assert list(box) == [columns.min(), rows.min(), columns.max(), rows.max()]


@pytest.fixture(scope="module")
def pairs():
    return room_pairs(range(12), side=32, objects=True, travel=0.5)


def test_rooms_know_their_things(pairs):
    known = pairs.objects.astype(float)
    assert set(np.unique(known[:, 0])) <= {-1.0, 0.0, 1.0}
    assert 0.05 < (known[:, 0] == 1).mean() < 0.7
    on = known[:, 0] == 1
    depth = np.exp(known[:, 3]) * UNIT * 32  # at a focal length of 32 pixels; it is 26 to 42
    ratio = (depth / pairs.depth)[on]
    assert 0.7 < np.median(ratio) < 1.5  # the middle of a thing is a little behind its face


def test_it_learns_a_few_images(pairs):
    torch.manual_seed(0)
    few = pairs[:4]
    network = ObjectNet((8, 16, 32))
    training = Run(network, find(few, 4), RunConfig(steps=60, rate=5e-3, warm_up=5))
    with torch.no_grad():
        first = training.loss(network, np.random.default_rng(0))
    training.train()
    assert training.done
    with torch.no_grad():
        last = training.loss(network, np.random.default_rng(0))
    for name in first:
        assert last[name] < first[name] - 0.05


def test_it_learns_of_things_alone(pairs):
    without = Pairs(pairs.clean, pairs.seen, pairs.voxels, pairs.depth)
    with pytest.raises(ValueError, match="the pairs have none"):
        find(without)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def finder():
    torch.manual_seed(1)
    network = ObjectNet((8, 16))
    torch.nn.init.normal_(network.out.weight, std=0.5)
    return Finder(network, 50_000, 32, VoteConfig(there=0.3, votes=1.0))


@pytest.fixture
def events(rng):
    n = 400
    t = np.sort(rng.integers(0, 50_000, n))
    return EventStream(
        rng.integers(0, 40, n).astype(np.uint16),
        rng.integers(0, 32, n).astype(np.uint16),
        t,
        rng.integers(0, 2, n).astype(bool),
        40,
        32,
    )


def same(a: Found, b: Found):
    return all(np.array_equal(x, y) for x, y in zip(a, b))


def test_what_is_not_there_does_not_count(finder, events, rng):
    frame = rng.uniform(0, 1, (32, 40))
    alone = finder.step(frame, None, CAMERA)
    assert len(alone.depth)
    assert same(alone, finder.step(frame, EventStream.empty(40, 32), CAMERA))
    assert not same(alone, finder.step(frame, events, CAMERA))
    x, v = torch.rand(2, 1, 32, 40), torch.rand(2, 1, 3, 32, 40)
    for kind in range(len(KINDS)):
        said = [finder.network(x[a], v[b], torch.tensor([kind])).there for a, b in ((0, 0), (1, 0), (0, 1))]
        assert torch.equal(said[0], said[1]) == (KINDS[kind] == "events")
        assert torch.equal(said[0], said[2]) == (KINDS[kind] == "frames")


def test_a_few_events_are_noise(finder, rng):
    few = EventStream(*(np.array([5], np.uint16),) * 2, np.array([9]), np.array([True]), 40, 32)
    assert len(finder.step(None, few, CAMERA).depth) == 0
    frame = rng.uniform(0, 1, (32, 40))
    assert same(finder.step(frame, few, CAMERA), finder.step(frame, None, CAMERA))


@pytest.mark.parametrize("shape", [(64, 65), (70, 70), (1, 1), (5, 3)])
def test_a_blank_frame_shows_nothing_whatever_its_size(shape):
    shipped = load()
    assert len(shipped.step(np.zeros(shape), None, Pinhole.of(shape[1], shape[0], 64.0)).depth) == 0


def test_neighbours_with_equal_votes_are_one_thing():
    there, way = np.zeros((16, 16)), np.zeros((2, 16, 16))
    there[6:10, 6:10] = 1
    rows, columns = np.mgrid[:16, :16]
    way[0], way[1] = np.where(rows % 2 == 0, 7, 8) - columns, 7 - rows
    found = things(there, way, np.zeros((16, 16)), np.zeros((16, 16)), VoteConfig(votes=9.0))
    assert found.votes.tolist() == [16.0]


@pytest.mark.parametrize(
    ("which", "value", "says"),
    [
        (0, 7.0, "probabilities"),
        (1, np.nan, "way must be finite"),
        (2, np.inf, "depth must"),
        (3, np.nan, "doubt"),
    ],
)
def test_images_that_are_none_are_named(which, value, says):
    images = [np.array(image) for image in said(target(discs(), MIDDLES, CAMERA))]
    images[which][..., 3, 3] = value
    with pytest.raises(ValueError, match=says):
        things(*images)
    with pytest.raises(ValueError, match="of shape"):
        things(images[0], images[1][:, :5], *images[2:])


def test_what_has_no_place_is_left_out():
    found = things(*said(target(discs(), MIDDLES, CAMERA)))
    lost = found._replace(depth=np.where([True, False, False], np.inf, found.depth))
    assert list(placed(lost, CAMERA).source) == [1, 2]
    assert list(placed(found._replace(label=np.where(found.label == 1, -1, found.label)), CAMERA).source) == [
        0,
        2,
    ]
    with pytest.raises(ValueError, match="pixels are of 3 things, got 0"):
        placed(Found.none((32, 40))._replace(label=found.label), CAMERA)
    assert placed(Found.none((32, 40)), CAMERA).z.shape == (0, 3)


def test_darkness_changes_nothing(finder, rng):
    """Both are brought to contrast 1: what a night leaves is a matter of noise alone."""
    frame = rng.uniform(0, 1, (32, 40))
    day, night = (finder.step(light * frame, None, CAMERA) for light in (1.0, 0.05))
    np.testing.assert_allclose(day.depth, night.depth, rtol=1e-4)


def test_twice_the_focal_length_is_twice_the_distance(finder, events, rng):
    frame = rng.uniform(0, 1, (32, 40))
    near = finder.step(frame, events, CAMERA)
    far = finder.step(frame, events, Pinhole.of(40, 32, 100.0))
    assert len(near.depth)
    np.testing.assert_allclose(far.depth, 2 * near.depth, rtol=1e-6)


def test_sides_of_any_length(finder, rng):
    for shape in ((33, 41), (17, 50)):
        found = finder.step(rng.uniform(0, 1, shape), None, Pinhole.of(shape[1], shape[0], 50.0))
        assert found.label.shape == shape


@pytest.mark.parametrize(
    ("frame", "fired", "camera", "says"),
    [
        (None, False, CAMERA, "got neither"),
        (np.zeros((32, 41)), False, CAMERA, "frame of the camera's 40 x 32 pixels are expected, got 41 x 32"),
        (None, True, Pinhole.of(41, 32, 50.0), "events of the camera's 41 x 32 pixels"),
        (np.full((32, 40), 2.0), False, CAMERA, "numbers from 0 to 1"),
        (np.full((32, 40), np.nan), False, CAMERA, "numbers from 0 to 1"),
        (np.zeros((32, 40)), False, None, "a Pinhole"),
    ],
)
def test_bad_input_is_named(finder, events, frame, fired, camera, says):
    with pytest.raises(ValueError, match=says):
        finder.step(frame, events if fired else None, camera)


def test_weights_come_back(finder, events, rng, tmp_path):
    path = tmp_path / "w.safetensors"
    finder.save(path, seed=1)
    read = load(path)
    assert (read.window, read.side, read.config) == (50_000, 32, finder.config)
    frame = torch.rand(1, 32, 40)
    given = (frame, torch.rand(1, 3, 32, 40), torch.tensor([0]))
    for a, b in zip(finder.network.eval()(*given), read.network(*given)):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "changed",
    [
        {"widths": [8] * 9},
        {"widths": [10**6, 8]},
        {"widths": [7, 8]},
        {"widths": [4, 8]},
        {"votes": {"there": 3}},
        {"votes": 5},
        {"window": -1},
        {"side": "x"},
    ],
)
def test_files_that_state_what_is_not_there_are_refused(finder, tmp_path, changed):
    path = tmp_path / "w.safetensors"
    finder.save(path)
    document, tensors = read_weights(path, "objects")
    write_weights(path, "objects", document | changed, tensors)
    with pytest.raises(ValueError, match="does not hold weights of a finder"):
        load(path)


@pytest.mark.parametrize(
    "bad",
    [
        {"there": 2.0},
        {"votes": 0.0},
        {"apart": 0},
        {"beyond": -1},
        {"beyond": 2.0},
        {"apart": np.inf},
        {"reach": np.nan},
    ],
)
def test_bad_settings_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        VoteConfig(**bad)


@pytest.mark.parametrize(
    ("label", "middles", "says"),
    [
        (np.full((8, 8), 2), np.ones((2, 3)), "labels up to 2"),
        (np.zeros((8, 8), int), np.ones((0, 3)), "labels up to 0"),
        (np.zeros((8, 8), int), np.ones((2, 2)), "middle"),
        (np.zeros((8, 9), int), np.ones((2, 3)), "camera's shape"),
        (np.zeros((8, 8)), np.ones((2, 3)), "whole numbers"),
    ],
)
def test_each_label_needs_a_middle(label, middles, says):
    with pytest.raises(ValueError, match=says):
        target(label, middles, Pinhole.of(8, 8, 8.0))
