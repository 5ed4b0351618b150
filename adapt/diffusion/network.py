"""A small U-Net that says the velocity of TrigFlow, smooth in time, of images of any size.

Forward-mode differentiation goes through all of it: norms are written out of elementary operations, whose
tangents cost about as much as they do, and time enters by a few slow waves, so that its derivative is tame.
No dropout and no batch statistics: the same input says the same in training.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.diffusion.trigflow import SIGMA

WAVES = 6  # of time: sines and cosines of t, 2 t, ... 6 t
GROUPS = 8  # of channels that a norm takes together


class Waves(nn.Module):
    """Sines and cosines of times (b,), (b, 2 waves)."""

    rates: Tensor

    def __init__(self, waves: int = WAVES):
        super().__init__()
        self.register_buffer("rates", torch.arange(1.0, waves + 1), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """(b, 2 waves) of times (b,)."""
        angle = t[:, None] * self.rates
        return torch.cat((angle.cos(), angle.sin()), 1)


class Norm(nn.Module):
    """Groups of channels over the image divided by their root mean square."""

    def __init__(self, channels: int):
        super().__init__()
        self.groups = next(g for g in range(min(GROUPS, channels), 0, -1) if channels % g == 0)
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as x (b, c, h, w)."""
        parts = x.unflatten(1, (self.groups, -1))
        return self.gain * (parts * (parts.square().mean((2, 3, 4), keepdim=True) + 1e-6).rsqrt()).flatten(
            1, 2
        )


class Block(nn.Module):
    """Two convolutions beside a shortcut; what is known of time scales and shifts between them."""

    def __init__(self, channels: int, out: int, embedding: int):
        super().__init__()
        self.norm, self.first = Norm(channels), nn.Conv2d(channels, out, 3, padding=1)
        self.time = nn.Linear(embedding, 2 * out)
        self.middle, self.second = Norm(out), nn.Conv2d(out, out, 3, padding=1)
        self.short = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(b, out, h, w) of x (b, channels, h, w) and what is known of time (b, embedding)."""
        h = self.first(F.silu(self.norm(x)))
        scale, shift = self.time(time)[..., None, None].chunk(2, 1)
        h = self.second(F.silu(self.middle(h) * (1 + scale) + shift))
        return self.short(x) + h


class UNet(nn.Module):
    """Velocity (b, c, h, w) of x (b, c, h, w) at times t (b,) from 0 to pi/2.

    Args:
        channels: of the images.
        width:    channels of the first level.
        levels:   each has half the pixels a side and, from the second on, twice the width.
        sigma:    standard deviation of the data.
    """

    def __init__(self, channels: int = 1, width: int = 32, levels: int = 2, sigma: float = SIGMA):
        super().__init__()
        if min(channels, width, levels) < 1 or not sigma > 0:
            raise ValueError(
                "channels, width, levels and sigma must be positive, "
                f"got {channels}, {width}, {levels}, {sigma}"
            )
        self.channels, self.width, self.levels, self.sigma = channels, width, levels, sigma
        embedding = 2 * width
        self.time = nn.Sequential(
            Waves(), nn.Linear(2 * WAVES, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        wide = [width * (2 if k else 1) for k in range(levels)]
        self.inward = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(Block(a, b, embedding) for a, b in zip([width, *wide], wide))
        self.middle = Block(wide[-1], wide[-1], embedding)
        back = [*wide[::-1]]
        self.up = nn.ModuleList(Block(a + b, b, embedding) for a, b in zip([wide[-1], *back], back))
        self.norm, self.out = Norm(width), nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Velocity (b, c, h, w) at x (b, c, h, w) and t (b,) or ()."""
        time = self.time(t.expand(len(x)) if t.ndim == 0 else t)
        h = self.inward(x / self.sigma)
        kept = []
        for k, block in enumerate(self.down):
            h = block(F.avg_pool2d(h, 2, ceil_mode=True) if k else h, time)
            kept.append(h)
        h = self.middle(h, time)
        for block, skip in zip(self.up, kept[::-1]):
            if h.shape[-2:] != skip.shape[-2:]:
                h = F.interpolate(h, skip.shape[-2:], mode="nearest")
            h = block(torch.cat((h, skip), 1), time)
        return self.sigma * self.out(F.silu(self.norm(h)))
