"""Event filters: against loops written out, and pieces of a stream against the whole."""

import numpy as np
import pytest

from perception.events import EventStream
from perception.events.filters import (
    BackgroundActivity,
    Refractory,
    background_activity,
    hot_pixels,
    refractory,
    without,
)

W, H = 17, 12


def random_stream(n=2000, seed=0, last=30_000):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, last + 1, n))
    return EventStream(rng.integers(0, W, n), rng.integers(0, H, n), t, rng.integers(0, 2, n), W, H)


def company(stream, window, reach):
    """Which events have an earlier one of another pixel nearby, looked up event by event."""
    kept = []
    for i in range(len(stream)):
        dx = np.abs(stream.x[:i].astype(int) - int(stream.x[i]))
        dy = np.abs(stream.y[:i].astype(int) - int(stream.y[i]))
        near = (np.maximum(dx, dy) <= reach) & (dx + dy > 0)
        kept.append(bool((near & (stream.t[:i] >= stream.t[i] - window)).any()))
    return np.array(kept, bool)


@pytest.mark.parametrize("reach", [1, 2])
@pytest.mark.parametrize("window", [1, 50, 400])
def test_background_activity_keeps_events_with_company(window, reach):
    stream = random_stream()
    mask = BackgroundActivity(W, H, window, reach).mask(stream)
    np.testing.assert_array_equal(mask, company(stream, window, reach))


@pytest.mark.parametrize("period", [1, 50, 4000])
def test_refractory_counts_from_the_last_kept_event(period):
    stream, last, kept = random_stream(), {}, []
    for x, y, t in zip(stream.x.tolist(), stream.y.tolist(), stream.t.tolist()):
        rested = t - last.get((x, y), -(10**9)) >= period
        kept.append(rested)
        if rested:
            last[x, y] = t
    np.testing.assert_array_equal(Refractory(W, H, period).mask(stream), kept)


@pytest.mark.parametrize("make", [lambda: BackgroundActivity(W, H, 300), lambda: Refractory(W, H, 300)])
def test_pieces_give_what_the_whole_gives(make):
    stream, whole, pieces = random_stream(), make(), make()
    parts = [pieces.step(part) for part in stream.by_count(77)]
    assert parts[0].merge(*parts[1:]) == whole.step(stream)


@pytest.mark.parametrize("n", [0, 1])
def test_no_event_and_one_event(n):
    stream = random_stream(n)
    assert len(background_activity(stream)) == 0
    assert len(refractory(stream)) == n
    assert not hot_pixels(stream).any()


@pytest.mark.parametrize("make", [BackgroundActivity, Refractory])
def test_a_recording_that_begins_again_is_refused_and_nothing_is_remembered(make):
    """Refractory dropped all of it, BackgroundActivity kept all of it."""
    stream = random_stream(200)
    used, other = make(W, H, 50), make(W, H, 50)
    assert used.step(stream[:100]) == other.step(stream[:100])
    with pytest.raises(ValueError, match="a new recording needs a new filter"):
        used.step(stream)
    assert used.step(stream[100:]) == other.step(stream[100:])


def test_times_far_from_zero():
    late = random_stream().shift(2**60)
    early = random_stream().shift(-(2**60))
    assert len(refractory(late, 100)) == len(refractory(early, 100)) == len(refractory(random_stream(), 100))


@pytest.mark.parametrize("place", [(0, 0), (5, 5), (W - 1, H - 1)])
def test_a_hot_pixel_is_found_and_a_busy_region_is_not(place):
    rng = np.random.default_rng(0)
    n = 3000
    x, y = rng.integers(4, 12, n), rng.integers(4, 10, n)  # a busy region of about 60 events a pixel
    x, y = np.append(x, np.full(2000, place[0])), np.append(y, np.full(2000, place[1]))
    t = np.arange(len(x))
    stream = EventStream(x, y, t, np.ones(len(x), bool), W, H)
    hot = hot_pixels(stream)
    assert np.argwhere(hot).tolist() == [[place[1], place[0]]]
    assert len(without(stream, hot)) <= n


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda s: background_activity(s, 0), "at least 1"),
        (lambda s: background_activity(s, 5, 0), "at least 1"),
        (lambda s: refractory(s, 0), "at least 1 us"),
        (lambda s: hot_pixels(s, 1.0), "factor"),
        (lambda s: Refractory(W + 1, H, 5).step(s), "18 x 12"),
        (lambda s: without(s, np.zeros((W, H), bool)), r"\(12, 17\)"),
        (lambda s: background_activity(s, 0.01), "whole microseconds, got 0.01"),
        (lambda s: background_activity(s, 2**63), "at least 1"),
        (lambda s: refractory(s, float("nan")), "whole microseconds"),
        (lambda s: BackgroundActivity(-3, H, 5), "width must be a whole number"),
        (lambda s: Refractory(W, 0, 5), "height must be a whole number"),
    ],
)
def test_wrong_arguments_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call(random_stream(10))
