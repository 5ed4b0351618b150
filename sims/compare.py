"""Compare trackers on a simulated scenario or on recordings: `python -m sims.compare --help`.

The table goes to standard output, progress to standard error. Exit status: 0 done, 1 failed on the way,
2 bad input, 130 interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sims.arguments import a_scenario, add_trackers, add_workers, check_workers, workers_of
from sims.evaluate import OTHER_SEEDS, choose_thresholds, evaluate, scene_of, warm_up
from sims.recordings import run as recorded
from sims.report import command as report
from sims.report.replay import of_recording, of_scenario, require_room
from sims.scenarios import SCENARIOS
from sims.table import document, show, wide_console
from sims.trackers import DEFAULT, FILTERS, TRACKERS, settings_of, with_threshold
from tracking import program
from tracking.notice import notice_of_compilation
from tracking.program import Parser, failed, natural, output, positive, run

PROGRAM = "python -m sims.compare"
DEMONSTRATION = "crossing"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    args = parse(argv)
    work = list_names if args.list else compare_recordings if args.recording else compare
    return run(PROGRAM, lambda: work(args))


def compare(args: argparse.Namespace) -> int:
    """Run trackers on a scenario, write the JSON file and print the table."""
    problem, seed = args.scenario, args.seed
    settings = {name: settings_of(problem, name) for name in args.trackers}
    try:
        workers = workers_of(args)
        for name in settings:  # as a tracker without weights for this scenario
            TRACKERS[name](problem, **settings[name])
        if report.wanted(args):
            scene = scene_of(problem, seed, 0)
            objects = sum(len(scene.truth.at(k)) for k in range(len(scene)))
            require_room(sum(map(len, scene.scans)), objects, len(settings))
    except ValueError as error:
        return failed(PROGRAM, 2, str(error))
    with notice_of_compilation():
        for name in settings:
            warm_up(problem, name, settings[name])
    choice = None
    if args.choose_threshold:
        runs = args.choose_runs
        with progress("thresholds", runs * len(settings)) as advance:
            chosen = choose_thresholds(
                problem, settings, seed=seed, runs=runs, workers=workers, advance=advance
            )
        settings = {name: with_threshold(name, settings[name], chosen[name]) for name in settings}
        choice = {"seed": seed + OTHER_SEEDS, "runs": runs, "thresholds": chosen}
    with progress(problem.name, args.runs * len(settings)) as advance:
        scores = evaluate(problem, settings, seed=seed, runs=args.runs, workers=workers, advance=advance)
    result = document(problem, scores, settings, seed, choice)
    status = write_json(result, args.json) if args.json else 0
    if report.wanted(args):
        with progress("replay", len(settings)) as advance:
            replay = of_scenario(problem, settings, seed, advance)
        status = write_replay(replay, args) or status
    show(result, wide_console())
    return status


def compare_recordings(args: argparse.Namespace) -> int:
    """Run trackers on recordings, write the files asked for and print the table."""
    try:
        recordings = recorded.load(args)
    except ValueError as error:
        return failed(PROGRAM, 2, str(error))
    except OSError as error:
        return failed(PROGRAM, 2, f"{error.filename}: {error.strerror}")
    try:
        recorded.require_scorer(args, recordings)
        if report.wanted(args):
            points = len(recordings[0].detections.z)
            require_room(points, points, len(args.trackers))
    except (ImportError, ValueError) as error:
        return failed(PROGRAM, 2, str(error))
    if args.results:
        try:
            recorded.make_folders(args.trackers, Path(args.results))
        except OSError as error:
            return failed(PROGRAM, 1, f"cannot write {error.filename}: {error.strerror}")
    module = recorded.FORMATS[args.recording[0]]
    with notice_of_compilation():
        for name in args.trackers:
            recorded.warm_up(name, recordings[0])
    with progress(args.recording[0], len(args.trackers) * len(recordings)) as advance:
        found = recorded.evaluate(module, recordings, args.trackers, args.jobs, advance)
    result = recorded.document(module, args, recordings, found)
    status = write_json(result, args.json) if args.json else 0
    if args.results:
        status = write_results(module, found, args.results) or status
    if report.wanted(args):
        with progress("replay", len(args.trackers)) as advance:
            replay = of_recording(module, recordings[0], args.trackers, advance)
        status = write_replay(replay, args) or status
    recorded.show(result, wide_console())
    return status


def write_results(module, found: dict, folder: str) -> int:
    """Write the tracks of every recording; returns the exit status."""
    try:
        recorded.write_results(module, found, Path(folder))
    except (OSError, ValueError) as error:  # ValueError: something other than a file has the name of one
        return failed(PROGRAM, 1, f"cannot write to {folder}: {getattr(error, 'strerror', None) or error}")
    return 0


def write_replay(replay, args: argparse.Namespace) -> int:
    """Write the page and the recording that are asked for; returns the exit status."""
    try:
        report.write(replay, args)
    except (OSError, ValueError) as error:
        return failed(PROGRAM, 1, f"no replay: {getattr(error, 'strerror', None) or error}")
    return 0


def list_names(_: argparse.Namespace) -> int:
    """Print the scenarios and trackers."""
    for each in SCENARIOS.values():
        print(f"{each.name:17} {each.about}")
    print(f"{'trackers':17} {' '.join(TRACKERS)}")
    return 0


def write_json(result: dict, path: str) -> int:
    """Write a result to a file, all of it or nothing; returns the exit status."""
    try:
        program.write_json(path, result)
    except OSError as error:
        return failed(PROGRAM, 1, f"cannot write {path}: {error.strerror}")
    return 0


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, checked; anything wrong is one line on standard error and exit status 2."""
    parser = Parser(PROGRAM, "Compare multitarget trackers.")
    add = parser.add_argument
    add("--scenario", type=a_scenario, metavar="NAME", help=f"see --list; default: {DEMONSTRATION}")
    add_trackers(parser, DEFAULT)
    add("--runs", type=positive, metavar="N", help="scenes; default: as the scenario says")
    add("--seed", type=natural, default=0, metavar="S", help="of the scenes; default: 0")
    add_workers(parser)
    add("--json", type=output, metavar="FILE", help="write the results there too")
    add(
        "--choose-threshold",
        action="store_true",
        help="report objects from the existence probability on that is best on scenes of another seed",
    )
    add("--choose-runs", type=positive, default=100, metavar="N", help="scenes to choose on; default: 100")
    add("--list", action="store_true", help="list scenarios and trackers, and stop")
    report.add_options(parser)
    recorded.add_options(parser)
    args = parser.parse_args(argv)
    if args.recording and (args.scenario or args.runs or args.choose_threshold):
        parser.error("--recording goes without --scenario, --runs and --choose-threshold")
    for given in ("labels", "results"):
        if getattr(args, given) and not args.recording:
            parser.error(f"--{given} goes with --recording, a scenario knows its own truth and writes --json")
    if args.recording and (learned := [name for name in args.trackers if name not in FILTERS]):
        parser.error(f"--recording goes with {', '.join(FILTERS)}, got {', '.join(learned)}")
    if args.recording and args.cluster is not None:
        parser.error("--recording goes without --cluster")
    check_workers(parser, args)
    report.check_options(parser, args)
    args.trackers = list(dict.fromkeys(args.trackers))
    args.scenario = args.scenario or SCENARIOS[DEMONSTRATION]
    args.runs = args.runs or args.scenario.runs
    return args


@contextmanager
def progress(what: str, total: int):
    """A bar on standard error, if that is a terminal; gives the function that moves it on by one."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    err = Console(stderr=True)
    # No refreshing thread: its time would count as that of the trackers.
    with Progress(
        *columns, console=err, auto_refresh=False, transient=True, disable=not err.is_terminal
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.update(task, advance=1, refresh=True)


if __name__ == "__main__":
    sys.exit(main())
