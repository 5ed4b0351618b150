"""What EventDance minimises: losses of the classifier of images on surrogates, and of networks of events.

Source: Zheng, Wang (CVPR 2024, arXiv 2403.14082).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from adapt.source_free.scores import EPS, entropy


def anchors(p: Tensor) -> Tensor:
    """(b,) which of the surrogates, whose predictions are (b, N, C), is the surest of its class."""
    return p.amax(-1).argmax(-1)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """(...) KL(p || q) of distributions (..., C)."""
    return (p * (p.clamp(min=EPS).log() - q.clamp(min=EPS).log())).sum(-1)


def source_losses(p: Tensor, anchor: Tensor) -> dict[str, Tensor]:
    """What a classifier learns from surrogates alone.

    Args:
        p:      (b, N, C) its predictions.
        anchor: (b,) surest surrogate of each stream.
    Returns:
        entropy: mean over surrogates; constancy: KL from the anchor's prediction, which is held, to the
        others'; diversity: minus the entropy of the mean prediction of anchors.
    """
    surest = p[torch.arange(len(p), device=p.device), anchor]
    others = divergence(surest.detach()[:, None], p).sum(1) / max(p.shape[1] - 1, 1)  # its own is 0
    return {
        "entropy": entropy(p.flatten(0, 1)).mean(),
        "constancy": others.mean(),
        "diversity": -entropy(surest.mean(0, keepdim=True)).sum(),
    }


def target_losses(
    logits: dict[str, Tensor], teacher: Tensor, least: float, weight: Tensor
) -> dict[str, Tensor]:
    """What networks learn from pseudo-labels, from each other and from the classifier.

    Args:
        logits:  (b, C) of each network.
        teacher: (b, C) what the classifier says of the anchors; held.
        least:   probability of an anchor that gives a pseudo-label.
        weight:  (b,) of each stream.
    """
    teacher = teacher.detach()
    sure, wanted = teacher.max(1)
    weight = weight / weight.mean().clamp(min=EPS)
    counted = weight * (sure >= least)
    p = {name: x.softmax(1) for name, x in logits.items()}
    mean = torch.stack(list(p.values())).mean(0)
    pairs = [divergence(q.detach(), r) for a, q in p.items() for b, r in p.items() if a != b]
    nothing = mean.new_zeros(())
    return {
        "supervised": torch.stack(
            [(counted * F.cross_entropy(x, wanted, reduction="none")).mean() for x in logits.values()]
        ).sum(),
        "agreement": torch.stack(pairs).mean(1).sum() if pairs else nothing,
        "teaching": (weight * divergence(teacher, mean)).mean(),
    }
