"""Text files from strangers: read line by line within bounds, written whole or not at all.

Every reader of this package goes through `read_rows`. Whatever is wrong with a file is one ValueError,
`path:line: what came; what is accepted`; a file that is missing or may not be read stays an OSError.
Nothing is evaluated, and no number in a file decides how much memory is taken beyond the bounds below.
"""

import csv
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

import numpy as np

MAX_LINE = 16_384  # bytes of one line
MAX_LINES = 2_000_000  # lines of one file, blank ones included
MAX_CELLS = 40_000_000  # fields of one file, 0.3 GB as numbers
MAX_SCANS = 1_000_000  # scans of one sequence, so also frame numbers
MAX_WORD = 32  # characters of a name, such as a class
LARGEST_INTEGER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a file, cut into text fields, with the means to say what is wrong with it."""

    path: str
    line: int
    fields: list[str]

    def error(self, came: str, accepted: str) -> ValueError:
        """The error to raise: `path:line: what came; what is accepted`."""
        return ValueError(f"{self.path}:{self.line}: {_short(came)}; {_short(accepted)}")

    def integer(self, column: int, name: str, low: int, high: int) -> int:
        """A whole number in [low, high]; "7.0" is one too, since some tools write numbers so."""
        text = self.fields[column]
        try:
            value = int(text) if _plain(text) else None
        except ValueError:
            value = _whole(text)
        if value is None or not low <= value <= high:
            raise self.error(
                f"{name} is {_shown(text)}", f"accepted are whole numbers from {low} to {high}"
            ) from None
        return value

    def number(self, column: int, name: str, low: float = -np.inf, high: float = np.inf) -> float:
        """A finite number in [low, high]."""
        text = self.fields[column]
        try:
            value = float(text) if _plain(text) else np.nan
        except ValueError:
            value = np.nan
        if not (low <= value <= high and abs(value) < np.inf):
            between = f" from {low:g} to {high:g}" if high < np.inf else ""
            raise self.error(f"{name} is {_shown(text)}", f"accepted are finite numbers{between}")
        return value

    def numbers(self, start: int, names: tuple[str, ...], size: float) -> list[float]:
        """Numbers of at most `size` in magnitude, in the columns from `start` on."""
        return [self.number(start + i, name, -size, size) for i, name in enumerate(names)]

    def word(self, column: int, name: str) -> str:
        """A name of at most MAX_WORD characters."""
        text = self.fields[column]
        if not 0 < len(text) <= MAX_WORD or not text.isprintable():
            raise self.error(
                f"{name} is {_shown(text)}", f"accepted are names of 1 to {MAX_WORD} printable characters"
            )
        return text


def require_place(path: str | os.PathLike[str]) -> None:
    """Whether a file can be written there, so that this is not found out after hours of computing.

    Raises:
        OSError: it cannot.
    """
    folder = os.path.dirname(os.path.realpath(path))
    if os.path.lexists(path) and not os.path.isfile(path):
        raise OSError(f"{path} is not an ordinary file")
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise OSError(f"{path} cannot be written, {folder} is not a folder to write to")


def read_rows(path, separator: str | None, widths: tuple[int, ...] | None = ()) -> Iterator[Row]:
    """The rows of a UTF-8 text file, one at a time; blank lines are passed over.

    Args:
        path:      the file.
        separator: "," for comma-separated fields, which may be quoted; None: runs of white space.
        widths:    accepted numbers of fields in the first row, empty: any; the others must have as many.
                   None: any number in each row.
    Raises:
        ValueError: not text, a line longer than MAX_LINE bytes, more than MAX_LINES lines or MAX_CELLS
                    fields, or another number of fields in a row.
        OSError:    the file is missing or cannot be read.
    """
    path = os.fspath(path)
    with open(path, "rb") as file:
        width, line, cells = None, 0, 0
        while raw := file.readline(MAX_LINE + 1):
            line += 1
            row = Row(path, line, [])
            _check_size(row, raw)
            text = _decoded(row, raw)
            if not text.strip():
                continue
            row = Row(path, line, _split(row, text, separator))
            accepted = widths if width is None or widths is None else (width,)
            if accepted and len(row.fields) not in accepted:
                raise row.error(
                    f"{len(row.fields)} columns", f"accepted are {' or '.join(map(str, accepted))}"
                )
            width = len(row.fields)
            cells += width
            if cells > MAX_CELLS:
                raise row.error("the file goes on", f"accepted are {MAX_CELLS} fields; split the file")
            yield row


def refuse_repeats(path, line: np.ndarray, scan: np.ndarray, label: np.ndarray) -> None:
    """Raise ValueError if a label >= 0 comes twice in a scan; (N,) arrays of the rows."""
    named = np.flatnonzero(label >= 0)
    order = named[np.lexsort((named, label[named], scan[named]))]
    again = (np.diff(scan[order]) == 0) & (np.diff(label[order]) == 0)
    if again.any():
        row = order[1:][again].min()
        raise ValueError(
            f"{os.fspath(path)}:{line[row]}: id {label[row]} comes again at the same time; "
            "accepted is one row for an id at a time"
        )


@contextmanager
def atomic_write(path, binary: bool = False) -> Iterator[IO]:
    """Open a file for writing that appears under its name complete, or not at all.

    The content goes to a new file in the same folder, which replaces the old one when the block ends without
    an exception, and is removed otherwise. Text is UTF-8 with "\\n" line ends. Permissions of a file that is
    replaced are kept; a symbolic link stays a link, its target is replaced.

    Raises:
        ValueError: something other than an ordinary file has that name.
    """
    target = os.path.realpath(path)
    replaces = os.path.lexists(target)
    if replaces and not os.path.isfile(target):
        raise ValueError(f"{os.fspath(path)} is not an ordinary file; accepted is the name of a file")
    part = os.path.join(os.path.dirname(target), f".{secrets.token_hex(8)}.part")
    mode, encoding, newline = ("xb", None, None) if binary else ("x", "utf-8", "\n")
    try:
        with open(part, mode, encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replaces:
            shutil.copymode(target, part)
        os.replace(part, target)
        _sync_folder(os.path.dirname(target))
    finally:
        with suppress(FileNotFoundError):  # the usual case: it has its final name
            os.unlink(part)


def _sync_folder(folder):
    """Make the new name durable, where a folder can be opened for that."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _check_size(row, raw):
    if len(raw) > MAX_LINE:
        raise row.error(f"more than {MAX_LINE} bytes without a line end", "accepted are text files")
    if row.line > MAX_LINES:
        raise row.error("the file goes on", f"accepted are {MAX_LINES} lines; split the file")


def _decoded(row, raw):
    try:
        text = raw.decode("utf-8-sig" if row.line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        raise row.error(f"byte 0x{byte:02x} is not UTF-8", "accepted are text files in UTF-8") from None
    if "\0" in text:
        raise row.error("a zero byte, as in a binary file", "accepted are text files in UTF-8")
    return text


def _split(row, text, separator):
    if separator is None:
        return text.split()
    try:
        (fields,) = csv.reader([text.rstrip("\r\n")], delimiter=separator, skipinitialspace=True, strict=True)
    except (csv.Error, ValueError):  # ValueError: a carriage return inside makes several rows of it
        raise row.error(
            f"{_shown(text)} cannot be cut into columns", f"accepted are columns separated by {separator!r}"
        ) from None
    return [field.strip() for field in fields]


def _plain(text):
    """Whether a text may be a number; Python also reads 1_000 and digits of other scripts."""
    return text.isascii() and "_" not in text


def _whole(text):
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() else None


def _shown(text):
    return repr(_short(text, 40))


def _short(text, length=300):
    return text if len(text) <= length else text[:length] + "..."
