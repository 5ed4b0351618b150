"""MT3 against filters that are not starved of hypotheses: `python -m sims.studies.mt3 --help`.

Paper: Pinto et al. (FUSION 2021; arXiv 2202.07909) train their network for days on a data-centre GPU and find
that it matches PMBM and delta-GLMB in simple tasks and beats them in hard ones. Here: the same tasks, filters
with hypotheses per cluster, every method's threshold chosen on windows of other seeds, the same test windows
for all. The network that ships is not the paper's but `tracking.mt3.trajectory`, trained for an hour of a CPU
or for minutes on a GPU; its card says for how long. The paper's own network has not been trained to its end
here; with weights of it, or others, `--trackers pmbm FILE.safetensors` compares them.

Three questions: the tasks themselves; the same network where detection, clutter, speed or number of objects
are not those of its training; and streams much longer than its window. Exit status as of `sims.compare`.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from rich.table import Table

from sims.arguments import a_scenario, add_trackers, add_workers, check_workers, workers_of
from sims.compare import progress
from sims.evaluate import evaluate, warm_up
from sims.parallel import Workers
from sims.scenarios import SCENARIOS, Scenario
from sims.scenarios.mt3 import DT
from sims.scenarios.radar import InField
from sims.table import document, number, paired, show, wide_console
from sims.targets import Clutter, Process, simulate
from sims.trackers import TRACKERS, WEIGHTS, settings_of
from tracking.models import GaussianBirth, UniformBirth
from tracking.notice import notice_of_compilation
from tracking.program import Parser, natural, output, positive, run, write_json

PROGRAM = "python -m sims.studies.mt3"
TASKS = ("mt3-task1", "mt3-task2", "radar-1", "radar-2", "radar-3", "radar-4")
DEFAULT = ("pmbm", "glmb", "lmb", "mt3")
RUNS, FEW = 1000, 200
CHANGE = 0.25  # of what changes off the training distribution
STREAM = 200  # scans
SHIFTS = {
    "detection lower by 25%": {"p_detect": 1 - CHANGE},
    "clutter more by 25%": {"clutter": 1 + CHANGE},
    "clutter less by 25%": {"clutter": 1 - CHANGE},
    "faster by 25%": {"speed": 1 + CHANGE},
    "slower by 25%": {"speed": 1 - CHANGE},
    "twice the objects": {"objects": 2.0},
    "four times the objects": {"objects": 4.0},
}


def shifted(
    scenario: Scenario,
    *,
    p_detect: float = 1.0,
    clutter: float = 1.0,
    speed: float = 1.0,
    objects: float = 1.0,
    told: bool,
) -> Scenario:
    """A scenario of another world.

    Args:
        scenario: one of TASKS.
        p_detect, clutter, speed, objects: factors of detection probability, clutter points, initial velocity,
                  and expected number of objects, at the start and of births.
        told:     whether the filters know; a network never does.
    """
    world, time = scenario.draw.args  # type: ignore[attr-defined]
    box = Clutter(world.clutter.mean * clutter, world.clutter.lower, world.clutter.upper)
    sensor = _sensor(world.sensor, p_detect, box)
    changed: Process = replace(
        world,
        clutter=box,
        sensor=sensor,
        initial=_changed(world.initial, speed, objects),
        birth=None if world.birth is None else _changed(world.birth, speed, objects),
        max_objects=None if world.max_objects is None else round(objects * world.max_objects),
    )
    scenario = replace(scenario, draw=partial(simulate, changed, time))
    if not told:
        return scenario
    return replace(
        scenario,
        sensor=_sensor(scenario.sensor, p_detect, box),
        initial=_changed(scenario.initial, speed, objects),
        birth=_changed(scenario.birth, speed, objects),
    )


def _sensor(sensor, p_detect, box):
    p = sensor.p_detect
    p = InField(p.value * p_detect) if isinstance(p, InField) else p * p_detect
    return replace(sensor, p_detect=p, clutter_intensity=box.intensity)


def _changed(birth, speed, objects):
    rate = birth.rate
    rate = partial(_times, rate, objects) if callable(rate) else np.asarray(rate) * objects
    birth = replace(birth, rate=rate if callable(rate) or rate.ndim else float(rate))
    if isinstance(birth, UniformBirth):
        return replace(birth, rest_std=np.asarray(birth.rest_std) * speed)
    assert isinstance(birth, GaussianBirth)
    scale = np.ones(birth.mean.shape[1])
    scale[2:4] = speed
    return replace(birth, cov=birth.cov * scale[:, None] * scale)


def _times(rate, factor, time):
    return factor * rate(time)


def stream(scenario: Scenario, scans: int = STREAM) -> Scenario:
    """A scenario that goes on for many scans, all of them scored, births in each."""
    world, _ = scenario.draw.args  # type: ignore[attr-defined]
    lasting = replace(world, quiet_scans=0, nonempty=False)
    birth = scenario.birth
    if callable(getattr(birth, "rate", None)):  # filters need not be told that births end early
        birth = replace(birth, rate=float(birth.rate(0.0)))
    return replace(
        scenario,
        draw=partial(simulate, lasting, DT * np.arange(scans)),
        birth=birth,
        scored="all",
        about=f"{scenario.about}; a stream of {scans} scans",
    )


def study(args: argparse.Namespace) -> dict[str, Any]:
    """All three parts, each table printed as soon as it is there."""
    workers, result = workers_of(args), {"seed": args.seed, "tasks": {}, "shifts": {}, "streams": {}}
    console = wide_console()

    def compared(problem, trackers, runs, title):
        found = _compared(problem, trackers, runs, args.seed, workers, title)
        console.print(f"{title}\n")
        show(found, console)
        console.print()
        console.print(_pairs(found))
        print(flush=True)
        return found

    for problem in args.scenario:  # before anything is computed, as a tracker without weights
        for name in args.trackers:
            TRACKERS[name](problem, **settings_of(problem, name))
    for problem in args.scenario:
        result["tasks"][problem.name] = compared(problem, args.trackers, args.runs, "The task")
    for problem in args.scenario if args.shifts else ():
        for name, change in SHIFTS.items():
            for told in (True, False):
                other = shifted(problem, **change, told=told)
                title = f"{name}, filters {'told' if told else 'not told'}"
                key = f"{problem.name}, {title}"
                result["shifts"][key] = compared(other, args.trackers, args.few, title)
    for problem in args.scenario if args.streams else ():
        found = compared(stream(problem), args.trackers, args.streams, "A long stream")
        result["streams"][problem.name] = found
    return result


def _compared(problem: Scenario, trackers, runs: int, seed: int, workers: Workers, title: str):
    settings = {name: settings_of(problem, name) for name in trackers}
    with notice_of_compilation():
        for name in settings:
            warm_up(problem, name, settings[name])
    with progress(f"{problem.name}, {title}", runs * len(settings)) as advance:
        scores = evaluate(problem, settings, seed=seed, runs=runs, workers=workers, advance=advance)
    found = document(problem, scores, settings, seed)
    for name, row in found["trackers"].items() if problem.scored == "last" else ():
        row["cpu_ms_per_window"] = 1e3 * float(np.mean([run.cpu.sum() for run in scores[name]]))
    return found


def is_network(name: str) -> bool:
    """Whether a tracker answers from a window alone, without what it said before."""
    return name.startswith("mt3") or name.endswith(WEIGHTS)


def _pairs(found: dict[str, Any]) -> Table:
    """Each network against each other tracker, and what a window costs."""
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    rows = found["trackers"]
    networks = [name for name in rows if is_network(name)]
    for heading in ("", "ms/window", *(f"{name} minus it" for name in networks)):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for other, row in rows.items():
        signed = [paired(rows[name]["differences"][other]) if name != other else "" for name in networks]
        table.add_row(other, number(row.get("cpu_ms_per_window"), 3), *signed)
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    args = parse(argv)

    def work() -> None:
        result = study(args)
        if args.json:
            write_json(args.json, result)

    return run(PROGRAM, work)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, checked."""
    parser = Parser(PROGRAM, "MT3 and filters on the tasks that MT3 was made for.")
    add = parser.add_argument
    add(
        "--scenario",
        type=a_scenario,
        nargs="+",
        metavar="NAME",
        help=f"default: those of {' '.join(TASKS)} with weights",
    )
    add_trackers(parser, DEFAULT)
    add("--runs", type=positive, default=RUNS, metavar="N", help=f"windows of a task; default: {RUNS}")
    add("--few", type=positive, default=FEW, metavar="N", help=f"windows of a shift; default: {FEW}")
    add("--shifts", action="store_true", help="also other detection, clutter, speed and number of objects")
    add("--streams", type=natural, default=0, metavar="N", help=f"also N streams of {STREAM} scans")
    add("--seed", type=natural, default=0, metavar="S")
    add("--json", type=output, metavar="FILE")
    add_workers(parser)
    args = parser.parse_args(argv)
    check_workers(parser, args)
    if args.scenario is None:
        from tracking.mt3 import shipped

        args.scenario = [SCENARIOS[name] for name in TASKS if name in shipped()]
    return args


if __name__ == "__main__":
    sys.exit(main())
