"""What holds while a teacher is asked: it stays as it is, and memory that is out says so."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from adapt.data_free.checks import out_of_memory, same_numbers


@contextmanager
def untouched(teacher: nn.Module) -> Iterator[None]:
    """While it is used, no weight of the teacher collects gradients, and it ends as it began.

    Raises:
        RuntimeError: it has been changed.
    """
    wanted = [(p, p.requires_grad) for p in teacher.parameters()]
    before = {name: value.clone() for name, value in _numbers(teacher).items()}
    for p, _ in wanted:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p, flag in wanted:
            p.requires_grad_(flag)
    after = _numbers(teacher)
    changed = [name for name, value in before.items() if not same_numbers(value, after[name])]
    if changed:
        raise RuntimeError(
            f"the teacher changed while it was asked: {', '.join(changed[:3])}. Its forward pass must "
            "not write to its buffers."
        )


def _numbers(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in network.named_parameters()} | dict(network.named_buffers())


@contextmanager
def enough_memory(batch: int) -> Iterator[None]:
    """Running out of memory is an error that says what to do."""
    try:
        yield
    except RuntimeError as error:
        if out_of_memory(error):
            raise RuntimeError(
                f"there is not enough memory for batches of {batch}. Take a smaller batch, or first order "
                "instead of second."
            ) from None
        raise
