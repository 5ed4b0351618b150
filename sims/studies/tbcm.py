"""How few steps a distilled model needs, and at what cost: `python -m sims.studies.tbcm --help`.

Tang et al. (arXiv 2511.20410) distil Sana (600 M parameters, 1024 pixels) without an image: FID 6.52 in one
step, 40 % less time and 64 % less memory than distilling with images, which must be encoded. Here: a
teacher of digits of 8 x 8 pixels, a fifth of a million parameters, one CPU core, no encoder unless --cost
is asked for. Everything starts from the same teacher and is trained on equally many points at the same rates:

    teacher K     the teacher in K steps of second order; K = 1 is the naive way
    DDIM K        the teacher in K of DDIM's steps, as the papers have it
    tbcm          trajectories of the teacher; no image is seen
    scm           the same loss on real images and noise, the teacher's velocity
    trained       the same loss on real images and noise alone, no teacher (sCT)

None has an adversarial term. Distances are Frechet distances of features of a network that was trained
apart, to the real images; the floor is that of held-out real images. The final weights count, averaged as
they are; the best checkpoint is shown beside them, to say how stable training is. What --json has
already is not computed again. Exit status as of `sims.compare`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from adapt.diffusion.model import Diffusion, load
from adapt.diffusion.route import jittered, points_of, reference, rollout
from adapt.diffusion.sampling import MIDDLE, even, gaussian, integrate, jump, jumps
from adapt.diffusion.tbcm import Config, Student, consistency_loss, scm, tangent, tbcm
from perception.training import Run, RunConfig
from sims.bench.measure import ROOT
from sims.images import digits, split
from sims.judges import Judge, distance, learned
from sims.studies.record import Record
from sims.table import interval, signed
from tracking.program import Parser, natural, output, positive, run

PROGRAM = "python -m sims.studies.tbcm"
HELD_OUT = 500  # images
STEPS = {2: (1, 2, 3, 4, 5, 6, 8, 12), 1: (2, 4, 8, 10, 12, 16, 20, 24, 32)}  # of the teacher, by order
NAMES = {1: "DDIM", 2: "teacher"}
TEACHER = {f"{NAMES[order]} {k}": (k, order) for order, steps in STEPS.items() for k in steps}
JUMPS = (1, 2)
ARMS = ("tbcm", "scm", "trained")
COSTS = ("tbcm", "scm", "scm, encoding")
ENCODED = 8  # times the side of a latent that a stand-in of an image has


def loss_of(arm: str, model: Diffusion, images: Tensor, config: Config):
    """The loss of an arm."""
    if arm == "tbcm":
        return tbcm(model.network, model.size, config)
    return scm(images, model.network if arm == "scm" else None, config)


def distilled(
    arm: str,
    model: Diffusion,
    images: Tensor,
    args: argparse.Namespace,
    seed: int,
    look: Callable[[Student, int], object] = lambda student, step: None,
) -> Student:
    """A student after all steps; `look` is shown copies with averaged weights on the way."""
    torch.manual_seed(seed)
    student = Student(model.network, model.network.sigma)
    config = Config(trajectories=args.trajectories, points=args.points, warm_up=max(args.steps // 6, 1))
    settings = RunConfig(steps=args.steps, rate=args.rate, average=args.average, decay=0.0)
    training = Run(student, loss_of(arm, model, images, config), settings, seed)
    for part in range(args.looks):
        until = args.steps * (part + 1) // args.looks
        while training.step < until:
            training.train(seconds=0.2)
        shown = Student(model.network, model.network.sigma)
        shown.load_state_dict(training.averaged)
        look(shown.eval(), training.step)
    training.use_average()
    return student.eval()


@torch.no_grad()
def drawn(velocity: nn.Module, model: Diffusion, n: int, seed: int, steps: int, order: int = 0) -> Tensor:
    """n samples from the same noise, whoever makes them; order of the solver, 0 of a student, which jumps."""
    generator = torch.Generator().manual_seed(1_000 + seed)
    sigma = model.network.sigma
    x = gaussian(n, model.size, sigma, generator)
    if not order:
        return jump(velocity, x, jumps(steps, MIDDLE), generator, sigma)
    return integrate(velocity, x, even(steps), order)


def one_seed(
    seed: int, model: Diffusion, args: argparse.Namespace, record: Record, console: Console
) -> dict[str, Any]:
    """Distances of all rows of one seed."""
    train, test = split(digits(), HELD_OUT)
    real, held = model.scaled(train.pixels), model.scaled(test.pixels)
    torch.manual_seed(100 + seed)
    judge = Judge()
    learned(judge, real, train.labels, steps=args.judge, seed=100 + seed)

    def floor() -> dict[str, float]:
        made = {name: drawn(model.network, model, args.samples, seed, *how) for name, how in TEACHER.items()}
        return {"held out": distance(judge, held, real)} | {
            name: distance(judge, x, real) for name, x in made.items()
        }

    def of_arm(arm: str) -> dict[str, Any]:
        path: list[tuple[int, float]] = []

        def look(student: Student, step: int) -> None:
            x = drawn(student, model, args.samples, seed, 1)
            path.append((step, distance(judge, x, real)))
            console.print(f"seed {seed}: {arm} {step}: {path[-1][1]:.2f}", highlight=False)

        student = distilled(arm, model, real, args, seed, look)
        made = {k: drawn(student, model, args.samples, seed, k) for k in JUMPS}
        found = {f"{arm} {steps}": distance(judge, x, real) for steps, x in made.items()}
        return found | {f"{arm} path": path, f"{arm} skipped": int(student.skipped)}

    rows: dict[str, Any] = dict(record.part(f"{seed}, teacher", floor))
    console.print(f"seed {seed}: {rows}", highlight=False)
    for arm in args.arms:
        rows |= record.part(f"{seed}, {arm}", partial(of_arm, arm))
    return rows


def study(args: argparse.Namespace, record: Record) -> dict[str, Any]:
    """All seeds."""
    torch.set_num_threads(1)
    model, console = load(args.model), Console(stderr=True)
    if model.jumps:
        raise ValueError(f"{args.model} is a consistency model already; a teacher is wanted")
    seeds = range(args.seed, args.seed + args.seeds)
    result: dict[str, Any] = {"seeds": [one_seed(seed, model, args, record, console) for seed in seeds]}
    result["speed"] = record.part("speed", lambda: speed(model, args))
    if args.cost:
        result["cost"] = {
            arm: record.part(f"cost, {arm}", partial(in_fresh_process, arm, args)) for arm in COSTS
        }
    return result


def speed(model: Diffusion, args: argparse.Namespace, repeats: int = 3) -> dict[str, float]:
    """CPU ms per sample of the teacher and of a student by steps; medians."""
    student = Student(model.network, model.network.sigma).eval()
    ways: dict[str, tuple[nn.Module, int, int]] = {n: (model.network, *how) for n, how in TEACHER.items()}
    ways |= {f"student {k}": (student, k, 0) for k in JUMPS}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, (velocity, steps, order) in ways.items():
            start = time.process_time()
            drawn(velocity, model, 256, 0, steps, order)
            taken[name].append(1e3 * (time.process_time() - start) / 256)
    return {name: float(np.median(times)) for name, times in taken.items()}


# cost


class Encoder(nn.Module):
    """What stands in for the encoder of a latent model, for what it costs alone: 64 channels at full size."""

    def __init__(self, channels: int):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, 64, 3, padding=1), nn.SiLU()]
        for _ in range(3):
            layers += [nn.Conv2d(64, 64, 3, stride=2, padding=1), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Conv2d(64, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Something of an eighth of the size of x (b, c, h, w)."""
        return self.body(x)


