"""Small models and windows; all of it is skipped where torch is not installed."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="MT3 needs the extra `learn`")
pytest.importorskip("safetensors", reason="MT3 needs the extra `learn`")

import torch

from sims.scenarios import SCENARIOS
from sims.train.mt3 import task_of
from sims.windows import WindowSimulator
from tracking.mt3.model import Model
from tracking.mt3.network import MT3Network, MT3NetworkConfig
from tracking.mt3.trajectory import TrajectoryConfig, TrajectoryNetwork

torch.set_num_threads(1)
ALL = 100_000  # a cascade that leaves tokens out is not continuous, so it has tests of its own
SMALL = TrajectoryConfig(width=32, heads=4, hidden=48, keep=(ALL, ALL, ALL), last_scans=4, refine=(ALL,))
SMALL_MT3 = {"width": 32, "heads": 4, "hidden": 48, "encoder": 2, "decoder": 2}


def stirred(network, seed=0):
    """The network with every parameter moved a little, so that nothing is zero by construction."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            p += 0.05 * torch.randn(p.shape, generator=generator)
    return network.eval()


@pytest.fixture(params=["mt3-task2", "radar-2"])
def scenario(request):
    return SCENARIOS[request.param]


@pytest.fixture
def task(scenario):
    return task_of(scenario)


@pytest.fixture
def windows(scenario):
    return WindowSimulator(scenario, 7).draw(3)


@pytest.fixture(params=["trajectory", "paper"])
def network(request, task):
    torch.manual_seed(0)
    if request.param == "trajectory":
        return TrajectoryNetwork(task.sight, task.scans, task.dt, SMALL)
    config = MT3NetworkConfig(**SMALL_MT3, velocity=task.sight.radar)
    return MT3Network(task.sight, task.scans, task.dt, config)


@pytest.fixture
def trajectory(task):
    torch.manual_seed(0)
    return TrajectoryNetwork(task.sight, task.scans, task.dt, SMALL)


@pytest.fixture
def model(trajectory, task):
    return Model(stirred(trajectory), task)


@pytest.fixture
def rng():
    return np.random.default_rng(5)
