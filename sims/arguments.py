"""Arguments that the command lines of simulations share."""

import argparse
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from sims.parallel import Workers
from sims.scenarios import Scenario, scenario
from sims.trackers import TRACKERS, WEIGHTS
from tracking.program import positive


def a_scenario(text: str) -> Scenario:
    """A scenario by name."""
    try:
        return scenario(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def a_tracker(text: str) -> str:
    """The name of a tracker of the toolkit, or of a file with weights of MT3."""
    if text in TRACKERS or (text.endswith(WEIGHTS) and Path(text).is_file()):
        return text
    names = ", ".join(TRACKERS)
    raise argparse.ArgumentTypeError(
        f"unknown tracker {text!r}, choose of: {names}; or give a file of weights of MT3, FILE{WEIGHTS}"
    )


def add_trackers(parser: argparse.ArgumentParser, default: Sequence[str]) -> None:
    """The option that says which trackers are compared."""
    parser.add_argument(
        "--trackers",
        type=a_tracker,
        nargs="+",
        default=default,
        metavar="NAME",
        help=f"of {' '.join(TRACKERS)}, or a file of weights of MT3; the others are compared with the first; "
        f"default: {' '.join(default)}",
    )


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
