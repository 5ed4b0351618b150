"""The event camera against a pixel simulated in tiny steps, and what its flaws must look like."""

from itertools import pairwise

import numpy as np
import pytest

from sims.camera import NOISY, PERFECT, EventCamera, Pixels, log_intensity, record, replayed
from sims.exposure import LEAK, SHOT, SIGNAL


def drifting(width=40, height=30, contrast=0.4):
    """Log intensity of a pattern that moves by some pixels a millisecond."""
    y, x = np.mgrid[:height, :width]

    def at(t):
        s = t * 1e-6
        return np.log(0.5 + contrast * np.sin(x / 4 + 90 * s) * np.sin(y / 5 - 40 * s))

    return at


def frames(scene, step, number, start=0):
    return [(start + step * k, scene(start + step * k)) for k in range(number)]


def one_pixel(levels, times, pixels, seed=0):
    return EventCamera(1, 1, pixels, seed).film((t, np.array([[v]])) for t, v in zip(times, levels))


def in_tiny_steps(levels, times, threshold, refractory, drift, step=0.01):
    """(t, p) of one pixel without noise, looked at every `step` microseconds."""
    t = np.arange(times[0], times[-1], step)
    level = np.interp(t, times, levels)
    found, taken = [], 0
    while True:
        moved = level[taken:] - level[taken] + drift * (t[taken:] - t[taken])
        over = np.flatnonzero((moved >= threshold[1]) | (moved <= -threshold[0]))
        if not len(over):
            return found
        found.append((int(t[taken + over[0]]), bool(moved[over[0]] > 0)))
        taken += over[0] + round(refractory / step)
        if taken >= len(t):
            return found


@pytest.mark.parametrize("refractory", [0, 7, 120])
@pytest.mark.parametrize("leak", [0.0, 200.0])
def test_a_pixel_agrees_with_one_in_tiny_steps(refractory, leak):
    rng = np.random.default_rng(3)
    times, levels = np.arange(0, 4001, 200), rng.normal(0, 0.5, 21)
    pixels = Pixels(on=0.13, off=0.21, mismatch=0.0, refractory=refractory, leak=leak)
    camera = EventCamera(1, 1, pixels)
    got = camera.film((t, np.array([[v]])) for t, v in zip(times, levels))
    camera = EventCamera(1, 1, pixels)
    expected = in_tiny_steps(levels, times, (0.21, 0.13), refractory, camera.drift[0, 0])
    assert len(expected) > 15
    assert len(got.events) == len(expected)
    assert (
        np.abs(got.events.t - [t for t, _ in expected]).max() <= 3
    )  # tiny steps are late by up to 0.1 us each
    assert got.events.p.tolist() == [p for _, p in expected]


def test_a_ramp_fires_at_equal_distances():
    rec = one_pixel([-1.0, 0.0], [0, 1000], PERFECT)
    assert rec.events.t.tolist() == [199, 400, 600, 800, 1000] or rec.events.t.tolist() == [
        200,
        400,
        600,
        800,
        1000,
    ]
    assert rec.events.p.all()


@pytest.mark.parametrize("pixels", [PERFECT, Pixels(), Pixels(on=0.1, off=0.35, mismatch=0.05)])
def test_replaying_events_leads_to_the_last_frame(pixels):
    film = frames(drifting(), 700, 60)
    camera = EventCamera(40, 30, pixels, seed=1)
    rec = camera.film(film)
    error = np.abs(replayed(rec.events, film[0][1], camera.threshold) - film[-1][1])
    assert len(rec.events) > 5_000
    assert (error < camera.threshold.max(0)).all()
    assert (rec.source == SIGNAL).all()


def test_frames_between_frames_change_nothing():
    coarse = frames(drifting(), 1000, 8)
    fine = []
    for (t0, a), (t1, b) in pairwise(coarse):
        fine += [(t0 + k, a + (b - a) * k / (t1 - t0)) for k in range(0, 1000, 250)]
    fine.append(coarse[-1])
    one, other = (EventCamera(40, 30, Pixels(refractory=150), seed=2).film(f).events for f in (coarse, fine))
    assert len(one) == len(other)
    for pixel in range(0, 1200, 7):
        y, x = divmod(pixel, 40)
        a, b = (s[(s.x == x) & (s.y == y)] for s in (one, other))
        assert np.abs(a.t - b.t).max(initial=0) <= 1
        assert (a.p == b.p).all()


