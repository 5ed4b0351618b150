"""A training run of any network: schedule, averaged weights, clipped gradients, resumable to the step."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tracking.formats import runs
from tracking.muon import Muon


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Settings of a run.

    steps:   gradient steps.
    rate:    largest learning rate; it rises over `warm_up` steps and a cosine takes it to `final` times that.
    decay:   weight decay of AdamW.
    clip:    largest norm of a gradient.
    average: of the weights over steps: exponential, with this factor.
    muon:    factor of the learning rate of layers' matrices and kernels, which Muon moves; 0: AdamW does.
    factors: of the learning rate of parameters whose names begin so; of several, the longest counts.
    """

    steps: int = 1000
    rate: float = 1e-3
    warm_up: int = 50
    final: float = 0.02
    decay: float = 1e-4
    clip: float = 1.0
    average: float = 0.99
    muon: float = 0.0
    factors: dict[str, float] = field(default_factory=dict)


class Run:
    """Steps of AdamW over a loss.

    Args:
        network: to train.
        loss:    (network, rng) -> parts of the loss, their sum is minimised; `rng` is a NumPy generator that
                 draws the batch, and is saved with the run.
        config:  settings.
        seed:    of that generator.
        about:   what else a saved run must agree in, to be gone on with: numbers and texts.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[nn.Module, np.random.Generator], dict[str, Tensor]],
        config: RunConfig,
        seed: int = 0,
        about: dict[str, Any] | None = None,
    ):
        self.network, self.loss, self.config = network, loss, config
        self.about = dict(about or {})
        self.rng = np.random.default_rng(seed)
        self.optimizers = _optimizers(network, config)
        self.averaged = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.step = 0
        self.parts: dict[str, float] = {}

    @property
    def done(self) -> bool:
        return self.step >= self.config.steps

    def train(self, seconds: float = np.inf) -> dict[str, float]:
        """Go on for so many seconds, or to the end of the run; means of the parts of the loss meanwhile."""
        self.network.train()
        sums: dict[str, Tensor] = {}
        start, first = time.monotonic(), self.step
        while not self.done and time.monotonic() - start < seconds:
            for name, value in self._take().items():
                sums[name] = sums[name] + value if name in sums else value
        self.parts = {name: float(value) / max(self.step - first, 1) for name, value in sums.items()}
        return self.parts

    def _take(self) -> dict[str, Tensor]:
        for optimizer, factor in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = factor * group["factor"] * self._rate()
        parts = self.loss(self.network, self.rng)
        self.step += 1
        if not parts:  # nothing to learn from in this step
            return {}
        self.network.zero_grad(set_to_none=True)
        torch.stack(list(parts.values())).sum().backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        for optimizer, _ in self.optimizers:
            optimizer.step()
        share = min(self.config.average, self.step / (self.step + 10))  # the first steps are soon forgotten
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.averaged[name].lerp_(value.detach(), 1 - share)
            else:
                self.averaged[name].copy_(value)
        return {name: value.detach() for name, value in parts.items()}

    def _rate(self):
        c = self.config
        cosine = 0.5 * (1 + math.cos(math.pi * min(self.step / c.steps, 1.0)))
        return c.rate * min((self.step + 1) / max(c.warm_up, 1), 1.0) * (c.final + (1 - c.final) * cosine)

    def use_average(self) -> None:
        """Put the averaged weights into the network."""
        self.network.load_state_dict(self.averaged)

    def save(self, path: str | Path) -> None:
        """Write all that the run needs to go on as if it had not stopped."""
        runs.save(path, self._state())

    def resume(self, path: str | Path) -> None:
        """Go on from a file; a run that cannot is left as it was.

        Raises:
            ValueError: the file holds no run, or one of another network or other settings.
        """
        runs.restore(path, self._state(), self._put, ("config", "about"), "this network")

    def _state(self):
        return {
            "network": self.network.state_dict(),
            "averaged": self.averaged,
            "optimizers": [optimizer.state_dict() for optimizer, _ in self.optimizers],
            "step": self.step,
            "config": asdict(self.config),
            "about": self.about,
            "rng": _plain(self.rng.bit_generator.state),
            "torch": torch.get_rng_state(),  # for dropout
        }

    def _put(self, state):
        self.network.load_state_dict(state["network"])
        for name, value in self.averaged.items():
            if value.shape != state["averaged"][name].shape:
                raise ValueError(f"its average of {name} has another shape")
            value.copy_(state["averaged"][name])
        for (optimizer, _), saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        if type(state["step"]) is not int or not 0 <= state["step"] <= self.config.steps:
            raise ValueError(f"it says that {state['step']} of {self.config.steps} steps are done")
        self.step = state["step"]
        self.rng.bit_generator.state = _whole(state["rng"])
        torch.set_rng_state(state["torch"])


def _optimizers(network, config):
    """Optimizers with the factors of their learning rates; groups of parameters have factors of their own."""
    matrices: dict[float, list[nn.Parameter]] = {}
    rest: dict[float, list[nn.Parameter]] = {}
    for name, p in network.named_parameters():
        begins = [start for start in config.factors if name.startswith(start)]
        factor = config.factors[max(begins, key=len)] if begins else 1.0
        kind = matrices if config.muon and p.ndim >= 2 and len(p) > 2 else rest
        kind.setdefault(factor, []).append(p)
    found: list[tuple[torch.optim.Optimizer, float]] = []
    if rest:
        found.append((torch.optim.AdamW(_groups(rest), lr=config.rate, weight_decay=config.decay), 1.0))
    if matrices:
        found.append((Muon(_groups(matrices), config.rate), config.muon))
    return found


def _groups(parameters):
    return [{"params": some, "factor": factor} for factor, some in parameters.items()]


def _plain(state):
    """The state of a bit generator, whose numbers of 128 bits torch does not read back, as text."""
    return {k: _plain(v) if isinstance(v, dict) else str(v) for k, v in state.items()}


def _whole(state):
    """The reverse."""
    if isinstance(state, dict):
        return {k: _whole(v) for k, v in state.items()}
    return int(state) if state.isdigit() else state
