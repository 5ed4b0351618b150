"""Which prediction stands for which object: Hungarian matching, or greedy on the device.

Source: Carion et al., "End-to-End Object Detection with Transformers" (ECCV 2020), section 3.1, and MT3.
"""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def hungarian(cost: Tensor, alive: Tensor) -> Tensor:
    """Prediction (b, n) of every object, of least total cost; -1 for objects that are not there.

    Args:
        cost:  (b, k, n) finite costs of prediction k standing for object n.
        alive: (b, n) bool, which objects there are.
    """
    found = np.full(alive.shape, -1)
    for row, (table, there) in enumerate(zip(cost.detach().float().cpu().numpy(), alive.cpu().numpy())):
        columns = np.flatnonzero(there)
        prediction, column = linear_sum_assignment(table[:, columns])
        found[row, columns[column]] = prediction
    return torch.as_tensor(found, device=cost.device)


def greedy(cost: Tensor, alive: Tensor) -> Tensor:
    """As `hungarian`, but the cheapest pair first, then the cheapest of the rest; all windows at once."""
    b, k, n = cost.shape
    left = torch.where(alive[:, None], cost.detach().float(), torch.inf).clone()
    found = torch.full((b, n), -1, device=cost.device)
    window = torch.arange(b, device=cost.device)
    for _ in range(min(k, n)):
        best = left.flatten(1).argmin(1)
        row, column = best // n, best % n
        there = left[window, row, column] < torch.inf
        found[window, column] = torch.where(there, row, found[window, column])
        left[window, row] = torch.where(there[:, None], torch.inf, left[window, row])
        left[window, :, column] = torch.where(there[:, None], torch.inf, left[window, :, column])
    return found
