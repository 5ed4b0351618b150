"""Train FUSE, depth from frames and events: `python -m sims.train.fuse --help`.

The data are frames and events of random ray-cast rooms, made before training starts, or with --data those of
recordings, whose last tenth is kept for the test. Stage 0 teaches a tiny backbone depth from clean frames;
with --backbone a pretrained one is taken instead. Stages 1 and 2 learn without depth, stage 3 the decoder
with it (`perception.depth.fit`). Progress goes to standard error, the result to standard output; a run is
saved about every minute and after each stage, and the same command goes on where it was. Exit status as of
`sims.compare`.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from perception.depth.backbone import Backbone
from perception.depth.estimator import Estimator
from perception.depth.fuse import KINDS
from perception.depth.pairs import PairSource
from perception.training import Run
from sims.rooms import CONDITIONS, WINDOW
from sims.train.fuse_data import DATA, made, recorded
from sims.train.fuse_score import FARTHEST, depths, metric_errors
from sims.train.fuse_stages import STEPS, adapted, aligned_events, fused, steps_of, taught
from sims.train.plan import Plan, check_places
from tracking.formats.files import atomic_write
from tracking.program import Parser, natural, output, positive, run

PROGRAM = "python -m sims.train.fuse"
TEST = 2_000_000  # added to the seed: rooms of training and test are apart
N_ROOMS, N_TEST = 3000, 160
ROOMS = """{rooms} ray-cast rooms (`sims.rooms`), of each a frame of {side} x {side} pixels with the events of
  the 50 ms before; by day, by night, blurred, overexposed and with noisy pixels, at random"""
READERS = {
    "copy": "a copy of it with low-rank adaptation",
    "nothing": "a network of its size that started from nothing",
}
CARD = """# {name}

Weights of `perception.depth`, trained by `python -m sims.train.fuse`; MIT licence.

- Data: {data}.
- Backbone: {backbone}; events are read by {reader}; fusion: {fusion}; {parameters} parameters.
- Steps: {steps}; {minutes:.0f} CPU minutes in the last call; seed {seed}, {date}.
- Mean relative error of metric depth on {tests} others, up to {farthest:g} m:

| | both | frames alone | events alone |
|---|---|---|---|
{table}

