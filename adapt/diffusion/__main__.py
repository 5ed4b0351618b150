"""Samples of shipped or own diffusion models: `python -m adapt.diffusion sample --help`.

    python -m adapt.diffusion sample --guide classifier --class 7 --n 64 --out sheet.png
    python -m adapt.diffusion sample --model rooms-fast --guide depth --depth room.npy --out rooms.png

Exit status: 0 done, 1 failed, 2 bad input.
"""

import argparse
import math
import sys
import tokenize
import zipfile
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from adapt.diffusion.experts import load_experts
from adapt.diffusion.guidance import GuideLoss, toward_class, toward_values
from adapt.diffusion.guides import Guide, MapGuide, load_guide
from adapt.diffusion.model import SHIPPED, Diffusion, beside, load
from adapt.diffusion.ppap import CLIMBS, MAP_CLIMBS, MAP_JUMPS, sample
from tracking.formats.files import atomic_write
from tracking.formats.weights import found
from tracking.program import Parser, natural, output, positive, run

PROGRAM = "python -m adapt.diffusion"


def sheet(pixels: Tensor, zoom: int = 4) -> np.ndarray:
    """(H, W) or (H, W, 3) bytes: images (n, 1 or 3, h, w) from 0 to 1 side by side, in a square."""
    n, channels, h, w = pixels.shape
    if channels not in (1, 3):
        raise ValueError(f"a sheet is of grey or coloured images, these have {channels} channels")
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    page = np.zeros((rows * (h + 1) - 1, columns * (w + 1) - 1, channels), np.uint8)
    for k, image in enumerate(pixels.movedim(1, -1).numpy()):
        top, left = k // columns * (h + 1), k % columns * (w + 1)
        page[top : top + h, left : left + w] = np.round(255 * np.clip(image, 0, 1))
    page = page.repeat(zoom, 0).repeat(zoom, 1)
    return page[..., 0] if channels == 1 else page


def work(args: argparse.Namespace) -> None:
    """Make samples and write them."""
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("pictures need the viz extra: pip install '.[viz]'") from None
    torch.set_num_threads(1)
    model = load(args.model)
    generator = torch.Generator().manual_seed(args.seed)
    if args.guide is None:
        x = model.sample(args.n, generator, args.steps)
    else:
        guide = load_guide(args.guide_weights or beside(args.model, args.guide))
        path = found(args.experts, SHIPPED) if args.experts else beside(args.model, f"{args.guide}-experts")
        experts = load_experts(path, guide)
        wanted, steps, climbs = _wanted(guide, model, args), args.steps, CLIMBS
        if args.guide == "depth" and model.jumps:
            steps, climbs = steps or MAP_JUMPS, MAP_CLIMBS
        x = sample(model, experts, wanted, args.n, generator, scale=args.scale, steps=steps, climbs=climbs)
    with atomic_write(args.out, binary=True) as file:
        Image.fromarray(sheet(model.pixels(x))).save(file, "png")
    print(f"{args.n} samples in {args.out}")


def _wanted(guide: Guide | MapGuide, model: Diffusion, args: argparse.Namespace) -> GuideLoss:
    if args.guide == "depth":
        if not isinstance(guide, MapGuide):
            raise ValueError("the guide is a classifier; one of depth is wanted")
        return toward_values(_log_depth(args.depth, (model.size[1], model.size[2])))
    known = guide.classes if isinstance(guide, Guide) else 0
    if args.label >= known:
        raise ValueError(f"the guide tells {known} classes apart, counted from 0; wanted is {args.label}")
    return toward_class(args.label)


def _log_depth(path: str, size: tuple[int, int]) -> Tensor:
    """(h, w) logarithms of depth of a file, m: means of what is known of a pixel; unknown ones are NaN."""
    try:
        depth = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no .npy of numbers: {error}") from None
    if (
        not isinstance(depth, np.ndarray)
        or depth.ndim != 2
        or not depth.size
        or depth.dtype.kind not in "fiu"
    ):
        raise ValueError(f"{path} must hold a depth map (h, w) in m")
    if depth.shape[0] * size[1] != depth.shape[1] * size[0]:
        raise ValueError(f"{path} is of {depth.shape}; the model's images are of {size}: cut it to fit")
    log = torch.from_numpy(depth.astype(np.float64)).log()  # of 0 and below: not finite
    known = log.isfinite()
    sums, shares = (F.adaptive_avg_pool2d(x[None], size)[0] for x in (log.where(known, 0), known.double()))
    return (sums / shares).float()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = Parser(PROGRAM, "Samples of diffusion models, guided or not.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    add = commands.add_parser("sample").add_argument
    add("--model", default="digits", metavar="NAME", help="shipped weights or a file; default: digits")
    add("--guide", choices=("classifier", "depth"), help="what leads the samples; default: nothing")
    add("--class", dest="label", type=natural, metavar="K", help="that a classifier is to see")
    add("--depth", metavar="FILE.npy", help="m (h, w), that a guide of depth is to see")
    add("--guide-weights", metavar="FILE", help="of the guide; default: beside the model")
    add("--experts", metavar="FILE", help="of the guide; default: beside the model")
    add("--scale", type=float, metavar="S", help="of the guidance; 0: none; default: 3, or 10 of fast models")
    add("--steps", type=positive, metavar="K", help="of the sampler; default: as many as are usual")
    add("--n", type=positive, default=64, help="samples; default: 64")
    add("--seed", type=natural, default=0)
    add("--out", type=output, required=True, metavar="FILE.png", help="a sheet of all samples")
    args = parser.parse_args(argv)
    if (args.guide == "classifier") != (args.label is not None):
        parser.error("--guide classifier and --class go together")
    if (args.guide == "depth") != (args.depth is not None):
        parser.error("--guide depth and --depth go together")
    if args.guide is None and (args.guide_weights, args.experts, args.scale) != (None, None, None):
        parser.error("--guide-weights, --experts and --scale are for a --guide")
    if args.scale is not None and not 0 <= args.scale < 1e4:
        parser.error(f"--scale must be at least 0 and finite, got {args.scale}")
    return run(PROGRAM, lambda: work(args))


if __name__ == "__main__":
    sys.exit(main())
