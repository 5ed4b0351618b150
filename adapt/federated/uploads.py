"""What clients send to the server, and why some of it is not used."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapt.federated.local import Weights


@dataclass(frozen=True)
class Upload:
    """What the server has of a client after a round.

    client:  its number.
    weights: parameters after training, by name.
    buffers: of the model, such as statistics of batches, by name.
    samples: how many it has trained on.
    counts:  (classes,) how many of each class it says it has.
    steps:   gradient steps it has taken.
    rate:    learning rate of them.
    loss:    its mean loss meanwhile.
    """

    client: int
    weights: Weights
    buffers: Weights
    samples: int
    counts: Tensor
    steps: int
    rate: float
    loss: float


@dataclass(frozen=True)
class Exclusion:
    """A client whose update was not used in a round, and why."""

    client: int
    reason: str

    def __str__(self) -> str:
        return f"client {self.client}: {self.reason}"


def misfit(weights: Weights, start: Weights) -> str | None:
    """How weights differ from others in names, shapes or types of numbers; None: they do not."""
    if weights.keys() != start.keys():
        odd = sorted(weights.keys() ^ start.keys())
        return f"its weights are of another model, they differ in {', '.join(odd[:3])}"
    for name, value in weights.items():
        if value.shape != start[name].shape:
            return f"{name} has shape {tuple(value.shape)}, not {tuple(start[name].shape)}"
        if value.dtype != start[name].dtype:  # else whole numbers would pass any bound
            return f"{name} has numbers of {value.dtype}, not {start[name].dtype}"
    return None


def fault(weights: Weights, start: Weights, bound: float | None = None) -> str | None:
    """What is wrong with uploaded weights; None: nothing.

    Args:
        weights: uploaded.
        start:   what the client was sent.
        bound:   largest Euclidean norm of the change of all of them together.
    """
    wrong = misfit(weights, start)
    if wrong is not None:
        return wrong
    if not all(bool(value.isfinite().all()) for value in weights.values()):
        return "its weights are not finite"
    norm = update_norm(weights, start)
    if bound is not None and norm > bound:
        return f"its update has norm {norm:.3g}, accepted are {bound:g}"
    return None


def update_norm(weights: Weights, start: Weights) -> float:
    """Euclidean norm of a change of weights; whole numbers, which only count, are left out."""
    squares = [
        (value.double() - start[name].double()).square().sum()
        for name, value in weights.items()
        if value.is_floating_point()
    ]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


def parameters_of(model: nn.Module) -> Weights:
    """Copies of a model's parameters, by name."""
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def buffers_of(model: nn.Module) -> Weights:
    """Copies of a model's buffers, by name."""
    return {name: b.detach().clone() for name, b in model.named_buffers()}


@torch.no_grad()
def put(model: nn.Module, weights: Weights) -> None:
    """Copy parameters and buffers into a model, by name."""
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    for name, value in weights.items():
        own[name].copy_(value)


def average(weights: Sequence[Weights], parts: Iterable[float]) -> Weights:
    """Mean of weights in proportion to `parts`; whole numbers are those of the first."""
    share = torch.tensor(list(parts), dtype=torch.float64)
    share /= share.sum()
    return {
        name: sum((float(s) * w[name].double() for s, w in zip(share, weights)), torch.zeros(())).to(
            first.dtype
        )
        if first.is_floating_point()
        else first.clone()
        for name, first in weights[0].items()
    }
