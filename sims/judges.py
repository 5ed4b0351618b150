"""Networks that judge samples and had no part in making them: labels, depth, features of distances."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception.training import Run, RunConfig
from sims.frechet import frechet

FEATURES = 64
AT_ONCE = 500  # images


class Judge(nn.Module):
    """A classifier of x (b, c, h, w) with group norms and plain strides: another kind than the guides are.

    Args:
        channels: of x.
        classes:  that it tells apart.
        width:    channels of its first stage.
    """

    def __init__(self, channels: int = 1, classes: int = 10, width: int = 24):
        super().__init__()
        wide = 2 * width
        self.body = nn.Sequential(
            *_stage(channels, width, 1),
            *_stage(width, wide, 1),
            *_stage(wide, wide, 2),
            nn.AdaptiveAvgPool2d(2),
        )
        self.squeeze, self.out = nn.Linear(4 * wide, FEATURES), nn.Linear(FEATURES, classes)

    def features(self, x: Tensor) -> Tensor:
        """(b, FEATURES) what the last layer decides by."""
        return F.silu(self.squeeze(self.body(x).flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes) of x (b, c, h, w)."""
        return self.out(self.features(x))


class DepthJudge(nn.Module):
    """Logarithms of depth (b, h, w) of frames (b, 1, h, w), with group norms: another kind than guides."""

    def __init__(self, width: int = 20):
        super().__init__()
        self.one = nn.Sequential(*_stage(1, width, 1), *_stage(width, width, 1))
        self.two = nn.Sequential(*_stage(width, 2 * width, 2), *_stage(2 * width, 2 * width, 1))
        self.three = nn.Sequential(*_stage(2 * width, 2 * width, 2), *_stage(2 * width, 2 * width, 1))
        self.out = nn.Sequential(*_stage(5 * width, width, 1), nn.Conv2d(width, 1, 1))

    def features(self, x: Tensor) -> Tensor:
        """(b, 2 width) the coarsest of what it goes by, over all of an image."""
        return self.three(self.two(self.one(x))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Logarithms of depth (b, h, w) of x (b, 1, h, w)."""
        one = self.one(x)
        two = self.two(one)
        coarse = [F.interpolate(h, x.shape[-2:], mode="nearest") for h in (two, self.three(two))]
        return self.out(torch.cat((one, *coarse), 1))[:, 0]


def _stage(a: int, b: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(a, b, 3, stride, padding=1), nn.GroupNorm(4, b), nn.SiLU()


def learned(
    network: nn.Module,
    x: Tensor,
    wanted: Tensor,
    distance: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    *,
    steps: int = 400,
    batch: int = 64,
    rate: float = 3e-3,
    seed: int = 0,
) -> nn.Module:
    """The network, in place, after supervised steps on x (n, ...) with what is wanted of each (n, ...)."""

    def loss(net: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
        which = torch.from_numpy(rng.integers(0, len(x), batch))
        return {"loss": distance(net(x[which]), wanted[which])}

    run = Run(network, loss, RunConfig(steps=steps, rate=rate, decay=1e-2, average=0.98), seed)
    run.train()
    run.use_average()
    return network.eval()


@torch.no_grad()
def said(network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What a network says of x (n, ...), in batches."""
    return torch.cat([network(x[k : k + AT_ONCE]) for k in range(0, len(x), AT_ONCE)])


def accuracy(network: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor) -> float:
    """Share of x (n, ...) whose likeliest class is the label (n,)."""
    return float((said(network, x).argmax(1) == labels).float().mean())


def distance(judge: Judge | DepthJudge, x: Tensor, real: Tensor) -> float:
    """Frechet distance of samples x (n, ...) to real images (m, ...) by a judge's features."""
    return frechet(said(judge.features, x).numpy(), said(judge.features, real).numpy())
