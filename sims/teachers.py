"""Classification tasks and trained teachers for studies of what can be done without data."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.data_free import networks
from perception.recognize.network import Network
from perception.training import Run, RunConfig
from sims.images import named

MOMENTS = {"digits": (0.3053, 0.3764), "mnist": (0.1307, 0.3081), "nmnist": (0.2030, 0.3281)}  # mean, std


@dataclass(frozen=True)
class Task:
    """Images of 0 to 1 with labels, and how a network wants them.

    x, y:        (n, C, H, W) and (n,) of training.
    test_x, test_y: of test.
    mean, std:   a network is given (x - mean) / std.
    classes:     how many.
    """

    name: str
    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor
    mean: float
    std: float
    classes: int = 10

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image."""
        return tuple(self.x.shape[1:])

    @property
    def bounds(self) -> tuple[float, float]:
        """Of what a network is given."""
        return (0 - self.mean) / self.std, (1 - self.mean) / self.std

    def given(self, x: Tensor) -> Tensor:
        """Images as a network wants them."""
        return (x - self.mean) / self.std

    @torch.no_grad()
    def accuracy(self, network: nn.Module) -> float:
        """Percent of the test images that a network in eval mode gets right."""
        said = torch.cat([network(self.given(x)).argmax(1) for x in self.test_x.split(500)])
        return 100 * float((said == self.test_y).float().mean())

    def asking(self, network: nn.Module) -> nn.Module:
        """The network with images of 0 to 1 at its door."""
        return _Given(self, network)


class _Given(nn.Module):
    def __init__(self, task: Task, network: nn.Module):
        super().__init__()
        self.task, self.network = task, network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.task.given(x))


def task_of(
    name: str, folder: str | Path | None = None, seed: int = 0, number: int = 10_000, side: int | None = None
) -> Task:
    """Labelled images by name, see `sims.images.named`, shuffled by the seed.

    Args:
        name:   digits, 1,257 for training and 540 for test; nmnist, event counts, a quarter of them for test;
                mnist, `number` for training and a tenth as many for test, 500 at least.
        folder: of mnist and nmnist.
        seed:   which images.
        number: of mnist.
        side:   pixels that images are scaled to; None: as they are.
    Raises:
        ValueError: as of `sims.images.named`.
    """
    images = named(name, folder)
    order = np.random.default_rng(seed).permutation(len(images.labels))
    if name == "mnist":
        held = max(number // 10, 500)
        order = order[: number + held]
    else:
        held = 540 if name == "digits" else len(order) // 4
    images = images.take(torch.from_numpy(order))
    x, y, _ = images if side is None else images.sized(side)
    return Task(name, x[:-held], y[:-held], x[-held:], y[-held:], *MOMENTS[name])


class Recognition(nn.Module):
    """A network of `perception.recognize` that is given images of event counts instead of events."""

    def __init__(self, task: Task):
        super().__init__()
        self.network = Network(task.classes, "count", width=16)

    def forward(self, x: Tensor) -> Tensor:
        """(b, 2, H, W) -> (b, classes) logits."""
        return self.network.said(x)


def trained(task: Task, name: str, seed: int, steps: int = 600, batch: int = 64) -> nn.Module:
    """A network of `adapt.data_free.networks.build` or "recognition", trained with labels; in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = (
            Recognition(task) if name == "recognition" else networks.build(name, task.shape, task.classes)
        )

    def loss(network: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
        rows = torch.tensor(rng.integers(0, len(task.y), batch))
        return {"cross entropy": F.cross_entropy(network(task.given(task.x[rows])), task.y[rows])}

    Run(network, loss, RunConfig(steps=steps, rate=3e-3), seed).train()
    return network.eval()


def fresh(task: Task, name: str, seed: int) -> nn.Module:
    """An untrained student."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1000 + seed)
        return networks.build(name, task.shape, task.classes)


def scores(task: Task) -> Callable[[nn.Module], dict[str, float]]:
    """For `Distiller.evaluate`: accuracy on the test images, for reporting alone."""
    return lambda network: {"accuracy": task.accuracy(network)}
