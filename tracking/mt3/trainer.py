"""Training of MT3 networks: any source of windows, any device, resumable to the step."""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tracking.formats import runs
from tracking.mt3.graphs import Replayed
from tracking.mt3.model import Model, Task
from tracking.mt3.windows import Windows
from tracking.muon import Muon

MULTIPLE, COARSE = 8, 32  # of which numbers of tokens are multiples; coarse: where steps are recorded
LENGTH = ("minutes", "steps", "graphs")  # a run may be made longer, or go on on another device
LAYERS = ("layers", "refine", "encoder", "decoder")  # attributes of the networks that hold layers


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a training run.

    minutes:   of training, all calls together; the schedule is spread over them.
    steps:     gradient steps instead, for runs that must not depend on the speed of the machine; 0: minutes.
    batch:     windows a step.
    rate:      learning rate after `warm_up` steps; a cosine takes it to `final` times that.
    muon:      factor of the learning rate of matrices of layers, which Muon moves; 0 leaves them to AdamW.
    decay, clip: weight decay of AdamW, and the largest norm of a gradient.
    average:   of the weights over steps: exponential, with this factor.
    short:     share of the windows that are cut to fewer scans, as at the start of a stream.
    pool:      windows drawn at once, and batched by length, so that little is padding.
    bfloat16:  linear layers in bfloat16, and attention of the paper's network; trajectory attention and loss
               stay in single precision.
    graphs:    on a GPU, steps are recorded for each length of windows, and replayed.
    seed:      of the initial weights; the windows have their own.
    """

    minutes: float = 30.0
    steps: int = 0
    batch: int = 8
    rate: float = 1e-3
    muon: float = 0.0
    warm_up: int = 50
    final: float = 0.02
    decay: float = 1e-4
    clip: float = 1.0
    average: float = 0.997
    short: float = 0.1
    pool: int = 256
    bfloat16: bool = True
    graphs: bool = True
    seed: int = 0


@dataclass
class Progress:
    """How far a run is: steps, windows, seconds of training, and means of the loss since last asked."""

    step: int = 0
    windows: int = 0
    seconds: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)


class Trainer:
    """A training run.

    Args:
        network: to train, on its device.
        task:    what it is trained for.
        loss:    (network, windows) -> parts of the loss.
        draw:    number of windows -> windows.
        generator: of the windows, saved and restored with the run.
        config:  settings.
    """

    def __init__(
        self,
        network: Any,
        task: Task,
        loss: Callable[[Any, Windows], dict[str, torch.Tensor]],
        draw: Callable[[int], Windows],
        generator: torch.Generator,
        config: TrainConfig,
    ):
        self.network, self.task, self.loss, self.draw = network, task, loss, draw
        self.generator, self.config = generator, config
        self.device = next(network.parameters()).device
        self.optimizers = _optimizers(network, config)
        self.gradients: Callable[[Windows], dict[str, torch.Tensor]] = self._gradients
        self.multiple = MULTIPLE
        if config.graphs and self.device.type == "cuda":
            self.gradients, self.multiple = Replayed(self._gradients, network.parameters()), COARSE
        self.average = {k: v.detach().clone() for k, v in network.state_dict().items()}
        self.progress = Progress()
        self.sums: dict[str, torch.Tensor] = {}
        self.since = 0
        self.batches: Iterator[Windows] = iter(())
        self.pool = (generator.get_state(), 0, 0)  # state before it was drawn, step then, batches taken since

    @property
    def share(self) -> float:
        """Of the run that is done, 0 to 1."""
        if self.config.steps:
            return min(self.progress.step / self.config.steps, 1.0)
        minutes = self.config.minutes
        return min(self.progress.seconds / (60 * minutes), 1.0) if minutes else 1.0

    @property
    def done(self) -> bool:
        return self.share >= 1.0

    def run(self, seconds: float) -> Progress:
        """Train for so many seconds, or to the end of the run."""
        self.network.train()
        start = time.monotonic()
        while not self.done and time.monotonic() - start < seconds:
            before = time.monotonic()
            self._step()
            self.progress.seconds += time.monotonic() - before
        means = {k: float(v) / max(self.since, 1) for k, v in self.sums.items()}
        self.sums, self.since, self.progress.parts = {}, 0, means
        return self.progress

    def _step(self):
        windows = next(self.batches, None)
        if windows is None:
            self.pool = (self.generator.get_state(), self.progress.step, 0)
            self.batches = self._pooled()
            windows = next(self.batches)
        self.pool = (*self.pool[:2], self.pool[2] + 1)
        for optimizer, factor in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = factor * self._rate()
        parts = self.gradients(windows)
        for optimizer, _ in self.optimizers:
            optimizer.step()
        self.progress.step += 1
        self.progress.windows += len(windows)
        self._average()
        for name, value in parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.since += 1

    def _gradients(self, windows: Windows) -> dict[str, torch.Tensor]:
        """Leave the gradients of a batch in the network; parts of the loss."""
        self.network.zero_grad(set_to_none=True)
        with self._precision():
            parts = self.loss(self.network, windows)
        total = torch.stack(tuple(parts.values())).sum()
        total.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        return {name: value.detach() for name, value in {"loss": total, **parts}.items()}

    def _pooled(self) -> Iterator[Windows]:
        """Batches of windows of about equal length, in random order."""
        batch = self.config.batch
        pool = self.draw(max(self.config.pool // batch, 1) * batch)
        pool = pool.shortened(self.task.scans, self.config.short, self.generator)
        pool = pool.take(pool.real.sum(1).argsort())
        longest = pool.real.sum(1)[batch - 1 :: batch].tolist()  # the one wait for the device in a pool
        order = torch.Generator().manual_seed(self.config.seed + self.pool[1])
        for k in torch.randperm(len(pool) // batch, generator=order).tolist()[self.pool[2] :]:
            tokens = -(-longest[k] // self.multiple) * self.multiple
            yield pool.take(slice(k * batch, (k + 1) * batch)).tokens(slice(0, tokens)).padded(tokens)

    def _rate(self) -> float:
        config = self.config
        warm = min((self.progress.step + 1) / max(config.warm_up, 1), 1.0)
        falling = config.final + (1 - config.final) * 0.5 * (1 + np.cos(np.pi * self.share))
        return float(config.rate * warm * falling)

    def _precision(self):
        if not self.config.bfloat16:
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    @torch.no_grad()
    def _average(self):
        step = self.progress.step
        factor = min(self.config.average, (1 + step) / (10 + step))
        now = self.network.state_dict()
        torch._foreach_lerp_([self.average[name] for name in now], list(now.values()), 1 - factor)

    def averaged(self, network: Any) -> Any:
        """Put the averaged weights into a network of the same kind."""
        network.load_state_dict(self.average)
        return network.eval()

    def save(self, path: str | Path) -> None:
        """Write all that the run needs to go on as if it had not stopped."""
        runs.save(path, self._state())

    def resume(self, path: str | Path) -> None:
        """Go on from a file; a run that cannot is left as it was.

        Raises:
            ValueError: the file holds no run, or one on another task, of another network or other settings.
        """
        runs.restore(path, self._state(), self._put, ("task", "training"), "this network", self.device)

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer, _ in self.optimizers],
            "pool": self.pool,
            "progress": asdict(self.progress),
            "training": {k: v for k, v in asdict(self.config).items() if k not in LENGTH},
            "task": self.task.name,
        }

    def _put(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        if len(state["optimizers"]) != len(self.optimizers):
            raise ValueError("it has another choice between AdamW alone and Muon")
        for (optimizer, _), saved in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        for name, value in self.average.items():
            value.copy_(state["average"][name])
        self.progress = Progress(**state["progress"])
        before, step, taken = state["pool"]
        self.pool = (before.cpu(), step, taken)
        self.generator.set_state(self.pool[0])
        # what was left of the pool is drawn again, and without what was used of it
        self.batches = self._pooled() if taken else iter(())


def _optimizers(network: nn.Module, config: TrainConfig) -> list[tuple[torch.optim.Optimizer, float]]:
    """AdamW, and Muon for the matrices of layers if asked for, with the factors of their learning rates."""
    fused = next(network.parameters()).is_cuda
    hidden: list[nn.Parameter] = []
    other: list[nn.Parameter] = []
    for name, p in network.named_parameters():
        inside = config.muon and p.ndim == 2 and name.split(".")[0] in LAYERS
        (hidden if inside else other).append(p)
    groups = [
        {"params": [p for p in other if p.ndim > 1], "weight_decay": config.decay},
        {"params": [p for p in other if p.ndim <= 1], "weight_decay": 0.0},
    ]
    found: list[tuple[torch.optim.Optimizer, float]] = [
        (torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.98), fused=fused), 1.0)
    ]
    if hidden:
        found.append((Muon(hidden, config.rate, decay=config.decay), config.muon))
    return found


def model_of(trainer: Trainer, network: Any, **reading) -> Model:
    """The averaged network as a model."""
    return Model(trainer.averaged(network), trainer.task).with_reading(**reading)
