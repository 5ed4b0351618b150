"""The hook into schedulers: against schedulers written here, and those of diffusers where it is installed."""

import math
from types import SimpleNamespace

import pytest
import torch

from adapt.diffusion.guidance import Guidance
from adapt.diffusion.hook import hooked, shares

ABAR = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)


class DDIM:
    """A scheduler as diffusers has them, whose step shows what it was told."""

    def __init__(self, kind="epsilon"):
        self.config = {"prediction_type": kind, "num_train_timesteps": 1000}
        self.alphas_cumprod = ABAR

    def step(self, model_output, timestep, sample, eta=0.0):
        return SimpleNamespace(told=model_output, eta=eta)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pulling(scale, sigma=1.0):
    """A guide that says x, and a loss that is least at 0: g = -x."""
    seen = []

    def guide(x, t):
        seen.append((x.detach().clone(), t))
        return x

    return Guidance(guide, lambda said: 0.5 * said.square().flatten(1).sum(1), scale, sigma), seen


def test_epsilon_is_shifted_by_the_formula_and_the_guide_is_called():
    scheduler, (guidance, seen) = DDIM(), pulling(3.0)
    x, e, t = drawn(2, 1, 4, 4), drawn(2, 1, 4, 4, seed=1), 400
    with torch.inference_mode(False), torch.no_grad(), hooked(scheduler, guidance):
        out = scheduler.step(e, t, x, eta=0.5)
    b = math.sqrt(1 - float(ABAR[t]))
    assert torch.allclose(out.told, e - b * 3.0 * (-x), atol=1e-5)
    assert out.eta == 0.5
    assert guidance.calls == 1
    assert seen[0][1] == pytest.approx(math.asin(b), rel=1e-4)
    assert torch.equal(scheduler.step(e, t, x).told, e)  # it has let go


def test_all_answers_mean_the_same_data():
    x, e = drawn(2, 1, 4, 4), drawn(2, 1, 4, 4, seed=1)
    a, b = float(ABAR[300].sqrt()), float((1 - ABAR[300]).sqrt())
    x0 = (x - b * e) / a
    answers = {"epsilon": e, "sample": x0, "v_prediction": a * e - b * x0}
    found = []
    for kind, answer in answers.items():
        scheduler, (guidance, _) = DDIM(kind), pulling(2.0)
        with hooked(scheduler, guidance):
            told = scheduler.step(answer, torch.tensor(300), x).told
        found.append({"epsilon": (x - b * told) / a, "sample": told, "v_prediction": a * x - b * told}[kind])
    assert torch.allclose(found[0], found[1], atol=1e-4)
    assert torch.allclose(found[0], found[2], atol=1e-4)
    assert not torch.allclose(found[0], x0, atol=0.1)


def test_no_strength_is_bitwise_nothing_and_a_variance_is_left_alone():
    scheduler, (guidance, seen) = DDIM(), pulling(0.0)
    x, e = drawn(2, 1, 4, 4), drawn(2, 2, 4, 4, seed=1)
    with hooked(scheduler, guidance):
        assert scheduler.step(e, 400, x).told is e
    assert seen == []
    guidance, _ = pulling(1.0)
    with hooked(scheduler, guidance):
        told = scheduler.step(e, 400, x).told
    assert torch.equal(told[:, 1:], e[:, 1:])
    assert not torch.equal(told[:, :1], e[:, :1])


def test_other_scalings_reach_the_guide_as_its_own():
    sigma = torch.tensor([8.0, 2.0, 0.0])
    euler = SimpleNamespace(
        config={"prediction_type": "epsilon"}, sigmas=sigma, step_index=1, is_scale_input_called=True
    )
    a, b, size = shares(euler, "epsilon", 0)
    assert (a, b, size) == pytest.approx((1 / math.sqrt(5), 2 / math.sqrt(5), math.sqrt(5)))
    flow = SimpleNamespace(
        sigmas=torch.tensor([1.0, 0.6, 0.0]), timesteps=torch.tensor([1000.0, 600.0]), step_index=None
    )
    a, b, size = shares(flow, "flow_prediction", torch.tensor(600.0))
    assert (a, b, size) == pytest.approx((0.4, 0.6, math.hypot(0.4, 0.6)))


