"""Losses of source-free adaptation as pure functions: tensors in, a scalar out.

p (B, C) are predictions of a batch with gradients, `bank` (B, K, C) those of the K neighbours of each,
remembered and so constants.
"""

import torch
from torch import Tensor

from adapt.source_free.scores import EPS, entropy


def certainty(p: Tensor) -> Tensor:
    """Mean entropy of predictions. Source: Wang et al. (ICLR 2021), Tent."""
    return entropy(p).mean()


def im(p: Tensor) -> Tensor:
    """Information maximisation: mean entropy minus entropy of the mean.

    Source: Liang et al. (ICML 2020), SHOT.
    """
    return entropy(p).mean() - entropy(p.mean(0, keepdim=True)).sum()


def attraction(p: Tensor, bank: Tensor, weight: Tensor | None = None) -> Tensor:
    """- sum over neighbours of <p, P>, batch mean; neighbours may have weights (B, K)."""
    near = (p[:, None] * bank).sum(-1)
    return -(near if weight is None else weight * near).sum(1).mean()


def repulsion(p: Tensor, power: int) -> Tensor:
    """Sum over the others of a batch of <p_i, p_j>^power, batch mean."""
    same = (p @ p.T).pow(power)
    return (same.sum() - same.diagonal().sum()) / len(p)


def aad(p: Tensor, bank: Tensor, alpha: float) -> Tensor:
    """Attraction to neighbours and dispersion of the batch. Source: Yang et al. (NeurIPS 2022), AaD."""
    return attraction(p, bank) + alpha * repulsion(p, 1)


def snc(p: Tensor, bank: Tensor, alpha: float) -> Tensor:
    """Spectral neighbourhood clustering: AaD with a squared dispersion.

    Source: Hwang et al. (ICLR 2024), SF(DA)^2.
    """
    return attraction(p, bank) + alpha * repulsion(p, 2)


def nrc(p: Tensor, bank: Tensor, weight: Tensor, wider: Tensor, own: Tensor, expanded: float = 0.1) -> Tensor:
    """Neighbourhood reciprocity clustering.

    Args:
        p:        (B, C) predictions.
        bank:     (B, K, C) of the neighbours.
        weight:   (B, K) affinities: 1 for mutual neighbours, 0.1 for others.
        wider:    (B, KM, C) of the neighbours of neighbours.
        own:      (B, C) remembered predictions of the samples themselves.
        expanded: affinity of neighbours of neighbours.
    Source: Yang et al. (NeurIPS 2021), NRC.
    """
    mean = p.mean(0)
    diversity = (mean * mean.clamp(min=EPS).log()).sum()
    return (
        attraction(p, bank, weight)
        + expanded * attraction(p, wider)
        + attraction(p, own[:, None])
        + diversity
    )


def class_quadratic(weight: Tensor, cov: Tensor) -> Tensor:
    """Spread of the difference of two logits: Q[k, j, c] = (w_j - w_c)^T S_k (w_j - w_c).

    From A_k = W S_k W^T, as Q = A[j, j] + A[c, c] - A[j, c] - A[c, j]: no difference of weights is ever
    formed.

    Args:
        weight: (C, D) of the head.
        cov:    (K, D, D) covariances of features.
    """
    a = weight @ cov @ weight.T  # (K, C, C)
    own = a.diagonal(dim1=1, dim2=2)
    return own[:, :, None] + own[:, None, :] - a - a.transpose(1, 2)


def ifa(logits: Tensor, spread: Tensor, which: Tensor, strength: float) -> Tensor:
    """Implicit feature augmentation: bound of the expected loss of infinitely many augmented features.

    Args:
        logits:   (B, C).
        spread:   (K, C, C) `class_quadratic`, of the covariances of K classes.
        which:    (B,) row of `spread` that belongs to each sample.
        strength: lambda, factor of the covariance that features are augmented with.
    Source: Hwang et al. (ICLR 2024), SF(DA)^2.
    """
    shifted = logits[:, :, None] + strength / 2 * spread[which]  # (B, j, c)
    return -2 * (logits - shifted.logsumexp(1)).sum(1).mean()


def fd(cov: Tensor, affinity: Tensor) -> Tensor:
    """Feature disentanglement: confused classes shall vary in different directions.

    Args:
        cov:      (C, D, D) covariances of the features of each class.
        affinity: (C, C) how much two classes are confused; the diagonal does not count.
    Source: Hwang et al. (ICLR 2024), SF(DA)^2.
    """
    flat = cov.flatten(1)
    norm = flat.square().sum(1).clamp(min=EPS).sqrt()  # of an absent class: 0 has no gradient of its root
    cosine = flat @ flat.T / (norm[:, None] * norm + EPS)
    off = 1 - torch.eye(len(cov), dtype=cov.dtype, device=cov.device)
    return -0.5 * (affinity * off * (1 - cosine)).sum()
