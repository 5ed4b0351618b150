"""Samples of a velocity: the teacher's many steps, a consistency model's one or two."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from adapt.diffusion.trigflow import NOISE, SIGMA, Velocity, data_of, noised, rotated

MIDDLE = 1.1  # rad, where a consistency model's second step starts; 1.0 and 1.3 are others' choices


def even(steps: int) -> Tensor:
    """(steps + 1,) times of a sampler from noise to data, evenly spaced.

    Raises:
        ValueError: no step.
    """
    if steps < 1:
        raise ValueError(f"a sampler needs at least 1 step, got {steps}")
    return torch.linspace(NOISE, 0.0, steps + 1)


def gaussian(n: int, shape: Sequence[int], sigma: float, generator: torch.Generator) -> Tensor:
    """Noise (n, *shape) to start from."""
    return sigma * torch.randn(n, *shape, generator=generator, device=generator.device)


def integrate(velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """Data (b, ...) of noise x (b, ...) by rotations from each time (k,) to the next.

    Gradients are the caller's affair: a guide in the velocity needs them inside, nobody outside.
    """
    for t, u in pairwise(times):
        t = t.to(x).expand(len(x))
        x = rotated(x, velocity(x, t), t - u.to(x))
    return x


def jump(
    velocity: Velocity, x: Tensor, times: Sequence[float], generator: torch.Generator, sigma: float = SIGMA
) -> Tensor:
    """Data (b, ...) of noise x by a consistency model: to the data at once, noised again to the next time.

    Args:
        velocity:  of the model.
        x:         (b, ...) noise.
        times:     of each jump; the first is `NOISE`.
        generator: of the noise between.
        sigma:     of TrigFlow.
    """
    for k, time in enumerate(times):
        t = torch.full((len(x),), float(time), device=x.device)
        if k:
            z = torch.randn(x.shape, generator=generator, device=x.device)
            x = noised(x, t, sigma * z)
        x = data_of(x, velocity(x, t), t)
    return x


def jumps(steps: int, middle: float = MIDDLE) -> list[float]:
    """Times of one jump, of two, or of more: from `middle` on evenly."""
    if steps < 1:
        raise ValueError(f"a sampler needs at least 1 step, got {steps}")
    return [NOISE] + [middle * (steps - k) / (steps - 1) for k in range(1, steps)]
