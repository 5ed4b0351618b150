"""NumPy .npz: arrays x, y, t, p, or one structured array with these fields, as N-ImageNet's event_data.

Read here: numpy.load takes whole arrays, of whatever size their headers claim. Here all columns are read
side by side, block by block, and never unpickled. numpy.savez writes them.
"""

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np

from perception.events.files.blocks import ANY, BLOCK, FIRST, Block, damage, event_place
from perception.events.files.columns import blocks_of, inferred_unit, known_unit, named
from perception.events.files.output import require_within

SUFFIXES = (".npz",)
ODD = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    KeyError,
    ValueError,
    OSError,
    struct.error,
    TypeError,
    SyntaxError,
    tokenize.TokenError,  # of a header that is no expression
)


class Reader:
    """Reader of one .npz file."""

    bounds, late, seeks = ANY, 0, False

    def __init__(self, path, unit: str | None = None):
        self.path, self.unit = path, known_unit(unit)
        with ExitStack() as stack:
            archive, _, self.count = self._open(stack)
            self.size = self._size(archive)

    def blocks(self, start: int = FIRST) -> Iterator[Block]:
        """Blocks of at most BLOCK events, from the first on."""
        with ExitStack() as stack:
            _, members, count = self._open(stack)
            unit = self.unit
            for begin in range(0, count, BLOCK):
                try:
                    number = min(BLOCK, count - begin)
                    parts = {name: _take(member, dtype, number) for name, (member, dtype) in members.items()}
                except ODD as error:
                    raise damage(
                        self.path, f"event {begin}", f"arrays cannot be read ({error})", "whole arrays"
                    ) from None
                columns = _columns(parts)
                unit = unit or inferred_unit(columns["t"])
                yield from blocks_of(self.path, columns, unit, event_place(begin))

    def _open(self, stack):
        """(archive, {array's name: (open member, dtype)}, number of events)."""
        with open(self.path, "rb"):  # a missing file is no damage
            pass
        try:
            archive = stack.enter_context(zipfile.ZipFile(self.path))
            found = {}
            for name in archive.namelist():
                stem = name.removesuffix(".npy")
                if stem == name or (stem != "event_data" and named(stem) is None):
                    continue
                member = stack.enter_context(archive.open(name))
                shape, dtype = header(member)
                claimed, held = (
                    math.prod(shape) * dtype.itemsize,
                    archive.getinfo(name).file_size - member.tell(),
                )
                if len(shape) != 1 or claimed != held or dtype.hasobject:
                    raise ValueError(f"{name} has shape {shape} of {dtype} in {held} bytes")
                found[stem] = (member, dtype, shape[0])
            names = sorted(found)
            if "event_data" in found:
                found = {"event_data": found["event_data"]}
            columns = _columns({name: np.empty(0, dtype) for name, (_, dtype, _) in found.items()})
            if set(columns) != set("xytp") or len({number for *_, number in found.values()}) != 1:
                raise ValueError(f"arrays are {names}")
            if not all(column.dtype.kind in "iufb" and column.ndim == 1 for column in columns.values()):
                raise ValueError("columns are no numbers")
        except ODD as error:
            raise damage(
                self.path,
                "byte 0",
                f"no events in arrays ({error})",
                "x, y, t, p of one length, or event_data with these fields",
            ) from None
        count = next(number for *_, number in found.values())
        return archive, {name: (member, dtype) for name, (member, dtype, _) in found.items()}, count

    def _size(self, archive):
        """The array `size`, (width, height), that `write` adds."""
        if "size.npy" not in archive.namelist():
            return None
        try:
            with archive.open("size.npy") as member:
                shape, dtype = header(member)
                side = np.frombuffer(member.read(16), "<i8")
            if shape != (2,) or dtype != np.dtype("<i8") or not ((1 <= side) & (side <= ANY[0])).all():
                raise ValueError(f"{shape} of {dtype}")
        except ODD as error:
            raise damage(
                self.path, "byte 0", f"the array size is no size ({error})", "width, height"
            ) from None
        return int(side[0]), int(side[1])


def header(member):
    """Shape and type that a .npy claims, read without taking memory for it or unpickling."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(member)
    if any(side < 0 for side in shape):
        raise ValueError(f"shape {shape}")
    return shape, dtype


def _take(member, dtype, number):
    content = member.read(number * dtype.itemsize)
    if len(content) < number * dtype.itemsize:
        raise ValueError(f"{len(content)} bytes instead of {number * dtype.itemsize}")
    return np.frombuffer(content, dtype)


def _columns(parts):
    """The four columns of arrays, or of the fields of one structured array, by whatever name they have."""
    if set(parts) == {"event_data"}:
        table = parts["event_data"]
        parts = {name: table[name] for name in table.dtype.names or ()}
    found = {}
    for name, column in parts.items():
        if (meaning := named(name)) and meaning[0] not in found:
            found[meaning[0]] = column
    return found


def recognises(head: bytes) -> bool:
    """Whether the content begins as a ZIP archive, as .npz is one."""
    return head.startswith(b"PK\x03\x04")


def reader(path, unit: str | None = None) -> Reader:
    """Open a file; unit: of its times, None: seconds if they have fractions, else microseconds."""
    return Reader(path, unit)


def write(file, streams, size) -> None:
    """Write streams, which are joined in memory: an array's length stands before it."""
    parts = list(streams)
    for stream in parts:
        require_within(stream, "npz", ANY, 10**17, -(1 << 61))  # beyond, readers take it for nanoseconds
    x, y, t, p = (np.concatenate([getattr(part, name) for part in parts]) for name in "xytp")
    np.savez_compressed(file, x=x, y=y, t=t, p=p, size=np.array(size, "<i8"))
