"""MOTChallenge sequences: models for the boxes of a detector in an image.

The state is the box (x, y, width, height) and its rate of change. People near the camera are tall and move
fast in the image, so all noise is in units of the height of the box. The numbers below are round ones, chosen
on TUD-Campus with two detectors.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sims.recordings import Recording, require_scans
from sims.recordings.names import distinct_names
from sims.recordings.scores import video_scores, with_all
from tracking.formats import mot
from tracking.formats.detections import Detections
from tracking.metrics import box_iou, clear_identity_hota, combine
from tracking.models import ConstantVelocity, Occlusion, PositionSensor, Survival, UniformBirth
from tracking.models.score import ScoreModel
from tracking.tracks import Trajectories

ACCELERATION = 0.3  # of the box centre, in heights and s: spectral density of white noise, 1/s^3
GROWTH = 0.01  # of width and height, likewise
NOISE = (0.1, 0.05, 0.15, 0.1)  # of x, y, width, height, in heights
SPEED = 0.1  # of a new object, in image widths per s
BIRTHS, INITIAL = 0.1, 5.0  # expected objects per s, and in the first frame
CLUTTER = 0.5  # per frame
OUTLIVES = 0.9  # probability to stay for another second
SCORE = ScoreModel(slope=1.0, neutral=2.0, bound=4.0)  # of the log odds of the confidence


@dataclass(frozen=True)
class BoxMotion(ConstantVelocity):
    """Constant velocity of (x, y, width, height), its noise in units of the height of the box."""

    dims: int = 4

    def noise(self, x, dt):
        """Process noise Q (n, 8, 8)."""
        return super().noise(x, dt) * np.maximum(x[:, 3], 1.0)[:, None, None] ** 2


@dataclass(frozen=True)
class _Noise:
    """Covariance of a measured box, in units of its height."""

    def __call__(self, x):
        return np.diag(NOISE) ** 2 * np.maximum(x[:, 3], 1.0)[:, None, None] ** 2


def models(width: float, height: float) -> dict:
    """Models for boxes in an image of this size, px."""
    box = {"lower": (0.0, 0.0, 0.0, 0.0), "upper": (width, height, width / 2, height)}
    speed = (SPEED * width, SPEED * width / 2, SPEED * width / 3, SPEED * width / 3)
    return {
        "motion": BoxMotion(q=(ACCELERATION, ACCELERATION / 4, GROWTH, GROWTH)),
        "sensor": PositionSensor(
            dims=4, cov=_Noise(), p_detect=0.9, clutter_intensity=CLUTTER / float(np.prod(box["upper"]))
        ),
        "birth": UniformBirth(BIRTHS, rest_std=speed, **box),
        "survival": Survival(OUTLIVES, (0.0, 0.0), (width, height)),
        "initial": UniformBirth(INITIAL, rest_std=speed, **box),
        "occlusion": Occlusion(hide=0.3, show=1.5),
    }


def load(paths, frame_rate: float, labels=None) -> list[Recording]:
    """Recordings of detection files, in MOTChallenge's columns or as frame, x1, y1, x2, y2, score.

    Args:
        paths:      files.
        frame_rate: Hz.
        labels:     ground truth file, for a single recording; None: none.
    Raises:
        ValueError: `path:line: what came; what is accepted`, a file without rows, or two of one name.
    """
    files = list(map(Path, paths))
    return [_recording(file, name, frame_rate, labels) for file, name in zip(files, distinct_names(files))]


def _recording(path, name, frame_rate, labels):
    truth = mot.read_truth(labels, frame_rate, point="box") if labels else None
    n_frames = require_scans(truth, labels) if truth is not None else None
    detections = mot.read_any(path, frame_rate, n_frames, "box")
    require_scans(detections, path)
    right, bottom = detections.extra["box"][:, 2:].max(axis=0, initial=1.0)
    confidence = np.clip(detections.score, 1e-3, 1 - 1e-3)
    ratio = SCORE.clutter_ratio(np.log(confidence / (1 - confidence)))
    return Recording(name, detections, truth, models(right, bottom), ratio)


def rows(scans, recording: Recording) -> Detections:
    """MOT result rows of what a tracker reported and a detection in the frame confirms, its own box."""
    return mot.estimated(mot.results(scans, recording.detections, max_coast=0))


def truth(recording: Recording) -> Trajectories | None:
    """Boxes of the labelled objects (x, y, width, height), px; None without labels."""
    return None if recording.truth is None else recording.truth.trajectories()


def cutoff(_: Recording) -> None:
    """Boxes are scored by their overlap, not by GOSPA."""


def score(found: dict[str, Detections], recordings: list[Recording]) -> dict[str, dict[str, Any]]:
    """HOTA, MOTA, IDF1 and identity switches at an overlap of 0.5, by sequence and of all."""
    scores = {}
    for recording in recordings:
        mine, truth = found[recording.name], recording.truth
        if truth is None:
            continue
        frames = [(truth.rows(k), mine.rows(k)) for k in range(len(truth))]
        scores[recording.name] = clear_identity_hota(
            [truth.extra["id"][t] for t, _ in frames],
            [mine.extra["id"][m] for _, m in frames],
            [box_iou(truth.extra["box"][t], mine.extra["box"][m]) for t, m in frames],
        )
    return with_all(
        {name: video_scores(s) for name, s in scores.items()}, lambda: video_scores(combine(scores.values()))
    )


write = mot.write_results
SUFFIX = ".txt"
NAME = "MOTChallenge"
UNIT = "px"
