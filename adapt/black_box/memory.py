"""Recovered inputs by class, from which few-shot tasks are made that no endpoint ever had."""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Task(NamedTuple):
    """Support and query of a few-shot task: inputs (n, ...) and classes (n,) from 0."""

    support: tuple[Tensor, Tensor]
    query: tuple[Tensor, Tensor]


class TaskMemory:
    """The last batches of recovered inputs of each class.

    Args:
        limit: batches that are kept of a class; the oldest make room.
    """

    def __init__(self, limit: int = 20):
        self.limit = limit
        self.batches: dict[str, list[Tensor]] = {}

    def add(self, name: str, x: Tensor) -> None:
        """Keep inputs (n, ...) of a class."""
        kept = self.batches.setdefault(name, [])
        kept.append(x.detach().clone())
        del kept[: -self.limit]

    def task(self, ways: int, shots: int, queries: int, generator: torch.Generator) -> Task:
        """A task of classes of any endpoints.

        Args:
            ways:      classes.
            shots:     inputs of each in the support.
            queries:   of each in the query, fewer if there are not so many.
            generator: of the choice.
        Raises:
            ValueError: there are not so many classes, or not so many inputs of one.
        """
        names = sorted(self.batches)
        if len(names) < ways:
            raise ValueError(f"the memory has {len(names)} classes, the task is of {ways}")
        chosen = torch.randperm(len(names), generator=generator)[:ways].tolist()
        pools = [torch.cat(self.batches[names[k]]) for k in chosen]
        most = min(len(pool) for pool in pools) - shots
        if most < 1:
            raise ValueError(f"a class has {most + shots} inputs in the memory, a task needs {shots + 1}")
        each = min(queries, most)
        rows = [p[torch.randperm(len(p), generator=generator)[: shots + each]] for p in pools]
        return Task(
            (torch.cat([r[:shots] for r in rows]), torch.arange(ways).repeat_interleave(shots)),
            (torch.cat([r[shots:] for r in rows]), torch.arange(ways).repeat_interleave(each)),
        )

    def state(self) -> dict[str, Any]:
        """Its content, of tensors."""
        return {name: list(batches) for name, batches in self.batches.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take on a content."""
        self.batches = {str(name): list(batches) for name, batches in state.items()}
