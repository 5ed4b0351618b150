"""Train diffusion models without labels: `python -m sims.train.diffusion --help`.

Images are scikit-learn's digits of 8 x 8 pixels, those of a file (MNIST, USPS), or frames of ray-cast rooms.
Stages, each saved about every minute and gone on with by the same command:

    teach    a velocity network learns the images, without their labels
    distil   a copy becomes a consistency model of one or two steps; no image is seen (TBCM)

With labels there are also a classifier, which learns of them and is the guide, and experts, which do not:
they learn from the classifier on samples of the first stage (PPAP). Rooms have a guide that learns their
depth, and its experts. These two take minutes and are not saved half-way. Progress goes to standard error,
the result to standard output. Exit status as of `sims.compare`.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from adapt.diffusion.experts import Experts
from adapt.diffusion.guidance import toward_class, toward_values
from adapt.diffusion.guides import Guide, MapGuide, save_guide
from adapt.diffusion.model import Diffusion
from adapt.diffusion.network import UNet
from adapt.diffusion.ppap import MAP_CLIMBS, MAP_JUMPS, ppap, sample
from adapt.diffusion.ranges import Ranges
from adapt.diffusion.tbcm import Config, Student, tbcm
from adapt.diffusion.teacher import teach
from adapt.diffusion.transfer import TransferConfig, classes, values
from perception.training import Run
from sims.images import Images, digits, of_file, rooms, split
from sims.judges import DepthJudge, Judge, accuracy, distance, learned, said
from sims.train.plan import Plan, check_places
from tracking.formats.files import atomic_write
from tracking.formats.weights import digest
from tracking.program import Parser, natural, not_negative, output, positive, run

PROGRAM = "python -m sims.train.diffusion"
STEPS = {"teach": 2000, "distil": 600, "guide": 400, "experts": 1000}
SETTINGS = {"teach": {"rate": 3e-3, "average": 0.995}, "distil": {"rate": 1e-3, "average": 0.98}}
HELD_OUT, POOL, SCORED = 500, 2000, 1000  # images
FEWEST = 6  # rooms
SIDE = 32  # pixels, of frames of rooms
SIZE = {"digits": (24, 2), "file": (32, 3), "rooms": (32, 3)}  # width and levels of the network

CARD = """# {name}

Weights of `adapt.diffusion`, trained by `python -m sims.train.diffusion`; MIT licence.{scored}

| | |
|---|---|
{rows}

Samples look like those images and like nothing else.
"""
SCORES = """ Distances are
Frechet's, of features of a network that was trained apart, to the images trained on; accuracy, or the error
of depth, is that network's."""


def taught(plan: Plan, images: Images, width: int, levels: int, batch: int = 64) -> Diffusion:
    """A model that has learned images, of which it never sees a label."""
    pixels = images.pixels
    torch.manual_seed(plan.seed)
    network = UNet(pixels.shape[1], width, levels)
    channels, height, side = pixels.shape[1:]
    mean, deviation = float(pixels.mean()), float(pixels.std())
    model = Diffusion(network, (channels, height, side), mean, deviation)
    plan.train("teach", network, teach(model.scaled(pixels), batch), **SETTINGS["teach"])
    return model


