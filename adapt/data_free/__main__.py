"""A student from a teacher alone: `python -m adapt.data_free --teacher T --student S --input-shape ...`.

The teacher is a program of torch.export (.pt2), TorchScript (.pt, .pth, .ts, .jit) or a student of this
toolkit (.safetensors); files are read as data, and pickles are refused. The student is one
of the small networks by name (cnn-16, resnet-8, mlp-64, points-32) or a .pt2. What came of it is printed as
JSON. With --resume a run that was killed goes on where it was last saved, by the same command.

Exit status: 0 done, 1 failed, 2 bad input.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from adapt import files
from adapt.data_free import networks, presets
from adapt.data_free.abd import abd, abd_classwise
from adapt.data_free.checks import check_teacher
from adapt.data_free.distiller import Config, Distiller
from adapt.data_free.lra import lra
from adapt.data_free.scan import ScanConfig, Suspicion, calibrated, scan
from adapt.data_free.terms import agreement
from tracking.formats import weights
from tracking.program import Parser, natural, not_negative, output, positive, run

PROGRAM = "python -m adapt.data_free"
METHODS: dict[str, Callable[..., Distiller]] = {
    "dafl": presets.dafl,
    "dfad": presets.dfad,
    "dfq": presets.dfq,
    "cmi": presets.cmi,
    "mb-dfkd": presets.mb_dfkd,
    "pre-dfkd": presets.pre_dfkd,
    "lra": lra,
    "lra-first-order": lambda *parts: lra(*parts, second_order=False),
    "lra-vae": lambda *parts: lra(*parts, replay="vae"),
}
DEFENCES = ("none", "abd", "classwise")
ASKED = 512  # synthetic inputs on which student and teacher are compared


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    args = parse(argv)
    return run(PROGRAM, lambda: print(json.dumps(work(args), allow_nan=False)))


def work(args: argparse.Namespace) -> dict[str, Any]:
    """Distil, write, and say what came of it."""
    start = time.monotonic()
    torch.set_num_threads(args.threads)
    shape, chosen = tuple(args.input_shape), settings(args)
    teacher = networks.load(args.teacher).to(args.device)
    classes = check_teacher(teacher, shape, args.device)
    student = made(args, shape, classes).to(args.device)
    said: dict[str, Any] = {"method": args.method, "classes": classes}
    found = looked_at(args, teacher, shape, chosen) if args.scan or args.calibrate else None
    if found is not None:
        said["scan"] = {"target": found.target, "score": round(found.score, 4)}
        if found.sure is not None:
            said["scan"] |= {"sure": round(found.sure, 4), "alarm": found.alarm}
    distiller = wrapped(args, METHODS[args.method](teacher, student, shape, chosen), found)
    distiller.about |= {k: getattr(args, k) for k in ("student", "method", "defence", "bounds")}
    if args.resume is not None and Path(args.resume).exists():
        distiller.resume(args.resume)
    distiller.fit(60 * args.minutes, args.resume)
    student.eval()
    if distiller.step:  # before it there may be nothing to ask about
        x = distiller.source.sample(ASKED, distiller.generator)
        with torch.no_grad():
            said["agreement"] = agreement(student, teacher, x)
    write(args, student, shape, classes)
    parameters = sum(p.numel() for p in student.parameters())
    losses = {k: round(v, 5) for k, v in distiller.history[-1].items()} if distiller.history else {}
    seconds = round(time.monotonic() - start, 1)
    return said | {
        "steps": distiller.step,
        "of": distiller.config.total,
        "parameters": parameters,
        "losses": losses,
        "seconds": seconds,
        "out": args.out,
    }


def made(args: argparse.Namespace, shape: networks.Shape, classes: int) -> nn.Module:
    """The student, with weights of the seed or those of its file."""
    if Path(args.student).suffix == files.PROGRAM:
        return networks.load(args.student)
    if Path(args.student).suffix:
        raise ValueError(f"a student is a name such as cnn-16, or a .pt2 of torch.export; got {args.student}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(args.seed + 2)
        return networks.build(args.student, shape, classes)


def settings(args: argparse.Namespace) -> presets.Settings:
    """Those of the arguments."""
    config = Config(
        epochs=args.epochs, rounds=args.rounds, steps=args.steps, batch=args.batch, seed=args.seed
    )
    mean, deviation = (x[0] if len(x) == 1 else tuple(x) for x in (args.mean, args.deviation))
    small = replace(presets.SMALL, config=config, points=args.points, mean=mean, deviation=deviation)
    return small if args.bn is None else replace(small, bn=args.bn)


def looked_at(
    args: argparse.Namespace, teacher: nn.Module, shape: networks.Shape, chosen: presets.Settings
) -> Suspicion:
    """What a scan of the teacher finds, and how sure it is by the clean teachers of --calibrate."""
    look = partial(scan, shape=shape, bounds=tuple(args.bounds), config=ScanConfig(settings=chosen))
    clean = [look(networks.load(file).to(args.device)) for file in args.calibrate]
    return look(teacher, calibration=calibrated(clean) if clean else None)


def wrapped(args: argparse.Namespace, distiller: Distiller, found: Suspicion | None) -> Distiller:
    """With the defence that was asked for."""
    if args.defence == "abd":
        return abd(distiller)
    if args.defence == "classwise":
        return abd_classwise(distiller, tuple(args.bounds), suspicion=found)
    return distiller


def write(args: argparse.Namespace, student: nn.Module, shape: networks.Shape, classes: int) -> None:
    """The student as safetensors; those by name can be loaded again by `adapt.data_free.networks.load`."""
    if isinstance(student, fx.GraphModule):
        document = {"exported": Path(args.student).name, "shape": list(shape), "classes": classes}
        weights.write_weights(args.out, "exported", document, student.state_dict())
    else:
        networks.save(args.out, student, args.student, shape, classes)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, checked."""
    parser = Parser(PROGRAM, "Distil a small student from a trained teacher, without data.")
    add = parser.add_argument
    add(
        "--teacher",
        required=True,
        metavar="FILE",
        help=".pt2, TorchScript (.pt, .pth, .ts, .jit), or .safetensors of ours",
    )
    add(
        "--student",
        required=True,
        metavar="NAME",
        help="such as cnn-16, resnet-8, mlp-64, points-32; or a .pt2",
    )
    add("--input-shape", required=True, nargs="+", type=positive, metavar="N", help="of one input, no batch")
    add("--method", choices=METHODS, default="lra", metavar="NAME", help=", ".join(METHODS))
    add("--out", required=True, type=output, metavar="FILE.safetensors")
    add("--points", action="store_true", help="inputs N 3 are sets of points, not sequences")
    add(
        "--bn",
        type=not_negative,
        metavar="W",
        help="weight of the batch-norm term; 0: a teacher without batch norm",
    )
    add(
        "--mean",
        nargs="+",
        type=float,
        default=[0.0],
        metavar="M",
        help="of the teacher's inputs, or of each channel; default: 0",
    )
    add("--deviation", nargs="+", type=float, default=[1.0], metavar="S", help="likewise; default: 1")
    add("--defence", choices=DEFENCES, default="none", help="against backdoors; default: none")
    add("--scan", action="store_true", help="name the class a backdoor of the teacher would lead to")
    add(
        "--calibrate",
        nargs="+",
        default=(),
        metavar="FILE",
        help="three or more clean teachers of its classes: the scan says how sure it is, and classwise is as "
        "strong as that",
    )
    add("--bounds", nargs=2, type=float, metavar=("LOW", "HIGH"), help="of inputs, for --scan and classwise")
    add("--epochs", type=positive, default=30, metavar="N")
    add("--rounds", type=positive, default=16, metavar="N", help="of generator and student, in each epoch")
    add("--steps", type=positive, default=5, metavar="N", help="of the student, in each round")
    add("--batch", type=positive, default=64, metavar="N")
    add("--seed", type=natural, default=0)
    add("--device", type=device, default="cpu", help="such as cuda or cuda:1; default: cpu")
    add("--threads", type=positive, default=1, metavar="N", help="default: 1, fastest for small networks")
    add("--resume", type=output, metavar="FILE", help="where the run is saved every minute, and goes on from")
    add(
        "--minutes",
        type=not_negative,
        default=math.inf,
        metavar="M",
        help="to stop after; with --resume to go on",
    )
    args = parser.parse_args(argv)
    args.points |= args.student.startswith("points-")  # which take nothing else
    if (args.scan or args.calibrate or args.defence == "classwise") and not args.bounds:
        parser.error(
            "--scan, --calibrate and --defence classwise need --bounds LOW HIGH, the range of the teacher's "
            "inputs"
        )
    require_apart(parser, args)
    if 0 < len(args.calibrate) < 3:
        parser.error(f"--calibrate needs at least three clean teachers, got {len(args.calibrate)}")
    return args


def require_apart(parser: Parser, args: argparse.Namespace) -> None:
    """Refuse to write over what is read, or two things into one file."""
    if not args.out.endswith(".safetensors"):
        parser.error(f"--out is a .safetensors file, got {args.out}")
    student = [args.student] if Path(args.student).suffix == files.PROGRAM else []
    if student and same_file(args.student, args.teacher):
        parser.error("--student and --teacher are one file: give a student of its own")
    for name, path in (("--out", args.out), ("--resume", args.resume)):
        other = [args.resume] if args.resume and name == "--out" else []
        if path and any(same_file(path, read) for read in (args.teacher, *student, *args.calibrate, *other)):
            parser.error(f"{name} {path} would be written over a file that is read: name another one")


def same_file(a: str, b: str) -> bool:
    """Whether two names are of one file, which need not be there."""
    return os.path.realpath(a) == os.path.realpath(b)


def device(text: str) -> torch.device:
    """One that is here."""
    try:
        torch.zeros(1, device=text).item()
        return torch.device(text)
    except (RuntimeError, AssertionError):  # the latter of a torch that was built for CPUs alone
        raise argparse.ArgumentTypeError(f"{text!r} is no device of this machine") from None


if __name__ == "__main__":
    sys.exit(main())
