"""From pixels to tracks: `python -m sims.scene --help`.

A camera is carried through a ray-cast room in which things stand and move. Frames and events go into FUSE,
which says depth, and into a finder of things (`perception.objects`); what it finds goes into a PMBM filter,
whose tracks are in the world: they are nearer to the truth than what is found, as the camera sees a thing
from many sides. With --detect depth things are instead what stands out of the depth image. The same film is
gone through with both, with frames alone, with events alone, and with the true depth, of which things stand
out: it says what the rest of the chain costs. Scores: mean relative error of depth, share of the visible
objects that are detected within 1 m, false detections a frame, and 3-D GOSPA (c = 2 m, p = 1) of the tracks
against the objects that can be seen; tracks outside the image, and those of objects that are hidden now,
count neither for nor against.
Exit status as of `sims.compare`.
"""

import argparse
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path as FilePath
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from scipy.optimize import linear_sum_assignment

from perception.background import surroundings
from perception.depth.estimator import Estimator, load
from perception.depth.metrics import errors
from perception.depth_sensor import DepthNoise, InView
from perception.detect import DetectConfig, Detections, detect
from perception.events import EventStream
from perception.objects.finder import Finder
from perception.objects.finder import load as load_finder
from perception.objects.place import placed
from perception.pinhole import Pinhole
from sims import scene_film
from sims.camera import joined
from sims.rooms import BETWEEN, CONDITIONS, WINDOW, event_camera, frame, lit
from sims.table import signed
from sims.world import Path, View, World
from tracking import PMBM, ConstantVelocity, PositionSensor, Tracks, UniformBirth
from tracking.metrics import gospa
from tracking.program import Parser, natural, output, positive, run, write_json

PROGRAM = "python -m sims.scene"
KINDS = ("both", "frames", "events", "truth")
ROOMS = 3_000_000  # added to the seed: rooms that no network was trained or tested on
SIDE, FOCAL = 64, 64.0  # pixels, as the networks that ship were trained with
SEEN = 25  # pixels of an object that can be seen
NEAR = 1.0  # m, within which a detection is of an object
C = 2.0  # m, of GOSPA
FIRST = 4  # frames before which tracks are not scored
FARTHEST = 10.0
EXACT = 0.01  # relative error that the true depth is said to have
CAMERA = Pinhole.of(SIDE, SIDE, FOCAL)
AROUND = 33  # pixels: things are narrower
TRAVEL = 0.8  # m to each side, that whoever holds the camera walks
P_DETECT, CLUTTER = 0.8, 1e-2  # of things that stand out of a depth image; clutter per m^3
THINGS = DetectConfig(pixel=1.0, correlation=1.0, farthest=FARTHEST)
# Of what a finder finds; chosen on films of other seeds. An image says little of a thing's distance.
RANGE, THINGS_P_DETECT, THINGS_CLUTTER = 1.0, 0.7, 2e-2
CONFIG = DetectConfig(
    margin=0.3,
    slope=4.0,
    min_points=15,
    max_extent=0.9,
    behind=0.67,
    noise=0.5,
    correlation=0.99,
    farthest=FARTHEST,
)


class Moment(NamedTuple):
    """What there is at the end of a window.

    time:   microseconds.
    frame:  (H, W) as the camera has it, 0 to 1.
    events: of the window.
    view:   the truth.
    objects: (k,) which objects can be seen.
    places: (k, 3) their middles, m, in the world.
    hidden: (l, 3) those of all others.
    """

    time: int
    frame: np.ndarray
    events: EventStream
    view: View
    objects: np.ndarray
    places: np.ndarray
    hidden: np.ndarray


class Outcome(NamedTuple):
    """What one way of knowing depth makes of a moment."""

    depth: np.ndarray
    found: Detections
    tracks: Tracks


