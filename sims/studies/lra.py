"""Does learning to retain keep what replay loses: `python -m sims.studies.lra --help`.

Patel, Mopuri, Qiu (LRA, CVPR 2023) replay earlier inputs by a meta step, and report for CIFAR-100, ResNet-34
to ResNet-18, 77.21 % against 76.93 % of PRE-DFKD, with higher means and lower variances over epochs than
buffers and autoencoders have; the released code leaves the meta gradient out. Here: 8 x 8 digits (MNIST or
event counts with --dataset), networks of some thousand weights, minutes of one core. Five studies:

    drift      no generator: unlabelled images of one pair of classes an epoch, the pairs take turns; LRA's
               step alone is seen. Five pairs, 20 epochs of 16 steps, as strong a forgetting as there can be.
    pairs      the same without data: a generator is asked for one pair of classes an epoch, in twice as
               many epochs.
    inverted   drift without data: each epoch begins with nothing and inverts the teacher for one pair of
               classes, by generators that start anew.
    generator  the whole method, without data, against the rows below.
    presets    every preset of `adapt.data_free` as it comes; buffer is MB-DFKD.

    vanilla       new inputs alone
    buffer        replay beside them (MB-DFKD)
    alpha = 0     LRA's weight on memory without its meta step: the control
    first order   LRA
    second order  LRA
    vae           LRA with the autoencoder (generator study)

The last row of the generator study and of presets, clean, distils real training images. Accuracies are of
test images, percent, read for reporting alone; stability is over the last two thirds of the epochs. What did
not reproduce is in docs/data_free/README.md. What --json has already is not computed again. Exit status as of
`sims.compare`.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from adapt.data_free import terms
from adapt.data_free.distiller import Config, Distiller
from adapt.data_free.lra import lra
from adapt.data_free.memory import RingBuffer
from adapt.data_free.networks import generator
from adapt.data_free.presets import (
    SMALL,
    Settings,
    cmi,
    dafl,
    dfad,
    dfq,
    made,
    mb_dfkd,
    pre_dfkd,
    priors,
    wanted,
)
from adapt.data_free.sources import GeneratorSource, TensorSource
from adapt.data_free.stability import stability
from adapt.data_free.updates import MetaRetain, Plain, Replay, Update
from sims.forgetting import InPair, PairsInverted, PairsOfImages
from sims.images import FILES, LABELLED
from sims.studies.record import Record
from sims.table import signed
from sims.teachers import Task, fresh, scores, task_of, trained
from tracking.program import Parser, natural, output, positive, run

PROGRAM = "python -m sims.studies.lra"
STUDIES = ("drift", "pairs", "inverted", "generator", "presets")
SETTINGS = ("images", "side", "teacher", "student", "teacher_steps", "epochs", "rounds", "bn")
RATE = 0.1  # of the drift study, inner and outer: of five on other seeds, a buffer is high and even there
UPDATES: dict[str, Callable[[float], Update]] = {
    "vanilla": lambda rate: Plain(),
    "buffer": lambda rate: Replay(),
    "alpha = 0": lambda rate: MetaRetain(inner_rate=0.0),
    "first order": lambda rate: MetaRetain(inner_rate=rate, second_order=False),
    "second order": lambda rate: MetaRetain(inner_rate=rate),
}


PRESETS: dict[str, Callable[[nn.Module, nn.Module, tuple[int, ...], Settings], Distiller]] = {
    "dafl": dafl,
    "dfad": dfad,
    "dfq": dfq,
    "cmi": cmi,
    "buffer": mb_dfkd,
    "pre-dfkd": pre_dfkd,
    "lra": lra,
}


def drift(task: Task, teacher: nn.Module, student: nn.Module, name: str, seed: int) -> list[float]:
    """Accuracies after each epoch of the drift study."""
    config = Config(epochs=20, rounds=1, steps=16, batch=64, rate=RATE, seed=seed)
    ring = RingBuffer(capacity=10, every=1, fraction=1 / 4)
    d = Distiller(teacher, student, PairsOfImages(task), UPDATES[name](RATE), ring, config)
    d.evaluate = scores(task)
    return [row["accuracy"] for row in d.fit()]


def pairs(task: Task, teacher: nn.Module, student: nn.Module, name: str, settings: Settings) -> list[float]:
    """Accuracies after each epoch of the study of a generator of pairs."""
    settings = replace(settings, config=replace(settings.config, epochs=2 * settings.config.epochs))
    losses = priors(balance=1.0) | {
        "pair": (5.0, InPair(settings.config.epochs)),
        "adversarial": (1.0, terms.adversarial("js")),
    }
    ring = RingBuffer(settings.capacity, settings.every, settings.start, fraction=1 / 4)
    update = UPDATES[name](settings.config.rate)
    d = made(teacher, student, task.shape, settings, losses, update, ring)
    assert isinstance(d.source, GeneratorSource)
    d.source.steps = 5  # one does not take a generator from a pair to the next
    d.evaluate = scores(task)
    return [row["accuracy"] for row in d.fit()]


def inverted(
    task: Task, teacher: nn.Module, student: nn.Module, name: str, settings: Settings
) -> list[float]:
    """Accuracies after each epoch of the study of pairs that are inverted."""
    c = settings.config  # rounds and steps of the drift study: four batches of a pair, four steps after each
    config = replace(c, epochs=max(4 * c.epochs // 3, 1), rounds=max(c.rounds // 4, 1), steps=4)
    losses = {
        "bn": (settings.bn, terms.bn_statistics()),
        "one hot": (1.0, terms.one_hot()),
        "adversarial": (0.5, terms.adversarial("js")),
    }
    make = partial(generator, task.shape, settings.nz, settings.width)
    source = PairsInverted(task.shape, task.classes, losses, make, settings.nz, c.batch, rate=5e-3, steps=60)
    ring = RingBuffer(capacity=10, every=1, fraction=1 / 4)
    d = Distiller(teacher, student, source, UPDATES[name](c.rate), ring, config)
    d.evaluate = scores(task)
    return [row["accuracy"] for row in d.fit()]


def loop(task: Task, teacher: nn.Module, student: nn.Module, name: str, settings: Settings) -> list[float]:
    """Accuracies after each epoch of the generator study."""
    if name == "clean":
        d = of_images(task, teacher, student, settings)
    elif name == "vanilla":
        d = made(teacher, student, task.shape, settings, wanted(), Plain())
    elif name == "vae":
        d = lra(teacher, student, task.shape, settings, replay="vae")
    else:
        d = mb_dfkd(teacher, student, task.shape, settings)
        d = replace(d, update=UPDATES[name](settings.config.rate))
    d.evaluate = scores(task)
    return [row["accuracy"] for row in d.fit()]


def preset(task: Task, teacher: nn.Module, student: nn.Module, name: str, settings: Settings) -> list[float]:
    """Accuracies after each epoch of a preset."""
    if name == "clean":
        d = of_images(task, teacher, student, settings)
    else:
        d = PRESETS[name](teacher, student, task.shape, settings)
    d.evaluate = scores(task)
    return [row["accuracy"] for row in d.fit()]


def of_images(task: Task, teacher: nn.Module, student: nn.Module, settings: Settings) -> Distiller:
    """Distillation of the real training images."""
    source = TensorSource(task.given(task.x))
    return Distiller(teacher, student, source, Plain(), config=settings.config)


def study(args: argparse.Namespace, record: Record) -> dict[str, Any]:
    """Curves of all rows and seeds, with their stability."""
    torch.set_num_threads(1)
    console = Console(stderr=True)
    found: dict[str, Any] = {"teachers": []} | {kind: {} for kind in STUDIES}
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        task = task_of(args.dataset, args.data, seed, args.images, args.side)
        name = "recognition" if args.dataset == "nmnist" else args.teacher
        teacher = trained(task, name, seed, args.teacher_steps)
        found["teachers"].append(record.part(f"teacher {seed}", partial(task.accuracy, teacher)))
        config = Config(epochs=args.epochs, rounds=args.rounds, seed=seed)
        settings = replace(SMALL, config=config, bn=args.bn)
        studies: dict[str, tuple[Sequence[str], Callable[..., list[float]], Any]] = {
            "drift": (tuple(UPDATES), drift, seed),
            "pairs": (tuple(UPDATES), pairs, settings),
            "inverted": (tuple(UPDATES), inverted, settings),
            "generator": (args.rows or (*UPDATES, "vae", "clean"), loop, settings),
            "presets": ((*PRESETS, "clean"), preset, settings),
        }
        for kind in (kind for kind in STUDIES if kind in args.studies):
            rows, curve, how = studies[kind]
            for name in rows:
                work = partial(curve, task, teacher, fresh(task, args.student, seed), name, how)
                row = record.part(f"{kind}, {name}, {seed}", partial(timed, work))
                found[kind].setdefault(name, []).append(row | asdict(stability(row["curve"])))
                console.print(f"seed {seed}: {kind}: {name}: {row['curve'][-1]:.1f}", highlight=False)
    return found


def timed(work: Callable[[], list[float]]) -> dict[str, Any]:
    """A curve, and the CPU seconds that it took."""
    start = time.process_time()
    curve = work()
    return {"cpu_s": round(time.process_time() - start, 1), "curve": curve}


def show(found: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console(width=160)
    console.print(f"teachers: {', '.join(f'{a:.1f}' for a in found['teachers'])}")
    for kind in STUDIES:
        if not found[kind]:
            continue
        table = Table(
            kind,
            "final",
            "best",
            "mean",
            "variance",
            "largest drop",
            "mean drop",
            "mean, minus buffer",
            "drop, minus buffer",
            "CPU s",
        )
        for name, rows in found[kind].items():
            cells = [
                f"{np.mean([r[k] for r in rows]):.2f}"
                for k in ("final", "best", "mean", "variance", "largest_drop", "mean_drop")
            ]
            gaps = [_gap(found[kind], name, of) for of in ("mean", "largest_drop")]
            table.add_row(name, *cells, *gaps, f"{np.mean([r['cpu_s'] for r in rows]):.0f}")
        console.print(table)


def _gap(rows: dict[str, Any], name: str, of: str) -> str:
    """Paired difference of means, or of largest drops, from those of the buffer, with its interval."""
    if name == "buffer" or "buffer" not in rows:
        return ""
    gaps = np.array([a[of] - b[of] for a, b in zip(rows[name], rows["buffer"])])
    return signed(gaps)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    args = parse(argv)

    def work() -> None:
        settings = {k: getattr(args, k) for k in SETTINGS}
        record = Record(args.json, task=args.dataset, **settings)
        show(study(args, record))

    return run(PROGRAM, work)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, checked."""
    parser = Parser(PROGRAM, "Does learning to retain keep what replay loses.")
    add = parser.add_argument
    add("--studies", nargs="+", choices=STUDIES, default=STUDIES)
    add("--rows", nargs="+", choices=(*UPDATES, "vae", "clean"), help="of the generator study; default: all")
    add("--seeds", type=positive, default=5, metavar="N")
    add("--first-seed", type=natural, default=0, metavar="S")
    add("--dataset", choices=LABELLED, default="digits", help="default: digits, which come along")
    add("--data", metavar="FOLDER", help=f"where the others are: {', '.join(FILES.values())}")
    add("--images", type=positive, default=10_000, metavar="N", help="of MNIST, that a teacher learns from")
    add("--side", type=positive, metavar="N", help="pixels that images are scaled to; default: as they are")
    add("--teacher", default="cnn-16", metavar="NAME", help="of images; default: cnn-16")
    add("--student", default="cnn-8", metavar="NAME", help="default: cnn-8")
    add("--teacher-steps", type=positive, default=600, metavar="N")
    add("--epochs", type=positive, default=15, metavar="N", help="of the generator study")
    add("--rounds", type=positive, default=16, metavar="N", help="of each epoch")
    add("--bn", type=float, default=1.0, help="weight of the batch-norm term; the paper has none")
    add("--quick", action="store_true", help="one seed and a few steps, to see that it runs")
    add("--json", type=output, metavar="FILE")
    args = parser.parse_args(argv)
    if args.quick:
        args.seeds, args.teacher_steps, args.epochs, args.rounds = 1, 60, 3, 2
    return args


if __name__ == "__main__":
    sys.exit(main())
