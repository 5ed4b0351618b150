"""FUSE: pyramids, tokens, losses, stages that move what they should, and the door for a robot."""

import json
import socket

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("peft")

from perception.depth import fit, fredfuse
from perception.depth.align import agreement, si_log, token_loss
from perception.depth.backbone import Backbone, fitted, prepared, prepared_events
from perception.depth.datasets import Sample, VoxelSample
from perception.depth.estimator import Estimator, load
from perception.depth.fredfuse import (
    Concatenation,
    FreDFuse,
    GuidedAttention,
    GuidedFuse,
    differences,
    gaussian_pyramid,
    restored,
)
from perception.depth.fuse import FUSE, KINDS
from perception.depth.pairs import Pairs, SamplePairs
from perception.events import EventStream
from perception.training import Run, RunConfig

SMALL = {"hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": 2}


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    made = Backbone.tiny(32, **SMALL)
    for p in made.parameters():  # a random network is nearly constant
        torch.nn.init.normal_(p, 0.0, 0.08) if p.ndim > 1 else None
    return made.eval()


@pytest.fixture
def network(backbone):
    return FUSE(backbone, backbone.without_head()).eval()


def pairs(n=6, side=32, seed=0):
    rng = np.random.default_rng(seed)
    frames = rng.random((n, side, side))
    voxels = rng.normal(size=(n, 3, side, side)) * (rng.random((n, 3, side, side)) < 0.3)
    return Pairs(frames, frames * 0.5, voxels, rng.uniform(1, 8, (n, side, side)))


def events(n=400, width=32, height=32, seed=0):
    rng = np.random.default_rng(seed)
    x, y, p = rng.integers(0, width, n), rng.integers(0, height, n), rng.integers(0, 2, n)
    return EventStream(x=x, y=y, t=np.sort(rng.integers(0, 50_000, n)), p=p, width=width, height=height)


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def distance(network, data):
    """From what is wanted of a fusion."""
    return float(fit.fuse(data, 6)(network, np.random.default_rng(0))["disparity"].detach())


def moved(before, after):
    """Names of what has changed, up to the first dot."""
    return {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}


# pyramids and fusion


@pytest.mark.parametrize("size", [(19, 19), (8, 8), (5, 7), (1, 2), (33, 4)])
def test_a_laplacian_pyramid_is_undone(size):
    x = torch.randn(2, 5, *size, generator=torch.Generator().manual_seed(0))
    levels = differences(gaussian_pyramid(x, 3))
    assert torch.allclose(restored(levels), x, atol=1e-5)
    assert [
        tuple(level.shape[-2:]) for level in differences(gaussian_pyramid(torch.zeros(1, 1, 19, 19)))
    ] == [
        (19, 19),
        (9, 9),
        (4, 4),
    ]


def test_a_flat_map_is_low_and_a_checkerboard_high():
    flat, board = torch.ones(1, 1, 16, 16), (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1
    inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    assert differences(gaussian_pyramid(flat))[0][inside].abs().max() < 0.1
    high = differences(gaussian_pyramid(board[None, None]))[0][inside]
    assert torch.allclose(high, board[None, None][inside], atol=0.1)


@pytest.mark.parametrize("kind", [FreDFuse, GuidedFuse, Concatenation])
def test_every_fusion_listens_to_both_and_learns_with_all_it_has(kind):
    torch.manual_seed(0)
    fuse, image, fired = kind(32, 2).train(), torch.randn(2, 12, 32), torch.randn(2, 12, 32)
    image.requires_grad_(True), fired.requires_grad_(True)
    out = fuse(image, fired, (3, 4))
    assert out.shape == image.shape
    (out * torch.randn(out.shape)).sum().backward()
    assert image.grad.abs().min(-1).values.max() > 0
    assert fired.grad.abs().min(-1).values.max() > 0
    for name, p in fuse.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("width", "heads", "released"), [(384, 6, 1_192_706), (768, 12, 4_744_706)])
def test_the_size_is_that_of_the_released_code_but_for_what_that_never_uses(width, heads, released):
    unused = 2 * (2 * width + 1)  # a second norm and a temperature in both attentions
    assert sum(p.numel() for p in FreDFuse(width, heads).parameters()) == released - unused


