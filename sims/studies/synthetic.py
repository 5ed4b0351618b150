"""Recognition that has learned of synthetic digits alone: `python -m sims.studies.synthetic --help`.

A diffusion model makes digits of each class, led by the experts of a guide; a classifier of another kind
learns of them and of nothing else, and is asked about real digits that neither model, guide nor classifier
has seen. Labels were used once, to train the guide. Rows:

    real            the classifier learns of real images, as many
    guided          of samples of the model in 25 steps
    guided, fast    of samples of its one-step student in 4
    fast, checked   of such that the guide itself takes for what was asked for; the others are made again

With --events all digits are moved before a simulated event camera first, and the classifier is that of
`perception.recognize`. Intervals are 95 %, over seeds of samples and classifiers. What --json has
already is not computed again. Exit status as of `sims.compare`.
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
from rich.table import Table
from torch import Tensor

from adapt.diffusion.experts import Experts, load_experts
from adapt.diffusion.guidance import toward_class
from adapt.diffusion.guides import Guide, load_guide
from adapt.diffusion.model import Diffusion, beside, load
from adapt.diffusion.ppap import sample
from perception.events import EventStream
from perception.recognize.fit import FitConfig, fit
from sims.camera import Pixels
from sims.digits import canvas
from sims.images import Images, digits, split
from sims.judges import Judge, accuracy, learned
from sims.saccades import NMNIST, saccade
from sims.studies.recognize import accuracy as event_accuracy
from sims.studies.record import Record
from sims.table import interval
from tracking.program import Parser, natural, output, positive, run

PROGRAM = "python -m sims.studies.synthetic"
HELD_OUT = 500  # images
ROWS = ("real", "guided", "guided, fast", "fast, checked")
CHECKS = 4  # after so many, what is left goes along


def streams_of(pixels: Tensor, seed: int) -> list[EventStream]:
    """Events of images (n, 1, 8, 8) from 0 to 1, in the manner of `sims.digits.saccades`."""
    rng = np.random.default_rng(seed)
    streams = []
    for k, image in enumerate(pixels[:, 0].double().numpy()):
        on = rng.uniform(0.2, 0.4)
        camera = Pixels(on=on, off=on * rng.normal(1, 0.1), mismatch=0.1 * on, leak=0.1)
        streams.append(saccade(canvas(16 * image), NMNIST, eased=True, pixels=camera, seed=seed + k).events)
    return streams


def made(
    model: Diffusion, experts: Experts, n: int, scale: float | None, seed: int, checked: bool = False
) -> tuple[Images, float]:
    """n digits of equally many classes, and CPU ms that each took."""
    labels = torch.arange(n) % 10
    generator = torch.Generator().manual_seed(seed)
    start = time.process_time()
    x = sample(model, experts, toward_class(labels), n, generator, scale=scale)
    for _ in range(CHECKS if checked else 0):
        with torch.no_grad():
            wrong = experts.guide(x).argmax(1) != labels
        if not wrong.any():
            break
        loss = toward_class(labels[wrong])
        x[wrong] = sample(model, experts, loss, int(wrong.sum()), generator, scale=scale)
    return Images(model.pixels(x), labels), 1e3 * (time.process_time() - start) / n


def learned_of(
    images: Images, held: Images, events: list[EventStream] | None, args: argparse.Namespace, seed: int
) -> float:
    """Accuracy on real images, or on events of them, of a classifier that has seen these alone."""
    if events is not None:
        config = FitConfig(steps=args.steps, seed=seed)
        labels = [str(int(k)) for k in images.labels]
        classifier = fit(streams_of(images.pixels, 10_000 + seed), labels, config)
        return event_accuracy(classifier, events, [str(int(k)) for k in held.labels])
    torch.manual_seed(seed)
    judge = Judge()
    learned(judge, images.pixels, images.labels, steps=args.steps, seed=seed)
    return accuracy(judge, held.pixels, held.labels)


def study(args: argparse.Namespace, record: Record) -> dict[str, Any]:
    """Accuracies of all rows and seeds."""
    torch.set_num_threads(1)
    console = Console(stderr=True)
    guide = load_guide(beside(args.model, "classifier"))
    if not isinstance(guide, Guide):
        raise ValueError(f"the guide of {args.model} is no classifier")
    experts = load_experts(beside(args.model, "classifier-experts"), guide)
    fast = load(beside(args.model, "fast"))
    models = {"guided": load(args.model), "guided, fast": fast, "fast, checked": fast}
    if models["guided"].jumps:
        raise ValueError(f"{args.model} is a consistency model already; its teacher is wanted")
    train, held = split(digits(), HELD_OUT)
    if models["guided"].size != train.pixels.shape[1:]:
        raise ValueError(
            f"digits are of {tuple(train.pixels.shape[1:])}, {args.model} makes {models['guided'].size}"
        )
    held = held.take(slice(args.test))
    events = streams_of(held.pixels, 20_000) if args.events else None
    found: dict[str, Any] = {name: [] for name in ROWS}
    taken: dict[str, list[float]] = {name: [] for name in models}

    def one(name: str, seed: int) -> dict[str, float | None]:
        images, ms = train.take(slice(args.number)), None
        if name in models:
            checked = name == "fast, checked"
            images, ms = made(models[name], experts, args.number, args.scale, seed, checked)
        return {"accuracy": learned_of(images, held, events, args, seed), "ms": ms}

    for seed in range(args.seed, args.seed + args.seeds):
        for name in ROWS:
            row = record.part(f"{seed}, {name}", partial(one, name, seed))
            found[name].append(row["accuracy"])
            if name in taken:
                taken[name].append(row["ms"])
            console.print(f"seed {seed}: {name}: {row['accuracy']:.3f}", highlight=False)
    return {"accuracy": found, "ms": {name: float(np.median(v)) for name, v in taken.items()}}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = Parser(PROGRAM, "Recognition that has learned of synthetic digits alone.")
    add = parser.add_argument
    add(
        "--model",
        default="digits",
        metavar="NAME",
        help="shipped or a file, with its student, guide and experts beside it",
    )
    add("--number", type=positive, default=1200, metavar="N", help="digits to learn of; default: 1200")
    add("--scale", type=float, help="of the guidance; default: 3, or 10 of the student")
    add("--steps", type=positive, default=400, metavar="N", help="of each classifier; default: 400")
    add("--events", action="store_true", help="of events of a simulated camera")
    add("--test", type=positive, default=HELD_OUT, metavar="N", help=f"real digits; default: {HELD_OUT}")
    add("--seeds", type=positive, default=3, metavar="N", help="default: 3")
    add("--seed", type=natural, default=0, help="the first of them")
    add("--quick", action="store_true", help="one seed, a few steps, to see that it runs")
    add("--json", type=output, metavar="FILE")
    args = parser.parse_args(argv)
    if args.scale is not None and not 0 <= args.scale < 1e4:
        parser.error(f"--scale must be at least 0 and finite, got {args.scale}")
    if args.quick:
        args.seeds, args.number, args.steps, args.test = 1, 20, 4, 10

    def work() -> None:
        names = ("model", "number", "scale", "steps", "events", "test")
        found = study(args, Record(args.json, **{name: getattr(args, name) for name in names}))
        table = Table("learned of", "accuracy on real digits", "95 %", "by seed", "CPU ms a sample")
        for name in ROWS:
            x = np.array(found["accuracy"][name])
            ends = interval(x)
            said = "" if ends is None else f"[{ends[0]:.3f}, {ends[1]:.3f}]"
            ms = f"{found['ms'][name]:.2f}" if name in found["ms"] else ""
            table.add_row(name, f"{x.mean():.3f}", said, " ".join(f"{v:.3f}" for v in x), ms)
        Console(width=110).print(table)

    return run(PROGRAM, work)


if __name__ == "__main__":
    sys.exit(main())
