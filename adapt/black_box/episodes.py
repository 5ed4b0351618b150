"""What a meta-model does with a task: an inner loop on the support, and a loss on the query, through it.

Source: Finn et al. (MAML, ICML 2017); Hu et al. (ICML 2023) for answers of endpoints in place of labels.
"""

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from adapt.black_box.inversion import SMALLEST

Parameters = Mapping[str, Tensor]
Fit = Callable[[Tensor, Tensor], Tensor]  # logits (n, classes) and what is wanted of them -> scalar


def answers_kl(logits: Tensor, p: Tensor) -> Tensor:
    """Mean KL divergence of a model's probabilities from an endpoint's p (n, classes)."""
    return F.kl_div(logits.log_softmax(-1), p.clamp(min=SMALLEST), reduction="batchmean")


def inner_product(logits: Tensor, p: Tensor) -> Tensor:
    """What the authors' code has in place of `answers_kl`: minus the mean product of probabilities."""
    return -(logits.softmax(-1) * p).mean()


def adapted(
    model: nn.Module,
    start: Parameters,
    x: Tensor,
    wanted: Tensor,
    fit: Fit,
    steps: int,
    rate: float,
    first_order: bool = False,
) -> Parameters:
    """Parameters after steps of gradient descent, as a function of those at the start.

    Args:
        model:       gives logits; its own parameters are neither used nor changed.
        start:       parameters by name.
        x, wanted:   (n, ...) inputs, and what `fit` wants of the logits.
        fit:         loss.
        steps, rate: of the descent.
        first_order: leave out how the gradients themselves depend on the start.
    """
    now = dict(start)
    for _ in range(steps):
        loss = fit(functional_call(model, now, (x,)), wanted)
        slopes = torch.autograd.grad(loss, list(now.values()), create_graph=not first_order)
        now = {name: p - rate * g for (name, p), g in zip(now.items(), slopes)}
    return now


def outer(
    model: nn.Module, parameters: Parameters, x: Tensor, wanted: Tensor, fit: Fit
) -> tuple[Tensor, float]:
    """Loss on a query, and the share of it that has its (most probable) class."""
    logits = functional_call(model, dict(parameters), (x,))
    label = wanted if wanted.ndim == 1 else wanted.argmax(-1)
    return fit(logits, wanted), float((logits.argmax(-1) == label).double().mean())


def few_shot(
    model: nn.Module, support: tuple[Tensor, Tensor], steps: int = 10, rate: float = 0.01
) -> nn.Module:
    """A copy of a meta-model that has learned a task.

    Args:
        model:   as of `meta_learn`; it is not changed.
        support: (n, ...) inputs and (n,) classes from 0.
        steps, rate: of gradient descent on all of the support at once.
    """
    x, y = support
    if len(x) != len(y) or not len(x):
        raise ValueError(
            f"a support needs a class for each input and at least one, got {len(x)} and {len(y)}"
        )
    copied = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD(copied.parameters(), rate)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(copied(x), y).backward()
        optimizer.step()
    return copied
