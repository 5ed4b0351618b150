"""`read`, `chunks`, `write` and `describe`: event files of every format behind four functions."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from perception.events.files import (
    aedat2,
    aedat3,
    aedat4,
    bag,
    dat,
    hdf5,
    nmnist,
    npz,
    rpg,
    text,
)
from perception.events.files.blocks import Block, Reader, damage, up_to_damage, window
from perception.events.files.evt import Coding
from perception.events.files.evt2 import EVT2
from perception.events.files.evt3 import EVT3
from perception.events.files.evt21 import EVT21
from perception.events.files.output import joined
from perception.events.stream import MAX_TIME, EventStream, microseconds
from tracking.formats.files import atomic_write

# A format is a module or a Coding with SUFFIXES, recognises(first HEAD bytes), reader(path, ...) -> Reader,
# and write(file, streams, size, ...).
FORMATS: dict[str, Any] = {
    "evt3": EVT3,  # first of those with .raw, which is what new files get
    "evt2": EVT2,
    "evt21": EVT21,
    "dat": dat,
    "aedat2": aedat2,
    "aedat3": aedat3,
    "aedat4": aedat4,
    "hdf5": hdf5,
    "bag": bag,
    "npz": npz,
    "csv": text,
    "txt": rpg,
    "nmnist": nmnist,
}
HEAD = 4096  # bytes in which a format is recognised


@dataclass(frozen=True)
class FileInfo:
    """What a file is, as far as it says so without all of it being read.

    Args:
        format: a name in FORMATS.
        size:   (width, height) of the sensor, pixels; None: the file does not tell.
        first, last: times of its first and last event, us; None: it has none, or telling takes all of it.
        count:  number of events; None: telling takes all of it.
    """

    format: str
    size: tuple[int, int] | None
    first: int | None
    last: int | None
    count: int | None


def read(
    path,
    start: int | None = None,
    stop: int | None = None,
    size: tuple[int, int] | None = None,
    format: str | None = None,
    late: int | None = None,
    recover: bool = False,
    **options: Any,
) -> EventStream:
    """Events of a file with start <= t < stop.

    What lies outside the window is not decoded where the format allows that, see `FileInfo` and the modules.

    Args:
        path:    the file; its format is recognised by its content, then by its extension.
        start, stop: microseconds, as the file counts them; None: from its first, to its last event.
        size:    (width, height) of the sensor, pixels. None: what the file tells, or if it does not, the
                 smallest that holds the events read.
        format:  a name in FORMATS, to overrule what is recognised.
        late:    microseconds by which events may come after later ones; those are sorted in. None: 0, or
                 what the format's cameras are known for.
        recover: take what comes before the first damage, instead of raising for it.
        options: of the format, see the `reader` in its module: shift (RAW), camera (AEDAT 2), unit, columns
                 (text, npz, HDF5), group (HDF5), topic (bags).
    Raises:
        ValueError:  `path:byte N: what came; what is accepted`; see `DamagedError`.
        OSError:     the file is missing or cannot be read.
        ImportError: the format needs the events extra.
    """
    start, stop, late = _times(start, stop, late)
    known = _known(size, source := _open(path, format, options))
    blocks = list(up_to_damage(window(source, path, start, stop, known, late), recover))
    return _stream(blocks, known or _smallest(blocks))


def chunks(
    path,
    number: int = 1_000_000,
    start: int | None = None,
    stop: int | None = None,
    size: tuple[int, int] | None = None,
    format: str | None = None,
    late: int | None = None,
    recover: bool = False,
    **options: Any,
) -> Iterator[EventStream]:
    """Events of a file as streams of `number` events, the last of what is left; for files beyond memory.

    Joined they are what `read` gives. Where nobody tells the sensor's size, the file is gone through once
    more beforehand to find it.

    Args: number: events of a stream; the others as for `read`.
    Raises: as `read`.
    """
    if number < 1:
        raise ValueError(f"number must be at least 1, got {number}")
    start, stop, late = _times(start, stop, late)
    known = _known(size, source := _open(path, format, options))
    if known is None:
        known = _smallest(up_to_damage(window(source, path, start, stop, None, late), recover))
    return _rechunked(up_to_damage(window(source, path, start, stop, known, late), recover), number, known)


def write(
    streams: EventStream | Iterable[EventStream], path, format: str | None = None, **options: Any
) -> None:
    """Write a stream, or streams that follow each other in time, as a whole or not at all.

    Args:
        streams: of one sensor; several are written one by one, so they may be `chunks` of another file.
        path:    the file; its extension decides on the format: .raw EVT3, .dat, .aedat4, .h5, .bag, .npz,
                 .csv, .txt, .bin; .aedat needs `format`.
        format:  a name in FORMATS.
        options: of the format, see the `write` in its module: layout (HDF5), topic (bags).
    Raises:
        ValueError: the format cannot hold the events, or streams do not belong together.
    """
    name = format or _by_suffix(path)
    parts, size = joined(streams)
    with atomic_write(path, binary=True) as file:
        _format(name).write(file, parts, size, **options)


def describe(path, format: str | None = None, **options: Any) -> FileInfo:
    """What a file is, without reading all of it.

    Args: as for `read`.
    Raises: as `read`, for damage in what is looked at.
    """
    name = format or recognise(path)
    source = _format(name).reader(path, **options)
    first = next(iter(window(source, path, None, None, source.size, None)), None)
    last = max(_tail(source), default=None) if first is not None and source.seeks else None
    return FileInfo(name, source.size, None if first is None else int(first.t[0]), last, source.count)


def recognise(path) -> str:
    """The name in FORMATS of a file's format, by its content and then by its extension.

    Raises:
        ValueError: it is none of them.
    """
    if os.path.isdir(path):  # only bags of ROS 2 are
        return "bag"
    with open(path, "rb") as file:
        head = file.read(HEAD)
    for name, module in FORMATS.items():
        if module.recognises(head):
            return name
    name = _by_suffix(path)
    if isinstance(FORMATS[name], Coding):  # any bytes are words of one
        raise damage(
            path,
            "byte 0",
            "no header that names EVT2, EVT2.1 or EVT3",
            "RAW files with one, or format= one of evt2, evt21, evt3",
        )
    return name


def _by_suffix(path):
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    for name, module in FORMATS.items():
        if suffix in module.SUFFIXES:
            return name
    raise ValueError(
        f"{os.fspath(path)}: neither content nor extension tell a format; "
        f"accepted: format= one of {', '.join(FORMATS)}"
    )


def _format(name):
    if name not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {name!r}")
    return FORMATS[name]


def _times(start, stop, late):
    """A window and a lateness as whole microseconds, where they are given."""
    names = {"start": start, "stop": stop, "late": late}
    start, stop, late = (None if t is None else microseconds(name, t) for name, t in names.items())
    if late is not None and late < 0:
        raise ValueError(f"late must be at least 0 us, got {late}")
    return start, stop, late


def _known(size, source):
    """The size of the sensor: the caller's, or what the file tells, if anything."""
    if size is None:
        return source.size
    if not isinstance(size, (tuple, list, np.ndarray)) or len(size) != 2:
        raise ValueError(f"size must be (width, height), got {size!r}")
    nothing = EventStream.empty(*size)
    return nothing.width, nothing.height


def _open(path, format, options) -> Reader:
    return _format(format or recognise(path)).reader(path, **options)


def _tail(source):
    """Latest times of the blocks at the end of a file."""
    return (int(block.t.max()) for block in source.blocks(MAX_TIME) if len(block))


def _smallest(blocks: Iterable[Block]) -> tuple[int, int]:
    """(width, height) of the smallest sensor that has all the pixels; 1 x 1 for no events."""
    wide = high = 1
    for block in blocks:
        wide = max(wide, int(block.x.max(initial=0)) + 1)
        high = max(high, int(block.y.max(initial=0)) + 1)
    return wide, high


def _stream(blocks, size):
    if not blocks:
        return EventStream.empty(*size)
    x, y, t, p = (np.concatenate([getattr(block, name) for block in blocks]) for name in "xytp")
    return EventStream(x, y, t, p, *size)


def _rechunked(blocks, number, size):
    held: list[Block] = []
    count = 0
    for block in blocks:
        while count + len(block) >= number:
            yield _stream([*held, block[: number - count]], size)
            block, held, count = block[number - count :], [], 0
        if len(block):
            held.append(block)
            count += len(block)
    if held:
        yield _stream(held, size)
