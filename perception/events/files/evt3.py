"""Prophesee EVT3: words of 16 bits that change a state, among them vectors of pixels; see evt.py.

The clock wraps every 16.8 s, so a file is decoded from its start for any window of time; what lies after
the window is not read. Cameras send TIME_HIGH slightly early or late: events up to 8.2 ms late are sorted
in. Writers must repeat TIME_HIGH, that of expelliarmus 1.1 does not and its files lose their time.
"""

import numpy as np

from perception.events.files.blocks import unwrapped
from perception.events.files.evt import Coding, put_clock
from tracking.compiled import compiled

UNITS = 1 << 12  # of TIME_HIGH, 4096 us each
FURTHEST = 1 << 12  # pixels: vectors end here, outside every sensor, so that damage cannot come back in


@compiled
def _decode(words, state, x, y, t, p):
    """State: TIME_HIGH with wraps, TIME_LOW, row, next column and polarity of vectors; -1: unknown."""
    high, low, row, base, polarity = state[0], state[1], state[2], state[3], state[4]
    n, used, room = 0, 0, len(x) - 32
    for i in range(len(words)):
        if n >= room:
            break
        used += 1
        word = np.int64(words[i])
        kind = word >> 12
        if kind == 0:
            row = word & 0x7FF
        elif kind == 2:
            if high >= 0 and row >= 0:
                x[n], y[n], t[n], p[n] = word & 0x7FF, row, high | low, word >> 11 & 1
                n += 1
        elif kind == 3:
            base, polarity = word & 0x7FF, word >> 11 & 1
        elif kind == 4 or kind == 5:
            width = 12 if kind == 4 else 8
            if high >= 0 and row >= 0 and base >= 0:
                mask = word & ((1 << width) - 1)
                column = base
                while mask:
                    if mask & 1:
                        x[n], y[n], t[n], p[n] = column, row, high | low, polarity
                        n += 1
                    mask >>= 1
                    column += 1
                base = min(base + width, FURTHEST)
        elif kind == 6:
            low = word & 0xFFF
        elif kind == 8:
            time = unwrapped((word & 0xFFF) << 12, high, np.int64(UNITS) << 12)
            if time != high:  # a new TIME_LOW follows; until then the old one would be too late
                low = 0
            high = time
    state[0], state[1], state[2], state[3], state[4] = high, max(low, 0), row, base, polarity
    return used, n


@compiled
def _encode(x, y, t, p, state, words):
    n, high, low, row = 0, state[0], state[1], state[2]
    for i in range(len(t)):
        if t[i] >> 12 != high:
            n = put_clock(t[i] >> 12, high, UNITS, 8 << 12, 0, words, n)
            high, low = t[i] >> 12, -1
        if t[i] & 0xFFF != low:
            low = t[i] & 0xFFF
            words[n] = 6 << 12 | low
            n += 1
        if y[i] != row:
            row = np.int64(y[i])
            words[n] = row
            n += 1
        words[n] = 2 << 12 | np.int64(p[i]) << 11 | np.int64(x[i])
        n += 1
    state[0], state[1], state[2] = high, low, row
    return n


def _clock(words):
    return np.where(words >> 12 == 8, (words & 0xFFF).astype(np.int64) << 12, -1)


EVT3 = Coding("3.0", "<u2", _decode, _encode, _clock, UNITS << 12, 4, 8192, False)
