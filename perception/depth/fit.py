"""The stages of FUSE's training, as losses of `perception.training.Run`.

    teach   stage 0: a backbone learns depth from frames with truth; pretrained backbones have done so
    align   stage 1: the event copy learns to say of events what the image network says of the frame
    fuse    stage 2: fusion learns to say of a spoilt frame and events what that says of the clean one
    adapt   stage 3: the decoder alone learns metric depth, and how far off it is, from truth

Stages 1 and 2 never read depth. Source: Sun et al. (IROS 2025, arXiv 2503.19739); doubt is ours.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception.depth.align import si_log, token_loss
from perception.depth.backbone import Backbone, prepared, prepared_events
from perception.depth.degrade import degraded_frames, degraded_voxels
from perception.depth.fuse import FUSE, KINDS, Reading
from perception.depth.pairs import Pairs, PairSource

Loss = Callable[[nn.Module, np.random.Generator], dict[str, Tensor]]
NEAREST = 0.1  # m, of truth that counts
RANK = 8  # of the event copy's adaptation


def teach(pairs: PairSource, batch: int = 8) -> Loss:
    """Stage 0: a `Backbone` learns inverse depth, 1/m, of clean frames."""
    _truth(pairs[:1])

    def loss(network: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
        part = _drawn(pairs, batch, rng)
        frames = part.clean.astype(np.float32)
        bright = rng.uniform(0.6, 1.4, (batch, *[1] * (frames.ndim - 1)))
        x = prepared(_tensor(np.clip(frames * bright, 0, 1), network), network.patch)  # type: ignore[arg-type]
        wanted = 1 / _tensor(_truth(part), network)
        if rng.random() < 0.5:
            x, wanted = x.flip(-1), wanted.flip(-1)
        known = wanted.isfinite() & (wanted > 0)
        gap = torch.where(known, as_large(network(x), wanted) - torch.where(known, wanted, 0.0), 0.0)
        slopes = sum((_slope(gap, known, axis) for axis in (-1, -2)), gap.new_zeros(()))
        return {"disparity": 4 * gap.abs().sum() / known.sum().clamp(min=1), "slopes": 4 * slopes}

    return loss


def align(pairs: PairSource, batch: int = 8) -> Loss:
    """Stage 1: the event copy of a `FUSE` learns from the image network and clean frames."""

    def loss(network: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
        assert isinstance(network, FUSE)
        part = _drawn(pairs, batch, rng)
        frames, voxels = _mirrored(network, part.clean, part.voxels, rng)
        teacher, wanted = _taught(network, frames)
        student = network.of_events(voxels)
        said = network.disparity(student)
        return {
            "tokens": token_loss(student.tokens, teacher.tokens),
            "disparity": (said - wanted).abs().mean(),
        }

    return loss


def fuse(pairs: PairSource, batch: int = 8, events: bool = True) -> Loss:
    """Stage 2: the fusion of a `FUSE` learns from the image network and clean frames.

    It is given frames as the camera has them or, half of them, clean ones, degraded further; and events.
    Without `events` they are all zero, which trains an image network of the same size for what frames suffer.
    """

    def loss(network: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
        assert isinstance(network, FUSE)
        part = _drawn(pairs, batch, rng)
        clean, given = part.clean.astype(np.float32), part.seen.astype(np.float32)
        as_clean = rng.random(batch) < 0.5
        given[as_clean] = clean[as_clean]
        given = degraded_frames(given, rng)
        grids = degraded_voxels(part.voxels.astype(np.float32), rng)
        both = np.concatenate((clean, given))
        frames, voxels = _mirrored(network, both, grids if events else 0 * grids, rng)
        teacher, wanted = _taught(network, frames[:batch])
        student = network.of_both(frames[batch:], voxels)
        said = network.disparity(student)
        return {
            "tokens": token_loss(student.tokens, teacher.tokens),
            "disparity": (said - wanted).abs().mean(),
        }

    return loss


def adapt(pairs: PairSource, farthest: float, batch: int = 8) -> Loss:
    """Stage 3: the decoder of a `FUSE` learns metric depth, and its doubts how far off it is.

    Doubt is the logarithm of the scale of a Laplace distribution of the log error. Both are learned of fused
    tokens and of those of frames and of events alone, for when there is nothing else.
    """
    _truth(pairs[:1])

    def loss(network: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
        assert isinstance(network, FUSE)
        network.fuse.eval()  # what does not learn has no dropout
        part = _drawn(pairs, batch, rng)
        wanted = _tensor(_truth(part), network)
        frames = prepared(_tensor(part.seen, network), network.patch)
        voxels = prepared_events(_tensor(part.voxels, network), network.patch)
        parts: dict[str, Tensor] = {}
        for kind in KINDS:
            with torch.no_grad():
                reading = network.reading(frames, voxels, kind)
            depth, doubt = network.depth(reading, farthest, kind)
            depth = as_large(depth, wanted)
            parts[kind] = si_log(depth, wanted, NEAREST, farthest)
            parts[f"{kind} doubt"] = 0.1 * _laplace(depth.detach(), as_large(doubt, wanted), wanted, farthest)
        return parts

    return loss


def as_large(image: Tensor, like: Tensor) -> Tensor:
    """Images (b, h, w) at the size of others (b, H, W)."""
    if image.shape == like.shape:
        return image
    return F.interpolate(image[:, None], like.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


def with_lora(backbone: Backbone, rank: int = RANK) -> None:
    """Put low-rank adaptations into the blocks of an event copy; they and the embeddings alone learn.

    Source: Hu et al., "LoRA" (ICLR 2022), as `peft` has it; scale 1 / rank as in FUSE's code.
    Raises:
        ImportError: the extra `depth` is not installed.
    """
    from peft import LoraConfig, inject_adapter_in_model

    encoder = backbone.encoder
    linear = [
        name
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and ".layer." in f".{name}"
    ]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=1, target_modules=linear), encoder)
    backbone.requires_grad_(False)
    for name, p in encoder.named_parameters():
        p.requires_grad_("lora_" in name or ".layer." not in f".{name}")


def merged(backbone: Backbone) -> None:
    """Add the adaptations to the weights they adapt: an ordinary backbone again, frozen."""
    from peft.tuners.lora import LoraLayer

    for module in list(backbone.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, LoraLayer):
                child.merge()  # type: ignore[attr-defined]
                setattr(module, name, child.get_base_layer())
    backbone.requires_grad_(False)


def _drawn(pairs: PairSource, batch: int, rng: np.random.Generator) -> Pairs:
    return pairs[rng.integers(0, len(pairs), batch)]


def _truth(pairs: Pairs) -> np.ndarray:
    if pairs.depth is None:
        raise ValueError("this stage learns from depth, and the pairs have none")
    return pairs.depth


def _tensor(array: np.ndarray, network: nn.Module) -> Tensor:
    """float32, where the network is."""
    return torch.from_numpy(np.asarray(array, np.float32)).to(next(network.parameters()).device)


def _mirrored(network, frames, voxels, rng):
    """Frames and grids as a backbone takes them, both mirrored or neither; a mirror leaves polarity alone."""
    x = prepared(_tensor(frames, network), network.patch)
    v = prepared_events(_tensor(voxels, network), network.patch)
    return (x.flip(-1), v.flip(-1)) if rng.random() < 0.5 else (x, v)


@torch.no_grad()
def _taught(network: FUSE, frames: Tensor) -> tuple[Reading, Tensor]:
    reading = network.of_frames(frames)
    return reading, network.disparity(reading)


def _slope(gap: Tensor, known: Tensor, axis: int) -> Tensor:
    """Mean difference of neighbours that are both known."""
    n = gap.shape[axis] - 1
    both = known.narrow(axis, 0, n) & known.narrow(axis, 1, n)
    return torch.where(both, gap.diff(dim=axis).abs(), 0.0).sum() / both.sum().clamp(min=1)


def _laplace(depth, doubt, truth, farthest):
    known = truth.isfinite() & (truth > NEAREST) & (truth <= farthest)
    gap = torch.log(torch.where(known, truth, 1.0)) - torch.log(depth.clamp(min=NEAREST))
    each = gap.abs() * (-doubt).exp() + doubt
    return torch.where(known, each, 0.0).sum() / known.sum().clamp(min=1)
