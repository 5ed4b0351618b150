"""What a replay shows: one scene, its measurements, the tracks of each tracker and how good they are.

A scenario shows run 0 of its seed, a command on recordings the first of them. The trackers go over it once
more; as they are deterministic these are the tracks that the table counts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from sims import table
from sims.evaluate import Settings, scene_of, score, track
from sims.recordings import Recording
from sims.recordings import run as recorded
from sims.scenarios import Scenario
from sims.trackers import TRACKERS
from tracking.metrics import gospa
from tracking.models.motion import Motion
from tracking.models.sensor import Sensor
from tracking.tracks import Tracks, Trajectories

LARGEST = 30_000_000  # bytes of a page that browsers show without pain
BYTES_PER_TRACK, BYTES_PER_POINT = 38, 13  # of a page, about
HEADINGS = {"gospa": "GOSPA", "localisation": "local.", "missed": "missed", "false": "false"}


class Errors(NamedTuple):
    """How far a tracker was from the truth in each scan.

    gospa: (T, 4) GOSPA and the roots of its localisation, missed and false parts, in the unit of positions.
    truth: T arrays (n_k,): of each track the row of the truth that it is assigned to, -1 if it is false.
    """

    gospa: np.ndarray
    truth: list[np.ndarray]


@dataclass(frozen=True)
class Replay:
    """A scene and what trackers made of it, positions in a plane.

    title, about, shown: its name, one line about it, and which run or recording it is.
    time:         (T,) s.
    tracks:       by tracker, `Tracks` of each scan; the first two entries of a state are drawn.
    truth:        states, the first two entries drawn, or None.
    measurements: T arrays (m_k, 2), or None where the sensor does not tell positions.
    errors:       by tracker; empty without a truth or a distance to measure by.
    velocity:     where in the state the velocity begins, None if it has none.
    metric:       what the errors are, in words.
    headings, rows: a table of means, text, a row a tracker.
    axes, unit:   names of the coordinates and their unit.
    y_down:       whether the second one grows downwards, as in images.
    """

    title: str
    about: str
    shown: str
    time: np.ndarray
    tracks: Mapping[str, Sequence[Tracks]] = field(repr=False)
    truth: Trajectories | None = field(default=None, repr=False)
    measurements: Sequence[np.ndarray] | None = field(default=None, repr=False)
    errors: Mapping[str, Errors] = field(default_factory=dict, repr=False)
    velocity: int | None = None
    metric: str = ""
    headings: Sequence[str] = ()
    rows: Mapping[str, Sequence[str]] = field(default_factory=dict)
    axes: tuple[str, str] = ("x", "y")
    unit: str = "m"
    y_down: bool = False

    def __len__(self) -> int:
        return len(self.time)


def of_scenario(
    problem: Scenario, settings: Settings, seed: int, advance: Callable[[], Any] = lambda: None
) -> Replay:
    """Run 0 of a comparison.

    Args:
        problem:  the scenario.
        settings: of each tracker, by name in `TRACKERS`.
        seed:     of the comparison.
        advance:  called after each tracker.
    """
    scene = scene_of(problem, seed, 0)
    tracks, scores = {}, {}
    for name, options in settings.items():
        tracking = track(TRACKERS[name](problem, **options), scene)
        tracks[name], scores[name] = tracking.tracks, [score(problem, scene, tracking)]
        advance()
    means = table.document(problem, scores, settings, seed)["trackers"]
    d, c, p = problem.metric_dims, problem.gospa_c, problem.gospa_p
    return Replay(
        title=problem.name,
        about=problem.about,
        shown=f"run 0 of seed {seed}",
        time=scene.time,
        tracks=tracks,
        truth=scene.truth,
        measurements=positions(problem.sensor, scene.scans, problem.motion.dim),
        errors={name: errors(scene.truth, found, (d, c, p)) for name, found in tracks.items()},
        velocity=velocity_of(problem.motion),
        metric=_metric(problem),
        headings=[*HEADINGS.values(), "OSPA", "n est/true"],
        rows={name: _row(row) for name, row in means.items()},
    )


def of_recording(
    module, recording: Recording, trackers: Sequence[str], advance: Callable[[], Any] = lambda: None
) -> Replay:
    """A recording, its tracks those that its rows of results hold.

    Args:
        module:    of its format, in `sims.recordings`.
        recording: what was recorded.
        trackers:  names.
        advance:   called after each tracker.
    """
    seen = recording.detections
    truth = module.truth(recording)
    tracks, found = {}, {}
    for name in trackers:
        scans, cpu = recorded.tracked(name, recording)
        found[name] = recorded.Tracked(module.rows(scans, recording), cpu)
        tracks[name] = [_reported(t, found[name].rows, k) for k, t in enumerate(scans)]
        advance()
    c, dims = module.cutoff(recording), len(seen.names)
    scores = {
        name: module.score({recording.name: run.rows}, [recording]).get(recording.name, {})
        for name, run in found.items()
    }
    keys = [key for key in recorded.HEADINGS if any(key in row for row in scores.values())]
    return Replay(
        title=recording.name,
        about=f"{module.NAME} recording" + (f", {recording.cls}" if recording.cls else ""),
        shown=f"{len(seen)} scans, tracked online",
        time=seen.time,
        tracks=tracks,
        truth=truth,
        measurements=[seen.z[seen.rows(k), :2] for k in range(len(seen))],
        errors={}
        if truth is None or c is None
        else {name: errors(truth, scans, (dims, c, 1.0)) for name, scans in tracks.items()},
        velocity=velocity_of(recording.models["motion"]),
        metric="" if truth is None or c is None else f"GOSPA: c = {c:g} m, p = 1, mean over scans",
        headings=[recorded.HEADINGS[key] for key in keys],
        rows={name: [recorded.text(key, row.get(key)) for key in keys] for name, row in scores.items()},
        axes=(seen.names[0], seen.names[1]),
        unit=module.UNIT,
        y_down=module.UNIT == "px",
    )


def errors(truth: Trajectories, scans: Sequence[Tracks], metric: tuple[int, float, float]) -> Errors:
    """GOSPA of tracks in each scan; `metric` is how many entries of a state count, cut-off c and order p."""
    dims, c, p = metric
    parts, assigned = [], []
    for k, tracks in enumerate(scans):
        here = np.flatnonzero(~np.isnan(truth.states[:, k]).any(axis=1))
        found = gospa(truth.states[here, k, :dims], tracks.mean[:, :dims], c=c, p=p)
        parts.append((found.total_p, found.localisation, found.missed, found.false))
        row = np.full(len(tracks), -1)
        row[found.estimate_index] = here[found.truth_index]
        assigned.append(row)
    return Errors(np.array(parts) ** (1 / p), assigned)


def positions(sensor: Sensor, scans: Sequence[np.ndarray], dim: int) -> list[np.ndarray] | None:
    """Measurements (m_k, d_z) as positions (m_k, 2), None where the sensor does not tell positions.

    Args:
        sensor: sensor model.
        scans:  its measurements.
        dim:    length of the state.
    """
    try:
        return [sensor.locate(z, dim)[0][:, :2] for z in scans]
    except ValueError:  # a FunctionSensor without `locate_fn`
        return None


def velocity_of(motion: Motion) -> int | None:
    """Where in the state the velocity begins, None if there is none in the plane."""
    return motion.dims if motion.dims >= 2 and motion.dim >= 2 * motion.dims else None


def require_room(points: int, objects: int, trackers: int) -> None:
    """Raise ValueError if a page of so much would be too large for a browser.

    Args:
        points:   measurements of all scans.
        objects:  true objects of all scans, or about as many.
        trackers: how many there are.
    """
    size = BYTES_PER_POINT * (points + objects) + BYTES_PER_TRACK * objects * trackers
    if size > LARGEST:
        raise ValueError(
            f"a page of this would have about {size / 1e6:.0f} MB, accepted are {LARGEST / 1e6:.0f}. "
            "Compare fewer trackers, or a smaller scenario or recording."
        )


def _reported(tracks, rows, k):
    """Those tracks of scan k that the rows of results hold."""
    return tracks.take(np.flatnonzero(np.isin(tracks.label, rows.extra["id"][rows.rows(k)])))


def _row(means):
    """What a tracker's row in the table of means holds."""
    count = means["cardinality"]
    numbers = [table.number(means[key]) for key in (*HEADINGS, "ospa")]
    return [*numbers, f"{table.number(count['expected'], 3)}/{table.number(count['true'], 3)}"]


def _metric(problem):
    """What GOSPA is in a scenario, in words."""
    of = "positions" if problem.metric_dims == 2 else f"the first {problem.metric_dims} entries of the state"
    over = "at the last scan" if problem.scored == "last" else f"{problem.average} over scans"
    return f"GOSPA of {of}: c = {problem.gospa_c:g} m, p = {problem.gospa_p:g}, {over}"
