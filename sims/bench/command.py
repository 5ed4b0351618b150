"""The command line of the benchmark: `python -m sims.bench --help`.

Tables go to standard output, progress to standard error. Exit status: 0 done, 1 failed on the way, 2 bad
input, 130 interrupted.
"""

import argparse
import importlib.util
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from typing import Any

from sims.arguments import a_scenario, add_workers, check_workers, workers_of
from sims.bench import events, kernels, scaling, table, threads
from sims.bench.child import Task
from sims.bench.measure import ONE_THREAD, ROOT, machine, take_turns
from sims.compare import progress
from sims.peers import PEERS, REFERENCES
from sims.scenarios import SCENARIOS
from sims.table import wide_console
from sims.trackers import TRACKERS
from tracking.formats.files import atomic_write
from tracking.program import Parser, natural, output, positive, run, write_json

PROGRAM = "python -m sims.bench"
SCENES = ("small", "dense", "large", "huge", "mega")
DEFAULT = ("pmbm", "lmb", "glmb", "gnn", "plain", "truth")
RUNS = 5
CAP = 10  # s
SCALING_RUNS = 1
NAMES = (*TRACKERS, *REFERENCES)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    args = parse(argv)
    work = next((mode for mode, chosen in MODES if getattr(args, chosen)), run_scenarios)

    def measure() -> None:
        result = {
            "command": args.command,
            "date": date.today().isoformat(),
            "machine": machine(),
            **work(args),
        }
        if args.json:
            write_json(args.json, result)

    return run(PROGRAM, measure)


def run_scenarios(args: argparse.Namespace) -> dict[str, Any]:
    """Every tracker on every scenario, a table of each as soon as it is done."""
    workers, trackers = workers_of(args), trackers_of(args)
    result: dict[str, Any] = {
        "seed": args.seed,
        "runs": args.runs,
        "settings": {"cap_s": args.cap, "scans": args.scans},
        "scenarios": {},
    }
    for problem in args.scenario:

        def task(name, run, scenario=problem.name):
            return Task(scenario, 0, name, args.seed, run, args.scans, args.cap)

        with progress(problem.name, args.runs * len(trackers)) as advance:
            found = take_turns(task, trackers, args.runs, workers, advance)
        shown = table.scenario_document(problem, found)
        result["scenarios"][problem.name] = shown
        table.show_scenario(problem.name, shown, wide_console(), problem is args.scenario[-1])
        print(flush=True)
    return result


def run_scaling(args: argparse.Namespace) -> dict[str, Any]:
    """Time per scan by number of objects; writes the plot too."""
    workers, trackers = workers_of(args), trackers_of(args)
    alive, found = list(trackers), {}
    for objects in args.objects or scaling.OBJECTS:

        def task(name, run, objects=objects):
            return Task(None, objects, name, args.seed, run, args.scans, args.cap)

        with progress(f"{objects} objects", args.runs * len(alive)) as advance:
            measured = take_turns(task, alive, args.runs, workers, advance)
        found[objects] = {name: table.summary(rows) for name, rows in measured.items()}
        alive = [name for name in alive if found[objects][name]["finished"]]
    result = scaling.document(found, trackers, args.seed, args.runs)
    if args.plot:
        picture = scaling.plot(result)
        with atomic_write(args.plot, binary=True) as file:
            file.write(picture)
    table.show_scaling(result, wide_console())
    return {"settings": {"cap_s": args.cap, "scans": args.scans or scaling.SCANS}, "scaling": result}


def run_kernels(args: argparse.Namespace) -> dict[str, Any]:
    """The parts of the filters."""
    result = {"about": kernels.ABOUT, "kernels": _in_a_process("kernels", args.seed)}
    table.show_kernels(result, wide_console())
    return {"seed": args.seed, **result}


def run_threads(args: argparse.Namespace) -> dict[str, Any]:
    """The clusters of a scan on one thread and on several."""
    sizes = args.objects or threads.OBJECTS
    found = _in_a_process("threads", args.threads, args.seed, *sizes)
    result = {"about": threads.ABOUT, "threads": args.threads, "sizes": found}
    table.show_threads(result, wide_console())
    return {"seed": args.seed, **result}


def run_events(args: argparse.Namespace) -> dict[str, Any]:
    """Event representations, filters, files and the simulator."""
    found = _in_a_process("events", events.NUMBER, events.FILMED, events.ROUNDS)
    result = {"about": events.ABOUT, **found}
    table.show_events(result, wide_console())
    return result


