"""The terms of FedFTG: whom to trust, which labels, what the generator is after, what the model learns.

Source: Zhang, Shen, Ding, Tao, Duan (CVPR 2022, arXiv 2203.09249), and the authors' code where it is said.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-6  # of the authors' code, below the counts of a class


def class_share(counts: Tensor) -> Tensor:
    """(k, classes) trust in each client for each class: columns sum to 1, or 0 where nobody has it."""
    return counts / (counts.sum(0) + EPS)


def planned_labels(counts: np.ndarray, number: int, rng: np.random.Generator) -> Tensor:
    """(number,) labels in the proportions of counts (classes,), each exact to one, shuffled.

    Raises:
        ValueError: no class has a count above 0.
    """
    total = float(np.sum(counts))
    if not total > 0:
        raise ValueError(f"there is no class to draw labels of, the counts are {np.asarray(counts).tolist()}")
    exact = np.asarray(counts, np.float64) * number / total
    whole = np.floor(exact).astype(np.int64)
    rest = number - whole.sum()
    whole[np.argsort(whole - exact, kind="stable")[:rest]] += 1  # those that lost most by rounding down
    return torch.from_numpy(rng.permutation(np.repeat(np.arange(len(whole)), whole)))


def _kl(ours: Tensor, theirs: Tensor) -> Tensor:
    log_p, log_q = ours.log_softmax(-1), theirs.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def _l1(ours: Tensor, theirs: Tensor) -> Tensor:
    return (ours - theirs.detach()).abs().mean(-1)


# logits of the model and of a client (b, classes) -> (b,)
DISCREPANCIES = {"kl": _kl, "l1": _l1}


def fidelity(logits: Tensor, y: Tensor, share: Tensor, exact: bool = False) -> Tensor:
    """Cross entropy of a client's logits (b, classes) and labels (b,), weighted with its share (b,) of each.

    exact: as in the authors' code, mean cross entropy times mean share.
    """
    if exact:
        return F.cross_entropy(logits, y) * share.mean()
    return (share * F.cross_entropy(logits, y, reduction="none")).mean()


def diversity(x: Tensor, z: Tensor) -> Tensor:
    """How alike inputs (b, ...) of noise (b, n) are, in (0, 1]: small when other noise makes other inputs.

    Source: the diversity loss of FedGen (Zhu, Hong, Zhou, ICML 2021), which FedFTG takes over.
    """
    flat = x.flatten(1)
    inputs = torch.cdist(flat, flat, p=1.0) / flat.shape[1]
    square = z.square().sum(1)
    noise = ((square[:, None] + square - 2 * z @ z.T) / z.shape[1]).clamp(min=0)
    return (-inputs * noise).mean().exp()


@torch.no_grad()
def mixture(clients: Sequence[nn.Module], x: Tensor, share: Tensor) -> Tensor:
    """(b, classes) the clients' probabilities of inputs (b, ...), mixed by share (k, b)."""
    said = torch.stack([client(x).softmax(-1) for client in clients])
    return (share[..., None] * said).sum(0)


def distil(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, wanted: Tensor, steps: int) -> None:
    """Steps of a model towards wanted probabilities (b, classes) of inputs (b, ...)."""
    for _ in range(steps):
        loss = -(wanted * model(x).log_softmax(-1)).mean()  # over inputs and classes, as in the authors' code
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
