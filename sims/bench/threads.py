"""What sharing the clusters of a scan out among threads brings: the same scans, with one and with more."""

import json
import os
import sys
import time
from typing import Any

import numpy as np

from sims.bench.scaling import at_density
from sims.evaluate import scene_of
from sims.scenarios import Scenario
from sims.targets import Scene
from sims.trackers import TRACKERS, settings_of

OBJECTS = (1000, 3000, 10_000)
TRACKER = "pmbm"
SCANS = 20
SETTLED = 5  # scans, compilation and the first detection of most objects among them, that are not counted
ABOUT = f"{TRACKER}, objects and clutter at the density of `large`, scans {SETTLED + 1} to {SCANS}"


def measure(objects: int, threads: int, seed: int) -> dict[str, Any]:
    """Median time of a scan on the wall, ms, with one thread and with more, the two taking turns.

    Args:
        objects: number at the first scan.
        threads: their number.
        seed:    of the scene.
    Raises:
        RuntimeError: the tracks differ.
    """
    problem = at_density(objects, SCANS)
    one, more = _times(problem, scene_of(problem, seed, 0), threads)
    a, b = np.median(one[SETTLED:]), np.median(more[SETTLED:])
    return {"objects": objects, "ms_one": float(a), "ms": float(b), "speed_up": float(a / b)}


def _times(problem: Scenario, scene: Scene, threads: int) -> np.ndarray:
    settings = settings_of(problem, TRACKER)
    trackers = [TRACKERS[TRACKER](problem, **settings, threads=n) for n in (1, threads)]
    found = np.empty((2, len(scene.scans)))
    for k, (z, t) in enumerate(zip(scene.scans, scene.time)):
        tracks = []
        for i, tracker in enumerate(trackers):
            start = time.perf_counter()
            tracks.append(tracker.step(z, t))
            found[i, k] = 1e3 * (time.perf_counter() - start)
        if not all(np.array_equal(a, b) for a, b in zip(_content(tracks[0]), _content(tracks[1]))):
            raise RuntimeError(f"one thread and {threads} differ at scan {k}")
    return found


def _content(tracks):
    return tracks.label, tracks.mean, tracks.cov, tracks.existence


def main() -> None:
    """Measure where libraries keep to one thread; arguments: threads, seed, numbers of objects."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    threads, seed, *sizes = map(int, sys.argv[1:])
    found = []
    for objects in sizes:
        print(f"{objects:,} objects, 1 and {threads} threads", file=sys.stderr)
        found.append(measure(objects, threads, seed))
    print(json.dumps(found), file=answer, flush=True)


if __name__ == "__main__":
    main()
