"""What a network says of a window, whichever network it is."""

from typing import NamedTuple

import torch
from torch import Tensor

OFF = -1e4  # logit of attention to padding: exp of it is 0, and adding to it stays exact enough


class Answer(NamedTuple):
    """What the last tokens say; one row a token.

    order:    (b, n) token of the window that speaks.
    mask:     (b, n) whether it may speak: real, and of the last scans.
    logit:    (b, n) of being the last measurement of an object that is alive.
    mean:     (b, n, 4) state of that object at the last scan.
    log_std:  (b, n, 4) of the state.
    """

    order: Tensor
    mask: Tensor
    logit: Tensor
    mean: Tensor
    log_std: Tensor


def gathered(a: Tensor, order: Tensor) -> Tensor:
    """Rows (b, n, ...) in another order (b, k)."""
    index = order.reshape(*order.shape, *[1] * (a.ndim - 2)).expand(-1, -1, *a.shape[2:])
    return a.gather(1, index)


def of_age(table: Tensor, age: Tensor) -> Tensor:
    """Rows (b, n, width) of a table (scans, width) for tokens (b, n).

    As a product in single precision: of an index a GPU would add the gradients of one row in turn.
    """
    scan = age[..., None] == torch.arange(len(table), device=age.device)
    with torch.autocast(age.device.type, enabled=False):
        return scan.float() @ table
