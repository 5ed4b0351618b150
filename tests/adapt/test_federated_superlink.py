"""A federation of real processes on loopback: a SuperLink, two SuperNodes and a run, ended by their ids."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("flwr.serverapp.strategy", reason="needs the extra federated")

from adapt.federated import FederateConfig, LocalConfig, federate

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 900.0  # s, for all of it: every part is a process of its own that imports torch
COMMON = """
import torch
from torch import nn
from adapt.federated import FederateConfig, LocalConfig

CONFIG = FederateConfig(rounds=2, local=LocalConfig(epochs=2, batch=4), seed=3)

def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 3))

def data(client):
    g = torch.Generator().manual_seed(client)
    return torch.randn(8 + 3 * client, 2, generator=g), torch.randint(3, (8 + 3 * client,), generator=g)
"""
CLIENT = """
from adapt.federated.flower import client_app
from fleet.common import CONFIG, data, model

app = client_app(model, data, 3, CONFIG)
"""
SERVER = """
import numpy as np
from flwr.serverapp import ServerApp
from adapt.federated.flower import FedFTGStrategy, initial
from fleet.common import CONFIG, model

app = ServerApp()

@app.main()
def main(grid, context):
    strategy = FedFTGStrategy(model(), 3, min_train_nodes=2, min_available_nodes=2)
    strategy.start(grid, initial(model()), num_rounds=CONFIG.rounds)
    assert all(not r.excluded for r in strategy.history), strategy.history
    found = {{name: value.numpy() for name, value in strategy.model.state_dict().items()}}
    np.savez({path!r} + ".npz", **found)
    os.replace({path!r} + ".npz", {path!r})
"""
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "fleet"
version = "1.0.0"
license = "MIT"
dependencies = []

[tool.hatch.build.targets.wheel]
packages = ["fleet"]

[tool.flwr.app]
publisher = "fleet"

[tool.flwr.app.components]
serverapp = "fleet.server:app"
clientapp = "fleet.client:app"
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def program(name):
    beside = [str(Path(p) / "bin") for p in sys.path if p] + [str(Path(sys.executable).parent)]
    found = shutil.which(name, path=os.pathsep.join([*beside, os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"{name} of Flower is not installed")
    return found


@pytest.fixture
def started(tmp_path):
    """Starts programs in process groups of their own, and ends these."""
    running = []
    beside = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    folders = [
        str(Path(program("flwr")).parent),
        str(Path(sys.executable).parent),
        os.environ.get("PATH", ""),
    ]
    env = os.environ | {
        "FLWR_HOME": str(tmp_path / "home"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PYTHONPATH": os.pathsep.join(beside),
        "PATH": os.pathsep.join(folders),
    }

    def start(name, *arguments):
        log = open(tmp_path / f"{len(running)}-{name}.log", "wb")
        command = [program(name), *arguments]
        running.append(
            (
                subprocess.Popen(
                    command, env=env, stdout=log, stderr=log, start_new_session=True, cwd=tmp_path
                ),
                log,
            )
        )
        return running[-1][0]

    yield start
    for process, log in running[::-1]:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        log.close()


def listening(port):
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex(("127.0.0.1", port)) == 0


def wait_for(what, why, end):
    while not what():
        if time.monotonic() > end:
            pytest.fail(f"{why} did not happen in {PATIENCE:g} s")
        time.sleep(0.5)


@pytest.mark.slow
def test_processes_find_the_weights_of_our_own_rounds(started, tmp_path):
    fleet, path = tmp_path / "app" / "fleet", tmp_path / "weights"
    fleet.mkdir(parents=True)
    (fleet.parent / "pyproject.toml").write_text(PROJECT)
    (fleet / "__init__.py").touch()
    for name, text in (("common", COMMON), ("client", CLIENT), ("server", SERVER.format(path=str(path)))):
        (fleet / f"{name}.py").write_text(text)
    port, end = free_port(), time.monotonic() + PATIENCE
    link = f"127.0.0.1:{port}"
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{link}"\ninsecure = true\n'
    )
    plain = ("--insecure", "--disable-runtime-dependency-installation")
    server = started("flower-superlink", *plain, "--host", "127.0.0.1", "--port", str(port))
    wait_for(lambda: listening(port) or server.poll() is not None, "the SuperLink", end)
    for k in range(2):
        own = ("--port", str(free_port()), "--node-config", f"partition-id={k} num-partitions=2")
        started("flower-supernode", "--insecure", "--superlink", link, *own)
    asked = started("flwr", "run", str(fleet.parent), "here", "--stream")
    wait_for(lambda: path.exists() or (asked.poll() or 0) != 0, "the run", end)
    logs = "\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in sorted(tmp_path.glob("*.log")))
    assert path.exists(), logs
    space: dict = {}
    exec(COMMON, space)  # the same model, data and settings
    config = FederateConfig(rounds=2, local=LocalConfig(epochs=2, batch=4), seed=3)
    ours = federate(space["model"](), [space["data"](k) for k in range(2)], 3, config).model
    with np.load(path, allow_pickle=False) as found:
        for name, value in ours.state_dict().items():
            np.testing.assert_allclose(found[name], value.numpy(), atol=1e-6, rtol=0)
    assert not torch.equal(ours[0].weight, space["model"]()[0].weight)
