"""Labelled images for studies, as float32 from 0 to 1: digits that come along, others from a folder.

MNIST (LeCun et al. 1998), N-MNIST (Orchard et al. 2015) and Omniglot (Lake et al. 2015) are not part of the
toolkit; a study is told where they are.
"""

import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sims import nmnist


class Images(NamedTuple):
    """Images (n, channels, height, width) float32 from 0 to 1, and labels (n,) from 0."""

    x: np.ndarray
    y: np.ndarray

    def part(self, index: np.ndarray) -> "Images":
        """Some of them."""
        return Images(self.x[index], self.y[index])


def digits() -> Images:
    """scikit-learn's handwritten digits, 1,797 of 8 x 8 pixels (of Alpaydin and Kaynak's)."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return Images((found.images[:, None] / 16).astype(np.float32), found.target.astype(np.int64))


def mnist(path: str | Path, number: int | None = None) -> Images:
    """Handwritten digits of 28 x 28 pixels.

    Args:
        path:   an .npz with x (n, 28, 28), 0 to 255, and y (n,).
        number: the first so many; None: all.
    Raises:
        ValueError: it is no such file.
    """
    with np.load(path, allow_pickle=False) as file:
        if not {"x", "y"} <= set(file.files):
            raise ValueError(f"{path} must hold x and y, it holds {', '.join(file.files)}")
        x, y = file["x"][:number], file["y"][:number]
    if x.ndim != 3 or y.shape != x.shape[:1]:
        raise ValueError(f"{path} must hold x (n, h, w) and y (n,), it has {x.shape} and {y.shape}")
    return Images((x[:, None] / np.float32(255)), y.astype(np.int64))


def event_counts(path: str | Path) -> Images:
    """N-MNIST recordings as images of 2 x 20 x 20: events of each polarity, compressed, up to 1.

    Args:
        path: see `sims.nmnist.load`.
    """
    streams, labels = nmnist.load(path)
    x = np.zeros((len(streams), 2, 17, 17), np.float32)
    for image, stream in zip(x, streams):
        np.add.at(image, (stream.p.astype(int), stream.y // 2, stream.x // 2), 1)
    x = np.log1p(x) / np.log1p(x.max((1, 2, 3), keepdims=True))
    return Images(np.pad(x, ((0, 0), (0, 0), (1, 2), (1, 2))), labels.astype(np.int64))


def omniglot(path: str | Path, side: int = 14) -> Images:
    """Characters as images of `side` x `side`, ink 1: each character of each alphabet is a class.

    Args:
        path: a zip with ALPHABET/CHARACTER/IMAGE.png somewhere in it.
        side: pixels.
    Raises:
        ValueError: there are no such images in it.
    """
    from PIL import Image

    x, names = [], []
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            parts = name.split("/")
            if name.endswith(".png") and len(parts) >= 3 and parts[-2].startswith("character"):
                with Image.open(io.BytesIO(archive.read(name))) as image:
                    small = image.convert("L").resize((side, side), Image.Resampling.BOX)
                x.append(1 - np.asarray(small, np.float32) / 255)
                names.append("/".join(parts[-3:-1]))
    if not x:
        raise ValueError(f"{path} has no ALPHABET/characterNN/*.png in it")
    ink = np.stack(x)[:, None]
    return Images(
        ink / ink.max((1, 2, 3), keepdims=True).clip(1e-6), np.unique(names, return_inverse=True)[1]
    )
