"""Can one learn to learn from endpoints alone: `python -m sims.studies.bidf_mkd --help`.

Hu et al. (BiDf-MKD, ICML 2023) learn one Conv4 from 100 endpoints, 5-way classifiers of CIFAR-FS,
miniImageNet and CUB, asked some millions of times each, and say that it is superior in all scenarios that
they tested. Here: digits of 8 x 8 pixels, each turned in five ways into other classes (or MNIST's so, or
Omniglot's characters, of 16 x 16 from a folder), 20 endpoints, each a small classifier of 5 of the training
classes, a network of two layers, one CPU core. Test tasks are of real images of classes, and with --split
digit of digits, that no endpoint knows: 5 ways, 1 or 5 shots, 15 queries. Every arm is adapted twice: all
with the rate that is meta-learned with, and each with the one that is best for it on tasks of the validation
classes, which is the harder comparison: a network that has learned nothing then learns faster. Intervals are
95 %, paired, over all test tasks of all seeds, which says how sure these few models are apart, and over
seeds, which says what other endpoints and classes would do. Rows:

    random           a network that has learned nothing
    clone            a network that has learned the answers of the endpoint that is best at its own test
    bidf-mkd         as the paper has it, with second derivatives
    plain query      the query is a second support: no boundary
    same query       the query is the support
    no replay        without tasks of the memory
    real data        MAML on real images of the training classes, which no endpoint gives away

What --json has already is not computed again. Exit status as of `sims.compare`.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from adapt.black_box import BlackBox
from sims.endpoints import endpoints
from sims.few_shot import IN_FOLDER, SPLITS, Classes, accuracies, characters, tasks_of, turned_digits
from sims.meta_learners import RATE, ROWS, trained
from sims.studies.record import Record
from sims.table import signed
from tracking.program import Parser, output, positive, run

PROGRAM = "python -m sims.studies.bidf_mkd"
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)  # of which each arm has its best on validation tasks
N_VALIDATION = 40  # tasks


def world(args: argparse.Namespace, seed: int) -> Classes:
    """The classes of a seed."""
    if args.dataset == "omniglot":
        return characters(args.data, seed)
    return turned_digits(args.split, seed, args.dataset, args.data)


def scored(
    model: nn.Module, known: Classes, shots: int, args: argparse.Namespace, seed: int
) -> dict[str, Any]:
    """Accuracies on test tasks, at the common rate and at that which is best on validation tasks."""
    validation = tasks_of(known.validation, shots, N_VALIDATION, seed + 1)
    rate = max(RATES, key=lambda r: accuracies(model, validation, r).mean())
    test = tasks_of(known.test, shots, args.tasks, seed)
    return {
        "rate": rate,
        "best": accuracies(model, test, rate).round(4).tolist(),
        "common": accuracies(model, test, RATE).round(4).tolist(),
    }


def study(args: argparse.Namespace, record: Record, advance: Callable[[str], object]) -> dict[str, Any]:
    """Row -> for each seed accuracies by shots, queries asked and CPU seconds."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {row: [] for row in args.rows}
    for seed in range(args.seeds):
        known = world(args, seed)
        with ExitStack() as stack:
            apis, own = endpoints(known, args.apis, seed, stack, args.http)
            advance(f"seed {seed}: endpoints are right about {np.mean(own):.3f} of their own test images")
            for row in args.rows:
                work = partial(one_run, row, apis, int(np.argmax(own)), known, args, seed)
                result = record.part(f"{seed}, {row}", work)
                found[row].append(result)
                said = ", ".join(
                    f"{s}-shot {np.mean(result[s]['common']):.4f}, "
                    f"{np.mean(result[s]['best']):.4f} at rate {result[s]['rate']}"
                    for s in map(str, args.shots)
                )
                advance(f"seed {seed}, {row}: {said}, {result['queries']:,} queries, {result['cpu_s']:.0f} s")
    return found


def one_run(
    row: str, apis: Sequence[BlackBox], best: int, known: Classes, args: argparse.Namespace, seed: int
) -> dict[str, Any]:
    """Scores of a row by shots, the queries that it asked and CPU seconds of its training."""
    before, start = sum(api.queries for api in apis), time.process_time()
    model = trained(row, apis, best, known, args.updates, seed)
    seconds = time.process_time() - start
    asked = sum(api.queries for api in apis) - before
    result = {str(shots): scored(model, known, shots, args, seed) for shots in args.shots}
    return result | {"queries": asked, "cpu_s": round(seconds, 1)}


