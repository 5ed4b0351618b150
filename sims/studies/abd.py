"""Does a backdoor pass to a student without data, and what stops it: `python -m sims.studies.abd --help`.

Hong et al. (ABD, ICML 2023) poison 10 % of CIFAR-10 and distil WRN-16-2 into WRN-16-1; with ZSKT the
attack's success goes from 99.9 to 96.9 % (BadNets grid) in the student and to 0.7 % with ABD, which costs 3.6
points; Blend 99.7, 74.4, 23.1 %. Here: 8 x 8 digits, small residual networks, minutes of one core. Rows:

    clean KD      a fifth of the real images, clean
    vanilla       data-free (DFQ's terms), no defence
    vaccine       the paper's shuffling vaccine alone
    retrospect    the paper's self-retrospection alone
    ABD           both
    classwise     our extension: sparse and dense search for each class, batch norm frozen
    classwise, by the scan      the same, as strong as a scan is sure; wants --calibrate
    classwise, masks as found; denser masks; scattered; dense alone; batch norm trains      its ablations:
                                            masks no denser than they are found, or up to three times, no
                                            contiguity of masks, no masks, batch norm not frozen

Accuracy and success are read for reporting; what was chosen by them is in docs/data_free/README.md. With
--scan and --clean poisoned teachers and clean ones are looked at without data, by the scan and, as its
yardstick, by the largest margins of MM-BD; those of --calibrate, clean ones again, say what scores clean
teachers have. With --cost the clean ones of --clean have students, too: what is lost where there was nothing
to defend from. A teacher is trained for every trigger and seed; its target is class 0, or with --spread
another one each time. What did not reproduce is in docs/data_free/README.md. What --json has already is not
computed again. Exit status as of `sims.compare`.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from adapt.data_free.abd import abd, abd_classwise
from adapt.data_free.backdoor import TRIGGERS, Trigger, poisoned, success_rate
from adapt.data_free.distiller import Config, Distiller
from adapt.data_free.margin import largest_margins
from adapt.data_free.presets import SMALL, dfq
from adapt.data_free.scan import SPREAD, Calibration, Suspicion, calibrated, class_flips, judged
from adapt.data_free.search import DENSEST, search_for
from adapt.data_free.sources import TensorSource
from adapt.data_free.updates import Plain
from sims.images import FILES, LABELLED
from sims.studies.record import Record
from sims.table import signed
from sims.teachers import Task, fresh, task_of, trained
from tracking.program import Parser, natural, output, positive, run

PROGRAM = "python -m sims.studies.abd"
TEACHER, STUDENT = "resnet-16", "resnet-8"
BY_SCAN = "classwise, by the scan"
AS_FOUND, DENSER = "classwise, masks as found", "classwise, denser masks"
ROWS = (
    "clean KD",
    "vanilla",
    "vaccine",
    "retrospect",
    "ABD",
    "classwise",
    BY_SCAN,
    AS_FOUND,
    DENSER,
    "classwise, scattered",
    "classwise, dense alone",
    "classwise, batch norm trains",
)
SHARE = 5  # of the training images, one in so many is what clean KD has


def student_of(
    task: Task, teacher: nn.Module, row: str, config: Config, suspicion: Suspicion | None
) -> nn.Module:
    """The student of a row; the last is what a scan said of the teacher."""
    student = fresh(task, STUDENT, config.seed)
    if row == "clean KD":
        x = task.given(task.x[::SHARE])
        d = Distiller(teacher, student, TensorSource(x), Plain(), config=config)
    else:
        d = dfq(teacher, student, task.shape, replace(SMALL, config=config))
    if row in ("vaccine", "retrospect", "ABD"):
        weight, start = (0.0 if row == "retrospect" else 0.1), (1.0 if row == "vaccine" else 0.8)
        d = abd(d, vaccine=weight, start=start)
    if row.startswith("classwise"):
        search = search_for(task.shape, task.bounds)
        if row.endswith("scattered"):
            search = replace(search, contiguity=0.0)
        if row.endswith("alone"):
            search = replace(search, budgets=tuple(b for b in search.budgets if b.kind == "dense"))
        if row in (AS_FOUND, DENSER):
            search = replace(search, densest=1.0 if row == AS_FOUND else DENSEST)
        suspicion = suspicion if row == BY_SCAN else None
        d = abd_classwise(d, task.bounds, config=search, suspicion=suspicion)
        if row.endswith("trains"):
            assert d.phase is not None
            d = replace(d, phase=replace(d.phase, frozen=False))
    d.fit()
    return student


def scored(task: Task, network: nn.Module, trigger: Trigger, target: int) -> dict[str, float]:
    """Accuracy on test images and success of the attack, percent."""
    asked = task.asking(network).eval()
    return {
        "accuracy": task.accuracy(network),
        "success": 100 * success_rate(asked, task.test_x, task.test_y, trigger, target),
    }


def one(
    task: Task, name: str, seed: int, args: argparse.Namespace, record: Record, known: Calibration | None
) -> dict[str, Any]:
    """All rows of one poisoned teacher."""
    console = Console(stderr=True)
    trigger = TRIGGERS[name]
    target = (3 * seed + 3 * list(TRIGGERS).index(name)) % task.classes if args.spread else 0
    x, y = poisoned(task.x, task.y, trigger, target)
    # once, and not at all where all is known
    teacher = cache(partial(trained, replace(task, x=x, y=y), TEACHER, seed, args.teacher_steps))
    config = Config(epochs=args.epochs, rounds=args.rounds, seed=seed)

    found: dict[str, Any] = {"trigger": name, "seed": seed, "target": target}
    suspicion = None
    if args.scan:
        found["scan"] = record.part(f"{name}, {seed}, scan", lambda: looked_at(teacher(), task))
        suspicion = suspected(found["scan"], known)

    def taught(row: str) -> dict[str, float]:
        network, start = teacher(), time.process_time()
        student = student_of(task, network, row, config, suspicion)
        return scored(task, student, trigger, target) | {"cpu_s": round(time.process_time() - start, 1)}

    as_it_is = record.part(f"{name}, {seed}, teacher", lambda: scored(task, teacher(), trigger, target))
    rows = {"teacher": as_it_is}
    for row in args.rows:
        rows[row] = said = record.part(f"{name}, {seed}, {row}", partial(taught, row))
        console.print(
            f"{name}, seed {seed}: {row}: {said['accuracy']:.1f}/{said['success']:.1f}", highlight=False
        )
    return found | {"rows": rows}


def task_for(args: argparse.Namespace, seed: int) -> Task:
    """What teachers and students of a seed are of; MNIST is made small."""
    side = args.side if args.dataset == "mnist" else None
    return task_of(args.dataset, args.data, seed, args.images, side)


def looked_at(teacher: nn.Module, task: Task) -> dict[str, Any]:
    """What a scan counts of a teacher, and the margins of MM-BD."""
    return {
        "flips": class_flips(teacher, task.shape, task.bounds).tolist(),
        "margins": [largest_margins(teacher, task.shape, task.bounds).tolist()],
    }


def suspected(said: dict[str, Any], known: Calibration | None, by: str = "flips") -> Suspicion:
    """What was counted, or the margins, judged by clean teachers."""
    return judged(torch.tensor(said[by]), known)


def study(args: argparse.Namespace, record: Record) -> dict[str, Any]:
    """All triggers, seeds and rows."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {"poisoned": [], "clean": [], "calibration": [], "cost": []}
    first = args.first_seed
    for seed in range(first + args.clean, first + args.clean + args.calibrate):
        found["calibration"].append(clean(seed, (), args, record, None)[0])
    known = calibration_of(found)
    for seed in range(first, first + args.seeds):
        task = task_for(args, seed)
        found["poisoned"] += [one(task, name, seed, args, record, known) for name in args.triggers]
    for seed in range(first, first + args.clean):
        said, accuracies = clean(seed, args.rows if args.cost else (), args, record, known)
        found["clean"].append(said)
        if args.cost:
            found["cost"].append(accuracies)
    return found


