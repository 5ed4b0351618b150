"""What a command line needs to offer replays: its options, their checks, and the writing of the files."""

import argparse
import importlib.util

from sims.report import rrd
from sims.report.page import page
from sims.report.replay import Replay
from tracking.formats.files import atomic_write
from tracking.program import output


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of replays."""
    group = parser.add_argument_group("replays", "of run 0, or of the first recording")
    group.add_argument("--report", type=output, metavar="FILE.html", help="one page that replays it")
    group.add_argument("--rrd", type=output, metavar="FILE.rrd", help="for rerun's viewer, extra viz")


def wanted(args: argparse.Namespace) -> bool:
    """Whether a replay is asked for."""
    return bool(args.report or args.rrd)


def check_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Stop where a package is missing, before anything is run."""
    if args.rrd and importlib.util.find_spec("rerun") is None:
        parser.error("--rrd needs the viz extra: pip install -c constraints.txt -e '.[viz]'")


def write(replay: Replay, args: argparse.Namespace) -> None:
    """Write the files asked for, each as a whole or not at all.

    Raises:
        ValueError: a page would be too large.
        OSError:    a file cannot be written.
    """
    if args.report:
        content = page(replay)
        with atomic_write(args.report) as file:
            file.write(content)
    if args.rrd:
        rrd.write(args.rrd, replay)
