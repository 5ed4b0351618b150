"""Small networks for the tasks of `sims.shifts`, and their training on source data."""

import copy
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception.training import Run, RunConfig
from sims.shifts import Shift

FEATURES = 32
BATCH = 64
EPOCHS_BOUND = 15
EPOCHS = {"mid": 20, "lt": 40, "pts": 20, "imu": 12, "m2u": 6, "omni": 20}
MANY = 64  # features of a network of many classes


class PointNet(nn.Module):
    """Points (B, N, 3) -> (B, 128), whatever their order. Source: Qi et al. (CVPR 2017), simplified."""

    def __init__(self) -> None:
        super().__init__()
        self.each = nn.Sequential(
            *_step(nn.Conv1d(3, 32, 1)), *_step(nn.Conv1d(32, 64, 1)), *_step(nn.Conv1d(64, 128, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """The largest of each feature."""
        return self.each(x.transpose(1, 2)).amax(2)


def network(name: str, classes: int) -> nn.Module:
    """Backbone, a bottleneck of FEATURES (omni: MANY) with batch norm, and a head with weight norm."""
    backbone: nn.Module
    features = MANY if name == "omni" else FEATURES
    if name == "pts":
        backbone, wide = PointNet(), 128
    elif name == "imu":
        layers = (_step(nn.Conv1d(a, b, 7, 2, 3)) for a, b in ((6, 32), (32, 64)))
        backbone, wide = (
            nn.Sequential(*(m for step in layers for m in step), nn.AdaptiveAvgPool1d(4), nn.Flatten()),
            256,
        )
    elif name in ("m2u", "omni"):
        widths = (1, 16, 32, 32) if name == "m2u" else (1, 32, 64, 64)
        layers = ((*_step(nn.Conv2d(a, b, 3, padding=1)), nn.MaxPool2d(2)) for a, b in pairwise(widths))
        backbone, wide = nn.Sequential(*(m for step in layers for m in step), nn.Flatten()), 4 * widths[-1]
    else:
        first, second = _step(nn.Conv2d(1, 16, 3, padding=1)), _step(nn.Conv2d(16, 32, 3, padding=1))
        backbone, wide = nn.Sequential(*first, *second, nn.MaxPool2d(2), nn.Flatten()), 512
    bottleneck = nn.Sequential(nn.Linear(wide, features), nn.BatchNorm1d(features))
    head = nn.utils.parametrizations.weight_norm(nn.Linear(features, classes))
    return nn.Sequential(backbone, bottleneck, head)


def trained(task: Shift, seed: int) -> nn.Module:
    """A network that has learned the source data of a task, with smoothed labels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = network(task.name, task.classes)
        return fitted(made, task.x, task.y, EPOCHS[task.name], seed)


def fitted(model: nn.Module, x: np.ndarray, y: np.ndarray, epochs: int, seed: int, rate: float = 3e-3) -> Any:
    """A network trained on labelled samples, in place and returned."""
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y).long()

    def loss(net: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
        rows = torch.from_numpy(rng.choice(len(x), min(BATCH, len(x)), replace=False))
        return {"cross entropy": F.cross_entropy(net(inputs[rows]), labels[rows], label_smoothing=0.1)}

    config = RunConfig(steps=max(1, epochs * len(x) // BATCH), rate=rate, warm_up=20, decay=1e-3)
    run = Run(model, loss, config, seed)
    run.train()
    run.use_average()
    return model.eval()


@torch.no_grad()
def predicted(model: nn.Module, x: np.ndarray) -> Tensor:
    """(n, C) probabilities that a model gives samples."""
    return torch.cat([model(part) for part in torch.from_numpy(x).split(500)]).softmax(1)


def bound(task: Shift, source: nn.Module, seed: int) -> np.ndarray:
    """Labels (n,) said of each half of the target by a network that went on with those of the other."""
    half = np.random.default_rng(seed).permutation(len(task.x_target)) % 2
    out = np.zeros(len(task.x_target), np.int64)
    for k in (0, 1):
        model = fitted(
            copy.deepcopy(source), task.x_target[half != k], task.y_target[half != k], EPOCHS_BOUND, seed
        )
        out[half == k] = predicted(model, task.x_target[half == k]).argmax(1).numpy()
    return out


def _step(layer):
    return (
        layer,
        nn.BatchNorm1d(layer.out_channels) if layer.weight.ndim == 3 else nn.BatchNorm2d(layer.out_channels),
        nn.ReLU(),
    )
