"""The stages of FUSE's training, as losses of `perception.training.Run`.

    teach   stage 0: a backbone learns depth from frames with truth; pretrained backbones have done so
    align   stage 1: the event copy learns to say of events what the image network says of the frame
    fuse    stage 2: fusion learns to say of a spoilt frame and events what that says of the clean one
    adapt   stage 3: the decoder alone learns metric depth, and how far off it is, from truth

Stages 1 and 2 never read depth. Source: Sun et al. (IROS 2025, arXiv 2503.19739); doubt is ours.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from perception.depth.align import si_log, token_loss
from perception.depth.backbone import Backbone, prepared, prepared_events
from perception.depth.degrade import degraded_frames, degraded_voxels
from perception.depth.fuse import FUSE, KINDS, Reading

Loss = Callable[[nn.Module, np.random.Generator], dict[str, Tensor]]
NEAREST = 0.1  # m, of truth that counts
RANK = 8  # of the event copy's adaptation


@dataclass(frozen=True)
class Pairs:
    """n frames, each with the events before it.

    clean:  (n, H, W) frames of 0 to 1, as a good camera in good light has them.
    seen:   (n, H, W) as the camera has them.
    voxels: (n, 3, H, W) grids of the events of the window that ends with the frame.
    depth:  (n, H, W) m, or None; not finite: unknown.
    """

    clean: np.ndarray
    seen: np.ndarray
    voxels: np.ndarray
    depth: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.clean)

    def __getitem__(self, rows) -> "Pairs":
        """Some of them."""
        depth = None if self.depth is None else self.depth[rows]
        return Pairs(self.clean[rows], self.seen[rows], self.voxels[rows], depth)

    @classmethod
    def joined(cls, parts: "Iterable[Pairs]") -> "Pairs":
        """Several as one."""
        columns = zip(*((p.clean, p.seen, p.voxels, p.depth) for p in parts))
        return cls(*(np.concatenate(column) for column in columns))


def teach(pairs: Pairs, batch: int = 16) -> Loss:
    """Stage 0: a `Backbone` learns inverse depth, 1/m, of clean frames."""
    truth = _truth(pairs)

    def loss(network: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
        rows = rng.integers(0, len(pairs), batch)
        frames, mirrored = pairs.clean[rows].astype(np.float32), rng.random() < 0.5
        frames = np.clip(frames * rng.uniform(0.6, 1.4, (batch, 1, 1)), 0, 1).astype(np.float32)
        wanted = 1 / torch.from_numpy(truth[rows].astype(np.float32))
        x = prepared(torch.from_numpy(frames), network.patch)  # type: ignore[arg-type]
        if mirrored:
            x, wanted = x.flip(-1), wanted.flip(-1)
        known = wanted.isfinite() & (wanted > 0)
        said = network(x)
        gap = torch.where(known, said - torch.where(known, wanted, 0.0), 0.0)
        slopes = gap.diff(dim=-1).abs().mean() + gap.diff(dim=-2).abs().mean()
        return {"disparity": 4 * gap.abs().sum() / known.sum().clamp(min=1), "slopes": 4 * slopes}

    return loss


def align(pairs: Pairs, batch: int = 16) -> Loss:
    """Stage 1: the event copy of a `FUSE` learns from the image network and clean frames."""

    def loss(network: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
        assert isinstance(network, FUSE)
        rows = rng.integers(0, len(pairs), batch)
        frames, voxels = _mirrored(network.patch, pairs.clean[rows], pairs.voxels[rows], rng)
        teacher, wanted = _taught(network, frames)
        student = network.of_events(voxels)
        said = network.disparity(student)
        return {
            "tokens": token_loss(student.tokens, teacher.tokens),
            "disparity": (said - wanted).abs().mean(),
        }

    return loss


def fuse(pairs: Pairs, batch: int = 16, events: bool = True) -> Loss:
    """Stage 2: the fusion of a `FUSE` learns from the image network and clean frames.

    It is given frames as the camera has them or, half of them, clean ones, degraded further; and events.
    Without `events` they are all zero, which trains an image network of the same size for what frames suffer.
    """

    def loss(network: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
        assert isinstance(network, FUSE)
        rows = rng.integers(0, len(pairs), batch)
        clean, spoilt = pairs.clean[rows], pairs.seen[rows]
        as_seen = rng.random(batch) < 0.5
        given = degraded_frames(np.where(as_seen[:, None, None], spoilt, clean).astype(np.float32), rng)
        grids = degraded_voxels(pairs.voxels[rows].astype(np.float32), rng)
        both = np.stack((clean.astype(np.float32), given), 1).reshape(-1, *clean.shape[1:])
        frames, voxels = _mirrored(network.patch, both, grids if events else 0 * grids, rng)
        teacher, wanted = _taught(network, frames[0::2])
        student = network.of_both(frames[1::2], voxels)
        said = network.disparity(student)
        return {
            "tokens": token_loss(student.tokens, teacher.tokens),
            "disparity": (said - wanted).abs().mean(),
        }

    return loss


def adapt(pairs: Pairs, farthest: float, batch: int = 16) -> Loss:
    """Stage 3: the decoder of a `FUSE` learns metric depth, and its doubts how far off it is.

    Doubt is the logarithm of the scale of a Laplace distribution of the log error. Both are learned of fused
    tokens and of those of frames and of events alone, for when there is nothing else.
    """
    truth = _truth(pairs)

    def loss(network: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
        assert isinstance(network, FUSE)
        rows = rng.integers(0, len(pairs), batch)
        seen, grids = pairs.seen[rows].astype(np.float32), pairs.voxels[rows].astype(np.float32)
        wanted = torch.from_numpy(truth[rows].astype(np.float32))
        frames = prepared(torch.from_numpy(seen), network.patch)
        voxels = prepared_events(torch.from_numpy(grids), network.patch)
        parts: dict[str, Tensor] = {}
        for kind in KINDS:
            with torch.no_grad():
                reading = network.reading(frames, voxels, kind)
            depth, doubt = network.depth(reading, farthest, kind)
            parts[kind] = si_log(depth, wanted, NEAREST, farthest)
            parts[f"{kind} doubt"] = 0.1 * _laplace(depth.detach(), doubt, wanted, farthest)
        return parts

    return loss


def with_lora(backbone: Backbone, rank: int = RANK) -> None:
    """Put low-rank adaptations into the blocks of an event copy; they and the embeddings alone learn.

    Source: Hu et al., "LoRA" (ICLR 2022), as `peft` has it; scale 1 / rank as in FUSE's code.
    Raises:
        ImportError: the extra `depth` is not installed.
    """
    from peft import LoraConfig, inject_adapter_in_model

    encoder = backbone.net.backbone
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


def _truth(pairs: Pairs) -> np.ndarray:
    if pairs.depth is None:
        raise ValueError("this stage learns from depth, and the pairs have none")
    return pairs.depth


def _mirrored(patch, frames, voxels, rng):
    """Frames and grids as a backbone takes them, both mirrored or neither; a mirror leaves polarity alone."""
    x = prepared(torch.from_numpy(np.asarray(frames, np.float32)), patch)
    v = prepared_events(torch.from_numpy(np.asarray(voxels, np.float32)), patch)
    return (x.flip(-1), v.flip(-1)) if rng.random() < 0.5 else (x, v)


@torch.no_grad()
def _taught(network: FUSE, frames: Tensor) -> tuple[Reading, Tensor]:
    reading = network.of_frames(frames)
    return reading, network.disparity(reading)


def _laplace(depth, doubt, truth, farthest):
    known = truth.isfinite() & (truth > NEAREST) & (truth <= farthest)
    gap = torch.log(torch.where(known, truth, 1.0)) - torch.log(depth.clamp(min=NEAREST))
    wide = nn.functional.interpolate(doubt[:, None], depth.shape[-2:], mode="bilinear")[:, 0]
    each = gap.abs() * (-wide).exp() + wide
    return torch.where(known, each, 0.0).sum() / known.sum().clamp(min=1)
