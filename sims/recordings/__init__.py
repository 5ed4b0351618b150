"""Real recordings: what the trackers are told of them, how they run, and how they are scored.

A module a format (`kitti`, `mot`, `csv`) turns files into `Recording`s and scores what was tracked; `run`
tracks them. A recording is tracked online: nothing is decided with later frames.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracking.formats.detections import Detections
from tracking.models.score import ScoreModel


@dataclass(frozen=True)
class Recording:
    """A recorded sequence, ready for trackers.

    name:          of the sequence.
    detections:    what was recorded.
    truth:         labels, or None.
    models:        keyword arguments of every tracker: motion, sensor, birth, survival, ...
    clutter_ratio: (N,) evidence of the scores, as in `Tracker.step`, or None.
    class_model:   what the scores of a track say of its class, for `tracking.confidence`, or None.
    class_prior:   log odds that a track is of the class before its first score.
    gate:          squared Mahalanobis distance for every tracker.
    cls:           class of its objects, "" where there is only one.
    camera:        (3, 4) projection of a KITTI camera, or None.
    """

    name: str
    detections: Detections
    truth: Detections | None
    models: Mapping[str, Any]
    clutter_ratio: np.ndarray | None = None
    class_model: ScoreModel | None = None
    class_prior: float = 1.0
    gate: float = 20.0
    cls: str = ""
    camera: np.ndarray | None = None


def require_scans(detections: Detections, path) -> int:
    """How many scans the file has; ValueError if there is none."""
    if len(detections) == 0:
        raise ValueError(f"{path}: no rows; accepted is a file with at least one")
    return len(detections)
