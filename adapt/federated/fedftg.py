"""FedFTG: a merged model is repaired on the server, on inputs that a generator finds, without any data.

After each merge a conditional generator looks for inputs on which the merged model disagrees with the clients
(hard samples) while they are sure of the class; there the model learns from the clients, each trusted for a
class in proportion to how much of that class it has. Labels are drawn as they are frequent at the clients.

Source: Zhang, Shen, Ding, Tao, Duan, "Fine-tuning Global Model via Data-Free Knowledge Distillation for
Non-IID Federated Learning" (CVPR 2022, arXiv 2203.09249); settings as in the authors' code.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from adapt.federated.terms import (
    DISCREPANCIES,
    class_share,
    distil,
    diversity,
    fidelity,
    mixture,
    planned_labels,
)


@dataclass(frozen=True, kw_only=True)
class FTGConfig:
    """Settings of the repair in each round.

    iterations:      times that both the generator and the model learn.
    generator_steps: of the generator in each, once for every client.
    model_steps:     of the model in each.
    batch:           inputs.
    rate:            of the model, plain gradient descent on a mean over inputs and classes.
    generator_rate:  of the generator, Adam.
    fade:            factor of both rates from round to round.
    decay:           of the model's weights.
    hard:            weight of the disagreement that the generator looks for; 0: any input will do.
    fidelity:        weight of the clients' cross entropy on what the generator makes.
    diversity:       weight of how alike the inputs of a batch are.
    discrepancy:     "kl" of the clients' answers from the model's, as in the paper, or "l1" of logits,
                     through the model only, as in the authors' code.
    sampling:        whether labels are drawn as frequent as at the clients; else all are equally frequent.
    ensemble:        whether clients are trusted class by class; else all alike.
    exact:           fidelity as in the authors' code, where the mean over a batch is weighted instead of each
                     input.
    """

    iterations: int = 10
    generator_steps: int = 1
    model_steps: int = 5
    batch: int = 50
    rate: float = 0.1
    generator_rate: float = 0.01
    fade: float = 0.998
    decay: float = 1e-3
    hard: float = 1.0
    fidelity: float = 1.0
    diversity: float = 1.0
    discrepancy: str = "kl"
    sampling: bool = True
    ensemble: bool = True
    exact: bool = False

    def __post_init__(self):
        if self.discrepancy not in DISCREPANCIES:
            raise ValueError(
                f"discrepancy must be one of {', '.join(DISCREPANCIES)}, got {self.discrepancy!r}"
            )
        if min(self.iterations, self.generator_steps, self.model_steps) < 0 or self.batch < 2:
            raise ValueError(f"iterations and steps must be at least 0 and batch at least 2, got {self}")
        if not all(0 < rate < math.inf for rate in (self.rate, self.generator_rate, self.fade)):
            raise ValueError(f"rates and fade must be positive and finite, got {self}")


class FedFTG:
    """The repair, for `federate(..., refine=FedFTG(generator))`; its generator lasts from round to round.

    Args:
        generator: a `DenseGenerator`, an `ImageGenerator` or another module like them.
        config:    settings.
        seed:      of labels and noise.
    """

    def __init__(self, generator: nn.Module, config: FTGConfig = FTGConfig(), seed: int = 0):
        self.generator, self.config = generator, config
        self.size = int(generator.noise)  # type: ignore[arg-type]
        self.rng = np.random.default_rng(seed)
        self.noise = torch.Generator().manual_seed(seed)

    def __call__(
        self, model: nn.Module, clients: Sequence[nn.Module], counts: Tensor, number: int
    ) -> dict[str, float]:
        """Repair a merged model in place; means over the iterations of what the generator is after.

        Args:
            model:   in evaluation mode: statistics of batches stay those of the clients' data.
            clients: k models.
            counts:  (k, classes) of their labels.
            number:  of the round, from 0.
        """
        c, device = self.config, next(model.parameters()).device
        if not c.iterations:
            return {}
        counts = counts.to(device, torch.float32)
        share = class_share(counts) if c.ensemble else torch.full_like(counts, 1 / len(counts))
        wanted = counts.sum(0) if c.sampling else torch.ones_like(counts[0])
        labels = planned_labels(wanted.cpu().numpy(), c.iterations * c.batch, self.rng).to(device)
        factor = c.fade**number
        maker = torch.optim.Adam(self.generator.parameters(), factor * c.generator_rate)
        learner = torch.optim.SGD(model.parameters(), factor * c.rate, weight_decay=c.decay)
        sums = {"discrepancy": 0.0, "client cross entropy": 0.0, "alike": 0.0}
        for y in labels.split(c.batch):
            z = torch.randn(len(y), self.size, generator=self.noise).to(device)
            found = self._make(maker, model, clients, share, z, y)
            sums = {name: value + found.get(name, 0.0) for name, value in sums.items()}
            with torch.no_grad():
                x = self.generator.eval()(z, y)
            distil(model, learner, x, mixture(clients, x, share[:, y]), c.model_steps)
        return {name: value / c.iterations for name, value in sums.items()}

    def _make(self, optimizer, model, clients, share, z, y) -> dict[str, float]:
        """Steps of the generator, one for each client in turn."""
        c = self.config
        self.generator.train()
        learning = [p for p in model.parameters() if p.requires_grad]
        for p in learning:
            p.requires_grad_(False)
        found = {"discrepancy": 0.0, "client cross entropy": 0.0, "alike": 0.0}
        for _ in range(c.generator_steps):
            for client, a in zip(clients, share[:, y]):
                x = self.generator(z, y)
                theirs = client(x)
                apart = (a * DISCREPANCIES[c.discrepancy](model(x), theirs)).mean()
                sure = fidelity(theirs, y, a, c.exact)
                alike = diversity(x, z)
                loss = -c.hard * apart + c.fidelity * sure + c.diversity / len(clients) * alike
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                found["discrepancy"] += float(apart.detach()) / c.generator_steps
                found["client cross entropy"] += float(sure.detach()) / c.generator_steps
                found["alike"] += float(alike.detach()) / c.generator_steps / len(clients)
        for p in learning:
            p.requires_grad_(True)
        return found
