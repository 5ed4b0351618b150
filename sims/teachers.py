"""Classification tasks and trained teachers for studies of what can be done without data."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.data_free import networks
from perception.training import Run, RunConfig


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


def digits(seed: int = 0) -> Task:
    """scikit-learn's digits, 8 x 8 pixels: 1,257 for training, 540 for test, shuffled by the seed."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.target))
    x = torch.tensor(data.images[order] / 16, dtype=torch.float32)[:, None]
    y = torch.tensor(data.target[order])
    return Task("digits", x[:1257], y[:1257], x[1257:], y[1257:], 0.3053, 0.3764)


def mnist(path: str | Path, number: int = 10_000, seed: int = 0, side: int = 28) -> Task:
    """MNIST of an npz with arrays of images (n, 28, 28) and labels; a tenth of `number` more is for test.

    Raises:
        ValueError: the file holds no such arrays.
    """
    with np.load(path, allow_pickle=False) as file:
        images = next((file[k] for k in file.files if file[k].ndim == 3), None)
        labels = next((file[k] for k in file.files if file[k].ndim == 1), None)
    if images is None or labels is None or len(images) != len(labels):
        raise ValueError(f"{path} must hold images (n, height, width) and labels (n,)")
    held = max(number // 10, 500)
    order = np.random.default_rng(seed).permutation(len(labels))[: number + held]
    x = torch.tensor(images[order].astype(np.float32) / 255)[:, None]
    if side != x.shape[-1]:
        x = F.interpolate(x, (side, side), mode="bilinear", antialias=True, align_corners=False)
    y = torch.tensor(labels[order].astype(np.int64))
    return Task("mnist", x[:-held], y[:-held], x[-held:], y[-held:], 0.1307, 0.3081)


def trained(task: Task, name: str, seed: int, steps: int = 600, batch: int = 64) -> nn.Module:
    """A network of `adapt.data_free.networks.build`, trained with labels; in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = networks.build(name, task.shape, task.classes)

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
