"""A replay as a recording for rerun's viewer, on its own time line; the extra is `viz`.

`plane/measurements`, `plane/truth` and, of each tracker, `plane/NAME/tracks`, `.../ellipses` and `.../tails`;
`errors/gospa/NAME` and the other parts over time. rerun draws planes with y downwards, so y is negated where
it grows upwards.
"""

from pathlib import Path

import numpy as np

from sims.report.document import PROBABILITY
from sims.report.replay import Replay
from sims.rerun_file import colours_of, import_rerun, recording
from tracking.ellipses import ellipses
from tracking.tracks import Trajectories

PARTS = ("gospa", "localisation", "missed", "false")
TAIL = 15  # scans
GREY, PALE = (150, 150, 150), (215, 215, 215)
MARK, DOT = 4.0, 2.0  # radii in pixels of the screen


def write(path: str | Path, replay: Replay) -> None:
    """Write the recording, as a whole or not at all.

    Raises:
        ImportError: rerun-sdk is not installed.
        OSError: the file cannot be written.
    """
    rr = import_rerun()
    up = np.array((1.0, 1.0 if replay.y_down else -1.0))
    paths = {name: Trajectories.from_tracks(scans) for name, scans in replay.tracks.items()}
    with recording(path, f"multitarget-toolkit {replay.title}") as stream:
        for k, time in enumerate(replay.time):
            stream.set_time("scan", sequence=k)
            stream.set_time("time", duration=float(time - replay.time[0]))
            if replay.measurements is not None:
                points = rr.Points2D(up * replay.measurements[k], radii=rr.Radius.ui_points(DOT), colors=GREY)
                stream.log("plane/measurements", points)
            if replay.truth is not None:
                _log_truth(rr, stream, replay.truth, k, up)
            for name, scans in replay.tracks.items():
                _log_tracks(rr, stream, f"plane/{name}", scans[k], up)
                _log_tails(rr, stream, f"plane/{name}/tails", paths[name], k, up)
            for name, found in replay.errors.items():
                for part, value in zip(PARTS, found.gospa[k].tolist()):
                    stream.log(f"errors/{part}/{name}", rr.Scalars(value))


def _log_truth(rr, stream, truth, k, up):
    here = ~np.isnan(truth.states[:, k]).any(axis=1)
    names = [f"object {label}" for label in truth.label[here].tolist()]
    points = rr.Points2D(
        up * truth.states[here, k, :2], radii=rr.Radius.ui_points(MARK), colors=PALE, labels=names
    )
    stream.log("plane/truth", points)


def _log_tracks(rr, stream, path, tracks, up):
    colours = colours_of(tracks.label)
    stream.log(
        f"{path}/tracks",
        rr.Points2D(
            up * tracks.mean[:, :2],
            radii=rr.Radius.ui_points(MARK),
            colors=colours,
            labels=[str(label) for label in tracks.label.tolist()],
        ),
    )
    outlines = up * ellipses(tracks, PROBABILITY).outline()
    stream.log(f"{path}/ellipses", rr.LineStrips2D(list(outlines), colors=colours))


def _log_tails(rr, stream, path, trajectories, k, up):
    """The last scans of the tracks that are there."""
    past = trajectories.states[:, max(k - TAIL, 0) : k + 1, :2]
    alive = np.flatnonzero(~np.isnan(past[:, -1]).any(axis=1))
    strips = [up * x[~np.isnan(x).any(axis=1)] for x in past[alive]]
    stream.log(path, rr.LineStrips2D(strips, colors=colours_of(trajectories.label[alive])))
