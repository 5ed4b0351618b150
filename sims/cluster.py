"""Computations on a dask.distributed cluster: `--cluster tcp://ADDRESS:8786`.

The scheduler gives what a lost worker was doing, and the results that it still held, to another one; calls
depend on their arguments alone, so nothing is lost and nothing changes. A cluster runs whatever code it is
sent, without asking who sends it: it belongs on a trusted network.
"""

import hashlib
import logging
import platform
import re
import threading
from collections.abc import Callable, Generator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ADDRESS = r"((tcp|tls|ws|wss)://)?[^/\s]+:[0-9]{1,5}"
PATIENCE = 10.0  # s, for a scheduler to answer, and for a first worker
ROOT = Path(__file__).resolve().parents[1]
_ALONE = threading.Lock()


def connect(address: str):
    """A client of the cluster whose scheduler is at an address.

    Raises:
        ImportError: dask.distributed is not installed.
        ValueError:  nobody answers there, there are no workers, or they run other code than is run here.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ImportError("--cluster needs the cluster extra: pip install '.[cluster]'") from None
    if not re.fullmatch(ADDRESS, address):  # a client that cannot even begin leaves a page of complaints
        raise ValueError(f"{address!r} is no address of a cluster. Accepted is [tcp://]HOST:PORT")
    log = logging.getLogger("distributed")
    before, log.level = log.level, logging.CRITICAL  # what it would say of a bad address fills the screen
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except Exception as error:  # of many types, by what is wrong with the address
        raise ValueError(
            f"no cluster answers at {address!r} ({_first_line(error)}). "
            "Start one with `dask scheduler`, which prints its address, such as tcp://127.0.0.1:8786"
        ) from None
    finally:
        log.setLevel(before)
    try:
        check_workers(client, address)
    except BaseException:
        client.close()
        raise
    return client


def check_workers(client, address: str) -> None:
    """Raise ValueError unless there are workers, and all run the code that runs here."""
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        raise ValueError(
            f"the cluster at {address!r} has no workers. Start some with `dask worker {address} --nthreads 1`"
        ) from None
    try:
        theirs = client.run(fingerprint)
    except ImportError:
        raise ValueError(
            f"workers of {address!r} do not find the toolkit. Install it there, the version that is here"
        ) from None
    mine = expected()
    for worker, found in theirs.items():
        different = [
            f"{key} {found.get(key)} instead of {mine[key]}" for key in mine if found.get(key) != mine[key]
        ]
        if different:
            raise ValueError(
                f"worker {worker} has {', '.join(different)}. Numbers would depend on who computes them; "
                "install the same there"
            )


@cache
def fingerprint() -> dict[str, str]:
    """Versions of what numbers depend on, and a hash of the toolkit's sources."""
    import numba
    import numpy as np
    import scipy

    sources = hashlib.sha256()
    for path in sorted(p for room in ("sims", "tracking") for p in (ROOT / room).rglob("*.py")):
        sources.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "numba": numba.__version__,
        "toolkit": sources.hexdigest()[:12],
    }


def expected() -> dict[str, str]:
    """The fingerprint that workers must have: this process's own."""
    return fingerprint()


def results(
    client, function: Callable[..., Any], calls: Sequence[tuple]
) -> Generator[tuple[int, Any], None, None]:
    """Number and result of each call, as they arrive.

    Raises:
        ConnectionError: the scheduler is gone.
    """
    from distributed import CancelledError, as_completed

    # Not pure: equal arguments may be equal calls, but a time must be measured each time.
    futures = [client.submit(alone, function, i, call, pure=False) for i, call in enumerate(calls)]
    try:
        for _, result in as_completed(futures, loop=client.loop, with_results=True):
            yield result
    except CancelledError:
        raise ConnectionError("the scheduler of the cluster is gone, and with it what was not done") from None
    finally:
        client.cancel([f for f in futures if not f.done()])


def alone(function: Callable[..., Any], i: int, call: tuple) -> tuple[int, Any]:
    """Number and result of a call; one at a time, since a process counts the CPU time of all its threads."""
    with _ALONE:
        return i, function(*call)


def _first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0]