def test_attention_of_one_token_is_its_value():
    torch.manual_seed(0)
    attention = GuidedAttention(8, 2).eval()
    a, b = torch.randn(1, 3, 8), torch.randn(1, 1, 8)
    expected = attention.norm(a) + attention.out(attention.v(attention.norm(b)))
    assert torch.allclose(attention(a, b), expected, atol=1e-6)


# losses


def rotated(cosine):
    return torch.tensor([cosine, (1 - cosine**2) ** 0.5])


def test_tokens_that_agree_or_do_not_at_all_have_no_gradient():
    cosines = [0.1, 0.3, 0.8, 0.9]
    student = torch.stack([torch.tensor([0.0, 1.0])] + [rotated(c) for c in cosines])[
        None
    ]  # class token first
    student.requires_grad_(True)
    teacher = torch.tensor([1.0, 0.0]).expand(1, 5, 2)
    loss = token_loss([student], [teacher])
    assert float(loss.detach()) == pytest.approx((0.7 + 0.2) / 2)
    loss.backward()
    assert student.grad[0].abs().sum(-1).gt(1e-6).tolist() == [False, False, True, True, False]


def test_taps_without_tokens_that_count_do_not_count():
    one = torch.stack([rotated(0.0), rotated(0.5)])[None]
    none = torch.stack([rotated(0.0), rotated(0.95)])[None]
    teacher = torch.tensor([1.0, 0.0]).expand(1, 2, 2)
    assert float(token_loss([one, none], [teacher, teacher])) == pytest.approx(0.5)
    assert float(token_loss([none, none], [teacher, teacher])) == 0
    assert float(agreement([one, none], [teacher, teacher])) == pytest.approx((0.5 + 0.95) / 2)


def test_silog_is_its_formula_and_leaves_out_what_is_unknown():
    rng = np.random.default_rng(0)
    truth, said = rng.uniform(1, 9, (2, 4, 5)), rng.uniform(1, 9, (2, 4, 5))
    truth[0, 0, :3] = np.nan, np.inf, 12.0
    known = np.isfinite(truth) & (truth < 10)
    g = np.log(truth[known]) - np.log(said[known])
    expected = np.sqrt((g**2).mean() - 0.5 * g.mean() ** 2)
    said = torch.tensor(said, requires_grad=True)
    loss = si_log(said, torch.tensor(truth), 0.1, 10.0)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert torch.isfinite(said.grad).all()
    assert (said.grad[0, 0, :3] == 0).all()


# the backbone


def test_what_is_taken_apart_says_what_the_whole_says(backbone):
    x = torch.randn(2, 3, 32, 40, generator=torch.Generator().manual_seed(1))
    settings = backbone.net.backbone.config
    settings.apply_layernorm = True
    whole = backbone.net(x).predicted_depth
    settings.apply_layernorm = False
    assert torch.allclose(backbone(x), whole, atol=1e-5)
    assert whole.std() > 1e-3


def test_frames_and_grids_are_brought_into_form():
    frames = torch.rand(2, 30, 44)
    assert prepared(frames, 8).shape == (2, 3, 32, 48)
    assert torch.allclose(prepared(torch.full((1, 16, 16, 3), 0.485), 8)[:, 0], torch.zeros(()), atol=1e-5)
    assert fitted((260, 346), 14, (266, 266)) == (266, 350)
    assert all(side % 14 == 0 and side >= 266 for side in fitted((100, 999), 14, (266, 266)))
    grid = torch.zeros(2, 3, 16, 16)
    grid[0, 1, 2:9, 3] = torch.arange(7.0) - 2
    out = prepared_events(grid, 8)
    values = out[0][grid[0] != 0]
    assert values.mean().abs() < 1e-6
    assert values.std(unbiased=False) == pytest.approx(1, abs=1e-5)
    assert (out[0][grid[0] == 0] == 0).all()
    assert (out[1] == 0).all()
    one = torch.zeros(1, 3, 8, 8)
    one[0, 0, 0, 0] = 5.0
    assert torch.isfinite(prepared_events(one, 8)).all()  # a single event


def test_a_folder_drops_in_by_name(tmp_path):
    backbone = Backbone.tiny(32, stem=False, **SMALL).eval()
    backbone.net.save_pretrained(tmp_path / "net")
    other = Backbone.named(tmp_path / "net").eval()
    x = torch.randn(1, 3, 32, 32)
    assert torch.allclose(other(x), backbone(x), atol=1e-6)
    with pytest.raises(ValueError, match="no depth network at"):
        Backbone.named(tmp_path / "nothing")
    with pytest.raises(ValueError, match="multiple of 8"):
        other(torch.zeros(1, 3, 30, 32))


