"""What a client does in a round: some epochs of gradient descent from the weights it was sent."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

Weights = dict[str, Tensor]  # by name
Batches = Iterable[tuple[Tensor, Tensor]]
Data = tuple[Tensor, Tensor] | Batches  # samples and labels, or a loader of batches of them


@dataclass(frozen=True, kw_only=True)
class LocalConfig:
    """Settings of the training at a client.

    epochs, batch: of each round; the batch of data that are a loader is the loader's.
    rate:          of plain gradient descent in the first round.
    fade:          factor of the rate from round to round.
    decay:         of the weights.
    clip:          largest norm of a gradient.
    """

    epochs: int = 5
    batch: int = 50
    rate: float = 0.1
    fade: float = 0.998
    decay: float = 1e-3
    clip: float = 10.0

    def __post_init__(self):
        if min(self.epochs, self.batch) < 1 or not (self.rate > 0 and 0 < self.fade <= 1 and self.clip > 0):
            raise ValueError(f"epochs, batch, rate, fade and clip must be positive, fade at most 1: {self}")

    def rate_in(self, number: int) -> float:
        """The rate of a round, which are counted from 0."""
        return self.rate * self.fade**number


class Correction(NamedTuple):
    """What a rule adds to a client's gradient: pull * (w - w_start) + shift."""

    pull: float = 0.0
    shift: Weights | None = None


class Trained(NamedTuple):
    """What came of it: gradient steps, and the mean loss without the correction."""

    steps: int
    loss: float


NOTHING = Correction()


def seeded(seed: int, number: int, client: int) -> np.random.Generator:
    """The generator of a client in a round: the same, whichever engine runs it."""
    return np.random.default_rng((seed, number, client))


def train_locally(
    model: nn.Module,
    data: Data,
    config: LocalConfig,
    rng: np.random.Generator,
    number: int = 0,
    correction: Correction = NOTHING,
) -> Trained:
    """Train a model in place on a client's data, from the weights it has.

    Args:
        model:      gives logits (b, classes).
        data:       (n, ...) samples and (n,) labels, or a loader of such batches.
        config:     settings.
        rng:        draws the batches, and seeds what is random in the model.
        number:     of the round, from 0.
        correction: of the gradient.
    Raises:
        ValueError: there was no batch, as of a loader that can be gone through but once.
    """
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    rate = config.rate_in(number)
    optimizer = torch.optim.SGD(model.parameters(), rate, weight_decay=config.decay)
    device = next(model.parameters()).device
    model.train()
    alone = not any(isinstance(m, _BatchNorm) for m in model.modules())
    steps, total = 0, torch.zeros((), device=device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**62)))
        for _ in range(config.epochs):
            for x, y in _batches(data, config.batch, rng, alone):
                loss = F.cross_entropy(model(x.to(device)), y.to(device))
                optimizer.zero_grad()
                loss.backward()
                _correct(model, start, correction)
                nn.utils.clip_grad_norm_(model.parameters(), config.clip)
                optimizer.step()
                steps, total = steps + 1, total + loss.detach()
    if not steps:
        raise ValueError(
            "there is no batch to train on; a loader must start anew each time it is gone through"
        )
    return Trained(steps, float(total) / steps)


def labels_of(data: Data) -> np.ndarray:
    """(n,) the labels of a client; a loader is gone through once."""
    if isinstance(data, tuple):
        return data[1].cpu().numpy()
    return np.concatenate([np.zeros(0, np.int64), *(y.cpu().numpy() for _, y in data)])


def _batches(
    data: Data, batch: int, rng: np.random.Generator, alone: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches in a new order; a last sample that may not be alone goes with those before it."""
    if not isinstance(data, tuple):
        yield from data
        return
    x, y = data
    parts = list(torch.from_numpy(rng.permutation(len(x))).split(batch))
    if not alone and len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    for part in parts:
        yield x[part], y[part]


def _correct(model: nn.Module, start: Weights, correction: Correction) -> None:
    pull, shift = correction
    for name, p in model.named_parameters():
        if p.grad is not None:
            if pull:
                p.grad.add_(p.detach() - start[name], alpha=pull)
            if shift is not None:
                p.grad.add_(shift[name])
