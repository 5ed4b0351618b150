"""Train FUSE, depth from frames and events: `python -m sims.train.fuse --help`.

The data are frames and events of random ray-cast rooms, made before training starts, or with --data those of
recordings, whose last tenth is kept for the test. Stage 0 teaches a tiny
backbone depth from clean frames; with --backbone a pretrained one is taken instead. Stages 1 and 2 learn
without depth, stage 3 the decoder with it (`perception.depth.fit`). Progress goes to standard error, the
result to standard output; a run is saved about every minute and after each stage, and the same command goes
on where it was. Exit status as of `sims.compare`.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import nn

from perception.depth import fit
from perception.depth.backbone import Backbone, prepared, prepared_events
from perception.depth.datasets import DENSE, MVSEC, EventScape, Listed, sequences
from perception.depth.estimator import Estimator
from perception.depth.fuse import FUSE, KINDS
from perception.depth.metrics import aligned, errors_by_image
from perception.depth.pairs import Pairs, PairSource, SamplePairs
from perception.training import Run, RunConfig
from sims.rooms import CONDITIONS, WINDOW, room_pairs
from tracking.formats.files import atomic_write
from tracking.program import Parser, natural, output, positive, run

PROGRAM = "python -m sims.train.fuse"
TEST = 2_000_000  # added to the seed: rooms of training and test are apart
N_ROOMS, N_TEST = 3000, 160
FARTHEST = 10.0  # m; rooms are smaller
SHOWN, SAVED = 30.0, 60.0  # s
STEPS = {"teach": 5000, "align": 2500, "fuse": 3000, "adapt": 1500}
RATE = {"teach": 1.5e-3, "align": 1e-3, "fuse": 1e-3, "adapt": 1e-3}
ROOMS = """{rooms} ray-cast rooms (`sims.rooms`), of each a frame of {side} x {side} pixels with the events of
  the 50 ms before; by day, by night, blurred, overexposed and with noisy pixels, at random"""
DATA = ("eventscape", "dense", "mvsec", "list")
KEPT = 10  # one of so many samples of a recording, its last ones, are not trained on
CARD = """# {name}

Weights of `perception.depth`, trained by `python -m sims.train.fuse`; MIT licence.

- Data: {data}.
- Backbone: {backbone}; fusion: {fusion}; {parameters} parameters.
- Steps: {steps}; {minutes:.0f} CPU minutes in the last call; seed {seed}, {date}.
- Mean relative error of metric depth on {tests} others, up to {farthest:g} m:

| | both | frames alone | events alone |
|---|---|---|---|
{table}

Depth is of places like those; elsewhere the decoder at least wants to be trained again (stage 3).
"""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How stages are trained.

    steps:   of each stage.
    seed:    of weights and batches.
    resume:  where stages are saved and go on from, or None.
    about:   what a saved stage must agree in to be gone on with.
    device:  where they are trained.
    advance: told the run and the means of the parts of its loss, now and then.
    """

    steps: dict[str, int]
    seed: int = 0
    resume: Path | None = None
    about: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    advance: Callable[[Run, dict[str, float]], object] = lambda run, parts: None

    def train(self, stage: str, network: nn.Module, loss: Any) -> None:
        """Train a stage to its end, or go on where it was; its averaged weights are then in the network."""
        network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        config = RunConfig(steps=self.steps[stage], rate=RATE[stage], muon=3.0, average=0.995)
        training = Run(network, loss, config, self.seed, self.about)
        file = None if self.resume is None else self.resume.with_name(f"{self.resume.name}.{stage}")
        if file is not None and file.exists():
            training.resume(file)
        saved = time.monotonic()
        while not training.done:
            self.advance(training, training.train(SHOWN))
            if file is not None and (time.monotonic() - saved > SAVED or training.done):
                training.save(file)
                saved = time.monotonic()
        training.use_average()
        network.eval()


def steps_of(scale: float) -> dict[str, int]:
    """Steps of each stage, those of `STEPS` times a factor."""
    return {name: max(round(steps * scale), 1) for name, steps in STEPS.items()}


def taught(plan: Plan, pairs: PairSource) -> Backbone:
    """A tiny backbone that knows depth of clean frames."""
    torch.manual_seed(plan.seed)
    backbone = Backbone.tiny(pairs[:1].clean.shape[2])
    plan.train("teach", backbone, fit.teach(pairs))
    return backbone


def aligned_events(plan: Plan, backbone: Backbone, pairs: PairSource, from_nothing: bool = False) -> Backbone:
    """A copy of a backbone, or one that starts from nothing, that says of events what that says of frames."""
    torch.manual_seed(plan.seed + 1)
    start = Backbone.configured(backbone.config) if from_nothing else backbone
    network = FUSE(backbone, start.without_head())
    network.requires_grad_(False)
    if from_nothing:
        network.events.requires_grad_(True)
    else:
        fit.with_lora(network.events)
    plan.train("align", network, fit.align(pairs))
    fit.merged(network.events)
    return network.events