# stages


def test_adaptations_start_as_nothing_and_merge_into_the_weights(network):
    x = torch.randn(2, 3, 32, 32)
    before = network.of_events(x).tokens
    fit.with_lora(network.events)
    for a, b in zip(before, network.of_events(x).tokens):
        assert torch.allclose(a, b, atol=1e-6)
    names = {n for n, p in network.events.named_parameters() if p.requires_grad}
    assert all("lora_" in n or ".layer." not in n for n in names)
    assert any("lora_A" in n for n in names)
    assert any("patch_embeddings" in n for n in names)
    for n, p in network.events.named_parameters():
        if "lora_B" in n:
            torch.nn.init.normal_(p, 0.0, 0.1)
    learned = network.of_events(x).tokens
    assert not torch.allclose(learned[-1], before[-1], atol=1e-3)
    fit.merged(network.events)
    for a, b in zip(learned, network.of_events(x).tokens):
        assert torch.allclose(a, b, atol=1e-5)
    assert not any("lora" in name for name in network.events.state_dict())


def test_each_stage_moves_its_own_part_alone(network):
    data = pairs()
    network.requires_grad_(False)
    fit.with_lora(network.events)
    start = state(network)
    Run(network, fit.align(data, 4), RunConfig(steps=2, rate=1e-2)).train()
    aligned = state(network)
    assert moved(start, aligned) == {"events"}
    fit.merged(network.events)
    network.fuse.requires_grad_(True)
    start = state(network)
    Run(network, fit.fuse(data, 4), RunConfig(steps=2, rate=1e-2)).train()
    fused = state(network)
    assert moved(start, fused) == {"fuse"}
    network.requires_grad_(False)
    network.decoder.requires_grad_(True)
    network.doubt.requires_grad_(True)
    Run(network, fit.adapt(data, 10.0, 4), RunConfig(steps=2, rate=1e-2)).train()
    assert moved(fused, state(network)) == {"decoder", "doubt"}


def test_the_decoder_learns_metric_depth(network):
    data = pairs()
    data = Pairs(data.clean, data.seen, data.voxels, np.full_like(data.depth, 2.0))
    network.requires_grad_(False)
    network.decoder.requires_grad_(True)

    def wrong():
        loss = fit.adapt(data, 10.0, 6)(network.eval(), np.random.default_rng(0))
        return max(float(loss[kind].detach()) for kind in KINDS)

    first = wrong()
    Run(network, fit.adapt(data, 10.0, 4), RunConfig(steps=20, rate=1e-2, warm_up=1)).train()
    assert wrong() < 0.5 * first


@pytest.mark.parametrize("stage", ["align", "fuse"])
def test_stages_without_labels_never_read_depth(network, stage):
    data = pairs()
    loss = getattr(fit, stage)
    said = [
        loss(d, 4)(network, np.random.default_rng(3))
        for d in (data, Pairs(data.clean, data.seen, data.voxels))
    ]
    assert said[0].keys() == said[1].keys()
    for one, other in zip(said[0].values(), said[1].values()):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="learns from depth"):
        fit.adapt(Pairs(data.clean, data.seen, data.voxels), 10.0)


def test_fusion_is_taught_by_the_clean_frame_and_shown_the_spoilt_one(network):
    data = pairs()
    other = Pairs(data.clean, 1 - data.clean, data.voxels)
    taught = [
        float(fit.fuse(d, 4)(network, np.random.default_rng(3))["disparity"].detach()) for d in (data, other)
    ]
    assert taught[0] != taught[1]  # what is seen counts
    network.fuse.requires_grad_(True)
    first = distance(network, data)
    Run(network, fit.fuse(data, 4), RunConfig(steps=12, rate=3e-3)).train()
    last = distance(network, data)
    assert last < first


def test_without_events_nothing_of_events_is_seen(network):
    data = pairs()
    other = Pairs(data.clean, data.seen, data.voxels + 1)
    said = [
        fit.fuse(d, 4, events=False)(network, np.random.default_rng(1))["disparity"] for d in (data, other)
    ]
    assert torch.equal(*said)


