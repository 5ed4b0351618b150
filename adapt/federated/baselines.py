"""Plainer repairs than FedFTG, to see what its parts are good for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.federated.terms import class_share, distil, diversity, mixture, planned_labels


@dataclass(frozen=True, kw_only=True)
class DistilConfig:
    """Settings of a plain repair.

    generator_steps: in each round, of `FedDF`.
    batches, model_steps: the model takes so many steps on each of so many batches.
    batch:           inputs.
    rate, generator_rate, fade, decay: as of `FTGConfig`.
    """

    generator_steps: int = 50
    batches: int = 10
    model_steps: int = 5
    batch: int = 50
    rate: float = 0.1
    generator_rate: float = 0.01
    fade: float = 0.998
    decay: float = 1e-3

    def __post_init__(self):
        if min(self.generator_steps, self.batches, self.model_steps) < 0 or self.batch < 2:
            raise ValueError(f"steps and batches must be at least 0 and batch at least 2, got {self}")
        if not all(0 < rate < math.inf for rate in (self.rate, self.generator_rate, self.fade)):
            raise ValueError(f"rates and fade must be positive and finite, got {self}")


class FedDF:
    """Distillation of the plain mean of the clients on what a generator makes that looks for no hard samples.

    Args:
        generator: as of `FedFTG`; it lasts from round to round.
        config:    settings.
        seed:      of labels and noise.
    Source: Lin et al. (NeurIPS 2020), which distils on other data; with a generator in place of these, as in
    the code of Zhang et al. (CVPR 2022).
    """

    def __init__(self, generator: nn.Module, config: DistilConfig = DistilConfig(), seed: int = 0):
        self.generator, self.config = generator, config
        self.noise = torch.Generator().manual_seed(seed)

    def __call__(
        self, model: nn.Module, clients: Sequence[nn.Module], counts: Tensor, number: int
    ) -> dict[str, float]:
        """Repair a merged model in place; arguments as of `FedFTG`."""
        c, device = self.config, next(model.parameters()).device
        classes = counts.shape[1]
        maker = torch.optim.Adam(self.generator.parameters(), c.fade**number * c.generator_rate)
        total = 0.0
        self.generator.train()
        for _ in range(c.generator_steps):
            z, y = self._drawn(classes, device)
            x = self.generator(z, y)
            sure = torch.stack([F.cross_entropy(client(x), y) for client in clients]).mean()
            maker.zero_grad()
            (sure + diversity(x, z)).backward()
            maker.step()
            total += float(sure.detach())
        learner = torch.optim.SGD(model.parameters(), c.fade**number * c.rate, weight_decay=c.decay)
        self.generator.eval()
        for _ in range(c.batches):
            with torch.no_grad():
                x = self.generator(*self._drawn(classes, device))
            even = torch.full((len(clients), c.batch), 1 / len(clients), device=device)
            distil(model, learner, x, mixture(clients, x, even), c.model_steps)
        return {"client cross entropy": total / max(c.generator_steps, 1)}

    def _drawn(self, classes, device):
        size = int(self.generator.noise)  # type: ignore[arg-type]
        z = torch.randn(self.config.batch, size, generator=self.noise)
        y = torch.randint(classes, (self.config.batch,), generator=self.noise)
        return z.to(device), y.to(device)


class NoiseDistillation:
    """FedFTG's distillation, labels and trust, on uniform noise instead of what a generator makes.

    Args:
        shape:     of one input.
        low, high: range of the noise.
        config:    settings.
        seed:      of labels and noise.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        low: float = 0.0,
        high: float = 1.0,
        config: DistilConfig = DistilConfig(),
        seed: int = 0,
    ):
        self.shape, self.low, self.high, self.config = tuple(shape), low, high, config
        self.rng = np.random.default_rng(seed)

    def __call__(
        self, model: nn.Module, clients: Sequence[nn.Module], counts: Tensor, number: int
    ) -> dict[str, float]:
        """Repair a merged model in place; arguments as of `FedFTG`."""
        c, device = self.config, next(model.parameters()).device
        share = class_share(counts.to(device, torch.float32))
        labels = planned_labels(counts.sum(0).numpy(), c.batches * c.batch, self.rng).to(device)
        learner = torch.optim.SGD(model.parameters(), c.fade**number * c.rate, weight_decay=c.decay)
        for y in labels.split(c.batch):
            drawn = self.rng.uniform(self.low, self.high, (len(y), *self.shape)).astype(np.float32)
            x = torch.from_numpy(drawn).to(device)
            distil(model, learner, x, mixture(clients, x, share[:, y]), c.model_steps)
        return {}