def test_a_step_with_more_events_than_buffers_is_like_many_small_ones():
    still, bright = np.full((50, 60), -4.0), np.zeros((50, 60))
    pixels = Pixels(mismatch=0.02, shot=2000.0)
    one = EventCamera(60, 50, pixels).film([(0, still), (1000, bright)])
    assert len(one.events) > 50_000
    assert (np.diff(one.events.t) >= 0).all()
    level = replayed(one.events[one.source == SIGNAL], still, EventCamera(60, 50, pixels).threshold)
    quiet = (
        np.bincount(one.events.y[one.source == SHOT] * 60 + one.events.x[one.source == SHOT], minlength=3000)
        == 0
    )
    assert quiet.any()
    assert np.abs(level.ravel()[quiet]).max() < 0.3


def test_a_blind_pixel_says_nothing():
    rec = EventCamera(40, 30, Pixels(refractory=400, shot=50.0), seed=4).film(frames(drifting(), 500, 80))
    pixel = rec.events.y.astype(int) * 40 + rec.events.x
    order = np.lexsort((rec.events.t, pixel))
    apart = np.diff(rec.events.t[order])[np.diff(pixel[order]) == 0]
    assert len(apart) > 1000
    assert apart.min() >= 399  # stamps are rounded down


@pytest.mark.parametrize(("bright", "rate"), [(-12.0, 8.0), (0.0, 2.0)])
def test_shot_noise_has_its_rate_and_no_favourite_polarity(bright, rate):
    still = np.full((50, 60), bright)
    camera = EventCamera(60, 50, Pixels(shot=8.0), seed=5)
    rec = camera.film((t, still) for t in range(0, 1_000_001, 20_000))
    assert (rec.source == SHOT).all()
    expected = rate * 3000
    assert abs(len(rec.events) - expected) < 5 * np.sqrt(expected)
    assert abs(rec.events.p.mean() - 0.5) < 2.5 / np.sqrt(expected)


def test_a_pixel_leaks_brighter_events():
    still = np.full((50, 60), -1.0)
    camera = EventCamera(60, 50, Pixels(leak=3.0), seed=6)
    rec = camera.film((t, still) for t in range(0, 10_000_001, 500_000))
    assert (rec.source == LEAK).all()
    assert rec.events.p.all()
    expected = 10 * 3.0 * (10 ** (0.1 * np.random.default_rng(0).standard_normal(10**5))).mean() - 0.5
    assert len(rec.events) / 3000 == pytest.approx(expected, rel=0.02)


def test_slow_pixels_follow_late():
    times, levels = [0, 1, 2000, 4000, 100_000], [-1.0, 0.0, 0.0, 0.0, 0.0]
    fast = one_pixel(levels, times, PERFECT).events
    slow = one_pixel(levels, times, Pixels(mismatch=0.0, cutoff=50.0)).events
    assert len(fast) == 5
    assert fast.t.max() <= 1
    assert 3 <= len(slow) <= 5  # it comes near in the end
    assert slow.t[0] > 100


@pytest.mark.parametrize("step", [100, 1_000, 5_000, 20_000])
def test_a_slow_pixel_lags_behind_a_ramp_by_its_time_constant_whatever_the_frames(step):
    times = np.arange(0, 200_001, step)
    levels = -3.0 + 3.0 * times / 200_000
    camera = EventCamera(1, 1, Pixels(mismatch=0.0, cutoff=100.0))
    for t, level in zip(times, levels):
        camera.step(np.array([[level]]), int(t))
    expected = 1 / (2 * np.pi * 100.0)  # s, of a white pixel
    assert (levels[-1] - camera.seen[0, 0]) / 15.0 == pytest.approx(expected, rel=0.15)


def test_dark_pixels_are_slower_than_bright_ones():
    lags = {}
    for dark in (0.0, -1.5, -5.0):
        camera = EventCamera(1, 1, Pixels(mismatch=0.0, cutoff=100.0))
        for k in range(3):  # a step that stays
            camera.step(np.array([[dark - (k == 0)]]), 1000 * k + 1)
        lags[dark] = dark - camera.seen[0, 0]
    assert 0 < lags[0.0] < lags[-1.5] < lags[-5.0] < 1


def test_a_buffer_that_is_drawn_again_is_as_good_as_new_frames():
    film = frames(drifting(), 1000, 10)
    for pixels in (PERFECT, NOISY):
        buffer = np.empty((30, 40))
        one, other = EventCamera(40, 30, pixels), EventCamera(40, 30, pixels)
        for t, frame in film:
            buffer[:] = frame
            assert one.step(buffer, t).events == other.step(frame.copy(), t).events


