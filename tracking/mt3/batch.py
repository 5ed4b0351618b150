"""Many windows at once, where measurements are there as arrays and nothing is a stream."""

from collections.abc import Sequence

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
    model: Model, windows: Sequence[Sequence], config: MT3Config | None = None, batch: int = BATCH
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
        UntrainedWarning: as the tracker.
    """
    config = MT3Config() if config is None else config
    task = model.task
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch!r}")
    parts = []
    for k, scans in enumerate(windows):
        try:
            parts.append(_tokens(model, scans, config))
        except ValueError as error:
            raise ValueError(f"window {k}: {error}") from None
    threshold = model.reading.threshold if config.threshold is None else config.threshold
    found = [Tracks.empty((len(scans) - 1) * task.dt, 4) for scans in windows]
    some = [k for k, (z, _, _) in enumerate(parts) if len(z)]
    if not some:
        return found
    z, age, source = zip(*(parts[k] for k in some))
    objects_of = found_in(model, Windows.of_measurements(z, age, model.device), batch)
    for k, objects, rows in zip(some, objects_of, source):
        notice_untrained(task, len(rows), float(objects.existence.sum()))
        objects = objects.above(threshold)
        label, rows = np.arange(len(objects.mean)), rows[objects.token]
        found[k] = Tracks(found[k].time, label, objects.mean, objects.cov, objects.existence, rows)
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


def _tokens(model: Model, scans: Sequence, config: MT3Config):
    """Measurements (n, d_z) of a window, the last scan first; their ages, and rows of the last scan or -1."""
    task = model.task
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
    return np.concatenate(z), np.concatenate(age), np.concatenate(source)
