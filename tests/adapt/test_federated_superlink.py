"""A federation of real processes on loopback: a SuperLink, two SuperNodes and a run, ended by their ids."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("flwr.serverapp.strategy", reason="needs the extra federated")

from adapt.federated import SCAFFOLD, federate

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
SPOILED = """
import time
from pathlib import Path

import torch
from flwr.app import ArrayRecord
from flwr.clientapp import ClientApp
from adapt.federated.flower import client_app
from fleet.common import CONFIG, data, model

app = ClientApp()
honest = client_app(model, data, 3, CONFIG)

@app.train()
def train(message, context):
    bad = context.node_config["partition-id"] == 1
    if bad and message.content["config"]["server-round"] == 2:
        Path({trap!r}).touch()
        time.sleep(1000)
    reply = honest(message, context)
    if bad:
        weights = reply.content["arrays"].to_torch_state_dict()
        reply.content["arrays"] = ArrayRecord({{n: v * torch.nan for n, v in weights.items()}})
    return reply
"""
LATE = """
import time
from pathlib import Path

from flwr.clientapp import ClientApp
from adapt.federated.flower import client_app
from fleet.common import CONFIG, data, model

app = ClientApp()
honest = client_app(model, data, 3, CONFIG)

@app.train()
def train(message, context):
    while context.node_config["partition-id"] == 1 and not Path({merged!r}).exists():
        time.sleep(0.5)
    return honest(message, context)
"""
SERVER = """
import json
import os

from pathlib import Path

import numpy as np
from flwr.serverapp import ServerApp
from adapt.federated import SCAFFOLD
from adapt.federated.flower import FedFTGStrategy, initial
from fleet.common import CONFIG, model

app = ServerApp()

@app.main()
def main(grid, context):
    merged = lambda model: float(Path({path!r} + "-merged").touch() is None)
    strategy = FedFTGStrategy(
        model(), 3, rule=SCAFFOLD(), score=merged, min_train_nodes=2, min_available_nodes=2
    )
    for rounds, timeout in {starts!r}:
        strategy.start(grid, initial(strategy.model), num_rounds=rounds, timeout=timeout)
    excluded = [[str(e) for e in r.excluded] for r in strategy.history]
    norms = [sorted(r.norms) for r in strategy.history]
    found = {{name: value.numpy() for name, value in strategy.model.state_dict().items()}}
    found["excluded"], found["used"] = np.array(json.dumps(excluded)), np.array(json.dumps(norms))
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


def processes(*marks):
    """Ids of the processes that have these in their environment.

    Flower's programs start others in sessions of their own, which outlive them: no parent or group tells.
    """
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is somebody else's
            continue
        if all(mark.encode() in environment for mark in marks):
            yield int(entry.name)


def end(*marks):
    """Kill the processes that have these in their environment, also those that they start meanwhile."""
    for _ in range(100):
        found = list(processes(*marks))
        if not found:
            return
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.1)
    pytest.fail(f"processes {found} do not end")


@pytest.fixture
def started(tmp_path):
    """Starts programs, and ends them and all that they have started."""
    running = []
    mark = f"FLWR_HOME={tmp_path / 'home'}"
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
        own = env | {"FLEET": str(len(running))}
        with open(tmp_path / f"{len(running)}-{name}.log", "wb") as log:
            command = [program(name), *arguments]
            running.append(subprocess.Popen(command, env=own, stdout=log, stderr=log, cwd=tmp_path))
        return running[-1]

    start.kill = lambda number: end(mark, f"FLEET={number}")
    yield start
    for process in running[::-1]:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
    end(mark)
    for process in running:
        process.wait()


def listening(port):
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex(("127.0.0.1", port)) == 0


def wait_for(what, why, end):
    while not what():
        if time.monotonic() > end:
            pytest.fail(f"{why} did not happen in {PATIENCE:g} s")
        time.sleep(0.5)


