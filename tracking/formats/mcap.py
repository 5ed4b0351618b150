"""MCAP files as a stream of messages, read within bounds.

A file is read from its beginning to its end, chunk by chunk, so memory does not grow with it, and one that
was cut off gives what it holds before the error. Lengths in the file are believed up to MAX_RECORD only, and
no chunk unpacks to more.

Source: the MCAP format specification, https://mcap.dev/spec; records by the library `mcap`.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, BinaryIO, NamedTuple

MAX_RECORD = 2**26  # bytes of a record, or of an unpacked chunk
MAX_CHANNELS = 10_000
MAGIC = b"\x89MCAP0\r\n"


class Channel(NamedTuple):
    """A topic of a recording: its name, type and encoding of its messages, and a digest of the type."""

    topic: str
    type: str
    encoding: str
    digest: str = ""


class Message(NamedTuple):
    """A message as it is stored, with the channel and the time at which it was recorded, ns."""

    channel: Channel
    log_time: int
    data: bytes


def import_mcap() -> Any:
    """The library `mcap`.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import mcap.reader
        import mcap.writer

        return mcap
    except ImportError:
        raise ImportError(
            "MCAP files need the robotics extra: pip install -c constraints.txt -e '.[robotics]'"
        ) from None


def channels(path) -> list[Channel]:
    """The channels of a file, from its summary, or from all of it where it has none.

    Raises:
        ValueError: it is no sound MCAP file.
        OSError:    the file is missing or cannot be read.
    """
    with _sound(path), open(path, "rb") as file:
        found = _summary(file)
        if found is None:
            file.seek(0)
            found = {}
            for record in _records(file):
                if isinstance(record, dict):
                    found |= record
    return list(dict.fromkeys(found.values()))


def messages(path, topic: str | None = None) -> Iterator[Message]:
    """The messages of a topic, or of all, in the order of the file.

    Raises:
        ValueError: the file is not sound; what comes before that is given out.
        OSError:    the file is missing or cannot be read.
    """
    known: dict[int, Channel] = {}
    with _sound(path), open(path, "rb") as file:
        for record in _records(file):
            if isinstance(record, dict):
                known |= record
            elif record.channel_id not in known:
                raise ValueError(f"a message of channel {record.channel_id}, which was not introduced")
            elif topic is None or known[record.channel_id].topic == topic:
                yield Message(known[record.channel_id], record.log_time, record.data)


class _Bounded:
    """A file that is read in pieces of at most MAX_RECORD bytes, each of them whole."""

    def __init__(self, file: BinaryIO):
        self.file = file

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_RECORD:
            raise ValueError(f"a length of {size} bytes, accepted are up to {MAX_RECORD}")
        found = self.file.read(size)
        if len(found) < size:
            raise ValueError(f"the file ends {size - len(found)} bytes too early")
        return found


def _records(file):
    """Messages, and channels as {number: Channel}, of a file from its beginning."""
    from mcap import records
    from mcap.stream_reader import StreamReader, breakup_chunk

    schemas: dict[int, str] = {}
    count = 0
    stream = StreamReader(_Bounded(file), emit_chunks=True, record_size_limit=MAX_RECORD)  # type: ignore[arg-type]
    for outer in stream.records:
        inner = (
            breakup_chunk(_unpacked(outer), validate_crc=True)
            if isinstance(outer, records.Chunk)
            else [outer]
        )
        for record in inner:
            if isinstance(record, records.Schema):
                schemas[record.id] = record.name
            elif isinstance(record, records.Channel):
                count += 1
                if max(count, len(schemas)) > MAX_CHANNELS:
                    raise ValueError(f"more than {MAX_CHANNELS} channels")
                yield {record.id: _channel(record, schemas)}
            elif isinstance(record, records.Message):
                yield record
        if isinstance(outer, records.DataEnd):
            return


def _channel(record, schemas) -> Channel:
    if record.schema_id and record.schema_id not in schemas:
        raise ValueError(f"channel {record.id} has schema {record.schema_id}, which was not introduced")
    digest = record.metadata.get("topic_type_hash", "")
    return Channel(record.topic, schemas.get(record.schema_id, ""), record.message_encoding, digest)


def _unpacked(chunk):
    """A chunk whose records are not compressed, and no more than MAX_RECORD bytes."""
    if chunk.compression == "zstd":
        from zstandard import ZstdDecompressor

        with ZstdDecompressor(max_window_size=MAX_RECORD).stream_reader(chunk.data) as stream:
            data = stream.read(MAX_RECORD + 1)
    elif chunk.compression == "lz4":
        from lz4.frame import LZ4FrameDecompressor

        data = LZ4FrameDecompressor().decompress(chunk.data, max_length=MAX_RECORD + 1)
    elif chunk.compression == "":
        data = chunk.data
    else:
        raise ValueError(f"a chunk is compressed by {chunk.compression[:20]!r}; accepted are zstd and lz4")
    if len(data) > MAX_RECORD or len(data) != chunk.uncompressed_size:
        raise ValueError(
            f"a chunk of {chunk.uncompressed_size} bytes unpacks to {len(data)}; accepted are {MAX_RECORD}"
        )
    return replace(chunk, compression="", data=data)


def _summary(file) -> dict[int, Channel] | None:
    """Channels by number in the summary of a file, None where it has none that can be read."""
    from mcap import records
    from mcap.stream_reader import StreamReader

    size = file.seek(0, os.SEEK_END)
    if size < 45:
        return None
    file.seek(-37, os.SEEK_END)
    tail = file.read(37)
    (start,) = struct.unpack_from("<Q", tail, 9)
    if tail[:1] != b"\x02" or tail[-8:] != MAGIC or not 0 < start < size:
        return None
    file.seek(start)
    stream = StreamReader(_Bounded(file), skip_magic=True, emit_chunks=True, record_size_limit=MAX_RECORD)  # type: ignore[arg-type]
    schemas: dict[int, str] = {}
    found: dict[int, Channel] = {}
    for record in stream.records:
        if isinstance(record, records.Schema):
            schemas[record.id] = record.name
        elif isinstance(record, records.Channel):
            found[record.id] = _channel(record, schemas)
        if max(len(found), len(schemas)) > MAX_CHANNELS:
            raise ValueError(f"more than {MAX_CHANNELS} channels")
    return found or None


@contextmanager
def _sound(path):
    """Whatever is wrong with a file while it is read is one ValueError."""
    import_mcap()
    from mcap.exceptions import McapError
    from zstandard import ZstdError

    odd = (ValueError, LookupError, TypeError, AttributeError, OverflowError, EOFError, RuntimeError)
    try:
        yield
    except (McapError, ZstdError, struct.error, *odd) as error:
        said = str(error)[:300] or type(error).__name__
        raise ValueError(f"{os.fspath(path)}: {said}; accepted are sound MCAP files") from None
