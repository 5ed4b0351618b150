"""How many frames a second depth, points and detections take: `python -m sims.bench.depth --help`.

One thread. Frames, events and depth images are of a ray-cast room; depth is the true one with an error of two
percent, as the shipped network's would hide what clustering costs. Exit status as of `sims.compare`.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.table import Table

from perception.clusters import clusters
from perception.depth.estimator import load
from perception.detect import detect
from perception.objects.finder import load as load_finder
from perception.pinhole import Pinhole
from perception.plane import ground
from perception.pointcloud import cloud
from sims.bench.measure import machine
from sims.camera import EventCamera, Pixels, joined, log_intensity
from sims.rooms import BETWEEN, WINDOW
from sims.table import wide_console
from sims.world import Path, World
from tracking.program import Parser, output, positive, run, write_json

PROGRAM = "python -m sims.bench.depth"
SIZE = (640, 480)  # of the depth image
ERROR = 0.02  # of its depths, relative


def frames_a_second(work: Callable[[], object], seconds: float) -> dict[str, float]:
    """Of CPU time, the median of single calls, after one that is not counted; and ms of the slowest of 20."""
    work()
    used: list[float] = []
    while sum(used) < seconds or len(used) < 5:
        start = time.process_time()
        work()
        used.append(time.process_time() - start)
    return {
        "frames_per_s": 1 / float(np.median(used)),
        "p95_ms": 1e3 * float(np.quantile(used, 0.95)),
        "calls": len(used),
    }


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Everything, one after the other."""
    rows: dict[str, Any] = {}
    world, path = World.random(1, objects=8), Path.random(1)
    estimator, finder = load(args.weights), load_finder()
    for side in args.sides:
        lens = Pinhole.of(side, side, float(side))
        times = (WINDOW * np.arange(BETWEEN + 1) // BETWEEN).tolist()
        pictures = [world.view(lens, path.pose(t), t).image for t in times]
        camera = EventCamera(side, side, Pixels(on=0.15, off=0.15), 0)
        parts = [camera.step(log_intensity(p, 0.02), t) for p, t in zip(pictures, times)]
        events, _ = joined(parts, side, side)
        name = f"FUSE, {side} x {side}, {len(events):,} events"
        works: dict[str, Callable[[], object]] = {
            name: partial(estimator.step, pictures[-1], events, (0, WINDOW)),
            f"things, {side} x {side}": partial(finder.step, pictures[-1], events, lens, (0, WINDOW)),
        }
        rows |= {name: frames_a_second(work, args.seconds) for name, work in works.items()}
    lens = Pinhole.of(*SIZE, float(SIZE[0]))
    true = world.view(lens, path.pose(0.0), samples=1).depth
    rng = np.random.default_rng(0)
    # An error of depth is the same over a patch and no salt and pepper.
    coarse = rng.normal(0, ERROR, (SIZE[1] // 40, SIZE[0] // 40)).repeat(40, 0).repeat(40, 1)
    depth = (true * (1 + coarse)).astype(np.float32)
    points = cloud(depth, lens, lambda z: ERROR * z)
    rest = points[~ground(points)[1]]

    def cloud_and_clusters() -> None:
        found = cloud(depth, lens, lambda z: ERROR * z)
        _, floor = ground(found)
        clusters(found[~floor])

    sized = f"{SIZE[0]} x {SIZE[1]}"
    rows[f"points, {sized}"] = frames_a_second(lambda: cloud(depth, lens), args.seconds)
    rows[f"largest plane of {len(points):,} points"] = frames_a_second(lambda: ground(points), args.seconds)
    rows[f"clusters of {len(rest):,} points"] = frames_a_second(lambda: clusters(rest), args.seconds)
    rows[f"points, without the largest plane, clusters, {sized}"] = frames_a_second(
        cloud_and_clusters, args.seconds
    )
    rows[f"detect, one plane, {sized}"] = frames_a_second(lambda: detect(depth, lens), args.seconds)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = Parser(PROGRAM, "How many frames a second depth, points and detections take.")
    add = parser.add_argument
    add("--weights", default="fuse-tiny", metavar="NAME", help="of FUSE; default: fuse-tiny")
    add("--sides", type=positive, nargs="+", default=(64, 96), metavar="N", help="of its images, pixels")
    add("--seconds", type=float, default=3.0, help="of each measurement; default: 3")
    add("--json", type=output, metavar="FILE")
    args = parser.parse_args(argv)

    def work() -> None:
        torch.set_num_threads(1)
        found = measured(args)
        table = Table("", "frames/s", "95 % within ms")
        for name, row in found.items():
            table.add_row(name, f"{row['frames_per_s']:.1f}", f"{row['p95_ms']:.1f}")
        wide_console().print(table)
        if args.json:
            about = {"machine": machine(), "date": date.today().isoformat()}
            write_json(args.json, {**about, "found": found})

    return run(PROGRAM, work)


if __name__ == "__main__":
    sys.exit(main())
