"""Compiled loops on several threads of one process; the interpreter's lock is not held meanwhile."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np


def in_parallel(function: Callable[..., Any], pieces: Sequence[tuple]) -> list[Any]:
    """function(*piece) of every piece, in order: the first on this thread, the others beside it."""
    if len(pieces) == 1:
        return [function(*pieces[0])]
    others = [_pool().submit(function, *piece) for piece in pieces[1:]]
    return [function(*pieces[0]), *(other.result() for other in others)]


def shares(starts: np.ndarray, threads: int, least: int) -> np.ndarray:
    """Ends of consecutive groups, some for each thread, so that all get about as many members.

    Args:
        starts:  (g + 1,) offsets of the members of g groups.
        threads: their number at most.
        least:   members below which no further thread is used.
    """
    used = max(min(threads, int(starts[-1]) // least), 1)
    ends = np.searchsorted(starts, np.linspace(0, starts[-1], used + 1)[1:-1])
    return np.concatenate(([0], ends, [len(starts) - 1]))


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads that wait for work, each started when the others are busy."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="clusters")


if hasattr(os, "register_at_fork"):  # a child has the pool but not its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
