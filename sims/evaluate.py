"""Monte-Carlo evaluation: trackers on scenes of a scenario, scored the way the scenario asks.

Run i of seed S draws its scene from `numpy.random.SeedSequence((S, i))`, whatever else is run and wherever,
so every tracker sees the same scenes and results are the same bit for bit. Existence thresholds are chosen
on scenes of the seed S + OTHER_SEEDS.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from sims.parallel import Workers, each
from sims.scenarios import Scenario
from sims.targets import Scene
from sims.trackers import TRACKERS, expected_number, with_threshold
from tracking.metrics import gospa, ospa, ospa2
from tracking.tracks import Tracks, Trajectories

OTHER_SEEDS = 1_000_003
THRESHOLDS = np.round(np.arange(0.1, 0.91, 0.05), 2)
LARGEST = {"cphd": 0.5}  # it reports a component that rounds to an object whatever the threshold
WARM_UP_SCANS = 10
HERE = Workers()

Settings = dict[str, dict[str, Any]]  # tracker -> settings
Advance = Callable[[], Any]  # called after each run


class Scores(NamedTuple):
    """One tracker on one scene.

    gospa:    (4,) GOSPA, and the roots of its localisation, missed and false parts: means over the scored
              scans, or means of squares where the scenario asks for "rms".
    ospa:     OSPA, m, mean over the scored scans.
    ospa2:    OSPA(2) over all scans, m; NaN where only the last one is scored.
    expected, reported, true: number of objects, means over the scored scans; expected is NaN where the
              tracker cannot tell.
    cpu:      (T,) CPU time of each scan, s.
    asked:    (T,) bool, scans that the tracker answered; others it observed alone.
    """

    gospa: np.ndarray
    ospa: float
    ospa2: float
    expected: float
    reported: float
    true: float
    cpu: np.ndarray
    asked: np.ndarray


class Tracking(NamedTuple):
    """What a tracker made of a scene: its tracks, expected numbers (T,), CPU times (T,), s, and `asked` (T,).

    At scans that it was not asked for there are no tracks, and no expected number.
    """

    tracks: list[Tracks]
    expected: np.ndarray
    cpu: np.ndarray
    asked: np.ndarray


def scene_of(scenario: Scenario, seed: int, run: int) -> Scene:
    """The scene of a run."""
    return scenario.draw(np.random.default_rng(np.random.SeedSequence((seed, run))))


def track(tracker, scene: Scene, scans: int | None = None, *, scored: str = "all") -> Tracking:
    """Run a tracker over the first scans of a scene, None: all.

    Where the "last" one alone is scored a tracker with `observe`, that answers anew at every scan, is asked
    for this one alone.
    """
    tracks, expected, cpu = [], [], []
    todo = list(zip(scene.scans, scene.time))[:scans]
    asked = np.ones(len(todo), bool)
    if scored == "last" and hasattr(tracker, "observe"):
        asked[:-1] = False
    for (z, t), wanted in zip(todo, asked):
        start = time.process_time()
        found = tracker.step(z, t) if wanted else tracker.observe(z, t)
        cpu.append(time.process_time() - start)
        tracks.append(found if wanted else Tracks.empty(t, 4))
        number = expected_number(tracker) if wanted else None
        expected.append(np.nan if number is None else number)
    return Tracking(tracks, np.array(expected), np.array(cpu), asked)


def score(scenario: Scenario, scene: Scene, tracking: Tracking) -> Scores:
    """Compare tracks with the truth."""
    scored = scored_scans(scenario, scene)
    tracks = [tracking.tracks[k] for k in scored]
    truth = [scene.truth.at(k) for k in scored]
    return Scores(
        errors(scenario, truth, [t.mean for t in tracks]).mean(axis=0),
        error_per_object(scenario, truth, [t.mean for t in tracks]),
        trajectory_error(scenario, scene, tracking.tracks),
        float(tracking.expected[scored].mean()),
        float(np.mean([len(t) for t in tracks])),
        float(np.mean([len(x) for x in truth])),
        tracking.cpu,
        tracking.asked,
    )


def scored_scans(scenario: Scenario, scene: Scene) -> range:
    """Indices of the scans that count."""
    return range(len(scene) - 1, len(scene)) if scenario.scored == "last" else range(len(scene))


def errors(scenario: Scenario, truth, estimates) -> np.ndarray:
    """GOSPA and the roots of its parts (T, 4), squared where the scenario asks for "rms".

    Args:
        truth, estimates: T arrays of states each.
    """
    dims, c, p = scenario.metric_dims, scenario.gospa_c, scenario.gospa_p
    parts = []
    for x, y in zip(truth, estimates, strict=True):
        g = gospa(x[:, :dims], y[:, :dims], c=c, p=p)
        parts.append((g.total_p, g.localisation, g.missed, g.false))
    return np.array(parts) ** ((2 if scenario.average == "rms" else 1) / p)


def error_per_object(scenario: Scenario, truth, estimates) -> float:
    """Mean OSPA of T truths and estimates, arrays of states each, m."""
    dims, c, p = scenario.metric_dims, scenario.ospa_c, scenario.ospa_p
    each = [float(ospa(x[:, :dims], y[:, :dims], c, p).total) for x, y in zip(truth, estimates, strict=True)]
    return float(np.mean(each))


def trajectory_error(scenario: Scenario, scene: Scene, tracks: list[Tracks]) -> float:
    """OSPA(2) over a whole scene, m, NaN where only the last scan is scored."""
    if scenario.scored == "last":
        return np.nan
    truth, estimate = scene.truth.states, Trajectories.from_tracks(tracks).states
    dims = scenario.metric_dims
    return float(ospa2(truth[..., :dims], estimate[..., :dims], scenario.ospa_c, scenario.ospa_p).total)


def evaluate(
    scenario: Scenario,
    settings: Settings,
    *,
    seed: int = 0,
    runs: int | None = None,
    workers: Workers = HERE,
    advance: Advance = lambda: None,
) -> dict[str, list[Scores]]:
    """Scores of trackers on the same scenes.

    Args:
        scenario: the problem.
        settings: of each tracker, by name in `TRACKERS`.
        seed:     of the scenes, >= 0.
        runs:     number of scenes; None: as the scenario says.
        workers:  where to compute.
        advance:  called after each run of each tracker.
    """
    cases = [(name, run) for run in range(scenario.runs if runs is None else runs) for name in settings]
    calls = [(run_once, scenario, name, settings[name], seed, run) for name, run in cases]
    results = each(_noted, calls, workers, advance)
    return {name: [r for (n, _), r in zip(cases, results) if n == name] for name in settings}


def run_once(scenario: Scenario, name: str, settings: dict[str, Any], seed: int, run: int) -> Scores:
    """Scores of one tracker on one scene."""
    warm_up(scenario, name, settings)
    scene = scene_of(scenario, seed, run)
    tracker = TRACKERS[name](scenario, **settings)
    return score(scenario, scene, track(tracker, scene, scored=scenario.scored))


def choose_thresholds(
    scenario: Scenario,
    settings: Settings,
    *,
    seed: int = 0,
    runs: int = 100,
    workers: Workers = HERE,
    advance: Advance = lambda: None,
) -> dict[str, float]:
    """The existence threshold of least mean GOSPA of each tracker, on scenes that `evaluate` never draws.

    Arguments as `evaluate`.
    """
    cases = [(name, run) for run in range(runs) for name in settings]
    calls = [
        (errors_by_threshold, scenario, name, settings[name], seed + OTHER_SEEDS, run) for name, run in cases
    ]
    results = each(_noted, calls, workers, advance)
    chosen = {}
    for name in settings:
        error = np.mean([r for (n, _), r in zip(cases, results) if n == name], axis=0)
        # Of equally good ones the one next to 1/2.
        chosen[name] = float(THRESHOLDS[np.lexsort((np.abs(THRESHOLDS - 0.5), error))[0]])
    return chosen


def errors_by_threshold(
    scenario: Scenario, name: str, settings: dict[str, Any], seed: int, run: int
) -> np.ndarray:
    """Mean GOSPA, squared where the scenario asks for "rms", of one scene at each of THRESHOLDS.

    The tracker runs once, reporting from the lowest threshold on: no filter's density depends on what it
    reports, and those with a higher threshold report the part of it that exists with that probability.
    """
    scene = scene_of(scenario, seed, run)
    tracker = TRACKERS[name](scenario, **with_threshold(name, settings, THRESHOLDS[0]))
    tracks = track(tracker, scene, scored=scenario.scored).tracks
    thresholds = np.minimum(THRESHOLDS, LARGEST.get(name, 1.0))
    total = np.zeros(len(thresholds))
    scored = scored_scans(scenario, scene)
    for k in scored:
        mean, existence, truth = tracks[k].mean, tracks[k].existence, scene.truth.at(k)
        number, of = np.unique([(existence >= t).sum() for t in thresholds], return_inverse=True)
        likeliest = mean[np.argsort(-existence, kind="stable")]
        total += errors(scenario, [truth] * len(number), [likeliest[:n] for n in number])[of, 0]
    return total / len(scored)


_warm: set[tuple[str, str, str]] = set()  # what this process has compiled, or loaded from numba's cache


def warm_up(scenario: Scenario, name: str, settings: dict[str, Any]) -> None:
    """Run a tracker over a few scans, once a process, so that no compilation is ever timed."""
    key = (scenario.name, name, repr(settings))
    if key not in _warm:
        track(TRACKERS[name](scenario, **settings), scene_of(scenario, OTHER_SEEDS, 0), WARM_UP_SCANS)
        _warm.add(key)


def _noted(function, scenario, name, settings, seed, run):
    try:
        return function(scenario, name, settings, seed, run)
    except Exception as error:
        error.add_note(f"{name} failed on run {run} of seed {seed} of {scenario.name}")
        raise
