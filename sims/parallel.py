"""Independent computations here, in several processes or on a cluster: the results are the same.

Every call has all its randomness in its arguments, so its result depends neither on where it ran nor on how
often it was tried; results come back in the order of the calls.
"""

import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Workers:
    """Where to compute.

    jobs:    processes on this machine; more than one needs joblib.
    cluster: a client of a dask.distributed cluster (`sims.cluster.connect`), which is then used instead.
    """

    jobs: int = 1
    cluster: Any = None


def each(
    function: Callable[..., Any],
    calls: Sequence[tuple],
    workers: Workers,
    advance: Callable[[], Any] = lambda: None,
) -> list[Any]:
    """Results of a function for each tuple of arguments, in their order.

    Args:
        function: of a module, so that other processes find it.
        calls:    arguments of each call.
        workers:  where to compute.
        advance:  called after each call.
    """
    results: list[Any] = [None] * len(calls)
    with closing(_in_any_order(function, calls, workers)) as arriving:
        for i, result in arriving:
            results[i] = result
            advance()
    return results


def _in_any_order(function, calls, workers) -> Generator[tuple[int, Any], None, None]:
    if workers.cluster is not None:
        from sims.cluster import results

        yield from results(workers.cluster, function, calls)
    elif workers.jobs == 1:
        yield from (_numbered(function, i, call) for i, call in enumerate(calls))
    else:
        yield from _by_joblib(function, calls, workers.jobs)


def _by_joblib(function, calls, jobs):
    from joblib import Parallel, delayed

    parallel = Parallel(n_jobs=jobs, return_as="generator_unordered")
    arriving = parallel(delayed(_numbered)(function, i, call) for i, call in enumerate(calls))
    try:
        # `yield from` would hand close() on before the block below comes.
        for numbered in arriving:  # noqa: UP028
            yield numbered
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # joblib warns of what an interruption leaves undone
            arriving.close()


def _numbered(function, i, call):
    return i, function(*call)
