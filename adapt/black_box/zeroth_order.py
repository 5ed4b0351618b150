"""Gradients of what can only be evaluated, from finite differences along random directions."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Loss = Callable[[Tensor], Tensor]  # (r, b, ...) points, r for each of b samples -> (r, b)


@torch.no_grad()
def zo_grad(
    loss: Loss,
    x: Tensor,
    directions: int = 100,
    radius: float = 5e-3,
    *,
    antithetic: bool = False,
    chunk: int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Estimated gradient of a loss of each sample, and the loss itself.

    With u_j uniform on the unit sphere of R^d,
        g = d / (q mu) sum_j (l(x + mu u_j) - l(x)) u_j,           q + 1 evaluations for each sample,
    or antithetic, with (l(x + mu u_j) - l(x - mu u_j)) / 2: 2 q evaluations, a bias of O(mu^2) and not O(mu).
    Its mean cosine with the gradient is about sqrt(q / (d + q - 1)).

    Args:
        loss:       of points (r, b, ...), r for each sample -> (r, b).
        x:          (b, ...) samples.
        directions: q.
        radius:     mu; where the loss is constant in pieces, as of trees, it must reach over these.
        antithetic: both ways along each direction.
        chunk:      directions that are drawn and evaluated at once; None: all.
        generator:  of the directions.
    Returns:
        (b, ...) gradient, (b,) loss at x (None if antithetic: it is not evaluated).
    Source: Hu et al. (ICML 2023), zero-order estimator; Nesterov and Spokoiny (2017).
    """
    if directions < 1 or not radius > 0 or (chunk is not None and chunk < 1):
        raise ValueError(
            f"directions and chunk must be at least 1 and radius above 0, got {directions}, {chunk}, {radius}"
        )
    b, d = len(x), math.prod(x.shape[1:])
    base = None if antithetic else loss(x[None])[0]
    total = torch.zeros(b, d, dtype=x.dtype, device=x.device)
    sizes = [chunk or directions] * (directions // (chunk or directions))
    sizes += [directions - sum(sizes)] if sum(sizes) < directions else []
    for size in sizes:
        u = torch.randn(size, b, d, generator=generator, dtype=x.dtype).to(x.device)
        u /= u.norm(dim=-1, keepdim=True)
        step = radius * u.reshape(size, *x.shape)
        if base is None:
            slope = (loss(x + step) - loss(x - step)) / 2
        else:
            slope = loss(x + step) - base
        total += (slope[..., None] * u).sum(0)
    return (d / (directions * radius) * total).reshape(x.shape), base
