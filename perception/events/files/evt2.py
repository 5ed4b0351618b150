"""Prophesee EVT2: one word of 32 bits an event, its time in two parts; see evt.py."""

import numpy as np

from perception.events.files.blocks import unwrapped
from perception.events.files.evt import Coding, put_clock
from tracking.compiled import compiled

UNITS = 1 << 28  # of TIME_HIGH, 64 us each


@compiled
def _decode(words, state, x, y, t, p):
    n, time, room = 0, state[0], len(x) - 32
    for i in range(len(words)):
        if n >= room:
            state[0] = time
            return i, n
        word = words[i]
        kind = word >> np.uint32(28)
        if kind < 2 and time >= 0:
            x[n] = word >> np.uint32(11) & np.uint32(0x7FF)
            y[n] = word & np.uint32(0x7FF)
            t[n] = time | (word >> np.uint32(22) & np.uint32(0x3F))
            p[n] = kind == 1
            n += 1
        elif kind == 8:
            clock = np.int64(word & np.uint32(0xFFFFFFF)) << 6
            time = unwrapped(clock, time, np.int64(UNITS) << 6)
    state[0] = time
    return len(words), n


@compiled
def _encode(x, y, t, p, state, words):
    n, last = 0, state[0]
    for i in range(len(t)):
        high = t[i] >> 6
        if high != last:
            n = put_clock(high, last, UNITS, 8 << 28, 0, words, n)
            last = high
        words[n] = np.int64(p[i]) << 28 | (t[i] & 63) << 22 | np.int64(x[i]) << 11 | np.int64(y[i])
        n += 1
    state[0] = last
    return n


def _clock(words):
    time = (words & np.uint32(0xFFFFFFF)).astype(np.int64) << 6
    return np.where(words >> np.uint32(28) == 8, time, -1)


EVT2 = Coding("2.0", "<u4", _decode, _encode, _clock, UNITS << 6, 2, 0, True)