def distilled(plan: Plan, model: Diffusion, config: Config | None = None) -> tuple[Diffusion, int]:
    """A consistency model made of a teacher alone, and how many points it had to skip."""
    torch.manual_seed(plan.seed + 1)
    student = Student(model.network, model.network.sigma)
    config = config or Config(warm_up=max(plan.steps["distil"] // 6, 1))
    plan.train("distil", student, tbcm(model.network, model.size, config), **SETTINGS["distil"])
    assert isinstance(student.velocity, UNet)
    return replace(model, network=student.velocity.eval(), jumps=True), int(student.skipped)


def guide_of(plan: Plan, model: Diffusion, images: Images, width: int = 24) -> Guide | MapGuide:
    """A classifier that has learned clean images and their labels, or a network of the logarithm of depth."""
    x, seed, steps = model.scaled(images.pixels), plan.seed + 2, plan.steps["guide"]
    torch.manual_seed(seed)
    if images.depth is not None:
        of_depth = MapGuide(x.shape[1], width)
        learned(of_depth, x, images.depth.log(), F.mse_loss, steps=steps, seed=seed)
        return of_depth
    guide = Guide(x.shape[1], int(images.labels.max()) + 1, width)
    learned(guide, x, images.labels, steps=steps, seed=seed)
    return guide


def experts_of(plan: Plan, guide: Guide | MapGuide, model: Diffusion, ranges: int) -> Experts:
    """Experts of a guide that have learned from it on samples of the model."""
    config = TransferConfig(steps=plan.steps["experts"], seed=plan.seed + 3)
    apart = classes() if isinstance(guide, Guide) else values
    return ppap(guide, model, apart, ranges=Ranges.log_snr(ranges), samples=POOL, config=config)


def train(args: argparse.Namespace) -> None:
    """All stages, scores, weights."""
    console = Console(stderr=True)
    torch.set_num_threads(args.threads)
    kind, images = _data(args)
    labelled = len(images.labels.unique()) > 1
    kept, held = split(images, min(HELD_OUT, len(images.pixels) // 3))
    used = time.process_time()

    def advance(training: Run, parts: dict[str, float]) -> None:
        said = " ".join(f"{name} {value:.4f}" for name, value in parts.items())
        skipped = getattr(training.network, "skipped", 0)
        more = f"; {int(skipped)} points skipped" if skipped else ""
        console.print(f"{training.step} of {training.config.steps}: {said}{more}", highlight=False)

    width, levels = SIZE[kind]
    plan = Plan(
        steps={name: max(round(steps * args.scale), 1) for name, steps in STEPS.items()},
        seed=args.seed,
        resume=args.resume,
        about={
            "images": Path(args.images).name,
            "pixels": digest({"pixels": kept.pixels}),
            "seed": args.seed,
            "width": args.width or width,
        },
        device=args.device,
        advance=advance,
    )
    model = taught(plan, kept, args.width or width, levels)
    of_teacher = replace(plan, about=plan.about | {"teacher": digest(model.network.state_dict())})
    fast, skipped = distilled(of_teacher, model)
    model.network.cpu(), fast.network.cpu()
    result: dict[str, Any] = {
        "images": f"rooms, haze {args.haze:g} per m" if kind == "rooms" else Path(args.images).name,
        "number": len(kept.pixels),
        "size": list(model.size),
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "steps": plan.steps,
        "seed": args.seed,
        "date": date.today().isoformat(),
        "skipped": skipped,
    }
    out = None if args.out is None else Path(args.out)

    def kept_as(suffix: str, save: Callable[..., object], **how: Any) -> None:
        if out is not None:  # at once: a score that fails must not cost the weights
            save(str(out.with_name(f"{out.stem}{suffix}.safetensors")), **how, **result)

    kept_as("", model.save, half=True)
    kept_as("-fast", fast.save, half=True)
    guided = labelled or kept.depth is not None
    if guided:
        guide = guide_of(plan, model, kept)
        experts = experts_of(plan, guide, model, args.experts)
        name = "classifier" if isinstance(guide, Guide) else "depth"
        kept_as(f"-{name}", partial(save_guide, guide))
        kept_as(f"-{name}-experts", experts.save)
        data = (kept, held)
        if isinstance(guide, Guide):
            result |= scores(model, fast, guide, experts, data, plan)
        else:
            result |= depth_scores(model, fast, guide, experts, data, plan)
    result["minutes"] = round((time.process_time() - used) / 60, 1)
    if out is not None:
        with atomic_write(out.with_suffix(".md")) as file:
            rows = "\n".join(f"| {name} | {value} |" for name, value in result.items())
            file.write(CARD.format(name=out.stem, rows=rows, scored=SCORES if guided else ""))
    print(json.dumps(result, indent=1))


def scores(
    model: Diffusion, fast: Diffusion, guide: Guide, experts: Experts, data: tuple[Images, Images], plan: Plan
) -> dict[str, float]:
    """What a judge, trained apart, says of samples: Frechet distances to real images, and guided classes."""
    kept, held = data
    real = model.scaled(kept.pixels)
    seed = plan.seed
    torch.manual_seed(seed + 9)
    judge = Judge(real.shape[1], guide.classes)
    learned(judge, real, kept.labels, steps=plan.steps["guide"], seed=seed + 9)
    n = min(SCORED, len(real))

    def noise() -> torch.Generator:  # the same for all
        return torch.Generator().manual_seed(seed + 10)

    found = {"distance of held-out images": distance(judge, model.scaled(held.pixels), real)}
    for name, one, steps in (
        ("16 steps", model, 16),
        ("8 steps", model, 8),
        ("1 step", model, 1),
        ("fast, 1 step", fast, 1),
        ("fast, 2 steps", fast, 2),
    ):
        found[f"distance, {name}"] = distance(judge, one.sample(n, noise(), steps), real)
    label = torch.arange(SCORED) % guide.classes
    for name, one in (("guided", model), ("guided, fast", fast)):
        x = sample(one, experts, toward_class(label), SCORED, noise())
        found[f"accuracy, {name}"] = accuracy(judge, x, label)
        found[f"distance, {name}"] = distance(judge, x, real)
    return {name: round(value, 3) for name, value in found.items()}


def depth_scores(
    model: Diffusion,
    fast: Diffusion,
    guide: MapGuide,
    experts: Experts,
    data: tuple[Images, Images],
    plan: Plan,
) -> dict[str, float]:
    """How far a judge's log depth of samples is from that of rooms held out whose depth was asked for."""
    kept, held = data
    assert kept.depth is not None
    seed = plan.seed
    torch.manual_seed(seed + 9)
    judge = DepthJudge()
    real = model.scaled(kept.pixels)
    learned(judge, real, kept.depth.log(), F.mse_loss, steps=plan.steps["guide"], seed=seed + 9)
    asked = model.scaled(held.pixels[: SCORED // 4])
    wanted, seen = said(guide, asked), said(judge, asked)

    def off(x: Tensor) -> float:
        return round(float((said(judge, x) - seen).square().mean().sqrt()), 3)

    found = {}
    for name, one in (("", model), (", fast", fast)):
        for kind, scale in (("not guided", 0.0), ("guided", None)):
            noise = torch.Generator().manual_seed(seed + 10)
            loss, steps = toward_values(wanted), MAP_JUMPS if one.jumps else None
            x = sample(one, experts, loss, len(asked), noise, scale=scale, steps=steps, climbs=MAP_CLIMBS)
            found[f"error of log depth, {kind}{name}"] = off(x)
            found[f"distance, {kind}{name}"] = round(distance(judge, x, real), 3)
    return found


def _data(args: argparse.Namespace) -> tuple[str, Images]:
    if args.images == "digits":
        return "digits", digits()
    if args.images == "rooms":
        return "rooms", rooms(args.rooms, args.side or SIDE, args.seed, args.haze)
    images = of_file(args.images, labelled=False)
    return "file", images if args.side is None else images.sized(args.side)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = Parser(PROGRAM, "Train diffusion models without labels, their fast students, and experts.")
    add = parser.add_argument
    add(
        "--images",
        default="digits",
        metavar="WHAT",
        help="digits, rooms, or an .npz of x and y; default: digits",
    )
    add("--rooms", type=positive, default=3000, metavar="N", help="frames of as many rooms; default: 3000")
    add("--haze", type=not_negative, default=0.0, metavar="B", help="per m, so that depth shows")
    add("--side", type=positive, help=f"pixels of frames of rooms, {SIDE} by default, or to scale a file to")
    add("--scale", type=float, default=1.0, help=f"factor of the steps of all stages, {STEPS}")
    add("--width", type=positive, metavar="C", help="channels of the network; default: by the images")
    add("--experts", type=positive, default=5, metavar="N", help="default: 5")
    add("--seed", type=natural, default=0)
    add("--threads", type=positive, default=1)
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    add("--resume", type=Path, metavar="FILE", help="where stages are saved and go on from: FILE.teach, ...")
    add("--out", type=output, metavar="FILE.safetensors", help="weights, and beside them FILE-fast and so on")
    args = parser.parse_args(argv)
    check_places(parser, args)
    if args.haze and args.images != "rooms":
        parser.error("--haze is for --images rooms")
    if args.images == "rooms" and args.rooms < FEWEST:
        parser.error(f"--rooms must be at least {FEWEST}, as a third of them is held out, got {args.rooms}")
    if not 0 < args.scale <= 100:
        parser.error("--scale must be larger than 0, at most 100")
    return run(PROGRAM, lambda: train(args))


if __name__ == "__main__":
    sys.exit(main())
