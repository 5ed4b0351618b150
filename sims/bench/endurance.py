"""Does a long run stay as large and as fast as it was: `python -m sims.bench.endurance --help`.

A stream without end of objects that come, cross and go in clutter is drawn scan by scan and tracked, so that
nothing but the tracker could grow. Memory is that of the process, after so many scans; time is CPU time of a
scan, the median since the last line. One thread. Exit status as of `sims.compare`.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from sims.bench.measure import machine
from sims.trackers import FILTERS
from tracking.models import ConstantVelocity, PositionSensor, Survival, UniformBirth
from tracking.program import Parser, natural, output, positive, run, write_json

PROGRAM = "python -m sims.bench.endurance"
SIDE = 100.0  # m
RATE, LIFE = 0.1, 50.0  # objects a second, s each
CLUTTER = 5.0
LOOKS = (0.01, 0.1, 0.5, 1.0)  # shares of the scans after which the process is measured


def memory() -> float:
    """MB that this process has in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def stream(scans: int, seed: int):
    """Measurements (m, 2) of each second; objects fly straight, and p_D is 0.9."""
    rng = np.random.default_rng(seed)
    x = np.empty((0, 4))
    for _ in range(scans):
        x = x[(rng.random(len(x)) > 1 / LIFE) & ((x[:, :2] > 0) & (x[:, :2] < SIDE)).all(axis=1)]
        x[:, :2] += x[:, 2:]
        new = rng.poisson(RATE)
        born = np.column_stack((rng.uniform(0, SIDE, (new, 2)), rng.normal(0, 1, (new, 2))))
        x = np.concatenate((x, born))
        seen = x[rng.random(len(x)) < 0.9, :2]
        clutter = rng.uniform(0, SIDE, (rng.poisson(CLUTTER), 2))
        yield np.concatenate((seen + rng.normal(0, 0.5, seen.shape), clutter))


def lasting(name: str, scans: int, seed: int) -> list[dict[str, float]]:
    """Memory and time of a tracker on the way through the stream."""
    field: dict[str, Any] = {"lower": (0.0, 0.0), "upper": (SIDE, SIDE)}
    tracker = FILTERS[name](
        ConstantVelocity(dims=2, q=0.05),
        PositionSensor(std=0.5, p_detect=0.9, clutter_intensity=CLUTTER / SIDE**2),
        UniformBirth(rate=RATE, rest_std=1.0, **field),
        Survival(1 - 1 / LIFE, **field),
    )
    looks, used, rows, most = {max(1, round(share * scans)) for share in LOOKS}, [], [], 0
    for k, z in enumerate(stream(scans, seed), start=1):
        start = time.process_time()
        most = max(most, len(tracker.step(z, float(k))))
        used.append(time.process_time() - start)
        if k in looks:
            rows.append({"scans": k, "mb": memory(), "ms": 1e3 * float(np.median(used)), "most_tracks": most})
            used.clear()
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = Parser(PROGRAM, "Does a long run stay as large and as fast as it was.")
    add = parser.add_argument
    add("--trackers", nargs="+", choices=sorted(FILTERS), default=["pmbm", "glmb", "lmb", "gnn"])
    add("--scans", type=positive, default=100_000, metavar="N", help="default: 100,000")
    add("--seed", type=natural, default=0)
    add("--json", type=output, metavar="FILE")
    args: argparse.Namespace = parser.parse_args(argv)

    def work() -> None:
        console, table = Console(stderr=True), Table("tracker", "scans", "MB", "ms a scan", "tracks at most")
        found = {}
        for name in args.trackers:
            found[name] = lasting(name, args.scans, args.seed)
            for row in found[name]:
                cells = (f"{row['scans']:,}", f"{row['mb']:.0f}", f"{row['ms']:.2f}", str(row["most_tracks"]))
                table.add_row(name, *cells)
            console.print(f"{name}: {found[name][-1]['mb']:.0f} MB", highlight=False)
        Console(width=110).print(table)
        if args.json:
            about = {"scans": args.scans, "seed": args.seed, "machine": machine()}
            write_json(args.json, {**about, "date": date.today().isoformat(), "trackers": found})

    return run(PROGRAM, work)


if __name__ == "__main__":
    sys.exit(main())
