"""Which representation tells N-MNIST's digits apart: `python -m sims.studies.recognize --help`.

Folds of real recordings: a classifier is trained on all but one fold and asked about that one, for every
representation, with the same settings and folds; nothing is chosen by the folds that are asked about.
With --saccades, also a classifier that has never seen a real recording: it is trained on digits of
scikit-learn (8 x 8 scans of other people's handwriting) moved in front of a simulated camera.

N-MNIST itself (Orchard et al. 2015) is not part of the toolkit; --data says where it is. A spiking network of
similar size trained on 1,000 such recordings reaches about 0.92. What --json
has already is not computed again. Exit status as of `sims.compare`.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from perception.events import EventStream
from perception.recognize.fit import FitConfig, fit
from perception.recognize.network import NAMES
from sims.digits import saccades
from sims.nmnist import load
from sims.studies.record import Record
from tracking.program import Parser, natural, output, positive, run

PROGRAM = "python -m sims.studies.recognize"


def folds_of(number: int, folds: int, seed: int) -> np.ndarray:
    """(n,) the fold of each recording: equally many in each, shuffled."""
    fold = np.arange(number) % folds
    np.random.default_rng(seed).shuffle(fold)
    return fold


def study(args: argparse.Namespace, record: Record) -> dict[str, Any]:
    """Accuracies by representation and fold."""
    torch.set_num_threads(1)
    streams, digits = load(args.data)
    labels = [str(d) for d in digits]
    fold = folds_of(len(streams), args.folds, args.seed)
    simulated = saccades(args.seed) if args.saccades else None
    found: dict[str, Any] = {}
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:

        def one_fold(config: FitConfig, k: int) -> dict[str, float]:
            task = progress.add_task(f"{config.representation}, fold {k + 1}", total=args.steps)
            train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            start = time.process_time()
            taught = [streams[i] for i in train], [labels[i] for i in train]
            classifier = fit(*taught, config, partial(_show, progress, task))
            minutes = (time.process_time() - start) / 60
            right = accuracy(classifier, [streams[i] for i in test], [labels[i] for i in test])
            return {"accuracy": right, "cpu_minutes": round(minutes, 2)}

        def elsewhere(recordings: tuple[list[EventStream], list[str]], config: FitConfig) -> float:
            return accuracy(fit(*recordings, config), streams, labels)

        for name in args.representations:
            config = FitConfig(representation=name, steps=args.steps, seed=args.seed)
            rows = []
            for k in range(args.folds):
                rows.append(record.part(f"{name}, fold {k + 1}", partial(one_fold, config, k)))
                console.print(f"{name}, fold {k + 1}: {rows[-1]['accuracy']:.3f}", highlight=False)
            folds, minutes = ([row[key] for row in rows] for key in ("accuracy", "cpu_minutes"))
            found[name] = {"accuracy": float(np.mean(folds)), "folds": folds, "cpu_minutes": sum(minutes)}
            if simulated is not None:
                found[name]["trained on simulated saccades"] = record.part(
                    f"{name}, saccades", partial(elsewhere, simulated, config)
                )
    return found


def _show(progress: Progress, task: TaskID, step: int, loss: float) -> None:
    progress.update(task, completed=step)


def accuracy(classifier, streams: Sequence[EventStream], labels: Sequence[str]) -> float:
    """Share of streams that get their label."""
    said = classifier.probabilities(streams).argmax(1)
    return float(np.mean([classifier.labels[k] == label for k, label in zip(said, labels)]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    args = parse(argv)

    def work() -> None:
        record = Record(args.json, folds=args.folds, steps=args.steps, seed=args.seed)
        found = study(args, record)
        table = Table("representation", "accuracy", "folds", "CPU minutes", "simulated saccades only")
        for name, row in found.items():
            folds = " ".join(f"{a:.3f}" for a in row["folds"])
            alone = row.get("trained on simulated saccades")
            cells = (f"{row['accuracy']:.4f}", folds, f"{row['cpu_minutes']:.1f}")
            table.add_row(name, *cells, "" if alone is None else f"{alone:.3f}")
        Console(width=110).print(table)

    return run(PROGRAM, work)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, checked."""
    parser = Parser(PROGRAM, "Which representation tells N-MNIST's digits apart.")
    add = parser.add_argument
    add("--data", required=True, metavar="PATH", help="N-MNIST, see sims.nmnist")
    add("--representations", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    add("--folds", type=positive, default=5, metavar="K")
    add("--steps", type=positive, default=300, metavar="N", help="of each training; default: 300")
    add("--saccades", action="store_true", help="also train on simulated saccades alone")
    add("--seed", type=natural, default=0)
    add("--json", type=output, metavar="FILE")
    args = parser.parse_args(argv)
    if args.folds < 2:
        parser.error("--folds must be at least 2")
    return args


if __name__ == "__main__":
    sys.exit(main())
