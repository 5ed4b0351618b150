"""What every command line shares: how it reads arguments, how it ends, how it writes results."""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tracking.formats.files import atomic_write, require_place

DIGITS = 18  # of a number: it has 64 bits, also when others are added to it


class Parser(argparse.ArgumentParser):
    """A parser without abbreviations and without a page of usage at every slip."""

    def __init__(self, prog: str, description: str | None = None):
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message):
        """Say what is wrong in one line, and end with status 2."""
        self.exit(2, f"{self.prog}: {message}; see --help\n")


def run(program: str, work: Callable[[], Any]) -> int:
    """Do the work of a program; its exit status: 0 done, 1 failed, 2 bad input, 130 interrupted.

    What work() returns is the status, unless it is None. Every error of input is one line on standard error.
    """
    try:
        status = work()
        sys.stdout.flush()
        return status or 0
    except KeyboardInterrupt:
        return failed(program, 130, "interrupted")
    except BrokenPipeError:  # whoever read the output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ValueError as error:
        return failed(program, 2, str(error))
    except OSError as error:
        return failed(program, 1, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except MemoryError:
        return failed(program, 1, "there is not enough memory for this")
    except (RuntimeError, ImportError) as error:
        return failed(program, 1, str(error))


def failed(program: str, status: int, message: str) -> int:
    """Say why on standard error; the status."""
    print(f"{program}: {message}", file=sys.stderr)
    return status


def write_json(path: str | Path, document: dict[str, Any]) -> None:
    """Write a document of finite numbers, at once or not at all."""
    with atomic_write(path) as file:
        json.dump(document, file, indent=1, allow_nan=False)
        file.write("\n")


def natural(text: str) -> int:
    """A whole number >= 0 of at most 18 digits."""
    return _whole(text, 0)


def positive(text: str) -> int:
    """A whole number >= 1 of at most 18 digits."""
    return _whole(text, 1)


def not_negative(text: str) -> float:
    """A finite number >= 0."""
    number = float(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"must be at least 0 and finite, got {text}")
    return number


def _whole(text, least):
    digits = text.isascii() and text.isdigit()
    if digits and len(text) > DIGITS:
        raise argparse.ArgumentTypeError(f"must have at most {DIGITS} digits, got {len(text)} of them")
    if not digits or int(text) < least:
        raise argparse.ArgumentTypeError(f"must be a whole number >= {least}, got {text!r}")
    return int(text)


def output(text: str) -> str:
    """A file that can be written, so that this is not found out after hours of computing."""
    try:
        require_place(text)
    except OSError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
