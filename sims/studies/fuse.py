"""Do events help an image network that has learned depth: `python -m sims.studies.fuse --help`.

Sun et al. (FUSE, IROS 2025) align a copy of Depth Anything V2 with events and fuse both without depth labels;
on MVSEC and DENSE they report mean relative errors 14 and 25 % below those of the best others. Here: a tiny
backbone that learned depth of clean frames, ray-cast rooms of 64 x 64 pixels, thousands of frames instead of
hundreds of thousands, one CPU core. Everything is trained on the same rooms with the same steps, batches and
rates; test rooms are others. Errors are mean relative errors of depth after scale and shift of inverse depth
were fitted to each frame, as for every relative network; intervals are 95 %, over test rooms, all seeds
averaged. Rows:

    constant                  no network: one depth for a frame
    frames                    the image network as it is (it has seen clean frames alone)
    frames, trained for it    a fusion without events, trained as the others on spoilt frames
    events                    the event copy alone, after stage 1
    events, from nothing      the same from random weights, all of which learn, in as many steps
    concatenation             both kinds of tokens side by side and a linear layer
    no frequencies            FUSE's attention without its pyramids
    FUSE                      as the paper has it
    FUSE, from nothing        the same with the event network from nothing

and columns: the conditions of `sims.rooms`, still: clean frames without an event, as of a camera that stands.
What --json has already is not computed again. Exit status as of `sims.compare`.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from perception.depth.align import agreement
from perception.depth.backbone import prepared, prepared_events
from perception.depth.fuse import FUSE
from perception.depth.pairs import Pairs
from perception.training import Run
from sims.rooms import CONDITIONS
from sims.studies.record import Record
from sims.table import signed
from sims.train.fuse import N_ROOMS, N_TEST, TEST
from sims.train.fuse_data import made
from sims.train.fuse_score import disparities, relative_errors
from sims.train.fuse_stages import STEPS, aligned_events, fused, steps_of, taught
from sims.train.plan import Plan
from tracking.program import Parser, output, positive, run

PROGRAM = "python -m sims.studies.fuse"
SPOILT = ("night", "blur", "overexposed")
COPY, NOTHING = "events", "events, from nothing"
FUSED = {  # how, whether with events, which network reads them
    "frames, trained for it": ("fredfuse", False, COPY),
    "concatenation": ("concatenation", True, COPY),
    "no frequencies": ("guided", True, COPY),
    "FUSE": ("fredfuse", True, COPY),
    "FUSE, from nothing": ("fredfuse", True, NOTHING),
}
OURS = ("FUSE", "FUSE, from nothing")  # what the others are compared with
ROWS = ("constant", "frames", COPY, NOTHING, *FUSED)
COLUMNS = (*CONDITIONS, "still")

ROOMS_APART = 10_000  # of a seed and the next
Found = dict[str, dict[str, list[float]]]  # row -> condition -> error of each room


def listed(error: np.ndarray) -> list[float]:
    """Errors of rooms, each of which has one frame, as exact as anybody reads them."""
    return error.astype(float).round(5).tolist()


def one_seed(
    seed: int, args: argparse.Namespace, tests: dict[str, Pairs], console: Console
) -> dict[str, Any]:
    """Errors of all rows after trainings of one seed, and how far the event copy came."""
    first = ROOMS_APART * seed
    pairs = made(range(first, first + args.rooms), args.side, console)

    def advance(training: Run, parts: dict[str, float]) -> None:
        said = " ".join(f"{name} {value:.4f}" for name, value in parts.items())
        console.print(f"seed {seed}: {training.step} of {training.config.steps}: {said}", highlight=False)

    about = {name: getattr(args, name) for name in ("rooms", "side", "scale")}
    plan = Plan(steps=steps_of(args.scale), seed=seed, about=about, advance=advance)

    def of(name: str) -> Plan:
        """The plan, with files of its own where stages are saved."""
        if args.resume is None:
            return plan
        return replace(plan, resume=args.resume / f"seed {seed}, {name}")

    backbone = taught(of("frames"), pairs)
    backbone.requires_grad_(False)
    untrained = closeness(FUSE(backbone, backbone.without_head()), tests["clean"])
    readers = {
        name: aligned_events(of(name), backbone, pairs, from_nothing=name == NOTHING)
        for name in (COPY, NOTHING)
    }
    plain = {name: FUSE(backbone, events) for name, events in readers.items()}
    errors: Found = {
        "constant": {
            name: listed(relative_errors(np.zeros(test.clean.shape), test)) for name, test in tests.items()
        },
        "frames": scored(plain[COPY], tests, "frames"),
    }
    errors |= {name: scored(network, tests, "events") for name, network in plain.items()}
    for name, (fusion, with_events, reader) in FUSED.items():
        network = fused(of(name), backbone, readers[reader], pairs, fusion, with_events)
        shown = tests if with_events else {k: without_events(test) for k, test in tests.items()}
        errors[name] = scored(network, shown, "both")
        console.print(f"seed {seed}: {name}: {summary(errors[name])}", highlight=False)
    return {"errors": errors, "agreement": [untrained, closeness(plain[COPY], tests["clean"])]}


def scored(network: FUSE, tests: dict[str, Pairs], kind: str) -> dict[str, list[float]]:
    """Errors of each room, by condition, of what a network says of both, or of one of them."""
    return {
        name: listed(relative_errors(disparities(network, test, kind), test)) for name, test in tests.items()
    }


def without_events(pairs: Pairs) -> Pairs:
    """The same frames, and no event."""
    return Pairs(pairs.clean, pairs.seen, 0 * pairs.voxels, pairs.depth)


@torch.no_grad()
def closeness(network: FUSE, pairs: Pairs) -> float:
    """Mean cosine of tokens of events and of clean frames."""
    frames, grids = (torch.from_numpy(a.astype(np.float32)) for a in (pairs.clean, pairs.voxels))
    one = network.of_events(prepared_events(grids, network.patch))
    return float(agreement(one.tokens, network.of_frames(prepared(frames, network.patch)).tokens))


def summary(row: dict[str, list[float]]) -> str:
    """Mean errors by condition."""
    return ", ".join(f"{name} {np.mean(values):.3f}" for name, values in row.items())


def study(args: argparse.Namespace, record: Record) -> dict[str, Any]:
    """All seeds."""
    torch.set_num_threads(1)
    console = Console(stderr=True)
    if args.resume is not None:
        args.resume.mkdir(parents=True, exist_ok=True)
    rooms = range(TEST, TEST + args.tests)
    tests = {name: made(rooms, args.side, console, (name,)) for name in CONDITIONS}
    tests["still"] = without_events(tests["clean"])
    seeds = range(args.seeds)
    found = [record.part(f"seed {s}", partial(one_seed, s, args, tests, console)) for s in seeds]
    mean: Found = {
        row: {name: np.mean([f["errors"][row][name] for f in found], 0).tolist() for name in COLUMNS}
        for row in ROWS
    }
    for row in ROWS:
        mean[row]["spoilt"] = np.mean([mean[row][name] for name in SPOILT], 0).tolist()
    return {
        "errors": mean,
        "seeds": [
            {row: {name: float(np.mean(f["errors"][row][name])) for name in COLUMNS} for row in ROWS}
            for f in found
        ],
        "agreement": [f["agreement"] for f in found],
    }


def show(found: dict[str, Any]) -> None:
    """Print the tables."""
    console, errors = Console(width=150), found["errors"]
    columns = (*COLUMNS, "spoilt")
    table = Table("error", *columns)
    for row in ROWS:
        table.add_row(row, *(f"{np.mean(errors[row][name]):.3f}" for name in columns))
    console.print(table)
    console.print("spoilt: night, blur and overexposed together")
    for one in OURS:
        gaps = Table(f"{one}, minus", "clean", "night", "spoilt", "spoilt, by seed")
        for row in ROWS:
            if row != one:
                apart = [np.subtract(errors[one][c], errors[row][c]) for c in ("clean", "night", "spoilt")]
                each = [np.mean([f[one][c] - f[row][c] for c in SPOILT]) for f in found["seeds"]]
                by_seed = " ".join(f"{gap:+.3f}" for gap in each)
                gaps.add_row(row, *(signed(gap, 3) for gap in apart), by_seed)
        console.print(gaps)
    before, after = np.mean(found["agreement"], 0)
    console.print(
        f"Cosine of tokens of events and of clean frames: {before:.3f} before stage 1, {after:.3f} after."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    args = parse(argv)

    def work() -> None:
        names = ("rooms", "tests", "side", "scale")
        record = Record(args.json, **{name: getattr(args, name) for name in names})
        show(study(args, record))

    return run(PROGRAM, work)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, checked."""
    parser = Parser(PROGRAM, "Do events help an image network that has learned depth.")
    add = parser.add_argument
    add("--seeds", type=positive, default=3, metavar="N", help="trainings of everything; default: 3")
    add("--rooms", type=positive, default=N_ROOMS, metavar="N", help=f"of each training; default: {N_ROOMS}")
    add("--tests", type=positive, default=N_TEST, metavar="N", help=f"other rooms; default: {N_TEST}")
    add("--side", type=positive, default=64, help="of the images, pixels; default: 64")
    add("--scale", type=float, default=1.0, help=f"factor of the steps of all stages, {STEPS}; default: 1")
    add("--quick", action="store_true", help="a few rooms and steps, to see that it runs")
    add("--resume", type=Path, metavar="FOLDER", help="where stages are saved and go on from")
    add("--json", type=output, metavar="FILE")
    args = parser.parse_args(argv)
    if args.quick:
        args.seeds, args.rooms, args.tests, args.scale = 1, 4, 2, 0.002
    if args.rooms > ROOMS_APART:
        parser.error(f"--rooms must be at most {ROOMS_APART}")
    if args.tests < 2 or not 0 < args.scale <= 100:
        parser.error("--tests must be at least 2, for intervals, and --scale above 0 and at most 100")
    return args


if __name__ == "__main__":
    sys.exit(main())
