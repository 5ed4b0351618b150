"""The `MT3` tracker: the door of the filters, behind it a network that sees the last scans at once.

The network answers anew at every scan and knows no labels; `tracking.mt3.linking` gives them.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch

from tracking.checks import as_measurements
from tracking.filters.settings import check_settings
from tracking.filters.tracker import elapsed
from tracking.mt3.geometry import Sight
from tracking.mt3.linking import Links, link
from tracking.mt3.model import Model, Task, load
from tracking.mt3.windows import Windows
from tracking.tracks import Tracks

OFF_STEP = 0.2  # of a step, that scans of one window may be off whole steps
MARGIN = 5.0  # standard deviations of the noise beyond the field of view that are still measurements of it


class UntrainedWarning(UserWarning):
    """A network sees what it was not trained for, and may lose objects."""


@dataclass(frozen=True, kw_only=True)
class MT3Config:
    """Settings of the MT3 tracker.

    threshold:  existence probability from which an object is reported; None: the one chosen with the weights.
    outside:    what measurements outside the field of view of the training do: "raise" or "drop".
    max_tokens: measurements of a window that are accepted.
    min_existence: answers of less existence probability do not carry a label on.
    gate:       squared Mahalanobis distance beyond which a label does not go on.
    memory:     scans for which a label without an answer is kept.
    """

    threshold: float | None = None
    outside: str = "raise"
    max_tokens: int = 4096
    min_existence: float = 0.1
    gate: float = 25.0
    memory: int = 5

    def __post_init__(self):
        check_settings(self, outside=("raise", "drop"))


@dataclass(frozen=True)
class MT3State:
    """The measurements of the last scans, and the labels.

    z:     (n, d_z) measurements, the oldest scan first.
    time:  (n,) s, of their scans.
    count: measurements since the start, of which these are the last n.
    links: what labels go on from.
    expected: expected number of objects after the last scan.
    """

    z: np.ndarray
    time: np.ndarray
    count: int
    links: Links
    expected: float

    @classmethod
    def none(cls, dim_z: int) -> "MT3State":
        """Before the first scan."""
        return cls(np.zeros((0, dim_z)), np.zeros(0), 0, Links.none(), 0.0)


class MT3:
    """Tracks with a trained network.

    Args:
        weights: name of shipped weights, a safetensors file, or a `Model`.
        config:  settings.
        device:  of the network.
    Raises:
        ValueError: no such weights.
    """

    Config = MT3Config

    def __init__(self, weights="mt3-task2", config: MT3Config | None = None, *, device="cpu"):
        self.model = weights if isinstance(weights, Model) else load(weights, device)
        self.config = MT3Config() if config is None else config
        if not isinstance(self.config, MT3Config):
            raise ValueError(f"config must be an MT3Config, got {type(config).__name__}")
        self.time: float | None = None
        self.state = MT3State.none(self.model.task.sight.dim_z)

    def step(self, z, time: float) -> Tracks:
        """Take in one scan.

        Args:
            z:    (m, d_z) measurements in any order; an empty scan may be [] or None.
            time: of the scan, s: a whole number of the steps that the weights were trained for after every
                  scan of the window, give or take a fifth of a step, so that a period that is a little wrong
                  does not add up unseen. Scans that are left out count as scans without measurements.
        Returns:
            Estimated objects after the scan.
        Raises:
            ValueError: bad shape or value, a time before the last one or off the step, measurements outside
                the field of view of the training (see `MT3Config.outside`), or too many in a window; the
                tracker is then unchanged.
        Warns:
            UntrainedWarning: more measurements in a window, or more objects, than in the training. Networks
                report hardly more objects than they have ever seen, whatever there is.
        """
        task = self.model.task
        z = as_measurements(z, task.sight.dim_z)
        rows = self._inside(z)
        z = z[rows]
        elapsed(self.time, time)
        at = np.append(self.state.time, np.full(len(z), float(time)))
        age = np.append(self._ages(float(time)), np.zeros(len(z), np.int64))
        z, at, age = (a[age < task.scans] for a in (np.append(self.state.z, z, axis=0), at, age))
        if len(z) > self.config.max_tokens:
            raise ValueError(
                f"{len(z)} measurements in {age[0] + 1} scans, accepted are {self.config.max_tokens} "
                "(MT3Config.max_tokens). Memory and time grow with the square."
            )
        count = self.state.count + len(rows)
        tracks, links, expected = self._answer(z, age, count - len(z), rows, float(time))
        notice_untrained(task, len(z), expected)
        self.state = MT3State(z, at, count, links, expected)
        self.time = float(time)
        return tracks

    @property
    def expected_number(self) -> float:
        """Expected number of objects after the last scan, reported or not."""
        return self.state.expected

    def save(self, path) -> None:
        """Write the whole state to a file, from which `load` or `restore` go on bit for bit.

        The network is not in it: it holds the name of its weights, if they are shipped, and a digest.

        Args:
            path: of the file; it is replaced at once or not at all.
        """
        from tracking.mt3.checkpoint import save  # which knows this class

        save(self, path)

    def restore(self, path) -> None:
        """Go on from a file that `save` wrote, with the network and settings of this tracker.

        Raises:
            ValueError: it is no whole state of such a tracker, or of another network; the tracker is then
                        unchanged.
            OSError:    the file is missing or cannot be read.
        """
        from tracking.mt3.checkpoint import restore

        restore(self, path)

    @classmethod
    def load(cls, path, weights=None, device="cpu", config: MT3Config | None = None) -> "MT3":
        """A new tracker that goes on from a file that `save` wrote.

        Args:
            path:    of the file; one from a stranger can neither run code nor take more memory than its size.
            weights: those that it was saved with, as above; None: shipped ones, by the name in the file.
            device:  of the network.
            config:  settings in place of those in the file.
        Raises:
            ValueError: it is no whole state of such a tracker, or the weights are not given, or others.
            OSError:    a file is missing or cannot be read.
        """
        from tracking.mt3.checkpoint import load

        return load(cls, path, weights, device, config)

    def _answer(self, z, age, first, rows, time):
        """Tracks, links and expected number; `first` is the number of the first measurement."""
        task, config = self.model.task, self.config
        if not len(z):
            _, links = link(self.state.links, *self._nothing(), time, config.gate, config.memory * task.dt)
            return Tracks.empty(time, 4), links, 0.0
        order = np.argsort(age, kind="stable")  # the network takes the newest scan first
        objects = self.model.objects(window(z[order], age[order], self.model.device))[0]
        expected = float(objects.existence.sum())
        objects = objects.above(config.min_existence)
        token = first + order[objects.token]
        label, links = link(
            self.state.links, objects.mean, objects.cov, token, time, config.gate, config.memory * task.dt
        )
        source = np.append(rows, -1)[np.minimum(objects.token, len(rows))]
        tracks = Tracks(time, label, objects.mean, objects.cov, objects.existence, source)
        threshold = self.model.reading.threshold if config.threshold is None else config.threshold
        return tracks.take(np.flatnonzero(objects.existence >= threshold)), links, expected

    def _nothing(self):
        return np.zeros((0, 4)), np.zeros((0, 4, 4)), np.zeros(0, np.int64)

    def _ages(self, time: float) -> np.ndarray:
        """How many steps of the training before this scan the measurements of the earlier ones were."""
        task = self.model.task
        last = [] if self.time is None else [self.time]  # which may have been without measurements
        passed = time - np.append(self.state.time, last)
        passed = np.minimum(passed / task.dt, task.scans)
        steps = np.rint(passed)
        bad = (steps < 1) | ((np.abs(passed - steps) > OFF_STEP) & (steps < task.scans))
        if bad.any():
            raise ValueError(
                f"scans must be a whole number of steps of {task.dt:g} s apart, for which the weights "
                f"'{task.name}' were trained, give or take {OFF_STEP:g} of one over {task.scans} scans of "
                f"a window; this one comes {task.dt * passed[bad][-1]:g} s after one of them"
            )
        return steps[: len(self.state.time)].astype(np.int64)

    def _inside(self, z):
        sight = self.model.task.sight
        inside = in_view(sight, z)
        if not inside.all() and self.config.outside == "raise":
            raise ValueError(
                f"measurement {z[~inside][0].tolist()} is outside the field of view that the weights "
                f"'{self.model.task.name}' were trained for, {sight.lower} to {sight.upper}. "
                "Drop such measurements with MT3Config(outside='drop'), or train for this field of view."
            )
        return np.flatnonzero(inside)


def notice_untrained(task: Task, measurements: int, expected: float) -> None:
    """Warn where a window has more measurements, or seems to have more objects, than any of the training."""
    for number, most, what in (
        (measurements, task.measurements, "measurements in a window"),
        (expected, task.objects, "objects"),
    ):
        if most is not None and number > most:
            warnings.warn(
                f"more {what} than the {most} that the weights '{task.name}' were trained with; objects may "
                "be lost. Train for more, or keep to a part of the scene.",
                UntrainedWarning,
                stacklevel=3,
            )


def in_view(sight: Sight, z: np.ndarray) -> np.ndarray:
    """Which of the measurements (n, d_z) lie in the field of view, or in the noise at its edge."""
    edge = MARGIN * np.array(sight.std)
    return np.all((z >= sight.lower - edge) & (z <= sight.upper + edge), axis=1)


def window(z: np.ndarray, age: np.ndarray, device="cpu") -> Windows:
    """A batch of one window of measurements (n, d_z), `age` (n,) scans before the last one."""
    n = len(z)
    return Windows(
        torch.as_tensor(z, dtype=torch.float32, device=device)[None],
        torch.as_tensor(age, device=device)[None],
        torch.ones(1, n, dtype=torch.bool, device=device),
        torch.full((1, n), -1, device=device),
        torch.zeros(1, n, 4, device=device),
        torch.zeros(1, 1, 4, device=device),
        torch.zeros(1, 1, dtype=torch.bool, device=device),
    )
