"""What FUSE minimises: tokens that agree with a teacher's, disparity that agrees, and metric depth.

Source: Sun et al. (IROS 2025, arXiv 2503.19739) and its code; SILog, Eigen, Puhrsch, Fergus (NeurIPS 2014).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

LOW, HIGH = 0.2, 0.85  # cosines of the tokens that count


def token_loss(student: list[Tensor], teacher: list[Tensor], low: float = LOW, high: float = HIGH) -> Tensor:
    """Mean of 1 - cosine over patch tokens, class token first, whose cosine lies between low and high.

    What agrees already, and what does not agree at all, has no gradient; a tap without such tokens does not
    count, and without any such tap the loss is 0.

    Args:
        student, teacher: of each tap (b, 1 + n, C).
    """
    found = []
    total = student[0].new_zeros(())
    for one, other in zip(student, teacher, strict=True):
        cosine = F.cosine_similarity(one[:, 1:].float(), other[:, 1:].float(), dim=-1)
        counted = (cosine >= low) & (cosine <= high)
        number = counted.sum()
        total = total + torch.where(counted, 1 - cosine, 0.0).sum() / number.clamp(min=1)
        found.append(number > 0)
    return total / torch.stack(found).sum().clamp(min=1)


def agreement(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    """Mean cosine of patch tokens, over taps."""
    pairs = zip(student, teacher, strict=True)
    return torch.stack([F.cosine_similarity(a[:, 1:], b[:, 1:], dim=-1).mean() for a, b in pairs]).mean()


def si_log(
    predicted: Tensor, truth: Tensor, nearest: float, farthest: float, variance: float = 0.5
) -> Tensor:
    """Root of the mean square of log errors less `variance` times the square of their mean.

    Args:
        predicted, truth: (b, H, W) depth, m; truth that is not finite or outside the limits does not count.
    """
    known = truth.isfinite() & (truth > nearest) & (truth <= farthest)
    gap = torch.log(torch.where(known, truth, 1.0) + 1e-8) - torch.log(predicted + 1e-8)
    gap = torch.where(known, gap, 0.0)
    number = known.sum().clamp(min=1)
    mean = gap.sum() / number
    return (gap.square().sum() / number - variance * mean.square()).clamp(min=1e-12).sqrt()
