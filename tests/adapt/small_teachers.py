"""Small networks that are as sure and as used to data as trained ones, for tests of distillation."""

import torch

from adapt.data_free import networks


def network(seed, name, shape, classes=4):
    """Random weights, and running statistics that are not those of the start."""
    torch.manual_seed(seed)
    made = networks.build(name, shape, classes)
    with torch.no_grad():
        for _ in range(3):
            made.train()(2 * torch.randn(32, *shape) + 1)
        [p for p in made.parameters() if p.ndim == 2][-1].mul_(10)  # a random network is sure of nothing
    return made.eval()
