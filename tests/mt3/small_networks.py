"""Networks small enough for tests."""

import torch

from tracking.mt3.attention import TrajectoryConfig

ALL = 100_000  # a cascade that leaves tokens out is not continuous, so it has tests of its own
SMALL = TrajectoryConfig(width=32, heads=4, hidden=48, keep=(ALL, ALL, ALL), last_scans=4, refine=(ALL,))
SMALL_MT3 = {"width": 32, "heads": 4, "hidden": 48, "encoder": 2, "decoder": 2}


def stirred(network, seed=0):
    """The network with every parameter moved a little, so that nothing is zero by construction."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            p += 0.05 * torch.randn(p.shape, generator=generator)
    return network.eval()
