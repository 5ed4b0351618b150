"""Prophesee EVT2.1: words of 64 bits with a mask of 32 neighbouring pixels; see evt.py.

The halves of the words are swapped in files of the first IMX636 cameras ("legacy"), which is told from
the header or from which half holds types and columns that can be; no library on the index reads those.
"""

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
        head, mask = np.int64(words[i] >> np.uint64(32)), np.int64(words[i] & np.uint64(0xFFFFFFFF))
        kind = head >> 28
        if kind < 2 and time >= 0:
            k = 0
            while mask:
                if mask & 1:
                    x[n] = (head >> 11 & 0x7FF) + k
                    y[n] = head & 0x7FF
                    t[n] = time | (head >> 22 & 0x3F)
                    p[n] = kind == 1
                    n += 1
                mask >>= 1
                k += 1
        elif kind == 8:
            time = unwrapped((head & 0xFFFFFFF) << 6, time, np.int64(UNITS) << 6)
    state[0] = time
    return len(words), n


@compiled
def _encode(x, y, t, p, state, words):
    n, last, i = 0, state[0], 0
    while i < len(t):
        high = t[i] >> 6
        if high != last:
            n = put_clock(high, last, UNITS, np.int64(8) << 60, 32, words, n)
            last = high
        head = np.int64(p[i]) << 28 | (t[i] & 63) << 22 | np.int64(x[i] & 0x7E0) << 11 | np.int64(y[i])
        mask, first = np.int64(0), i
        while (
            i < len(t)
            and (t[i], y[i], p[i], x[i] >> 5) == (t[first], y[first], p[first], x[first] >> 5)
            and (i == first or x[i] > x[i - 1])
        ):
            mask |= np.int64(1) << (x[i] & 31)
            i += 1
        words[n] = head << 32 | mask
        n += 1
    state[0] = last
    return n


def _clock(words):
    time = (words >> np.uint64(32) & np.uint64(0xFFFFFFF)).astype(np.int64) << 6
    return np.where(words >> np.uint64(60) == 8, time, -1)


EVT21 = Coding("2.1", "<u8", _decode, _encode, _clock, UNITS << 6, 2, 0, True)
