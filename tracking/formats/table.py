"""Comma-separated tables with a header and a time in each row, for `tracking.formats.csv`.

Source: RFC 4180 for the commas and quotes.
"""

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, NamedTuple

import numpy as np

from tracking.checks import require_positive
from tracking.formats.detections import Detections
from tracking.formats.files import (
    LARGEST_INTEGER,
    MAX_SCANS,
    MAX_WORD,
    Row,
    atomic_write,
    read_rows,
    refuse_repeats,
)
from tracking.formats.results import require_bounded


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of the columns of a file; `coordinates` None: all but the other three."""

    time: str = "time"
    coordinates: tuple[str, ...] | None = None
    score: str = "score"
    id: str = "id"


class Layout(NamedTuple):
    """Where the columns are in the rows of a file; score and id None: there is none."""

    columns: Columns
    names: tuple[str, ...]
    time: int
    coordinates: list[int]
    score: int | None
    id: int | None


def open_table(path, example: str) -> tuple[Row, Iterator[Row]]:
    """The header of a file, whose fields are names, each once, and the rows below it.

    Raises:
        ValueError: no header, which the message shows an `example` of, or names that cannot be columns.
    """
    rows = read_rows(path, ",")
    header = next(rows, None)
    if header is None:
        raise ValueError(f"{os.fspath(path)}:1: an empty file; accepted is a header like {example}")
    seen = set()
    for i in range(len(header.fields)):
        name = header.word(i, f"the name of column {i + 1}")
        if name in seen:
            raise header.error(f"two columns {name!r}", f"accepted is a header like {example}")
        seen.add(name)
    return header, rows


def find(header: Row, columns: Columns) -> Layout:
    """Where the columns are, or ValueError if one is missing; score and id may be."""
    fields = header.fields
    named = columns.coordinates
    if named is None:
        named = tuple(name for name in fields if name not in (columns.time, columns.score, columns.id))
    missing = [name for name in (columns.time, *named) if name not in fields]
    if missing or not named:
        wanted = f"a column {missing[0]!r}" if missing else "coordinates, for example x and y"
        raise header.error(f"columns {','.join(fields)}", f"accepted is a header with {wanted}")
    score, label = (fields.index(name) if name in fields else None for name in (columns.score, columns.id))
    coordinates = [fields.index(name) for name in named]
    return Layout(columns, tuple(named), fields.index(columns.time), coordinates, score, label)


def read_table(path, rows: Iterator[Row], layout: Layout, scan_period: float | None = None) -> Detections:
    """The detections in the rows below the header; arguments as of `csv.read_detections`."""
    columns = layout.columns
    used = [*layout.coordinates, *(i for i in (layout.score, layout.id) if i is not None)]
    line, time, filled = array("q"), array("d"), array("b")
    values, score, label = array("d"), array("d"), array("q")
    for row in rows:
        line.append(row.line)
        time.append(row.number(layout.time, columns.time))
        filled.append(any(row.fields[i] for i in used))
        if not filled[-1]:
            continue
        values.extend([row.number(i, name) for i, name in zip(layout.coordinates, layout.names)])
        if layout.score is not None:
            score.append(row.number(layout.score, columns.score))
        if layout.id is not None:
            named = row.fields[layout.id] != ""
            label.append(row.integer(layout.id, columns.id, -1, LARGEST_INTEGER) if named else -1)
    scans, scan = _grouped(path, np.array(line), np.array(time), scan_period)
    kept = np.array(filled, bool)
    scan, extra = scan[kept], {"time": np.array(time)[kept], "line": np.array(line, np.int64)[kept]}
    if layout.id is not None:
        extra["id"] = np.array(label, np.int64)
        if scan_period is None:
            refuse_repeats(path, extra["line"], scan, extra["id"])
    scores = None if layout.score is None else np.array(score)
    z = np.array(values).reshape(-1, len(layout.names))
    return Detections.from_rows(scans, scan, z, layout.names, scores, extra)


def written(column: np.ndarray) -> list[str]:
    """Finite numbers (N,) as text that reads back bit for bit."""
    require_bounded(column[:, None], np.finfo(float).max)
    return [repr(value) for value in column.tolist()]


def write_table(path, header: list[str], detections: Detections, columns: list[list[str]]) -> None:
    """Write cells, columns of N in the order of `detections`, each after its scan's time.

    Raises:
        ValueError: names in the header that are equal, or that could not be read back.
    """
    require_names(header)
    with atomic_write(path) as file:
        write_header(file, header)
        write_rows(file, header, detections, columns)


def write_header(file: IO[str], header: list[str]) -> None:
    """Write the names of the columns, or raise ValueError as `write_table`."""
    require_names(header)
    file.write(",".join(header) + "\n")


def write_rows(file: IO[str], header: list[str], detections: Detections, columns: list[list[str]]) -> None:
    """Write cells below a header; a scan without any is a row with its time alone."""
    cells = [",".join(row) for row in zip(*columns)]
    nothing = "," * (len(header) - 2)
    for k, time in enumerate(detections.time.tolist()):
        for cell in cells[detections.rows(k)] or [nothing]:
            file.write(f"{time!r},{cell}\n")


def require_names(header: list[str]) -> None:
    """Raise ValueError unless names are different and can be read back."""
    for i, name in enumerate(header):
        good = name.isprintable() and 0 < len(name) <= MAX_WORD and not set(name) & set(' ,"')
        if not good or name in header[:i]:
            raise ValueError(
                f"names of columns must be different, 1 to {MAX_WORD} printable characters without spaces, "
                f"commas and quotes; got {name!r} in {header}"
            )


def _grouped(path, line, time, period):
    """Times (T,) of the scans and the scan (N,) of each row, from the times (N,) of the rows."""
    if period is None or not len(time):
        return np.unique(time, return_inverse=True)
    require_positive(scan_period=period)
    start, end = time.min(), time.max()
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused
        bins = np.floor((time - start) / period + 0.5)
        scans = start + np.arange(int(min(bins.max(), MAX_SCANS)) + 1) * period
        distinct = (np.diff(scans) > 0).all() and np.isfinite(scans[-1])
    if len(scans) > MAX_SCANS or not distinct:
        where = f"{os.fspath(path)}:{line[time.argmax()]}"
        raise ValueError(
            f"{where}: times from {start:g} to {end:g} s with scan_period {period:g} s; "
            f"accepted are at most {MAX_SCANS} scans, distinct in time: take a longer scan_period"
        )
    return scans, bins.astype(np.int64)