def cost(arm: str, model: Diffusion, args: argparse.Namespace, repeats: int = 5) -> dict[str, float]:
    """CPU ms per step by phase, medians, and the peak of memory of this process, MB."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    student = Student(model.network, model.network.sigma)
    config = Config(trajectories=args.trajectories, points=args.points)
    student.step.fill_(config.warm_up)
    n, (c, h, w) = config.trajectories * (config.points - 1), model.size
    route, sigma = reference(config.points, config.shift, config.bends), model.network.sigma
    encoder = Encoder(c).eval()
    images = torch.rand(n, c, ENCODED * h, ENCODED * w) if arm == "scm, encoding" else torch.rand(n, c, h, w)
    optimizer = torch.optim.AdamW(student.parameters(), 1e-4)
    phases: dict[str, list[float]] = {name: [] for name in ("data", "teacher", "tangent", "rest", "step")}
    for _ in range(repeats):
        clock = [time.process_time()]
        with torch.no_grad():
            if arm == "tbcm":
                x = gaussian(config.trajectories, model.size, sigma, torch.Generator().manual_seed(0))
                clock.append(time.process_time())
                point = points_of(rollout(model.network, x, jittered(route, rng)))
            else:
                x = encoder(images) if arm == "scm, encoding" else images
                t = torch.rand(n) + 0.2
                clock.append(time.process_time())
                point = (x, t, model.network(x, t))
        clock.append(time.process_time())
        tangent(student, point, 1.0, config.derivative)
        clock.append(time.process_time())
        optimizer.zero_grad()
        consistency_loss(student, point, config)["consistency"].backward()
        optimizer.step()
        clock.append(time.process_time())
        data, teacher, first, whole = np.diff(clock)
        for name, value in zip(phases, (data, teacher, first, whole - first, data + teacher + whole)):
            phases[name].append(1e3 * value)  # the loss takes the tangent once more
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**{name: float(np.median(values)) for name, values in phases.items()}, "peak MB": peak}


def in_fresh_process(arm: str, args: argparse.Namespace) -> dict[str, float]:
    """The cost of an arm, measured where nothing else has taken memory."""
    command = [sys.executable, "-m", "sims.studies.tbcm", "--model", args.model, "--child", arm]
    command += ["--trajectories", str(args.trajectories), "--points", str(args.points)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=dict(os.environ))
    if done.returncode:
        raise RuntimeError(f"measuring {arm} failed with status {done.returncode}")
    return json.loads(done.stdout)


# the table


def as_good(found: dict[str, Any], arm: str, student: str) -> str:
    """Steps with which the teacher is as good as a student, on average over seeds, and what they cost."""
    mean = {name: np.mean([row[name] for row in found["seeds"]]) for name in (arm, *TEACHER)}
    said = []
    for order in STEPS:
        good = [name for name, how in TEACHER.items() if how[1] == order and mean[name] <= mean[arm]]
        ratio = found["speed"][good[0]] / found["speed"][student] if good else np.nan
        said.append(
            f"{good[0]}, {ratio:.1f} times as long" if good else f"no number of steps of {NAMES[order]}"
        )
    return f"as good as {arm}: {'; '.join(said)}"


def show(found: dict[str, Any], args: argparse.Namespace) -> None:
    """Print the tables."""
    console = Console(width=110)
    seeds = found["seeds"]
    names = ["held out", *TEACHER, *(f"{a} {k}" for a in args.arms for k in JUMPS)]
    table = Table("", "Frechet distance", "95 %", "by seed")
    for name in names:
        x = np.array([row[name] for row in seeds])
        ends = interval(x)
        said = "" if ends is None else f"[{ends[0]:.2f}, {ends[1]:.2f}]"
        table.add_row(name, f"{x.mean():.2f}", said, " ".join(f"{v:.2f}" for v in x))
    console.print(table)
    for arm in args.arms:
        last, best = (
            [f([d for _, d in row[f"{arm} path"]]) for row in seeds] for f in (lambda v: v[-1], min)
        )
        skipped = sum(row[f"{arm} skipped"] for row in seeds)
        console.print(
            f"{arm}, one step: {np.mean(last):.2f} at the end, {np.mean(best):.2f} at the best checkpoint; "
            f"{skipped} points with tangents that were not finite"
        )
    if "tbcm" in args.arms:
        for other in ("DDIM 8", "teacher 8", *(f"{arm} 1" for arm in args.arms if arm != "tbcm")):
            gap = np.array([row["tbcm 1"] - row[other] for row in seeds])
            console.print(f"tbcm 1 minus {other}: {signed(gap)}", highlight=False, markup=False)
        for k in JUMPS:
            console.print(as_good(found, f"tbcm {k}", f"student {k}"), highlight=False)
    console.print("CPU ms per sample: " + ", ".join(f"{k} {v:.3f}" for k, v in found["speed"].items()))
    for arm, row in found.get("cost", {}).items():
        console.print(f"{arm}: " + ", ".join(f"{k} {v:.1f}" for k, v in row.items()) + " (CPU ms, MB)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    args = parse(argv)

    def work() -> None:
        if args.child:
            torch.set_num_threads(1)
            print(json.dumps(cost(args.child, load(args.model), args)))
            return
        names = ("model", "steps", "rate", "average", "trajectories", "points", "samples", "judge", "looks")
        record = Record(args.json, **{name: getattr(args, name) for name in names})
        show(study(args, record), args)

    return run(PROGRAM, work)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, checked."""
    parser = Parser(PROGRAM, "How few steps a distilled diffusion model needs.")
    add = parser.add_argument
    add("--model", default="digits", metavar="NAME", help="the teacher, of digits; default: digits, shipped")
    add("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    add("--seeds", type=positive, default=3, metavar="N", help="trainings of each; default: 3")
    add("--seed", type=natural, default=0, help="the first of them")
    add("--steps", type=positive, default=600, metavar="N", help="of each training; default: 600")
    add("--rate", type=float, default=1e-3, help="of learning; default: 1e-3")
    add("--average", type=float, default=0.98, help="factor of the average of weights; default: 0.98")
    add("--trajectories", type=positive, default=8, metavar="N", help="of a step; default: 8")
    add("--points", type=positive, default=16, metavar="N", help="of a trajectory; default: 16")
    add("--samples", type=positive, default=1000, metavar="N", help="for each distance; default: 1000")
    add("--judge", type=positive, default=400, metavar="N", help="steps of the judge's training")
    add("--looks", type=positive, default=6, metavar="N", help="checkpoints that are shown; default: 6")
    add("--cost", action="store_true", help="also time and memory of a step, in fresh processes")
    add("--quick", action="store_true", help="one seed, a few steps, to see that it runs")
    add("--json", type=output, metavar="FILE")
    add("--child", choices=COSTS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.quick:
        args.seeds, args.steps, args.samples, args.judge, args.looks = 1, 4, 80, 10, 2
        args.trajectories, args.points = 2, 4
    if args.points < 2 or args.samples < 2 or not 0 < args.rate < 1 or not 0 <= args.average < 1:
        parser.error("--points and --samples must be at least 2, --rate and --average between 0 and 1")
    return args


if __name__ == "__main__":
    sys.exit(main())
