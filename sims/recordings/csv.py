"""Plain CSV of timed detections: models from a few numbers that the user gives.

Region and number of objects come from the file as a whole (its extent, its rows per scan), as a user would
read them off a plot; nothing else does. By the truth an object exists from its first report to its last, on
straight lines in between: a track that bridges a gap between reports is right to do so.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from sims.recordings import Recording
from sims.recordings.names import distinct_names
from sims.recordings.scores import video_scores
from tracking.checks import require_positive, require_probability
from tracking.formats import csv
from tracking.formats.detections import Detections
from tracking.metrics import clear_identity_hota, gospa
from tracking.models import ConstantVelocity, PositionSensor, Survival, UniformBirth
from tracking.tracks import Trajectories

CUTOFF = 10.0  # of GOSPA and of matches, in standard deviations of a measurement
MARGIN = 0.05  # of the extent of the data, added on every side


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a user knows of a recording.

    std:         standard deviation of a measured position, m.
    speed:       standard deviation of an object's velocity, m/s.
    q:           white acceleration, m^2/s^3.
    p_detect:    detection probability.
    clutter:     expected false detections per scan.
    lifetime:    mean time that an object stays, s.
    scan_period: s over which rows are collected to a scan; None: rows of equal time are a scan.
    """

    std: float = 1.0
    speed: float = 5.0
    q: float = 1.0
    p_detect: float = 0.9
    clutter: float = 1.0
    lifetime: float = 60.0
    scan_period: float | None = None

    def __post_init__(self):
        require_positive(
            std=self.std, speed=self.speed, q=self.q, clutter=self.clutter, lifetime=self.lifetime
        )
        require_probability(p_detect=self.p_detect)
        if self.scan_period is not None:
            require_positive(scan_period=self.scan_period)


def load(paths, options: Options) -> list[Recording]:
    """Recordings of CSV files; a column `id` is the truth, and is never shown to a tracker.

    Raises:
        ValueError: `path:line: what came; what is accepted`, a file without detections, or two of one name.
    """
    return [_recording(path, name, options) for path, name in zip(paths, distinct_names(paths))]


def _recording(path, name, options):
    detections = csv.read_detections(path, scan_period=options.scan_period)
    if len(detections.z) == 0:
        raise ValueError(f"{path}: no detections to track")
    truth = detections if (detections.extra.get("id", np.array([-1])) >= 0).any() else None
    return Recording(name, detections, truth, _models(detections, options))


def _models(detections, options):
    z = detections.z
    pad = MARGIN * (z.max(axis=0) - z.min(axis=0)) + 5 * options.std
    box = {"lower": tuple(z.min(axis=0) - pad), "upper": tuple(z.max(axis=0) + pad)}
    present = max(len(z) / len(detections) / max(options.p_detect, 0.1), 1.0)
    volume = float(np.prod(np.subtract(box["upper"], box["lower"])))
    return {
        "motion": ConstantVelocity(dims=z.shape[1], q=options.q),
        "sensor": PositionSensor(
            dims=z.shape[1],
            std=options.std,
            p_detect=options.p_detect,
            clutter_intensity=options.clutter / volume,
        ),
        "birth": UniformBirth(present / options.lifetime, rest_std=options.speed, **box),
        "survival": Survival(float(np.exp(-1 / options.lifetime)), **box),
        "initial": UniformBirth(present, rest_std=options.speed, **box),
    }


def rows(scans, recording: Recording) -> Detections:
    """Estimated positions of what a tracker reported, whether or not it was detected in the scan."""
    d = len(recording.detections.names)
    scan = np.repeat(np.arange(len(scans)), [len(t) for t in scans])
    joined = {
        name: np.concatenate([getattr(t, name) for t in scans]) for name in ("mean", "label", "existence")
    }
    return Detections.from_rows(
        recording.detections.time,
        scan,
        joined["mean"][:, :d],
        recording.detections.names,
        joined["existence"],
        {"id": joined["label"]},
    )


def score(found: dict[str, Detections], recordings: list[Recording]) -> dict[str, dict[str, Any]]:
    """GOSPA and HOTA, MOTA, IDF1 of points that match within the cut-off, by file."""
    return {r.name: _score(found[r.name], r) for r in recordings if r.truth is not None}


def truth(recording: Recording) -> Trajectories | None:
    """Positions of the objects by the column `id`, on straight lines between reports; None without one."""
    if recording.truth is None:
        return None
    reported = recording.truth.trajectories()
    states = np.stack([_bridged(reported.time, x) for x in reported.states])
    return Trajectories(reported.time, reported.label, states)


def cutoff(recording: Recording) -> float:
    """Of GOSPA, m."""
    position = np.zeros((1, recording.models["sensor"].dim_z))
    return CUTOFF * float(np.sqrt(recording.models["sensor"].noise(position)[0, 0]))


def _score(found, recording):
    objects, c = truth(recording), cutoff(recording)
    present = ~np.isnan(objects.states).any(axis=2)  # (n, T)
    scans = [(here, objects.states[here, k], found.rows(k)) for k, here in enumerate(present.T)]
    video = clear_identity_hota(
        [objects.label[here] for here, _, _ in scans],
        [found.extra["id"][mine] for _, _, mine in scans],
        [np.maximum(0, 1 - cdist(x, found.z[mine]) / (2 * c)) for _, x, mine in scans],
    )
    errors = [gospa(x, found.z[mine], c=c, p=1.0).total for _, x, mine in scans]
    return {**video_scores(video), "gospa": float(np.mean(errors)), "cutoff": c}


def _bridged(time, states):
    """States (T, d) of one object, on straight lines between its reports."""
    seen = np.flatnonzero(~np.isnan(states).any(axis=1))
    bridged = np.full_like(states, np.nan)
    alive = slice(seen[0], seen[-1] + 1)
    for i in range(states.shape[1]):
        bridged[alive, i] = np.interp(time[alive], time[seen], states[seen, i])
    return bridged


write = csv.write_detections
SUFFIX = ".csv"
NAME = "CSV"
UNIT = "m"
