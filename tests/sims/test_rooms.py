"""Pairs of frames and events: what light, motion and noise do to them."""

import numpy as np
import pytest

from sims.rooms import CONDITIONS, GLARE, NIGHT, READ_NOISE, frame, grid, room_pairs


@pytest.fixture(scope="module")
def pairs():
    return room_pairs([5], CONDITIONS, per_room=2, side=32)


def of(pairs, condition):
    return pairs[CONDITIONS.index(condition) :: len(CONDITIONS)]


def test_all_conditions_show_the_same_moments(pairs):
    assert len(pairs) == 2 * len(CONDITIONS)
    assert pairs.voxels.shape == (10, 3, 32, 32)
    for condition in CONDITIONS:
        np.testing.assert_array_equal(of(pairs, condition).clean, of(pairs, "clean").clean)
        np.testing.assert_array_equal(of(pairs, condition).depth, of(pairs, "clean").depth)
    assert not np.array_equal(pairs.depth[0], pairs.depth[-1])


def test_frames_are_what_the_condition_makes_of_the_clean_one(pairs):
    clean = of(pairs, "clean")
    assert np.abs(clean.seen - clean.clean).max() < 6 * READ_NOISE + 1 / 255
    for condition, light in (("night", NIGHT), ("overexposed", GLARE)):
        found = of(pairs, condition)
        expected = np.clip(found.clean.astype(float) * light, 0, 1)
        assert np.abs(found.seen - expected).max() < 6 * READ_NOISE + 1 / 255
    assert (of(pairs, "overexposed").seen == 1).mean() > 0.1


def test_a_frame_blurs_over_all_pictures():
    pictures = np.zeros((4, 3, 3))
    pictures[-1] = 1
    rng = np.random.default_rng(0)
    assert frame(list(pictures), "blur", rng).mean() == pytest.approx(0.25, abs=0.01)
    assert frame(list(pictures), "clean", rng).mean() == pytest.approx(1, abs=0.01)


def test_events_are_those_of_the_change():
    before, after = np.full((8, 8), 0.2), np.full((8, 8), 0.2)
    after[:, 4:] = 0.6
    times = np.array([0, 50_000])
    found = grid([before, after], times, "clean", np.random.default_rng(0))
    assert (found.sum(0)[:, 4:] > 2).all()
    assert np.abs(found.sum(0)[:, :4]).mean() < 0.3
    still = grid([before, before], times, "clean", np.random.default_rng(0))
    noisy = grid([before, before], times, "noise", np.random.default_rng(0))
    assert np.abs(noisy).sum() > np.abs(still).sum() + 10
    dark = grid([before, after], times, "night", np.random.default_rng(0))
    assert 0 < dark.sum() < found.sum()


def test_same_seed_same_pairs_and_rooms_differ():
    one, same, other = (room_pairs([seed], per_room=1, side=16) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.voxels, same.voxels)
    np.testing.assert_array_equal(one.seen, same.seen)
    assert not np.array_equal(one.depth, other.depth)
