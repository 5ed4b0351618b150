"""Recordings for rerun's viewer: what the programs that write them share. The extra is `viz`."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

# Colours that differ for neighbours, by label (Tableau 10).
COLOURS = np.array(
    [
        (31, 119, 180),
        (255, 127, 14),
        (44, 160, 44),
        (214, 39, 40),
        (148, 103, 189),
        (140, 86, 75),
        (227, 119, 194),
        (127, 127, 127),
        (188, 189, 34),
        (23, 190, 207),
    ],
    np.uint8,
)


def import_rerun():
    """The package.

    Raises:
        ImportError: rerun-sdk is not installed.
    """
    try:
        import rerun
    except ImportError:
        raise ImportError(
            "recordings for rerun need the viz extra: pip install -c constraints.txt -e '.[viz]'"
        ) from None
    return rerun


@contextmanager
def recording(path: str | Path, name: str) -> Iterator:
    """A stream to log to; the file appears under its name complete, or not at all.

    Args:
        path: of the .rrd file.
        name: of the application, as the viewer shows it.
    Raises:
        ImportError: rerun-sdk is not installed.
    """
    rerun, target = import_rerun(), os.path.realpath(path)
    part = os.path.join(os.path.dirname(target), f".{secrets.token_hex(8)}.part")
    try:
        with rerun.RecordingStream(name) as stream:
            stream.save(part)
            yield stream
        os.replace(part, target)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(part)


def colours_of(labels) -> np.ndarray:
    """Colours (n, 3) uint8 of labels (n,)."""
    return COLOURS[np.asarray(labels, int) % len(COLOURS)]
