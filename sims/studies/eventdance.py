"""Classifiers of events from one of images, without labels: `python -m sims.studies.eventdance --help`.

Zheng and Wang (EventDance, CVPR 2024) adapt ImageNet-like classifiers to N-MNIST, N-Caltech101 and
CIFAR10-DVS and report to be on par with methods that may use source images; their tables could not be checked
here, and their code for adaptation is not public. Here: small networks, one CPU core, and two tasks:

    nmnist  a classifier of MNIST's images, and recordings of N-MNIST (--mnist, --nmnist: not part of this)
    digits  a classifier of scikit-learn's digits, one half, and the other half in front of a simulated camera

Surrogates are those of the shipped reconstruction network, which has seen simulated rooms alone. Nothing is
chosen by target labels. Rows are accuracies on the recordings adapted to and on others of the same camera;
intervals are 95 %, paired over seeds:

    counts              the classifier of images is shown numbers of events
    last surrogates     it is shown reconstructions, the last one of each stream, scaled to 0 to 1
    anchors             it is shown those that it is surest of, after tone map and batch norm (pseudo-labels)
    pseudo-labels       networks of events learn them, and nothing else
    EventDance          all losses; and without each (--ablations)
    supervised          a network of events learns the true labels, as a bound

What --json has already is not computed again. Exit status as of `sims.compare`.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from adapt.source_free.eventdance import EventDanceConfig, Prepare, event_dance, prepared_source
from adapt.source_free.surrogates import all_reconstructed, voxels_of
from perception.events import EventStream
from perception.events.represent import count_image
from perception.recognize.fit import FitConfig, fit
from perception.reconstruct import load
from sims.digits import DIGIT, SIDE, canvas, saccades
from sims.images import of_file
from sims.nmnist import load as load_nmnist
from sims.shift_sources import fitted, predicted
from sims.studies.record import Record
from sims.table import signed
from tracking.program import Parser, natural, output, positive, run

PROGRAM = "python -m sims.studies.eventdance"
TASKS = ("nmnist", "digits")
LOSSES = ("entropy", "constancy", "diversity", "agreement", "teaching", "learning")
N_SOURCE = 20_000  # images of MNIST
HELD_OUT = 0.375  # share of the recordings that are not adapted to
ONLY_LABELS: dict[str, Any] = dict.fromkeys(LOSSES, 0.0)


@dataclass(frozen=True)
class Task:
    """Labelled images (n, 1, h, w), and recordings whose labels are for scores alone."""

    images: np.ndarray
    labels: np.ndarray
    streams: list[EventStream]
    target: np.ndarray
    prepare: Prepare


def task_of(name: str, args: argparse.Namespace, seed: int) -> Task:
    """A task; seeds differ in the source images and in the noise of simulated cameras."""
    rng = np.random.default_rng(seed)
    if name == "nmnist":
        found = of_file(args.mnist)
        some = found.take(torch.from_numpy(rng.permutation(len(found.labels))[: args.images]))
        images, labels = some.pixels.numpy(), some.labels.numpy()
        streams, target = load_nmnist(args.nmnist)
        return Task(images, labels, streams, target, lambda image: image[..., 3:31, 3:31])
    from sklearn.datasets import load_digits

    digits = load_digits()
    half = rng.permutation(len(digits.target)) % 2 == 0
    edge = (SIDE - DIGIT) // 2 - 4
    pictures = np.stack([canvas(d) for d in digits.images])[:, None, edge:-edge, edge:-edge]
    streams, said = saccades(seed)
    return Task(
        pictures[half].astype(np.float32),
        digits.target[half],
        [s for s, other in zip(streams, ~half) if other],
        np.array([int(label) for label in said])[~half],
        lambda image: image[..., edge:-edge, edge:-edge],
    )


def classifier(side: int) -> nn.Module:
    """Of images (b, 1, side, side)."""
    layers: list[nn.Module] = []
    for a, b in ((1, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2)]
    wide = 64 * (side // 8) ** 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(wide, 64), nn.ReLU(), nn.Linear(64, 10))


def ablations(config: EventDanceConfig) -> dict[str, EventDanceConfig]:
    """EventDance without each loss, and with one more network that learns."""
    left_out: dict[str, dict[str, Any]] = {f"without {loss}": {loss: 0.0} for loss in LOSSES}
    left_out["reconstruction learns"] = {"reconstruction": True}
    return {row: replace(config, **changed) for row, changed in left_out.items()}


def one_seed(
    name: str, args: argparse.Namespace, seed: int, console: Console, ablate: bool = False
) -> dict[str, list[float]]:
    """Accuracies of each row, or of each ablation, on recordings adapted to and on others."""
    task = task_of(name, args, seed)
    order = np.random.default_rng([seed, 1]).permutation(len(task.streams))[: args.recordings]
    first = round((1 - HELD_OUT) * len(order))
    parts = [order[:first], order[first:]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        source = fitted(classifier(task.images.shape[-1]), task.images, task.labels, args.epochs, seed)
    some = [[task.streams[i] for i in rows] for rows in parts]
    truth = [task.target[rows] for rows in parts]
    found: dict[str, list[float]] = {}

    def score(row: str, said: Sequence[np.ndarray]) -> None:
        found[row] = [float((a == b).mean()) for a, b in zip(said, truth)]
        console.print(f"{name}, seed {seed}: {row} {found[row][0]:.3f} {found[row][1]:.3f}", highlight=False)

    config = EventDanceConfig(steps=args.steps, seed=seed)
    names = [str(k) for k in range(10)]

    def adapted(row: str, variant: EventDanceConfig, each: bool) -> None:
        made = event_dance(source, some[0], labels=names, prepare=task.prepare, config=variant)
        score(row, [made.probabilities(streams).argmax(1) for streams in some])
        for kind, one in made.classifiers.items() if each else ():
            score(f"{row}, {kind} alone", [one.probabilities(streams).argmax(1) for streams in some])

    if ablate:
        for row, variant in ablations(config).items():
            adapted(row, variant, each=False)
        return found
    score("counts", [_said(source, task.prepare(_scaled(_counts(streams)))) for streams in some])
    reconstructor = load()
    network: Any = reconstructor.network
    images = [
        all_reconstructed(
            network, voxels_of(s, config.windows, reconstructor.period, network.bins), config.skip
        )
        for s in some
    ]
    score("last surrogates", [_said(source, task.prepare(_scaled(image[:, -1]))) for image in images])
    seer = prepared_source(source, images[0], task.prepare)
    score("anchors", [seer.anchors(image)[1].argmax(1).numpy() for image in images])
    adapted("pseudo-labels", replace(config, **ONLY_LABELS), each=True)
    adapted("EventDance", config, each=True)
    bound = fit(
        some[0], [str(k) for k in truth[0]], FitConfig(steps=args.steps, width=16, batch=32, seed=seed)
    )
    score("supervised", [bound.probabilities(streams).argmax(1) for streams in some])
    return found


def _counts(streams) -> Tensor:
    return torch.from_numpy(np.stack([count_image(s).sum(0) for s in streams]).astype(np.float32))


def _scaled(image: Tensor) -> Tensor:
    """(n, 1, H, W) from 0 to 1."""
    low, high = image.amin((1, 2), keepdim=True), image.amax((1, 2), keepdim=True)
    return ((image - low) / (high - low).clamp(min=1e-6))[:, None]


def _said(model: nn.Module, x: Tensor) -> np.ndarray:
    return predicted(model, x.numpy()).argmax(1).numpy()


def study(args: argparse.Namespace, record: Record) -> None:
    """All tasks and seeds."""
    torch.set_num_threads(1)
    console = Console(stderr=True)
    for name in args.tasks:
        seeds = range(args.first, args.first + args.seeds)
        parts = [record.part(f"{name}, {s}", partial(one_seed, name, args, s, console)) for s in seeds]
        show(name, {row: [found[row] for found in parts] for row in parts[0]})
        left = [
            record.part(f"{name}, {s}, ablations", partial(one_seed, name, args, s, console, ablate=True))
            for s in seeds[: args.ablations]
        ]
        if left:
            whole = {"EventDance": [found["EventDance"] for found in parts[: len(left)]]}
            show(name, whole | {row: [found[row] for found in left] for row in left[0]})


def show(name: str, found: dict[str, list[list[float]]]) -> None:
    """Print the table of a task."""
    ours = np.array(found["EventDance"])
    table = Table(
        "", "adapted to", "others", "others, EventDance minus it", title=f"{name}, {len(ours)} seeds"
    )
    for row, values in found.items():
        mean, gap = np.mean(values, 0), ours[:, 1] - np.array(values)[:, 1]
        apart = "" if row == "EventDance" else signed(gap, 3)
        table.add_row(row, f"{mean[0]:.3f}", f"{mean[1]:.3f}", apart)
    Console(width=110).print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    args = parse(argv)

    names = ("steps", "epochs", "images", "recordings")
    settings = {name: getattr(args, name) for name in names}
    return run(PROGRAM, lambda: study(args, Record(args.json, **settings)))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, checked."""
    parser = Parser(PROGRAM, "Classifiers of events from one of images, without labels.")
    add = parser.add_argument
    add(
        "--tasks",
        nargs="+",
        choices=TASKS,
        metavar="NAME",
        help=f"{', '.join(TASKS)}; default: those with data",
    )
    add("--mnist", metavar="FILE.npz", help="x (n, 28, 28) uint8 and y (n,)")
    add("--nmnist", metavar="PATH", help="N-MNIST, see sims.nmnist")
    add("--seeds", type=positive, default=5, metavar="N")
    add("--first", type=natural, default=0, metavar="S", help="the first seed; default: 0")
    add("--steps", type=positive, default=300, metavar="N", help="of each adaptation; default: 300")
    add("--epochs", type=positive, default=3, metavar="N", help="of the classifier of images; default: 3")
    add("--images", type=positive, default=N_SOURCE, metavar="N", help=f"of MNIST; default: {N_SOURCE}")
    add("--recordings", type=positive, metavar="N", help="at most so many; default: all")
    add("--ablations", type=natural, default=0, metavar="N", help="seeds that also run without each loss")
    add("--quick", action="store_true", help="a few steps of the simulated task, to see that it runs")
    add("--json", type=output, metavar="FILE")
    args = parser.parse_args(argv)
    if args.quick:
        args.tasks, args.seeds, args.steps, args.epochs, args.recordings = ["digits"], 1, 2, 1, 24
    have = args.mnist is not None and args.nmnist is not None
    args.tasks = args.tasks or (list(TASKS) if have else ["digits"])
    if "nmnist" in args.tasks and not have:
        parser.error("the task nmnist needs --mnist and --nmnist")
    return args


if __name__ == "__main__":
    sys.exit(main())
