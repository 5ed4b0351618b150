"""FreDFuse: image tokens lead at low frequencies, event tokens at high ones; and two simpler ways to fuse.

Source: Sun et al., "FUSE: Label-Free Image-Event Joint Monocular Depth Estimation via Frequency-Decoupled
    Alignment and Degradation-Robust Fusion" (IROS 2025, arXiv 2503.19739).

Every fusion takes patch tokens of an image and of events, (b, n, C) each, and the grid (h, w) with n = h w,
and gives tokens (b, n, C).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 3  # of the pyramids
GROUPS = 8  # of the convolutions that join two levels


class FreDFuse(nn.Module):
    """Frequency-decoupled fusion.

    Args:
        width: C of the tokens, a multiple of twice the heads and of 8.
        heads: of the attention, which works at half the width.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.image, self.events = Decoupling(width), Decoupling(width)
        self.low, self.high = GuidedAttention(width, heads), GuidedAttention(width, heads)
        self.inner, self.mix, self.outer = nn.LayerNorm(width), nn.Linear(width, width), nn.LayerNorm(width)

    def forward(self, image: Tensor, events: Tensor, grid: tuple[int, int]) -> Tensor:
        """Fused tokens."""
        image_low, image_high = self.image(image, grid)
        events_low, events_high = self.events(events, grid)
        low = self.low(image_low, events_low)
        high = self.high(events_high, image_high)
        return self.outer(self.mix(self.inner(low + high)))


class GuidedFuse(nn.Module):
    """The same attention without frequencies: each kind of tokens asks the other, as they are."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.low, self.high = GuidedAttention(width, heads), GuidedAttention(width, heads)
        self.inner, self.mix, self.outer = nn.LayerNorm(width), nn.Linear(width, width), nn.LayerNorm(width)

    def forward(self, image: Tensor, events: Tensor, grid: tuple[int, int]) -> Tensor:
        """Fused tokens."""
        return self.outer(self.mix(self.inner(self.low(image, events) + self.high(events, image))))


class Concatenation(nn.Module):
    """Both kinds of tokens side by side, and one linear layer."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.mix, self.outer = nn.Linear(2 * width, width), nn.LayerNorm(width)

    def forward(self, image: Tensor, events: Tensor, grid: tuple[int, int]) -> Tensor:
        """Fused tokens."""
        return self.outer(self.mix(torch.cat((image, events), -1)))


class GuidedAttention(nn.Module):
    """Cross attention at half the width, added to what asks."""

    def __init__(self, width: int, heads: int, dropout: float = 0.1):
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"width must be a multiple of twice the heads, got {width} and {heads}")
        self.heads, self.dropout = heads, dropout
        self.norm = nn.LayerNorm(width)
        self.q, self.k, self.v = (nn.Linear(width, width // 2) for _ in range(3))
        self.out = nn.Linear(width // 2, width)

    def forward(self, asking: Tensor, asked: Tensor) -> Tensor:
        """(b, n, C) of tokens (b, n, C) that ask and tokens (b, m, C) that are asked."""
        a, b = self.norm(asking), self.norm(asked)
        q, k, v = (
            f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for f, x in ((self.q, a), (self.k, b), (self.v, b))
        )
        p = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=p)
        return a + self.out(mixed.transpose(1, 2).flatten(2))


class Decoupling(nn.Module):
    """Low and high frequencies of a map of tokens, each gathered from coarse to fine by layers of its own."""

    def __init__(self, width: int):
        super().__init__()
        self.low = nn.ModuleList(Join(width) for _ in range(LEVELS - 1))
        self.high = nn.ModuleList(Join(width) for _ in range(LEVELS - 1))

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Two (b, n, C) of tokens (b, n, C)."""
        x = tokens.transpose(1, 2).unflatten(-1, grid)
        smooth = gaussian_pyramid(x)
        low, high = _gathered(smooth, self.low), _gathered(differences(smooth), self.high)
        return low.flatten(2).transpose(1, 2), high.flatten(2).transpose(1, 2)


class Join(nn.Module):
    """A level and what came up from coarser ones: grouped 1 x 1 convolutions around a channel shuffle."""

    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Conv2d(2 * width, width, 1, groups=GROUPS)
        self.second = nn.Conv2d(width, width, 1, groups=GROUPS)

    def forward(self, level: Tensor, coarser: Tensor) -> Tensor:
        """(b, C, h, w) of a level of that shape and the next coarser one."""
        x = self.first(torch.cat((level, _grown(coarser, level)), 1))
        shuffled = x.unflatten(1, (GROUPS, -1)).transpose(1, 2).flatten(1, 2)
        return self.second(F.relu(shuffled))


def gaussian_pyramid(x: Tensor, levels: int = LEVELS) -> list[Tensor]:
    """Maps (b, C, h, w), each blurred (3 x 3, sigma 1) and half the one before; sides stay at least 1."""
    at = torch.tensor([-1.0, 0.0, 1.0], device=x.device)
    line = torch.exp(-at.square() / 2)
    kernel = torch.outer(line, line) / line.sum() ** 2
    kernel = kernel.to(x.dtype).expand(x.shape[1], 1, 3, 3)
    found = [x]
    for _ in range(levels - 1):
        blurred = F.conv2d(found[-1], kernel, padding=1, groups=x.shape[1])
        size = [max(side // 2, 1) for side in blurred.shape[-2:]]
        found.append(F.interpolate(blurred, size, mode="bilinear", align_corners=False))
    return found


def differences(pyramid: list[Tensor]) -> list[Tensor]:
    """The Laplacian pyramid (Burt, Adelson 1983) of a Gaussian one; `restored` is its inverse."""
    return [fine - _grown(coarse, fine) for fine, coarse in pairwise(pyramid)] + [pyramid[-1]]


def restored(laplacian: list[Tensor]) -> Tensor:
    """The map that a Laplacian pyramid is of."""
    x = laplacian[-1]
    for level in reversed(laplacian[:-1]):
        x = level + _grown(x, level)
    return x


def _gathered(pyramid, joins):
    x = pyramid[-1]
    for level, join in zip(reversed(pyramid[:-1]), joins):
        x = join(level, x)
    return x


def _grown(x, like):
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)
