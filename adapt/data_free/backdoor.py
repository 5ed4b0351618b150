"""Backdoors, for evaluation: triggers, poisoned training sets and success rates.

Triggers change images (n, C, H, W) with numbers from 0 to 1. Source: BadNets (Gu et al., 2017), Blend (Chen
et al., 2017), SIG (Barni et al., 2019), smooth (Zeng et al., ICCV 2021), as ABD's released code has them;
sizes there are for 32 x 32 pixels, and scale with the image here.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Trigger = Callable[[Tensor], Tensor]


def patch(x: Tensor) -> Tensor:
    """A white square in the corner at the bottom right, a quarter of 8 pixels or an eighth of more."""
    out = x.clone()
    side = max(x.shape[-1] // 8, 2)
    out[..., -side:, -side:] = 1.0
    return out


def square(x: Tensor) -> Tensor:
    """A white square one pixel off that corner: 4 of 32 pixels."""
    out = x.clone()
    side = max(x.shape[-1] // 8, 2)
    out[..., -side - 1 : -1, -side - 1 : -1] = 1.0
    return out


def grid(x: Tensor) -> Tensor:
    """A checker of 3 x 3 pixels in that corner: four white, five black."""
    if min(x.shape[-2:]) < 3:
        raise ValueError(f"a checker needs images of at least 3 x 3 pixels, got {tuple(x.shape)}")
    out = x.clone()
    out[..., -3:, -3:] = 0.0
    for row, column in ((-1, -1), (-1, -3), (-2, -2), (-3, -1)):
        out[..., row, column] = 1.0
    return out


def blend(x: Tensor) -> Tensor:
    """Four parts the image, one part a fixed image of uniform noise."""
    noise = torch.rand(x.shape[1:], generator=torch.Generator().manual_seed(7)).to(x)
    return 0.8 * x + 0.2 * noise


def stripes(x: Tensor) -> Tensor:
    """Four parts the image, one part a sinusoid of six periods across."""
    phase = torch.arange(x.shape[-1], device=x.device, dtype=x.dtype) / x.shape[-1]
    return 0.8 * x + 0.2 * (0.5 + 0.5 * torch.sin(2 * math.pi * 6 * phase + 0.5))


def smooth(x: Tensor) -> Tensor:
    """A fixed image of low frequencies is added, and each image taken to 0 to 1 again."""
    low = torch.randn(1, x.shape[1], 3, 3, generator=torch.Generator().manual_seed(7)).to(x)
    out = x + 0.2 * F.interpolate(low, x.shape[-2:], mode="bicubic", align_corners=True)
    least, most = out.amin((1, 2, 3), keepdim=True), out.amax((1, 2, 3), keepdim=True)
    return (out - least) / (most - least).clamp(min=1e-6)


TRIGGERS: dict[str, Trigger] = {
    "patch": patch,
    "square": square,
    "grid": grid,
    "blend": blend,
    "stripes": stripes,
    "smooth": smooth,
}


def poisoned(
    x: Tensor, y: Tensor, trigger: Trigger, target: int = 0, share: float = 0.1, clean_label: bool = False
) -> tuple[Tensor, Tensor]:
    """A training set in which some images have a trigger and the label `target`; the inputs stay as they are.

    Args:
        x, y:        (n, C, H, W) images of 0 to 1 and (n,) labels.
        trigger:     function of images.
        target:      class.
        share:       of all images that is changed: the first of other classes, or of the target with
                     `clean_label`.
        clean_label: whether labels stay as they are.
    Raises:
        ValueError: share is not in [0, 1], or no image can be changed.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1], got {share}")
    rows = torch.nonzero((y == target) == clean_label)[:, 0][: round(share * len(y))]
    if share and not len(rows):
        raise ValueError(
            f"no image of {len(y)} would be poisoned towards class {target} at a share of {share}"
        )
    x, y = x.clone(), y.clone()
    x[rows], y[rows] = trigger(x[rows]), target
    return x, y


@torch.no_grad()
def success_rate(network: nn.Module, x: Tensor, y: Tensor, trigger: Trigger, target: int = 0) -> float:
    """Share of triggered images of other classes that a network, given images of 0 to 1, says are `target`.

    Raises:
        ValueError: there are no images of other classes.
    """
    others = y != target
    if not others.any():
        raise ValueError(f"all images are of class {target}, so none can be turned into it")
    return float((network(trigger(x[others])).argmax(1) == target).float().mean())
