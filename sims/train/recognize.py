"""Train the classifier of N-MNIST's digits that ships: `python -m sims.train.recognize --help`.

It is trained twice: without a fifth of the recordings, which says how good it is, and with all of them, which
ships. Progress goes to standard error, the result to standard output. Exit status as of `sims.compare`.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from perception.recognize.fit import FitConfig, fit
from perception.recognize.network import NAMES
from sims.nmnist import load
from sims.studies.recognize import accuracy, folds_of
from tracking.formats.files import atomic_write
from tracking.program import Parser, natural, output, positive, run

PROGRAM = "python -m sims.train.recognize"
CARD = """# {name}

Weights of `perception.recognize`, trained by `python -m sims.train.recognize`; MIT licence.

- Data: {recordings} recordings of N-MNIST (Orchard et al. 2015, CC BY-SA 4.0; not part of the toolkit), each
  shifted, turned, scaled, sheared and thinned at random.
- Representation: {representation}, {bins} bins; network: {parameters} parameters, first stage {width} wide.
- Training: {steps} steps of {batch}, {minutes:.1f} CPU minutes on one core; seed {seed}, {date}.
- Accuracy on {tested} recordings that a first training with the same settings did not see: {accuracy:.4f}.
  All folds and representations: `python -m sims.studies.recognize`.

For digits in front of a 34 x 34 sensor that moves along N-MNIST's three legs; not for other sensors.
"""


def train(args: argparse.Namespace) -> None:
    """Train twice, write."""
    torch.set_num_threads(1)
    streams, digits = load(args.data)
    labels = [str(d) for d in digits]
    config = FitConfig(representation=args.representation, steps=args.steps, seed=args.seed, width=args.width)
    held_out = folds_of(len(streams), 5, args.seed) == 0
    used = time.process_time()

    def show(step: int, loss: float) -> None:
        print(f"{step} of {config.steps}: cross entropy {loss:.4f}", file=sys.stderr, flush=True)

    def of(which: np.ndarray) -> tuple[list, list]:
        return [streams[i] for i in np.flatnonzero(which)], [labels[i] for i in np.flatnonzero(which)]

    said = accuracy(fit(*of(~held_out), config, show), *of(held_out))
    print(f"held out: {said:.4f}", file=sys.stderr, flush=True)
    classifier = fit(streams, labels, config, show)
    result: dict[str, Any] = {
        "recordings": len(streams),
        "representation": config.representation,
        "bins": config.bins,
        "parameters": sum(p.numel() for p in classifier.network.parameters()),
        "width": config.width,
        "steps": config.steps,
        "batch": config.batch,
        "minutes": (time.process_time() - used) / 60,
        "seed": config.seed,
        "date": date.today().isoformat(),
        "tested": int(held_out.sum()),
        "accuracy": said,
    }
    if args.out:
        classifier.save(args.out, **result)
        with atomic_write(Path(args.out).with_suffix(".md")) as file:
            file.write(CARD.format(name=Path(args.out).stem, **result))
    print(json.dumps(result, indent=1))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = Parser(PROGRAM, "Train the classifier of N-MNIST's digits.")
    add = parser.add_argument
    add("--data", required=True, metavar="PATH", help="N-MNIST, see sims.nmnist")
    add("--representation", choices=NAMES, default="voxel")
    add("--steps", type=positive, default=300, metavar="N")
    add("--width", type=positive, default=32, help="channels of the first stage; default: 32")
    add("--seed", type=natural, default=0)
    add("--out", type=output, metavar="FILE.safetensors", help="weights")
    args = parser.parse_args(argv)
    return run(PROGRAM, lambda: train(args))


if __name__ == "__main__":
    sys.exit(main())