# the door


def test_an_estimator_says_depth_and_doubt_and_round_trips(network, tmp_path):
    estimator = Estimator(network, 10.0, 50_000)
    frame, stream = np.random.default_rng(0).random((32, 32)), events()
    said = estimator.step(frame, stream)
    assert said.kind == "both"
    assert said.depth.shape == said.std.shape == (32, 32)
    assert (said.depth > 0).all()
    assert (said.depth <= 10).all()
    assert (said.std > 0).all()
    estimator.save(tmp_path / "w.safetensors", note="n")
    again = load(tmp_path / "w.safetensors")
    assert (again.farthest, again.window) == (10.0, 50_000)
    for a, b in zip(again.step(frame, stream)[:2], said[:2]):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    estimator.save(tmp_path / "half.safetensors", half=True)
    np.testing.assert_allclose(
        load(tmp_path / "half.safetensors").step(frame, stream).depth, said.depth, rtol=0.02
    )


def test_bytes_numbers_and_colours_are_one_frame(network):
    estimator = Estimator(network, 10.0, 50_000)
    frame = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    said = [estimator.step(f, events()).depth for f in (frame, frame / 255, np.stack([frame] * 3, -1))]
    np.testing.assert_allclose(said[0], said[1], rtol=1e-5)
    np.testing.assert_allclose(said[0], said[2], rtol=1e-5)


def test_an_empty_window_falls_back_to_the_frame_and_says_so(network):
    estimator = Estimator(network, 10.0, 50_000)
    frame = np.random.default_rng(0).random((32, 32))
    for nothing in (EventStream.empty(32, 32), None, events(10)):  # ten are noise, of 1,024 pixels
        said = estimator.step(frame, nothing)
        assert said.kind == "frames"
        assert np.isfinite(said.depth).all()
    with torch.no_grad():
        x = prepared(torch.from_numpy(frame.astype(np.float32))[None], 8)
        expected, _ = network.depth(network.of_frames(x), 10.0, "frames")
    np.testing.assert_allclose(said.depth, expected[0].clamp(min=1e-3).numpy(), rtol=1e-4)
    assert estimator.step(None, events()).kind == estimator.step(None, events(10)).kind == "events"
    assert estimator.step(frame, events(11)).kind == "both"
    assert torch.isfinite(network(x, torch.zeros_like(x))).all()  # a grid without events


@pytest.mark.parametrize(
    ("frame", "stream", "says"),
    [
        (None, None, "neither"),
        (None, EventStream.empty(32, 32), "neither"),
        (np.zeros((32, 30)), events(), "32 x 32 pixels is expected, got 30 x 32"),
        (np.zeros((32, 32, 4)), events(), "got shape"),
        (np.full((32, 32), 2.0), events(), "from 0 to 1"),
        (np.full((32, 32), np.nan), events(), "from 0 to 1"),
        (np.zeros((0, 32)), None, "got shape"),
        (np.zeros((32, 32)), np.zeros((5, 4)), "events must be an EventStream, got ndarray"),
    ],
)
def test_bad_frames_are_one_clear_error(network, frame, stream, says):
    with pytest.raises(ValueError, match=says):
        Estimator(network, 10.0, 50_000).step(frame, stream)


def test_sizes_must_agree(backbone, network):
    with pytest.raises(ValueError, match="one size"):
        network(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 40))
    with pytest.raises(ValueError, match="same size"):
        FUSE(backbone, Backbone.tiny(32))
    with pytest.raises(ValueError, match="fusion must be"):
        FUSE(backbone, backbone.without_head(), "mean")
    assert set(KINDS) == set(network.doubt)


def test_shipped_weights_trust_frames_where_they_are_good_and_events_where_not():
    from sims.rooms import room_pairs
    from sims.train.fuse_score import disparities, relative_errors

    network, spoilt, conditions = load().network, [], ("clean", "night", "blur", "overexposed")
    rooms = room_pairs(range(2_500_000, 2_500_024), conditions)
    for k, condition in enumerate(conditions):
        pairs = rooms[k :: len(conditions)]
        errors = {kind: relative_errors(disparities(network, pairs, kind), pairs).mean() for kind in KINDS}
        flat = relative_errors(np.zeros(pairs.clean.shape), pairs).mean()
        assert errors["both"] < (1.03 if condition == "clean" else 0.95) * errors["frames"], condition
        assert errors["events"] < 0.7 * flat, condition
        if condition != "clean":
            spoilt.append((errors["both"], errors["frames"]))
    both, frames = np.sum(spoilt, 0)
    assert both < 0.8 * frames
    nothing = Pairs(pairs.clean, pairs.clean, 0 * pairs.voxels, pairs.depth)
    still = relative_errors(disparities(network, nothing, "both"), nothing).mean()
    assert still < min(flat, relative_errors(disparities(network, nothing, "events"), nothing).mean())


