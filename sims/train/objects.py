"""Train a finder of things in frames and events: `python -m sims.train.objects --help`.

The data are frames and events of random ray-cast rooms whose things are known, made before training starts.
Progress goes to standard error, the result to standard output; a run is saved about every minute, and the
same command goes on where it was. Exit status as of `sims.compare`.
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
from rich.console import Console

from perception.depth.fuse import KINDS
from perception.depth.pairs import Pairs
from perception.objects.finder import Finder
from perception.objects.fit import find
from perception.objects.network import ObjectNet
from perception.training import Run
from sims.rooms import CONDITIONS, WINDOW
from sims.train.fuse_data import made
from sims.train.plan import Plan, check_places
from tracking.formats.files import atomic_write
from tracking.program import Parser, natural, output, positive, run

PROGRAM = "python -m sims.train.objects"
TEST = 2_000_000  # added to the seed: rooms of training and test are apart
ROOMS: dict[str, Any] = {"objects": True, "travel": 1.0}  # as of `room_pairs`
RATE, AVERAGE = 2e-3, 0.995
CARD = """# {name}

Weights of `perception.objects`, trained by `python -m sims.train.objects`; MIT licence.

- Data: {rooms} ray-cast rooms (`sims.rooms`), of each a frame of {side} x {side} pixels with the events of
  the 50 ms before, from a camera that is carried up to a metre to each side; by day, by night, blurred,
  overexposed and with noisy pixels, at random.
- {parameters} parameters; {steps} steps of {batch} images, {minutes:.0f} CPU minutes in the last call;
  seed {seed}, {date}.
- On {tests} other rooms of each kind: overlap of the pixels of things (intersection over union), mean
  error of the way to their middle in pixels, and mean relative error of its depth:

| | both | frames alone | events alone |
|---|---|---|---|
{table}

Things are boxes and balls in rooms; others want to be learned.
"""


def train(args: argparse.Namespace) -> None:
    """Make rooms, train, score, write."""
    console = Console(stderr=True)
    torch.set_num_threads(args.threads)
    pairs = made(range(args.seed, args.seed + args.rooms), args.side, console, jobs=args.jobs, **ROOMS)
    used = time.process_time()

    def advance(training: Run, parts: dict[str, float]) -> None:
        said = " ".join(f"{name} {value:.4f}" for name, value in parts.items())
        print(f"{training.step} of {training.config.steps}: {said}", file=sys.stderr, flush=True)

    about = {name: getattr(args, name) for name in ("rooms", "side", "batch", "seed")}
    plan = Plan(
        steps={"find": args.steps},
        seed=args.seed,
        resume=args.resume,
        about=about,
        device=args.device,
        advance=advance,
    )
    torch.manual_seed(args.seed)
    network = ObjectNet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plan.train("find", network, find(pairs, args.batch), rate=RATE, average=AVERAGE)
    minutes = (time.process_time() - used) / 60
    seeds = range(args.seed + TEST, args.seed + TEST + args.tests)
    rows = {}
    for condition in CONDITIONS:
        test = made(seeds, args.side, console, (condition,), jobs=args.jobs, **ROOMS)
        rows[condition] = {kind: scores(network, test, kind) for kind in KINDS}
    result: dict[str, Any] = {
        "rooms": args.rooms,
        "side": args.side,
        "parameters": sum(p.numel() for p in network.parameters()),
        "steps": args.steps,
        "batch": args.batch,
        "minutes": minutes,
        "seed": args.seed,
        "date": date.today().isoformat(),
        "tests": args.tests,
        "errors": rows,
    }
    if args.out:
        Finder(network, WINDOW, args.side).save(args.out, half=True, **result)
        cells = {
            name: [f"{s['overlap']:.2f}, {s['way']:.1f}, {s['depth']:.2f}" for s in row.values()]
            for name, row in rows.items()
        }
        table = "\n".join(f"| {name} | " + " | ".join(row) + " |" for name, row in cells.items())
        with atomic_write(Path(args.out).with_suffix(".md")) as file:
            file.write(CARD.format(name=Path(args.out).stem, table=table, **result))
    print(json.dumps(result, indent=1))


@torch.no_grad()
def scores(network: ObjectNet, test: Pairs, kind: str) -> dict[str, float]:
    """Overlap of the pixels of things, error of the way in pixels, relative error of depth."""
    assert test.objects is not None
    device = next(network.parameters()).device
    parts = []
    for k in range(0, len(test), 64):
        some = test[k : k + 64]
        frames, voxels = (torch.from_numpy(a.astype(np.float32)).to(device) for a in (some.seen, some.voxels))
        answer = network(frames, voxels, torch.full((len(some),), KINDS.index(kind), device=device))
        parts.append([a.cpu().numpy() for a in (answer.there, answer.way, answer.depth)])
    there, way, depth = (np.concatenate(column) for column in zip(*parts))
    known = test.objects.astype(np.float32)
    counts, on = known[:, 0] >= 0, known[:, 0] > 0
    if not on.any():
        raise ValueError(f"no thing can be seen in {len(test)} test rooms: take more, or larger images")
    said = (there > 0) & counts
    return {
        "overlap": float((said & on).sum() / (said | on).sum()),
        "way": float(np.linalg.norm(way - known[:, 1:3], axis=1)[on].mean()),
        "depth": float(np.abs(np.expm1(depth - known[:, 3]))[on].mean()),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = Parser(PROGRAM, "Train a finder of things in frames and events.")
    add = parser.add_argument
    add("--rooms", type=positive, default=8000, metavar="N", help="for training; default: 8000")
    add("--tests", type=positive, default=160, metavar="N", help="other rooms; default: 160")
    add("--side", type=positive, default=64, help="of the images, pixels; default: 64")
    add("--steps", type=positive, default=4000, metavar="N", help="default: 4000")
    add("--batch", type=positive, default=16, metavar="N", help="images of a step; default: 16")
    add("--seed", type=natural, default=0)
    add("--threads", type=positive, default=1)
    add("--jobs", type=positive, default=1, metavar="J", help="processes that make rooms; default: 1")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    add("--resume", type=Path, metavar="FILE", help="where the run is saved, FILE.find, and goes on from")
    add("--out", type=output, metavar="FILE.safetensors", help="weights")
    args = parser.parse_args(argv)
    check_places(parser, args)
    if args.side < 16:
        parser.error(f"--side must be at least 16 pixels, got {args.side}")
    return run(PROGRAM, lambda: train(args))


if __name__ == "__main__":
    sys.exit(main())
