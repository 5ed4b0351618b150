"""Train a network that turns events into images: `python -m sims.train.reconstruct --help`.

The data are clips of random ray-cast rooms, made before training starts; the truth is their log intensity.
With --how photometric it is not used: flow is learned from how sums of events move, images from what they
explain with it of the events to come. Progress goes to standard error, the result to standard output. A run
is saved every minute; the same command goes on where it was. Exit status as of `sims.compare`.
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
from rich.progress import Progress
from torch import nn

from perception.events.represent import voxel_grid
from perception.reconstruct.fit import FLOWS, Sequences, photometric, supervised
from perception.reconstruct.model import Reconstructor
from perception.reconstruct.networks import E2VID, FireFlowNet, FireNet
from perception.reconstruct.scores import Scores, scores
from perception.training import Run, RunConfig
from sims.camera import log_intensity
from sims.clips import Clip, random_clip
from sims.train.plan import check_places
from tracking.formats.files import atomic_write
from tracking.program import Parser, natural, output, positive, run

PROGRAM = "python -m sims.train.reconstruct"
HELD_OUT, TEST = 1_000_000, 2_000_000  # added to the seed: clips of each are apart
N_CLIPS, N_HELD_OUT, N_TEST = 360, 12, 32
PERIOD = 20_000  # us, of a window
SKIPPED = 8  # windows, before which nobody can know the image
SHOWN, SAVED = 30.0, 60.0  # s
CARD = """# {name}

Weights of `perception.reconstruct`, trained by `python -m sims.train.reconstruct`; MIT licence.

- Data: {clips} clips of random ray-cast rooms (`sims.clips.random_clip`), 24 windows of 20 ms, 64 x 64
  pixels, thresholds 0.1 to 0.3 with 15 % mismatch, half of the cameras with leak, shot noise and
  refractory time.
- Training: {how}, {steps} steps, {minutes:.1f} CPU minutes on one core{beside}; seed {seed}, {date}.
- On {tested} further clips of other rooms, windows from the ninth on: mean square error after the best gain
  and offset {error:.3f} of the variance (sums of events {integration:.3f}, the best high-pass filter
  {highpass:.3f}), structural similarity {similarity:.3f} ({integration_similarity:.3f},
  {highpass_similarity:.3f}).