Depth is of places like those; elsewhere the decoder at least wants to be trained again (stage 3).
"""


def train(args: argparse.Namespace) -> None:
    """All stages, scores, weights."""
    console = Console(stderr=True)
    torch.set_num_threads(args.threads)
    named = Backbone.named(args.backbone, download=True).to(args.device) if args.backbone else None
    pairs, tests, about = _data(args, console)
    used = time.process_time()

    def advance(training: Run, parts: dict[str, float]) -> None:
        said = " ".join(f"{name} {value:.4f}" for name, value in parts.items())
        print(f"{training.step} of {training.config.steps}: {said}", file=sys.stderr, flush=True)

    plan = Plan(
        steps=steps_of(args.scale),
        seed=args.seed,
        resume=args.resume,
        about={name: getattr(args, name) for name in ("seed", "events", "fusion", "window")}
        | {"backbone": args.backbone or "", "data": about},
        device=args.device,
        advance=advance,
    )
    backbone = named or taught(plan, pairs)
    backbone.requires_grad_(False)
    events = aligned_events(plan, backbone, pairs, args.events == "nothing")
    network = fused(plan, backbone, events, pairs, args.fusion)
    # Only the last stage is another one for another depth.
    metric = replace(plan, about=plan.about | {"farthest": args.farthest})
    adapted(metric, network, pairs, args.farthest)
    minutes = (time.process_time() - used) / 60
    rows = {
        name: {
            kind: float(
                np.nanmean(metric_errors(depths(network, test, kind, args.farthest), test, args.farthest))
            )
            for kind in KINDS
        }
        for name, test in tests()
    }
    result: dict[str, Any] = {
        "data": about,
        "backbone": args.backbone or "tiny",
        "reader": READERS[args.events],
        "fusion": args.fusion,
        "parameters": sum(p.numel() for p in network.parameters()),
        "steps": ", ".join(f"{name} {steps}" for name, steps in plan.steps.items()),
        "minutes": minutes,
        "seed": args.seed,
        "date": date.today().isoformat(),
        "tests": args.tests,
        "farthest": args.farthest,
        "errors": rows,
    }
    if args.out:
        Estimator(network, args.farthest, args.window).save(args.out, half=True, **result)
        table = "\n".join(
            f"| {name} | " + " | ".join(f"{row[kind]:.3f}" for kind in KINDS) + " |"
            for name, row in rows.items()
        )
        with atomic_write(Path(args.out).with_suffix(".md")) as file:
            file.write(CARD.format(name=Path(args.out).stem, table=table, **result))
    print(json.dumps(result, indent=1))


def _data(args: argparse.Namespace, console: Console):
    """What to train on, an iterator of names and tests, and a line about it."""
    if args.data is None:
        pairs: PairSource = made(range(args.seed, args.seed + args.rooms), args.side, console, jobs=args.jobs)
        seeds = range(args.seed + TEST, args.seed + TEST + args.tests)
        about = ROOMS.format(rooms=args.rooms, side=args.side)
        return (
            pairs,
            lambda: ((c, made(seeds, args.side, console, (c,), args.jobs)) for c in CONDITIONS),
            about,
        )
    kind, *paths = args.data
    pairs, rest = recorded(kind, paths, args.window)
    some = np.unique(np.linspace(0, len(rest) - 1, args.tests).astype(int))
    about = f"{len(pairs)} samples of {kind}, {', '.join(Path(p).name for p in paths)}"
    return pairs, lambda: [("held out", rest[some])], about


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = Parser(PROGRAM, "Train FUSE, depth from frames and events.")
    add = parser.add_argument
    add(
        "--backbone",
        metavar="NAME",
        help="a pretrained Depth Anything: a folder, or a name of the hub, downloaded",
    )
    add(
        "--events",
        choices=READERS,
        default="copy",
        help="what reads events: a copy of the backbone with low-rank adaptation, as in the paper, or a "
        "network of its size from nothing, all of whose weights learn; default: copy",
    )
    add("--fusion", choices=("fredfuse", "guided", "concatenation"), default="fredfuse")
    add(
        "--data",
        nargs="+",
        metavar=("KIND", "PATH"),
        help=f"recordings, not rooms; KIND: {', '.join(DATA)}; PATH: folders, <name>_data.hdf5, or lists",
    )
    add("--window", type=positive, default=WINDOW, metavar="US", help=f"of events; default: {WINDOW}")
    add("--farthest", type=float, default=FARTHEST, metavar="M", help=f"of depth; default: {FARTHEST:g}")
    add("--rooms", type=positive, default=N_ROOMS, metavar="N", help=f"for training; default: {N_ROOMS}")
    add("--tests", type=positive, default=N_TEST, metavar="N", help=f"other rooms; default: {N_TEST}")
    add("--side", type=positive, default=64, help="of the images, pixels; default: 64")
    add("--scale", type=float, default=1.0, help=f"factor of the steps of all stages, {STEPS}")
    add("--seed", type=natural, default=0)
    add("--threads", type=positive, default=1)
    add("--jobs", type=positive, default=1, metavar="J", help="processes that make rooms; default: 1")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    add("--resume", type=Path, metavar="FILE", help="where stages are saved and go on from: FILE.teach, ...")
    add("--out", type=output, metavar="FILE.safetensors", help="weights")
    args = parser.parse_args(argv)
    check_places(parser, args)
    if not 0 < args.scale <= 100:
        parser.error("--scale must be larger than 0, at most 100")
    if args.data and (args.data[0] not in DATA or len(args.data) < 2):
        parser.error(f"--data takes one of {', '.join(DATA)} and then paths, got {' '.join(args.data)}")
    if args.data is None and args.window != WINDOW:
        parser.error(f"--window is for --data; events of rooms are those of {WINDOW} us")
    if not 0 < args.farthest < 1e5:
        parser.error("--farthest must be a number of metres above 0")
    return run(PROGRAM, lambda: train(args))


if __name__ == "__main__":
    sys.exit(main())
