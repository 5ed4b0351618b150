"""Networks that are to learn tasks fast: of endpoints by BiDf-MKD and its parts, of one, of real images."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from adapt.black_box import BlackBox, InversionConfig, MetaConfig, MetaLearner, invert
from adapt.black_box.episodes import adapted, answers_kl, outer
from sims.endpoints import network, taught
from sims.few_shot import WAYS, Classes, memory_of

RATE = 0.1  # of the learning of tasks of the memory
INVERSION = InversionConfig(iterations=80, directions=20, rate=0.01, noise=32, width=16)
META = MetaConfig(
    rate=3e-3, per_class=10, steps=5, rate_inside=0.1, memory_steps=5, memory_rate=RATE, warm_up=50,
    patience=10, inversion=INVERSION,
)  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "bidf-mkd": {},
    "plain query": {"query": "plain"},
    "same query": {"query": "support"},
    "no replay": {"replay": False},
}
ROWS = ("random", "clone", *VARIANTS, "real data")


def trained(
    row: str, apis: Sequence[BlackBox], best: int, known: Classes, updates: int, seed: int
) -> nn.Module:
    """The network of a row, before it is adapted.

    Args:
        row:     one of ROWS.
        apis:    endpoints.
        best:    the one that is cloned.
        known:   classes of real images.
        updates: of the meta-model.
        seed:    of weights, inversions and tasks.
    """
    model = network(known.shape, seed)
    config = replace(META, updates=updates, seed=seed)
    if row == "random":
        return model
    if row == "clone":
        return clone(apis[best], model, known.shape, config, seed)
    if row == "real data":
        return on_real_data(known, model, config, seed)
    return MetaLearner(apis, model, known.shape, replace(config, **VARIANTS[row])).train()


def clone(
    api: BlackBox, model: nn.Module, shape: tuple[int, ...], config: MetaConfig, seed: int
) -> nn.Module:
    """A network that has learned an endpoint's answers to inputs recovered from it."""
    targets = torch.arange(WAYS).repeat_interleave(2 * config.per_class)
    return taught(model, *invert(api, targets, shape, config.inversion, seed), answers_kl)


def on_real_data(known: Classes, model: nn.Module, config: MetaConfig, seed: int) -> nn.Module:
    """MAML on the images that the endpoints were trained on."""
    memory, generator = memory_of(known.train), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.rate)
    for _ in range(config.updates):
        optimizer.zero_grad()
        for _ in range(config.episodes):
            task = memory.task(WAYS, config.shots, config.queries, generator)
            start = dict(model.named_parameters())
            steps, rate = config.memory_steps, config.memory_rate
            end = adapted(model, start, *task.support, F.cross_entropy, steps, rate)
            outer(model, end, *task.query, F.cross_entropy)[0].backward()
        optimizer.step()
    return model