def calibration_of(found: dict[str, Any], by: str = "flips") -> Calibration | None:
    """By the clean teachers that serve for it, if there are enough."""
    of = [suspected(said, None, by) for said in found["calibration"]]
    spread = SPREAD if by == "flips" else 0.01  # margins of clean teachers are much alike
    return calibrated(of, spread=spread) if len(of) > 2 else None


def clean(
    seed: int, rows: Sequence[str], args: argparse.Namespace, record: Record, known: Calibration | None
) -> tuple[dict[str, Any], dict[str, float]]:
    """What a scan says of a teacher that was not poisoned, and accuracies of it and of students."""
    task, config = task_for(args, seed), Config(epochs=args.epochs, rounds=args.rounds, seed=seed)
    teacher = cache(partial(trained, task, TEACHER, 500 + seed, args.teacher_steps))

    def look() -> dict[str, Any]:
        return {"accuracy": task.accuracy(teacher())} | looked_at(teacher(), task)

    said = record.part(f"clean, {seed}, scan", look)
    suspicion = suspected(said, known)

    def taught(row: str) -> float:
        return task.accuracy(student_of(task, teacher(), row, config, suspicion))

    found = {"teacher": said["accuracy"]}
    for row in rows:
        found[row] = record.part(f"clean, {seed}, {row}", partial(taught, row))
    each = ", ".join(f"{name} {accuracy:.1f}" for name, accuracy in found.items())
    Console(stderr=True).print(f"clean, seed {seed}: {each}", highlight=False)
    return said, found


