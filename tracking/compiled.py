"""`@compiled`: numba's njit, cached on disk, with a cache that cannot go stale.

Numba asks only whether the file of a function has changed. A cached function also holds the code of all
compiled functions that it calls, from whichever file, so here the cache counts only while all files with
compiled functions, of its package and of this one, are the same.
"""

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
from numba import njit

_MARK = b"@compiled\n"


@cache
def _fingerprint(package: str) -> str:
    """Hash of all source files of a package, one of ours, that hold compiled functions."""
    found = hashlib.sha256()
    for path in sorted((Path(__file__).parent.parent / package).rglob("*.py")):
        source = path.read_bytes()
        if _MARK in source:
            found.update(source)
    return found.hexdigest()


def compiled(function):
    """Compile a function on its first call, or load it from the cache on disk."""
    dispatcher = njit(cache=True, nogil=True)(function)
    if dispatcher is function:  # NUMBA_DISABLE_JIT, for a debugger
        return function
    index = getattr(dispatcher._cache, "_cache_file", None)
    if not hasattr(index, "_source_stamp"):  # a numba that keeps its cache otherwise: do without
        return njit(nogil=True)(function)
    package = function.__module__.partition(".")[0]
    index._source_stamp = (index._source_stamp, *map(_fingerprint, sorted({"tracking", package})))
    return dispatcher


@compiled
def doubled(a):
    """An array with twice the rows, the first half kept, the rest zero."""
    bigger = np.zeros((2 * a.shape[0], *a.shape[1:]), a.dtype)
    bigger[: a.shape[0]] = a
    return bigger
