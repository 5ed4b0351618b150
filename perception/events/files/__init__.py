"""Reading and writing of event-camera files: `read`, `chunks`, `write` and `describe`."""

from perception.events.files.access import FileInfo, chunks, describe, read, write
from perception.events.files.blocks import DamagedError

__all__ = ["DamagedError", "FileInfo", "chunks", "describe", "read", "write"]
