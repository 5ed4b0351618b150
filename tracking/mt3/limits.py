"""What a network may be asked: measurements like those of its training, and no more of them."""

import warnings

import numpy as np

from tracking.mt3.geometry import Sight
from tracking.mt3.model import Task

MARGIN = 5.0  # standard deviations of the noise beyond the field of view that are still measurements of it
OFF_STEP = 0.2  # of a step, that scans of one window may be off whole steps
NEARLY = 0.8  # times the most objects, where what a network expects of a crowd levels off


class UntrainedWarning(UserWarning):
    """A network sees what it was not trained for, and may lose objects."""


def in_view(sight: Sight, z: np.ndarray) -> np.ndarray:
    """Which of the measurements (n, d_z) lie in the field of view, or in the noise at its edge."""
    edge = MARGIN * np.array(sight.std)
    return np.all((z >= sight.lower - edge) & (z <= sight.upper + edge), axis=1)


def rows_in_view(task: Task, z: np.ndarray, outside: str) -> np.ndarray:
    """Rows of the measurements (n, d_z) that a network of the task may see.

    Raises:
        ValueError: one is outside the field of view, and `outside` is "raise", not "drop".
    """
    inside = in_view(task.sight, z)
    if not inside.all() and outside == "raise":
        raise ValueError(
            f"measurement {z[~inside][0].tolist()} is outside the field of view that the weights "
            f"'{task.name}' were trained for, {task.sight.lower} to {task.sight.upper}. "
            "Drop such measurements with MT3Config(outside='drop'), or train for this field of view."
        )
    return np.flatnonzero(inside)


def require_few(measurements: int, scans: int, most: int) -> None:
    """Raise ValueError for a window of more than `most` measurements."""
    if measurements > most:
        raise ValueError(
            f"{measurements} measurements in {scans} scans, accepted are {most} (MT3Config.max_tokens). "
            "Memory and time grow with the square."
        )


def steps_of(task: Task, passed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole steps (n,) int64 of the training between scans that are `passed` (n,) s apart.

    Returns:
        The steps, at most those of a window, and which of them are none: less than one, or off by too much
        within a window.
    """
    passed = np.minimum(np.asarray(passed) / task.dt, task.scans)
    steps = np.rint(passed)
    bad = (steps < 1) | ((np.abs(passed - steps) > OFF_STEP) & (steps < task.scans))
    return steps.astype(np.int64), bad


def notice_untrained(task: Task, measurements: int, expected: float, where: str = "") -> None:
    """Warn of more measurements in a window, or nearly as many objects, than the most of 2,000 windows.

    In a crowd a network expects too few objects: what it says levels off below the most that it has seen. So
    neither sign is sure, and a window of its own task shows one now and then.

    Args:
        task:         of the network.
        measurements: of the window.
        expected:     number of objects that the network expects.
        where:        which window, where there are many.
    """
    said = None
    if task.measurements is not None and measurements > task.measurements:
        said = f"more measurements in a window than {task.measurements}"
    elif task.objects is not None and expected > NEARLY * task.objects:
        said = f"nearly {task.objects} objects"
    if said is not None:
        warnings.warn(
            f"{where}{said}, the most of 2,000 windows of the task '{task.name}' that the weights were made "
            "for: objects may be lost. Train for more, or keep to a part of the scene.",
            UntrainedWarning,
            stacklevel=3,
        )
