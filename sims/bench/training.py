"""How fast MT3 trains on a device: `python -m sims.bench.training --help`.

Windows a second of whole steps, the drawing of windows included, after a few steps that are not counted; and
of the simulator alone. On a GPU also how often a step waits for it, and what it computes for how long.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from datetime import date
from typing import Any

import torch
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from sims.arguments import a_scenario
from sims.bench.measure import machine
from sims.table import wide_console
from sims.train.mt3 import BATCHES, MUON, PAPER, RATE, TRAJECTORY, built, device_name, task_of
from sims.windows import WindowSimulator
from tracking.mt3.graphs import Replayed
from tracking.mt3.trainer import TrainConfig, Trainer
from tracking.program import Parser, output, positive, run, write_json

PROGRAM = "python -m sims.bench.training"
WARM_UP = 5  # steps
MOST_POOLS = 8  # before the time is taken, where steps are recorded
KERNELS = 12  # shown


def trainer_of(args: argparse.Namespace, preset: str, size: str, batch: int) -> Trainer:
    """A run that has just begun."""
    task = task_of(args.scenario)
    about = argparse.Namespace(**vars(args), preset=preset, size=size, without=(), refine=())
    make, loss = built(about, task)
    world = WindowSimulator(args.scenario, 0, args.device)
    config = TrainConfig(
        batch=batch, rate=RATE[preset], muon=MUON, pool=BATCHES * batch, graphs=not args.eager
    )
    return Trainer(make().to(args.device), task, loss, world.draw, world.generator, config)


def wait(device: str) -> None:
    """Until the device has done all that it was told."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def speed(trainer: Trainer, seconds: float) -> dict[str, float]:
    """Windows a second, and ms a step."""
    device = str(trainer.device)
    if trainer.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(trainer.device)
    for _ in range(WARM_UP):
        trainer._step()
    if isinstance(trainer.gradients, Replayed):
        record(trainer, trainer.gradients)
    wait(device)
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds or steps % BATCHES:
        trainer._step()
        steps += 1
    wait(device)
    used = time.perf_counter() - start
    found = {"windows_per_s": steps * trainer.config.batch / used, "ms_per_step": 1e3 * used / steps}
    if trainer.device.type == "cuda":
        found["peak_GB"] = torch.cuda.max_memory_allocated() / 2**30
        found["waits_per_step"] = waits(trainer)
    return found


def record(trainer: Trainer, steps: Replayed) -> None:
    """Train until a whole pool has no length of windows that is new."""
    for _ in range(MOST_POOLS):
        before = len(steps.recorded)
        for _ in range(BATCHES):
            trainer._step()
        if len(steps.recorded) == before:
            return


def waits(trainer: Trainer, steps: int = 4) -> float:
    """How often a step within a pool waits for the device."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for _ in range(steps):
                trainer._step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for text in {f"{w.filename}:{w.lineno}" for w in said}:
        print(f"waits at {text}", file=sys.stderr)
    return len(said) / steps


def kernels(trainer: Trainer, steps: int = 4) -> list[tuple[str, float]]:
    """What the GPU does in a step: names and ms, the longest first."""
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        for _ in range(steps):
            trainer._step()
        torch.cuda.synchronize()
    rows = [(row.key, row.device_time_total / 1e3 / steps) for row in found.key_averages()]
    return sorted(rows, key=lambda row: -row[1])


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Everything asked for, a line of each as soon as it is known."""
    rows: dict[str, Any] = {}
    world = WindowSimulator(args.scenario, 1, args.device)
    number = 4096 if args.device.startswith("cuda") else 256
    world.draw(number)
    wait(args.device)
    start = time.perf_counter()
    world.draw(number)
    wait(args.device)
    rows["simulator"] = {"windows_per_s": number / (time.perf_counter() - start)}
    for network in args.networks:
        preset, size = network.split("-")
        for batch in args.batch:
            trainer = trainer_of(args, preset, size, batch)
            rows[f"{network}, batch {batch}"] = found = speed(trainer, args.seconds)
            print(f"{network}, batch {batch}: {found}", file=sys.stderr, flush=True)
        if args.kernels and trainer.device.type == "cuda":
            table = Table("kernel", "ms a step", title=f"{network}, batch {batch}")
            longest = kernels(trainer)
            for name, ms in longest[:KERNELS]:
                table.add_row(name[:100], f"{ms:.2f}")
            table.add_row("all", f"{sum(ms for _, ms in longest):.2f}")
            wide_console().print(table)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = Parser(PROGRAM, "How fast MT3 trains on a device.")
    add = parser.add_argument
    names = [*(f"trajectory-{size}" for size in TRAJECTORY), *(f"paper-{size}" for size in PAPER)]
    add("--scenario", type=a_scenario, default=a_scenario("mt3-task2"), metavar="NAME")
    add(
        "--networks",
        nargs="+",
        choices=names,
        default=("trajectory-S",),
        metavar="NAME",
        help=", ".join(names),
    )
    add("--batch", type=positive, nargs="+", default=(8,), metavar="N")
    add("--seconds", type=float, default=10.0, help="of each measurement; default: 10")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--eager", action="store_true", help="on a GPU, start every kernel anew instead of recorded steps")
    add("--threads", type=positive, default=1)
    add("--kernels", action="store_true", help="what a GPU computes for how long, of the last batch size")
    add("--json", type=output, metavar="FILE")
    args = parser.parse_args(argv)

    def work() -> None:
        torch.set_num_threads(args.threads)
        found = measured(args)
        table = Table("", "windows/s", "ms a step", "peak GB", "waits a step")
        for name, row in found.items():
            keys = ("windows_per_s", "ms_per_step", "peak_GB", "waits_per_step")
            table.add_row(name, *(f"{row[key]:,.1f}" if key in row else "" for key in keys))
        wide_console().print(table)
        if args.json:
            about = {
                "scenario": args.scenario.name,
                "device": device_name(args.device),
                "torch": torch.__version__,
            }
            write_json(
                args.json, {**about, "machine": machine(), "date": date.today().isoformat(), "found": found}
            )

    return run(PROGRAM, work)


if __name__ == "__main__":
    sys.exit(main())
