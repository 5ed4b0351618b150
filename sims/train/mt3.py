"""Train MT3: `python -m sims.train.mt3 --help`.

Progress goes to standard error, the result to standard output. A run is saved every minute and when it is
interrupted; the same command goes on where it was. Exit status: 0 done or out of time, 1 failed, 2 bad input,
130 interrupted.
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

import numpy as np
import torch
from torch import nn

from sims.arguments import a_scenario
from sims.scenarios import Scenario
from sims.scenarios.radar import REFERENCE_RANGE, RESOLUTION
from sims.train.card import card
from sims.train.plan import check_places
from sims.train.score import RATES, Metric, calibrated, calibration, choose, errors, nll
from sims.windows import WindowSimulator
from tracking.formats.files import atomic_write
from tracking.models import UniformBirth
from tracking.mt3.attention import TrajectoryConfig
from tracking.mt3.batch import found_in
from tracking.mt3.criterion import Criterion
from tracking.mt3.geometry import Sight
from tracking.mt3.losses import Weights, trajectory_loss
from tracking.mt3.model import Task, as_arrays, load
from tracking.mt3.network import MT3Network, MT3NetworkConfig
from tracking.mt3.trainer import TrainConfig, Trainer, model_of
from tracking.mt3.trajectory import TrajectoryNetwork
from tracking.mt3.windows import Windows
from tracking.program import Parser, natural, not_negative, output, positive, run

PROGRAM = "python -m sims.train.mt3"
TRAIN, VALIDATE, TEST = 1_000_000, 2_000_000, 3_000_000  # added to the seed: windows of each are apart
SHOWN_EVERY, SAVED_EVERY = 20.0, 60.0  # s
N_VALIDATE, N_FINAL = 256, 1000
MISSED = 0.002  # share of live objects that may have no detection in the last scans
MANY = 2000  # windows that say how many objects and measurements there are
ALL = 100_000  # more tokens than any window has
BATCHES = 32  # that are drawn at once
PARTS = ("bias", "straight", "moments", "cascade")
TRAJECTORY = {
    "S": TrajectoryConfig(),
    "M": TrajectoryConfig(
        width=192, heads=8, hidden=768, first_dim=16, keep=(ALL, 384, 256, 256, 256, 256, 256)
    ),
}
PAPER = {
    "S": MT3NetworkConfig(width=96, heads=4, hidden=256, encoder=3, decoder=2, dropout=0.0),
    "M": MT3NetworkConfig(width=192, heads=8, hidden=768, encoder=4, decoder=4),
    "paper": MT3NetworkConfig(),
}
RATE = {"trajectory": 2e-3, "paper": 3e-4}
MUON = 3.0  # factor
WARM_UP = {"trajectory": 50, "paper": 500}

Loss = Callable[[Any, Windows], dict[str, torch.Tensor]]


def task_of(scenario: Scenario) -> Task:
    """What a network for a scenario is trained for."""
    world = WindowSimulator(scenario)
    process = world.process
    clutter, sensor, initial = process.clutter, process.sensor, process.initial
    if world.polar:
        reference = REFERENCE_RANGE if callable(getattr(sensor, "cov", None)) else None
        sight = Sight("radar", clutter.lower, clutter.upper, RESOLUTION, reference)
    else:
        std = float(np.sqrt(np.asarray(sensor.noise(np.zeros((1, 4)))).reshape(2, 2)[0, 0]))
        sight = Sight("position", clutter.lower, clutter.upper, (max(std, 0.01),) * 2)
    velocity = initial.rest_std if isinstance(initial, UniformBirth) else np.sqrt(initial.cov[0, 2, 2])
    return Task(
        name=scenario.name,
        sight=sight,
        scans=world.scans,
        dt=world.dt,
        dims=scenario.metric_dims,
        clutter=float(clutter.mean),
        p_detect=world.p_detect,
        speed=float(np.max(velocity)),
    )


def extended(task: Task, scenario: Scenario) -> Task:
    """The task with the most objects and measurements of MANY windows; a training hardly sees more."""
    windows = WindowSimulator(scenario, TEST - 1).draw(MANY)
    objects, measurements = (int(a.sum(1).max()) for a in (windows.alive, windows.real))
    return replace(task, objects=objects, measurements=measurements)


def trajectory_config(
    task: Task, size: str, without: Sequence[str] = (), refine: Sequence[int] = ()
) -> TrajectoryConfig:
    """The size for a task: how many scans back the last detection of an object may lie.

    Args:
        task:    what is trained for.
        size:    of TRAJECTORY.
        without: parts left out, for an ablation: of PARTS.
        refine:  tokens of each layer after the cascade.
    """
    missed = max(1 - task.p_detect, 1e-3)
    last = int(np.clip(np.ceil(np.log(MISSED) / np.log(missed)), 2, task.scans))
    config = replace(TRAJECTORY[size], last_scans=last, refine=tuple(refine))
    for part in without:
        if part == "cascade":
            config = replace(config, keep=(ALL,) * len(config.keep))
        else:
            left_out: dict[str, Any] = {part: False}
            config = replace(config, **left_out)
    return config


def trajectory_loss_of(task: Task) -> Loss:
    """The loss of a trajectory network on windows of a task."""

    def loss(network, windows):
        answers, stages = network(windows)
        return trajectory_loss(answers, stages, windows, network.layout(windows), task.dims, Weights())

    return loss


def criterion_of(scenario: Scenario, task: Task, device: str) -> Criterion:
    """The loss of MT3, with the paper's weight of existing objects in its first form."""
    if task.sight.radar:
        return Criterion()
    number = float(WindowSimulator(scenario, TEST - 1).draw(MANY).alive.sum(1).float().mean())
    queries = MT3NetworkConfig().queries
    return Criterion(positive=(queries - number) / number, exact=device == "cpu")


