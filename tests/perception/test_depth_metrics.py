"""Depth errors: against sums written out pixel by pixel, protocols against the steps that they stand for."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception.depth.metrics import (
    PROTOCOLS,
    Errors,
    Protocol,
    aligned,
    errors,
    errors_by_image,
    from_log_depth,
    log_depth,
)

CLIP = 80.0
seeds = st.integers(0, 2**32 - 1)
quick = settings(deadline=None, max_examples=40)


def scene(seed, n=3, height=5, width=7, furthest=120.0):
    """Predicted and true depth (n, H, W): gaps, zeros and depth beyond the clip among the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.5, furthest, (n, height, width))
    predicted = truth * np.exp(rng.normal(0, 0.4, truth.shape))
    odd = rng.random(truth.shape)
    truth[odd < 0.3] = np.nan
    truth[(0.3 < odd) & (odd < 0.4)] = rng.choice([0.0, -1.0, np.inf, CLIP, 1e9])
    truth[:, 0, 0] = 5.0  # every image has one
    return predicted, truth


def by_hand(predicted, truth, clip):
    """Errors of one image, one pixel after another."""
    pairs = [
        (p, g)
        for p, g in zip(predicted.ravel().tolist(), truth.ravel().tolist())
        if math.isfinite(g) and 0 < g < clip
    ]
    m = len(pairs)
    logs = [math.log(p) - math.log(g) for p, g in pairs]
    ratios = [max(p / g, g / p) for p, g in pairs]

    def mean_within(limit):
        near = [abs(p - g) for p, g in pairs if g < limit]
        return sum(near) / len(near) if near else math.nan

    return Errors(
        abs_rel=sum(abs(p - g) / g for p, g in pairs) / m,
        sq_rel=sum((p - g) ** 2 / g for p, g in pairs) / m,
        rmse=math.sqrt(sum((p - g) ** 2 for p, g in pairs) / m),
        rmse_log=math.sqrt(sum(v * v for v in logs) / m),
        si_log=sum(v * v for v in logs) / m - (sum(logs) / m) ** 2,
        delta1=sum(r < 1.25 for r in ratios) / m,
        delta2=sum(r < 1.25**2 for r in ratios) / m,
        delta3=sum(r < 1.25**3 for r in ratios) / m,
        mae10=mean_within(10),
        mae20=mean_within(20),
        mae30=mean_within(30),
    )


def close(found, expected):
    np.testing.assert_allclose(np.array(found, float), np.array(expected, float), rtol=1e-9, atol=1e-12)


def test_two_pixels_by_hand():
    found = errors(np.array([[2.0, 5.0]]), np.array([[1.0, 10.0]]), CLIP)
    ln2 = math.log(2)
    close(found, (0.75, 1.75, math.sqrt(13), ln2, ln2**2, 0, 0, 0, 1, 3, 3))
    assert all(type(value) is float for value in found)


@quick
@given(seeds)
def test_errors_are_the_sums_over_valid_pixels(seed):
    predicted, truth = scene(seed, n=1)
    close(errors(predicted[0], truth[0], CLIP), by_hand(predicted[0], truth[0], CLIP))
    close(errors(predicted, truth, CLIP), by_hand(predicted[0], truth[0], CLIP))


@quick
@given(seeds)
def test_each_image_counts_as_much_as_any_other(seed):
    predicted, truth = scene(seed)
    truth[1, 1:] = np.nan  # few pixels left in this one
    each = [by_hand(p, g, CLIP) for p, g in zip(predicted, truth)]
    close(errors(predicted, truth, CLIP), np.nanmean(each, axis=0))
    close(np.array(errors_by_image(predicted, truth, CLIP)).T, each)


def test_pixels_are_not_pooled_over_images():
    truth = np.full((2, 2, 2), 10.0)
    truth[1, :, :] = np.nan
    truth[1, 0, 0] = 10.0
    predicted = np.full((2, 2, 2), 10.0)
    predicted[1] = 20.0
    assert errors(predicted, truth, CLIP).abs_rel == 0.5  # pooled: 0.2


