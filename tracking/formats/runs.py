"""Runs of training and distillation on disk: read as data, and put in place of what is as a whole or not."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tracking.formats.files import atomic_write


def save(path: str | Path, state: dict[str, Any]) -> None:
    """Write a state of tensors and plain values, atomically."""
    with atomic_write(path, binary=True) as file:
        torch.save(state, file)


def restore(
    path: str | Path,
    now: dict[str, Any],
    put: Callable[[dict[str, Any]], object],
    same: Sequence[str],
    owner: str,
    device: Any = "cpu",
) -> None:
    """Put the state in a file in place of one that is, or leave that as it was.

    Args:
        path:   as `save` wrote it; nothing in it is unpickled but tensors and plain values.
        now:    the state that is.
        put:    takes a state over; may raise anything for one that does not fit.
        same:   names of what must be equal in both.
        owner:  whose run it must be, for messages.
        device: where tensors are read to.
    Raises:
        OSError:    there is no such file, or it cannot be opened.
        ValueError: the file holds no run, or one that does not fit.
    """
    with open(path, "rb") as file:
        try:
            state = torch.load(file, weights_only=True, map_location=device)
        except (MemoryError, torch.OutOfMemoryError):  # say nothing of what is in the file
            raise
        except Exception as error:  # of the library, for anything that is not such a file, OSError too
            raise ValueError(f"{path} is not a saved run: {_one_line(error)}") from None
    if not isinstance(state, dict):
        raise ValueError(f"{path} is not a run of {owner}: it holds a {type(state).__name__}, not names")
    before = copy.deepcopy(now)
    try:
        for name in same:
            if state[name] != before[name]:
                its, ours = _apart(state[name], before[name])
                raise ValueError(f"its settings, {name}, are {its}, not {ours}")
        put(state)
    except Exception as error:  # whatever is missing or of another kind
        put(before)
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
            raise
        raise ValueError(f"{path} is not a run of {owner}: {_one_line(error)}") from None


def _apart(a: Any, b: Any) -> tuple[Any, Any]:
    """Both, and of dictionaries the entries alone that differ."""
    if not isinstance(a, dict) or not isinstance(b, dict):
        return a, b
    parts = {name: _apart(a.get(name), b.get(name)) for name in a | b if a.get(name) != b.get(name)}
    return {name: x for name, (x, _) in parts.items()}, {name: y for name, (_, y) in parts.items()}


def _one_line(error):
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
