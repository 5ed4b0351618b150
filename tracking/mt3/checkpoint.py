"""The state of MT3 in a file, as of `tracking.checkpoint`, without the network.

    tracker.save("night.tracker")
    tracker = MT3.load("night.tracker")                              # shipped weights, named in the file
    tracker = MT3.load("night.tracker", weights="mine.safetensors")  # others are given again

The file holds a digest of the network and no path: no stream goes on with another network unnoticed.
"""

from pathlib import Path

import numpy as np

from tracking.checkpoint import KIND, VERSION, expecting, flatten, read_state, unflattened
from tracking.filters.sound import (
    MAX_LABEL,
    require_column,
    require_gaussians,
    require_labels,
    require_whole,
)
from tracking.filters.tracker import MAX_TIME, elapsed
from tracking.formats.arrays import write_arrays
from tracking.models.document import LARGEST, describe_fields, revive_settings
from tracking.mt3.limits import in_view, steps_of
from tracking.mt3.model import Task, shipped
from tracking.mt3.tracker import MT3, MT3Config, MT3State

NAME = "MT3"


def save(tracker: MT3, path: str | Path) -> None:
    """Write the whole state of a tracker to a file, which appears complete or not at all."""
    document = {
        "version": VERSION,
        "filter": NAME,
        "time": tracker.time,
        "config": describe_fields(tracker.config),
        "weights": tracker.model.name,
        "digest": tracker.model.digest(),
    }
    arrays: dict[str, np.ndarray] = {}
    if tracker.time is not None:
        require_sound(tracker.state, tracker.time, tracker.model.task)
        arrays = flatten(tracker.state)
    write_arrays(path, KIND, document, arrays)


def load(kind: type[MT3], path: str | Path, weights, device, config: MT3Config | None) -> MT3:
    """A new tracker from a file.

    Args:
        kind:    class of the tracker.
        path:    of the file.
        weights, device, config: as of the class; None: those of the file.
    Raises:
        ValueError: the file is no whole state of MT3, or of other weights.
        OSError:    a file is missing or cannot be read.
    """
    document, arrays = read_state(path, NAME)
    if weights is None:
        weights = document.get("weights")
        if weights not in shipped():
            raise ValueError(
                f"{path} does not hold the weights, and names none that are shipped. Give them: {_REMEDY}"
            )
    if config is None:
        with expecting(path, NAME):
            config = revive_settings(MT3Config, document["config"])
    tracker = kind(weights, config, device=device)
    _resume(tracker, document, arrays, path)
    return tracker


def restore(tracker: MT3, path: str | Path) -> None:
    """Go on from the state in a file, with the network and settings that the tracker has.

    Raises:
        ValueError: the file is no whole state of MT3, or of other weights. The tracker is then unchanged.
        OSError:    the file is missing or cannot be read.
    """
    _resume(tracker, *read_state(path, NAME), path)


def require_sound(state: MT3State, time: float, task: Task) -> None:
    """Raise ValueError unless a state is one that a tracker of this task can have at this time."""
    _require_window(state, time, task)
    links, k = state.links, len(np.atleast_1d(state.links.label))
    require_labels(links.label, k, links.next_label)
    require_gaussians("links", links.mean, links.cov, k, 4)
    if max(np.abs(a).max(initial=0.0) for a in (links.mean, links.cov)) > LARGEST:
        raise ValueError(f"links must be of numbers up to {LARGEST:g}")
    require_whole("links.token", links.token, k, 0, state.count - 1)
    require_column("links.time", links.time, k, -MAX_TIME, time)


def _require_window(state, time: float, task: Task):
    sight = task.sight
    z, n = state.z, len(np.atleast_1d(state.time))
    if z.dtype != float or z.shape != (n, sight.dim_z) or not in_view(sight, z).all():
        raise ValueError(f"z must be {n} measurements in the field of view of the weights")
    require_column("time", state.time, n, time - task.dt * task.scans, time)
    scans = np.unique(np.append(state.time, time))
    if (np.diff(state.time) < 0).any() or len(scans) > task.scans + 1:
        raise ValueError(f"times must rise, the oldest first, and be of at most {task.scans} scans")
    apart = scans[:, None] - scans
    if steps_of(task, apart[np.tril_indices(len(scans), -1)])[1].any():
        raise ValueError("times must be whole steps of the training apart")
    if not n <= state.count <= MAX_LABEL:
        raise ValueError(f"count must lie in [{n}, 2^45], got {state.count}")
    for name, value, most in (
        ("expected", state.expected, state.count),
        ("observed", state.observed, MAX_TIME),
    ):
        if not 0 <= value <= most:
            raise ValueError(f"{name} must lie in [0, {most:g}], got {value}")


def _resume(tracker: MT3, document, arrays, path):
    """Go on from what was read from `path`, if it was saved with the network of the tracker."""
    if document.get("digest") != tracker.model.digest():
        raise ValueError(
            f"{path} was saved with other weights, or another reading of them, than those of "
            f"'{tracker.model.task.name}' that it should go on with. Give the same ones: {_REMEDY}"
        )
    task = tracker.model.task
    with expecting(path, NAME):
        time = document["time"]
        if time is None:
            if arrays:
                raise ValueError("measurements without a time")
            state = MT3State.none(task.sight.dim_z)
        else:
            elapsed(None, time)
            time = float(time)
            state = unflattened(MT3State, arrays)
            require_sound(state, time, task)
    tracker.time, tracker.state = time, state


_REMEDY = "MT3.load(path, weights=...)"