def fused(
    plan: Plan,
    backbone: Backbone,
    events: Backbone,
    pairs: PairSource,
    fusion: str = "fredfuse",
    with_events: bool = True,
) -> FUSE:
    """Both backbones, and a fusion that has learned which of them to trust."""
    torch.manual_seed(plan.seed + 2)
    network = FUSE(backbone, events, fusion)
    network.requires_grad_(False)
    network.fuse.requires_grad_(True)
    plan.train("fuse", network, fit.fuse(pairs, events=with_events))
    return network


def adapted(plan: Plan, network: FUSE, pairs: PairSource, farthest: float = FARTHEST) -> None:
    """Teach the decoder of a network metric depth, up to the farthest, m."""
    torch.manual_seed(plan.seed + 3)
    network.requires_grad_(False)
    network.decoder.requires_grad_(True)
    network.doubt.requires_grad_(True)
    plan.train("adapt", network, fit.adapt(pairs, farthest))


@torch.no_grad()
def disparities(network: FUSE, pairs: Pairs, kind: str, batch: int = 32) -> np.ndarray:
    """(n, H, W) inverse depth up to scale and shift that a network says of pairs."""
    said = (network.disparity(network.reading(x, v, kind)) for x, v in _batches(network, pairs, batch))
    return _at_the_size_of(pairs, said)


@torch.no_grad()
def depths(network: FUSE, pairs: Pairs, kind: str, farthest: float = FARTHEST, batch: int = 32) -> np.ndarray:
    """(n, H, W) metric depth that a network says of pairs."""
    batches = _batches(network, pairs, batch)
    said = (network.depth(network.reading(x, v, kind), farthest, kind)[0] for x, v in batches)
    return _at_the_size_of(pairs, said)


def _batches(network, pairs, batch):
    network.eval()
    device = next(network.parameters()).device
    for k in range(0, len(pairs), batch):
        part = pairs[k : k + batch]
        seen, grids = (torch.from_numpy(a.astype(np.float32)).to(device) for a in (part.seen, part.voxels))
        yield prepared(seen, network.patch), prepared_events(grids, network.patch)


def _at_the_size_of(pairs, said):
    like = torch.empty(1, *pairs.clean.shape[1:3])
    return np.concatenate([fit.as_large(image.float().cpu(), like).numpy() for image in said])


def relative_errors(disparity: np.ndarray, pairs: Pairs) -> np.ndarray:
    """(n,) mean relative error of each frame, scale and shift of inverse depth fitted."""
    assert pairs.depth is not None
    return errors_by_image(aligned(disparity, pairs.depth, FARTHEST), pairs.depth, FARTHEST).abs_rel


def metric_errors(depth: np.ndarray, pairs: Pairs, farthest: float = FARTHEST) -> np.ndarray:
    """(n,) mean relative error of each frame."""
    assert pairs.depth is not None
    return errors_by_image(depth, pairs.depth, farthest).abs_rel


def made(seeds: Sequence[int], side: int, console: Console, conditions: Sequence[str] | None = None) -> Pairs:
    """Pairs of rooms, with progress."""
    with Progress(console=console, disable=not console.is_terminal) as progress:
        rooms = progress.track(seeds, description="rooms")
        return Pairs.joined(room_pairs([seed], conditions, side=side) for seed in rooms)


def recorded(kind: str, paths: Sequence[str], window: int) -> tuple[SamplePairs, SamplePairs]:
    """What to train on and what to test on: the last samples of each recording.

    Args:
        kind:   of DATA.
        paths:  folders of EventScape or DENSE, with one sequence or many; <name>_data.hdf5; or lists.
        window: microseconds of events before a depth.
    """
    parts: list[Any] = []
    for path in paths:
        if kind in ("eventscape", "dense"):
            read = EventScape if kind == "eventscape" else DENSE
            parts += [read(folder, window, empty=True) for folder in sequences(path)]
        else:
            parts.append(MVSEC(path, window=window, empty=True) if kind == "mvsec" else Listed(path))
    whole = SamplePairs(parts, window)
    number = np.diff(whole.ends, prepend=0)
    left = np.concatenate([np.arange(n, 0, -1) for n in number])  # samples to the end of the recording
    kept = left <= np.repeat(np.maximum(number // KEPT, 1), number)
    return whole.only(~kept), whole.only(kept)


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
        about={name: getattr(args, name) or "" for name in ("seed", "backbone", "fusion")} | {"data": about},
        device=args.device,
        advance=advance,
    )
    backbone = named or taught(plan, pairs)
    backbone.requires_grad_(False)
    events = aligned_events(plan, backbone, pairs)
    network = fused(plan, backbone, events, pairs, args.fusion)
    adapted(plan, network, pairs, args.farthest)
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
        pairs: PairSource = made(range(args.seed, args.seed + args.rooms), args.side, console)
        seeds = range(args.seed + TEST, args.seed + TEST + args.tests)
        about = ROOMS.format(rooms=args.rooms, side=args.side)
        return pairs, lambda: ((c, made(seeds, args.side, console, (c,))) for c in CONDITIONS), about
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
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    add("--resume", type=Path, metavar="FILE", help="where stages are saved and go on from: FILE.teach, ...")
    add("--out", type=output, metavar="FILE.safetensors", help="weights")
    args = parser.parse_args(argv)
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
