"""How well guides lead a diffusion model that never saw a label: `python -m sims.studies.ppap --help`.

Go et al. (PPAP, CVPR 2023) guide an unconditional ImageNet model of 256 pixels by ResNet-50; five experts
that learned without data beat a single one, and both leave guides off the shelf far behind. Here: digits of
8 x 8 pixels (or those of --images), a guide of some 57,000 parameters trained on clean images, thousands of
samples instead of hundreds of thousands. Rows:

    none             no guide
    raw              the guide as it is, shown noised images
    denoised         the guide as it is, shown what the model takes the clean image for
    ppap 1, ppap N   experts of one range of noise and of N, taught by the guide on the model's samples
    labels 1, N      the same experts taught by labels of real images
    none, fast; ppap N, fast  with --fast, its consistency model: not led, and led by climbs between jumps

Accuracy is whether a judge, another network trained apart, sees in a sample the class that was asked for;
distance is Frechet's, of the judge's features, to real images. The same scale means different things to
different guides, so whole fronts are shown. With --depth a regressor of depth is the guide of a model of
ray-cast rooms: the error is that of the logarithm of depth, by another network, between a sample and the
room that was asked for, beside the distance of samples to rooms. What --json has already is not computed
again. Exit status as of `sims.compare`.
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
from torch import Tensor
from torch.nn import functional as F

from adapt.diffusion.experts import Experts
from adapt.diffusion.guidance import (
    Guidance,
    Guide,
    denoised,
    guided,
    guided_jump,
    raw,
    toward_class,
    toward_values,
)
from adapt.diffusion.guides import Guide as Classifier
from adapt.diffusion.guides import MapGuide
from adapt.diffusion.model import Diffusion, load
from adapt.diffusion.ranges import Ranges
from adapt.diffusion.sampling import even, gaussian, integrate, jump, jumps
from adapt.diffusion.transfer import TransferConfig, classes, transfer, values
from adapt.diffusion.trigflow import Velocity, noised
from sims.images import Images, digits, of_file, rooms, split
from sims.judges import DepthJudge, Judge, accuracy, distance, learned, said
from sims.studies.record import Record
from sims.table import signed
from tracking.formats.weights import digest
from tracking.program import Parser, natural, not_negative, output, positive, run

PROGRAM = "python -m sims.studies.ppap"
HELD_OUT = 500  # images
ROOMS, ROOMS_TEST = 5_000_000, 6_000_000  # seeds of rooms that no diffusion model was trained on
Rows = dict[str, dict[str, Any]]


def ranges_of(kind: str, n: int) -> Ranges:
    """Ranges of noise: of equal log signal-to-noise ratio, or of equal time."""
    return Ranges.log_snr(n) if kind == "log-snr" else Ranges.even(n)


def led(
    model: Diffusion, guide: Guide | None, loss: Any, scale: float, args: argparse.Namespace, seed: int
) -> Tensor:
    """Samples, from the same noise whoever leads them."""
    sigma = model.network.sigma
    generator = torch.Generator().manual_seed(1_000 + seed)
    parts = []
    for start in range(0, args.samples, args.batch):
        n = min(args.batch, args.samples - start)
        x = gaussian(n, model.size, sigma, generator)
        velocity: Velocity = model.network
        guidance = None if guide is None else Guidance(guide, loss(start, n), scale, sigma)
        with torch.no_grad():
            if model.jumps and guidance is not None:
                x = guided_jump(velocity, x, jumps(args.jumps), guidance, generator, args.climbs)
            elif model.jumps:
                x = jump(velocity, x, jumps(args.jumps), generator, sigma)
            else:
                velocity = velocity if guidance is None else guided(velocity, guidance)
                x = integrate(velocity, x, even(args.sampler), order=1)
        parts.append(x)
    return torch.cat(parts)


def fronts(
    models: Sequence[Diffusion], guides: dict[str, Guide], loss: Any, score: Any, args: Any, seed: int
) -> Rows:
    """What `score` says of samples of all guides and scales, and of those that nobody leads."""
    rows: Rows = {}
    for model in models:
        kind = ", fast" if model.jumps else ""
        rows[f"none{kind}"] = {"0": score(led(model, None, None, 0, args, seed))}
        for name in (f"ppap {args.experts}",) if kind else guides:
            of_scales = {f"{s:g}": score(led(model, guides[name], loss, s, args, seed)) for s in args.scales}
            rows[f"{name}{kind}"] = of_scales
    return rows


def experts_of(
    kind: str, guide: Any, model: Diffusion, data: tuple[Tensor, Tensor | None, Any], args: Any, seed: int
) -> dict[str, Experts]:
    """One expert, and several, taught on images with what is wanted of them, or what the guide says."""
    images, wanted, distance = data
    made = {}
    for n in (1, args.experts):
        torch.manual_seed(seed)
        experts = Experts(guide, ranges_of(args.ranges, n), rank=args.rank, sigma=model.network.sigma)
        config = TransferConfig(steps=args.steps, batch=args.batch_experts, seed=seed)
        transfer(experts, images, distance, config, wanted)
        made[f"{kind} {n}"] = experts
    return made


def one_seed(
    seed: int, models: Sequence[Diffusion], data: tuple[Images, Images], args: Any, console: Console
) -> Rows:
    """Accuracy and distance of all rows and scales, and what guides know of noised held-out images."""
    model, (train, test) = models[0], data
    real, held = model.scaled(train.pixels), model.scaled(test.pixels)
    torch.manual_seed(100 + seed)
    classes_of = int(train.labels.max()) + 1
    judge = Judge(real.shape[1], classes_of)
    learned(judge, real, train.labels, steps=args.judge, seed=100 + seed)
    torch.manual_seed(200 + seed)
    guide = Classifier(real.shape[1], classes_of, width=args.width)
    learned(guide, real, train.labels, steps=args.judge, seed=200 + seed)
    console.print(
        f"seed {seed}: held out, judge {accuracy(judge, held, test.labels):.3f}, "
        f"guide {accuracy(guide, held, test.labels):.3f}",
        highlight=False,
    )
    samples = model.sample(args.pool, torch.Generator().manual_seed(300 + seed))
    guides: dict[str, Guide] = {"raw": raw(guide), "denoised": denoised(guide, model.network)}
    guides |= experts_of("ppap", guide, model, (samples, None, classes()), args, seed)
    if not args.no_labels:
        guides |= experts_of("labels", guide, model, (real, train.labels, F.cross_entropy), args, seed)
    target = torch.arange(args.samples) % classes_of

    def wanted(start: int, n: int) -> Any:
        return toward_class(target[start : start + n])

    def score(x: Tensor) -> list[float]:
        return [accuracy(judge, x, target), distance(judge, x, real)]

    rows = fronts(models, guides, wanted, score, args, seed)
    for name, one in guides.items():
        if name != "denoised":
            rows[name]["knows"] = knows(one, held, test.labels, ranges_of(args.ranges, args.experts), model)
    console.print(f"seed {seed}: {rows}", highlight=False)
    return rows


@torch.no_grad()
def knows(guide: Guide, x0: Tensor, labels: Tensor, ranges: Ranges, model: Diffusion) -> list[float]:
    """Accuracy on images noised to the middle of each range."""
    found = []
    for low, high in zip(ranges.edges, ranges.edges[1:]):
        t = (low + high) / 2
        z = model.network.sigma * torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
        out = guide(noised(x0, torch.tensor(t), z), t)
        found.append(float((out.argmax(1) == labels).float().mean()))
    return found


def one_depth(seed: int, models: Sequence[Diffusion], args: Any, console: Console) -> Rows:
    """Errors of the logarithm of depth of rooms that were asked for, by a judge."""
    model, side = models[0], models[0].size[1]
    data = rooms(args.rooms, side, ROOMS, args.haze)
    asked = rooms(min(args.samples, args.asked), side, ROOMS_TEST, args.haze)
    assert data.depth is not None
    check_images(model, data.pixels, f"rooms with haze {args.haze:g}")
    x, wanted = model.scaled(data.pixels), data.depth.log()
    torch.manual_seed(100 + seed)
    judge = DepthJudge()
    learned(judge, x, wanted, F.mse_loss, steps=args.judge, seed=100 + seed)
    torch.manual_seed(200 + seed)
    guide = MapGuide()
    learned(guide, x, wanted, F.mse_loss, steps=args.judge, seed=200 + seed)
    samples = model.sample(args.pool, torch.Generator().manual_seed(300 + seed))
    guides: dict[str, Guide] = {"raw": raw(guide), "denoised": denoised(guide, model.network)}
    guides |= experts_of("ppap", guide, model, (samples, None, values), args, seed)
    target = said(guide, model.scaled(asked.pixels))  # what the guide says of the room, as the paper has it
    target = target[torch.arange(args.samples) % len(target)]
    seen = said(judge, model.scaled(asked.pixels))
    seen = seen[torch.arange(args.samples) % len(seen)]

    def loss(start: int, n: int) -> Any:
        return toward_values(target[start : start + n])

    def score(sampled: Tensor) -> list[float]:
        off = (said(judge, sampled) - seen).square().mean().sqrt()
        return [float(off), distance(judge, sampled, x)]

    rows = fronts(models, guides, loss, score, args, seed)
    console.print(f"seed {seed}: {rows}", highlight=False)
    return rows


def check_images(model: Diffusion, pixels: Tensor, what: str) -> None:
    """Images of another kind than a model was trained on are found out by their mean and deviation.

    Raises:
        ValueError: they are.
    """
    mean, deviation = float(pixels.mean()), float(pixels.std())
    if abs(mean - model.mean) > 0.1 * model.deviation or not 0.9 < deviation / model.deviation < 1.1:
        raise ValueError(
            f"the model was trained on images of mean {model.mean:.3f} and deviation {model.deviation:.3f}, "
            f"{what} have {mean:.3f} and {deviation:.3f}"
        )


def study(args: argparse.Namespace, record: Record, images: Images) -> dict[str, Any]:
    """All seeds; images that the model was trained on, where a classifier is the guide."""
    torch.set_num_threads(1)
    model, console = load(args.model), Console(stderr=True)
    if model.jumps:
        raise ValueError(f"{args.model} is a consistency model; a teacher is wanted")
    models = [model]
    if args.fast:
        models.append(load(args.fast))
        same = [(m.size, m.mean, m.deviation, m.network.sigma) for m in models]
        if not models[1].jumps or same[0] != same[1]:
            raise ValueError(f"{args.fast} is no consistency model of {args.model}")
    seeds = range(args.seed, args.seed + args.seeds)
    if args.depth:
        return {"seeds": [record.part(f"{s}", partial(one_depth, s, models, args, console)) for s in seeds]}
    images = images.sized(model.size[-1])
    if images.pixels.shape[1:] != model.size:
        raise ValueError(f"images are of {tuple(images.pixels.shape[1:])}, the model makes {model.size}")
    check_images(model, images.pixels, "these")
    data = split(images, HELD_OUT)
    return {"seeds": [record.part(f"{s}", partial(one_seed, s, models, data, args, console)) for s in seeds]}


def show(found: dict[str, Any], args: argparse.Namespace) -> None:
    """Print the tables."""
    console, seeds = Console(width=120), found["seeds"]
    names = list(seeds[0])
    table = Table("", *(f"s = {s:g}" for s in args.scales), "" if args.depth else "knows, by range of noise")
    for name in names:
        cells = []
        for scale in args.scales:
            key = "0" if "0" in seeds[0][name] else f"{scale:g}"
            cells.append(" / ".join(f"{v:.3f}" for v in np.mean([row[name][key] for row in seeds], 0)))
        known = np.mean([row[name]["knows"] for row in seeds], 0) if "knows" in seeds[0][name] else []
        table.add_row(name, *cells, " ".join(f"{v:.3f}" for v in known))
    console.print(table)
    what = f"{'error of log depth' if args.depth else 'accuracy'} / Frechet distance"
    console.print(f"{what}, means over {len(seeds)} seeds.")
    first, many = "ppap 1", f"ppap {args.experts}"
    pairs = [(many, first), (many, "raw")] if args.experts > 1 else [(first, "raw")]
    pairs += [(f"{many}, fast", many)] if args.fast else []
    for one, other in pairs:
        for scale in args.scales:
            gap = np.array([np.subtract(row[one][f"{scale:g}"], row[other][f"{scale:g}"]) for row in seeds])
            said = " / ".join(signed(v, 3) for v in gap.T)
            console.print(f"{one} minus {other}, s = {scale:g}: {said}", highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    args = parse(argv)

    def work() -> None:
        left_out = ("json", "images", "quick", "seed", "seeds")
        settings = {k: v for k, v in vars(args).items() if k not in left_out}
        images = of_file(args.images) if args.images else digits()
        record = Record(args.json, **settings, images=args.images and digest({"pixels": images.pixels}))
        show(study(args, record, images), args)

    return run(PROGRAM, work)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, checked."""
    parser = Parser(PROGRAM, "How well guides lead a diffusion model that never saw a label.")
    add = parser.add_argument
    add("--model", default="digits", metavar="NAME", help="shipped weights or a file; default: digits")
    add("--images", metavar="FILE.npz", help="the model's, with labels, scaled to its size; default: digits")
    add("--depth", action="store_true", help="guide a model of rooms by depth")
    add(
        "--rooms", type=positive, default=1500, metavar="N", help="for depth's guide and judge; default: 1500"
    )
    add("--asked", type=positive, default=64, metavar="N", help="rooms that are asked for; default: 64")
    add("--haze", type=not_negative, default=0.0, metavar="B", help="per m, as the model knows it")
    add("--seeds", type=positive, default=3, metavar="N", help="guides, judges, experts; default: 3")
    add("--seed", type=natural, default=0, help="the first of them")
    add("--experts", type=positive, default=5, metavar="N", help="default: 5")
    add(
        "--ranges",
        choices=("log-snr", "time"),
        default="log-snr",
        help="of equal length in; default: log-snr",
    )
    add("--rank", type=positive, default=4, help="of the adapters; default: 4")
    add("--width", type=positive, default=32, help="of the guide; default: 32")
    add("--steps", type=positive, default=1000, metavar="N", help="of all experts together; default: 1000")
    add("--batch-experts", type=positive, default=128, metavar="N", help="of their steps; default: 128")
    add("--judge", type=positive, default=400, metavar="N", help="steps of judges and guides; default: 400")
    add("--pool", type=positive, default=2000, metavar="N", help="samples that experts learn from")
    add("--scales", nargs="+", type=float, default=[1.0, 3.0, 7.5], metavar="S", help="default: 1 3 7.5")
    add("--samples", type=positive, default=500, metavar="N", help="for each cell; default: 500")
    add("--sampler", type=positive, default=25, metavar="N", help="steps; default: 25")
    add("--fast", metavar="NAME", help="a consistency model of --model, which is led as well")
    add("--jumps", type=positive, default=4, metavar="N", help="of it; default: 4")
    add("--climbs", type=positive, default=2, metavar="N", help="at each of its times; default: 2")
    add("--batch", type=positive, default=250, metavar="N", help="samples at once; default: 250")
    add("--no-labels", action="store_true", help="leave out the rows that learn from labels")
    add("--quick", action="store_true", help="one seed, a few steps, to see that it runs")
    add("--json", type=output, metavar="FILE")
    args = parser.parse_args(argv)
    if args.quick:
        args.seeds, args.steps, args.judge, args.pool, args.samples, args.sampler = 1, 6, 6, 40, 40, 3
        args.scales, args.rooms, args.experts = [2.0], 60, 2
    if args.haze and not args.depth:
        parser.error("--haze is for --depth")
    if args.fast and args.jumps < 2:
        parser.error("--jumps must be at least 2: one starts at pure noise, where there is nothing to see")
    if args.samples < 2 or not all(0 < s < 1e4 for s in args.scales):
        parser.error("--samples must be at least 2 and every --scales positive")
    return args


if __name__ == "__main__":
    sys.exit(main())