def test_images_without_valid_truth_and_limits_without_pixels_take_no_part():
    truth = np.stack([np.full((2, 2), 15.0), np.full((2, 2), np.nan), np.full((2, 2), 25.0)])
    predicted = truth + 1
    predicted[1] = np.nan  # nobody looks there
    found = errors(predicted, truth, CLIP)
    assert (found.mae20, found.mae30) == (1, 1)
    assert math.isnan(found.mae10)
    close(found.abs_rel, (1 / 15 + 1 / 25) / 2)
    each = errors_by_image(predicted, truth, CLIP)
    assert np.isnan(each.abs_rel).tolist() == [False, True, False]
    assert np.isnan(each.mae20).tolist() == [False, True, True]


@quick
@given(seeds)
def test_what_is_right_has_no_error_and_a_factor_no_si_log(seed):
    _, truth = scene(seed)
    right = np.where(np.isfinite(truth) & (truth > 0), truth, 1.0)
    close(errors(right, truth, CLIP)[:8], (0, 0, 0, 0, 0, 1, 1, 1))
    double = errors(2 * right, truth, CLIP)
    assert double.si_log == pytest.approx(0, abs=1e-12)
    assert double.rmse_log == pytest.approx(math.log(2))
    assert double.abs_rel == pytest.approx(1)


@quick
@given(seeds, st.permutations(range(3)))
def test_the_order_of_images_and_rows_does_not_matter(seed, order):
    predicted, truth = scene(seed)
    before = predicted.copy(), truth.copy()
    found = errors(predicted, truth, CLIP)
    close(errors(predicted[order, ::-1], truth[order, ::-1], CLIP), found)
    np.testing.assert_array_equal(predicted, before[0])
    np.testing.assert_array_equal(truth, before[1])


def test_a_ratio_at_the_threshold_is_not_within():
    truth = np.array([[4.0, 16.0, 64.0]])
    found = errors(truth * (1.25, 1.25**2, 1.25**3), truth, CLIP)
    close(found[5:8], (0, 1 / 3, 2 / 3))


def test_float32_and_whole_numbers_are_taken():
    truth = np.array([[3, 10], [20, 30]])
    close(errors(truth + 1, truth, CLIP), errors((truth + 1).astype(np.float32), truth.astype(float), CLIP))


def test_clamping_changes_what_is_far_off():
    truth, predicted = np.array([[10.0, 40.0]]), np.array([[-3.0, 1000.0]])
    found = errors(predicted, truth, CLIP, lower=2.0, clamp=True)
    assert found.abs_rel == pytest.approx((8 / 10 + 40 / 40) / 2)
    close(errors(np.array([[np.inf, -np.inf]]), truth, CLIP, 2.0, True).mae10, math.nan)
    with pytest.raises(ValueError, match=r"image 0 has -3.0; clamp=True"):
        errors(predicted, truth, CLIP)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_bad_predictions_are_named_where_they_matter(bad):
    truth = np.array([[[5.0, 5.0]], [[np.nan, 5.0]]])
    predicted = np.full((2, 1, 2), 5.0)
    predicted[1, 0, 0] = bad
    assert errors(predicted, truth, CLIP).rmse == 0  # no truth there
    predicted[1, 0, 1] = bad
    with pytest.raises(ValueError, match=f"image 1 has {bad}"):
        errors(predicted, truth, CLIP)


def test_clamping_does_not_hide_what_is_no_number():
    with pytest.raises(ValueError, match="image 0 has nan"):
        errors(np.full((2, 2), np.nan), np.full((2, 2), 5.0), CLIP, 1.0, True)


