"""EventDance: its losses against sums by hand, its surrogates, and the whole on streams of two classes."""

import numpy as np
import pytest
import torch
from torch import nn

from adapt.source_free.eventdance import EventDanceConfig, event_dance
from adapt.source_free.eventdance_losses import anchors, divergence, source_losses, target_losses
from adapt.source_free.surrogates import Tone, reconstructed, voxels_of
from perception.events import EventStream
from perception.reconstruct.model import Reconstructor
from perception.reconstruct.networks import FireNet

QUICK = EventDanceConfig(
    representations=("count", "stack"), bins=3, width=4, windows=4, skip=1, steps=3, batch=4, rate=1e-3
)


def streams(n=6, side=16, seed=0):
    """Bars that move: class 0 is upright, class 1 lies."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(n):
        t = np.sort(rng.integers(0, 80_000, 400))
        at = (3 + 9 * t / 80_000 + rng.normal(0, 0.3, 400)).astype(int).clip(0, side - 1)
        along = rng.integers(2, side - 2, 400)
        x, y = (at, along) if k % 2 == 0 else (along, at)
        found.append(EventStream(x, y, t, rng.random(400) < 0.7, side, side))
    return found


def classifier(classes=2):
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, classes)
    ).eval()


def reconstructor():
    torch.manual_seed(2)
    return Reconstructor(FireNet(channels=4), 20_000)


def test_losses_of_the_source_are_their_sums_by_hand():
    p = torch.tensor([[[0.9, 0.1], [0.6, 0.4]], [[0.5, 0.5], [0.2, 0.8]]], dtype=torch.float64)
    which = anchors(p)
    assert which.tolist() == [0, 1]
    found = source_losses(p, which)
    h = -(p * p.log()).sum(-1)
    assert found["entropy"].item() == pytest.approx(h.mean().item())
    kl = [
        0.9 * np.log(0.9 / 0.6) + 0.1 * np.log(0.1 / 0.4),
        0.2 * np.log(0.2 / 0.5) + 0.8 * np.log(0.8 / 0.5),
    ]
    assert found["constancy"].item() == pytest.approx(np.mean(kl))
    mean = np.array([0.55, 0.45])
    assert found["diversity"].item() == pytest.approx((mean * np.log(mean)).sum())


def test_what_teaches_has_no_gradient():
    logits = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    p = logits.softmax(-1)
    p.retain_grad()
    which = anchors(p.detach())
    source_losses(p, which)["constancy"].backward()
    rows = torch.arange(3)
    others = p.grad.clone()
    others[rows, which] = 0
    assert (others != 0).any()
    teacher = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    one, two = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    parts = target_losses({"a": one, "b": two}, teacher.softmax(1), 0.0, torch.ones(4))
    sum(parts.values()).backward()
    assert teacher.grad is None
    assert one.grad.abs().sum() > 0
    assert two.grad.abs().sum() > 0


def test_gradients_of_the_losses_are_those_of_differences():
    teacher = torch.randn(4, 3, dtype=torch.float64).softmax(1)
    start = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.ones(4).double()

    def target(name):
        return lambda x: target_losses({"a": x[0], "b": x[1]}, teacher, 0.4, weight)[name]

    def entropy(x):
        return source_losses(x.softmax(-1), torch.zeros(2, dtype=torch.int64))["entropy"]

    for loss in (target("supervised"), target("teaching"), entropy):
        assert torch.autograd.gradcheck(loss, (start,))


def test_networks_agree_by_the_divergence_of_each_from_each():
    one, two = torch.randn(2, 5, 3, dtype=torch.float64)
    teacher = torch.full((5, 3), 1 / 3, dtype=torch.float64)
    parts = target_losses({"a": one, "b": two}, teacher, 0.0, torch.ones(5).double())
    p, q = one.softmax(1), two.softmax(1)
    wanted = divergence(p, q).mean() + divergence(q, p).mean()
    assert parts["agreement"].item() == pytest.approx(wanted.item())
    assert target_losses({"a": one}, teacher, 0.0, torch.ones(5).double())["agreement"] == 0


def test_unsure_anchors_teach_no_label():
    logits = {"a": torch.randn(2, 2)}
    teacher = torch.tensor([[0.55, 0.45], [0.1, 0.9]])
    found = target_losses(logits, teacher, 0.6, torch.ones(2))["supervised"]
    wanted = nn.functional.cross_entropy(logits["a"][1:], torch.tensor([1])) / 2
    assert found.item() == pytest.approx(wanted.item())


def test_the_tone_map_undoes_gain_offset_and_sign():
    image = torch.randn(2, 3, 16, 16)
    tone = Tone()
    one = tone(image)
    assert one.min() == 0
    assert one.max().item() == pytest.approx(1)
    assert torch.allclose(tone(3 * image + 5), one, atol=1e-5)
    assert torch.allclose(Tone(-1.0)(-image), one)
    assert ((one == 0).flatten(-2).float().mean(-1) > 0.49).all()  # the background is dark
    assert torch.equal(tone(torch.zeros(1, 4, 4)), torch.zeros(1, 4, 4))
    tone(image).sum().backward()
    assert tone.contrast.grad.abs() > 0
    assert tone.dark.grad.abs() > 0


def test_windows_are_equal_times_from_the_first_event_on():
    stream = EventStream([0, 1, 2, 3], [0, 0, 0, 0], [100, 119, 120, 165], [True] * 4, 4, 2)
    grids = voxels_of([stream], 3, 20, 2)
    assert grids.sum((2, 3, 4))[0].tolist() == [2, 1, 0]
    network = reconstructor().network
    voxels = voxels_of(streams(2), 4, 20_000, network.bins)
    assert reconstructed(network, voxels, 1).shape == (2, 3, 16, 16)
    with pytest.raises(ValueError, match="stream 1 has no events"):
        voxels_of([stream, EventStream.empty(4, 2)], 3, 20, 2)
    with pytest.raises(ValueError, match="one sensor"):
        voxels_of([stream, EventStream.empty(5, 2)], 3, 20, 2)


def test_the_model_stays_as_it_is_and_the_same_seed_gives_the_same(tmp_path):
    model = classifier()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    told = []
    found = event_dance(
        model,
        streams(),
        labels=("upright", "lying"),
        reconstructor=reconstructor(),
        config=QUICK,
        advance=lambda step, parts: told.append(step),
    )
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.training
    assert told[-1] == 3
    assert found.report["sign"] in (1, -1)
    p = found.probabilities(streams(3))
    np.testing.assert_allclose(p.sum(1), 1)
    assert found.label(streams(1)[0]) in ("upright", "lying")
    again = event_dance(
        model, streams(), labels=("upright", "lying"), reconstructor=reconstructor(), config=QUICK
    )
    np.testing.assert_array_equal(again.probabilities(streams(3)), p)
    assert torch.equal(found.source[-1].weight, before["4.weight"])
    assert not torch.equal(found.source[0].weight, before["0.weight"])
    found.classifiers["stack"].save(tmp_path / "c.safetensors")


def test_networks_that_know_nothing_yet_teach_nobody():
    config = EventDanceConfig(**{**vars(QUICK), "steps": 1})
    found = event_dance(classifier(), streams(), labels="ab", reconstructor=reconstructor(), config=config)
    first = found.history[0]
    assert first["agreement"] == first["learning"] == 0
    assert first["supervised"] > 0
    assert first["teaching"] > 0


def test_the_reconstruction_learns_when_asked_to():
    own = reconstructor()
    before = {name: value.clone() for name, value in own.network.state_dict().items()}
    config = EventDanceConfig(**{**vars(QUICK), "reconstruction": True})
    found = event_dance(classifier(), streams(), labels="ab", reconstructor=own, config=config)
    assert "kept" in found.history[0]
    assert all(torch.equal(before[name], value) for name, value in own.network.state_dict().items())


def test_a_vision_language_model_is_asked_about_anchors():
    asked = []

    def vision(images):
        asked.append(images.shape)
        return torch.tensor([[0.9, 0.1]]).expand(len(images), 2)

    found = event_dance(
        classifier(), streams(), labels="ab", reconstructor=reconstructor(), vision=vision, config=QUICK
    )
    assert asked[0] == (4, 1, 16, 16)
    assert found.history[0]["vision"] > 0


def test_bad_input_is_told_apart():
    with pytest.raises(ValueError, match="2 classes apart, 3 labels"):
        event_dance(classifier(), streams(), labels="abc", reconstructor=reconstructor(), config=QUICK)
    with pytest.raises(ValueError, match=r"does not take|linear|logits"):
        event_dance(nn.Conv2d(1, 2, 3), streams(), labels="ab", reconstructor=reconstructor(), config=QUICK)
    with pytest.raises(ValueError, match="skip < windows"):
        EventDanceConfig(windows=3, skip=3)
    own = {"labels": "ab", "reconstructor": reconstructor(), "config": QUICK}
    with pytest.raises(ValueError, match="what `prepare` makes of surrogates"):
        event_dance(classifier(), streams(), prepare=lambda image: image[..., 3:], **own)
    with pytest.raises(ValueError, match=r"vision must give probabilities \(4, 2\)"):
        event_dance(classifier(), streams(), vision=lambda image: torch.ones(len(image), 5), **own)
    for settings, says in (
        ({"representations": ()}, "representation"),
        ({"representations": ("stack", "stack")}, "that differ"),
        ({"entropy": -1.0}, "entropy must be"),
        ({"source_rate": np.nan}, "source_rate must be"),
        ({"confidence": (0.9, 0.5)}, "confidence must rise"),
        ({"width": 0}, "at least 1"),
    ):
        with pytest.raises(ValueError, match=says):
            EventDanceConfig(**settings)


def test_streams_of_one_class_and_few_streams_are_warned_of():
    found = event_dance(
        classifier(), streams(8)[::2], labels="ab", reconstructor=reconstructor(), config=QUICK
    )
    assert "50 of each class" in found.report["warnings"][0]
    assert any("of 100% of the samples" in said for said in found.report["warnings"])
