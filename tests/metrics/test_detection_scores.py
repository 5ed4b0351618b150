"""CLEAR MOT, identity and HOTA scores: sequences whose scores can be counted by hand; overlap of boxes."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracking.metrics import box_iou, clear_identity_hota, combine

needs_trackeval = pytest.mark.skipif(
    importlib.util.find_spec("trackeval") is None, reason="needs the eval extra: pip install '.[eval]'"
)
ONE = np.ones((1, 1))


@needs_trackeval
def test_perfect_tracks():
    s = clear_identity_hota([[7, 3], [3]], [[11, 12], [12]], [np.eye(2), ONE])
    assert (s.hota, s.det_a, s.ass_a, s.loc_a, s.mota, s.motp, s.idf1) == (1,) * 7
    assert (s.id_switches, s.fragments, s.tp, s.fp, s.fn) == (0, 0, 3, 0, 0)


@needs_trackeval
def test_a_broken_track():
    s = clear_identity_hota([[5]] * 4, [[1], [1], [2], [2]], [ONE] * 4)
    assert (s.id_switches, s.fragments, s.tp, s.fp, s.fn) == (1, 0, 4, 0, 0)
    assert s.mota == pytest.approx(1 - 1 / 4)
    assert s.idf1 == pytest.approx(2 * 2 / (2 * 2 + 2 + 2))
    # Each match: 2 frames of the same pair, of 4 of the truth and 2 of the estimate.
    assert (s.det_a, s.ass_a, s.hota) == pytest.approx((1, 1 / 2, 0.5**0.5))


@needs_trackeval
def test_a_gap_a_miss_and_a_false_estimate(capfd):
    similarity = [ONE, np.zeros((1, 0)), np.array([[0.2, 0.8]]), np.zeros((0, 0))]
    s = clear_identity_hota([[1], [1], [1], []], [[4], [], [9, 4], []], similarity)
    assert (s.id_switches, s.fragments, s.tp, s.fp, s.fn) == (0, 0, 2, 1, 1)
    assert (s.mota, s.motp) == pytest.approx((1 - 2 / 3, 0.9))
    assert s.idf1 == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert capfd.readouterr() == ("", "")


@needs_trackeval
def test_threshold_decides_what_matches():
    frames = [[1]], [[1]], [0.4 * ONE]
    assert clear_identity_hota(*frames).tp == 0
    low = clear_identity_hota(*frames, threshold=0.3)
    assert (low.tp, low.idf1) == (1, 1)
    assert low.hota == clear_identity_hota(*frames).hota == pytest.approx(8 / 19)  # 0.05 ... 0.40


@needs_trackeval
def test_nothing():
    s = clear_identity_hota([[1, 2]], [[]], [[]])
    assert (s.hota, s.mota, s.idf1, s.fn) == (0, 0, 0, 2)
    s = clear_identity_hota([[]], [[1]], [[]])
    assert (s.hota, s.mota, s.idf1, s.fp) == (0, 0, 0, 1)
    assert clear_identity_hota([], [], []).tp == 0


@needs_trackeval
def test_combined_is_the_sequences_one_after_the_other(rng):
    def sequence(offset, frames):
        n, m = rng.integers(0, 4, (2, frames))
        ids = ([offset + rng.permutation(5)[:k] for k in counts] for counts in (n, m))
        return *ids, [rng.random(shape) for shape in zip(n, m)]

    first, second = sequence(0, 12), sequence(10, 30)
    joined = clear_identity_hota(*(a + b for a, b in zip(first, second)))
    both = combine([clear_identity_hota(*first), clear_identity_hota(*second)])
    for name in ("hota", "det_a", "ass_a", "loc_a", "mota", "motp", "idf1"):
        assert getattr(both, name) == pytest.approx(getattr(joined, name), rel=1e-12), name
    assert (both.id_switches, both.tp, both.fp, both.fn) == (
        joined.id_switches,
        joined.tp,
        joined.fp,
        joined.fn,
    )
    assert combine([both, both]).mota == pytest.approx(both.mota)  # what was combined can be combined


@needs_trackeval
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1]], [[1]], []), "one entry a frame"),
        (([[1, 1]], [[1]], [np.ones((2, 1))]), r"truth_ids .* frame 0"),
        (([[1]], [[2, 2]], [np.ones((1, 2))]), "estimate_ids"),
        (([[1]], [[1], [2]], [ONE, ONE]), "one entry a frame"),
        (([[1]], [[1]], [np.ones((1, 2))]), r"shape \(1, 1\)"),
        (([[1]], [[1]], [2 * ONE]), r"in \[0, 1\]"),
        (([[1]], [[1]], [np.nan * ONE]), r"in \[0, 1\]"),
        (([[1]], [[1]], [ONE], 0.0), "threshold"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        clear_identity_hota(*arguments)


def test_combine_refuses_none():
    with pytest.raises(ValueError, match="at least one"):
        combine([])


def test_says_which_extra_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackeval", None)
    with pytest.raises(ImportError, match=r"pip install -c constraints.txt -e '\.\[eval\]'"):
        clear_identity_hota([[1]], [[1]], [ONE])


def test_importing_the_metrics_does_not_import_trackeval():
    code = "import sys, tracking.metrics; sys.exit('trackeval' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_box_iou_by_hand():
    a = [[0, 0, 2, 2], [5, 5, 6, 6]]
    b = [[1, 1, 3, 3], [0, 0, 2, 1], [2, 0, 4, 2], [0, 0, 2, 2]]
    np.testing.assert_allclose(box_iou(a, b), [[1 / 7, 1 / 2, 0, 1], [0, 0, 0, 0]])


CORNERS = st.tuples(*[st.integers(0, 6)] * 4).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
)


@settings(max_examples=100, deadline=None)
@given(st.lists(CORNERS, max_size=4), st.lists(CORNERS, max_size=4))
def test_box_iou_counts_pixels(a, b):
    def pixels(box):
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    iou = box_iou(a, b)
    assert iou.shape == (len(a), len(b))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            union = pixels(one) | pixels(other)
            assert iou[i, j] == pytest.approx(len(pixels(one) & pixels(other)) / len(union) if union else 0.0)


@pytest.mark.parametrize("boxes", [[[0, 0, 1]], [[2, 0, 1, 1]], [[0, 0, 1, np.nan]], [0, 0, 1, 1]])
def test_box_iou_refuses(boxes):
    with pytest.raises(ValueError, match="b must"):
        box_iou([[0, 0, 1, 1]], boxes)
