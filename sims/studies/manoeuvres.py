"""Targets that manoeuvre: one motion model, or several (IMM)? `python -m sims.studies.manoeuvres --help`.

Objects fly straight for a while, then turn hard for a while, and so on. Three filters of the same kind see
the same scans among clutter:

    cv   constant velocity, whose noise must cover the turns
    ct   a coordinated turn, which must find its turn rate on every leg anew
    imm  both, as an interacting multiple model (Blom, Bar-Shalom, TAC 1988)

Each has nine settings, of which it keeps the one of least GOSPA on scenes of other seeds. Then all are scored
on the same fresh scenes: GOSPA and the root mean square error of positions within its cut-off. Intervals are
95 %, paired over scenes. Exit status as of `sims.compare`.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import date
from itertools import product
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from sims.bench.measure import machine
from sims.parallel import Workers, each
from sims.table import interval
from sims.targets import Clutter, Scene, observe
from sims.trackers import FILTERS
from tracking.metrics import gospa
from tracking.models import (
    IMM,
    ConstantVelocity,
    CoordinatedTurn,
    Embedded,
    PositionSensor,
    Survival,
    UniformBirth,
)
from tracking.program import Parser, natural, output, positive, run, write_json
from tracking.tracks import Trajectories

PROGRAM = "python -m sims.studies.manoeuvres"
LOWER, UPPER = (0.0, 0.0), (2000.0, 2000.0)  # m
OBJECTS, SCANS = 4, 60  # a scan a second
SPEED, TURN = (15.0, 30.0), (0.12, 0.3)  # m/s, rad/s either way
STRAIGHT, TURNING = 12.0, 8.0  # s, mean length of a leg
SHAKE = 0.1  # m/s, standard deviation of the velocity's noise in a second
STD, P_DETECT, CLUTTER = 8.0, 0.9, 20.0  # m, probability, points a scan
C, P = 40.0, 2.0  # cut-off (m) and order of GOSPA
CHOICE = 10_000  # seeds of the scenes that settings are chosen on begin here

CLUTTERED = Clutter(CLUTTER, LOWER, UPPER)
SENSOR = PositionSensor(std=STD, p_detect=P_DETECT, clutter_intensity=CLUTTERED.intensity)


def truth(rng: np.random.Generator) -> Trajectories:
    """Paths (OBJECTS, SCANS, 5) of straight legs and turns, states as of `CoordinatedTurn`."""
    motion, states = CoordinatedTurn(), np.zeros((OBJECTS, SCANS, 5))
    heading = rng.uniform(0, 2 * np.pi, OBJECTS)
    speed = rng.uniform(*SPEED, OBJECTS)
    x = np.zeros((OBJECTS, 5))
    x[:, :2] = rng.uniform(np.add(LOWER, 600), np.subtract(UPPER, 600), (OBJECTS, 2))
    x[:, 2], x[:, 3] = speed * np.cos(heading), speed * np.sin(heading)
    for k in range(SCANS):
        if k:
            x = motion.transition(x, 1.0)
            x[:, 2:4] += rng.normal(0, SHAKE, (OBJECTS, 2))
        states[:, k] = x
        turning = x[:, 4] != 0
        ends = rng.random(OBJECTS) < np.where(turning, 1 / TURNING, 1 / STRAIGHT)
        rate = rng.uniform(*TURN, OBJECTS) * rng.choice([-1, 1], OBJECTS)
        x = np.column_stack((x[:, :4], np.where(ends, np.where(turning, 0.0, rate), x[:, 4])))
    return Trajectories(np.arange(float(SCANS)), np.arange(OBJECTS), states)


def scene(seed: int) -> Scene:
    """Truth and scans of a seed."""
    rng = np.random.default_rng(seed)
    return observe(truth(rng), SENSOR, CLUTTERED, rng)


def cv(q: float):
    """Constant velocity with a spectral density of acceleration, m^2/s^3."""
    return ConstantVelocity(q=q)


def ct(acceleration: float, turn_rate: float):
    """A coordinated turn with standard deviations of acceleration, m/s^2, and of turn rate, rad/s."""
    return CoordinatedTurn(acceleration, turn_rate)


def imm(q: float, turn_rate: float):
    """Both, with the mean lengths of legs of the world."""
    quiet = Embedded(ConstantVelocity(q=q), 5, rest_std=0.2)
    stay = 1 - 1 / STRAIGHT, 1 - 1 / TURNING
    chain = [[stay[0], 1 - stay[0]], [1 - stay[1], stay[1]]]
    return IMM([quiet, CoordinatedTurn(0.3, turn_rate)], np.array(chain))


ARMS: dict[str, tuple[Callable[..., Any], list[tuple[float, ...]]]] = {
    "cv": (cv, [(q,) for q in (0.1, 0.3, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)]),
    "ct": (ct, list(product((1.5, 3.0, 6.0), (0.01, 0.03, 0.1)))),
    "imm": (imm, list(product((0.1, 0.3, 1.0), (0.06, 0.12, 0.24)))),
}


def score(kind: str, arm: str, settings: tuple[float, ...], seed: int) -> tuple[float, float]:
    """GOSPA (m) and RMSE (m) of a filter on one scene, over all scans but the first five."""
    motion = ARMS[arm][0](*settings)
    spread = 20.0 if motion.dim == 4 else (20.0, 20.0, 0.2)
    birth = UniformBirth(0.02, spread, 0.0, LOWER, UPPER)
    initial = UniformBirth(float(OBJECTS), spread, 0.0, LOWER, UPPER)
    tracker = FILTERS[kind](motion, SENSOR, birth, Survival(0.999), initial=initial)
    found, squares, pairs = [], 0.0, 0
    world = scene(seed)
    for k, (time, z) in enumerate(zip(world.truth.time, world.scans)):
        tracks = tracker.step(z, time)
        if k >= 5:
            g = gospa(world.truth.at(k)[:, :2], tracks.mean[:, :2], c=C, p=P)
            found.append(g.total)
            squares, pairs = squares + g.localisation, pairs + len(g.truth_index)
    return float(np.mean(found)), float(np.sqrt(squares / max(pairs, 1)))


def study(kind: str, seeds: int, tuning: int, seed: int, jobs: int, advance=lambda: None) -> dict[str, Any]:
    """What is written: the choice of settings, all scores, and differences to the last arm."""
    workers = Workers(jobs)
    calls = [
        (kind, arm, settings, CHOICE + seed + s)
        for arm, (_, grid) in ARMS.items()
        for settings in grid
        for s in range(tuning)
    ]
    scores = each(score, calls, workers, advance)
    chosen: dict[str, tuple[float, ...]] = {}
    grids: dict[str, list[dict[str, Any]]] = {}
    for arm, (_, grid) in ARMS.items():
        mean = [
            float(np.mean([s[0] for s, call in zip(scores, calls) if call[1:3] == (arm, settings)]))
            for settings in grid
        ]
        chosen[arm] = grid[int(np.argmin(mean))]
        grids[arm] = [{"settings": list(g), "gospa": m} for g, m in zip(grid, mean)]
    calls = [(kind, arm, chosen[arm], seed + s) for arm in ARMS for s in range(seeds)]
    by_arm = np.reshape(each(score, calls, workers, advance), (len(ARMS), seeds, 2))
    rows: dict[str, dict[str, Any]] = {}
    for arm, found in zip(ARMS, by_arm):
        rows[arm] = {"settings": list(chosen[arm])}
        for i, name in enumerate(("gospa", "rmse")):
            gap = found[:, i] - by_arm[-1, :, i]
            rows[arm][name] = {
                "mean": float(found[:, i].mean()),
                "minus_imm": float(gap.mean()),
                "ci95": interval(gap),
                "runs": found[:, i].tolist(),
            }
    return {"tracker": kind, "seeds": seeds, "tuning": tuning, "seed": seed, "arms": rows, "choice": grids}


def show(found: dict[str, Any], console: Console) -> None:
    """Print the table."""
    table = Table("motion", "settings", "GOSPA, m", "minus imm, 95 %", "RMSE, m", "minus imm, 95 %")
    for arm, row in found["arms"].items():
        cells = [arm, ", ".join(f"{s:g}" for s in row["settings"])]
        for name in ("gospa", "rmse"):
            ends = row[name]["ci95"]
            gap = (
                ""
                if arm == "imm" or ends is None
                else f"{row[name]['minus_imm']:+.2f} [{ends[0]:+.2f}, {ends[1]:+.2f}]"
            )
            cells += [f"{row[name]['mean']:.2f}", gap]
        table.add_row(*cells)
    console.print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    args = parse(argv)

    def work() -> None:
        console = Console(stderr=True)
        with Progress(console=console, disable=not console.is_terminal) as progress:
            total = args.tuning * sum(len(grid) for _, grid in ARMS.values()) + args.seeds * len(ARMS)
            task = progress.add_task(args.tracker, total=total)
            found = study(
                args.tracker, args.seeds, args.tuning, args.seed, args.jobs, lambda: progress.advance(task)
            )
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
    add("--tracker", choices=sorted(FILTERS), default="pmbm", help="default: pmbm")
    add("--seeds", type=positive, default=30, metavar="N", help="scenes that are scored; default: 30")
    add("--tuning", type=positive, default=6, metavar="N", help="scenes for each setting; default: 6")
    add("--seed", type=natural, default=0)
    add("--jobs", type=positive, default=1, metavar="J", help="processes; default: 1")
    add("--json", type=output, metavar="FILE")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
