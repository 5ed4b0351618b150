"""One measurement in a process of its own: `python -m sims.bench.child`, for `sims.bench.measure` alone.

The process reads a `Task` as JSON from standard input and writes what it measured to standard output. It is
fresh, so that its peak memory is that of this tracker on this scene, and was started with one thread.
"""

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sims.bench.scaling import at_density
from sims.evaluate import WARM_UP_SCANS, errors, scene_of
from sims.peers import PEERS, REFERENCES, peer_settings
from sims.scenarios import SCENARIOS, Scenario, scenario
from sims.targets import Scene
from sims.trackers import TRACKERS, settings_of
from tracking.notice import notice_of_compilation
from tracking.tracks import Tracks

MB = 1e6
LONGEST = 1e6  # s, that a timer is set to
SHORTEST = 1e-3  # s, that a timer is set to
RUN = 10  # a run may take this many times what a scan may
EASY = 300  # objects in a scene up to which a few scans of it take no time worth mentioning


class Task(NamedTuple):
    """One tracker on one scene.

    scenario: name of the scenario, or None for `objects` at the density of `large`.
    objects:  their number, where there is no scenario.
    tracker:  its name.
    seed, run: of the scene.
    scans:    how many of the scene, None: all.
    cap:      CPU time that one scan may take, s; ten times as much for all.
    """

    scenario: str | None
    objects: int
    tracker: str
    seed: int
    run: int
    scans: int | None
    cap: float


class CutOff(BaseException):
    """The time is up. Not an Exception, so that no tracker takes it for one of its own."""


def measure(task: Task) -> dict[str, Any]:
    """Track, and score what was tracked.

    Returns:
        scans: how many were asked for; cpu: CPU time of each that was done, s; peak_mb: of the whole process,
        interpreter, libraries and scene included, before the metric, 1e6 bytes; gospa: it and its parts (4,),
        means over the scans, None where the tracker was cut off; settings: of the tracker.
    """
    problem = scenario(task.scenario) if task.scenario else at_density(task.objects, task.scans)
    scene = scene_of(problem, task.seed, task.run)
    make, settings = maker(problem, scene, task.tracker)
    scans = list(zip(scene.scans, scene.time))[: task.scans]
    if task.tracker not in PEERS:  # interpreted code has nothing to warm up
        warm_up(problem, scene, task)
    tracks, cpu = track_within(make(), scans, task.cap, RUN * task.cap)
    peak = peak_memory()
    gospa = None
    if len(tracks) == len(scans):
        truth = [scene.truth.at(k) for k in range(len(scans))]
        gospa = errors(problem, truth, [t.mean for t in tracks]).mean(axis=0).tolist()
    return {"scans": len(scans), "cpu": cpu, "peak_mb": peak / MB, "gospa": gospa, "settings": settings}


def maker(problem: Scenario, scene: Scene, name: str) -> tuple[Callable[[], Any], dict[str, Any]]:
    """A function that makes the tracker, and its settings."""
    if name in TRACKERS:
        settings = settings_of(problem, name)
        return lambda: TRACKERS[name](problem, **settings), settings
    settings = peer_settings(problem, name)
    make = (REFERENCES | PEERS)[name]
    return lambda: make(problem, scene, **settings), settings


def warm_up(problem: Scenario, scene: Scene, task: Task) -> None:
    """Compile, or load from the cache, what the tracker needs; first where nothing is slow but compiling."""
    easy = problem if len(scene.truth) <= EASY else SCENARIOS["small"]
    with notice_of_compilation():
        easy_scene = scene if easy is problem else scene_of(easy, task.seed, task.run)
        for which, cap in ((easy_scene, np.inf), (scene, task.cap)):
            make, _ = maker(easy if which is easy_scene else problem, which, task.tracker)
            track_within(make(), list(zip(which.scans, which.time))[:WARM_UP_SCANS], cap, RUN * cap)


def track_within(tracker, scans, cap: float, total: float) -> tuple[list[Tracks], list[float]]:
    """Tracks and CPU times, s, of the scans (z, time) that are done before the tracker is cut off.

    Args:
        tracker: what is run.
        scans:   pairs of measurements and time.
        cap:     CPU time that one scan may take, s.
        total:   CPU time that all may take, s.
    """
    tracks, cpu, left = [], [], total
    try:
        for z, t in scans:
            with limited(min(cap, left)):
                start = time.process_time()
                found = tracker.step(z, t)
                used = time.process_time() - start
            if used > min(cap, left):  # compiled code is not interrupted
                break
            left -= used
            tracks.append(found)
            cpu.append(used)
    except CutOff:
        pass
    return tracks, cpu


@contextmanager
def limited(seconds: float):
    """Raise CutOff once the block has used so much CPU time, where the system has a timer.

    The timer runs on the clock on the wall and looks at the CPU time when it rings: while a timer of CPU time
    is set, Linux tells that time only to the tick of 4 ms.
    """
    if not np.isfinite(seconds) or not hasattr(signal, "setitimer"):
        yield
        return
    seconds = min(seconds, LONGEST)
    end = time.process_time() + seconds

    def look(*_):
        left = end - time.process_time()
        if left <= 0:
            raise CutOff
        signal.setitimer(signal.ITIMER_REAL, max(left, SHORTEST))

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, SHORTEST))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def peak_memory() -> float:
    """Largest resident size of this process so far, bytes.

    On Linux from /proc: ru_maxrss begins there with the size of the process that started this one.
    """
    try:
        text = Path("/proc/self/status").read_text()
        return 1024.0 * int(text.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024
        return float(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main() -> None:
    """Measure one task; whatever a tracker prints goes to standard error."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps(measure(Task(*json.load(sys.stdin)))), file=answer, flush=True)


if __name__ == "__main__":
    main()