def built(args: argparse.Namespace, task: Task) -> tuple[Callable[[], nn.Module], Loss]:
    """A function that makes the network, and the loss."""
    about = (task.sight, task.scans, task.dt)
    if args.preset == "trajectory":
        config = trajectory_config(task, args.size, args.without, args.refine)
        return partial(TrajectoryNetwork, *about, config), trajectory_loss_of(task)
    size = replace(PAPER[args.size], velocity=task.sight.radar)
    return partial(MT3Network, *about, size), criterion_of(args.scenario, task, args.device)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    args = parse(argv)
    return run(PROGRAM, lambda: train(args))


def train(args: argparse.Namespace) -> None:
    """Train, saving every minute and when interrupted; score and write if the run did not fail."""
    torch.set_num_threads(args.threads)
    scenario, device = args.scenario, torch.device(args.device)
    task = extended(task_of(scenario), scenario)
    world = WindowSimulator(scenario, args.seed + TRAIN, device)
    torch.manual_seed(args.seed)
    make, loss = built(args, task)
    settings = TrainConfig(
        minutes=args.minutes,
        steps=args.steps or 0,
        batch=args.batch,
        rate=RATE[args.preset] if args.rate is None else args.rate,
        muon=MUON if args.muon is None else args.muon,
        warm_up=WARM_UP[args.preset],
        pool=BATCHES * args.batch,
        graphs=not args.eager,
        seed=args.seed,
    )
    network = make().to(device)
    before = started(network, args.start) if args.start else {}
    trainer = Trainer(network, task, loss, world.draw, world.generator, settings)
    if args.resume and args.resume.exists():
        trainer.resume(args.resume)
    metric = Metric(scenario.gospa_c, scenario.gospa_p, scenario.metric_dims)
    held_out = WindowSimulator(scenario, args.seed + VALIDATE, device).draw(N_VALIDATE)
    spare = make().to(device)
    slot = np.inf if args.slot is None else args.slot
    start = saved = checked = time.monotonic()
    try:
        while not trainer.done and time.monotonic() - start < 60 * slot:
            left = 60 * slot - (time.monotonic() - start)
            progress = trainer.run(min(SHOWN_EVERY, left))
            line = " ".join(f"{k} {v:.3f}" for k, v in progress.parts.items())
            now = time.monotonic()
            score = ""
            if now - checked > args.check * 60 or trainer.done:
                model = model_of(trainer, spare, threshold=0.6, radius=1.0)
                value = errors(found_in(model, held_out), as_arrays(held_out), metric, 0.6)[:, 0].mean()
                score, checked = f" | held out {value:.3f}", time.monotonic()
            rate = progress.windows / max(progress.seconds, 1e-9)
            print(
                f"{100 * trainer.share:5.1f} % step {progress.step} {rate:.1f} win/s {line}{score}",
                file=sys.stderr,
                flush=True,
            )
            if args.resume and now - saved > SAVED_EVERY:
                trainer.save(args.resume)
                saved = time.monotonic()
    finally:  # also when interrupted
        if args.resume:
            trainer.save(args.resume)
    _finish(args, trainer, spare, scenario, metric, before)


def started(network: nn.Module, name: str) -> dict[str, Any]:
    """Put weights of before into a network; what is known of how they were trained."""
    model = load(name)
    if model.network.config != network.config:
        raise ValueError(f"{name} holds a network with {model.network.config}, not {network.config}")
    network.load_state_dict(model.network.state_dict())
    return model.about


