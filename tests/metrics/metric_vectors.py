"""Sets with known distances: points G, trajectories E; computed apart from this code, digits as printed."""

import numpy as np

A = [[0, 0], [10, 0], [0, 10]]
G8 = ([[0, 0], [1, 0]], [[0.9, 0], [2.5, 0]])
G11 = (
    [[2.739, -4.604], [-9.181, -9.669], [6.265, 8.255], [2.133, 4.59], [0.872, 8.701]],
    [
        [6.317, -9.945],
        [7.148, -9.328],
        [4.593, -6.487],
        [7.264, 0.829],
        [-4.006, -1.546],
        [-9.434, -7.514],
        [3.412, 2.944],
    ],
)
POINTS = {
    "G1": (A, [[1, 0], [10, 2], [30, 30]]),
    "G2": (A, [[0.5, 0], [9, 0], [0, 13], [20, 20], [-40, 0]]),
    "G3": ([], [[1, 1], [2, 2]]),
    "G4": ([[1, 1], [2, 2], [3, 3]], []),
    "G5": ([], []),
    "G6": ([[0, 0]], [[100, 0]]),
    "G7": ([[0, 0]], [[10, 0]]),
    "G8": G8,
    "G9": ([[0], [1], [5]], [[0.2], [1.4]]),
    "G10": (A, [[1, 0], [10, 2]]),
    "G11": G11,
}


def line(scans, *pieces):
    """States (n, T, 1), each from pieces (value, first time, length); NaN elsewhere."""
    states = np.full((len(pieces), scans, 1), np.nan)
    for row, (value, start, length) in zip(states, pieces):
        row[start : start + length] = value
    return states


def _path(points, start=0):
    return np.concatenate((np.full((start, 2), np.nan), points))


_CROSS = np.array([[2, 2, 1.2, 1.2], [1.2, 1.2, 2, 2]])[..., None]
_HOLE = line(5, (0.5, 0, 5), (2, 0, 5))
_HOLE[1, 2] = np.nan
TRAJECTORIES = {
    "E1": (line(5, (1, 0, 5)), line(5, (2, 0, 5))),
    "E2": (line(5, (1, 0, 5)), line(5, (2, 0, 4))),
    "E3": (line(5, (1, 0, 5)), line(5, (1.1, 0, 3), (1.1, 3, 2))),
    "E4": (
        line(5, (1, 0, 5), (2.2, 0, 3), (2.2, 3, 2)),
        line(5, (1.1, 0, 3), (1.1, 3, 2), (2.1, 0, 5)),
    ),
    "E5": (line(4, (1, 0, 4), (2.2, 0, 4)), _CROSS),
    "E6": (line(4, (1, 0, 4), (2.2, 0, 4)), line(4, (2, 0, 4), (1.2, 0, 2), (1.2, 2, 2))),
    "E7": (_HOLE, line(5, (1.5, 0, 5), (0, 0, 5))),
    "E8": (
        np.array(
            [
                [[t, 0] for t in range(6)],
                [[0, 4], [1, 3], [2, 2], [3, 1], [4, 0.5], [5, 0]],
            ]
        ).astype(float),
        np.array(
            [
                [[0, 0.1], [1, 0.1], [2, 0.1], [3, 0.9], [4, 0.6], [5, 0.2]],
                _path([[1, 2.8], [2, 2.1], [3, 0.1], [4, 0.1], [5, -0.2]], start=1),
            ]
        ),
    ),
}
