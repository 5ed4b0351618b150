"""Training a classifier on labelled streams."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F

from perception.events import EventStream
from perception.events.represent_torch import EventBatch
from perception.recognize.augment import Augment
from perception.recognize.classifier import Classifier
from perception.recognize.network import Network
from perception.training import Run, RunConfig


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Settings of a training.

    representation, bins, width: of the network.
    steps, batch, rate: of the training.
    smoothing: of the labels: probability that is shared out among all of them.
    augment:   how streams are changed.
    seed:      of weights, batches and changes.
    """

    representation: str = "voxel"
    bins: int = 9
    width: int = 32
    steps: int = 300
    batch: int = 64
    rate: float = 3e-3
    smoothing: float = 0.05
    augment: Augment = field(default_factory=Augment)
    seed: int = 0

    def __post_init__(self):
        if min(self.bins, self.width, self.steps, self.batch) < 1 or not self.rate > 0:
            raise ValueError(f"bins, width, steps, batch and rate must be positive, got {self}")


def fit(
    streams: Sequence[EventStream],
    labels: Sequence[str],
    config: FitConfig = FitConfig(),
    advance: Callable[[int, float], object] = lambda step, loss: None,
) -> Classifier:
    """A classifier of streams of one sensor.

    Args:
        streams: n recordings with events.
        labels:  n names.
        config:  settings.
        advance: told the steps done and the loss, about every 5 s.
    Raises:
        ValueError: streams of several sensors or without events, or not a label for each.
    """
    if len(streams) != len(labels) or not len(streams):
        raise ValueError(f"every stream needs its label, got {len(streams)} and {len(labels)}")
    empty = [k for k, stream in enumerate(streams) if not len(stream)]
    if empty:
        raise ValueError(f"streams without events cannot be learned from, got none in stream {empty[0]}")
    names = tuple(sorted({str(label) for label in labels}))
    target = torch.tensor([names.index(str(label)) for label in labels])
    whole = EventBatch.of(streams)
    start = torch.cat((torch.zeros(1, dtype=torch.int64), torch.bincount(whole.stream).cumsum(0)))

    def loss(network: torch.nn.Module, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        which = rng.choice(len(streams), min(config.batch, len(streams)), replace=False)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        events = config.augment(picked(whole, start, which), generator)
        said = network(events)
        return {"cross entropy": F.cross_entropy(said, target[which], label_smoothing=config.smoothing)}

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = Network(len(names), config.representation, config.bins, config.width)
        run = Run(network, loss, RunConfig(steps=config.steps, rate=config.rate, decay=1e-2), config.seed)
        while not run.done:
            parts = run.train(5.0)
            advance(run.step, sum(parts.values()))
    run.use_average()
    return Classifier(network.eval(), names, whole.width, whole.height)


def picked(events: EventBatch, start: torch.Tensor, which: np.ndarray) -> EventBatch:
    """Some streams of a batch as a batch; `start` (b + 1,) is where each stream's events begin."""
    rows = [torch.arange(int(start[k]), int(start[k + 1])) for k in which]
    index = torch.cat(rows)
    stream = torch.repeat_interleave(torch.arange(len(which)), torch.tensor([len(r) for r in rows]))
    x, y, t, p = (column[index] for column in (events.x, events.y, events.t, events.p))
    return events._replace(x=x, y=y, t=t, p=p, stream=stream, span=events.span[which])