ONE = np.ones((2, 2))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: errors(ONE, np.ones((2, 3)), CLIP), r"\(2, 2\) and \(2, 3\)"),
        (lambda: errors(np.ones(4), np.ones(4), CLIP), "one shape"),
        (lambda: errors(np.ones((0, 2, 2)), np.ones((0, 2, 2)), CLIP), "one shape"),
        (lambda: errors(ONE > 0, ONE, CLIP), "predictions must be real numbers, got an array of bool"),
        (lambda: errors(ONE, ONE * 1j, CLIP), "truth must be real numbers"),
        (lambda: errors(ONE, ONE * CLIP, CLIP), "no pixel above 0 and below 80 m"),
        (lambda: errors(ONE, ONE * np.nan, CLIP), "nothing can be compared"),
        (lambda: errors(ONE, ONE, 0.0), "clip must be > 0"),
        (lambda: errors(ONE, ONE, math.nan), "clip must be > 0"),
        (lambda: errors(ONE, ONE, CLIP, lower=CLIP), "lower must be from 0"),
        (lambda: errors(ONE, ONE, CLIP, clamp=True), "needs lower > 0"),
        (lambda: aligned(ONE * np.nan, ONE, CLIP), "disparity must be finite.*image 0 has nan"),
        (lambda: aligned(ONE, ONE[0], CLIP), "one shape"),
        (lambda: log_depth(ONE, alpha=0.0), "alpha and furthest"),
        (lambda: from_log_depth(ONE, furthest=math.inf), "alpha and furthest"),
        (lambda: Protocol(clip=-1.0), "clip must be"),
        (lambda: Protocol(clip=CLIP, nearest=CLIP), "nearest must be"),
        (lambda: Protocol(clip=CLIP, clamp=True), "needs lower > 0"),
        (lambda: Protocol(clip=CLIP, lower=1.0, clamp_truth=True), "only closed=True"),
        (lambda: Protocol(clip=CLIP, rows=0), "rows must be"),
        (lambda: PROTOCOLS["fuse-mvsec"].errors(ONE, ONE), "nothing can be compared"),  # all below 1.97 m
    ],
)
def test_wrong_arguments_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


class TestAlignment:
    @quick
    @given(seeds, st.floats(0.01, 100), st.floats(-50, 50))
    def test_any_scale_and_shift_of_true_disparity_is_undone(self, seed, scale, shift):
        _, truth = scene(seed)
        with np.errstate(divide="ignore", invalid="ignore"):
            disparity = np.where(truth > 0, (1 / truth - shift) / scale, 0.0)
        disparity[~np.isfinite(disparity)] = 0.0
        found = aligned(disparity, truth, CLIP)
        valid = np.isfinite(truth) & (truth > 0) & (truth < CLIP)
        np.testing.assert_allclose(found[valid], truth[valid], rtol=1e-6)

    @quick
    @given(seeds)
    def test_scale_and_shift_are_those_of_least_squares(self, seed):
        disparity, truth = scene(seed)
        found = aligned(disparity, truth, CLIP)
        for d, g, depth in zip(disparity, truth, found):
            valid = np.isfinite(g) & (g > 0) & (g < CLIP)
            columns = np.stack([d[valid], np.ones(valid.sum())], axis=1)
            scale, shift = np.linalg.lstsq(columns, 1 / g[valid])[0]
            np.testing.assert_allclose(1 / depth, np.maximum(scale * d + shift, 1 / CLIP), rtol=1e-6)

    def test_images_are_fitted_one_by_one(self):
        disparity, truth = scene(0)
        found = aligned(disparity, truth, CLIP)
        for k in range(3):
            np.testing.assert_array_equal(found[k], aligned(disparity[k], truth[k], CLIP))

    def test_what_would_be_behind_infinity_is_at_the_clip(self):
        truth = np.array([[2.0, 4.0, np.nan, np.nan]])
        found = aligned(np.array([[0.5, 0.25, 0.0, -3.0]]), truth, CLIP)
        np.testing.assert_allclose(found, [[2, 4, CLIP, CLIP]])

    def test_a_constant_is_the_mean_of_inverse_depth(self):
        truth = np.array([[2.0, 4.0, np.nan, 100.0]])
        np.testing.assert_allclose(aligned(np.full((1, 4), 0.1), truth, CLIP), 1 / 0.375)

    def test_an_image_without_truth_has_no_alignment_and_no_errors(self):
        truth = np.stack([np.full((2, 2), np.nan), np.array([[2.0, 4.0], [5.0, 8.0]])])
        disparity = np.stack([np.full((2, 2), np.nan), 1 / truth[1]])
        found = aligned(disparity, truth, CLIP)
        assert np.isnan(found[0]).all()
        assert errors(found, truth, CLIP).abs_rel == pytest.approx(0, abs=1e-12)