Images are log intensity up to gain and offset; `displayed` makes a picture.
"""


def sequences(
    seeds: Sequence[int], events: bool = False, show: Console | None = None, **clips: Any
) -> Sequences:
    """Clips as training takes them; `clips` are arguments of `random_clip`."""
    with Progress(console=show, disable=show is None or not show.is_terminal) as progress:
        made = [random_clip(s, **clips) for s in progress.track(seeds, description="clips")]
    return of_clips(made, events)


def of_clips(clips: Sequence[Clip], events: bool = False) -> Sequences:
    """Voxel grids, truth and flow of clips of one length."""
    span = np.stack((clips[0].times[:-1], clips[0].times[1:] - 1), -1)
    windows = [[clip.window(k) for k in range(len(clip))] for clip in clips]
    grids = np.stack([[voxel_grid(w, 5, tuple(s)) for w, s in zip(row, span)] for row in windows])
    truth = np.stack([[log_intensity(image) for image in clip.image[1:]] for clip in clips])
    return Sequences(
        torch.from_numpy(grids.astype(np.float16)),
        torch.from_numpy(truth.astype(np.float16)),
        torch.from_numpy(np.stack([clip.flow for clip in clips]).astype(np.float16)),
        windows if events else None,
        span,
    )


@torch.no_grad()
def images(network: nn.Module, data: Sequences) -> np.ndarray:
    """(n, T, H, W) what a network makes of sequences."""
    was = network.training
    network.eval()
    state, found = None, []
    for k in range(data.voxels.shape[1]):
        image, state = network(data.voxels[:, k].float(), state)
        found.append(image[:, 0].float().cpu().numpy())
    network.train(was)
    return np.stack(found, 1)


def scored(image: np.ndarray, data: Sequences) -> Scores:
    """Scores of all windows after the first few."""
    assert data.truth is not None
    side = image.shape[-2:]
    truth = data.truth[:, SKIPPED:].float().cpu().numpy().reshape(-1, *side)
    return scores(image[:, SKIPPED:].reshape(-1, *side), truth)


def integrated(data: Sequences, windows: float = np.inf) -> np.ndarray:
    """(n, T, H, W) sums of events, forgotten after so many windows."""
    total = data.voxels.float().sum(2).cpu().numpy()
    for k in range(1, total.shape[1]):
        total[:, k] += total[:, k - 1] * np.exp(-1 / windows)
    return total


def best_highpass(data: Sequences) -> float:
    """Windows after which sums are best forgotten: chosen on sequences that are not the test."""
    tried = (2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0)
    return min(tried, key=lambda windows: float(scored(integrated(data, windows), data).error.mean()))


def built(args: argparse.Namespace, data: Sequences) -> tuple[nn.Module, nn.Module, Any]:
    """What is trained, the image network in it, and the loss."""
    network: nn.Module = FireNet() if args.network == "firenet" else E2VID(channels=16)
    network.to(args.device)
    if args.how == "supervised":
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network, network, supervised(data, args.batch)
    both = nn.ModuleDict({"image": network, "flow": FireFlowNet()})
    return both, network, photometric(data, args.batch, flow=args.flow)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    args = parse(argv)
    return run(PROGRAM, lambda: train(args))


def train(args: argparse.Namespace) -> None:
    """Make clips, train, score, write."""
    console = Console(stderr=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    unlabelled = args.how == "photometric"
    data = sequences(range(args.seed, args.seed + args.clips), unlabelled, console).to(args.device)
    held_out = sequences(range(args.seed + HELD_OUT, args.seed + HELD_OUT + N_HELD_OUT)).to(args.device)
    whole, network, loss = built(args, data)
    training = Run(whole, loss, RunConfig(steps=args.steps, rate=args.rate, muon=args.muon), args.seed)
    if args.resume and args.resume.exists():
        training.resume(args.resume)
    used, saved = time.process_time(), time.monotonic()
    while not training.done:
        parts = training.train(SHOWN)
        now = scored(images(network, held_out), held_out)
        line = " ".join(f"{name} {value:.4f}" for name, value in parts.items())
        print(
            f"{training.step} of {args.steps}: {line} | held out: error {now.error.mean():.3f}, "
            f"similarity {now.similarity.mean():.3f}",
            file=sys.stderr,
            flush=True,
        )
        if args.resume and (time.monotonic() - saved > SAVED or training.done):
            training.save(args.resume)
            saved = time.monotonic()
    training.use_average()
    test = sequences(range(args.seed + TEST, args.seed + TEST + N_TEST)).to(args.device)
    forget = best_highpass(held_out)
    rows = {
        "": scored(images(network, test), test),
        "integration": scored(integrated(test), test),
        "highpass": scored(integrated(test, forget), test),
    }
    result: dict[str, Any] = {
        "how": args.how,
        "beside": f" and a {torch.cuda.get_device_name()}" if args.device == "cuda" else "",
        "clips": args.clips,
        "steps": training.step,
        "minutes": (time.process_time() - used) / 60,
        "seed": args.seed,
        "date": date.today().isoformat(),
        "tested": N_TEST,
    }
    for name, row in rows.items():
        result[name or "error"] = float(row.error.mean())
        result[f"{name}_similarity".strip("_")] = float(row.similarity.mean())
    if args.out:
        Reconstructor(network.eval(), PERIOD).save(args.out, **result)  # type: ignore[arg-type]
        with atomic_write(Path(args.out).with_suffix(".md")) as file:
            file.write(CARD.format(name=Path(args.out).stem, **result))
    print(json.dumps(result, indent=1))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, checked."""
    parser = Parser(PROGRAM, "Train a network that turns events into images.")
    add = parser.add_argument
    add("--network", choices=("firenet", "e2vid"), default="firenet")
    add("--how", choices=("supervised", "photometric"), default="supervised", help="default: supervised")
    add("--flow", choices=FLOWS, help="with photometric: how flow is learned; default: constancy")
    add("--clips", type=positive, default=N_CLIPS, metavar="N", help=f"for training; default: {N_CLIPS}")
    add("--steps", type=positive, default=3000, metavar="N")
    add("--batch", type=positive, default=4)
    add("--rate", type=float, default=3e-3, help="learning rate; default: 3e-3")
    add("--muon", type=float, default=3.0, help="factor for kernels, which Muon moves; 0: AdamW moves them")
    add("--seed", type=natural, default=0)
    add("--threads", type=positive, default=1)
    add("--device", choices=("cpu", "cuda"), default="cpu", help="with labels alone; default: cpu")
    add("--resume", type=Path, metavar="FILE", help="where the run is saved and goes on from")
    add("--out", type=output, metavar="FILE.safetensors", help="weights")
    args = parser.parse_args(argv)
    check_places(parser, args)
    if args.device != "cpu" and args.how != "supervised":
        parser.error("--device goes with --how supervised")
    if args.flow and args.how != "photometric":
        parser.error("--flow goes with --how photometric")
    args.flow = args.flow or "constancy"
    return args


if __name__ == "__main__":
    sys.exit(main())
