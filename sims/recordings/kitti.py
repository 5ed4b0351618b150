"""KITTI tracking sequences: models for the detections of a 3-D detector, seen from a moving car.

The state is the position in the ground plane of the camera, (x, z), and its velocity; there is no odometry,
so the motion of the camera is part of that of every object. Detection probability, noise and what a score
means depend on the distance; detections fail in runs (occlusion); objects leave through the sides of the
view; and false objects persist, so all scores of a track decide what it is (`tracking.confidence`).

The numbers are statistics of PointRCNN detections against the labels of ten training sequences, smoothed over
distance; slope and neutral scores, process noise and occlusion rates were chosen on the same ten.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sims.recordings import Recording, require_scans
from sims.recordings.names import distinct_names
from sims.recordings.scores import video_scores, with_all
from tracking.formats import kitti
from tracking.formats.detections import Detections
from tracking.metrics import combine, combine_ground, gospa, kitti_2d, kitti_ground
from tracking.models import ConstantVelocity, Occlusion, PositionSensor, Survival, UniformBirth
from tracking.models.score import ScoreModel
from tracking.tracks import Trajectories

FRAME_RATE = kitti.FRAME_RATE
GOSPA_CUTOFF = 4.0  # m
HALF_VIEW = np.deg2rad(40.5)  # of the colour camera
LOWER, UPPER = (-45.0, 0.0), (45.0, 80.0)  # m, contains the view up to where detectors see
VIEW_SHARE = HALF_VIEW * 70.0**2 / np.prod(np.subtract(UPPER, LOWER))  # of that box
RANGES = (5.0, 15.0, 25.0, 35.0, 45.0, 55.0, 65.0, 75.0)  # m


@dataclass(frozen=True)
class Settings:
    """What is known of a class and its detector.

    p_detect:     at RANGES, of an object in view that is not hidden.
    score:        what a score says of one detection.
    class_model:  what the scores of a track say of its class.
    class_prior:  log odds that a track is of the class before its first score.
    noise_std:    (x, z) of the position, m at the camera; grows by 1 / 40 of itself per m.
    q:            white acceleration, m^2/s^3; the turning camera is in it.
    velocity_std: (x, z) of a new object, m/s.
    births, initial: expected objects per frame, and in the first one.
    clutter:      expected clutter per frame.
    """

    p_detect: tuple[float, ...]
    score: ScoreModel
    class_model: ScoreModel
    noise_std: tuple[float, float]
    q: float
    velocity_std: tuple[float, float]
    births: float
    initial: float
    clutter: float
    class_prior: float = 1.0
    survival: float = 0.978  # per frame
    occlusion: Occlusion = field(default_factory=lambda: Occlusion(hide=0.2, show=2.7))


SETTINGS = {
    "Car": Settings(
        p_detect=(0.96, 0.97, 0.955, 0.93, 0.875, 0.75, 0.5, 0.2),
        score=ScoreModel(2.0, (5.9, 6.1, 5.4, 4.3, 2.9, 2.1, 1.7, 1.6), RANGES),
        class_model=ScoreModel(2.0, (4.4, 4.6, 3.9, 2.8, 1.4, 0.6, 0.2, 0.1), RANGES),
        noise_std=(0.07, 0.14),
        q=12.0,
        velocity_std=(5.0, 10.0),
        births=0.087,
        initial=4.3,
        clutter=3.0,
    ),
    "Pedestrian": Settings(
        p_detect=(0.95, 0.92, 0.7, 0.45, 0.3, 0.2, 0.1, 0.1),
        # Near the camera poles and cyclists score as high as pedestrians do far away.
        score=ScoreModel(1.5, (2.8, 1.2), (10.0, 30.0)),
        class_model=ScoreModel(2.0, (3.4, 1.0), (10.0, 30.0)),
        class_prior=-2.0,  # most objects that persist are none
        noise_std=(0.06, 0.09),
        q=4.0,
        velocity_std=(3.0, 5.0),
        births=0.03,
        initial=1.0,
        clutter=1.2,
        occlusion=Occlusion(hide=0.2, show=1.0),  # they walk behind others for a second
    ),
    "Cyclist": Settings(
        p_detect=(0.95, 0.92, 0.85, 0.7, 0.5, 0.3, 0.1, 0.1),
        score=ScoreModel(2.0, 3.0),
        class_model=ScoreModel(2.0, 3.0),
        noise_std=(0.07, 0.12),
        q=8.0,
        velocity_std=(4.0, 8.0),
        births=0.01,
        initial=0.3,
        clutter=0.5,
    ),
}


def models(settings: Settings) -> dict:
    """Models of a class for every tracker."""
    per_second = {"rest_std": settings.velocity_std, "lower": LOWER, "upper": UPPER}
    return {
        "motion": ConstantVelocity(dims=2, q=settings.q),
        "sensor": PositionSensor(
            dims=2,
            cov=_Noise(settings.noise_std),
            p_detect=_InView(settings.p_detect),
            clutter_intensity=settings.clutter / (HALF_VIEW * 70.0**2),
        ),
        "birth": UniformBirth(settings.births * FRAME_RATE / VIEW_SHARE, **per_second),
        "survival": Survival(_Stays(settings.survival**FRAME_RATE)),
        "initial": UniformBirth(settings.initial / VIEW_SHARE, **per_second),
        "occlusion": settings.occlusion,
    }


@dataclass(frozen=True)
class _Noise:
    """Covariance of a position, growing with distance."""

    std: tuple[float, float]

    def __call__(self, x):
        scale = 1 + np.hypot(x[:, 0], x[:, 1]) / 40
        return (scale[:, None, None] * np.diag(self.std)) ** 2


@dataclass(frozen=True)
class _InView:
    """Detection probability by distance, falling to nothing within a degree of the edge of the view."""

    p: tuple[float, ...]

    def __call__(self, x):
        p = np.interp(np.hypot(x[:, 0], x[:, 1]), RANGES, self.p)
        beyond = np.abs(np.arctan2(x[:, 0], x[:, 1])) - HALF_VIEW
        return np.clip(p / (1 + np.exp(np.clip(beyond / np.deg2rad(1.0), -50, 50))), 1e-4, 0.99)


@dataclass(frozen=True)
class _Stays:
    """Survival per second; an object out of view is soon forgotten."""

    p: float
    outside: float = 0.3**FRAME_RATE

    def __call__(self, x):
        gone = np.abs(np.arctan2(x[:, 0], x[:, 1])) > HALF_VIEW + np.deg2rad(4.5)
        return np.where(gone, self.outside, self.p)


def load(paths, cls: str, labels=None) -> list[Recording]:
    """Recordings of detection files, of folders of them, or of a KITTI folder.

    Args:
        paths:  files `NNNN.txt`; a folder of such files; or a folder that holds `detection/*_CLASS_*/`,
                and `label_02/` and `calib/` if they are to be used.
        cls:    "Car", "Pedestrian" or "Cyclist".
        labels: folder with a label file for each of them; None: `label_02` beside the detections, and
                what there is in it.
    Raises:
        ValueError: an unknown class, no files, two of one name, missing labels, a calibration without P2,
                    or something wrong in a file.
        OSError: a file cannot be read.
    """
    if cls not in SETTINGS:
        raise ValueError(f"class must be one of {', '.join(SETTINGS)}, got {cls!r}")
    files, root = _files(paths, cls)
    names = distinct_names(files)
    if labels is not None:
        labels = Path(labels)
        _require_labels(labels, files)
    elif root and (root / "label_02").is_dir():
        labels = root / "label_02"
    shared = models(SETTINGS[cls])
    calibrations = root / "calib" if root else None
    return [
        replace(_recording(file, cls, labels, calibrations, shared), name=name)
        for file, name in zip(files, names)
    ]


def _require_labels(folder, files):
    if not folder.is_dir():
        raise ValueError(f"--labels {folder}: no such folder; kitti accepts a folder of label files NNNN.txt")
    missing = [file.name for file in files if not (folder / file.name).is_file()]
    if missing:
        raise ValueError(
            f"--labels {folder}: no labels {', '.join(missing)}; accepted is a file for each recording"
        )


def _files(paths, cls):
    files: list[Path] = []
    root = None
    for path in map(Path, paths):
        if not path.exists():
            raise ValueError(f"{path}: no such file or folder")
        if (path / "detection").is_dir():
            root = path
            folders = sorted(p for p in (path / "detection").iterdir() if f"_{cls}_" in p.name)
            if len(folders) != 1:
                names = [p.name for p in folders]
                raise ValueError(
                    f"{path / 'detection'}: {len(folders)} folders *_{cls}_*, expected one {names}"
                )
            path = folders[0]
        if root is None:  # .../detection/NAME/NNNN.txt
            folder = path if path.is_dir() else path.parent
            root = folder.parent.parent if folder.parent.name == "detection" else None
        files += sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"no detection files *.txt in {', '.join(map(str, paths))}")
    return files, root


def _recording(file, cls, labels, calibrations, shared):
    truth, n_frames = None, None
    if labels is not None and (labels / file.name).is_file():
        truth = kitti.read_labels(labels / file.name)
        n_frames = len(truth)
    detections = kitti.read_detections(file, n_frames=n_frames)
    detections = detections.select(detections.extra["class"] == cls)
    camera = None
    if calibrations is not None and (calibrations / file.name).is_file():
        camera = _projection(calibrations / file.name)
    require_scans(detections, file)
    distance = np.hypot(*detections.z.T)
    ratio = SETTINGS[cls].score.clutter_ratio(detections.score, distance)
    return Recording(
        file.stem,
        detections,
        truth,
        shared,
        ratio,
        SETTINGS[cls].class_model,
        SETTINGS[cls].class_prior,
        cls=cls,
        camera=camera,
    )


def _projection(path):
    matrices = kitti.read_calibration(path)
    if "P2" not in matrices:
        raise ValueError(
            f"{path}: no matrix P2, only {', '.join(matrices) or 'an empty file'}; "
            "accepted is a calibration of the colour camera"
        )
    return matrices["P2"]


def rows(scans, recording: Recording) -> Detections:
    """KITTI result rows of what a tracker reported and a detection in the frame confirms, with its box."""
    return kitti.results(scans, recording.detections, max_coast=0, camera=recording.camera)


def truth(recording: Recording) -> Trajectories | None:
    """Positions of the labelled objects of the class in the ground plane; None without labels."""
    if recording.truth is None:
        return None
    return recording.truth.select(recording.truth.extra["class"] == recording.cls).trajectories()


def cutoff(_: Recording) -> float:
    """Of GOSPA, m."""
    return GOSPA_CUTOFF


def score(found: dict[str, Detections], recordings: list[Recording]) -> dict[str, dict[str, Any]]:
    """Box scores of the benchmark, and GOSPA (c = 4 m, p = 1) in the ground plane and in space."""
    labels = {r.name: r.truth for r in recordings if r.truth is not None}
    if not labels:
        return {}
    found = {name: found[name] for name in labels}
    cls = recordings[0].cls
    ground = kitti_ground(found, labels, cls, c=GOSPA_CUTOFF)
    boxes = kitti_2d(found, labels, cls) if cls != "Cyclist" else {}
    space = {name: _space(found[name], labels[name], cls) for name in labels}
    scores = {
        name: {
            **(video_scores(boxes[name]) if boxes else {}),
            "gospa": ground[name].gospa,
            "gospa_dc": ground[name].gospa_dc,
            "gospa_3d": float(space[name].mean()),
        }
        for name in labels
    }
    overall = combine_ground(ground.values())
    return with_all(
        scores,
        lambda: {
            **(video_scores(combine(boxes.values())) if boxes else {}),
            "gospa": overall.gospa,
            "gospa_dc": overall.gospa_dc,
            "gospa_3d": float(np.concatenate(list(space.values())).mean()),
        },
    )


def _space(found, labels, cls):
    """GOSPA of positions in space in every frame, (T,)."""
    truth = labels.select(labels.extra["class"] == cls)
    position, true = found.extra["position"], truth.extra["position"]
    frames = [(true[truth.rows(k)], position[found.rows(k)]) for k in range(len(truth))]
    return np.array([gospa(x, y, c=GOSPA_CUTOFF, p=1.0).total for x, y in frames])


write = kitti.write_results
SUFFIX = ".txt"
NAME = "KITTI"
UNIT = "m"
