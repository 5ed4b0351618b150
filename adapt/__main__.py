"""Adapt a model in a file to unlabelled data: `python -m adapt --help`.

Weights are written as safetensors, the whole model with --out-model; a report goes to standard output. Exit
status: 0 done, 1 failed, 2 bad input. Where the guard returned the model as it was, the report says so.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tracking.program import Parser, natural, output, positive, run

PROGRAM = "python -m adapt"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    args = parse(argv)

    def work() -> None:
        from adapt.files import read_model, read_samples, write_adapted, write_model
        from adapt.source_free.adaptation import METHODS, adapt

        if args.method != "auto" and args.method not in METHODS:
            raise ValueError(f"--method must be auto or one of {', '.join(METHODS)}, got {args.method!r}")
        given = read_model(args.model)
        names = ("epochs", "rate", "batch", "neighbours", "classes", "device", "seed")
        settings = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
        samples = read_samples(args.data, args.key)
        found = adapt(
            given,
            samples,
            args.method,
            guard=not args.no_guard,
            watch=_told,
            **settings,
        )
        about = asdict(found.report)
        write_adapted(args.out, found.model, about)
        if args.out_model:
            write_model(args.out_model, found.model, samples)
        print(json.dumps(about) if args.json else found.report)
        if found.report.tripped:
            print(f"the guard returned the model as it was: {found.report.tripped}", file=sys.stderr)

    return run(PROGRAM, work)


def _told(run):
    scores = " ".join(f"{name} {value:.3f}" for name, value in run.scores.items())
    print(f"epoch {run.epoch} of {run.epochs}: {scores}", file=sys.stderr)


def parse(argv: Sequence[str] | None = None):
    """The arguments, checked."""
    parser = Parser(PROGRAM, "Adapt a classifier to data of a new sensor, without labels.")
    add = parser.add_argument
    add(
        "--model",
        required=True,
        metavar="FILE",
        help="a .pt2 of torch.export, or TorchScript; never a pickle",
    )
    add("--data", required=True, metavar="PATH", help=".npz, .npy, or a folder of .npy files or images")
    add("--out", required=True, type=output, metavar="FILE", help="adapted weights, .safetensors")
    add("--out-model", type=output, metavar="FILE", help="also the whole model, in the form of --model")
    add(
        "--method",
        default="auto",
        help="auto (default), adabn, tent, shot, nrc, aad, snc, sfda2, sfda2-paper",
    )
    add("--key", default="x", help="of the array in an .npz; default: x")
    add("--classes", type=positive, metavar="C", help="refuse a model that tells apart another number")
    add("--epochs", type=positive, metavar="N")
    add("--rate", type=float, help="learning rate at the start")
    add("--batch", type=positive, metavar="N")
    add("--neighbours", type=positive, metavar="K")
    add("--device", help="where to compute; default: cpu")
    add("--no-guard", action="store_true", help="keep an adaptation that looks harmful")
    add("--seed", type=natural)
    add("--json", action="store_true", help="the report as one line of JSON")
    args = parser.parse_args(argv)
    if Path(args.out).suffix != ".safetensors":
        parser.error(f"--out must end with .safetensors, got {args.out}")
    if args.out_model and Path(args.out_model).suffix != Path(args.model).suffix:
        parser.error(f"--out-model must end as --model does, got {args.out_model} and {args.model}")
    return args


if __name__ == "__main__":
    sys.exit(main())
