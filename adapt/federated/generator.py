"""Conditional generators: from noise and a class to an input of the model, for the server's repair."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DenseGenerator(nn.Module):
    """Two layers, for small inputs of any shape with values in a known range.

    Args:
        shape:     of one input.
        classes:   how many.
        noise:     numbers of noise for one input.
        hidden:    width.
        low, high: range of the inputs.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int,
        noise: int = 32,
        hidden: int = 128,
        low: float = 0.0,
        high: float = 1.0,
    ):
        super().__init__()
        self.shape, self.classes, self.noise = tuple(shape), classes, noise
        self.low, self.high = low, high
        self.layers = nn.Sequential(
            nn.Linear(noise + classes, hidden), nn.ReLU(), nn.Linear(hidden, math.prod(shape))
        )

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """(b, *shape) of noise (b, noise) and classes (b,)."""
        x = self.layers(torch.cat((z, F.one_hot(y, self.classes).to(z)), 1)).sigmoid()
        return (self.low + (self.high - self.low) * x).reshape(-1, *self.shape)


class ImageGenerator(nn.Module):
    """Convolutions up from a quarter of the size, for images whose sides are multiples of four.

    Without a range its outputs have mean 0 and variance 1 in each channel over the batch, as inputs that were
    standardised; with one they are in it.

    Args:
        shape:   (channels, height, width).
        classes: how many.
        noise:   numbers of noise for one image.
        width:   channels of the first layers, even.
        span:    lowest and highest value of the inputs, or None.
    Source: the authors' code of Zhang et al. (CVPR 2022) has these layers.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        noise: int = 100,
        width: int = 128,
        span: tuple[float, float] | None = None,
    ):
        super().__init__()
        channels, h, w = shape
        if h % 4 or w % 4 or width % 2:
            raise ValueError(f"sides must be multiples of 4 and width of 2, got {shape} and {width}")
        self.classes, self.noise, self.span = classes, noise, span
        self.start = (width // 2, h // 4, w // 4)
        self.of_noise = nn.Linear(noise, math.prod(self.start))
        self.of_class = nn.Linear(classes, math.prod(self.start))
        self.layers = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(width, width // 2, 3, padding=1),
            nn.BatchNorm2d(width // 2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width // 2, channels, 3, padding=1),
        )
        self.standard = nn.BatchNorm2d(channels, affine=False)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """(b, channels, height, width) of noise (b, noise) and classes (b,)."""
        one_hot = F.one_hot(y, self.classes).to(z)
        start = [part.reshape(-1, *self.start) for part in (self.of_noise(z), self.of_class(one_hot))]
        x = self.layers(torch.cat(start, 1))
        if self.span is None:
            return self.standard(x.tanh())
        low, high = self.span
        return low + (high - low) * x.sigmoid()
