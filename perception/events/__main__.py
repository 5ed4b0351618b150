"""Look at a recording: `python -m perception.events info FILE`, `python -m perception.events show FILE`.

Exit status: 0 done, 1 failed or a damaged file, 2 bad input, 130 interrupted. A damaged file is described as
far as it can be read.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from perception.events import DamagedError, EventStream, FileInfo, chunks, describe, read, windows
from perception.events.files.access import recognise
from perception.events.pictures import coloured, film, sheet
from perception.events.stream import MAX_SIDE
from perception.events.summary import Summary
from tracking.program import Parser, failed, output, positive, run

PROGRAM = "python -m perception.events"
WINDOWS, LENGTH = 5, 30_000  # on a sheet; us of each
MAX_FRAMES = 600  # of a film


def info(args: argparse.Namespace) -> int:
    """Print what a recording is like."""
    about, found, damage = looked_at(args.file, args.size)
    said = document(args.file, about, found, damage, args.size)
    if args.json:
        print(json.dumps(said, indent=1))
    else:
        for name, value in said.items():
            for line in value if isinstance(value, list) else [value]:
                print(f"{name:12} {line}")
    return 1 if damage else 0


def show(args: argparse.Namespace) -> int:
    """Write a sheet and a film of a recording."""
    about, found, damage = looked_at(args.file, args.size)
    if not found.number:
        raise ValueError(f"{args.file} has no events to show")
    first, last = found.first, found.last
    size = (found.width, found.height)

    def part(start: int, length: int) -> EventStream:
        return read(args.file, start=start, stop=start + length, size=size, recover=bool(damage))

    starts = np.linspace(first, max(last - LENGTH, first), WINDOWS).astype(int).tolist()
    stem = args.out or Path(args.file).stem
    png = f"{stem}.png"
    title = f"{Path(args.file).name}: {found.number} events in {found.seconds:.3f} s, {about.format}"
    sheet(found, [part(start, LENGTH) for start in starts], png, title)
    print(png)
    movie = f"{stem}.{args.movie}"
    period = max(round(1e6 * args.speed / args.rate), 1)
    grow = max(1, 240 // max(size))

    def pictures() -> Iterator[np.ndarray]:
        for k, (window, _) in enumerate(windows(chunks(args.file, size=size, recover=bool(damage)), period)):
            if k == MAX_FRAMES:
                print(f"{PROGRAM}: the film has {k} pictures; a larger --speed shows more", file=sys.stderr)
                return
            yield np.kron(coloured(window), np.ones((grow, grow, 1), np.uint8))

    film(pictures(), movie, args.rate)
    print(movie)
    return 1 if damage else 0


def looked_at(path: str, size: tuple[int, int] | None) -> tuple[FileInfo, Summary, str | None]:
    """What a file is, what its events are like, and what is damaged."""
    try:
        about = describe(path)
        return about, _summary(chunks(path, size=size), size or about.size), None
    except DamagedError as error:
        found = _summary(chunks(path, size=size, recover=True), size)
        return FileInfo(recognise(path), size, None, None, None), found, str(error)


def _summary(parts, size):
    found = None
    for part in parts:
        found = found or Summary(part.width, part.height)
        found.add(part)
    return found or Summary(*(size or (1, 1)))


def document(path: str, about: FileInfo, found: Summary, damage: str | None, size: tuple | None) -> dict:
    """What is printed."""
    number, seconds = found.number, found.seconds
    mean = f"{number / seconds:.4g} events a second" if seconds > 0 else "-"
    peak = f", at most {found.rate.max()} events in {found.bin * 1e-3:g} ms" if number else ""
    active = int((found.count.sum(0) > 0).sum())
    told = (
        ""
        if about.size or size or damage
        else " (the file does not tell; the smallest that holds the events)"
    )
    return {
        "file": path,
        "format": about.format,
        "sensor": f"{found.width} x {found.height}{told}",
        "events": number,
        "time": f"{found.first} to {found.last} us, {seconds:.6f} s" if number else "-",
        "rate": mean + peak,
        "polarity": f"{found.count[1].sum() / number:.1%} brighter" if number else "-",
        "pixels": f"{active} of {found.width * found.height} have events",
        "anomalies": ([f"damaged: {damage}"] if damage else []) + found.anomalies() or ["none"],
    }


def a_size(text: str) -> tuple[int, int]:
    """(width, height) of a text as 346x260."""
    sides = text.lower().split("x")
    digits = len(sides) == 2 and all(s.isascii() and s.isdigit() and len(s) < 6 for s in sides)
    if not digits or not all(1 <= int(s) <= MAX_SIDE for s in sides):
        raise argparse.ArgumentTypeError(f"must be WIDTHxHEIGHT in pixels, as 346x260, got {text!r}")
    return int(sides[0]), int(sides[1])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = Parser(PROGRAM, "Look at a recording of an event camera.")
    kinds = parser.add_subparsers(dest="kind", required=True)
    for name, work in (("info", info), ("show", show)):
        kind = kinds.add_parser(name, help=(work.__doc__ or "").rstrip("."))
        kind.set_defaults(work=work)
        kind.add_argument("file", metavar="FILE")
        kind.add_argument(
            "--size", type=a_size, metavar="WxH", help="of the sensor, where the file does not tell"
        )
        if work is info:
            kind.add_argument("--json", action="store_true", help="as JSON")
        else:
            kind.add_argument("--out", type=output, metavar="NAME", help="of the pictures, without extension")
            kind.add_argument("--movie", choices=("gif", "mp4"), default="gif")
            kind.add_argument("--rate", type=positive, default=25, metavar="HZ", help="pictures a second")
            kind.add_argument("--speed", type=float, default=1.0, help="1: as it was, 0.1: ten times slower")
    args = parser.parse_args(argv)
    if args.kind == "show" and not 0 < args.speed < 1e6:
        return failed(PROGRAM, 2, f"--speed must be > 0, got {args.speed}")
    return run(PROGRAM, lambda: args.work(args))


if __name__ == "__main__":
    sys.exit(main())