@dataclass
class Chain:
    """Depth, detections and tracks, from one moment to the next.

    kind:      of KINDS.
    estimator: of depth; None for "truth".
    finder:    of things; None: they are what stands out of the depth image.
    tracker:   of what is detected.
    """

    kind: str
    estimator: Estimator | None
    finder: Finder | None = None
    tracker: PMBM = field(init=False)

    def __post_init__(self):
        room = ((-5.0, -2.5, -2.5), (5.0, 2.5, 8.0))
        birth = UniformBirth(0.5, rest_std=0.5, lower=room[0], upper=room[1])
        sensor = PositionSensor(dims=3, std=0.1, p_detect=P_DETECT, clutter_intensity=CLUTTER)
        self.tracker = PMBM(ConstantVelocity(dims=3, q=0.05), sensor, birth)

    def step(self, moment: Moment) -> Outcome:
        """One moment on."""
        depth, std = self._depth(moment)
        pose = (moment.view.pose.rotation, moment.view.pose.place)
        if self.finder is None:
            around = surroundings(depth, AROUND)
            found = detect(depth, CAMERA, std=std, pose=pose, background=around, config=CONFIG)
            relative, config, p_detect, clutter = float(np.median(std / depth)), CONFIG, P_DETECT, CLUTTER
        else:
            found = placed(self._things(moment, self.finder), CAMERA, pose, THINGS)
            relative, config, p_detect, clutter = RANGE, THINGS, THINGS_P_DETECT, THINGS_CLUTTER
        sensor = PositionSensor(
            dims=3,
            cov=DepthNoise(CAMERA, lambda z: relative * z, pose, 0.3, config),
            p_detect=InView(CAMERA, p_detect, pose, config),
            clutter_intensity=clutter,
        )
        return Outcome(depth, found, self.tracker.step(found.z, moment.time * 1e-6, sensor=sensor))

    def _things(self, moment, finder):
        frame, events = (
            None if self.kind == other else given
            for other, given in (("events", moment.frame), ("frames", moment.events))
        )
        return finder.step(frame, events, CAMERA, (moment.time - WINDOW, moment.time))

    def _depth(self, moment):
        if self.estimator is None:
            return moment.view.depth, EXACT * moment.view.depth
        if self.kind == "events" and not len(moment.events):
            nothing = np.full(moment.frame.shape, self.estimator.farthest)
            return nothing, nothing
        said = self.estimator.step(
            None if self.kind == "events" else moment.frame,
            None if self.kind == "frames" else moment.events,
            (moment.time - WINDOW, moment.time),
        )
        return said.depth.astype(float), said.std.astype(float)


def moments(
    seed: int, steps: int, condition: str, objects: int = 6, moving: int = 3, travel: float = TRAVEL
) -> Iterator[Moment]:
    """A film of a random room, window by window; `travel` as of `Path.random`."""
    seed += ROOMS
    rng = np.random.default_rng(seed)
    world = World.random(seed, objects=objects, moving=moving, speed=0.4)
    path = Path.random(seed, speed=1.5, travel=travel)
    camera = event_camera(SIDE, SIDE, condition, rng)
    view = world.view(CAMERA, path.pose(0.0), 0.0)
    camera.step(lit(view.image, condition), 0)
    for k in range(steps):
        times = (k * WINDOW + WINDOW * np.arange(1, BETWEEN + 1) // BETWEEN).tolist()
        views = [world.view(CAMERA, path.pose(t), t) for t in times]
        parts = [camera.step(lit(v.image, condition), t) for v, t in zip(views, times)]
        events, _ = joined(parts, SIDE, SIDE)
        pictures, last = [v.image for v in views], views[-1]
        pixels = np.bincount(last.object[last.object >= 0], minlength=objects)
        seen = np.flatnonzero(pixels >= SEEN)
        shown = frame(pictures, condition, rng)
        places, unseen = world.at(times[-1]), np.setdiff1d(np.arange(objects), seen)
        yield Moment(times[-1], shown, events, last, seen, places[seen], places[unseen])


def scored(moment: Moment, places: np.ndarray) -> np.ndarray:
    """Those of places (n, 3) that are in the image and, of all objects, not nearest to one that is hidden."""
    inside = InView(CAMERA, 1.0, (moment.view.pose.rotation, moment.view.pose.place), CONFIG)(places) > 0
    places = places[inside]
    seen, hidden = (
        np.linalg.norm(places[:, None] - of[None], axis=-1).min(1, initial=np.inf)
        for of in (moment.places, moment.hidden)
    )
    return places[~((hidden < seen) & (hidden < C))]


def scores_of(moment: Moment, outcome: Outcome) -> dict[str, float]:
    """Of one moment."""
    depth = errors(np.clip(outcome.depth, 0.1, FARTHEST), moment.view.depth, FARTHEST).abs_rel
    apart = np.linalg.norm(moment.places[:, None] - outcome.found.z[None], axis=-1)
    one, other = linear_sum_assignment(np.minimum(apart, NEAR))
    hits = int((apart[one, other] < NEAR).sum())
    g = gospa(moment.places, scored(moment, outcome.tracks.mean[:, :3]), c=C, p=1)
    return {
        "depth": float(depth),
        "recall": hits / len(moment.places) if len(moment.places) else 1.0,
        "false detections": float(len(outcome.found.z) - hits),
        "gospa": float(g.total),
        "localisation": float(g.localisation),
        "missed": float(g.missed),
        "false": float(g.false),
        "objects": float(len(moment.places)),
    }


def play(
    seed: int, args: argparse.Namespace, estimator: Estimator | None, finder: Finder | None
) -> tuple[dict[str, dict[str, float]], list]:
    """Mean scores of each kind over one film, and what it showed."""
    chains = {
        kind: Chain(kind, *((None, None) if kind == "truth" else (estimator, finder))) for kind in args.kinds
    }
    rows: dict[str, list[dict[str, float]]] = {kind: [] for kind in chains}
    shown = []
    for k, moment in enumerate(moments(seed, args.steps, args.condition, travel=args.travel)):
        outcomes = {kind: chain.step(moment) for kind, chain in chains.items()}
        if k >= FIRST:
            for kind, outcome in outcomes.items():
                rows[kind].append(scores_of(moment, outcome))
        shown.append((moment, outcomes))
    return {
        kind: {name: float(np.mean([row[name] for row in of_kind])) for name in of_kind[0]}
        for kind, of_kind in rows.items()
    }, shown


def simulate(args: argparse.Namespace) -> None:
    """All films, the table, and what was asked to be written."""
    torch.set_num_threads(1)
    console = Console(stderr=True)
    estimator = finder = None
    if set(args.kinds) != {"truth"}:
        estimator = load(args.weights)
        finder = load_finder(args.things) if args.detect == "things" else None
    for name, read in ((args.weights, estimator), (args.things, finder)):
        if read is not None and read.window != WINDOW:
            raise ValueError(f"{name} reads windows of {read.window} us, these are of {WINDOW} us")
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in args.kinds}
    first: list = []
    with Progress(console=console, disable=not console.is_terminal) as progress:
        for seed in progress.track(range(args.seed, args.seed + args.runs), description=args.condition):
            scores, shown = play(seed, args, estimator, finder)
            first = first or shown
            for kind, row in scores.items():
                found[kind].append(row)
    show(found, args)
    if args.film:
        scene_film.write_film(first, args.film, FOCAL, 1e6 / WINDOW)
    if args.sheet:
        scene_film.write_sheet(first, args.sheet, FOCAL)
    if args.rrd:
        scene_film.write_rrd(first, args.rrd)
    if args.json:
        names = ("condition", "detect", "travel", "runs", "steps", "seed")
        about = {name: getattr(args, name) for name in names}
        write_json(args.json, {**about, "date": date.today().isoformat(), "kinds": found})


