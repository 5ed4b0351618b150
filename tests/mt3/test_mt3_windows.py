"""The torch simulator draws what the NumPy one draws."""

import dataclasses

import numpy as np
import pytest
import torch

from sims.scenarios import SCENARIOS
from sims.windows import WindowSimulator, polar

TASKS = ("mt3-task1", "mt3-task2", "radar-1", "radar-2", "radar-3", "radar-4")


def statistics(truth, z, age, origin):
    """Numbers of a window that have means to compare."""
    late, found = age == 0, origin >= 0
    number = [
        len(truth),
        len(z),
        found.sum(),
        (found & late).sum(),
        (~found & late).sum(),
        (found & (age > 15)).sum(),
    ]
    sums = [*z[found].sum(0), *(z[found] ** 2).sum(0), *truth.sum(0), *(truth**2).sum(0), *z[~found].sum(0)]
    return np.array([*number, *sums], float)


def of_scene(scene):
    last = len(scene) - 1
    age = np.repeat(last - np.arange(len(scene)), [len(z) for z in scene.scans])
    return statistics(scene.truth.at(-1), np.concatenate(scene.scans), age, np.concatenate(scene.origin))


def of_windows(windows):
    for z, age, real, origin, _, target, alive in zip(*(a.numpy() for a in windows)):
        yield statistics(target[alive].astype(float), z[real].astype(float), age[real], origin[real])


SOME = [pytest.param(name, marks=pytest.mark.slow if name.startswith("radar") else ()) for name in TASKS]


@pytest.mark.parametrize("name", SOME)
def test_the_two_simulators_agree(name):
    scenario, n = SCENARIOS[name], 700
    ours = np.array(list(of_windows(WindowSimulator(scenario, 1).draw(n))))
    rng = np.random.default_rng(2)
    other = np.array([of_scene(scenario.draw(rng)) for _ in range(n)])
    error = np.sqrt(ours.var(0) / n + other.var(0) / n)
    apart = np.abs(ours.mean(0) - other.mean(0)) / np.maximum(error, 1e-9)
    exact = error < 1e-9  # as the clutter of task 1
    assert np.all(apart[~exact] < 4.5), apart
    np.testing.assert_allclose(ours.mean(0)[exact], other.mean(0)[exact])


@pytest.mark.parametrize("name", TASKS)
def test_noise_has_the_covariance_of_the_sensor(name):
    scenario = SCENARIOS[name]
    world = WindowSimulator(scenario, 3)
    windows = world.draw(400)
    found = windows.origin >= 0
    x, z = windows.state[found].double().numpy(), windows.z[found].double().numpy()
    sensor = world.process.sensor
    error = sensor.residual(z, sensor.measure(x))
    R = np.broadcast_to(sensor.noise(x), (len(x), sensor.dim_z, sensor.dim_z))
    if not R.any():
        np.testing.assert_allclose(error, 0, atol=1e-5)
        return
    values, vectors = np.linalg.eigh(R)
    white = np.einsum("nij,nj->ni", vectors.swapaxes(1, 2), error) / np.sqrt(np.maximum(values, 1e-12))
    # Detections that noise takes out of the field of view are lost, which narrows the rest a little.
    np.testing.assert_allclose(np.cov(white.T), np.eye(sensor.dim_z), atol=0.12)


def test_tokens_are_ordered_and_labelled(windows, scenario):
    real, age = windows.real.numpy(), windows.age.numpy()
    for k in range(len(windows)):
        n = real[k].sum()
        assert real[k, :n].all()
        assert (np.diff(age[k, :n]) >= 0).all()
    assert not windows.z[~windows.real].any()
    assert (windows.origin[~windows.real] == -1).all()
    late = (windows.age == 0) & (windows.origin >= 0)
    row = windows.origin.clamp(min=0)
    last = windows.target.gather(1, row[..., None].expand(-1, -1, 4))
    np.testing.assert_array_equal(last[late], windows.state[late])
    assert windows.alive.gather(1, row)[late].all()


def test_same_seed_same_windows(scenario):
    a, b, c = (WindowSimulator(scenario, seed).draw(4) for seed in (1, 1, 2))
    assert all(torch.equal(x, y) for x, y in zip(a, b))
    assert a.z.shape != c.z.shape or not torch.equal(a.z, c.z)


def test_a_width_leaves_out_the_oldest(scenario):
    windows = WindowSimulator(scenario, 1).draw(4, max_tokens=100)
    assert windows.z.shape[1] == 100
    assert windows.real.all()
    assert windows.age.max() < 10


def test_padding_goes_to_the_end(windows):
    n = windows.z.shape[1]
    padded = windows.padded(n + 5)
    assert padded.z.shape[1] == padded.state.shape[1] == n + 5
    assert not padded.real[:, n:].any()
    assert (padded.origin[:, n:] == -1).all()
    assert all(torch.equal(a, b) for a, b in zip(padded.tokens(slice(0, n)), windows))
    assert windows.padded(n - 1) is windows


def test_shortened_windows_are_streams_that_just_began(windows, task):
    generator = torch.Generator().manual_seed(0)
    short = windows.shortened(task.scans, 1.0, generator)
    assert (short.age.max(1).values < task.scans - 1).all()
    assert (short.real.sum(1) < windows.real.sum(1)).all()
    assert not short.z[~short.real].any()
    same = windows.shortened(task.scans, 0.0, generator)
    assert all(torch.equal(a, b) for a, b in zip(windows, same))


def test_polar_is_the_sensor(rng):
    x = rng.normal(size=(20, 4))
    expected = SCENARIOS["radar-1"].sensor.measure(x)
    np.testing.assert_allclose(polar(torch.as_tensor(x)), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["small", "williams15"])
def test_other_scenarios_are_refused(name):
    with pytest.raises(ValueError, match=f"got {name}. Choose one of: mt3-task1"):
        WindowSimulator(SCENARIOS[name])


def test_other_births_are_refused():
    scenario = SCENARIOS["radar-1"]
    world, time = scenario.draw.args
    both = dataclasses.replace(
        world.initial, rate=[1.0, 1.0], mean=np.zeros((2, 4)), cov=np.tile(np.eye(4), (2, 1, 1))
    )
    draw = type(scenario.draw)(scenario.draw.func, dataclasses.replace(world, initial=both), time)
    with pytest.raises(ValueError, match="uniform or of one Gaussian"):
        WindowSimulator(dataclasses.replace(scenario, draw=draw)).draw(1)
