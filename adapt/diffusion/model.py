"""A diffusion model that can be kept: a network, the images it makes, and how many steps it wants."""

from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt.diffusion.network import UNet
from adapt.diffusion.sampling import even, gaussian, integrate, jump, jumps
from tracking.formats import weights

SHIPPED = Path(__file__).parent / "weights"
KIND = "diffusion"
AT_ONCE = 256  # images


@dataclass(frozen=True)
class Diffusion:
    """A velocity network of images, and what its numbers mean.

    network: velocity of images (x - mean) / deviation * sigma.
    size:    (channels, height, width) of the images.
    mean, deviation: of the pixels that it was trained on, from 0 to 1.
    jumps:   whether it is a consistency model, which goes from noise to data at once.
    """

    network: UNet
    size: tuple[int, int, int]
    mean: float
    deviation: float
    jumps: bool = False

    def scaled(self, pixels: Tensor) -> Tensor:
        """Images with pixels from 0 to 1 as the network has them."""
        return (pixels - self.mean) * (self.network.sigma / self.deviation)

    def pixels(self, x: Tensor) -> Tensor:
        """The reverse; what is below black or above white is cut."""
        return (x * (self.deviation / self.network.sigma) + self.mean).clamp(0, 1)

    @property
    def device(self) -> torch.device:
        return self._like.device

    @property
    def _like(self) -> Tensor:
        return next(self.network.parameters())

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, c, h, w) to start from, where the network is."""
        return gaussian(n, self.size, self.network.sigma, generator).to(self._like)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator, steps: int | None = None) -> Tensor:
        """(n, c, h, w) images as the network has them; steps: 8 by default, 2 of a consistency model."""
        sigma, parts = self.network.sigma, [self._like.new_zeros(0, *self.size)]
        for start in range(0, n, AT_ONCE):
            x = self.noise(min(AT_ONCE, n - start), generator)
            if self.jumps:
                parts.append(jump(self.network, x, jumps(2 if steps is None else steps), generator, sigma))
            else:
                parts.append(integrate(self.network, x, even(8 if steps is None else steps)))
        return torch.cat(parts)

    def save(self, path: str | Path, half: bool = False, **about: Any) -> None:
        """Write weights and description to one file."""
        net = self.network
        document = {
            "width": net.width,
            "levels": net.levels,
            "sigma": net.sigma,
            "size": list(self.size),
            "mean": self.mean,
            "deviation": self.deviation,
            "jumps": self.jumps,
            "about": about,
        }
        weights.write_weights(path, KIND, document, net.state_dict(), half)


def beside(name: str | Path, what: str) -> Path:
    """Path of what belongs to a model, shipped or a file: "digits-classifier" of "digits-fast"."""
    path = Path(name)
    own = path.with_name(f"{path.stem.removesuffix('-fast')}-{what}{path.suffix}")
    return weights.found(own, SHIPPED)


def load(name: str | Path = "digits") -> Diffusion:
    """A model: shipped weights by name, or a safetensors file.

    Raises:
        ValueError: no such weights, or a file of something else.
    """
    path = weights.found(name, SHIPPED)
    document, tensors = weights.read_weights(path, KIND)
    with weights.expecting(path, "a diffusion model"):
        channels, height, width = (int(side) for side in document["size"])
        mean, deviation = float(document["mean"]), float(document["deviation"])
        if min(height, width) < 1 or not (isfinite(mean) and 0 < deviation < inf):
            raise ValueError(f"its images are {height} x {width}, of mean {mean} and deviation {deviation}")
        if type(document["jumps"]) is not bool:
            raise ValueError(f"it says that it jumps: {document['jumps']!r}")
        settings = (document["width"], document["levels"], document["sigma"])
        full = {key: value.float() for key, value in tensors.items()}
        network = weights.filled(lambda: UNet(channels, *settings), full)
    return Diffusion(network, (channels, height, width), mean, deviation, document["jumps"])
