"""The `MT3` tracker: the door of the filters, behind it a network that sees the last scans at once.

The network answers anew at every scan and knows no labels; `tracking.mt3.linking` gives them.
"""

from dataclasses import dataclass

import numpy as np

from tracking.checks import as_measurements
from tracking.filters.settings import check_settings
from tracking.filters.tracker import elapsed
from tracking.mt3.limits import notice_untrained, require_few, rows_in_view
from tracking.mt3.linking import Links, link
from tracking.mt3.model import Model, load
from tracking.mt3.windows import Windows
from tracking.tracks import Tracks

OFF_STEP = 0.2  # of a step, that scans of one window may be off whole steps


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
    expected: expected number of objects after the last scan that was answered.
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
        z, at, age, rows = self._window(z, time)
        count = self.state.count + len(rows)
        tracks, links, expected = self._answer(z, age, count - len(z), rows, float(time))
        notice_untrained(self.model.task, len(z), expected)
        self.state = MT3State(z, at, count, links, expected)
        self.time = float(time)
        return tracks

    def observe(self, z, time: float) -> None:
        """Take in one scan and say nothing, where objects are asked for less often than there are scans.

        A scan that is stepped through later is answered as if all had been, but for labels, which go on from
        the last answer. It costs next to nothing. Arguments and errors as of `step`.
        """
        z, at, _, rows = self._window(z, time)
        expected = min(self.state.expected, float(len(z)))
        self.state = MT3State(z, at, self.state.count + len(rows), self.state.links, expected)
        self.time = float(time)

    def _window(self, z, time):
        """Measurements with this scan, their times and ages; rows of this scan that are among them."""
        task = self.model.task
        z = as_measurements(z, task.sight.dim_z)
        rows = rows_in_view(task, z, self.config.outside)
        z = z[rows]
        elapsed(self.time, time)
        at = np.append(self.state.time, np.full(len(z), float(time)))
        age = np.append(self._ages(float(time)), np.zeros(len(z), np.int64))
        z, at, age = (a[age < task.scans] for a in (np.append(self.state.z, z, axis=0), at, age))
        require_few(len(z), int(age.max(initial=0)) + 1, self.config.max_tokens)
        return z, at, age, rows

    @property
    def expected_number(self) -> float:
        """Expected number of objects after the last scan that was answered, reported or not."""
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
        objects = self.model.objects(Windows.of_measurements([z[order]], [age[order]], self.model.device))[0]
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
