"""Images from events, with labels and without: `python -m sims.studies.reconstruct --help`.

Paredes-Valles and de Croon (CVPR 2021) train a network on events alone: flow from the sharpness of warped
events, images from what they explain of the events to come; on real recordings they find it close to
networks that were trained on simulated images. Here: FireNet on clips of random ray-cast rooms of 64 x 64
pixels, every variant with the same clips, batches and steps, on one CPU core, far fewer than theirs; beside
it sums of events, the best high-pass filter (chosen on clips of its own), and the shipped weights. Flow is
learned or, to tell the two apart, that of the simulator. Test clips are of other rooms; frames from the
ninth on count; errors are after the best gain and offset of each frame, by its variance. Intervals are 95
%, paired over clips. What --json has already is not computed again. Exit status as of `sims.compare`.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from perception.reconstruct.fit import Sequences, photometric, supervised
from perception.reconstruct.model import SHIPPED, load
from perception.reconstruct.networks import FireFlowNet, FireNet
from perception.training import Run, RunConfig
from sims.studies.record import Record
from sims.table import signed
from sims.train.reconstruct import HELD_OUT, TEST, best_highpass, images, integrated, scored, sequences
from tracking.formats.weights import shipped
from tracking.program import Parser, output, positive, run

PROGRAM = "python -m sims.studies.reconstruct"
N_HELD_OUT = 8
VARIANTS = {
    "untrained": None,
    "without labels, flow known": "known",
    "without labels, flow from sums of events": "constancy",
    "without labels, flow from contrast": "contrast",
    "with labels": None,
}


def trained(variant: str, data: Sequences, steps: int, seed: int, console: Console) -> tuple[nn.Module, list]:
    """An image network, and the parts of its loss over the training."""
    torch.manual_seed(seed)
    network = FireNet()
    if variant == "untrained":
        return network, []
    if variant == "with labels":
        whole, loss = network, supervised(data, batch=2, length=12)
    else:
        whole = nn.ModuleDict({"image": network, "flow": FireFlowNet()})  # type: ignore[assignment]
        loss = photometric(data, batch=2, length=12, flow=str(VARIANTS[variant]))
    training = Run(whole, loss, RunConfig(steps=steps, rate=3e-3, muon=3.0), seed)
    history = []
    while not training.done:
        parts = training.train(20.0)
        history.append({"step": training.step, **parts})
        said = " ".join(f"{name} {value:.4f}" for name, value in parts.items())
        console.print(f"{variant}: {training.step} of {steps}: {said}", highlight=False)
    training.use_average()
    return network, history


def study(args: argparse.Namespace, record: Record) -> dict[str, Any]:
    """Scores of every variant and seed on the same test clips."""
    torch.set_num_threads(1)
    console = Console(stderr=True)
    data = sequences(range(args.clips), True, console)
    held_out = sequences(range(HELD_OUT, HELD_OUT + N_HELD_OUT))
    test = sequences(range(TEST, TEST + args.tests), show=console)
    forget = best_highpass(held_out)
    still = {
        "sums of events": integrated(test),
        f"high-pass filter, {forget:g} windows": integrated(test, forget),
    }
    found: dict[str, Any] = {
        name: [record.part(name, partial(row_of, image, test))] for name, image in still.items()
    }

    def one(variant: str, seed: int) -> dict[str, Any]:
        network, history = trained(variant, data, args.steps, seed, console)
        return {**row_of(images(network, test), test), "history": history}

    def of_weights(name: str) -> dict[str, Any]:
        return row_of(images(load(name).network, test), test)

    for variant in VARIANTS:
        seeds = range(args.seeds)
        found[variant] = [record.part(f"{variant}, {s}", partial(one, variant, s)) for s in seeds]
    for name in shipped(SHIPPED):
        row = f"{name}, as shipped"
        found[row] = [record.part(row, partial(of_weights, name))]
    return found


def row_of(image: np.ndarray, data: Sequences) -> dict[str, list[float]]:
    """Mean error and similarity of each clip."""
    said = scored(image, data)
    return {name: getattr(said, name).reshape(len(data), -1).mean(1).tolist() for name in said._fields}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    args = parse(argv)

    def work() -> None:
        record = Record(args.json, **{name: getattr(args, name) for name in ("clips", "tests", "steps")})
        show(study(args, record))

    return run(PROGRAM, work)


def show(found: dict[str, Any]) -> None:
    """Print the table."""
    table = Table(
        "", "error", "error minus that of sums, 95 %", "similarity", "photometric loss, first / last"
    )
    sums = np.mean([row["error"] for row in found["sums of events"]], 0)
    for name, rows in found.items():
        error, similarity = (np.mean([row[key] for row in rows], 0) for key in ("error", "similarity"))
        gap = error - sums
        loss = [[h["photometric"] for h in row.get("history", []) if "photometric" in h] for row in rows]
        ends = (
            f"{np.mean([x[0] for x in loss]):.3f} / {np.mean([x[-1] for x in loss]):.3f}" if loss[0] else ""
        )
        said = "" if name == "sums of events" else signed(gap, 3)
        table.add_row(name, f"{error.mean():.3f}", said, f"{similarity.mean():.3f}", ends)
    Console(width=130).print(table)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, checked."""
    parser = Parser(PROGRAM, "Images from events, with labels and without.")
    add = parser.add_argument
    add("--clips", type=positive, default=80, metavar="N", help="for training; default: 80")
    add("--tests", type=positive, default=32, metavar="N", help="clips of other rooms; default: 32")
    add("--steps", type=positive, default=400, metavar="N", help="of each training; default: 400")
    add("--seeds", type=positive, default=1, metavar="N", help="trainings of each variant; default: 1")
    add("--quick", action="store_true", help="a few clips and steps, to see that it runs")
    add("--json", type=output, metavar="FILE")
    args = parser.parse_args(argv)
    if args.quick:
        args.clips, args.tests, args.steps = 4, 3, 3
    if args.tests < 2:
        parser.error("--tests must be at least 2, for intervals")
    return args


if __name__ == "__main__":
    sys.exit(main())
