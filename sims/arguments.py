"""Arguments that the command lines share: anything wrong is one line on standard error and exit status 2."""

import argparse
import importlib.util
import os

from sims.parallel import Workers
from sims.scenarios import Scenario, scenario
from sims.trackers import TRACKERS


class Parser(argparse.ArgumentParser):
    """A parser without abbreviations and without a page of usage at every slip."""

    def __init__(self, program: str, description: str):
        super().__init__(prog=program, description=description, allow_abbrev=False)

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def a_scenario(text: str) -> Scenario:
    """A scenario by name."""
    try:
        return scenario(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def a_tracker(text: str) -> str:
    """The name of a tracker of the toolkit."""
    if text not in TRACKERS:
        raise argparse.ArgumentTypeError(f"unknown tracker {text!r}, choose of: {', '.join(TRACKERS)}")
    return text


def natural(text: str) -> int:
    """A whole number >= 0."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"must be a whole number >= 0, got {text!r}")
    return int(text)


def positive(text: str) -> int:
    """A whole number >= 1."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got {text!r}")
    return int(text)


def output(text: str) -> str:
    """A file that can be written, so that this is not found out after hours of computing."""
    folder = os.path.dirname(os.path.realpath(text))
    if os.path.lexists(text) and not os.path.isfile(text):
        raise argparse.ArgumentTypeError(f"{text} is not an ordinary file")
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} cannot be written, {folder} is not a folder to write to")
    return text


def add_workers(parser: argparse.ArgumentParser) -> None:
    """The options that say where to compute."""
    add = parser.add_argument
    add("--jobs", type=positive, default=1, metavar="J", help="processes; results do not depend on them")
    add(
        "--cluster",
        metavar="ADDRESS",
        help="compute on the dask.distributed cluster whose scheduler is there, as in tcp://10.0.0.1:8786; "
        "results do not depend on it. A cluster executes the code it is sent, by whoever reaches it: run "
        "one on a trusted network only. Start workers with --nthreads 1",
    )


def check_workers(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Stop where a package is missing or both are asked for."""
    if args.cluster is not None and args.jobs > 1:
        parser.error("--cluster goes without --jobs: the cluster says how many processes it has")
    if args.cluster is not None and importlib.util.find_spec("distributed") is None:
        parser.error("--cluster needs the cluster extra: pip install -c constraints.txt -e '.[cluster]'")


def workers_of(args: argparse.Namespace) -> Workers:
    """Where to compute.

    Raises:
        ValueError: there is no cluster at the address, or none that can be used.
    """
    if args.cluster is None:
        return Workers(args.jobs)
    from sims.cluster import connect

    return Workers(cluster=connect(args.cluster))
