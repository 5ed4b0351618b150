"""What a command line says while numba compiles, which happens once and takes a while."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer

from numba.core import event

SLOW = 2.0  # s of compilation after which a word about it is due


@contextmanager
def notice_of_compilation() -> Iterator[None]:
    """Say on standard error what takes so long, when numba has not compiled everything before."""
    with event.install_recorder("numba:compile") as compiled:

        def notice():
            if compiled.buffer:
                print("compiling the filters' inner loops (once, cached on disk)", file=sys.stderr)

        timer = Timer(SLOW, notice)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
