"""TrigFlow: rotations, conversions against closed forms, the network, samplers, the teacher's loss."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from adapt.diffusion.derivative import along
from adapt.diffusion.model import Diffusion, load
from adapt.diffusion.network import UNet
from adapt.diffusion.sampling import Solver, even, gaussian, integrate, jump, jumps
from adapt.diffusion.teacher import GaussianTeacher, teach
from adapt.diffusion.trigflow import (
    NOISE,
    Converted,
    data_of,
    from_diffusers,
    noise_of,
    noised,
    rotated,
    velocity_of,
)
from perception.training import Run, RunConfig

MEAN, DEVIATION = 0.3, 0.8  # of a model's data
ABAR = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def alive(network, seed=0):
    """A network whose layers that start as nothing do not."""
    torch.manual_seed(seed)
    for p in network.parameters():
        if p.ndim > 1 and not p.any():
            torch.nn.init.normal_(p, 0.0, 0.1)
    return network


def test_a_step_is_a_rotation_and_goes_anywhere_at_once():
    x0, z, t, u = drawn(4, 1, 3, 3), drawn(4, 1, 3, 3, seed=1), torch.rand(4), torch.rand(4) * 1.5
    x, v = noised(x0, t, z), velocity_of(x0, t, z)
    assert torch.allclose(rotated(x, v, t - u), noised(x0, u, z), atol=1e-6)
    assert torch.allclose(data_of(x, v, t), x0, atol=1e-6)
    assert torch.allclose(noise_of(x, v, t), z, atol=1e-6)
    h = 1e-3
    slope = (noised(x0, t + h, z) - noised(x0, t - h, z)) / (2 * h)
    assert torch.allclose(slope, v, atol=1e-3)


def clean(x, a, b):
    """E[x_0 | x = a x_0 + b e] of Gaussian data."""
    return MEAN + a * DEVIATION**2 / (a**2 * DEVIATION**2 + b**2) * (x - a * MEAN)


def gaussian_model(kind):
    """The exact model of Gaussian data, of each kind."""
    angles = np.arccos(np.sqrt(ABAR.numpy()))

    def say(x, time):
        wide = time.reshape(-1, 1)
        if kind == "flow_prediction":
            a, b = 1 - wide, wide
        else:
            angle = np.interp(time.numpy(), np.arange(1000), angles)[:, None]
            a, b = (torch.from_numpy(f(angle)).float() for f in (np.cos, np.sin))
        x0 = clean(x, a, b)
        e = (x - a * x0) / b
        return {
            "epsilon": e,
            "sample": x0,
            "v_prediction": a * e - b * x0,
            "flow_prediction": e - x0,
        }[kind]

    return say


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction", "flow_prediction"])
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_models_of_other_processes_are_the_closed_form_velocity(kind, scale):
    t = torch.linspace(0.05, 1.5, 40)
    x = drawn(40, 5)
    found = Converted(gaussian_model(kind), kind, alphas_cumprod=ABAR, scale=scale)(x, t)
    expected = GaussianTeacher(scale * MEAN, scale * DEVIATION)(x, t)
    assert torch.allclose(found, expected, atol=5e-3)
    assert expected.std() > 0.1


def test_a_flow_model_is_what_the_paper_of_sana_sprint_makes_of_it():
    t, x = torch.linspace(0.05, 1.5, 9), drawn(9, 5)
    net = torch.nn.Linear(5, 5)
    s = (t.sin() / (t.sin() + t.cos()))[:, None]
    length = torch.sqrt(s**2 + (1 - s) ** 2)
    y = x / 0.5 * length
    F = ((1 - 2 * s) * y + (1 - 2 * s + 2 * s**2) * net(y)) / length
    found = Converted(lambda x, time: net(x), "flow_prediction")(x, t)
    assert torch.allclose(found, 0.5 * F, atol=1e-5)


def test_time_reaches_the_model_in_its_own_units():
    seen = []

    def model(x, time):
        seen.append(time)
        return SimpleNamespace(sample=torch.cat((x, x), 1))  # as models that learn a variance

    config = {"num_train_timesteps": 1000, "shift": 1.0}
    flow = from_diffusers(model, SimpleNamespace(config=config, sigmas=torch.ones(3)))
    flow(drawn(2, 1, 2, 2), torch.tensor([np.pi / 4, NOISE]))
    assert seen[-1].tolist() == pytest.approx([500, 1000])
    config = {"prediction_type": "v_prediction", "num_train_timesteps": 1000}
    ddpm = from_diffusers(model, SimpleNamespace(config=config, alphas_cumprod=ABAR), whole=True)
    angle = torch.arccos(ABAR.sqrt()).float()
    ddpm(drawn(3, 1, 2, 2), angle[[0, 499, 999]])
    assert seen[-1].dtype == torch.int64
    assert seen[-1].tolist() == [0, 499, 999]
    ddpm(drawn(1, 1, 2, 2), torch.tensor([NOISE]))  # there is no noisier step
    assert seen[-1].tolist() == [999]


@pytest.mark.parametrize(
    "config", [{"sigma_data": 0.5}, {"sigma_data": 0.5, "prediction_type": "epsilon"}, {}]
)
def test_schedulers_of_other_processes_are_not_taken_for_flows(config):
    with pytest.raises(ValueError, match="known are"):
        from_diffusers(lambda x, t: x, SimpleNamespace(config=config, sigmas=torch.ones(3)))


def test_noise_without_data_does_not_blow_up_a_model_of_noise():
    cosine = torch.cos(
        torch.linspace(0.01, NOISE, 1000, dtype=torch.float64)
    ).square()  # ends at no data at all
    found = Converted(lambda x, time: 1.001 * x, "epsilon", alphas_cumprod=cosine)(
        drawn(8, 1, 4, 4), torch.tensor([NOISE])
    )
    assert float(found.std()) < 0.5


def test_times_that_do_not_fall_and_unknown_orders_are_refused():
    for times in ([1.5, 1.0, 1.0, 0.0], [0.5, 1.0], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="fall"):
            integrate(GaussianTeacher(), drawn(2, 1), torch.tensor(times))
    with pytest.raises(ValueError, match="order 1 or 2"):
        Solver(3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_models_of_other_precision_make_samples(dtype):
    model = load("digits-fast")
    model.network.to(dtype)
    x = model.sample(3, torch.Generator().manual_seed(0), 2)
    assert x.dtype == dtype
    assert x.shape == (3, 1, 8, 8)


def test_an_unknown_prediction_is_a_clear_error():
    with pytest.raises(ValueError, match=r"one of epsilon, v_prediction.*got 'score'"):
        Converted(lambda x, t: x, "score")
    with pytest.raises(ValueError, match="alphas_cumprod"):
        Converted(lambda x, t: x, "epsilon")
    with pytest.raises(ValueError, match="predicts 'score'"):
        from_diffusers(
            lambda x, t: x, SimpleNamespace(config={"prediction_type": "score"}, alphas_cumprod=ABAR)
        )
    with pytest.raises(ValueError, match="answers"):
        Converted(lambda x, t: x[:, :1], "flow_prediction")(drawn(2, 3), torch.rand(2))


def test_a_diffusers_model_is_a_teacher_and_can_be_differentiated():
    diffusers = pytest.importorskip("diffusers", reason="the extra diffusion is not installed")
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    ).eval()
    velocity = from_diffusers(unet, diffusers.DDPMScheduler())
    x, t = drawn(2, 1, 8, 8), torch.tensor([0.4, 1.2])
    at, direction = (x, t), (0.1 * drawn(2, 1, 8, 8, seed=1), torch.tensor([0.02, 0.02]))
    forward, difference = (along(velocity, at, direction, how) for how in ("forward", "difference"))
    assert torch.allclose(forward, difference, atol=2e-2 * float(difference.abs().max()))
    assert difference.abs().max() > 1e-3
    for scheduler, kind in (
        (diffusers.FlowMatchEulerDiscreteScheduler(), "flow_prediction"),
        (diffusers.DDIMScheduler(prediction_type="sample"), "sample"),
        (diffusers.SCMScheduler(), "trigflow"),
    ):
        assert from_diffusers(unet, scheduler).kind == kind


# the network


@pytest.mark.parametrize(("size", "levels"), [((8, 8), 2), ((28, 28), 3), ((7, 9), 3), ((1, 1), 2)])
def test_the_network_takes_images_of_any_size(size, levels):
    network = alive(UNet(2, 8, levels))
    x = drawn(3, 2, *size)
    assert network(x, torch.rand(3)).shape == x.shape
    assert torch.equal(network(x, torch.tensor(0.3)), network(x, torch.full((3,), 0.3)))


def test_all_of_the_network_learns_and_heeds_time():
    network = alive(UNet(1, 8, 2))
    x = drawn(3, 1, 8, 8)
    out = network(x, torch.full((3,), 0.2))
    (out * drawn(3, 1, 8, 8, seed=1)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    assert (out - network(x, torch.full((3,), 1.2))).abs().max() > 1e-2
    assert torch.equal(UNet(1, 8, 2)(x, torch.rand(3)), torch.zeros_like(x))


def test_forward_mode_and_differences_agree():
    network = alive(UNet(1, 8, 2))
    at, direction = (
        (drawn(4, 1, 8, 8), torch.rand(4) + 0.2),
        (drawn(4, 1, 8, 8, seed=1), 0.5 * torch.ones(4)),
    )
    forward, difference = (along(network, at, direction, how) for how in ("forward", "difference"))
    assert (forward - difference).norm() / forward.norm() < 1e-3
    with pytest.raises(ValueError, match="forward, difference"):
        along(network, at, direction, "backward")


# samplers


def test_many_steps_reach_the_flow_with_an_error_of_one_over_their_square():
    still = GaussianTeacher(0.0, 0.5)  # data as wide as noise: nothing moves
    x = torch.ones(1, 1, dtype=torch.float64)
    gaps = [abs(1 - float(integrate(still, x, even(n)))) for n in (40, 80, 160, 320)]
    assert [a / b for a, b in pairwise(gaps)] == pytest.approx([3.5, 3.6, 3.7], abs=0.15)  # and then 4
    assert gaps[-1] < 1e-4
    other = GaussianTeacher(0.2, 0.3)
    end = integrate(other, drawn(5, 1), even(2000))
    assert torch.allclose(end, other.consistency(drawn(5, 1), torch.tensor(NOISE)), atol=2e-3)


def test_a_step_is_exact_where_the_data_change_steadily():
    def data(t):
        return 0.3 - 0.4 * (NOISE - t)

    def at(t):  # x / sin t changes by -data / sin^2 t
        gain = (NOISE - t) * t.cos() + torch.xlogy(t.sin(), t.sin())
        return (1.1 * t.sin() + 0.3 * t.cos() - 0.4 * gain)[None]

    solver, times = Solver(), torch.tensor([1.2, 0.9, 0.5, 0.0], dtype=torch.float64)
    solver.before = times[0], data(times[0])
    for t, u in pairwise(times[1:]):
        v = (t.cos() * at(t) - data(t)) / t.sin()
        torch.testing.assert_close(solver.step(at(t), v, t, u), at(u))


def test_a_consistency_model_jumps_and_is_noised_between():
    exact = GaussianTeacher(0.2, 0.3)

    def velocity(x, t):  # whose consistency function is the exact one
        wide = t[:, None]
        return (wide.cos() * x - exact.consistency(x, t)) / wide.sin()

    x = gaussian(4000, (1,), 0.5, torch.Generator().manual_seed(0))
    for times in (jumps(1), jumps(2), jumps(4)):
        out = jump(velocity, x, times, torch.Generator().manual_seed(1))
        assert float(out.mean()) == pytest.approx(0.2, abs=0.02)
        assert float(out.std()) == pytest.approx(0.3, abs=0.02)
    one, two = (jump(velocity, x, jumps(k), torch.Generator().manual_seed(1)) for k in (1, 2))
    assert abs(float(torch.corrcoef(torch.cat((one, two), 1).T)[0, 1])) < 0.9
    assert jumps(3) == pytest.approx([NOISE, 1.1, 0.55])
    for steps in (jumps, even):
        with pytest.raises(ValueError, match="at least 1"):
            steps(0)


# the teacher


def test_a_teacher_learns_the_velocity_of_a_gaussian():
    generator = torch.Generator().manual_seed(0)
    images = 0.5 * torch.randn(512, 1, 2, 2, generator=generator) + 0.1
    torch.manual_seed(0)
    network = UNet(1, 8, 1)
    run = Run(network, teach(images, 128), RunConfig(steps=150, rate=5e-3, average=0.9))
    run.train()
    run.use_average()
    x, t = drawn(200, 1, 2, 2) * 0.5, torch.full((200,), 0.8)
    wanted = GaussianTeacher(0.1, 0.5)(x, t)
    with torch.no_grad():
        assert (network(x, t) - wanted).square().mean() < 0.01
    assert wanted.square().mean() < 0.05  # the mean velocity, which is not that of a single pair
    with pytest.raises(ValueError, match="standard deviation"):
        teach(5 * images)


def test_models_round_trip_and_say_what_is_wrong(tmp_path):
    network = alive(UNet(1, 8, 2)).eval()
    model = Diffusion(network, (1, 8, 8), 0.3, 0.4)
    model.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    x, other = (m.sample(5, torch.Generator().manual_seed(0), 3) for m in (model, again))
    assert torch.equal(x, other)
    assert x.shape == (5, 1, 8, 8)
    assert (again.size, again.mean, again.deviation, again.jumps) == ((1, 8, 8), 0.3, 0.4, False)
    pixels = torch.rand(3, 1, 8, 8)
    assert torch.allclose(model.pixels(model.scaled(pixels)), pixels, atol=1e-6)
    assert float(model.scaled(torch.tensor(0.7))) == pytest.approx(0.5)
    (tmp_path / "x.safetensors").write_bytes(b"\0" * 40)
    with pytest.raises(ValueError):
        load(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="choose"):
        load("nothing")
