"""Track a recording: `python -m tracking track IN --config tracker.toml --out OUT`.

IN is a ROS 2 bag, MCAP, CSV, KITTI or MOTChallenge; so is OUT. The summary goes to standard output, progress
to standard error. Exit status: 0 done, 1 failed on the way, 2 bad input, 130 interrupted.
"""

import argparse
import os
import sys
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from tracking.description import read_description
from tracking.formats.bags import STORAGES
from tracking.formats.input import Input
from tracking.formats.sink import open_sink
from tracking.formats.source import open_source
from tracking.notice import notice_of_compilation
from tracking.program import Parser, run
from tracking.replay import Followed, follow

PROGRAM = "python -m tracking"
OFTEN = 5.0  # s between two lines of progress where there is no terminal
IN = (
    "folder or .db3 of a ROS 2 bag with Detection3DArray or Detection2DArray; .mcap with these or with "
    "foxglove.SceneUpdate; .csv with a header time,x,y; .txt of KITTI detections or of MOTChallenge"
)
OUT = (
    "new folder for a ROS 2 bag; .mcap for a scene that Foxglove draws; .csv; .txt for results of KITTI or "
    "MOTChallenge, if IN is of the same"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    args = parse(argv)
    return run(PROGRAM, lambda: track(args))


def track(args: argparse.Namespace) -> None:
    """Track a recording, write what is found and print a summary."""
    description = read_description(args.config)
    source = open_source(args.input, description.dim_z, _with_options(description.input, args))
    tally = Tally()
    with (
        open_sink(args.out, source, description.state_names(source.names), args.storage) as sink,
        notice_of_compilation(),
        counted() as count,
    ):
        steps = follow(description.tracker(), source.scans, description.clutter_ratio)
        for step in last_of_each_time(tally.each(steps)):
            names = description.position_names(step.scan.names)
            sink.write(step.tracks, replace(step.scan, names=names))
            count(len(tally.cpu), len(step.tracks))
    print(f"{args.input} ({source.format}): {tally}")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments; anything wrong is one line on standard error and exit status 2."""
    parser = Parser(PROGRAM, "Multitarget tracking of recordings.")
    programs = parser.add_subparsers(dest="program", required=True, metavar="PROGRAM")
    one = programs.add_parser("track", help="track a recording", prog=f"{PROGRAM} track")
    add = one.add_argument
    add("input", metavar="IN", help=IN)
    add("--config", required=True, metavar="FILE", help="tracker.toml, as of docs/robotics")
    add("--out", required=True, metavar="OUT", help=OUT)
    add("--topic", metavar="NAME", help="of a bag or .mcap; default: the only one that can be read")
    add("--class", dest="object_class", metavar="NAME", help="only detections of this class; default: all")
    add("--frame-rate", type=float, metavar="HZ", help="of KITTI (default: 10) and MOTChallenge (25)")
    add("--storage", choices=STORAGES, default="sqlite3", help="of a bag that is written (default: sqlite3)")
    args = parser.parse_args(argv)
    for name in (args.input, args.config):
        if not os.path.exists(name):
            one.error(f"{name}: no such file or folder")
    folder = os.path.dirname(os.path.realpath(args.out))
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        one.error(f"{args.out} cannot be written, {folder} is not a folder to write to")
    if os.path.exists(args.out) and os.path.samefile(args.input, args.out):
        one.error(f"{args.out} is the input; accepted is another name")
    if os.path.exists(args.out) and os.path.samefile(args.config, args.out):
        one.error(f"{args.out} is the description of the tracker; accepted is another name")
    if os.path.isdir(args.input) and os.path.samefile(folder, args.input):
        one.error(f"{args.out} lies in the bag that is read; accepted is a name outside of it")
    return args


def _with_options(about: Input, args: argparse.Namespace) -> Input:
    """What the command line says of the input counts before what the file says."""
    given = {"topic": args.topic, "cls": args.object_class, "frame_rate": args.frame_rate}
    return replace(about, **{name: value for name, value in given.items() if value is not None})


def last_of_each_time(steps: Iterable[Followed]) -> Iterator[Followed]:
    """Of scans at one time the last one, after which all of them are known."""
    held = None
    for step in steps:
        if held is not None and step.scan.time > held.scan.time:
            yield held
        held = step
    if held is not None:
        yield held


@contextmanager
def counted() -> Iterator:
    """Progress on standard error; gives the function that says how far it is."""
    err = Console(stderr=True)
    columns = TextColumn("{task.completed} scans, {task.fields[tracks]} tracks"), TimeElapsedColumn()
    # No refreshing thread: its time would count as that of the tracker.
    with Progress(
        *columns, console=err, auto_refresh=False, transient=True, disable=not err.is_terminal
    ) as bar:
        task = bar.add_task("", total=None, tracks=0)
        said = time.monotonic()

        def count(scans: int, tracks: int):
            nonlocal said
            now = time.monotonic()
            if err.is_terminal and now - said > 0.1:
                bar.update(task, completed=scans, tracks=tracks, refresh=True)
                said = now
            elif now - said > OFTEN:
                print(f"{PROGRAM}: {scans} scans", file=sys.stderr)
                said = now

        yield count


class Tally:
    """What is counted on the way, in memory that does not grow but by 8 bytes a scan."""

    def __init__(self):
        self.cpu, self.labels, self.detections = array("d"), set[int](), 0
        self.first = self.last = None

    def each(self, steps: Iterable[Followed]) -> Iterator[Followed]:
        """The steps, counted."""
        for step in steps:
            self.cpu.append(step.cpu)
            self.labels.update(step.tracks.label.tolist())
            self.detections += len(step.scan)
            self.first = step.scan.time if self.first is None else self.first
            self.last = step.scan.time
            yield step

    def __str__(self) -> str:
        if self.first is None:
            return "no scans"
        median, slow = 1e3 * np.quantile(self.cpu, (0.5, 0.95))
        return (
            f"{len(self.cpu)} scans in {self.last - self.first:.3f} s with {self.detections} detections, "
            f"{len(self.labels)} tracks; {median:.2f} ms a scan (median), {slow:.2f} ms (95 %)"
        )


if __name__ == "__main__":
    sys.exit(main())