def fleet(started, tmp_path, client, server):
    """Start a SuperLink, two SuperNodes and a run of these apps; the run, and when to give up."""
    folder = tmp_path / "app" / "fleet"
    folder.mkdir(parents=True)
    (folder.parent / "pyproject.toml").write_text(PROJECT)
    (folder / "__init__.py").touch()
    for name, text in (("common", COMMON), ("client", client), ("server", server)):
        (folder / f"{name}.py").write_text(text)
    port, give_up = free_port(), time.monotonic() + PATIENCE
    link = f"127.0.0.1:{port}"
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{link}"\ninsecure = true\n'
    )
    plain = ("--insecure", "--disable-runtime-dependency-installation")
    process = started("flower-superlink", *plain, "--host", "127.0.0.1", "--port", str(port))
    wait_for(lambda: listening(port) or process.poll() is not None, "the SuperLink", give_up)
    for k in range(2):
        own = ("--port", str(free_port()), "--node-config", f"partition-id={k} num-partitions=2")
        started("flower-supernode", "--insecure", "--superlink", link, *own)
    return started("flwr", "run", str(folder.parent), "here", "--stream"), give_up


def weights(path, run, give_up):
    """What the server has written; a run that ends without is a failure with what the programs say."""
    wait_for(lambda: path.exists() or run.poll() is not None, "the run", give_up)
    logs = "\n".join(f"{log.name}: {log.read_text()[-3000:]}" for log in sorted(path.parent.glob("*.log")))
    assert path.exists(), logs
    with np.load(path, allow_pickle=False) as found:
        return dict(found)


def assert_same(model, found):
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(found[name], value.numpy(), atol=1e-6, rtol=0)


@pytest.mark.slow
def test_processes_find_the_weights_of_our_own_rounds(started, tmp_path):
    path = tmp_path / "weights"
    run, give_up = fleet(started, tmp_path, CLIENT, SERVER.format(path=str(path), starts=[(2, PATIENCE)]))
    found = weights(path, run, give_up)
    assert json.loads(str(found["excluded"])) == [[], []]
    space: dict = {}
    exec(COMMON, space)  # the same model, data and settings
    own = [space["data"](k) for k in range(2)]
    ours = federate(space["model"](), own, 3, space["CONFIG"], SCAFFOLD()).model
    assert_same(ours, found)
    assert not torch.equal(ours[0].weight, space["model"]()[0].weight)


@pytest.mark.slow
def test_a_client_that_sends_nonsense_and_one_that_dies_are_survived(started, tmp_path):
    """Client 1 sends weights that are not finite in the first round, and is killed in the second."""
    path, trap = tmp_path / "weights", tmp_path / "training"
    spoiled = SPOILED.format(trap=str(trap))
    run, give_up = fleet(started, tmp_path, spoiled, SERVER.format(path=str(path), starts=[(2, 120.0)]))
    wait_for(lambda: trap.exists() or run.poll() is not None, "the second round", give_up)
    started.kill(2)
    found = weights(path, run, give_up)
    (first,), second = json.loads(str(found["excluded"]))
    assert first == "client 1: its weights are not finite"
    assert len(second) <= 1  # as a node that is gone, or as a reply that did not come
    space: dict = {}
    exec(COMMON, space)
    own = [space["data"](0), (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))]
    assert_same(federate(space["model"](), own, 3, space["CONFIG"], SCAFFOLD()).model, found)


@pytest.mark.slow
def test_a_client_that_is_late_is_left_out_of_its_round_and_takes_part_in_the_next(started, tmp_path):
    """Client 1 answers its first round when that is over; its answer is of no use then, and does no harm."""
    path = tmp_path / "weights"
    late = LATE.format(merged=f"{path}-merged")
    run, give_up = fleet(
        started, tmp_path, late, SERVER.format(path=str(path), starts=[(1, 120.0), (1, PATIENCE)])
    )
    found = weights(path, run, give_up)
    assert json.loads(str(found["used"])) == [[0], [0, 1]]
    assert all(np.isfinite(v).all() for name, v in found.items() if name.endswith(("weight", "bias")))
