"""HDF5: MVSEC, DSEC, event_cnn_minimal, v2e, Metavision, and `events/{x,y,t,p}` in general.

Through h5py, with hdf5plugin for the compressions that DSEC uses. tonic reads MVSEC and DSEC whole; here a
window of time is found by bisection, in DSEC's ms_to_idx first, and only that is read. Metavision's files
(CD/events) are read where the plugin for their ECF compression is installed, which no package index has.

Times are microseconds if whole numbers and seconds if not, unless `unit=` or an attribute `unit` of their
dataset, a text of fixed length, says otherwise; DSEC's t_offset is added.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from perception.events.files.blocks import ANY, BLOCK, FIRST, Block, DamagedError, damage, event_place
from perception.events.files.columns import UNITS, blocks_of, known_unit, microseconds
from perception.events.files.output import require_within

SUFFIXES = (".h5", ".hdf5")
MAGIC = b"\x89HDF\r\n\x1a\n"
GENERAL = {"x": "x", "y": "y", "t": "t", "p": "p"}
CNN = {"x": "xs", "y": "ys", "t": "ts", "p": "ps"}  # names of event_cnn_minimal
MVSEC_SIZE, DSEC_SIZE = (346, 260), (640, 480)
MAX_CHUNK = 1 << 28  # bytes of an HDF5 chunk, which is read whole
ODD = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError, SystemError)


@dataclass(frozen=True)
class Layout:
    """Where a file has its events: get(column, slice) reads them; index: DSEC's ms_to_idx, in file time."""

    get: Callable[[str, slice], np.ndarray]
    count: int
    unit: str
    offset: int
    size: tuple[int, int] | None
    index: Any = None