def show(found: dict[str, Any], rows: Sequence[str]) -> None:
    """Print the tables."""
    console = Console(width=130)
    for name in dict.fromkeys(f["trigger"] for f in found["poisoned"]):
        of = [f for f in found["poisoned"] if f["trigger"] == name]
        table = Table(name, "accuracy", "success", "by seed", "accuracy minus vanilla", "CPU s")
        for row in ("teacher", *rows):
            said = [f["rows"][row] for f in of]
            each = " ".join(f"{s['accuracy']:.1f}/{s['success']:.1f}" for s in said)
            means = [f"{np.mean([s[k] for s in said]):.1f}" for k in ("accuracy", "success")]
            gap = "" if row in ("teacher", "vanilla") or "vanilla" not in rows else _gap(of, row)
            cost = "" if row == "teacher" else f"{np.mean([s['cpu_s'] for s in said]):.0f}"
            table.add_row(row, *means, each, gap, cost)
        console.print(table)
    show_scans(found, console)
    if found["cost"]:
        table = Table("of clean teachers", "accuracy", "by seed", "minus vanilla")
        for row in ("teacher", *rows):
            scores = np.array([cost[row] for cost in found["cost"]])
            gap = ""
            if row not in ("teacher", "vanilla") and "vanilla" in rows:
                gap = signed(scores - [cost["vanilla"] for cost in found["cost"]], 1)
            table.add_row(row, f"{scores.mean():.1f}", " ".join(f"{s:.1f}" for s in scores), gap)
        console.print(table)


def show_scans(found: dict[str, Any], console: Console) -> None:
    """Print what the scans say, and beside it MM-BD, both judged by the same clean teachers."""
    looks = [
        (f"{f['trigger']}, seed {f['seed']}", str(f["target"]), f["scan"])
        for f in found["poisoned"]
        if "scan" in f
    ]
    looks += [(f"clean, {k}", "", scan) for k, scan in enumerate(found["clean"])]
    known, margins = calibration_of(found), calibration_of(found, "margins")
    table = Table("scan of", "target", "class", "score", "sure", "MM-BD: class", "score", "sure")
    for name, target, said in looks:
        row = [suspected(said, known), suspected(said, margins, "margins")]
        table.add_row(name, target, *(cell for s in row for cell in _cells(s)))
    if looks:
        console.print(table)
    for name, of in (("the scan", known), ("MM-BD", margins)):
        if of is not None:
            mean, wide = np.exp(of.mean), np.exp(of.std)
            console.print(
                f"scores of {of.count} clean teachers by {name}: {mean:.2f}, times or over {wide:.2f}"
            )