class TestLogDepth:
    @pytest.mark.parametrize(
        ("alpha", "furthest", "nearest"),
        [(3.70378, 80.0, 1.970), (5.7, 1000.0, 3.35), (5.70378, 1000.0, 3.33)],
    )
    def test_zero_is_the_nearest_depth_and_one_the_furthest(self, alpha, furthest, nearest):
        assert from_log_depth(0.0, alpha, furthest) == pytest.approx(nearest, abs=5e-3)
        assert from_log_depth(1.0, alpha, furthest) == pytest.approx(furthest)
        found = log_depth(np.array([furthest, 2 * furthest, nearest / 2, 0.0, -1.0, np.inf]), alpha, furthest)
        assert found.tolist() == [1, 1, 0, 0, 0, 1]

    @quick
    @given(st.floats(2.0, 80.0))
    def test_depth_comes_back(self, depth):
        coded = log_depth(np.array([depth]))
        assert coded[0] == pytest.approx(1 + math.log(depth / 80) / 3.70378)
        assert from_log_depth(coded)[0] == pytest.approx(depth)

    @quick
    @given(st.floats(0.1, 20), st.floats(0.1, 1e4), st.floats(0, 1e5))
    def test_codes_lie_between_0_and_1(self, alpha, furthest, depth):
        found = log_depth(np.array([depth, furthest, furthest * math.exp(-alpha)]), alpha, furthest)
        assert ((found >= 0) & (found <= 1)).all()

    def test_gaps_stay_and_types_too(self):
        found = log_depth(np.array([np.nan, 40.0], np.float32))
        assert found.dtype == np.float32
        assert np.isnan(found).tolist() == [True, False]
        assert from_log_depth(found).dtype == np.float32


def of_pixels(p, g):
    return by_hand(np.array(p), np.array(g), math.inf)


