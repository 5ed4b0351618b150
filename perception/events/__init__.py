"""Events of event cameras: streams, files, filters and representations."""

from perception.events.files import DamagedError, FileInfo, chunks, describe, read, write
from perception.events.stream import EventStream, windows
from perception.events.tonic import TonicEvents

__all__ = [
    "DamagedError",
    "EventStream",
    "FileInfo",
    "TonicEvents",
    "chunks",
    "describe",
    "read",
    "windows",
    "write",
]
