"""Paths of objects: a filter of trajectories, or a recorder? `python -m sims.studies.trajectories --help`.

A small scene in clutter, in which objects come, go and meet. At its end each method says who was where when:

    tpmbm L      trajectory PMBM, the last L states jointly Gaussian (Garcia-Fernandez et al., TSP 2020)
    smoothed     PMBM with a `Recorder`: the associations that it reported at the time, smoothed
    unsmoothed   what PMBM reported at the time, joined by label

All have the same models and thresholds. The score is the trajectory GOSPA error of positions per scan, at its
power: the root of the mean over scans; parts are means of that power. Differences to the reference, the
trajectory PMBM of the longest window, are with 95 % intervals, paired over scenes. Exit status as of
`sims.compare`.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import date
from time import process_time
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from sims.bench.measure import machine
from sims.parallel import Workers, each
from sims.table import interval
from sims.targets import Clutter, Process, Scene, simulate
from tracking.filters.pmbm import PMBM, PMBMConfig
from tracking.filters.tpmbm import TPMBM, TPMBMConfig
from tracking.metrics.trajectory import trajectory_gospa
from tracking.models import ConstantVelocity, PositionSensor, Survival, UniformBirth
from tracking.program import Parser, natural, output, positive, run, write_json
from tracking.smoothing import Recorder, joined
from tracking.tracks import Trajectories

PROGRAM = "python -m sims.studies.trajectories"
LOWER, UPPER = (0.0, 0.0), (100.0, 100.0)  # m
SCANS = 40  # one a second
SPEED, Q = 1.5, 0.05  # m/s, m^2/s^3
LIFE = 0.98  # probability to survive one second
OBJECTS, BORN = 4, 0.1  # at first, and a second
STD, P_DETECT, CLUTTER = 1.0, 0.85, 6.0  # m, probability, points a scan
C, P, SWITCH = 10.0, 2.0, 2.0  # cut-off (m), order and switching penalty (m) of the metric
WINDOWS = (1, 5, 10)
PARTS = ("localisation", "missed", "false", "switch")

CLUTTERED = Clutter(CLUTTER, LOWER, UPPER)
MODELS: dict[str, Any] = {
    "motion": ConstantVelocity(q=Q),
    "sensor": PositionSensor(std=STD, p_detect=P_DETECT, clutter_intensity=CLUTTERED.intensity),
    "birth": UniformBirth(BORN, SPEED, 0.0, LOWER, UPPER),
    "survival": Survival(LIFE, LOWER, UPPER),
    "initial": UniformBirth(float(OBJECTS), SPEED, 0.0, LOWER, UPPER),
}
ARMS = (*(f"tpmbm {window}" for window in WINDOWS), "smoothed", "unsmoothed")
REFERENCE = f"tpmbm {WINDOWS[-1]}"


def scene(seed: int) -> Scene:
    """Truth and scans of a seed."""
    process = Process(**MODELS, clutter=CLUTTERED)
    return simulate(process, np.arange(float(SCANS)), np.random.default_rng(seed))


def estimated(arm: str, world: Scene) -> Trajectories:
    """What a method says of a scene at its end."""
    if arm.startswith("tpmbm"):
        tracker = TPMBM(**MODELS, config=TPMBMConfig(window=int(arm.split()[1])))
        for time, z in zip(world.time, world.scans):
            tracker.step(z, time)
        return joined(tracker.trajectories(), world.time)
    recorder = Recorder(PMBM(**MODELS, config=PMBMConfig()))
    tracks = [recorder.step(z, time) for time, z in zip(world.time, world.scans)]
    if arm == "smoothed":
        return joined(recorder.trajectories(), world.time)
    return Trajectories.from_tracks(tracks)


def score(arm: str, seed: int) -> tuple[float, ...]:
    """Error per scan (m), its parts (m^P) and CPU seconds of a method on one scene."""
    world = scene(seed)
    began = process_time()
    found = estimated(arm, world)
    spent = process_time() - began
    g = trajectory_gospa(world.truth.states[..., :2], found.states[..., :2], C, P, SWITCH)
    parts = (getattr(g, part) / SCANS for part in PARTS)
    return ((g.total_p / SCANS) ** (1 / P), *parts, spent)


def study(seeds: int, seed: int, jobs: int, advance=lambda: None) -> dict[str, Any]:
    """What is written: scores of every method, and differences to the reference."""
    calls = [(arm, seed + s) for arm in ARMS for s in range(seeds)]
    scores = np.reshape(each(score, calls, Workers(jobs), advance), (len(ARMS), seeds, -1))
    reference = scores[ARMS.index(REFERENCE), :, 0]
    rows: dict[str, dict[str, Any]] = {}
    for arm, found in zip(ARMS, scores):
        rows[arm] = {
            "error": float(found[:, 0].mean()),
            "minus_reference": float((found[:, 0] - reference).mean()),
            "ci95": interval(found[:, 0] - reference),
            "parts": dict(zip(PARTS, found[:, 1:-1].mean(axis=0).tolist())),
            "cpu_ms_per_scan": float(1e3 * np.median(found[:, -1]) / SCANS),
            "runs": found[:, 0].tolist(),
        }
    return {"seeds": seeds, "seed": seed, "reference": REFERENCE, "methods": rows}


def show(found: dict[str, Any], console: Console) -> None:
    """Print the table."""
    table = Table("method", "error, m", f"minus {REFERENCE}, 95 %", *PARTS, "ms per scan")
    for arm, row in found["methods"].items():
        ends = row["ci95"]
        gap = f"{row['minus_reference']:+.3f}"
        gap += "" if ends is None else f" [{ends[0]:+.3f}, {ends[1]:+.3f}]"
        parts = (f"{row['parts'][part]:.2f}" for part in PARTS)
        own = "" if arm == REFERENCE else gap
        table.add_row(arm, f"{row['error']:.3f}", own, *parts, f"{row['cpu_ms_per_scan']:.1f}")
    console.print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    args = parse(argv)

    def work() -> None:
        console = Console(stderr=True)
        with Progress(console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("scenes", total=args.seeds * len(ARMS))
            found = study(args.seeds, args.seed, args.jobs, lambda: progress.advance(task))
        show(found, Console(width=110))
        if args.json:
            about = {"machine": machine(), "date": date.today().isoformat()}
            write_json(args.json, about | found)

    return run(PROGRAM, work)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, checked."""
    parser = Parser(PROGRAM, __doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--seeds", type=positive, default=40, metavar="N", help="scenes; default: 40")
    add("--seed", type=natural, default=0)
    add("--jobs", type=positive, default=1, metavar="J", help="processes; default: 1")
    add("--json", type=output, metavar="FILE")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