def test_files_of_something_else_are_refused(network, tmp_path):
    with pytest.raises(ValueError, match="choose"):
        load("nothing")
    (tmp_path / "x.safetensors").write_bytes(b"\0" * 40)
    with pytest.raises(ValueError):
        load(tmp_path / "x.safetensors")


def test_whole_numbers_are_no_weights(network, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    Estimator(network, 10.0, 50_000).save(tmp_path / "w.safetensors")
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    name = next(iter(tensors))
    save_file({**tensors, name: tensors[name].to(torch.int8)}, tmp_path / "x.safetensors", about)
    with pytest.raises(ValueError, match="tensors do not fit"):
        load(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {"backbone": "resnet18", "use_timm_backbone": True, "backbone_config": None},
            "another kind|no depth",
        ),
        ({"backbone_config": {"model_type": "swin", "out_features": ["stage1", "stage2"]}}, "another kind"),
        ({"model_type": "odd", "auto_map": {"AutoConfig": "odd.Config"}}, "no depth network at"),
        ({"model_type": "dinov2"}, "of a dinov2"),
        ({"depth_estimation_type": "metric"}, "metric depth"),
        ({"fusion_hidden_size": 8}, "no depth network at"),
        ({"fusion_hidden_size": "large"}, "no depth network at"),
        (None, "no depth network at"),
    ],
)
def test_a_folder_of_something_else_is_one_error_and_never_the_network(tmp_path, monkeypatch, changed, says):
    def refuse(*given, **named):
        raise AssertionError("the network was asked for")

    Backbone.tiny(32, stem=False, **SMALL).net.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    if changed is None:
        (tmp_path / "model.safetensors").write_bytes(b"\0" * 40)
    else:
        config.write_text(json.dumps(json.loads(config.read_text()) | changed))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("builtins.input", refuse)
    with pytest.raises(ValueError, match=says):
        Backbone.named(tmp_path)


# what each part is given


def test_image_leads_low_frequencies_and_events_high_ones():
    torch.manual_seed(0)
    fuse, image, fired = FreDFuse(32, 2).eval(), torch.randn(1, 12, 32), torch.randn(1, 12, 32)
    for attention in (fuse.low, fuse.high):
        torch.nn.init.zeros_(attention.out.weight)  # leaves what asks
    split = {"low": lambda x, grid: (x, 0 * x), "high": lambda x, grid: (0 * x, x)}
    for kind, leads in (("low", 0), ("high", 1)):
        for part in ("image", "events"):
            fuse._modules.pop(part, None)
            object.__setattr__(fuse, part, split[kind])
        out = fuse(image, fired, (3, 4))
        changed = [
            fuse(image + 1.0 * image.flip(1), fired, (3, 4)),
            fuse(image, fired + fired.flip(1), (3, 4)),
        ]
        assert torch.equal(changed[1 - leads], out)
        assert not torch.allclose(changed[leads], out, atol=1e-3)


def test_high_frequencies_are_gathered_from_differences(monkeypatch):
    seen = []
    monkeypatch.setattr(fredfuse, "_gathered", lambda pyramid, joins: seen.append(pyramid) or pyramid[0])
    x = torch.randn(1, 16, 8)
    fredfuse.Decoupling(8)(x, (4, 4))
    image = x.transpose(1, 2).unflatten(-1, (4, 4))
    smooth = gaussian_pyramid(image)
    for found, expected in zip(seen, (smooth, differences(smooth))):
        assert all(torch.equal(a, b) for a, b in zip(found, expected))


def test_groups_of_channels_hear_each_other():
    torch.manual_seed(0)
    join, level = fredfuse.Join(64), torch.randn(1, 64, 2, 2)
    coarser = torch.randn(1, 64, 1, 1)
    other = level.clone()
    other[:, -1] += 5.0
    changed = (join(level, coarser) != join(other, coarser)).any(-1).any(-1)[0]
    assert changed.sum() > 64 // 8  # more than its own group


