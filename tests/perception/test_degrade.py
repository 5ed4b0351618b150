"""What befalls frames and grids in training."""

import numpy as np
import pytest

from perception.depth import degrade
from perception.depth.degrade import degraded_frames, degraded_voxels


def test_brightness_alone_is_a_factor():
    frames = np.full((50, 10, 10), 0.4)
    out = degraded_frames(frames, np.random.default_rng(0), (0.5, 1.5), share=0.0)
    assert (np.ptp(out, axis=(1, 2)) == 0).all()
    assert out.min() == pytest.approx(0.2, abs=0.02)
    assert out.max() == pytest.approx(0.6, abs=0.02)
    assert degraded_frames(frames, np.random.default_rng(0), (9, 9), 0.0).max() == 1


def test_a_rectangle_is_a_fifth_of_the_sides_and_one_of_three_things(monkeypatch):
    monkeypatch.setattr(degrade, "RECTANGLES", 1)
    frames = np.full((200, 20, 30), 0.1)
    out = degraded_frames(frames, np.random.default_rng(0), (1, 1), share=1.0)
    values = set(np.round(np.unique(out), 6))
    assert values == {0.0, 0.1, 1.0}  # masked, blurred or left, overexposed: 2.5 * 0.1 + 200 / 255 > 1
    assert set((out == 0).sum((1, 2))) == set((out == 1).sum((1, 2))) == {0, 4 * 6}
    blurred = degraded_frames(
        np.random.default_rng(0).random((200, 20, 30)), np.random.default_rng(1), (1, 1), 1
    )
    sharp = np.random.default_rng(0).random((200, 20, 30))
    inside = [(b != s) & (b > 0) & (b < 1) for b, s in zip(blurred, sharp)]
    spread = [b[i].std() for b, i in zip(blurred, inside) if i.sum() == 24]
    assert len(spread) > 30
    assert max(spread) < 0.2 < sharp.std()


def test_share_is_that_of_frames_with_rectangles():
    out = degraded_frames(np.full((4000, 10, 10), 0.1), np.random.default_rng(1), (1, 1), share=0.5)
    # of three rectangles at least one is not a blur of a flat frame: 26 of 27
    assert np.mean((out != 0.1).any((1, 2))) == pytest.approx(0.5 * 26 / 27, abs=0.03)


def test_grids_keep_sign_and_scale():
    grid = np.random.default_rng(0).normal(size=(40, 3, 12, 12)) * 300
    before = grid.copy()
    out = degraded_voxels(grid, np.random.default_rng(0), share=1.0)
    assert (grid == before).all()
    same = out == grid
    assert same.mean() > 0.7
    assert out.min() < -255
    assert out.max() > 255
    holes = (out == 0) & ~same
    assert holes.any()
    assert (holes.any(1) == holes.all(1)).all()  # all bins of a pixel
    assert degraded_voxels(grid, np.random.default_rng(0), share=0.0).tobytes() == grid.tobytes()


def test_the_released_routine_loses_what_got_darker():
    grid = np.array([[[[-3.0, 0.6], [2.4, 300.0]]]])
    out = degraded_voxels(grid, np.random.default_rng(0), share=0.0, compat_uint8_voxel=True)
    assert out.ravel().tolist() == [0, 1, 2, 255]


def test_same_seed_same_result():
    frames = np.random.default_rng(0).random((5, 9, 9, 3))
    a, b = (degraded_frames(frames, np.random.default_rng(4)) for _ in range(2))
    assert (a == b).all()
    assert a.shape == frames.shape


def test_other_arrays_are_one_clear_error():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="frames / 255"):
        degraded_frames(np.zeros((1, 9, 9), np.uint8), rng)
    with pytest.raises(ValueError, match=r"frames \(b, H, W\)"):
        degraded_frames(np.zeros((9, 9)), rng)
    for grid in (np.zeros((3, 9, 9)), np.zeros((1, 3, 9, 9), int)):
        with pytest.raises(ValueError, match="grids"):
            degraded_voxels(grid, rng)