@pytest.mark.parametrize("start", [1_700_000_000_000_000, -(2**60)])
def test_what_a_camera_says_does_not_depend_on_the_clock(start):
    film = frames(drifting(), 1000, 20)
    at_zero = EventCamera(40, 30, NOISY).film(film).events
    later = EventCamera(40, 30, NOISY).film((t + start, f) for t, f in film).events
    assert later == at_zero.shift(start)


def test_noise_is_labelled_and_what_is_left_is_the_signal():
    film = frames(drifting(), 1000, 50)
    rec = EventCamera(40, 30, Pixels(mismatch=0.0, shot=20.0, leak=5.0), seed=7).film(film)
    assert {SIGNAL, SHOT} <= set(np.unique(rec.source).tolist())
    clean = EventCamera(40, 30, PERFECT).film(film)
    assert abs((rec.source == SIGNAL).sum() / len(clean.events) - 1) < 0.05


def test_a_seed_is_a_recording():
    film = frames(drifting(), 1000, 20)
    one, same, other = (EventCamera(40, 30, NOISY, seed).film(film) for seed in (1, 1, 2))
    assert one.events == same.events
    assert (one.source == same.source).all()
    assert one.events != other.events


def test_a_scene_is_rendered_as_often_as_it_moves():
    asked = []
    scene = drifting(contrast=0.3)

    def still_then_moving(t):
        asked.append(t)
        return scene(max(t, 50_000))

    camera = EventCamera(40, 30, Pixels(), seed=1)
    rec = record(camera, still_then_moving, 0, 100_000)
    assert (np.diff([t for t in asked if t <= 40_000]) == 5_000).all()
    taken = np.array([t for t in asked if t > 50_000])
    assert np.median(np.abs(np.diff(taken))) <= 3_000
    error = np.abs(replayed(rec.events, scene(50_000), camera.threshold) - scene(100_000))
    assert (error < camera.threshold.max(0)).all()
    dense = EventCamera(40, 30, Pixels(), seed=1)
    truth = dense.film(frames(scene, 50, 1001, start=50_000)).events
    assert abs(len(rec.events) / len(truth) - 1) < 0.02


def test_images_become_finite_logarithms():
    assert log_intensity(np.zeros((2, 3), np.uint8)) == pytest.approx(np.log(0.02))
    assert log_intensity(np.full((2, 3, 3), 255, np.uint8)) == pytest.approx(np.log(1.02))
    assert log_intensity(np.full((2, 2), 65535, np.uint16)) == pytest.approx(np.log(1.02))
    assert log_intensity(np.full((2, 2), 0.5)) == pytest.approx(np.log(0.52))


def test_errors_say_what_is_accepted_and_leave_the_camera_as_it_was():
    camera = EventCamera(4, 3)
    camera.step(np.zeros((3, 4)), 0)
    for frame, time, word in (
        (np.zeros((4, 3)), 1, r"\(3, 4\)"),
        (np.full((3, 4), -np.inf), 1, "log_intensity"),
        (np.zeros((3, 4)), 0, "rise"),
        (np.zeros((3, 4)), 0.5, "whole"),
        (np.zeros((3, 4)), 10**8, "at most"),
        (np.zeros((3, 4)), 2**70, "within"),
        (np.zeros((3, 4)), np.inf, "within"),
        (np.zeros((3, 4)), None, "within"),
    ):
        with pytest.raises(ValueError, match=word):
            camera.step(frame, time)
    assert camera.time == 0
    assert len(camera.step(np.ones((3, 4)), 10).events) > 0
    with pytest.raises(ValueError, match="threshold"):
        Pixels(on=0)
    with pytest.raises(ValueError, match="leak"):
        Pixels(leak=-1)
    with pytest.raises(ValueError, match="cutoff"):
        Pixels(cutoff=0)
    with pytest.raises(ValueError, match="shortest"):
        record(camera, lambda t: np.zeros((3, 4)), 20, 30, longest=1, shortest=5)
    with pytest.raises(ValueError, match="before start"):
        record(camera, lambda t: np.zeros((3, 4)), 20, 10)
    for image in (np.full((2, 2), 255), np.full((2, 2, 3), True), np.zeros((2, 2, 4), np.uint8)):
        with pytest.raises(ValueError, match="image"):
            log_intensity(image)
    with pytest.raises(ValueError, match="width"):
        EventCamera(0, 3)
    with pytest.raises(ValueError, match="not negative"):
        log_intensity(np.full((2, 2), -1.0))