def test_attention_forgets_in_training_alone():
    torch.manual_seed(0)
    attention, x = GuidedAttention(32, 2), torch.randn(1, 9, 32)
    assert not torch.equal(attention(x, x), attention(x, x))
    attention.eval()
    assert torch.equal(attention(x, x), attention(x, x))


def test_adaptations_have_the_scale_of_the_code(network):
    fit.with_lora(network.events)
    found = (getattr(m, "scaling", None) for m in network.events.modules())
    scales = {scaling["default"] for scaling in found if isinstance(scaling, dict)}
    assert scales == {1 / 8}


def test_frames_and_grids_are_mirrored_together(network):
    frames, grids = np.zeros((1, 8, 16)), np.zeros((1, 3, 8, 16))
    frames[..., :8], grids[..., :8] = 1.0, np.arange(8) + 1.0
    sides = set()
    for seed in range(12):
        x, v = fit._mirrored(network, frames, grids, np.random.default_rng(seed))
        left = x[0, 0, 0, 2] > x[0, 0, 0, -3]
        assert left == (v[0, 0, 0, :8].abs().sum() > 0)
        sides.add(bool(left))
    assert sides == {False, True}


def test_the_teacher_sees_clean_frames_and_fusion_seen_and_clean_ones(network, monkeypatch):
    monkeypatch.setattr(fit, "degraded_frames", lambda frames, rng: frames)
    monkeypatch.setattr(fit, "degraded_voxels", lambda grids, rng: 7 * grids)
    data = pairs(40)
    data = Pairs(0 * data.clean + 0.25, 0 * data.clean + 0.75, data.voxels, data.depth)
    taught, given, grids = [], [], []
    of_frames, of_both = network.of_frames, network.of_both
    network.of_frames = lambda x: taught.append(x) or of_frames(x)
    network.of_both = lambda x, v: given.append(x) or grids.append(v) or of_both(x, v)
    fit.fuse(data, 40)(network, np.random.default_rng(0))
    clean, seen = (prepared(torch.full((1, 32, 32), value), 8)[0] for value in (0.25, 0.75))
    assert all(torch.allclose(x, clean, atol=1e-5) for x in taught[0])
    as_clean = [torch.allclose(x, clean, atol=1e-5) for x in given[0]]
    assert 8 < sum(as_clean) < 32
    assert all(c or torch.allclose(x, seen, atol=1e-5) for c, x in zip(as_clean, given[0]))
    taught.clear()
    fit.align(data, 8)(network, np.random.default_rng(0))
    assert all(torch.allclose(x, clean, atol=1e-5) for x in taught[0])
    taught.clear()
    fit.adapt(data, 10.0, 8)(network, np.random.default_rng(0))
    assert all(torch.allclose(x, seen, atol=1e-5) for x in taught[0])


def test_doubt_is_least_wrong_where_it_says_the_mean_error_and_leaves_depth_alone(network):
    truth, said = torch.full((1, 4, 4), 2.0), 2.0 * torch.exp(torch.tensor([0.1, -0.3])).repeat(1, 4, 2)
    doubt = torch.full((1, 4, 4), float(np.log(0.2)), requires_grad=True)
    fit._laplace(said, doubt, truth, 10.0).backward()
    assert doubt.grad.sum().abs() < 1e-6
    network.requires_grad_(True)
    parts = fit.adapt(pairs(), 10.0, 4)(network, np.random.default_rng(0))
    sum(value for name, value in parts.items() if "doubt" in name).backward()
    assert all(p.grad is None for p in network.decoder.parameters())
    assert all(p.grad is not None for p in network.doubt.parameters())


def test_slopes_do_not_cross_into_the_unknown():
    known = torch.tensor([[[True, True, False, True, True]]])
    gap = torch.where(known, torch.tensor([1.0, 3.0, 9.0, 4.0, 4.0]), 0.0)
    assert float(fit._slope(gap, known, -1)) == pytest.approx((2 + 0) / 2)