class TestProtocols:
    """Each protocol's steps, written out as its evaluation takes them."""

    @quick
    @given(seeds, st.sampled_from([("fuse-mvsec", 80.0, 3.70378), ("fuse-dense", 1000.0, 5.7)]))
    def test_fuse(self, seed, named):
        name, clip, alpha = named
        predicted, truth = scene(seed, n=1, furthest=1.5 * clip)
        truth[0, 0, 1] = clip  # counts
        mask = (truth >= clip * math.exp(-alpha)) & (truth <= clip)
        target, prediction = truth[mask], predicted[mask]
        kept = (prediction > 0) & (prediction <= target.max())
        found = PROTOCOLS[name].errors(predicted, truth)
        close(found, of_pixels(prediction[kept], target[kept]))

    @quick
    @given(seeds, st.sampled_from([("e2depth-mvsec", 80.0), ("e2depth-dense", 1000.0)]), st.booleans())
    def test_e2depth(self, seed, named, reaches):
        name, clip = named
        predicted, truth = scene(seed, n=1, furthest=1.5 * clip if reaches else 0.5 * clip)
        truth[(truth <= 0) | (truth >= 1e9)] = np.nan
        truth[truth == CLIP] = np.nan
        target = np.clip(truth, 0, clip)
        target = target / np.nanmax(target) * clip
        kept = (target < clip * (1 - 1e-12)) & (predicted < clip)
        close(PROTOCOLS[name].errors(predicted, truth), of_pixels(predicted[kept], target[kept]))

    @quick
    @given(seeds)
    def test_ramnet(self, seed):
        predicted, truth = scene(seed, n=1)
        truth[~((truth > 0) & np.isfinite(truth))] = np.nan
        target = from_log_depth(log_depth(truth))
        prediction = np.clip(predicted, 80 * math.exp(-3.70378), 80)
        kept = np.isfinite(target) & (prediction <= np.nanmax(target))
        close(PROTOCOLS["ramnet"].errors(predicted, truth), of_pixels(prediction[kept], target[kept]))

    @quick
    @given(seeds)
    def test_depth_anything(self, seed):
        predicted, truth = scene(seed)
        found = PROTOCOLS["depth-anything"].errors(1 / predicted, truth)
        depth = np.maximum(aligned(1 / predicted, truth, 80.0), 1e-3)
        close(found, errors(depth, truth, 80.0))
        close(PROTOCOLS["depth-anything"].errors(7 / predicted - 3, truth), found)

    def test_the_sky_of_carla_counts_for_fuse_alone(self):
        truth, predicted = np.array([[10.0, 1000.0]]), np.array([[10.0, 500.0]])
        assert PROTOCOLS["fuse-dense"].errors(predicted, truth).abs_rel == 0.25
        assert PROTOCOLS["e2depth-dense"].errors(predicted, truth).abs_rel == 0

    def test_what_is_too_far_is_dropped_and_costs_nothing(self):
        truth, predicted = np.array([[10.0, 40.0]]), np.array([[70.0, 40.0]])
        protocol = PROTOCOLS["fuse-mvsec"]
        assert protocol.errors(predicted, truth).abs_rel == 0
        assert replace(protocol, drop=False).errors(predicted, truth).abs_rel == 3
        _, counted = protocol.prepared(predicted, truth)
        assert np.isnan(counted).tolist() == [[[True, False]]]

    @pytest.mark.parametrize("low", [0.0, -1.0])
    def test_what_has_no_logarithm_is_dropped_too(self, low):
        truth, predicted = np.array([[10.0, 40.0]]), np.array([[low, 20.0]])
        assert PROTOCOLS["fuse-mvsec"].errors(predicted, truth).abs_rel == 0.5

    def test_dropping_does_not_hide_what_is_no_number(self):
        with pytest.raises(ValueError, match="image 0 has nan"):
            PROTOCOLS["fuse-mvsec"].errors(np.full((2, 2), np.nan), np.full((2, 2), 5.0))

    @pytest.mark.parametrize("name", ["e2depth-mvsec", "e2depth-dense"])
    def test_dividing_by_the_largest_truth_changes_all_unless_it_reaches_the_clip(self, name):
        protocol = PROTOCOLS[name]
        truth = np.array([[10.0, 20.0, 40.0]])
        assert protocol.errors(truth, truth).abs_rel > 0.4  # although all is right
        reaching = np.array([[10.0, 20.0, protocol.clip]])
        assert protocol.errors(reaching, reaching).abs_rel == pytest.approx(0, abs=1e-12)

    def test_gaps_stay_gaps_when_truth_is_divided(self):
        truth = np.array([[np.nan, 3.0, 7.0]])
        for closed in (False, True):
            protocol = Protocol(clip=CLIP, normalise=True, closed=closed)
            _, counted = protocol.prepared(truth, truth)
            np.testing.assert_allclose(counted, [[[np.nan, 3 / 7 * CLIP, CLIP]]])

    def test_clamping_or_not_changes_abs_rel(self):
        truth, predicted = np.array([[10.0, 60.0]]), np.array([[0.5, 60.0]])
        near = PROTOCOLS["fuse-mvsec"].errors(predicted, truth).abs_rel
        assert near == pytest.approx(0.475)
        nearest = 80 * math.exp(-3.70378)
        assert PROTOCOLS["ramnet"].errors(predicted, truth).abs_rel == pytest.approx((1 - nearest / 10) / 2)

    def test_rows_of_the_bonnet_are_left_out(self):
        truth, predicted = np.full((2, 4, 3), 10.0), np.full((2, 4, 3), 10.0)
        predicted[:, 3] = 5.0
        protocol = Protocol(clip=CLIP)
        assert protocol.errors(predicted, truth).mae20 == 1.25
        assert replace(protocol, rows=3).errors(predicted, truth).mae20 == 0
        assert replace(protocol, rows=99).errors(predicted, truth).mae20 == 1.25

    def test_the_plain_protocol_is_errors(self):
        predicted, truth = scene(1)
        assert Protocol(clip=CLIP).errors(predicted, truth) == errors(predicted, truth, CLIP)
        each = Protocol(clip=CLIP).errors_by_image(predicted, truth)
        np.testing.assert_array_equal(each.rmse, errors_by_image(predicted, truth, CLIP).rmse)

    @pytest.mark.parametrize("name", PROTOCOLS)
    def test_inputs_are_not_written_to_and_images_without_truth_take_no_part(self, name):
        predicted, truth = scene(2)
        before = predicted.copy(), truth.copy()
        found = PROTOCOLS[name].errors(predicted, truth)
        np.testing.assert_array_equal(predicted, before[0])
        np.testing.assert_array_equal(truth, before[1])
        more = (np.concatenate([a, np.full((1, 5, 7), np.nan)]) for a in (predicted, truth))
        close(PROTOCOLS[name].errors(*more), found)


def test_masks_are_not_read_over():
    depth = np.full((3, 4), 5.0)
    masked = np.ma.masked_less(depth, 1)
    for predicted, truth in ((masked, depth), (depth, masked)):
        with pytest.raises(ValueError, match="masked"):
            errors(predicted, truth, 80.0)


def test_rows_are_a_whole_number():
    with pytest.raises(ValueError, match="rows"):
        Protocol(clip=80.0, rows=2.5)
