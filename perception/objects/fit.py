"""How `ObjectNet` learns of frames and events whose things are known, as a loss of `perception.training`."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception.depth.fuse import KINDS
from perception.depth.pairs import PairSource
from perception.objects.network import REACH

Loss = Callable[[nn.Module, np.random.Generator], dict[str, Tensor]]
SHARES = (0.5, 0.25, 0.25)  # of KINDS among what is learned
WEIGHTS = {"there": 3.0, "way": 1.0, "depth": 0.5}


def find(pairs: PairSource, batch: int = 16) -> Loss:
    """Log loss of things, distance to their middles, and Laplace's likelihood of their depth.

    Of every sample both frame and events count, or one of them, so that one network serves all three.

    Raises:
        ValueError: nothing is known of things.
    """
    _known(pairs[:1])

    def loss(network: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
        device = next(network.parameters()).device
        part = pairs[rng.integers(0, len(pairs), batch)]
        kind = torch.from_numpy(rng.choice(len(KINDS), batch, p=SHARES)).to(device)
        frames, voxels, known = (
            torch.from_numpy(np.asarray(a, np.float32)).to(device)
            for a in (part.seen, part.voxels, _known(part))
        )
        if rng.random() < 0.5:  # a mirror leaves polarity alone
            frames, voxels, known = (a.flip(-1) for a in (frames, voxels, known))
            known[:, 1] *= -1
        answer = network(frames, voxels, kind)
        there, way, depth = known[:, 0], known[:, 1:3], known[:, 3]
        counts, on = there >= 0, there > 0
        found = F.binary_cross_entropy_with_logits(answer.there, there.clamp(min=0), reduction="none")
        apart = (answer.way - way).abs().sum(1) / REACH
        likely = (answer.depth - depth).abs() * (-answer.doubt).exp() + answer.doubt
        parts = {"there": (found, counts), "way": (apart, on), "depth": (likely, on)}
        return {
            name: WEIGHTS[name] * (value * where).sum() / where.sum().clamp(min=1)
            for name, (value, where) in parts.items()
        }

    return loss


def _known(pairs) -> np.ndarray:
    if pairs.objects is None:
        raise ValueError("a finder learns from things whose middles are known, and the pairs have none")
    return pairs.objects
