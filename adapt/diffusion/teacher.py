"""A teacher: the training loss of a velocity on images, for `perception.training.Run`.

Source: Lu, Song (ICLR 2025), equation 4, with times that are half of a log-normal noise level, as there, and
half even, which suits small networks.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from adapt.diffusion.trigflow import NOISE, SIGMA, noised, velocity_of

Loss = Callable[[nn.Module, np.random.Generator], dict[str, Tensor]]


def log_normal(n: int, rng: np.random.Generator, mean: float, spread: float, sigma: float = SIGMA) -> Tensor:
    """(n,) times at which noise over data is log-normal: t = atan(e^tau / sigma), tau ~ N(mean, spread^2)."""
    return torch.from_numpy(np.arctan(np.exp(rng.normal(mean, spread, n)) / sigma)).float()


def generator_of(rng: np.random.Generator, device: torch.device | str = "cpu") -> torch.Generator:
    """torch's generator, seeded by NumPy's."""
    return torch.Generator(device).manual_seed(int(rng.integers(2**62)))


def teach(images: Tensor, batch: int = 128, *, mirror: bool = False, sigma: float = SIGMA) -> Loss:
    """The loss of a velocity network.

    Args:
        images: (n, c, h, w), or latents of any shape, of standard deviation sigma.
        batch:  images of a step.
        mirror: half of them left to right.
        sigma:  of TrigFlow.
    Raises:
        ValueError: images of another standard deviation.
    """
    deviation = float(images.std())
    if not 0.5 < deviation / sigma < 2:
        raise ValueError(
            f"images must have a standard deviation of about {sigma}, got {deviation:.3g}; scale them"
        )

    def loss(network: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
        device = next(network.parameters()).device
        x0 = images[torch.from_numpy(rng.integers(0, len(images), batch)).to(images.device)].to(device)
        if mirror:
            flip = torch.from_numpy(rng.random(batch) < 0.5).to(device)
            x0 = torch.where(flip.reshape(-1, *[1] * (x0.ndim - 1)), x0.flip(-1), x0)
        half = batch // 2
        even = torch.from_numpy(rng.uniform(0, NOISE, batch - half)).float()
        t = torch.cat((log_normal(half, rng, -0.8, 1.4, sigma), even)).to(device)
        z = sigma * torch.randn(x0.shape, generator=generator_of(rng, device), device=device)
        gap = network(noised(x0, t, z), t) - velocity_of(x0, t, z)
        return {"velocity": gap.square().mean() / sigma**2}

    return loss


class GaussianTeacher(nn.Module):
    """The exact velocity of data N(mean, deviation^2) in every pixel, to test solvers and students on.

    Args:
        mean, deviation: of the data.
        sigma:           of TrigFlow.
    """

    def __init__(self, mean: float = 0.0, deviation: float = 1.0, sigma: float = SIGMA):
        super().__init__()
        self.mean, self.deviation, self.sigma = mean, deviation, sigma

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Velocity (b, ...) at x (b, ...) and t (b,) or ()."""
        t = t.reshape(-1, *[1] * (x.ndim - 1)) if t.ndim else t
        spread = (self.deviation * t.cos()) ** 2 + (self.sigma * t.sin()) ** 2
        turned = t.cos() * t.sin() * (self.sigma**2 - self.deviation**2) / spread
        return -self.mean * t.sin() + turned * (x - self.mean * t.cos())

    def consistency(self, x: Tensor, t: Tensor) -> Tensor:
        """Where the probability flow takes x from t to the data."""
        t = t.reshape(-1, *[1] * (x.ndim - 1)) if t.ndim else t
        spread = torch.sqrt((self.deviation * t.cos()) ** 2 + (self.sigma * t.sin()) ** 2)
        return self.mean + self.deviation * (x - self.mean * t.cos()) / spread
