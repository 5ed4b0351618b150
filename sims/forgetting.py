"""Sources of one pair of classes an epoch, the pairs in turn: whoever learns of them forgets the others."""

from typing import Any

import torch
from torch import Tensor, nn

from adapt.data_free.context import Context
from adapt.data_free.sources import InversionSource, Moment, Parts, TensorSource
from adapt.data_free.terms import TINY
from sims.teachers import Task


class PairsOfImages(TensorSource):
    """Real images of the pair, with noise."""

    def __init__(self, task: Task, noise: float = 0.1):
        super().__init__(task.given(task.x))
        self.task, self.noise, self.pair = task, noise, 0

    def refresh(
        self, teacher: nn.Module, student: nn.Module, moment: Moment, generator: torch.Generator
    ) -> Parts:
        """The pair of the epoch."""
        self.pair = moment.epoch % (self.task.classes // 2)
        return {}

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n of the pair."""
        rows = torch.nonzero(self.task.y // 2 == self.pair)[:, 0]
        rows = rows[torch.randint(len(rows), (n,), generator=generator)]
        x = self.x[rows]
        return x + self.noise * torch.randn(x.shape, generator=generator)

    def state(self) -> dict[str, Any]:
        """The pair, which is drawn from until the next refresh."""
        return {"pair": self.pair}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.pair = state["pair"]


class PairsInverted(InversionSource):
    """Inputs of the pair alone, inverted in the epoch itself: those of the last pair are not kept."""

    pair = -1

    def refresh(
        self, teacher: nn.Module, student: nn.Module, moment: Moment, generator: torch.Generator
    ) -> Parts:
        """One more batch of the pair of the epoch."""
        pair = moment.epoch % (self.classes // 2)
        if pair != self.pair:
            self.pair, self.pool.x = pair, None
        return super().refresh(teacher, student, moment, generator)

    def labels(self, moment: Moment, generator: torch.Generator) -> Tensor:
        """Either of the pair."""
        return 2 * self.pair + torch.randint(2, (self.batch,), generator=generator, device=generator.device)

    def state(self) -> dict[str, Any]:
        """The pool, of the pair."""
        return super().state() | {"pair": self.pair}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        super().load(state)
        self.pair = state["pair"]


class InPair:
    """Term of a generator: the teacher sees in its images one of the pair of classes of the epoch.

    Args:
        epochs: of the run.
    """

    def __init__(self, epochs: int):
        self.epochs = epochs

    def __call__(self, context: Context) -> Tensor:
        """Minus the mean logarithm of the probability of either."""
        epoch = int(context.progress * self.epochs + 1e-6)  # an epoch's first step is k / epochs, rounded
        first = 2 * (epoch % (context.t.shape[1] // 2))
        p = context.t.softmax(1)[:, first : first + 2].sum(1)
        return -(p + TINY).log().mean()
