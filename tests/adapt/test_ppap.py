"""PPAP: ranges, experts that switch, data-free transfer, and a gradient that leads where it should."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

pytest.importorskip("peft", reason="the extra diffusion is not installed")

from adapt.diffusion.experts import Experts, adaptable, load_experts
from adapt.diffusion.guidance import (
    Guidance,
    changed,
    denoised,
    guided,
    guided_jump,
    raw,
    toward_class,
    toward_map,
    toward_values,
)
from adapt.diffusion.guides import EventClassifier, FrameDepth, Guide, MapGuide, load_guide, save_guide
from adapt.diffusion.model import Diffusion
from adapt.diffusion.network import UNet
from adapt.diffusion.ppap import ppap, sample
from adapt.diffusion.ranges import Ranges
from adapt.diffusion.sampling import even, integrate, jumps
from adapt.diffusion.teacher import GaussianTeacher
from adapt.diffusion.transfer import TransferConfig, answers, classes, transfer, values
from adapt.diffusion.trigflow import NOISE, data_of, noise_of, noised
from tracking.formats import weights

ABAR = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def guide():
    torch.manual_seed(0)
    made = Guide(1, 4, 8)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):  # as a trained one has them
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return made.eval()


@pytest.fixture
def model():
    torch.manual_seed(1)
    network = UNet(1, 8, 2)
    nn.init.normal_(network.out.weight, 0.0, 0.1)
    return Diffusion(network.eval(), (1, 8, 8), 0.3, 0.4)


def stirred(experts):
    """Experts that differ from their guide, and from each other."""
    for n in range(len(experts.ranges)):
        own = experts.tensors(n)
        moved = {k: v + 0.1 * drawn(*v.shape, seed=n) if "lora_B" in k else v for k, v in own.items()}
        experts.put(n, {k: v + 0.05 * (n + 1) if "running_mean" in k else v for k, v in moved.items()})
    return experts


# ranges


@pytest.mark.parametrize("n", [1, 3, 5, 7])
def test_steps_of_a_schedule_belong_to_the_expert_of_the_paper(n):
    ranges = Ranges.of_steps(ABAR, n)
    times = np.arccos(np.sqrt(ABAR.numpy()))
    assert [ranges.of(t) for t in times] == [k * n // 1000 for k in range(1000)]
    assert len(ranges) == n
    for k in range(n):
        drawn_times = ranges.draw(k, 50, np.random.default_rng(0))
        assert set(drawn_times) <= set(times)
        assert {ranges.of(t) for t in drawn_times} == {k}


def test_ranges_are_even_in_what_they_say():
    even_time = Ranges.even(4)
    assert np.diff(even_time.edges) == pytest.approx([NOISE / 4] * 4)
    snr = Ranges.log_snr(4, 4.0, -4.0)
    assert [2 * math.log(1 / math.tan(t)) for t in snr.edges[1:-1]] == pytest.approx([2.0, 0.0, -2.0])
    assert snr.edges[0] == 0
    assert snr.edges[-1] == NOISE
    assert [snr.of(t) for t in (0.0, 1e-3, NOISE / 2 + 1e-6, NOISE, 2.0)] == [0, 0, 2, 3, 3]
    assert all(snr.of(t) == 1 for t in snr.draw(1, 50, np.random.default_rng(0)))
    with pytest.raises(ValueError, match="rise"):
        Ranges((0.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="from 1 to 1000"):
        Ranges.of_steps(ABAR, 0)


# experts


def test_without_adapters_the_guide_is_bitwise_itself(guide):
    x = drawn(6, 1, 8, 8)
    before = {k: v.clone() for k, v in guide.state_dict().items()}
    experts = stirred(Experts(guide, Ranges.even(3)))
    assert torch.equal(experts.guide(x), guide(x))
    said = [experts(x, t) for t in (0.1, 0.8, 1.5)]
    for k in range(3):
        assert not torch.allclose(said[k], said[k - 1], atol=1e-3)
        assert not torch.allclose(said[k], guide(x), atol=1e-3)
    transfer(experts, x, classes(), TransferConfig(steps=6, batch=4))
    assert torch.equal(experts.guide(x), guide(x))
    assert all(torch.equal(before[k], v) for k, v in guide.state_dict().items())


def test_a_new_expert_says_what_the_guide_says(guide):
    experts = Experts(guide, Ranges.even(2))
    x = drawn(3, 1, 8, 8)
    for t in (0.1, 1.5):
        assert torch.allclose(experts(x, t), guide(x), atol=1e-6)


def test_experts_are_small_and_one_learns_at_a_time(guide):
    experts = Experts(guide, Ranges.even(3), rank=2)
    convolutions = [m for m in guide.modules() if isinstance(m, nn.Conv2d)]
    lora = sum(2 * 9 * m.in_channels + 2 * m.out_channels for m in convolutions)
    linear = 2 * (guide.out.in_features + guide.out.out_features)
    norms = sum(2 * m.num_features for m in guide.modules() if isinstance(m, nn.BatchNorm2d))
    for n in range(3):
        experts.select(n)
        assert experts.trainable() == lora + linear + norms
        assert all(f"expert{n}" in name for name, p in experts.named_parameters() if p.requires_grad)


def test_experts_round_trip_and_refuse_another_guide(guide, tmp_path):
    experts = stirred(Experts(guide, Ranges.log_snr(3), rank=2, sigma=1.0))
    experts.save(tmp_path / "e.safetensors", note="n")
    again = load_experts(tmp_path / "e.safetensors", guide)
    x = drawn(4, 1, 8, 8)
    for t in (0.1, 0.8, 1.5):
        assert torch.equal(again(x, t), experts(x, t))
    assert (again.sigma, again.ranges) == (1.0, experts.ranges)
    for other in (Guide(1, 4, 12), nn.Sequential(nn.Conv2d(1, 4, 3))):
        with pytest.raises(ValueError, match="experts of this guide"):
            load_experts(tmp_path / "e.safetensors", other)
    other = copy.deepcopy(guide)
    with torch.no_grad():
        other.out.bias += 1
    with pytest.raises(ValueError, match="other weights"):
        load_experts(tmp_path / "e.safetensors", other)
    save_guide(guide, tmp_path / "g.safetensors")
    assert torch.equal(load_guide(tmp_path / "g.safetensors")(x), guide(x))
    with pytest.raises(ValueError, match="does not hold weights"):
        load_experts(tmp_path / "g.safetensors", guide)


@pytest.mark.parametrize(
    "change",
    [
        {"sigma": math.nan},
        {"sigma": -1.0},
        {"alpha": math.nan},
        {"edges": [0, math.nan, NOISE]},
        {"edges": [9, 10]},
    ],
)
def test_damaged_descriptions_of_experts_are_refused(guide, tmp_path, change):
    path = tmp_path / "e.safetensors"
    Experts(guide, Ranges.log_snr(2), rank=2).save(path)
    document, tensors = weights.read_weights(path, "experts")
    weights.write_weights(path, "experts", document | change, tensors)
    with pytest.raises(ValueError, match="experts of this guide"):
        load_experts(path, guide)


def test_statistics_of_instances_stay_the_guides_own():
    torch.manual_seed(0)
    norm = nn.InstanceNorm2d(4, track_running_stats=True)
    guide = nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
    experts, x = Experts(guide, Ranges.log_snr(2), rank=2), drawn(40, 1, 8, 8)
    transfer(experts, x, classes(), TransferConfig(steps=6, batch=8))
    assert torch.equal(experts.guide(x), guide(x))


def test_any_module_with_layers_can_be_adapted():
    deep = nn.Sequential(
        *[nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.ReLU()) for _ in range(12)]
    )
    experts = Experts(deep, Ranges.even(1), rank=1)  # names such as 1.1 are ends of 11.1
    x = drawn(3, 2, 4, 4)
    assert torch.allclose(experts(x, 0.1), deep.eval()(x), atol=1e-6)
    assert len(adaptable(deep)) == 12
    grouped = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.MultiheadAttention(4, 2), nn.Linear(4, 2))
    assert adaptable(grouped) == ["2"]
    with pytest.raises(ValueError, match="no linear"):
        Experts(nn.ReLU(), Ranges.even(1))


# transfer


def test_the_distance_sharpens_the_guide_alone():
    said, wanted = drawn(5, 3), drawn(5, 3, seed=1)
    p = (wanted / 0.25).softmax(1)
    expected = (p * (p.log() - said.log_softmax(1))).sum(1).mean()
    assert float(classes()(said, wanted)) == pytest.approx(float(expected), rel=1e-5)
    assert float(classes(1.0)(said, said)) == pytest.approx(0, abs=1e-6)
    maps = classes()(said[..., None, None].expand(5, 3, 2, 2), wanted[..., None, None].expand(5, 3, 2, 2))
    assert float(maps) == pytest.approx(float(expected), rel=1e-5)
    assert float(values(said, wanted)) == pytest.approx(float((said - wanted).square().mean()))


@pytest.mark.parametrize("chain", [True, False])
def test_experts_learn_what_the_guide_says_of_clean_samples(guide, chain):
    images = 0.5 * drawn(60, 1, 8, 8)
    experts = Experts(guide, Ranges.even(2))
    t, z = torch.full((60,), 0.5), 0.5 * drawn(60, 1, 8, 8, seed=5)

    def off():
        experts.eval()
        with torch.no_grad():
            return float(classes()(experts(noised(images, t, z), 0.5), answers(experts, images)))

    before, told = off(), []
    config = TransferConfig(steps=120, batch=40, rate=1e-2, chain=chain)
    transfer(experts, images, classes(), config, advance=lambda n, parts: told.append((n, parts["distance"])))
    assert off() < 0.8 * before
    assert [n for n, _ in told] == [0, 1]
    assert (told[1][1] > 0) is True
    with pytest.raises(ValueError, match="its answer"):
        transfer(experts, images, classes(), config, wanted=torch.zeros(3, 4))


def test_a_chained_expert_starts_where_the_last_one_ended(guide):
    experts = Experts(guide, Ranges.even(2))
    starts = []
    transfer(
        experts,
        drawn(8, 1, 8, 8),
        lambda said, wanted: starts.append(experts.active) or F.mse_loss(said, wanted),
        TransferConfig(steps=4, batch=8, rate=0.0, decay=0.0),
    )
    assert starts == [0, 0, 1, 1]
    one, two = experts.tensors(0), experts.tensors(1)
    assert all(torch.equal(one[k], two[k]) for k in one if "lora" in k)


def test_ppap_sees_no_image_but_the_models_own(guide, model):
    made = []

    class Watched(Diffusion):
        def sample(self, n, generator, steps=None):
            made.append(n)
            return super().sample(n, generator, 2)

    watched = Watched(model.network, model.size, model.mean, model.deviation)
    config = TransferConfig(steps=4, batch=8)
    experts = ppap(guide, watched, classes(), ranges=Ranges.even(2), samples=16, config=config)
    assert made == [16]
    again = ppap(guide, watched, classes(), ranges=Ranges.even(2), samples=16, config=config)
    x = drawn(2, 1, 8, 8)
    assert torch.equal(experts(x, 0.3), again(x, 0.3))
    for one in (model, Diffusion(model.network, model.size, 0.3, 0.4, jumps=True)):
        out = sample(one, experts, toward_class(2), 3, torch.Generator().manual_seed(0), steps=3)
        assert out.shape == (3, 1, 8, 8)
        assert out.isfinite().all()


# guidance


def test_without_strength_nothing_changes_bitwise(guide, model):
    x, net = 0.5 * drawn(4, 1, 8, 8), model.network
    off = Guidance(raw(guide), toward_class(1), 0.0)
    with torch.no_grad():
        assert torch.equal(integrate(guided(net, off), x, even(4)), integrate(net, x, even(4)))
    assert off.calls == 0
    noise = Guidance(raw(guide), toward_class(1), 1.0)
    start = torch.full((4,), NOISE)
    with torch.no_grad():
        assert torch.equal(guided(net, noise)(x, start), net(x, start))  # nothing to be seen yet
    on = Guidance(raw(guide), toward_class(1), lambda t: 1.0 if t < 1 else 0.0)
    with torch.no_grad():
        assert not torch.equal(integrate(guided(net, on), x, even(4)), integrate(net, x, even(4)))
    assert 0 < on.calls < 4


def test_the_gradient_raises_what_is_wanted_and_is_each_samples_own(guide):
    x = 0.5 * drawn(5, 1, 8, 8)
    guidance = Guidance(raw(guide), toward_class(2), 1.0)
    g = guidance.gradient(x, 0.5)

    def log_p(at):
        return guide(at).log_softmax(1)[:, 2]

    assert (log_p(x + 1e-2 * g / g.flatten(1).norm(dim=1)[:, None, None, None]) > log_p(x)).all()
    for k in range(5):
        assert torch.allclose(guidance.gradient(x[k : k + 1], 0.5)[0], g[k], atol=1e-5)
    labels = torch.tensor([0, 1, 2, 3, 2])
    assert torch.allclose(Guidance(raw(guide), toward_class(labels)).gradient(x, 0.5)[2], g[2], atol=1e-5)


def test_guides_of_half_precision_lead(guide):
    x = 0.5 * drawn(3, 1, 8, 8)
    exact = Guidance(raw(guide), toward_class(2)).gradient(x, 0.5)
    half = copy.deepcopy(guide).bfloat16()
    for one in (raw(half), Experts(half, Ranges.even(2), rank=2)):
        g = Guidance(one, toward_class(2)).gradient(x, 0.5)
        assert g.dtype == x.dtype
        assert float(F.cosine_similarity(g.flatten(1), exact.flatten(1)).min()) > 0.9


def test_pixels_of_unknown_depth_are_left_out():
    said = drawn(2, 4, 4)
    wanted = drawn(2, 4, 4, seed=1)
    full = toward_values(wanted)(said)
    torch.testing.assert_close(full, (said - wanted).square().sum((1, 2)) / 2)
    holes = wanted.clone()
    holes[:, 0] = torch.tensor([torch.inf, -torch.inf, torch.nan, torch.inf])
    part = said.clone().requires_grad_()
    loss = toward_values(holes)(part)
    torch.testing.assert_close(loss, (said - wanted)[:, 1:].square().sum((1, 2)) / 2)
    (slope,) = torch.autograd.grad(loss.sum(), part)
    assert slope.isfinite().all()
    assert (slope[:, 0] == 0).all()
    torch.testing.assert_close(toward_values(holes[0])(said)[0], loss[0].detach())
    with pytest.raises(ValueError, match="no finite number"):
        toward_values(torch.full((4, 4), torch.nan))(said)


def test_a_guided_gaussian_is_the_posterior():
    """Data N(0, 0.4^2), a guide that has seen 0.3 with noise 0.2: the samples are their product."""
    teacher, seen, noise = GaussianTeacher(0.0, 0.4), 0.3, 0.2

    def exact(x, t):  # E and variance of the data at x_t are known: so is p(seen | x_t)
        a, b = math.cos(t), 0.5 * math.sin(t)
        share = a * 0.4**2 / (a * a * 0.4**2 + b * b)
        left = 0.4**2 - share * a * 0.4**2
        return (share * x - seen) / math.sqrt(left + noise**2)

    guidance = Guidance(exact, lambda said: 0.5 * said[:, 0] ** 2, 1.0)
    x = 0.5 * drawn(4000, 1)
    with torch.no_grad():
        out = integrate(guided(teacher, guidance), x, even(200))
    variance = 1 / (1 / 0.4**2 + 1 / noise**2)
    assert float(out.mean()) == pytest.approx(variance * seen / noise**2, abs=0.02)
    assert float(out.std()) == pytest.approx(math.sqrt(variance), abs=0.02)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction", "flow_prediction", "trigflow"])
def test_a_change_of_noise_is_the_same_for_every_kind_of_model(kind):
    a, b = (0.4, 0.6) if kind == "flow_prediction" else (math.cos(0.9), math.sin(0.9))
    x, e, de = drawn(3, 2), drawn(3, 2, seed=1), 0.1 * drawn(3, 2, seed=2)

    def answer(e):
        x0 = (x - b * e) / a
        return {
            "epsilon": e,
            "sample": x0,
            "flow_prediction": e - x0,
            "v_prediction": a * e - b * x0,
            "trigflow": a * e - b * x0,
        }[kind]

    assert torch.allclose(changed(kind, answer(e), de, a, b), answer(e + de), atol=1e-5)


def test_a_guided_velocity_has_the_shifted_noise(guide, model):
    x, t = 0.5 * drawn(3, 1, 8, 8), torch.full((3,), 0.9)
    guidance = Guidance(raw(guide), toward_class(1), 2.0)
    with torch.no_grad():
        plain, led = model.network(x, t), guided(model.network, guidance)(x, t)
    g = guidance.gradient(x, 0.9)
    de = (noise_of(x, led, t) - noise_of(x, plain, t)) / 0.5
    dx0 = data_of(x, led, t) - data_of(x, plain, t)
    # e' = e - sigma sin t s g where both belong to the same x
    assert torch.allclose(de, -0.5 * math.sin(0.9) * 2.0 * g, atol=1e-5)
    assert torch.allclose(math.cos(0.9) * dx0 + 0.5 * math.sin(0.9) * de, torch.zeros_like(x), atol=1e-5)
    with pytest.raises(ValueError, match="one time"):
        guided(model.network, guidance)(x, torch.rand(3))


def test_through_the_denoiser_the_guide_sees_clean_images(guide, model):
    x = 0.5 * drawn(2, 1, 8, 8)
    said = denoised(guide, model.network)(x, 0.7)
    t = torch.full((2,), 0.7)
    assert torch.allclose(said, guide(data_of(x, model.network(x, t), t)), atol=1e-6)
    guidance = Guidance(denoised(guide, model.network), toward_class(0))
    assert not torch.allclose(
        guidance.gradient(x, 0.7), Guidance(raw(guide), toward_class(0)).gradient(x, 0.7), atol=1e-4
    )


def test_jumps_are_led_too():
    exact = GaussianTeacher(0.0, 0.4)

    def velocity(x, t):
        return (t[:, None].cos() * x - exact.consistency(x, t)) / t[:, None].sin()

    x, generator = 0.5 * drawn(500, 1), torch.Generator().manual_seed(0)
    toward = Guidance(lambda x, t: x, lambda said: 5 * (said[:, 0] - 0.6) ** 2, 1.0)
    out = guided_jump(velocity, x, jumps(4), toward, generator)
    assert float(out.mean()) > 0.1
    off = Guidance(lambda x, t: x, lambda said: said[:, 0] ** 2, 0.0)
    assert abs(float(guided_jump(velocity, x, jumps(4), off, generator).mean())) < 0.06
    assert off.calls == 0
    assert toward.calls == 6


def test_losses_are_one_number_a_sample_and_check_sizes():
    logits, maps = drawn(3, 4), drawn(3, 4, 5, 5)
    wanted = torch.randint(0, 4, (5, 5), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(toward_class(2)(logits), -logits.log_softmax(1)[:, 2])
    expected = F.cross_entropy(maps, wanted.expand(3, 5, 5), reduction="none").sum((1, 2))
    assert torch.allclose(toward_map(wanted)(maps), expected)
    depth = drawn(3, 5, 5)
    assert torch.allclose(toward_values(depth[0])(depth)[0], torch.zeros(()))
    assert torch.allclose(toward_values(0 * depth)(depth), depth.square().sum((1, 2)) / 2)
    with pytest.raises(ValueError, match="4 classes apart, wanted is 4"):
        toward_class(4)(logits)
    with pytest.raises(ValueError, match=r"\(b, classes\)"):
        toward_class(1)(maps)
    with pytest.raises(ValueError, match="label map"):
        toward_map(wanted[:4])(maps)
    with pytest.raises(ValueError, match="each of 3"):
        toward_map(wanted.expand(2, 5, 5))(maps)
    with pytest.raises(ValueError, match="the map has 7"):
        toward_map(wanted + 4 * (wanted == 3))(maps)
    with pytest.raises(ValueError, match="wanted is"):
        toward_values(depth[:, :4])(depth)


def test_guides_that_cannot_are_clear_errors(guide, model):
    guidance = Guidance(raw(guide), toward_class(1))
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"use torch\.no_grad"):
        guidance.gradient(drawn(2, 1, 8, 8), 0.5)
    with torch.no_grad():
        assert guidance.gradient(drawn(2, 1, 8, 8), 0.5).abs().sum() > 0
    with pytest.raises(ValueError, match=r"does not take the model's images of \(3, 8, 8\)"):
        guidance.gradient(drawn(2, 3, 8, 8), 0.5)
    with pytest.raises(ValueError, match="one number a sample"):
        Guidance(raw(guide), lambda said: said.sum()).gradient(drawn(2, 1, 8, 8), 0.5)
    with pytest.raises(ValueError, match=r"under torch\.no_grad"):
        Guidance(torch.no_grad()(raw(guide)), toward_class(1)).gradient(drawn(2, 1, 8, 8), 0.5)
    with pytest.raises(ValueError, match="one for each of 2"):
        Guidance(raw(guide), toward_class(torch.arange(3))).gradient(drawn(2, 1, 8, 8), 0.5)
    for scale in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="scale"):
            Guidance(raw(guide), toward_class(1), scale)
    experts = Experts(guide, Ranges.log_snr(2), rank=2)
    with pytest.raises(ValueError, match=r"deviation 0\.5, the model's is 1"):
        Guidance(experts, toward_class(1), 1.0, sigma=1.0)
    for fast in (model, dataclasses.replace(model, jumps=True)):
        for n, steps in ((0, 4), (2, 1), (2, 0)):
            with pytest.raises(ValueError, match="2 steps"):
                sample(fast, experts, toward_class(1), n, torch.Generator(), steps=steps)


# guides of this toolkit


def test_recognition_and_depth_guide(model):
    recognize = pytest.importorskip("perception.recognize.network")
    network = recognize.Network(5, "count", 1, 8).eval()
    experts = Experts(EventClassifier(network), Ranges.even(2), rank=2)
    x = 0.5 * drawn(2, 2, 16, 16)
    assert Guidance(experts, toward_class(3)).gradient(x, 0.4).abs().sum() > 0
    pytest.importorskip("transformers", reason="the extra depth is not installed")
    from perception.depth.backbone import Backbone

    torch.manual_seed(0)
    backbone = Backbone.tiny(16, hidden_size=16, num_hidden_layers=4, num_attention_heads=2).eval()
    for p in backbone.parameters():  # a random network is nearly constant
        nn.init.normal_(p, 0.0, 0.08) if p.ndim > 1 else None
    depth = FrameDepth(backbone, model)
    experts = Experts(depth, Ranges.even(2), rank=2)
    x = 0.2 * drawn(2, 1, 16, 16)
    wanted = depth(x)[0].detach() + 1
    assert Guidance(experts, toward_values(wanted)).gradient(x, 0.4).abs().sum() > 0
    assert torch.allclose(experts.guide(x), depth(x), atol=1e-6)


def test_a_map_guide_learns_through_all_it_has():
    guide = MapGuide(1, 8)
    out = guide(drawn(4, 1, 12, 10))
    assert out.shape == (4, 12, 10)
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in guide.parameters())