def show(found: dict[str, list[dict[str, float]]], args: argparse.Namespace) -> None:
    """Print the table."""
    table = Table(
        "depth from",
        "error of depth",
        "detected",
        "false detections",
        "GOSPA",
        "local.",
        "missed",
        "false",
        f"GOSPA minus {args.kinds[0]}, 95 %",
        title=f"{args.condition}, {args.runs} films of {args.steps} windows",
    )
    totals = {kind: np.array([row["gospa"] for row in rows]) for kind, rows in found.items()}
    for kind, rows in found.items():
        mean = {name: np.mean([row[name] for row in rows]) for name in rows[0]}
        gap = totals[kind] - totals[args.kinds[0]]
        table.add_row(
            kind,
            f"{mean['depth']:.3f}",
            f"{mean['recall']:.2f}",
            f"{mean['false detections']:.2f}",
            f"{mean['gospa']:.2f}",
            f"{mean['localisation']:.2f}",
            f"{mean['missed']:.2f}",
            f"{mean['false']:.2f}",
            "" if kind == args.kinds[0] else signed(gap),
        )
    console = Console(width=130)
    console.print(table)
    objects = np.mean([row["objects"] for row in next(iter(found.values()))])
    console.print(f"{objects:.1f} objects can be seen on average; GOSPA, m: c = {C:g} m, p = 1.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = Parser(PROGRAM, "From frames and events to tracks in the world.")
    add = parser.add_argument
    add("--condition", choices=CONDITIONS, default="night", help="default: night")
    add("--kinds", nargs="+", choices=KINDS, default=KINDS, metavar="KIND", help=", ".join(KINDS))
    add("--detect", choices=("things", "depth"), default="things", help="what is detected; default: things")
    add("--weights", default="fuse-tiny", metavar="NAME", help="of FUSE; default: fuse-tiny")
    add("--things", default="objects-tiny", metavar="NAME", help="of the finder; default: objects-tiny")
    add("--travel", type=float, default=TRAVEL, metavar="M", help=f"of the camera; default: {TRAVEL:g}")
    add("--runs", type=positive, default=5, metavar="N", help="films; default: 5")
    add("--steps", type=positive, default=40, metavar="N", help="windows of 50 ms of each; default: 40")
    add("--seed", type=natural, default=0, metavar="S", help="of the first film")
    add("--film", type=output, metavar="FILE.mp4", help="the first film, to look at")
    add("--sheet", type=output, metavar="FILE.png", help="a few moments of it")
    add("--rrd", type=output, metavar="FILE.rrd", help="the first film for rerun's viewer")
    add("--json", type=output, metavar="FILE")
    args = parser.parse_args(argv)
    if args.steps <= FIRST:
        parser.error(f"--steps must be more than {FIRST}")
    if not 0 <= args.travel <= 1:
        parser.error(f"--travel must be metres from 0 to 1, got {args.travel:g}")
    if args.film and FilePath(args.film).suffix.lower() not in (".mp4", ".gif"):
        parser.error(f"--film is a .mp4 or a .gif, got {args.film}")
    for option, package in (("film", "av"), ("sheet", "matplotlib"), ("rrd", "rerun")):
        if getattr(args, option) and importlib.util.find_spec(package) is None:
            parser.error(f"--{option} needs the viz extra: pip install -c constraints.txt '.[viz]'")
    return run(PROGRAM, lambda: simulate(args))


if __name__ == "__main__":
    sys.exit(main())
