"""A replay as one compact JSON document: whole numbers in a unit fine enough for what is drawn.

Lengths and positions are multiples of `step`, positions counted from `origin`. Of each scan there is one flat
list: (x, y) of measurements; (row, x, y) of true objects; and TRACK numbers of each track:

    row of its label, x, y, half axes of the 95 % ellipse, its angle (degrees), existence (1/1000),
    speed (steps/s, -1: unknown), 1 if updated in this scan or 0, row of the truth it is assigned to or -1

JSON numbers of more than 53 bits are not safe in a browser, so labels are text.
"""

from typing import Any

import numpy as np

from sims.report.replay import Replay
from tracking.ellipses import ellipses
from tracking.tracks import Tracks, Trajectories

FORMAT, VERSION = "multitarget-toolkit replay", 1
TRACK = 10  # numbers of each track
DIGITS = 4  # of the extent of what is shown, at least
PROBABILITY = 0.95  # of an ellipse
FARTHEST = 2**52  # steps from the origin, which JavaScript still counts exactly


def document(replay: Replay) -> dict[str, Any]:
    """The document, of finite numbers only."""
    lower, upper = _box(replay)
    step = 10.0 ** (np.floor(np.log10(max(*(upper - lower), 1e-6))) - DIGITS)
    grid = _Grid(float(step), np.floor(lower / step))
    return {
        "format": FORMAT,
        "version": VERSION,
        **{name: getattr(replay, name) for name in ("title", "about", "shown", "metric", "unit")},
        "axes": list(replay.axes),
        "yDown": replay.y_down,
        "step": grid.step,
        "origin": grid.origin.astype(int).tolist(),
        "box": grid.whole(np.stack((lower, upper))).ravel().tolist(),
        "time": np.round(replay.time, 6).tolist(),
        "measurements": None
        if replay.measurements is None
        else [grid.whole(z[:, :2]).ravel().tolist() for z in replay.measurements],
        "truth": None if replay.truth is None else _truth(replay.truth, grid),
        "headings": list(replay.headings),
        "trackers": [_tracker(name, replay, grid) for name in replay.tracks],
    }


class _Grid:
    """Whole multiples of a step from an origin."""

    def __init__(self, step: float, origin: np.ndarray):
        self.step, self.origin = step, origin

    def whole(self, xy):
        """Positions (n, 2) as int64; what is absurdly far away stays where it can be counted."""
        return np.clip(np.rint(xy / self.step) - self.origin, -FARTHEST, FARTHEST).astype(np.int64)

    def length(self, value):
        """Lengths as int64."""
        return np.clip(np.rint(np.nan_to_num(value) / self.step), -1, FARTHEST).astype(np.int64)


def _box(replay):
    """Corners of what is looked at first: truth and measurements, or else the tracks."""
    shown = [z[:, :2] for z in replay.measurements or ()]
    if replay.truth is not None:
        shown.append(replay.truth.states[..., :2].reshape(-1, 2))
    if not sum(map(len, shown)):
        shown = [t.mean[:, :2] for scans in replay.tracks.values() for t in scans]
    points = np.concatenate([*shown, np.zeros((0, 2))])
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return np.zeros(2), np.ones(2)
    return points.min(axis=0), points.max(axis=0)


def _truth(truth: Trajectories, grid):
    scans = []
    for k in range(len(truth.time)):
        here = np.flatnonzero(~np.isnan(truth.states[:, k]).any(axis=1))
        scans.append(np.column_stack((here, grid.whole(truth.states[here, k, :2]))).ravel().tolist())
    return {"labels": [str(label) for label in truth.label.tolist()], "scans": scans}


def _tracker(name, replay, grid):
    scans, found = replay.tracks[name], replay.errors.get(name)
    labels = list(dict.fromkeys(label for t in scans for label in t.label.tolist()))
    row = {label: i for i, label in enumerate(labels)}
    nobody = [np.full(len(t), -1) for t in scans]
    return {
        "name": name,
        "labels": [str(label) for label in labels],
        "scans": [
            _scan(t, [row[label] for label in t.label.tolist()], truth, replay.velocity, grid)
            for t, truth in zip(scans, nobody if found is None else found.truth, strict=True)
        ],
        "errors": None if found is None else [[_short(value) for value in part] for part in found.gospa.T],
        "means": list(replay.rows.get(name, ())),
    }


def _scan(tracks: Tracks, rows, truth, velocity, grid):
    """TRACK numbers of each track of a scan, one after the other."""
    shape = ellipses(tracks, PROBABILITY)
    speed = np.full(len(tracks), -grid.step)
    if velocity is not None:
        speed = np.linalg.norm(tracks.mean[:, velocity : velocity + 2], axis=1)
    columns = (
        np.array(rows, np.int64),
        grid.whole(tracks.mean[:, :2]),
        grid.length(shape.major),
        grid.length(shape.minor),
        np.rint(np.rad2deg(shape.angle)).astype(np.int64),
        np.rint(1000 * tracks.existence).astype(np.int64),
        grid.length(speed),
        (tracks.source >= 0).astype(np.int64),
        truth,
    )
    return np.column_stack(columns).ravel().tolist()


def _short(value):
    """A number to six significant digits."""
    return float(f"{value:.6g}")
