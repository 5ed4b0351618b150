"""A film of a recording: `python -m perception.reconstruct FILE --out film.gif`.

Windows of equal time go through a trained network one after the other, so that a recording may be longer than
memory. Exit status: 0 done, 1 failed, 2 bad input, 130 interrupted.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from perception.events import chunks, describe, windows
from perception.events.pictures import film
from perception.reconstruct.model import displayed, load
from tracking.program import Parser, output, positive, run

PROGRAM = "python -m perception.reconstruct"


def pictures(args: argparse.Namespace) -> Iterator[np.ndarray]:
    """(H, W, 3) pictures of a recording."""
    reconstructor = load(args.weights)
    size = args.size or describe(args.file).size
    length = args.window or reconstructor.period
    for k, (window, span) in enumerate(windows(chunks(args.file, size=size), length)):
        if k == args.most:
            print(f"{PROGRAM}: the film has the first {args.most} pictures, see --most", file=sys.stderr)
            return
        picture = displayed(reconstructor.step(window, span))
        grow = max(1, 240 // max(picture.shape))
        yield np.repeat(np.kron(picture, np.ones((grow, grow), np.uint8))[..., None], 3, -1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    from perception.events.__main__ import a_size

    parser = Parser(PROGRAM, "Turn a recording of an event camera into a film.")
    add = parser.add_argument
    add("file", metavar="FILE", help="of any format that perception.events reads")
    add("--out", type=output, required=True, metavar="FILM", help=".gif or .mp4")
    add("--weights", default="firenet", metavar="NAME", help="shipped weights or a file; default: firenet")
    add("--window", type=positive, metavar="US", help="microseconds of a picture; default: as trained")
    add("--size", type=a_size, metavar="WxH", help="of the sensor, where the file does not tell")
    add("--rate", type=positive, default=25, metavar="HZ", help="pictures a second of the film; default: 25")
    add("--most", type=positive, default=1000, metavar="N", help="pictures; default: 1000")
    args = parser.parse_args(argv)
    return run(PROGRAM, lambda: film(pictures(args), args.out, args.rate, grey=True))


if __name__ == "__main__":
    sys.exit(main())