def show(found: dict[str, Any], args: argparse.Namespace) -> None:
    """Print a table for each number of shots, at both rates."""
    console = Console(width=150)
    for shots in map(str, args.shots):
        for at, words in (("common", f"rate {RATE} for all"), ("best", "each at its best rate")):
            table = Table(
                f"{shots}-shot, {words}",
                "accuracy",
                "minus random",
                "over seeds",
                "bidf-mkd minus it",
                "queries",
                "CPU s",
            )
            for row, runs in found.items():
                mine = pooled(runs, shots, at)
                gaps = [
                    ""
                    if other not in found or other == row
                    else signed(sign * (mine - pooled(found[other], shots, at)), 4)
                    for other, sign in (("random", 1), ("bidf-mkd", -1))
                ]
                if gaps[0]:
                    apart = mine - pooled(found["random"], shots, at)
                    gaps.insert(1, signed(apart.reshape(len(runs), -1).mean(1), 3))
                else:
                    gaps.insert(1, "")
                asked, seconds = (np.mean([r[name] for r in runs]) for name in ("queries", "cpu_s"))
                table.add_row(row, f"{mine.mean():.4f}", *gaps, f"{asked:,.0f}", f"{seconds:.0f}")
            console.print(table)
    console.print(
        f"{args.seeds} seeds of {args.tasks} tasks; [ ]: 95 %, paired, over tasks or seeds; queries: of all."
    )


def pooled(runs: Sequence[dict[str, Any]], shots: str, at: str = "best") -> np.ndarray:
    """Accuracies of all tasks of all seeds."""
    return np.concatenate([r[shots][at] for r in runs])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    args = parse(argv)

    def work() -> None:
        console = Console(stderr=True)
        names = ("dataset", "split", "apis", "updates", "tasks", "shots", "http")
        record = Record(args.json, **{name: getattr(args, name) for name in names})
        show(study(args, record, lambda line: console.print(line, highlight=False)), args)

    return run(PROGRAM, work)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, checked."""
    parser = Parser(PROGRAM, "Can one learn to learn from endpoints alone (BiDf-MKD).")
    add = parser.add_argument
    add(
        "--seeds",
        type=positive,
        default=5,
        metavar="N",
        help="classes, endpoints, weights, tasks; default: 5",
    )
    add(
        "--dataset",
        choices=("digits", *IN_FOLDER),
        default="digits",
        help="default: digits, which come along",
    )
    add("--data", metavar="FOLDER", help=f"where the others are: {', '.join(IN_FOLDER.values())}")
    add(
        "--split",
        choices=SPLITS,
        default="digit",
        help="what test classes are new in; default: digit",
    )
    add("--rows", nargs="+", choices=ROWS, default=ROWS, metavar="ROW", help=", ".join(ROWS))
    add("--apis", type=positive, default=20, metavar="N", help="endpoints; default: 20")
    add("--updates", type=positive, default=400, metavar="N", help="of the meta-model; default: 400")
    add("--tasks", type=positive, default=200, metavar="N", help="test tasks; default: 200")
    add("--shots", type=positive, nargs="+", default=[1, 5], metavar="N", help="default: 1 5")
    add("--http", action="store_true", help="ask over HTTP on this machine")
    add(
        "--quick", action="store_true", help="one seed, few endpoints, updates and tasks, to see that it runs"
    )
    add("--json", type=output, metavar="FILE")
    args = parser.parse_args(argv)
    if args.quick:
        args.seeds, args.apis, args.updates, args.tasks, args.shots = 1, 3, 4, 4, [1]
        args.rows = tuple(row for row in args.rows if row in ("random", "clone", "bidf-mkd"))
        if not args.rows:
            parser.error("--quick has the rows random, clone and bidf-mkd alone")
    if args.dataset in IN_FOLDER and args.data is None:
        file = IN_FOLDER[args.dataset]
        parser.error(f"--dataset {args.dataset} needs --data: the folder that has {file} in it")
    return args


if __name__ == "__main__":
    sys.exit(main())
