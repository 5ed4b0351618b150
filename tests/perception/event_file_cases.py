"""Every format with what its tests need: a stream that it holds, and how it is written and read."""

from dataclasses import dataclass, field

import numpy as np

from perception.events import EventStream, read, write


@dataclass(frozen=True)
class Case:
    format: str
    suffix: str
    size: tuple[int, int] = (346, 260)
    told: bool = True  # the file tells its size
    options: dict = field(default_factory=dict)
    end: int = 8_000_000  # us, of the random streams

    def stream(self, n=2000, seed=0, start=0):
        rng = np.random.default_rng(seed)
        wide, high = self.size
        t = np.sort(rng.integers(start, start + self.end, n))
        return EventStream(
            rng.integers(0, wide, n), rng.integers(0, high, n), t, rng.integers(0, 2, n), wide, high
        )

    def write(self, streams, folder, name="events"):
        path = folder / (name + self.suffix)
        write(streams, path, format=self.format, **self.options)
        return path

    @property
    def known(self):
        return {} if self.told else {"size": self.size}

    def read(self, path, *args, **options):
        return read(path, *args, **{**self.known, **options})


CASES = {
    "evt2": Case("evt2", ".raw"),
    "evt21": Case("evt21", ".raw"),
    "evt3": Case("evt3", ".raw"),
    "dat": Case("dat", ".dat"),
    "davis346": Case("aedat2", ".aedat"),
    "davis240": Case("aedat2", ".aedat", (240, 180)),
    "dvs128": Case("aedat2", ".aedat2", (128, 128)),
    "aedat3": Case("aedat3", ".aedat"),
    "aedat4": Case("aedat4", ".aedat4"),
    "aedat4 lz4": Case("aedat4", ".aedat4", options={"compression": "lz4"}),
    "aedat4 zstd": Case("aedat4", ".aedat4", options={"compression": "zstd"}),
    "hdf5": Case("hdf5", ".h5"),
    "dsec": Case("hdf5", ".h5", (640, 480), options={"layout": "dsec"}),
    "mvsec": Case("hdf5", ".hdf5", options={"layout": "mvsec"}),
    "cnn": Case("hdf5", ".h5", options={"layout": "cnn"}),
    "bag": Case("bag", ".bag"),
    "npz": Case("npz", ".npz"),
    "csv": Case("csv", ".csv", told=False),
    "txt": Case("txt", ".txt"),
    "nmnist": Case("nmnist", ".bin", (34, 34), told=False),
}
