"""What a student is reminded of: a ring of earlier batches, or a variational autoencoder of them.

`sample(teacher, generator)` gives earlier inputs or None; `remember(x, teacher, moment, generator)` is called
after every student step.
"""

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.data_free.context import asked
from adapt.data_free.sources import Moment
from adapt.data_free.terms import TINY


class Memory(Protocol):
    """What a distiller asks of a memory."""

    def sample(self, teacher: nn.Module, generator: torch.Generator) -> Tensor | None:
        """(m, *shape) earlier inputs, or None while there are none."""

    def remember(self, x: Tensor, teacher: nn.Module, moment: Moment, generator: torch.Generator) -> None:
        """Take note of what the student has just seen."""

    def state(self) -> dict[str, Any]:
        """All that is needed to go on."""

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""


class NoMemory:
    """Nothing is remembered."""

    def sample(self, teacher: nn.Module, generator: torch.Generator) -> Tensor | None:
        """None, as there is nothing that was kept."""
        return None

    def remember(self, x: Tensor, teacher: nn.Module, moment: Moment, generator: torch.Generator) -> None:
        """Nothing is kept."""

    def state(self) -> dict[str, Any]:
        """An empty one, as there is nothing to keep."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Nothing changes."""


class RingBuffer:
    """Parts of the last batches of epochs; the oldest is overwritten. MB-DFKD; LRA's first variant.

    Args:
        capacity: batches.
        every:    epochs between two that are kept.
        start:    first epoch that is kept: what an untrained generator made does harm while it stays.
        fraction: of a batch that is kept.
    """

    def __init__(self, capacity: int = 10, every: int = 5, start: int = 0, fraction: float = 1 / 8):
        if capacity < 1 or every < 1 or not 0 < fraction <= 1:
            raise ValueError(
                f"capacity and every must be at least 1 and fraction in (0, 1], got {capacity}, {every}, "
                f"{fraction}"
            )
        self.capacity, self.every, self.start, self.fraction = capacity, every, start, fraction
        self.kept: list[Tensor] = []  # on the CPU
        self.next = 0

    def sample(self, teacher: nn.Module, generator: torch.Generator) -> Tensor | None:
        """One of the kept batches, at random."""
        if not self.kept:
            return None
        k = int(torch.randint(len(self.kept), (1,), generator=generator, device=generator.device))
        return self.kept[k].to(generator.device)

    def remember(self, x: Tensor, teacher: nn.Module, moment: Moment, generator: torch.Generator) -> None:
        """Keep the first inputs of the last batch of every so many epochs; at least two, for batch norm."""
        if not moment.last or moment.epoch < self.start or (moment.epoch - self.start) % self.every:
            return
        part = x[: max(round(self.fraction * len(x)), 2)].detach().cpu().clone()
        if len(self.kept) < self.capacity:
            self.kept.append(part)
        else:
            self.kept[self.next] = part
        self.next = (self.next + 1) % self.capacity

    def state(self) -> dict[str, Any]:
        """The batches, and which is overwritten next."""
        return {"kept": self.kept, "next": self.next}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.kept, self.next = [x.cpu() for x in state["kept"]], state["next"]


class VAEReplay:
    """An autoencoder of what the student has seen, which the teacher's logits keep meaningful. PRE-DFKD; LRA.

    It learns after the first steps of each round, from new inputs and its own recall of old ones. Recalled
    codes are moved by one step of Adam so that the teacher is sure of them and classes are balanced.

    Args:
        encoder:  of `networks.Encoder`.
        decoder:  from codes to inputs.
        nz:       size of a code.
        rate:     of both, by Adam.
        recall:   length of the step of a code.
        learn:    steps of a round after which it learns.
        fraction: inputs that are recalled, of a batch.

    Source: Binici et al. (AAAI 2022); the loss is 1 pixels + 1 logits + 1e-5 KL. Differs from their code: the
    encoder's input is not normalised along one axis, and the step of codes leaves other gradients alone.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        nz: int,
        rate: float = 5e-4,
        recall: float = 0.02,
        learn: int = 4,
        fraction: float = 1 / 8,
    ):
        self.encoder, self.decoder, self.nz = encoder.train(), decoder.train(), nz
        self.recall, self.learn, self.fraction = recall, learn, fraction
        self.optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], rate)
        self.count = 0  # inputs that are recalled; 0: nothing is learned yet

    def sample(self, teacher: nn.Module, generator: torch.Generator) -> Tensor | None:
        """Recalled inputs."""
        if not self.count:
            return None
        z = torch.randn(self.count, self.nz, generator=generator, device=generator.device)
        return self._recalled(z, teacher)

    def _recalled(self, z: Tensor, teacher: nn.Module) -> Tensor:
        z = z.requires_grad_()
        t = teacher(self.decoder(z))
        p = t.softmax(1).mean(0)
        balance = (p * (p + TINY).log10()).sum()
        moments = (z.var(0, correction=0) - 1).square().mean() + z.mean(0).square().mean()
        (slope,) = torch.autograd.grad(5 * balance + F.cross_entropy(t, t.argmax(1)) + moments, z)
        with torch.no_grad():
            # the first step of Adam is this long for every number, whatever its gradient is
            return self.decoder(z - self.recall * slope / (slope.abs() + 1e-8))

    def remember(self, x: Tensor, teacher: nn.Module, moment: Moment, generator: torch.Generator) -> None:
        """Learn from new inputs and recalled ones."""
        if moment.within >= self.learn:
            return
        old = self.sample(teacher, generator)
        target = x if old is None else torch.cat((x[: max(len(x) // 2, 1)], old))
        self.count = max(round(self.fraction * len(x)), 2)
        mean, log_var = self.encoder(target)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        again = self.decoder(mean + (0.5 * log_var).exp() * noise)
        spread = -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum(1).mean()
        loss = F.l1_loss(again, target) + F.l1_loss(teacher(again), asked(teacher, target)) + 1e-5 * spread
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def state(self) -> dict[str, Any]:
        """Both networks and their optimizer."""
        return {
            "encoder": self.encoder.state_dict(),
            "decoder": self.decoder.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "count": self.count,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.encoder.load_state_dict(state["encoder"])
        self.decoder.load_state_dict(state["decoder"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.count = state["count"]
