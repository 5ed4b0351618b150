"""N-MNIST recordings with their labels, of a folder or a zip.

Source: Orchard et al. (Frontiers in Neuroscience 2015); the data set is CC BY-SA 4.0 and not part of this.
"""

import csv
import io
import zipfile
from pathlib import Path

import numpy as np

from perception.events import EventStream, read

SIZE = (34, 34)


def load(path: str | Path) -> tuple[list[EventStream], np.ndarray]:
    """Streams and their labels (n,).

    Args:
        path: a zip or folder with `labels.csv` (sample,label) and `events/SAMPLE.bin`; or a folder with one
              folder of .bin files for each digit, as tonic and the authors have them.
    Raises:
        ValueError: it is neither.
    """
    path = Path(path)
    if path.is_file():
        return _zipped(path)
    if (path / "labels.csv").exists():
        with open(path / "labels.csv", encoding="utf-8") as file:
            rows = _rows(file)
        return [read(path / "events" / f"{name}.bin", size=SIZE) for name, _ in rows], _labels(rows)
    files = sorted(path.glob("[0-9]/*.bin"))
    if not files:
        raise ValueError(f"{path} has neither labels.csv nor folders 0 to 9 with .bin files")
    return [read(file, size=SIZE) for file in files], np.array([int(file.parent.name) for file in files])


def _zipped(path):
    import tempfile

    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        with archive.open("labels.csv") as file:
            rows = _rows(io.TextIOWrapper(file, "utf-8"))
        streams = []
        for name, _ in rows:
            member = Path(folder, "one.bin")
            member.write_bytes(archive.read(f"events/{name}.bin"))
            streams.append(read(member, size=SIZE))
    return streams, _labels(rows)


def _rows(file):
    rows = [(row["sample"], row["label"]) for row in csv.DictReader(file)]
    if not rows or not all(label.isdigit() and name.isalnum() for name, label in rows):
        raise ValueError("labels.csv must have the columns sample and label, a digit")
    return rows


def _labels(rows):
    return np.array([int(label) for _, label in rows])
