"""The `MT3` tracker: the door of the filters, behind it a network that sees the last scans at once.

The network answers anew at every scan and knows no labels; `tracking.mt3.linking` gives them.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from tracking.checks import as_measurements
from tracking.filters.settings import check_settings
from tracking.filters.tracker import elapsed
from tracking.mt3.limits import OFF_STEP, notice_untrained, require_few, rows_in_view, steps_of
from tracking.mt3.linking import Links, link
from tracking.mt3.model import Model, check_device, load
from tracking.mt3.windows import Windows
from tracking.tracks import Tracks


@dataclass(frozen=True, kw_only=True)
class MT3Config:
    """Settings of the MT3 tracker.

    threshold:  existence probability from which an object is reported; None: the one chosen with the weights.
    outside:    what measurements outside the field of view of the training do: "raise" or "drop".
    max_tokens: measurements of a window that are accepted.
    gate:       squared Mahalanobis distance beyond which a label does not go on.
    memory:     scans for which a label without an answer is kept; not counted are those observed alone.

    Labels go on from reported objects alone: those that are not would carry them away.
    """

    threshold: float | None = None
    outside: str = "raise"
    max_tokens: int = 4096
    gate: float = 9.0
    memory: int = 5

    def __post_init__(self):
        check_settings(self, outside=("raise", "drop"))

    def threshold_of(self, model: Model) -> float:
        """The threshold, of the model where none is set."""
        return model.reading.threshold if self.threshold is None else self.threshold


@dataclass(frozen=True)
class MT3State:
    """The measurements of the last scans, and the labels.

    z:     (n, d_z) measurements, the oldest scan first.
    time:  (n,) s, of their scans.
    count: measurements since the start, of which these are the last n.
    links: what labels go on from.
    expected: expected number of objects after the last scan that was answered.
    observed: s of scans since then that were observed alone.
    """

    z: np.ndarray
    time: np.ndarray
    count: int
    links: Links
    expected: float
    observed: float

    @classmethod
    def none(cls, dim_z: int) -> "MT3State":
        """Before the first scan."""
        return cls(np.zeros((0, dim_z)), np.zeros(0), 0, Links.none(), 0.0, 0.0)


class MT3:
    """Tracks with a trained network.

    Args:
        weights: name of shipped weights, a safetensors file, or a `Model`.
        config:  settings.
        device:  of the network; None: of the `Model`, else the CPU.
    Raises:
        ValueError: no such weights, or device.
        OSError:    the file is missing or cannot be read.
    """

    Config = MT3Config

    def __init__(self, weights="mt3-task2", config: MT3Config | None = None, *, device=None):
        self.model = weights if isinstance(weights, Model) else load(weights, device or "cpu")
        if device is not None:
            check_device(device)
            if torch.device(device) not in (self.model.device, torch.device(self.model.device.type)):
                raise ValueError(f"the model is on {self.model.device}, not on {device}: load it there")
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
            UntrainedWarning: more measurements in a window than the most of 2,000 windows of the training's
                task, or nearly as many objects. Of a crowd a network expects too few.
        """
        z, at, age, rows = self._window(z, time)
        count = self.state.count + len(rows)
        tracks, links, expected = self._answer(z, age, count - len(z), rows, float(time))
        notice_untrained(self.model.task, len(z), expected)
        self.state = MT3State(z, at, count, links, expected, 0.0)
        self.time = float(time)
        return tracks

    def observe(self, z, time: float) -> None:
        """Take in one scan and say nothing, where objects are asked for less often than there are scans.

        The next scan that is stepped through is answered as if all had been, but for labels, which go on from
        the answer before. It costs a hundredth of a step. Arguments and errors as of `step`.
        """
        z, at, _, rows = self._window(z, time)
        count, observed = self.state.count + len(rows), self.state.observed + self.model.task.dt
        self.state = replace(self.state, z=z, time=at, count=count, observed=observed)
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
    def load(cls, path, weights=None, device=None, config: MT3Config | None = None) -> "MT3":
        """A new tracker that goes on from a file that `save` wrote.

        Args:
            path:    of the file; one from a stranger can neither run code nor take more memory than its size.
            weights: those that it was saved with, as above; None: shipped ones, by the name in the file.
            device:  of the network, as above.
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
        memory = config.memory * task.dt + self.state.observed
        if not len(z):
            _, links = link(self.state.links, *self._nothing(), time, config.gate, memory)
            return Tracks.empty(time, 4), links, 0.0
        order = np.argsort(age, kind="stable")  # the network takes the newest scan first
        objects = self.model.objects(Windows.of_measurements([z[order]], [age[order]], self.model.device))[0]
        expected = float(objects.existence.sum())
        objects = objects.above(config.threshold_of(self.model))
        token = first + order[objects.token]
        label, links = link(self.state.links, objects.mean, objects.cov, token, time, config.gate, memory)
        source = np.append(rows, -1)[np.minimum(objects.token, len(rows))]
        return Tracks(time, label, objects.mean, objects.cov, objects.existence, source), links, expected

    def _nothing(self):
        return np.zeros((0, 4)), np.zeros((0, 4, 4)), np.zeros(0, np.int64)

    def _ages(self, time: float) -> np.ndarray:
        """How many steps of the training before this scan the measurements of the earlier ones were."""
        task = self.model.task
        last = [] if self.time is None else [self.time]  # which may have been without measurements
        passed = time - np.append(self.state.time, last)
        steps, bad = steps_of(task, passed)
        if bad.any():
            raise ValueError(
                f"scans must be a whole number of steps of {task.dt:g} s apart, for which the weights "
                f"'{task.name}' were trained, give or take {OFF_STEP:g} of one over {task.scans} scans of a "
                f"window; this one comes {passed[bad][-1]:g} s after one of them"
            )
        return steps[: len(self.state.time)]