def _finish(args, trainer, spare, scenario, metric, before):
    """Choose threshold and radius on one set of windows, score on another, write the weights."""
    n = args.score
    choice = WindowSimulator(scenario, args.seed + VALIDATE + 1, args.device).draw(n)
    test = WindowSimulator(scenario, args.seed + TEST, args.device).draw(n)
    model, _ = choose(model_of(trainer, spare), choice, metric)
    model = calibrated(model, choice)
    found, truth = found_in(model, choice), as_arrays(choice)
    volume = volume_of(trainer.task)
    rate = min(RATES, key=lambda rate: nll(found, truth, metric.dims, rate, volume))
    found, truth = found_in(model, test), as_arrays(test)
    e = errors(found, truth, metric, model.reading.threshold)
    progress = trainer.progress
    result = {
        "scenario": scenario.name,
        "preset": args.preset,
        "size": args.size,
        "steps": before.get("steps", 0) + progress.step,
        "windows": before.get("windows", 0) + progress.windows,
        "minutes": before.get("minutes", 0.0) + progress.seconds / 60,
        "windows_per_s": progress.windows / progress.seconds
        if progress.step
        else before.get("windows_per_s", 0.0),
        "device": device_name(args.device) if progress.step else before.get("device", "nothing"),
        "seed": args.seed,
        "date": date.today().isoformat() if progress.step else before.get("date", "unknown"),
        "threshold": model.reading.threshold,
        "radius": model.reading.radius,
        "gain": model.reading.gain,
        "gain_high": model.reading.gain_high,
        "offset": model.reading.offset,
        "tested_on": n,
        **dict(zip(("gospa", "localisation", "missed", "false"), e.mean(0).tolist())),
        "gospa_se": float(e[:, 0].std() / np.sqrt(len(e))),
        "mean_objects": float(np.mean([len(x) for x in truth])),
        "nll": nll(found, truth, metric.dims, rate, volume),
        "missed_rate": rate,
        "calibration": calibration(found, truth),
    }
    if args.out:
        model.save(args.out, args.half, **{k: v for k, v in result.items() if k != "calibration"})
        with atomic_write(Path(args.out).with_suffix(".md")) as file:
            file.write(card(result, trainer.task))
    print(json.dumps(result, indent=1))


def device_name(device: str) -> str:
    """What it is called."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def volume_of(task: Task) -> float:
    """Volume of the states that objects may have; velocities lie within six times their spread."""
    lower, upper = np.array(task.sight.lower), np.array(task.sight.upper)
    if task.sight.radar:
        area = 0.5 * (upper[0] ** 2 - lower[0] ** 2) * (upper[1] - lower[1])
    else:
        area = np.prod(upper - lower)
    return float(area * (6 * task.speed) ** (task.dims - 2))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, checked."""
    parser = Parser(PROGRAM, "Train MT3 on windows that are drawn as they are needed.")
    add = parser.add_argument
    add("--scenario", type=a_scenario, required=True, metavar="NAME")
    add(
        "--preset", choices=("trajectory", "paper"), default="trajectory", help="network; default: trajectory"
    )
    add("--size", choices=sorted(PAPER), help="S, M, or of the preset `paper` the paper's, its default")
    add("--without", nargs="+", choices=PARTS, default=(), help="parts of the network left out")
    add(
        "--refine",
        type=natural,
        nargs="+",
        default=(),
        metavar="N",
        help="tokens of layers after the cascade",
    )
    add("--minutes", type=not_negative, default=30.0, help="of training, all calls together; default: 30")
    add("--steps", type=positive, help="gradient steps instead of minutes")
    add("--slot", type=not_negative, help="minutes of this call; the run goes on with the next")
    add("--batch", type=positive, default=8)
    add("--rate", type=not_negative, help="learning rate; default: 2e-3, of the preset `paper` 3e-4")
    add("--muon", type=not_negative, help=f"factor for the matrices of layers, 0: AdamW; default: {MUON:g}")
    add("--seed", type=natural, default=0)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--eager", action="store_true", help="on a GPU, start every kernel anew instead of recorded steps")
    add("--threads", type=positive, default=1)
    add("--check", type=not_negative, default=2.0, help="minutes between scores on held-out windows")
    add("--score", type=positive, default=N_FINAL, help="windows of the final score")
    add("--resume", type=Path, metavar="FILE", help="where the run is saved and goes on from")
    add("--start", metavar="NAME", help="weights to start from: of what ships, or a file")
    add("--out", type=output, metavar="FILE.safetensors", help="weights")
    add("--half", action="store_true", help="write them in half precision")
    args = parser.parse_args(argv)
    check_places(parser, args)
    args.size = args.size or ("S" if args.preset == "trajectory" else "paper")
    if args.preset == "trajectory" and args.size not in TRAJECTORY:
        parser.error("--size paper goes with --preset paper")
    if args.preset == "paper" and (args.without or args.refine):
        parser.error("--without and --refine go with --preset trajectory")
    return args


if __name__ == "__main__":
    sys.exit(main())