def _cells(found: Suspicion) -> list[str]:
    sure = "" if found.sure is None else f"{found.sure:.3f}"
    return [str(found.target), f"{found.score:.2f}", sure]


def _gap(of: list[dict[str, Any]], row: str) -> str:
    gaps = np.array([f["rows"][row]["accuracy"] - f["rows"]["vanilla"]["accuracy"] for f in of])
    return signed(gaps, 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    args = parse(argv)

    def work() -> None:
        names = ("images", "side", "teacher_steps", "epochs", "rounds", "spread")
        settings = {k: getattr(args, k) for k in names}
        record = Record(args.json, task=args.dataset, **settings)
        show(study(args, record), args.rows)

    return run(PROGRAM, work)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, checked."""
    parser = Parser(PROGRAM, "Does a backdoor pass to a student without data, and what stops it.")
    add = parser.add_argument
    add("--triggers", nargs="+", choices=TRIGGERS, default=("patch", "blend", "smooth"), metavar="NAME")
    add("--rows", nargs="+", choices=ROWS, metavar="ROW", help="; ".join(ROWS))
    add("--seeds", type=positive, default=5, metavar="N", help="teachers, and students, of each trigger")
    add("--first-seed", type=natural, default=0, metavar="S")
    add("--spread", action="store_true", help="targets differ from teacher to teacher")
    add("--scan", action="store_true", help="look for the backdoor of each teacher without data")
    add("--clean", type=natural, default=0, metavar="N", help="clean teachers that are looked at as well")
    add("--cost", action="store_true", help="students of the clean teachers of --clean, of all rows")
    add(
        "--calibrate", type=natural, default=0, metavar="N", help="clean teachers that say how sure a scan is"
    )
    add("--dataset", choices=LABELLED, default="digits", help="default: digits, which come along")
    add("--data", metavar="FOLDER", help=f"where the others are: {', '.join(FILES.values())}")
    add("--images", type=positive, default=10_000, metavar="N", help="of MNIST, that a teacher learns from")
    add("--side", type=positive, default=16, metavar="N", help="pixels MNIST is scaled to; default: 16")
    add("--teacher-steps", type=positive, default=600, metavar="N")
    add("--epochs", type=positive, default=15, metavar="N")
    add("--rounds", type=positive, default=10, metavar="N", help="of each epoch")
    add("--quick", action="store_true", help="one seed, trigger and few steps, to see that it runs")
    add("--json", type=output, metavar="FILE")
    args = parser.parse_args(argv)
    if args.rows is None:  # classwise itself has masks as found on 8 x 8 pixels, denser ones on others
        left_out = (BY_SCAN, AS_FOUND if args.dataset == "digits" else DENSER)
        args.rows = tuple(row for row in ROWS if row not in left_out)
    if 0 < args.calibrate < 3:
        parser.error(f"--calibrate needs at least three clean teachers, got {args.calibrate}")
    if args.cost and not args.clean:
        parser.error("--cost is of the teachers of --clean, and there are none")
    if BY_SCAN in args.rows and not (args.scan and args.calibrate > 2):
        parser.error(f"{BY_SCAN!r} needs --scan, and at least three teachers to --calibrate")
    if args.quick:
        args.seeds, args.triggers, args.teacher_steps, args.epochs, args.rounds = 1, ("patch",), 30, 2, 1
        args.rows = ("vanilla", "ABD")
    return args


if __name__ == "__main__":
    sys.exit(main())
