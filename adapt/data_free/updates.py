"""How a student is moved: parts of a loss whose sum is minimised, one step of the optimizer for each.

Only the pass that is meant to do so changes the student's running statistics; all others leave them alone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from adapt.data_free.context import asked, undisturbed
from adapt.data_free.memory import Memory
from adapt.data_free.sources import Parts, Source
from adapt.data_free.terms import l1

Loss = Callable[[Tensor, Tensor], Tensor]  # (student's logits, teacher's) -> scalar


@dataclass(frozen=True)
class Step:
    """What an update may look at: the new inputs x (b, *shape), and who takes part."""

    x: Tensor
    teacher: nn.Module
    student: nn.Module
    memory: Memory
    source: Source
    generator: torch.Generator
    number: int = 0  # of student steps done


class Update(Protocol):
    """What a distiller asks of an update."""

    def __call__(self, step: Step) -> Parts:
        """Parts of the loss, by name."""

    def state(self) -> dict[str, Any]:
        """All that is needed to go on."""

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""


class Plain:
    """The student learns from new inputs alone. DAFL, DFAD, DFQ, CMI."""

    def __init__(self, loss: Loss = l1):
        self.loss = loss

    def __call__(self, step: Step) -> Parts:
        """One part."""
        return {"distill": self.loss(step.student(step.x), asked(step.teacher, step.x))}

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Nothing changes."""


class Replay(Plain):
    """Old inputs are put beside the new ones: one pass, one mean over all of them. MB-DFKD, PRE-DFKD."""

    def __call__(self, step: Step) -> Parts:
        """One part."""
        old = step.memory.sample(step.teacher, step.generator)
        return {"distill": _replayed(self.loss, step, old)}


class MetaRetain(Plain):
    """Learning the new is meta-train, keeping the old meta-test: LRA.

    With L of new and of old inputs, and th' = th - inner_rate * grad L_new(th), it minimises the loss of
    `Replay` plus L_old(th'). The first order takes the gradient of L_new for a constant. With inner_rate = 0
    it is replay with more weight on memory: the control that says what the meta step itself does.

    Source: Patel, Mopuri, Qiu (CVPR 2023), eq. (7). Their released code detaches L_old(th') from th; here its
    gradient is there.
    """

    def __init__(self, loss: Loss = l1, inner_rate: float = 0.9, second_order: bool = True):
        super().__init__(loss)
        if not 0 <= inner_rate < math.inf:
            raise ValueError(f"inner_rate must be at least 0 and finite, got {inner_rate}")
        self.inner_rate, self.second_order = inner_rate, second_order

    def __call__(self, step: Step) -> Parts:
        """`distill` and, once there is a memory, `retain`."""
        old = step.memory.sample(step.teacher, step.generator)
        if old is None:
            return {"distill": _replayed(self.loss, step, None)}
        retain = self.retain(step, old)
        return {"distill": _replayed(self.loss, step, old), "retain": retain}

    def retain(self, step: Step, old: Tensor) -> Tensor:
        """L_old(th'), differentiable in the student's parameters th."""
        th = {name: p for name, p in step.student.named_parameters() if p.requires_grad}
        new = self.loss(undisturbed(step.student, step.x), asked(step.teacher, step.x))
        slopes = torch.autograd.grad(
            new, list(th.values()), create_graph=self.second_order, allow_unused=True
        )
        moved = {
            name: p if g is None else p - self.inner_rate * g for (name, p), g in zip(th.items(), slopes)
        }
        rest = {name: p for name, p in step.student.named_parameters() if not p.requires_grad}
        return self.loss(undisturbed(step.student, old, moved | rest), asked(step.teacher, old))


def _replayed(loss: Loss, step: Step, old: Tensor | None) -> Tensor:
    x = step.x if old is None else torch.cat((step.x, old))
    return loss(step.student(x), asked(step.teacher, x))