class Reader:
    """Reader of one HDF5 file."""

    bounds, late, seeks = ANY, 0, True

    def __init__(self, path, unit: str | None = None, group: str | None = None):
        self.path, self.unit, self.group = path, known_unit(unit), group
        with self._layout() as layout:
            self.count, self.size = layout.count, layout.size

    def blocks(self, start: int = FIRST) -> Iterator[Block]:
        """Blocks of at most BLOCK events."""
        with self._layout() as layout:
            first = self._before(layout, start) if start > FIRST // 2 else 0
            for begin in range(first, layout.count, BLOCK):
                part = slice(begin, min(begin + BLOCK, layout.count))
                with self._sound(f"event {begin}"):
                    columns = {name: layout.get(name, part) for name in "xytp"}
                place = event_place(begin)
                for block in blocks_of(self.path, columns, layout.unit, place):
                    t = block.t + layout.offset if layout.offset else block.t
                    yield Block(block.x, block.y, t, block.p, place)

    def _before(self, layout, start):
        """Index of the last event with t < start, or 0, by bisection."""
        low, high = 0, layout.count
        begin = start - layout.offset
        with self._sound("ms_to_idx"):
            if layout.index is not None and 0 <= begin // 1000 < len(layout.index) - 1:
                guess = [int(layout.index[begin // 1000 + i]) for i in (0, 1)]
                if 0 < guess[0] <= guess[1] < high:
                    low, high = guess
        with self._sound("t"):
            low = low if low == 0 or self._time(layout, low - 1) < begin else 0
            high = high if high == layout.count or self._time(layout, high) >= begin else layout.count
            while low < high:
                middle = (low + high) // 2
                if self._time(layout, middle) < begin:
                    low = middle + 1
                else:
                    high = middle
        return max(low - 1, 0)

    def _time(self, layout, i):
        """As blocks have it: bisection by unrounded times would pass over those that are rounded up."""
        with np.errstate(invalid="ignore"):  # damage, which is told where it is decoded
            return int(microseconds(layout.get("t", slice(i, i + 1)), layout.unit)[0])

    @contextmanager
    def _layout(self):
        h5py = _h5py()
        with self._sound("the file"):
            file = h5py.File(self.path, "r")
        with file:
            with self._sound("the file"):
                layout = self._find(h5py, file)
            yield layout

    def _find(self, h5py, file):
        group = self.group or next(
            (name for name in ("davis/left/events", "events", "CD/events") if name in file), ""
        )
        if self.group and f"{group}/events" in file:  # MVSEC's "davis/left" or "davis/right"
            group = f"{group}/events"
        node = file.get(group)
        if isinstance(node, h5py.Dataset):
            return self._of_table(node, group)
        for names in (GENERAL, CNN):
            if isinstance(node, h5py.Group) and all(name in node for name in names.values()):
                return self._of_columns(file, node, names)
        raise damage(
            self.path,
            "byte 0",
            f"no events under {group or 'the usual names'!r}; the file has {sorted(file)[:10]}",
            "group= of x, y, t, p or xs, ys, ts, ps, or a table (n, 4)",
        )

    def _of_columns(self, file, group, names):
        columns = {name: group[names[name]] for name in "xytp"}
        counts = {len(self._usable(column, 1)) for column in columns.values()}
        if len(counts) > 1:
            raise damage(self.path, "byte 0", f"columns of lengths {sorted(counts)}", "columns of one length")
        dsec = "t_offset" in file or "ms_to_idx" in file
        offset = int(file["t_offset"][()]) if "t_offset" in file else 0
        if abs(offset) > 2**60:
            raise damage(self.path, "byte 0", f"t_offset {offset}", "at most 2^60 us")
        size = _size(group.attrs.get("size")) or (DSEC_SIZE if dsec else None)
        resolution = _size(file.attrs.get("sensor_resolution"))  # height before width
        size = size or (resolution[::-1] if resolution else None)
        index = self._usable(file["ms_to_idx"], 1) if "ms_to_idx" in file else None
        return Layout(
            lambda name, part: columns[name][part],
            counts.pop(),
            self._unit(columns["t"]),
            offset,
            size,
            index,
        )

    def _of_table(self, table, group):
        if table.dtype.names:
            self._usable(table, 1)
            return Layout(lambda name, part: table.fields(name)[part], len(table), self._unit(None), 0, None)
        self._usable(table, 2)
        if table.shape[1] != 4:
            raise damage(self.path, "byte 0", f"a table of shape {table.shape}", "(n, 4)")
        # v2e has whole numbers t, x, y, p; MVSEC numbers x, y, t, p, t in seconds
        order = "txyp" if table.dtype.kind in "iu" else "xytp"
        size = MVSEC_SIZE if group.startswith("davis/") else None
        return Layout(
            lambda name, part: table[part, order.index(name)], len(table), self._unit(table), 0, size
        )

    def _usable(self, dataset, dimensions):
        kinds = (
            [dataset.dtype.fields[n][0].kind for n in "xytp"] if dataset.dtype.names else [dataset.dtype.kind]
        )
        if dataset.ndim != dimensions or not set(kinds) <= set("iufb"):
            raise damage(
                self.path,
                "byte 0",
                f"{dataset.name} of shape {dataset.shape} and type {dataset.dtype}",
                f"numbers in {dimensions} dimensions",
            )
        if (
            dataset.chunks
            and np.prod([float(n) for n in dataset.chunks]) * dataset.dtype.itemsize > MAX_CHUNK
        ):
            raise damage(
                self.path, "byte 0", f"chunks of shape {dataset.chunks}", f"chunks of {MAX_CHUNK} bytes"
            )
        return dataset

    def _unit(self, t):
        if self.unit:
            return self.unit
        if t is not None and "unit" in t.attrs:
            # texts of any length lie in a heap, and damage there takes the interpreter down
            if t.attrs.get_id("unit").dtype.kind != "S":
                raise ValueError(f"{self.path}: attribute unit is no text of fixed length; give unit=")
            told = bytes(t.attrs["unit"]).decode("latin-1")
            if told not in UNITS:
                raise ValueError(f"{self.path}: unit {told[:20]!r}; accepted: {', '.join(UNITS)}, or unit=")
            return told
        return "s" if t is not None and t.dtype.kind == "f" else "us"

    @contextmanager
    def _sound(self, place):
        """What the library raises for damage becomes one kind of error."""
        try:
            yield
        except (DamagedError, FileNotFoundError, PermissionError, IsADirectoryError):
            raise
        except ODD as error:
            raise damage(self.path, place, f"HDF5 cannot read it ({error})", "sound files") from None


def _size(value):
    """(2,) whole numbers of an attribute as a pair of ints; None: it is none."""
    value = np.asarray([] if value is None else value).ravel()
    if (
        len(value) < 2
        or value.dtype.kind not in "iu"
        or not (1 <= value[:2]).all()
        or not (value[:2] <= ANY).all()
    ):
        return None
    return int(value[0]), int(value[1])


def _h5py():
    try:
        import h5py
        import hdf5plugin  # noqa: F401  (registers the compressions)
    except ImportError:
        raise ImportError(
            "HDF5 needs the events extra: pip install -c constraints.txt -e '.[events]'"
        ) from None
    return h5py


def recognises(head: bytes) -> bool:
    """Whether the content begins as HDF5."""
    return head.startswith(MAGIC)


def reader(path, unit: str | None = None, group: str | None = None) -> Reader:
    """Open a file; unit: of its times; group: where its events are, such as "davis/right" in MVSEC."""
    return Reader(path, unit, group)


def write(file, streams, size, layout: str = "events") -> None:
    """Write streams; layout: "events", "dsec", "mvsec" or "cnn" (event_cnn_minimal).

    DSEC holds 71 minutes from its t_offset on, the first event's time here; MVSEC and event_cnn_minimal
    have seconds in float64, which tell microseconds apart within +-2^50 us.
    """
    if layout not in WRITERS:
        raise ValueError(f"layout must be one of {', '.join(WRITERS)}, got {layout!r}")
    with _h5py().File(file.name, "w") as target:
        WRITERS[layout](target, streams, size)


def _write_events(target, streams, size, names=GENERAL, types=("u2", "u2", "i8", "u1")):
    group = target.create_group("events")
    columns = {name: _column(group, names[name], kind) for name, kind in zip("xytp", types)}
    group.attrs["size"] = size
    if names is GENERAL:
        columns["t"].attrs["unit"] = np.bytes_("us")
    for stream in streams:
        seconds = types[2] == "f8"
        if seconds:
            require_within(stream, "HDF5 in seconds", ANY, 1 << 50, -(1 << 50))
        for name, column in columns.items():
            values = getattr(stream, name)
            _append(column, values / 1e6 if seconds and name == "t" else values)


def _write_cnn(target, streams, size):
    target.attrs["sensor_resolution"] = size[::-1]
    _write_events(target, streams, size, CNN, ("u2", "u2", "f8", "u1"))


def _write_dsec(target, streams, size):
    group = target.create_group("events")
    columns = {name: _column(group, name, kind) for name, kind in zip("xytp", ("u2", "u2", "u4", "u1"))}
    index, offset, count = _column(target, "ms_to_idx", "u8"), None, 0
    group.attrs["size"] = size
    for stream in streams:
        if not len(stream):
            continue
        offset = int(stream.t[0]) if offset is None else offset
        require_within(stream, "DSEC", ANY, offset + (1 << 32), offset)
        t = stream.t - offset
        # event ms_to_idx[m] is the first with t >= 1000 m
        whole = np.arange(len(index), int(t[-1]) // 1000 + 1)
        _append(index, count + np.searchsorted(t, 1000 * whole))
        for name, column in columns.items():
            _append(column, t if name == "t" else getattr(stream, name))
        count += len(stream)
    target["t_offset"] = np.int64(offset or 0)


def _write_mvsec(target, streams, size):
    if size != MVSEC_SIZE:
        raise ValueError(f"MVSEC holds sensors of {MVSEC_SIZE}, got {size}")
    table = target.create_dataset(
        "davis/left/events",
        (0, 4),
        "f8",
        maxshape=(None, 4),
        chunks=(4096, 4),
        compression="gzip",
        compression_opts=1,
    )
    for stream in streams:
        require_within(stream, "MVSEC", MVSEC_SIZE, 1 << 50, -(1 << 50))
        _append(table, np.column_stack((stream.x, stream.y, stream.t / 1e6, stream.sign)))


def _column(group, name, kind):
    return group.create_dataset(
        name,
        (0,),
        kind,
        maxshape=(None,),
        chunks=(1 << 15,),
        compression="gzip",
        compression_opts=1,
        shuffle=True,
    )


def _append(dataset, values):
    count = len(dataset)
    dataset.resize(count + len(values), axis=0)
    dataset[count:] = values


WRITERS = {"events": _write_events, "dsec": _write_dsec, "mvsec": _write_mvsec, "cnn": _write_cnn}
