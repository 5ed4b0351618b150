"""Many windows at once, where measurements are there as arrays and nothing is a stream."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tracking.checks import as_measurements
from tracking.mt3.limits import notice_untrained, require_few, rows_in_view
from tracking.mt3.model import Model
from tracking.mt3.objects import Objects
from tracking.mt3.tracker import MT3Config
from tracking.mt3.windows import Windows
from tracking.tracks import Tracks

BATCH = 16  # windows at once


def estimate(
    model: Model, windows: Iterable[Iterable], config: MT3Config | None = None, batch: int = BATCH
) -> list[Tracks]:
    """Objects at the last scan of each of many windows.

    A window gets what the tracker `MT3` reports after its scans, up to rounding; labels are of one window.

    Args:
        model:   a network, `load(name)`.
        windows: each at most `model.task.scans` scans, `model.task.dt` s apart, the last one last; a scan is
                 (m, d_z) measurements in any order, an empty one [] or None.
        config:  threshold, and what is done with measurements outside or with too many.
        batch:   windows at once; those of about as many measurements go together.
    Returns:
        Tracks of each window, at the time of its last scan, the first being at 0 s.
    Raises:
        ValueError: no scan or too many in a window, bad shape or value, measurements outside the field of
            view or too many; which window it was is said.
    Warns:
        UntrainedWarning: as the tracker, and which window it was.
    """
    config = MT3Config() if config is None else config
    _check(model, config, batch)
    parts = [_tokens(k, model, scans, config) for k, scans in enumerate(windows)]
    found = [Tracks.empty(part.time, 4) for part in parts]
    some = sorted((k for k, part in enumerate(parts) if len(part.z)), key=lambda k: len(parts[k].z))
    for first in range(0, len(some), batch):
        rows = some[first : first + batch]
        seen = Windows.of_measurements([parts[k].z for k in rows], [parts[k].age for k in rows], model.device)
        for k, objects in zip(rows, model.objects(seen)):
            expected = float(objects.existence.sum())
            notice_untrained(model.task, len(parts[k].z), expected, f"window {k}: ")
            objects = objects.above(config.threshold_of(model))
            label, source = np.arange(len(objects.mean)), parts[k].source[objects.token]
            found[k] = Tracks(parts[k].time, label, objects.mean, objects.cov, objects.existence, source)
    return found


def found_in(model: Model, windows: Windows, batch: int = BATCH) -> list[Objects]:
    """Objects of many windows, in batches of about equal length."""
    order = windows.real.sum(1).argsort()
    found: list[Objects] = [None] * len(windows)  # type: ignore[list-item]
    for k in range(0, len(windows), batch):
        rows = order[k : k + batch]
        for row, objects in zip(rows.tolist(), model.objects(windows.take(rows).trimmed(8))):
            found[row] = objects
    return found


class _Tokens(NamedTuple):
    """Of a window: measurements (n, d_z), the last scan first, and ages; rows of the last scan or -1; s."""

    z: np.ndarray
    age: np.ndarray
    source: np.ndarray
    time: float


def _tokens(number: int, model: Model, window: Iterable, config: MT3Config) -> _Tokens:
    task = model.task
    try:
        if window is None or isinstance(window, str | bytes) or not isinstance(window, Iterable):
            raise ValueError(f"a window is scans, the last one last, got {window!r:.40}")
        scans = list(window)
        if not 1 <= len(scans) <= task.scans:
            raise ValueError(f"{len(scans)} scans; accepted are 1 to {task.scans}, the last one last")
        z, age, source = [], [], []
        for k, scan in enumerate(reversed(scans)):
            scan = as_measurements(scan, task.sight.dim_z)
            rows = rows_in_view(task, scan, config.outside)
            z.append(scan[rows])
            age.append(np.full(len(rows), k))
            source.append(rows if k == 0 else np.full(len(rows), -1))
        require_few(sum(map(len, z)), len(scans), config.max_tokens)
    except ValueError as error:
        raise ValueError(f"window {number}: {error}") from None
    time = (len(scans) - 1) * task.dt
    return _Tokens(np.concatenate(z), np.concatenate(age), np.concatenate(source), time)


def _check(model, config, batch):
    if not isinstance(model, Model):
        raise ValueError(f"model must be a Model, as load(name) gives it, got {type(model).__name__}")
    if not isinstance(config, MT3Config):
        raise ValueError(f"config must be an MT3Config, got {type(config).__name__}")
    if not isinstance(batch, int | np.integer) or batch < 1:
        raise ValueError(f"batch must be a whole number of at least 1, got {batch!r}")
