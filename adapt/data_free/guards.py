"""What holds while a teacher is asked: it stays as it is, and memory that is out says so."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from adapt.data_free.checks import out_of_memory


@contextmanager
def untouched(teacher: nn.Module) -> Iterator[None]:
    """While it is used, no weight of the teacher collects gradients, and it ends as it began.

    Raises:
        RuntimeError: it has been changed.
    """
    wanted = [(p, p.requires_grad) for p in teacher.parameters()]
    before = {name: value.clone() for name, value in teacher.state_dict().items() if torch.is_tensor(value)}
    for p, _ in wanted:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p, flag in wanted:
            p.requires_grad_(flag)
    after = teacher.state_dict()
    # NaN is NaN: a buffer that was so from the start has not been changed
    changed = [n for n, v in before.items() if not torch.allclose(v, after[n], 0, 0, equal_nan=True)]
    if changed:
        raise RuntimeError(
            f"the teacher changed while it was asked: {', '.join(changed[:3])}. Its forward pass must "
            "not write to its buffers."
        )


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