def test_stages_take_sizes_that_are_no_multiple_of_the_patch(network):
    data = pairs(6, 36)
    for loss in (
        fit.teach(data, 4)(network.image, np.random.default_rng(0)),
        fit.adapt(data, 10.0, 4)(network, np.random.default_rng(0)),
    ):
        assert all(torch.isfinite(value) for value in loss.values())


def test_samples_of_data_sets_are_pairs_read_when_asked_for():
    rng = np.random.default_rng(0)
    stream = EventStream([0, 1, 2], [0, 0, 1], [10, 60_000, 100_000], [True, False, True], 4, 3)
    some = [
        Sample(rng.integers(0, 255, (3, 4), np.uint8), stream, np.full((3, 4), 1.0 + k), 100_000, f"s/{k}")
        for k in range(3)
    ]
    grid = VoxelSample(some[0].image, np.ones((3, 3, 4), np.float32), some[0].depth, "v")
    data = SamplePairs([some, [grid]], window=50_000)
    assert len(data) == 4
    part = data[[2, 3, 0]]
    assert part.depth[:, 0, 0].tolist() == [3, 1, 1]
    np.testing.assert_array_equal(part.clean[0], some[2].image / np.float32(255))
    assert part.voxels[0].sum() == 0  # of the two events of the last 50 ms
    assert part.voxels[1].sum() == 36
    assert SamplePairs([some])[:1].voxels.sum() == 1  # of all three
    assert data.only([1, 2]).only([1])[:].depth[0, 0, 0] == 3
    with pytest.raises(ValueError, match="one size"):
        SamplePairs([some, [grid._replace(image=grid.image[:2])]])[:]
    with pytest.raises(ValueError, match="grid of 5 bins"):
        SamplePairs([[grid._replace(voxel=np.ones((5, 3, 4), np.float32))]])[:]
    with pytest.raises(ValueError, match="at least one sample"):
        SamplePairs([])


def test_pairs_agree_in_size():
    data = pairs()
    with pytest.raises(ValueError, match="voxels of frames"):
        Pairs(data.clean, data.seen, data.voxels[:, :2])
    with pytest.raises(ValueError, match="depth of frames"):
        Pairs(data.clean, data.seen, data.voxels, data.depth[1:])
    with pytest.raises(ValueError, match="frames"):
        Pairs(data.clean[0], data.seen[0], data.voxels[0])
    with pytest.raises(ValueError, match="one size"):
        Pairs.joined([data, pairs(2, 16)])
    with pytest.raises(ValueError, match="none"):
        Pairs.joined([])
    unlabelled = Pairs.joined([data, Pairs(data.clean, data.seen, data.voxels)])
    assert unlabelled.depth is None
    assert len(unlabelled) == 12


def test_deviation_is_that_of_the_doubt_and_the_span_counts(network):
    estimator = Estimator(network.train(), 10.0, 50_000)
    frame, stream = np.random.default_rng(0).random((32, 32)), events()
    torch.nn.init.constant_(network.doubt["both"].bias, -2.0)
    said = estimator.step(frame, stream, (0, 50_000))
    assert network.training
    np.testing.assert_allclose(said.std / said.depth, 2**0.5 * np.exp(-2.0), rtol=1e-4)
    assert not np.allclose(estimator.step(frame, stream, (0, 90_000)).depth, said.depth, rtol=1e-6)


@pytest.mark.parametrize(
    "changed",
    [
        {"encoder": {"backbone": "some/name", "use_pretrained_backbone": True}},
        {"encoder": {"num_hidden_layers": 3000}},
        {"encoder": {"hidden_size": 0}},
        {"encoder": {"patch_size": 0}},
        {"encoder": {"hidden_size": "32"}},
        {"encoder": {"out_indices": list(range(50))}},
        {"head": {"use_timm_backbone": True}},
        {"head": None},
        {"stem": 3},
        {"encoder": {"patch_size": 12}},
    ],
)
def test_a_file_cannot_ask_for_a_download_or_for_sizes_without_end(network, changed):
    config = dict(network.image.config)
    for part, values in changed.items():
        config[part] = config[part] | values if isinstance(values, dict) else values
    with pytest.raises(ValueError):
        Backbone.configured(config)


def test_grids_that_are_all_alike_stay_as_they_are():
    for value in (1.0, 0.1, -0.7):
        grid = torch.zeros(1, 3, 8, 8)
        grid[0, 1, 2:6] = value
        assert torch.equal(prepared_events(grid, 8), grid)
