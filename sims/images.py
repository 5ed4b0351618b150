"""Images to learn diffusion and guides of: digits, MNIST and its kin of a file, frames of ray-cast rooms."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from perception.pinhole import Pinhole
from sims import labelled
from sims.world import Path as Way
from sims.world import World

FARTHEST = 10.0  # m; rooms are smaller


class Images(NamedTuple):
    """Pictures and what is known of them.

    pixels: (n, 1, h, w) from 0 to 1.
    labels: (n,) digits, or zeros.
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


def digits() -> Images:
    """The 1,797 scans of handwritten digits that come with scikit-learn, 8 x 8 pixels."""
    return Images(*(torch.from_numpy(array) for array in labelled.digits()))


def of_file(path: str | Path) -> Images:
    """Images of an .npz with `images` or `x` (n, h, w), bytes or numbers, and `labels` or `y` (n,).

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
            (pixels, *_), (labels, *_) = found
    except FileNotFoundError:
        raise
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is no .npz with images and labels: {error}") from None
    if pixels.ndim != 3 or labels.shape != pixels.shape[:1]:
        raise ValueError(
            f"{path} has images {pixels.shape} and labels {labels.shape}; (n, h, w) and (n,) are accepted"
        )
    values = pixels.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / max(high - low, 1e-9)
    return Images(torch.from_numpy(scaled)[:, None], torch.from_numpy(labels.astype(np.int64)))


def rooms(n: int, side: int = 32, seed: int = 0) -> Images:
    """Frames and depth of n random ray-cast rooms, one of each."""
    frames, depth = [], []
    for k in range(seed, seed + n):
        rng = np.random.default_rng(k)
        world = World.random(k, objects=int(rng.integers(3, 8)), moving=0)
        pose = Way.random(k).pose(float(rng.integers(0, 4_000_000)))
        view = world.view(Pinhole.of(side, side, side * rng.uniform(0.8, 1.3)), pose, 0.0)
        frames.append(view.image)
        depth.append(view.depth)
    pixels = torch.from_numpy(np.stack(frames)).float()[:, None]
    return Images(pixels, torch.zeros(n, dtype=torch.int64), torch.from_numpy(np.stack(depth)).float())


def split(images: Images, test: int, seed: int = 0) -> tuple[Images, Images]:
    """Images to train on, and others to test on."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(images.pixels)))
    return images.take(order[test:]), images.take(order[:test])
