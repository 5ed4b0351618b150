"""Training runs: they learn, go on where they were stopped, and refuse what is not theirs."""

import numpy as np
import pytest
import torch
from torch import nn

from perception.training import Run, RunConfig
from tracking.muon import Muon, orthogonal


def network(seed=0, dropout=0.0):
    torch.manual_seed(seed)
    layers = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Dropout(dropout), nn.Conv2d(4, 1, 3, padding=1)
    return nn.Sequential(*layers)


def loss(net, rng):
    x = torch.tensor(rng.normal(size=(4, 1, 8, 8)), dtype=torch.float32)
    return {"error": (net(x) - x.roll(1, -1)).square().mean()}


def config(**changed):
    return RunConfig(**{"steps": 60, "rate": 1e-2, "warm_up": 5} | changed)


@pytest.mark.parametrize("muon", [0.0, 3.0])
def test_a_run_learns_and_ends(muon):
    run = Run(network(), loss, config(muon=muon))
    first = float(loss(run.network, np.random.default_rng(9))["error"].detach())
    while not run.done:
        assert run.train(0.05)["error"] > 0
    assert run.step == 60
    run.use_average()
    assert float(loss(run.network, np.random.default_rng(9))["error"].detach()) < 0.3 * first


@pytest.mark.parametrize("muon", [0.0, 3.0])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path, muon, dropout):
    whole = Run(network(dropout=dropout), loss, config(muon=muon, steps=12))
    whole.train()
    part = Run(network(dropout=dropout), loss, config(muon=muon, steps=12))
    for _ in range(5):
        part._take()
    part.save(tmp_path / "run.pt")
    rest = Run(network(seed=1, dropout=dropout), loss, config(muon=muon, steps=12), seed=7)
    rest.resume(tmp_path / "run.pt")
    rest.train()
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, rest.network.state_dict()[name])
        assert torch.equal(whole.averaged[name], rest.averaged[name])


def test_files_that_are_no_run_of_this_kind_are_refused_and_change_nothing(tmp_path):
    saved = Run(network(seed=3), loss, config())
    saved.train(0.1)
    path = tmp_path / "run.pt"
    saved.save(path)
    whole = path.read_bytes()
    state = torch.load(path, weights_only=True)
    run = Run(network(), loss, config())
    before = {name: value.clone() for name, value in run.network.state_dict().items()}

    def refused(word):
        with pytest.raises(ValueError, match=word) as error:
            run.resume(path)
        assert len(str(error.value).splitlines()) == 1
        assert run.step == 0
        assert all(torch.equal(value, before[name]) for name, value in run.network.state_dict().items())

    for missing in state:
        torch.save({name: value for name, value in state.items() if name != missing}, path)
        refused("not a run of this network")
    for name, wrong in (
        ("step", -1),
        ("step", 10**9),
        ("averaged", {}),
        ("optimizers", []),
        ("rng", {}),
        ("torch", 1),
    ):
        torch.save(state | {name: wrong}, path)
        refused("not a run of this network")
    torch.save([1, 2], path)
    refused("not a run of this network")
    torch.save(torch.zeros(3), path)
    refused("not a run of this network")
    rng = np.random.default_rng(0)
    for _ in range(30):
        path.write_bytes(whole[: rng.integers(0, len(whole))])
        refused("not a saved run")
    for junk in (b"no run", b"\x80\x02junk"):
        path.write_bytes(junk)
        refused("not a saved run")
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="settings"):
        Run(network(), loss, config(rate=2e-2)).resume(path)
    with pytest.raises(ValueError, match="not a run of this network"):
        Run(nn.Conv2d(1, 1, 3), loss, config()).resume(path)
    with pytest.raises(FileNotFoundError):
        run.resume(tmp_path / "none.pt")


def test_the_rate_rises_falls_and_the_average_lags_behind():
    run = Run(network(), loss, config(steps=100, rate=1.0, warm_up=10, final=0.1, average=0.9))
    rates = []
    for run.step in range(101):
        rates.append(run._rate())
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(rates[9], abs=0.03)
    assert rates[100] == pytest.approx(0.1)
    assert np.all(np.diff(rates[10:]) < 0)
    run = Run(network(), loss, config(steps=40, average=0.9))
    start = [value.clone() for value in run.averaged.values()]
    run.train()
    there = list(run.network.state_dict().values())
    behind = sum(float((a - b).norm()) for a, b in zip(run.averaged.values(), there))
    away = sum(float((a - b).norm()) for a, b in zip(start, there))
    assert 0 < behind < 0.3 * away


def test_directions_of_muon_are_nearly_orthogonal_for_kernels_too():
    rng = torch.Generator().manual_seed(0)
    for shape in ((6, 20), (20, 6)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape, generator=rng)))
        assert values.min() > 0.5
        assert values.max() < 1.3
    kernel = nn.Parameter(torch.zeros(6, 4, 3, 3))
    kernel.grad = torch.randn(kernel.shape, generator=rng)
    Muon([kernel], lr=0.1).step()
    size = kernel.detach().square().mean().sqrt()
    assert 0.005 < size / 0.1 < 0.3  # as large as a step of AdamW times 0.2
    assert (kernel.detach().reshape(6, -1) @ kernel.grad.reshape(6, -1).T).trace() < 0
