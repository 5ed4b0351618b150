"""What FUSE is trained and tested on: rooms, or recordings."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from perception.depth.datasets import DENSE, MVSEC, EventScape, Listed, sequences
from perception.depth.pairs import Pairs, SamplePairs
from sims.rooms import room_pairs

DATA = ("eventscape", "dense", "mvsec", "list")
KEPT = 10  # one of so many samples of a recording, its last ones, are not trained on


def made(
    seeds: Sequence[int],
    side: int,
    console: Console,
    conditions: Sequence[str] | None = None,
    **known: Any,
) -> Pairs:
    """Pairs of rooms, with progress; `known` are other arguments of `room_pairs`."""
    with Progress(console=console, disable=not console.is_terminal) as progress:
        rooms = progress.track(seeds, description="rooms")
        return Pairs.joined(room_pairs([seed], conditions, side=side, **known) for seed in rooms)


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