def test_hooks_within_hooks_are_taken_off_one_by_one():
    scheduler, (outer, _), (inner, _) = DDIM(), pulling(1.0), pulling(1.0)
    x = drawn(1, 1, 4, 4)
    with hooked(scheduler, outer):
        with hooked(scheduler, inner):
            scheduler.step(x, 3, x)
        scheduler.step(x, 3, x)
    assert (outer.calls, inner.calls) == (2, 1)
    assert "step" not in vars(scheduler)


def test_what_is_not_known_is_a_clear_error():
    scheduler, (guidance, _) = DDIM("score"), pulling(1.0)
    with pytest.raises(ValueError, match="predicts 'score'"), hooked(scheduler, guidance):
        pass
    with pytest.raises(ValueError, match=r"deviation of 1, the guidance is for 0\.5"):
        with hooked(DDIM(), pulling(1.0, 0.5)[0]):
            pass
    scheduler, (guidance, _) = DDIM(), pulling(1.0)
    with torch.inference_mode(), hooked(scheduler, guidance):
        with pytest.raises(RuntimeError, match="inference_mode"):
            scheduler.step(drawn(1, 1, 4, 4), 3, drawn(1, 1, 4, 4))
    assert "step" not in vars(scheduler)


def test_a_diffusers_pipeline_calls_the_guide_at_every_step():
    diffusers = pytest.importorskip("diffusers", reason="the extra diffusion is not installed")
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        add_attention=False,
    ).eval()
    pipe = diffusers.DDIMPipeline(unet, diffusers.DDIMScheduler(clip_sample=False))
    pipe.set_progress_bar_config(disable=True)

    def made(guidance):
        kwargs = {"batch_size": 2, "num_inference_steps": 5, "output_type": "np"}
        with hooked(pipe.scheduler, guidance):
            return pipe(generator=torch.Generator().manual_seed(0), **kwargs).images

    (on, seen), (off, _) = pulling(1.0), pulling(0.0)
    led, plain = made(on), made(off)
    assert on.calls == 5
    assert [t for _, t in seen] == sorted((t for _, t in seen), reverse=True)
    assert abs(led - 0.5).mean() < abs(plain - 0.5).mean()  # towards 0, which is grey
    plain_again = pipe(
        batch_size=2, num_inference_steps=5, output_type="np", generator=torch.Generator().manual_seed(0)
    ).images
    assert (plain == plain_again).all()


@pytest.mark.parametrize(
    "name", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "FlowMatchEulerDiscreteScheduler"]
)
def test_diffusers_schedulers_are_led_to_the_same_place(name):
    diffusers = pytest.importorskip("diffusers", reason="the extra diffusion is not installed")
    scheduler = getattr(diffusers, name)()
    scheduler.set_timesteps(20)
    seen = []

    def guide(x, t):  # has seen 0, with noise of deviation 1, of data N(0, 1)
        seen.append(x.detach())
        return math.cos(t) * x / math.sqrt(1 + math.sin(t) ** 2)

    guidance = Guidance(guide, lambda said: 0.5 * said.square().flatten(1).sum(1), 1.0, 1.0)
    x = drawn(64, 1, 4, 4) * float(getattr(scheduler, "init_noise_sigma", 1.0))
    flow = name.startswith("Flow")
    with torch.no_grad(), hooked(scheduler, guidance):
        for t in scheduler.timesteps:
            at = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
            if flow:  # data N(0, 1): the exact velocity and noise
                s = float(t) / 1000
                out = at * (s - (1 - s)) / (s * s + (1 - s) ** 2)
            else:
                out = at * math.sqrt(1 - float(scheduler.alphas_cumprod[int(t)]))
            x = scheduler.step(out, t, x).prev_sample
    assert guidance.calls == (19 if flow else 20)  # a flow starts with nothing but noise
    for shown in seen[:3]:
        assert 0.8 < float(shown.std()) < 1.2
    assert float(x.std()) == pytest.approx(math.sqrt(0.5), abs=0.08)  # the posterior's; unguided: 1
