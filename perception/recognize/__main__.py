"""Labels of recordings: `python -m perception.recognize FILE ...`.

One line for each file: its name, the label and its probability, separated by tabs. Exit status: 0 done,
1 failed, 2 bad input.
"""

import json
import sys
from collections.abc import Sequence

from perception.recognize.classifier import load, stream_of
from tracking.program import Parser, positive, run

PROGRAM = "python -m perception.recognize"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = Parser(PROGRAM, "Say what recordings of an event camera show.")
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help="of any format that perception.events reads")
    add("--weights", default="nmnist", metavar="NAME", help="shipped weights or a file; default: nmnist")
    add("--top", type=positive, default=1, metavar="K", help="labels that are shown; default: 1")
    add("--json", action="store_true", help="one JSON object a line instead, with all probabilities")
    args = parser.parse_args(argv)

    def work() -> None:
        classifier = load(args.weights)
        for name in args.files:
            stream = stream_of(name, classifier)
            try:
                found = classifier.probabilities([stream])[0]
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            said = sorted(zip(classifier.labels, found.tolist()), key=lambda pair: -pair[1])
            if args.json:
                print(json.dumps({"file": name, "label": said[0][0], "probabilities": dict(said)}))
            else:
                print(name, *(f"{label}\t{p:.3f}" for label, p in said[: args.top]), sep="\t", flush=True)

    return run(PROGRAM, work)


if __name__ == "__main__":
    sys.exit(main())
