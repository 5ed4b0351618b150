"""What FUSE is trained and tested on: rooms, or recordings."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from perception.depth.datasets import DENSE, MVSEC, EventScape, Listed, sequences
from perception.depth.pairs import Pairs, SamplePairs
from sims.parallel import Workers, each
from sims.rooms import room_pairs

DATA = ("eventscape", "dense", "mvsec", "list")
KEPT = 10  # one of so many samples of a recording, its last ones, are not trained on


def made(
    seeds: Sequence[int],
    side: int,
    console: Console,
    conditions: Sequence[str] | None = None,
    jobs: int = 1,
    **known: Any,
) -> Pairs:
    """Pairs of rooms, made by so many processes, with progress; `known` are arguments of `room_pairs`."""
    draw = partial(room_pairs, conditions=conditions, side=side, **known)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("rooms", total=len(seeds))
        rooms = each(draw, [((seed,),) for seed in seeds], Workers(jobs), lambda: progress.advance(task))
    return Pairs.joined(rooms)


def recorded(kind: str, paths: Sequence[str], window: int) -> tuple[SamplePairs, SamplePairs]:
    """What to train on and what to test on: the last samples of each recording.

    Args:
        kind:   of DATA.
        paths:  folders of EventScape or DENSE, with one sequence or many; <name>_data.hdf5; or lists.
        window: microseconds of events before a depth.
    """
    parts: list[Any] = []
    for path in paths:
        if kind in ("eventscape", "dense"):
            read = EventScape if kind == "eventscape" else DENSE
            parts += [read(folder, window, empty=True) for folder in sequences(path)]
        else:
            parts.append(MVSEC(path, window=window, empty=True) if kind == "mvsec" else Listed(path))
    whole = SamplePairs(parts, window)
    number = np.diff(whole.ends, prepend=0)
    left = np.concatenate([np.arange(n, 0, -1) for n in number])  # samples to the end of the recording
    kept = left <= np.repeat(np.maximum(number // KEPT, 1), number)
    return whole.only(~kept), whole.only(kept)
