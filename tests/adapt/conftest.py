import numpy as np
import pytest
import torch
from scipy.linalg import expm
from torch import nn


def blobs(number, seed, shift=0.0, classes=4, dim=8):
    """Noisy points about a centre for each class, moved and turned by a shift."""
    rng = np.random.default_rng(seed)
    centre = 2.0 * np.random.default_rng(0).normal(size=(classes, dim))
    y = np.arange(number) % classes
    rng.shuffle(y)
    x = centre[y] + rng.normal(size=(number, dim))
    A = np.random.default_rng(1).normal(size=(dim, dim))
    turn = expm(0.15 * shift * (A - A.T))
    move = shift * np.random.default_rng(2).normal(size=dim)
    return torch.tensor(x @ turn + move, dtype=torch.float32), torch.from_numpy(y)


def network(norm=True, head=None, seed=0):
    torch.manual_seed(seed)
    layers = [nn.Linear(8, 32), nn.BatchNorm1d(32) if norm else nn.Identity(), nn.ReLU(), nn.Linear(32, 16)]
    layers += [nn.BatchNorm1d(16)] if norm else []
    return nn.Sequential(*layers, head or nn.Linear(16, 4))


def learned(model, seed=3):
    x, y = blobs(400, seed)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    model.train()
    for k in range(60):
        rows = torch.arange(k * 40 % 400, k * 40 % 400 + 40)
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows], label_smoothing=0.1).backward()
        optimiser.step()
    model.zero_grad(set_to_none=True)
    return model.eval()


@pytest.fixture(scope="session")
def source():
    """A trained classifier of 4 classes of points in 8 dimensions."""
    return learned(network())


@pytest.fixture(scope="session")
def target():
    """Points of another sensor, and labels for scores."""
    return blobs(300, 7, shift=1.4)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def make():
    """Makers of networks, training and data."""
    return network, learned, blobs
