"""The one loop of source-free adaptation: what every method here shares.

A method is settings with a `plan` and a function `begin(run)`, which gives its loss of a batch and may keep
what it remembers in a closure. The run owns the model's mode, the banks of features and predictions of all
samples, the schedule and the optimiser. Labels do not exist here.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.source_free.config import USUAL, AdaptConfig
from adapt.source_free.samples import Samples
from adapt.source_free.scores import (
    effective_classes,
    entropy,
    information,
    soft_neighbourhood_density,
)
from adapt.source_free.split import Said, Split


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a method trains.

    trains:   "all", "features" (all but the head), "norms" (scales and shifts of batch norm) or "nothing".
    epochs:   passes over the samples.
    rate:     learning rate at the start.
    adam:     Adam instead of SGD with Nesterov momentum.
    """

    trains: str = "all"
    epochs: int = 15
    rate: float = 5e-3
    adam: bool = False

    def __post_init__(self):
        if self.trains not in ("all", "features", "norms", "nothing"):
            raise ValueError(f"trains must be all, features, norms or nothing, got {self.trains!r}")


EVERYTHING = Plan()
FEATURES = Plan(trains="features")
NORMS_ONCE = Plan(trains="norms", epochs=1, rate=1e-3, adam=True)
NOTHING = Plan(trains="nothing", epochs=0)


class Batch(NamedTuple):
    """What a loss is given: samples x (B, ...), their numbers (B,), what the model says, and p (B, C)."""

    x: Tensor
    rows: Tensor
    said: Said
    p: Tensor


Loss = Callable[[Batch], dict[str, Tensor]]


class Method(Protocol):
    """A method of adaptation."""

    @property
    def plan(self) -> Plan:
        """How it trains."""
        ...

    def begin(self, run: "Run") -> Loss:
        """The loss of a batch as named parts, whose sum is minimised; called once, with filled banks."""
        ...


class DivergedError(ArithmeticError):
    """Training made numbers that are not finite."""


