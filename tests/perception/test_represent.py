"""Representations: against sums written out event by event, and the defects of other tools."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception.events import EventStream, represent

W, H = 13, 11
uncounted = settings(deadline=None)  # the first call compiles


def random_stream(n, seed=0, last=1000):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, last + 1, n))
    return EventStream(rng.integers(0, W, n), rng.integers(0, H, n), t, rng.integers(0, 2, n), W, H)


streams = st.builds(
    random_stream, st.integers(0, 60), st.integers(0, 2**31), st.sampled_from([0, 1, 7, 1000])
)
bins = st.integers(1, 9)


def rows(stream):
    return zip(*(getattr(stream, name).tolist() for name in ("x", "y", "t", "sign")))


@uncounted
@given(streams, bins)
def test_voxel_grid_is_equation_2(stream, bins):
    expected = np.zeros((bins, H, W))
    for x, y, t, sign in rows(stream):
        s = (t - stream.t[0]) / max(stream.duration, 1) * (bins - 1)
        for b in range(bins):
            expected[b, y, x] += sign * max(0, 1 - abs(s - b))
    grid = represent.voxel_grid(stream, bins)
    np.testing.assert_allclose(grid, expected, atol=1e-5)
    assert grid.sum() == pytest.approx(stream.sign.sum(), abs=1e-3)  # signed mass, also of the last bin


@uncounted
@given(streams, bins)
def test_frames_count_every_event_once(stream, bins):
    counted = represent.frames(stream, bins)
    assert counted.sum() == len(stream)
    expected = np.zeros((bins, 2, H, W))
    for x, y, t, sign in rows(stream):
        k = (t - stream.t[0]) * bins // (stream.duration + 1)
        expected[k, int(sign > 0), y, x] += 1
    np.testing.assert_array_equal(counted, expected)
    np.testing.assert_array_equal(represent.count_image(stream), expected.sum(0))


@uncounted
@given(streams, bins, st.sampled_from(["time", "count"]))
def test_stacks(stream, bins, by):
    total, last = (represent.event_stack(stream, bins, by, value) for value in ("sum", "last"))
    expected = np.zeros((2, bins, H, W))
    for i, (x, y, t, sign) in enumerate(rows(stream)):
        k = (t - stream.t[0]) * bins // (stream.duration + 1)
        if by == "count":
            k = next(k for k in range(bins) if i < (k + 1) * len(stream) // bins)
        expected[0, k, y, x] += sign
        expected[1, k, y, x] = sign
    np.testing.assert_array_equal(total, expected[0])
    np.testing.assert_array_equal(last, expected[1])


@uncounted
@given(streams)
def test_time_surfaces_look_back(stream):
    times = [200, 500, 500, 1000, 5000]
    surfaces = represent.time_surfaces(stream, 300.0, times)
    for at, surface in zip(times, surfaces):
        expected = np.zeros((2, H, W))
        for x, y, t, sign in rows(stream):
            if t <= at:
                expected[int(sign > 0), y, x] = np.exp(-(at - t) / 300.0)
        np.testing.assert_allclose(surface, expected, atol=1e-6)
    np.testing.assert_array_equal(represent.time_surface(stream, 300.0, 5000), surfaces[-1])


def test_time_surface_is_exact_late_in_a_long_recording():
    late = 10**13
    stream = EventStream([1, 2], [0, 0], [late, late + 30], [1, 1], W, H)
    assert represent.time_surface(stream, 100.0)[1, 0, 1] == pytest.approx(np.exp(-0.3), rel=1e-6)


@pytest.mark.parametrize("start", [2**60, -(2**60)])
def test_time_surfaces_are_exact_where_floats_are_coarse(start):
    stream = random_stream(300)
    at = [100, 500, 2000]
    far = represent.time_surfaces(stream.shift(start), 200.0, [start + t for t in at])
    np.testing.assert_array_equal(far, represent.time_surfaces(stream, 200.0, at))


def test_last_times():
    stream = EventStream([1, 1, 2], [0, 0, 3], [5, 6, 7], [1, 1, 0], W, H)
    found = represent.last_times(stream, never=-1)
    assert found[1, 0, 1] == 6
    assert found[0, 3, 2] == 7
    assert (found == -1).sum() == 2 * H * W - 2


@uncounted
@given(streams, bins)
def test_spike_tensor_with_the_triangle(stream, bins):
    expected = np.zeros((2, bins, H, W))
    for x, y, t, sign in rows(stream):
        s = (t - stream.t[0]) / max(stream.duration, 1)
        for k in range(bins):
            kernel = max(0, 1 - abs(s * (bins - 1) - k))
            expected[int(sign > 0), k, y, x] += s * kernel
    np.testing.assert_allclose(represent.spike_tensor(stream, bins), expected.reshape(-1, H, W), atol=1e-5)


@uncounted
@given(streams)
def test_an_image_of_events_that_stay_counts_them(stream):
    np.testing.assert_array_equal(represent.warped_image(stream, (0, 0)), represent.count_image(stream))


def test_events_of_a_moving_edge_are_warped_onto_one_column():
    t = np.repeat(np.arange(8) * 100_000, H)
    x = np.repeat(np.arange(8), H)
    stream = EventStream(x, np.tile(np.arange(H), 8), t, np.ones(8 * H, bool), W, H)
    image = represent.warped_image(stream, (10.0, 0.0))
    assert image[1, :, 7].tolist() == pytest.approx([8] * H, abs=1e-4)
    field = np.zeros((2, H, W))
    field[0] = 10
    np.testing.assert_allclose(represent.warped_image(stream, field), image)
    half = represent.warped_image(stream, (10.0, 0.0), at=750_000)
    assert half[1, 5, 7:9].tolist() == pytest.approx([4, 4], abs=1e-4)


def test_what_is_warped_off_the_sensor_is_lost():
    stream = EventStream([0, W - 1], [0, 0], [0, 1_000_000], [1, 1], W, H)
    assert represent.warped_image(stream, (-5.0, 0.0)).sum() == 1


@pytest.mark.parametrize("how", ["nonzero", "max", "robust"])
def test_normalised(how):
    grid = represent.voxel_grid(random_stream(50), 5)
    found = represent.normalised(grid, how)
    assert (found[grid == 0] == 0).all()
    if how == "nonzero":
        assert found[grid != 0].mean() == pytest.approx(0, abs=1e-6)
        assert found[grid != 0].std() == pytest.approx(1, abs=1e-5)
    else:
        assert np.abs(found).max() == 1
    assert not represent.normalised(np.zeros((2, 2)), how).any()
    assert np.isfinite(represent.normalised(np.ones((2, 2)), how)).all()


def test_windows_share_bins_through_a_span():
    stream = random_stream(200)
    whole = represent.frames(stream, 11, span=(0, 1099))
    for k, frame in enumerate(whole):
        window = stream.between(100 * k, 100 * (k + 1))
        np.testing.assert_array_equal(frame, represent.count_image(window))
    with pytest.raises(ValueError, match="must hold all events"):
        represent.voxel_grid(stream, 5, span=(10, 500))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda s: represent.voxel_grid(s, 0), "bins must be"),
        (lambda s: represent.frames(s, 2.0), "bins must be"),
        (lambda s: represent.event_stack(s, 2, by="size"), "one of time, count"),
        (lambda s: represent.event_stack(s, 2, value="mean"), "one of sum, last"),
        (lambda s: represent.time_surface(s, 0.0), "tau must be > 0"),
        (lambda s: represent.time_surfaces(s, 1.0, [5, 4]), "must not fall"),
        (lambda s: represent.warped_image(s, (1.0, 2.0, 3.0)), r"shape \(2,\)"),
        (lambda s: represent.warped_image(s, (np.nan, 2.0)), "finite"),
        (lambda s: represent.normalised(np.ones(3), "min"), "one of nonzero"),
        (lambda s: represent.voxel_grid(s, 2, span=(0.0, 0.5)), "span must be whole microseconds, got 0.5"),
        (lambda s: represent.spike_tensor(s, 2, span=(-(2**70), 2**70)), "span must lie within"),
        (lambda s: represent.frames(s, 2, span=(0,)), "first and the last"),
        (lambda s: represent.time_surface(s, 1.0, at=0.5), "at must be whole microseconds"),
        (lambda s: represent.time_surface(s, 1.0, at=np.nan), "at must be whole microseconds"),
        (lambda s: represent.time_surface(s, np.inf), "finite"),
        (lambda s: represent.time_surface(s, 1e-50), "tau must be > 0"),
        (lambda s: represent.warped_image(s, (0, 0), at=0.5), "at must be whole microseconds"),
    ],
)
def test_wrong_arguments_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call(random_stream(10))


class TestDefectsOfOtherTools:
    """Each was measured in tonic 1.7.0; the column p is bool in its own data sets."""

    stream = random_stream(1000)

    def test_bool_polarity_is_signed(self):
        assert represent.voxel_grid(self.stream, 5).sum() == pytest.approx(self.stream.sign.sum(), abs=1e-3)

    def test_inputs_are_not_mutated(self):
        array = self.stream.structured()
        before = array.copy()
        stream = EventStream.from_structured(array, W, H)
        for make in (represent.voxel_grid, represent.frames, represent.event_stack, represent.spike_tensor):
            make(stream, 5)
        assert (array == before).all()

    @pytest.mark.parametrize("kind", [np.uint8, np.int64, bool])
    def test_every_type_of_polarity_means_the_same(self, kind):
        s = self.stream
        other = EventStream(s.x, s.y, s.t, s.p.astype(kind), W, H)
        np.testing.assert_array_equal(represent.voxel_grid(other, 5), represent.voxel_grid(s, 5))

    @pytest.mark.parametrize("n", [0, 1])
    def test_no_event_and_one_event(self, n):
        stream = random_stream(n)
        assert represent.frames(stream, 4).sum() == n
        assert np.abs(represent.voxel_grid(stream, 4)).sum() == n
        assert np.isfinite(represent.time_surface(stream, 10.0)).all()

    def test_all_events_at_one_time(self):
        stream = random_stream(100, last=0)
        assert represent.voxel_grid(stream, 5).sum() == stream.sign.sum()
        assert np.isfinite(represent.spike_tensor(stream, 5)).all()

    def test_the_last_bin_loses_no_mass(self):
        s = self.stream
        bright = EventStream(s.x, s.y, s.t, np.ones(len(s), bool), W, H)
        assert represent.voxel_grid(bright, 5).sum() == pytest.approx(1000, abs=1e-2)

    def test_the_last_event_is_counted(self):
        assert represent.frames(self.stream, 10)[-1].sum() >= 1
        assert represent.frames(self.stream, 10).sum() == 1000
