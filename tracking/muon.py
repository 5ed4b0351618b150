"""Muon, the optimizer of layers' matrices and kernels; all of one shape move together."""

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Momentum whose direction is made orthogonal.

    Kernels (out, in, k, k) are taken as matrices (out, in k k). Updates have the size that AdamW's have.
    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); size, Liu et al.,
        "Muon is Scalable for LLM Training" (arXiv 2502.16982), section 2.2.
    """

    def __init__(self, params, lr: float, momentum: float = 0.95, decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure=None):
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for same in _of_one_shape(p for p in group["params"] if p.grad is not None):
                grads = [p.grad for p in same]
                means = [self.state[p].setdefault("mean", torch.zeros_like(p)) for p in same]
                torch._foreach_lerp_(means, grads, 1 - group["momentum"])
                ahead = torch.stack(torch._foreach_lerp(grads, means, group["momentum"])).flatten(2)
                size = 0.2 * max(ahead.shape[1:]) ** 0.5
                moves = orthogonal(ahead).reshape(-1, *same[0].shape)
                if group["decay"]:
                    torch._foreach_mul_(same, 1 - group["lr"] * group["decay"])
                torch._foreach_add_(same, list(moves), alpha=-group["lr"] * size)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """Nearly U V^T of matrices U S V^T (..., r, c): Newton and Schulz's iteration of degree five.

    On a GPU the iteration runs in bfloat16, as its authors have it.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if tall else matrix
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    x = x.bfloat16() if x.is_cuda else x
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return (x.mT if tall else x).to(matrix.dtype)


def _of_one_shape(params) -> list[list[Tensor]]:
    groups: dict[torch.Size, list[Tensor]] = {}
    for p in params:
        groups.setdefault(p.shape, []).append(p)
    return list(groups.values())