def _in_a_process(module: str, *arguments: int) -> Any:
    """The answer of a module of this package, run in a process whose libraries keep to one thread."""
    command = [sys.executable, "-m", f"sims.bench.{module}", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, env=os.environ | ONE_THREAD, cwd=ROOT)
    if done.returncode != 0:
        raise RuntimeError(f"timing the {module} failed (exit status {done.returncode})")
    return json.loads(done.stdout)


MODES = ((run_scaling, "scaling"), (run_kernels, "kernels"), (run_threads, "threads"), (run_events, "events"))


def trackers_of(args: argparse.Namespace) -> list[str]:
    """Names of what is measured, in the order in which they take turns."""
    default = scaling.TRACKERS if args.scaling else DEFAULT
    return list(dict.fromkeys([*(args.trackers or default), *(PEERS if args.peers else ())]))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, checked; anything wrong is one line on standard error and exit status 2."""
    parser = Parser(PROGRAM, "CPU time and memory of multitarget trackers, beside their accuracy.")
    add = parser.add_argument
    add("--scenario", type=a_scenario, nargs="+", metavar="NAME", help=f"default: {' '.join(SCENES)}")
    add("--trackers", type=_measured, nargs="+", metavar="NAME", help=f"of {' '.join(NAMES)}")
    add("--runs", type=positive, metavar="N", help=f"scenes; default: {RUNS}, with --scaling {SCALING_RUNS}")
    add("--seed", type=natural, default=0, metavar="S", help="of the scenes; default: 0")
    add("--scans", type=positive, metavar="N", help="only the first scans of each scene")
    add(
        "--cap",
        type=positive,
        metavar="S",
        help="a tracker is cut off when a scan takes more CPU time than this, s, or all scans ten times as "
        f"much; default: {CAP}",
    )
    add("--peers", action="store_true", help=f"also Stone Soup's trackers: {' '.join(PEERS)}")
    add("--scaling", action="store_true", help="time per scan by number of objects at constant density")
    add("--objects", type=positive, nargs="+", metavar="N", help="of --scaling and --threads")
    add("--plot", type=output, metavar="FILE.png", help="picture of --scaling")
    add("--kernels", action="store_true", help="the inner parts of the filters beside SciPy and NumPy")
    add(
        "--events",
        action="store_true",
        help="event representations, filters, files, simulator, beside others",
    )
    add(
        "--threads",
        type=positive,
        metavar="N",
        help="a scan's clusters shared out among N threads, and on one",
    )
    add_workers(parser)
    add("--json", type=output, metavar="FILE", help="write everything there too")
    argv = sys.argv[1:] if argv is None else list(argv)
    args = parser.parse_args(argv)
    args.command = shlex.join([*PROGRAM.split(), *argv])
    _check(parser, args)
    args.objects = sorted(set(args.objects)) if args.objects else None
    scenarios = args.scenario or [SCENARIOS[name] for name in SCENES]
    args.scenario = list({problem.name: problem for problem in scenarios}.values())
    args.cap = args.cap or CAP
    args.runs = args.runs or (SCALING_RUNS if args.scaling else RUNS)
    return args


def _check(parser, args):
    modes = [f"--{name}" for _, name in MODES if getattr(args, name)]
    if len(modes) > 1:
        parser.error(f"{modes[0]} goes without {modes[1]}")
    if modes and args.scenario:
        parser.error(f"--scenario goes without {modes[0]}")
    if args.plot and args.plot == args.json:
        parser.error("--plot and --json must be different files")
    if args.threads == 1:
        parser.error("--threads compares one thread with more: at least 2")
    if (args.kernels or args.threads or args.events) and (args.scans or args.runs or args.cap):
        parser.error(f"{modes[0]} goes without --scans, --runs and --cap")
    if args.plot and not args.scaling:
        parser.error("--plot goes with --scaling")
    if args.objects and not (args.scaling or args.threads):
        parser.error("--objects goes with --scaling and --threads")
    if modes not in ([], ["--scaling"]) and (
        args.trackers or args.peers or args.cluster is not None or args.jobs > 1
    ):
        parser.error(f"{modes[0]} goes without --trackers, --peers, --jobs and --cluster")
    if args.peers and importlib.util.find_spec("stonesoup") is None:
        parser.error("--peers needs Stone Soup: pip install '.[peers]'")
    if args.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs the viz extra: pip install '.[viz]'")
    check_workers(parser, args)


def _measured(text):
    if text not in NAMES:
        raise argparse.ArgumentTypeError(f"unknown tracker {text!r}, choose of: {', '.join(NAMES)}")
    return text
