"""The derivative of a velocity along a direction of (x, t): forward mode, or two calls and a difference."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

STEP = 5e-3  # of the central difference, for float32
HOWS = ("forward", "difference")


@torch.no_grad()
def along(
    velocity: Callable[[Tensor, Tensor], Tensor],
    at: tuple[Tensor, Tensor],
    direction: tuple[Tensor, Tensor],
    how: str = "forward",
) -> Tensor:
    """Change of velocity(x, t) per step along a direction (b, ...).

    Args:
        velocity:  of a model without dropout.
        at:        x (b, ...) and t (b,).
        direction: of the same shapes.
        how:       "forward": torch.func.jvp, exact; "difference": two calls, with any kernel, relative
            error about 1e-4 in float32, nothing of worth in half precision.
    Raises:
        ValueError: another way.
    """
    if how not in HOWS:
        raise ValueError(f"derivatives are taken by one of {', '.join(HOWS)}, got {how!r}")
    if how == "forward":
        with differentiable(velocity):
            return torch.func.jvp(velocity, at, direction)[1]
    (x, t), (dx, dt) = at, direction
    ahead, behind = (velocity(x + h * dx, t + h * dt) for h in (STEP, -STEP))
    return (ahead - behind) / (2 * STEP)


@contextmanager
def differentiable(module: object) -> Iterator[None]:
    """Forward mode goes through a module meanwhile: attention by its plain kernel, group norms on copies.

    After attention a tangent may lie in memory otherwise than its primal, which group norms do not take.
    """
    norms = (
        [m for m in module.modules() if isinstance(m, nn.GroupNorm)] if isinstance(module, nn.Module) else []
    )

    def copied(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(x.clone(memory_format=torch.contiguous_format) for x in inputs)

    hooks = [norm.register_forward_pre_hook(copied) for norm in norms]
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for hook in hooks:
            hook.remove()
