"""Small models and windows; all of it is skipped where torch is not installed."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="MT3 needs the extra `learn`")
pytest.importorskip("safetensors", reason="MT3 needs the extra `learn`")

import torch
from small_networks import SMALL, SMALL_MT3, stirred  # tests/mt3/small_networks.py

from sims.scenarios import SCENARIOS
from sims.train.mt3 import task_of
from sims.windows import WindowSimulator
from tracking.mt3.model import Model
from tracking.mt3.network import MT3Network, MT3NetworkConfig
from tracking.mt3.trajectory import TrajectoryNetwork

torch.set_num_threads(1)


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