class Run:
    """One adaptation of one model.

    features:    (n, D) of unit length, of all samples as they were last seen.
    predictions: (n, C) likewise.
    scores:      of the predictions, see `scores`, at the end of the last epoch.
    epoch, step, steps: epochs and steps done, steps in all.
    """

    def __init__(self, split: Split, samples: Samples, plan: Plan, config: AdaptConfig = USUAL):
        self.split, self.samples, self.plan, self.config = split, samples, plan, config
        self.generator = torch.Generator().manual_seed(config.seed)
        self.epochs = plan.epochs if config.epochs is None or plan.trains == "nothing" else config.epochs
        self.steps = self.epochs * len(self.order())
        self.epoch = self.step = 0
        self.neighbours = min(config.neighbours, len(samples) - 1)
        z, self.predictions = evaluate(split, samples, config.batch)
        self.features = F.normalize(z, dim=1)
        self.scores = scores_of(self.predictions)

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        return self.step / max(self.steps, 1)

    @property
    def batch(self) -> float:
        """Mean number of samples in a batch."""
        return len(self.samples) / max(self.steps // max(self.epochs, 1), 1)

    def order(self) -> list[Tensor]:
        """Numbers of the samples of each batch of an epoch, shuffled: batches as equal as can be."""
        n, only = len(self.samples), self.split.batch
        shuffled = torch.randperm(n, generator=self.generator)
        if only is not None:
            return list(shuffled.split(only))[: n // only]
        return list(shuffled.tensor_split(max(1, min(round(n / self.config.batch), n // 2))))

    def nearest(self, x: Tensor, without: Tensor | None = None, k: int | None = None) -> Tensor:
        """Numbers (B, k) of the samples whose remembered features are nearest to unit vectors x (B, D).

        Args:
            x:       (B, D).
            without: (B,) a sample that each is not to find, itself.
            k:       how many; default: `neighbours`.
        """
        near = x @ self.features.T
        if without is not None:
            near.scatter_(1, without[:, None], -torch.inf)
        return near.topk(min(k or self.neighbours, near.shape[1] - 1), dim=1).indices

    def around(self, batch: Batch) -> Tensor:
        """Numbers (B, K) of the neighbours of a batch's samples."""
        return self.nearest(F.normalize(batch.said.z.detach(), dim=1), batch.rows)

    def go(
        self, method: Method, watch: Callable[["Run"], object] = lambda run: None
    ) -> list[dict[str, float]]:
        """Train to the end, and let batch norm know the samples as they are seen then.

        Args:
            method: whose losses.
            watch:  called after each epoch.
        Returns:
            Of each epoch the mean parts of the loss and the scores of the predictions in it.
        Raises:
            DivergedError: a loss was not finite, or what is said after it.
        """
        loss, history = method.begin(self), []
        groups = _groups(self.split, self.plan.trains, self.config.backbone)
        optimiser = _optimiser(groups, self.plan, self.config)
        for _ in range(self.epochs):
            sums: dict[str, float] = {}
            for name, value in self._epoch(loss, optimiser):
                sums[name] = sums.get(name, 0.0) + value * self.epochs / self.steps
            self.epoch += 1
            self.scores = scores_of(self.predictions)
            history.append(sums | self.scores)
            watch(self)
        try:
            self.settle()
        except ValueError:  # the samples were looked at before
            raise DivergedError("predictions are not finite after adaptation") from None
        return history

    def settle(self) -> None:
        """Let batch norm remember the samples, and fill the banks with what is said in use."""
        refresh(self.split, self.samples, self.order())
        z, self.predictions = evaluate(self.split, self.samples, self.config.batch)
        self.features = F.normalize(z, dim=1)

    def _epoch(self, loss, optimiser) -> Iterator[tuple[str, float]]:
        self.split.use(batch_statistics=True)
        indices = self.order()
        device = self.features.device
        for index, x in zip(indices, self.samples.batches(indices)):
            for group in optimiser.param_groups if optimiser else ():
                group["lr"] = group["start"] * (1 + 10 * self.progress) ** -0.75
            x, index = as_input(x, self.features), index.to(device)
            said = self.split(x)
            p = said.logits.softmax(1)
            self.features[index] = F.normalize(said.z.detach(), dim=1)
            self.predictions[index] = p.detach()
            parts = loss(Batch(x, index, said, p))
            total = torch.stack(list(parts.values())).sum()
            if not total.isfinite():
                raise DivergedError(
                    f"the loss was {float(total.detach())} at step {self.step + 1} of {self.steps}"
                )
            if optimiser:
                optimiser.zero_grad(set_to_none=True)
                total.backward()
                optimiser.step()
            self.step += 1
            yield from ((name, float(value.detach())) for name, value in parts.items())


def as_input(x: Tensor, like: Tensor) -> Tensor:
    """Samples where and, if they are real numbers, of the type that the model computes in."""
    return x.to(like.device, like.dtype if x.is_floating_point() else x.dtype)


def filled(x: Tensor, batch: int | None) -> Tensor:
    """Samples (b, ...), and copies of the first up to the only number that a model takes, if there is one."""
    return x if batch is None else torch.cat((x, x[:1].expand(batch - len(x), *x.shape[1:])))


@torch.no_grad()
def evaluate(split: Split, samples: Samples, batch: int) -> tuple[Tensor, Tensor]:
    """Features (n, D) and predictions (n, C) of all samples, as the model is in use.

    Raises:
        ValueError: samples or predictions are not finite.
    """
    split.use(batch_statistics=False)
    indices = list(torch.arange(len(samples)).split(split.batch or batch))
    like = next(iter(split.model.parameters()))
    z, p = [], []
    for index, x in zip(indices, samples.batches(indices)):
        refuse_infinite(x, index, "samples hold values")
        x = as_input(x, like)
        said = split(filled(x, split.batch))
        z.append(said.z[: len(index)])
        p.append(said.logits[: len(index)].softmax(1))
        refuse_infinite(p[-1], index, "predictions of the model")
    return torch.cat(z), torch.cat(p)


def refuse_infinite(x: Tensor, index: Tensor, what: str) -> None:
    """Raise ValueError that names the first of the samples `index` (b,) whose x (b, ...) is not finite."""
    if x.is_floating_point() and not (fine := x.flatten(1).isfinite().all(1)).all():
        first = int(index[int((~fine).nonzero()[0, 0])])
        raise ValueError(
            f"{what} that are not finite, first sample {first}: leave such samples out, or fill their gaps"
        )


def refresh(split: Split, samples: Samples, indices: list[Tensor]) -> None:
    """Set what batch norm remembers to mean and variance of the samples, averaged over batches."""
    like = next(iter(split.model.parameters()))
    remember(split, (as_input(x, like) for x in samples.batches(indices)), split)


@torch.no_grad()
def remember(split: Split, batches: Iterable[Tensor], say: Callable[[Tensor], object]) -> None:
    """Set what batch norm remembers to mean and variance over batches, each by its size.

    Args:
        split:   whose layers.
        batches: (b, ...) of whatever `say` takes.
        say:     calls the split with a batch.
    """
    if not split.norms:
        return
    sums = [(torch.zeros_like(norm.mean), torch.zeros_like(norm.var)) for norm in split.norms]
    split.use(batch_statistics=True, momentum=1.0)
    total = 0
    for x in batches:
        say(x)
        total += len(x)
        for norm, (mean, var) in zip(split.norms, sums):
            mean += norm.mean * len(x)
            var += norm.var * len(x)
    for norm, (mean, var) in zip(split.norms, sums):
        norm.mean.copy_(mean / total)
        norm.var.copy_(var / total)
    split.use(batch_statistics=False)


def scores_of(p: Tensor) -> dict[str, float]:
    """Label-free scores of predictions (n, C), see `scores`."""
    return {
        "entropy": float(entropy(p).mean()),
        "information": information(p),
        "density": soft_neighbourhood_density(p),
        "classes": effective_classes(p),
    }


def _groups(split, trains, backbone) -> list[tuple[list[nn.Parameter], float]]:
    """Parameters that are trained, with factors of their learning rate."""
    head = {id(p) for p in split.head_parameters}
    named = [(name, p) for name, p in split.model.named_parameters() if id(p) not in head]
    if trains == "nothing":
        return []
    if trains == "norms":
        return [([p for norm in split.norms for p in norm.affine], 1.0)]
    first = _last_layer(named)
    groups = [([p for _, p in named[:first]], backbone), ([p for _, p in named[first:]], 1.0)]
    return groups + ([(split.head_parameters, 1.0)] if trains == "all" else [])


def _last_layer(named):
    """Where the last layer of features with a matrix begins, in the order in which parameters were made."""
    layers = [
        name.split(".parametrizations.")[0] if ".parametrizations." in name else name.rpartition(".")[0]
        for name, _ in named
    ]
    matrices = [k for k, (_, p) in enumerate(named) if p.ndim >= 2]
    return layers.index(layers[matrices[-1]]) if matrices else 0


def _optimiser(groups, plan, config) -> Any:
    rate = plan.rate if config.rate is None else config.rate
    moved = [([p for p in parameters if p.requires_grad], rate * factor) for parameters, factor in groups]
    trained = [{"params": parameters, "start": r, "lr": r} for parameters, r in moved if parameters]
    if not trained:
        return None
    if plan.adam:
        return torch.optim.Adam(trained, lr=rate)
    return torch.optim.SGD(
        trained,
        lr=rate,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        weight_decay=config.decay,
    )


def schedule(start: float, beta: float, progress: float) -> float:
    """A weight that falls: start (1 + 10 t/T)^-beta."""
    return start * math.pow(1 + 10 * progress, -beta)
