"""Measurements in fresh processes with one thread, trackers taking turns on the same scenes."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np
import scipy

from sims.bench.child import Task
from sims.parallel import Workers, each

# Read by the libraries when they are loaded, so they must be set before the process starts.
ONE_THREAD = {
    f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM", "NUMEXPR", "NUMBA")
}
ROOT = Path(__file__).resolve().parents[2]

Measured = dict[str, Any]  # see `sims.bench.child.measure`


def in_fresh_process(task: Task) -> Measured:
    """Measure a task in a process of its own.

    Raises:
        RuntimeError: the process failed; it has said why on standard error.
    """
    done = subprocess.run(
        [sys.executable, "-m", "sims.bench.child"],
        input=json.dumps(task),
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | ONE_THREAD,
        cwd=ROOT,
    )
    if done.returncode != 0:
        raise RuntimeError(
            f"{task.tracker} failed on run {task.run} of seed {task.seed} of "
            f"{task.scenario or f'{task.objects} objects'} (exit status {done.returncode})"
        )
    return json.loads(done.stdout)


def take_turns(
    tasks: Callable[[str, int], Task],
    trackers: Sequence[str],
    runs: int,
    workers: Workers,
    advance: Callable[[], Any],
) -> dict[str, list[Measured]]:
    """Measurements of each tracker, run by run, so that what disturbs one disturbs all alike.

    A tracker that was cut off in one run is not tried in the next.

    Args:
        tasks:    the task of a tracker and run.
        trackers: names.
        runs:     number of scenes.
        workers:  where to compute.
        advance:  called after each run of each tracker.
    """
    found: dict[str, list[Measured]] = {name: [] for name in trackers}
    alive = list(trackers)
    for run in range(runs):
        calls = [(tasks(name, run),) for name in alive]
        for name, measured in zip(alive, each(in_fresh_process, calls, workers, advance)):
            found[name].append(measured)
        alive = [name for name in alive if finished(found[name])]
    return found


def finished(measured: Sequence[Measured]) -> bool:
    """Whether all scans of all runs were done."""
    return all(len(each["cpu"]) == each["scans"] for each in measured)


def machine() -> dict[str, Any]:
    """What the times depend on, without a name of the machine."""
    return {
        "cpus": os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "processor": processor(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "numba": numba.__version__,
    }


def processor() -> str | None:
    """Model of the processor, None where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), None)
