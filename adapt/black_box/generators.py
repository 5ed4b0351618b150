"""Generators without classes, whose weights are a better space to look for an input in than pixels are."""

import math

from torch import nn


def dense(shape: tuple[int, ...], noise: int, width: int = 128) -> nn.Module:
    """Two layers, for small inputs of any shape, from 0 to 1."""
    return nn.Sequential(
        nn.Linear(noise, width),
        nn.ReLU(),
        nn.Linear(width, math.prod(shape)),
        nn.Sigmoid(),
        nn.Unflatten(1, tuple(shape)),
    )


def convolutional(shape: tuple[int, ...], noise: int, width: int = 128) -> nn.Module:
    """Convolutions up from a quarter of the size, for images (channels, h, w) from 0 to 1.

    Source: the authors' code of Hu et al. (ICML 2023) has these layers, and starts from these weights.
    """
    channels, h, w = shape
    if h % 4 or w % 4:
        raise ValueError(f"sides must be multiples of 4, got {h} x {w}; pad the inputs of the endpoint")
    network = nn.Sequential(
        nn.Linear(noise, width * (h // 4) * (w // 4)),
        nn.Unflatten(1, (width, h // 4, w // 4)),
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
        nn.Sigmoid(),
    )
    for module in network:
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(module.weight, 0.0, 0.02)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    return network


# (shape, noise, width) -> a module from (b, noise) to (b, *shape) in 0 to 1
GENERATORS = {"dense": dense, "convolutional": convolutional}
