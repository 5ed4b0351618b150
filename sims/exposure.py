"""The pixels of an event camera between two frames, compiled: what falls, when, and why."""

import numpy as np

from tracking.compiled import compiled, doubled

SIGNAL, SHOT, LEAK = 0, 1, 2  # why an event fell
DARK_SPEED = 0.08  # bandwidth and brightness: a black pixel has 0.08 / 1.08 of that of a white one
BRIGHT_SHOT = 0.25  # shot noise of a white pixel, as a share of that of a black one
BLOCK = 256  # pixels looked at together: what is known of them stays in the cache


def slowed(before, after, seen, seconds, cutoff):
    """What first-order low-passes make of an input that runs straight; their bandwidth falls with brightness.

    Args:
        before, after: the input at both ends, log intensity.
        seen:          the output at the beginning.
        seconds:       between the ends.
        cutoff:        Hz, of a white pixel.
    """
    bright = np.exp(np.minimum(after, 0, dtype=np.float32, casting="same_kind"))  # how fast, to 7 digits
    turns = (bright + np.float32(DARK_SPEED)) * np.float32(2 * np.pi * cutoff * seconds / (1 + DARK_SPEED))
    return _lagging(before, after, seen, turns, np.exp(-turns))


@compiled
def _lagging(before, after, seen, turns, left):
    """The output at the end: the input, less its lag once settled, and what is left of the beginning."""
    out = np.empty_like(after)
    x, y, z = before.reshape(-1), after.reshape(-1), seen.reshape(-1)
    n, e, o = turns.reshape(-1), left.reshape(-1), out.reshape(-1)
    for i in range(len(o)):
        lag = (y[i] - x[i]) / n[i]
        o[i] = y[i] - lag + (z[i] - x[i] + lag) * e[i]
    return out


@compiled
def expose(piece, threshold, drift, times, state, rng):
    """Events of one straight piece, pixel by pixel: (pixel, us after start, polarity + 2 source)."""
    pixel, when, what = np.empty(4096, np.int64), np.empty(4096, np.int32), np.empty(4096, np.uint8)
    found = at = 0
    while at < drift.size:
        found, at = _fill(piece, threshold, drift, times, state, rng, pixel, when, what, found, at)
        if at < drift.size:  # full
            pixel, when, what = doubled(pixel), doubled(when), doubled(what)
    return pixel[:found], when[:found], what[:found]


@compiled
def _fill(piece, threshold, drift, times, state, rng, pixel, when, what, found, at):
    """Events from pixel `at` on, until all are through or there is no room: (events, pixel to go on with).

    Along the piece a pixel's rate is constant: after its first event it fires at equal distances. Buffers
    that grew in this loop would make every event five times as dear.
    """
    start, length, before, after = piece
    refractory, shot = times
    reference, since, due = state
    low, high, leak = before.reshape(-1), after.reshape(-1), drift.reshape(-1)
    off, on = threshold[0].reshape(-1), threshold[1].reshape(-1)
    reference, since, due = reference.reshape(-1), since.reshape(-1), due.reshape(-1)
    busy = np.empty(BLOCK, np.bool_)
    for i in range(at, len(low)):
        if i % BLOCK == 0 or i == at:
            block = i - i % BLOCK
            _find_busy(block, start, start + length, high, leak, on, off, reference, since, due, busy)
        if not busy[i % BLOCK]:
            continue
        slope = (high[i] - low[i]) / length
        rate = slope + leak[i]
        gap = np.inf if rate == 0 else (on[i] if rate > 0 else -off[i]) / rate
        anchor = since[i] - start  # all times in us after start; here, when the reference was taken
        noise = due[i] - start
        if anchor > 0:  # it is blind; its reference is what it will see when it wakes
            fires = anchor + gap
        else:
            fires = gap - (low[i] - reference[i] - leak[i] * anchor) / rate if rate != 0 else np.inf
        while noise < anchor:
            noise += rng.standard_exponential() / shot
        new = 0 < anchor <= length
        while min(fires, noise) <= length and found < len(pixel):
            if noise < fires:
                now = noise
                noise += rng.standard_exponential() / shot
                bright = min(np.exp(low[i] + slope * now), 1.0)
                if rng.random() > 1 - (1 - BRIGHT_SHOT) * bright:
                    continue
                code = 2 * SHOT + (rng.random() < 0.5)
            else:
                now = fires
                leaked = rate > 0 and leak[i] * (now - anchor) > on[i] / 2
                code = 2 * (LEAK if leaked else SIGNAL) + (rate > 0)
            pixel[found], when[found], what[found] = i, np.int32(now), code
            found += 1
            anchor = now + refractory
            fires = anchor + gap
            new = True
            while noise < anchor:  # falls while it is blind
                noise += rng.standard_exponential() / shot
        if new:
            since[i] = start + anchor
            reference[i] = low[i] + slope * anchor  # taken anew if it wakes in a later piece
        due[i] = start + noise
        if found == len(pixel):
            return found, i
    return found, len(low)


@compiled
def _find_busy(first, start, stop, high, leak, on, off, reference, since, due, busy):
    """Which pixels of a block have something to say: found without branches, since most have not."""
    for k in range(min(BLOCK, len(high) - first)):
        i = first + k
        end = high[i] - reference[i] + leak[i] * (stop - since[i])
        busy[k] = (end >= on[i]) | (end <= -off[i]) | (since[i] > start) | (due[i] <= stop)


@compiled
def by_time(pixel, when, what, start, length, width):
    """Columns x, y, t, p and source, sorted by time: by counting, since a piece has few microseconds."""
    x, y = np.empty(len(pixel), np.uint16), np.empty(len(pixel), np.uint16)
    t = np.empty(len(pixel), np.int64)
    p, source = np.empty(len(pixel), np.uint8), np.empty(len(pixel), np.uint8)
    place = np.zeros(length + 2, np.int64)
    for i in range(len(when)):
        place[when[i] + 1] += 1
    for k in range(1, len(place)):
        place[k] += place[k - 1]
    for i in range(len(when)):
        to = place[when[i]]
        place[when[i]] += 1
        y[to], x[to] = pixel[i] // width, pixel[i] % width
        t[to] = start + when[i]
        p[to], source[to] = what[i] & 1, what[i] >> 1
    return x, y, t, p, source
