"""What FUSE knows of a real kitchen: `python -m sims.studies.rgbd --help`.

Real RGB-D frames with poses (`sims.rgbd`), events simulated from them, depth judged by the sensor's. A
network that has only seen ray-cast rooms is shown frames as they are, by night, blurred and overexposed. Mean
relative errors after scale and shift of inverse depth were fitted to each frame, and of metric depth as it is
said; intervals are 95 % over frames, which are of one sequence and so not independent. A real backbone drops
in by name (`python -m sims.train.fuse --backbone NAME`). Exit status as of `sims.compare`.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from perception.depth.estimator import load
from perception.depth.fuse import KINDS
from sims.rgbd import load as load_frames
from sims.rgbd import rgbd_pairs
from sims.rooms import CONDITIONS
from sims.table import signed
from sims.train.fuse_score import depths, disparities, metric_errors, relative_errors
from tracking.program import Parser, output, run, write_json

PROGRAM = "python -m sims.studies.rgbd"


def study(args: argparse.Namespace) -> dict[str, Any]:
    """Errors of each frame by condition and kind."""
    torch.set_num_threads(1)
    network, frames = load(args.weights).network, load_frames(args.data)
    found: dict[str, Any] = {}
    for condition in CONDITIONS:
        pairs = rgbd_pairs(frames, condition)
        flat = np.zeros(pairs.clean.shape)
        row = {"constant": {"relative": relative_errors(flat, pairs).tolist()}}
        for kind in KINDS:
            row[kind] = {
                "relative": relative_errors(disparities(network, pairs, kind), pairs).tolist(),
                "metric": metric_errors(depths(network, pairs, kind), pairs).tolist(),
            }
        found[condition] = row
    return found


def show(found: dict[str, Any]) -> None:
    """Print the table."""
    table = Table("", "constant", *KINDS, "both minus frames, 95 %", *(f"{k}, metric" for k in KINDS))
    for condition, row in found.items():
        gap = np.subtract(row["both"]["relative"], row["frames"]["relative"])
        relative = [f"{np.mean(row[k]['relative']):.3f}" for k in ("constant", *KINDS)]
        metric = [f"{np.mean(row[k]['metric']):.3f}" for k in KINDS]
        table.add_row(condition, *relative, signed(gap, 3), *metric)
    Console(width=130).print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = Parser(PROGRAM, "What FUSE knows of real RGB-D frames.")
    add = parser.add_argument
    add("--data", required=True, metavar="PATH", help="folder or zip, see sims.rgbd")
    add("--weights", default="fuse-tiny", metavar="NAME", help="default: fuse-tiny")
    add("--json", type=output, metavar="FILE")
    args = parser.parse_args(argv)

    def work() -> None:
        found = study(args)
        show(found)
        if args.json:
            write_json(args.json, {"date": date.today().isoformat(), "conditions": found})

    return run(PROGRAM, work)


if __name__ == "__main__":
    sys.exit(main())
