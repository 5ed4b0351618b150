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


class Solver:
    """Steps back along a trajectory, one velocity each, of second order from the second step on.

    A rotation, DDIM's step, takes the data d that the velocity points at for constant; here they go on as
    they went from the step before to this one. As x / sin t changes by -d / sin^2 t, that is worth the gain
    (t - u) cos u + sin u log(sin u / sin t) for each unit of their slope. DPM-Solver++(2M) does so with the
    logarithm of the signal-to-noise ratio in the place of the angle, which was behind on digits.

    Args:
        order: 1: DDIM's steps.

    Source: Lu, Zhou, Bao, Chen, Li, Zhu (arXiv 2211.01095), Algorithm 2.
    """

    def __init__(self, order: int = 2):
        if order not in (1, 2):
            raise ValueError(f"a solver is of order 1 or 2, got {order}")
        self.order = order
        self.before: tuple[Tensor, Tensor] | None = None  # time and data of the last step

    def step(self, x: Tensor, v: Tensor, t: Tensor, u: Tensor) -> Tensor:
        """x (b, ...) at time u () of x and its velocity v at time t (), where the last step led."""
        data = data_of(x, v, t)
        x = rotated(x, v, t - u)
        if self.order == 2 and self.before is not None:
            time, seen = self.before
            apart = torch.maximum(time - t, (t - u) / 2)  # where steps jump about, none goes too far
            gain = (t - u) * u.cos() + torch.xlogy(u.sin(), u.sin() / t.sin())
            x = x + gain / apart * (data - seen)
        self.before = t, data
        return x


def integrate(velocity: Velocity, x: Tensor, times: Tensor, order: int = 2) -> Tensor:
    """Data (b, ...) of noise x (b, ...) by a `Solver` from each time (k,) to the next.

    Gradients are the caller's affair: a guide in the velocity needs them inside, nobody outside.

    Raises:
        ValueError: times that do not fall.
    """
    if not bool((times.diff() < 0).all()):
        raise ValueError(f"a sampler's times fall from each to the next, got {times.tolist()}")
    solver = Solver(order)
    for t, u in pairwise(times.to(x)):
        x = solver.step(x, velocity(x, t.expand(len(x))), t, u)
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
        t = torch.full((len(x),), float(time), dtype=x.dtype, device=x.device)
        if k:
            z = torch.randn(x.shape, generator=generator, device=generator.device).to(x)
            x = noised(x, t, sigma * z)
        x = data_of(x, velocity(x, t), t)
    return x


def jumps(steps: int, middle: float = MIDDLE) -> list[float]:
    """Times of one jump, of two, or of more: from `middle` on evenly."""
    if steps < 1:
        raise ValueError(f"a sampler needs at least 1 step, got {steps}")
    return [NOISE] + [middle * (steps - k) / (steps - 1) for k in range(1, steps)]
