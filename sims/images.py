"""Images for studies, from 0 to 1: digits that come along, others of files, frames of ray-cast rooms.

MNIST (LeCun et al. 1998) and its kin, N-MNIST (Orchard et al. 2015) and Omniglot (Lake et al. 2015) are not
part of the toolkit; a study is told where they are.
"""

import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from perception.pinhole import Pinhole
from sims import nmnist
from sims.world import Path as Way
from sims.world import World

FARTHEST = 10.0  # m; rooms are smaller
AIRLIGHT = 0.9  # what haze looks like where nothing is seen through it
FILES = {"mnist": "digits/mnist_train.npz", "nmnist": "nmnist/nmnist_800.zip"}  # in a folder of data
LABELLED = ("digits", *FILES)


class Images(NamedTuple):
    """Pictures and what is known of them.

    pixels: (n, channels, h, w) float32 from 0 to 1.
    labels: (n,) from 0, or zeros.
    depth:  (n, h, w) m, or None.
    """

    pixels: Tensor
    labels: Tensor
    depth: Tensor | None = None

    def take(self, which: Tensor | slice) -> "Images":
        """Some of them."""
        return Images(
            self.pixels[which], self.labels[which], None if self.depth is None else self.depth[which]
        )

    def sized(self, side: int) -> "Images":
        """The same pictures at (side, side) pixels; depth stays as it is."""
        if self.pixels.shape[2:] == (side, side):
            return self
        x = F.interpolate(self.pixels, (side, side), mode="bilinear", antialias=True, align_corners=False)
        return self._replace(pixels=x)


def named(name: str, folder: str | Path | None = None) -> Images:
    """Labelled images by a name of LABELLED; those of FILES are in a folder.

    Raises:
        ValueError: no folder, or files of something else.
    """
    if name == "digits":
        return digits()
    if folder is None:
        raise ValueError(f"{name} is read from a folder, say which with --data; it has {FILES[name]} in it")
    path = Path(folder) / FILES[name]
    return of_file(path) if name == "mnist" else event_counts(path)


def digits() -> Images:
    """The 1,797 scans of handwritten digits that come with scikit-learn, 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return _images(found.images[:, None] / 16, found.target)


def of_file(path: str | Path, labelled: bool = True) -> Images:
    """Images of an .npz with `images` or `x` (n, h, w), bytes or numbers, and `labels` or `y` (n,).

    Args:
        path:     of the file.
        labelled: whether there must be labels; where there are none they are zeros.

    Raises:
        ValueError: it is no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            names = {name.lower(): name for name in file.files}
            found = [
                [file[names[n]] for n in wanted if n in names]
                for wanted in (("images", "x", "x_train"), ("labels", "y", "y_train"))
            ]
            if not found[1] and not labelled:
                found[1] = [np.zeros(found[0][0].shape[:1], np.int64)]
            (pixels, *_), (labels, *_) = found
    except FileNotFoundError:
        raise
    except (OSError, EOFError, ValueError, TypeError, IndexError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no .npz with images and labels: {error}") from None
    if pixels.ndim != 3 or not pixels.size or labels.shape != pixels.shape[:1]:
        raise ValueError(
            f"{path} has images {pixels.shape} and labels {labels.shape}; (n, h, w) and (n,) are accepted"
        )
    if labels.dtype.kind not in "ui" or labels.min() < 0:
        raise ValueError(f"{path} has labels of {labels.dtype}; whole numbers from 0 are accepted")
    values = pixels.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(high - low):
        raise ValueError(f"{path} has pixels that are not finite")
    return _images(((values - low) / max(high - low, 1e-9))[:, None], labels)


def event_counts(path: str | Path) -> Images:
    """N-MNIST recordings as images of 2 x 20 x 20: events of each polarity, compressed, up to 1.

    Args:
        path: see `sims.nmnist.load`.
    """
    streams, labels = nmnist.load(path)
    x = np.zeros((len(streams), 2, 17, 17), np.float32)
    for image, stream in zip(x, streams):
        np.add.at(image, (stream.p.astype(int), stream.y // 2, stream.x // 2), 1)
    x = np.log1p(x) / np.log1p(x.max((1, 2, 3), keepdims=True).clip(1))
    return _images(np.pad(x, ((0, 0), (0, 0), (1, 2), (1, 2))), labels)


def omniglot(path: str | Path, side: int = 16) -> Images:
    """Characters as images of `side` x `side`, ink 1: each character of each alphabet is a class.

    Args:
        path: a zip with ALPHABET/CHARACTER/IMAGE.png somewhere in it.
        side: pixels; generators want multiples of 4.
    Raises:
        ValueError: there are no such images in it.
    """
    from PIL import Image

    x, names = [], []
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                parts = name.split("/")
                if name.endswith(".png") and len(parts) >= 3 and parts[-2].startswith("character"):
                    with Image.open(io.BytesIO(archive.read(name))) as image:
                        small = image.convert("L").resize((side, side), Image.Resampling.BOX)
                    x.append(1 - np.asarray(small, np.float32) / 255)
                    names.append("/".join(parts[-3:-1]))
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is no zip of Omniglot: {error}") from None
    if not x:
        raise ValueError(f"{path} has no ALPHABET/characterNN/*.png in it")
    ink = np.stack(x)[:, None]
    return _images(
        ink / ink.max((1, 2, 3), keepdims=True).clip(1e-6), np.unique(names, return_inverse=True)[1]
    )


def rooms(n: int, side: int = 32, seed: int = 0, haze: float = 0.0) -> Images:
    """Frames and depth of n random ray-cast rooms, one of each.

    Args:
        n:    rooms.
        side: of frames, pixels.
        seed: of the first room; the others follow.
        haze: b per m of smoke or fog: what is d away keeps exp(-b d) of its contrast (Koschmieder 1924).
    """
    frames, depth = [], []
    for k in range(seed, seed + n):
        rng = np.random.default_rng(k)
        world = World.random(k, objects=int(rng.integers(3, 8)), moving=0)
        pose = Way.random(k).pose(float(rng.integers(0, 4_000_000)))
        view = world.view(Pinhole.of(side, side, side * rng.uniform(0.8, 1.3)), pose, 0.0)
        frames.append(view.image)
        depth.append(view.depth)
    seen, far = np.stack(frames), np.stack(depth)
    through = np.exp(-haze * far)
    pixels = torch.from_numpy(seen * through + AIRLIGHT * (1 - through)).float()[:, None]
    return Images(pixels, torch.zeros(n, dtype=torch.int64), torch.from_numpy(far).float())


def split(images: Images, test: int, seed: int = 0) -> tuple[Images, Images]:
    """Images to train on, and others to test on."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(images.pixels)))
    return images.take(order[test:]), images.take(order[:test])


def _images(pixels: np.ndarray, labels: np.ndarray) -> Images:
    return Images(torch.from_numpy(pixels.astype(np.float32)), torch.from_numpy(labels.astype(np.int64)))
