"""FUSE: depth from a frame and the events before it, learned from an image network without depth labels.

Two copies of one backbone read frame and events; after each tapped block the tokens of both are fused, and
the backbone's own head reads the fused tokens. The event copy was taught to say what the image network says
(stage 1), the fusion to say of a spoilt frame what the image network says of the clean one (stage 2).

Source: Sun et al., "FUSE: Label-Free Image-Event Joint Monocular Depth Estimation via Frequency-Decoupled
    Alignment and Degradation-Robust Fusion" (IROS 2025, arXiv 2503.19739).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from perception.depth.backbone import Backbone
from perception.depth.fredfuse import Concatenation, FreDFuse, GuidedFuse

KINDS = ("both", "frames", "events")
DOUBTS = (-6.0, 2.0)  # least and largest
FUSIONS: dict[str, Any] = {"fredfuse": FreDFuse, "guided": GuidedFuse, "concatenation": Concatenation}


class Reading(NamedTuple):
    """Finished tokens of each tap (b, 1 + n, C), and the grid (h, w) of the patches, n = h w."""

    tokens: list[Tensor]
    grid: tuple[int, int]


class FUSE(nn.Module):
    """See the module's docstring.

    Args:
        image:  backbone that reads frames; its head reads what is fused.
        events: one of the same size that reads events; its head is not needed.
        fusion: of FUSIONS.
    """

    def __init__(self, image: Backbone, events: Backbone, fusion: str = "fredfuse"):
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, got {fusion!r}")
        size = (image.width, image.heads, image.patch, image.taps)
        if size != (events.width, events.heads, events.patch, events.taps):
            raise ValueError(
                f"both backbones must have the same size, got {size} for images and another for events"
            )
        self.image, self.events, self.fusion = image, events, fusion
        self.fuse = nn.ModuleList(FUSIONS[fusion](image.width, image.heads) for _ in range(image.taps))
        self.decoder = image.decoder()
        self.doubt = nn.ModuleDict({name: _doubt(image.width) for name in KINDS})

    @property
    def patch(self) -> int:
        return self.image.patch

    def of_frames(self, frames: Tensor) -> Reading:
        """What frames (b, 3, H, W), as `prepared` makes them, say alone."""
        return Reading(self.image.finished(self.image.tokens(frames)), self.image.grid(frames))

    def of_events(self, voxels: Tensor) -> Reading:
        """What events (b, 3, H, W), as `prepared_events` makes them, say alone."""
        # the authors' code ends with the event copy's own norm; this is the one that ends what is fused
        return Reading(self.image.finished(self.events.tokens(voxels)), self.image.grid(voxels))

    def of_both(self, frames: Tensor, voxels: Tensor) -> Reading:
        """What both say together.

        Raises:
            ValueError: of different sizes.
        """
        if frames.shape != voxels.shape:
            raise ValueError(
                f"frames and events must have one size, got {tuple(frames.shape)} and {tuple(voxels.shape)}"
            )
        grid = self.image.grid(frames)
        with torch.set_grad_enabled(torch.is_grad_enabled() and _learns(self.image.encoder)):
            seen = self.image.tokens(frames)
        with torch.set_grad_enabled(torch.is_grad_enabled() and _learns(self.events.encoder)):
            fired = self.events.tokens(voxels)
        fused = [
            torch.cat((one[:, :1], fuse(one[:, 1:], other[:, 1:], grid)), 1)
            for fuse, one, other in zip(self.fuse, seen, fired)
        ]
        return Reading(self.image.finished(fused), grid)

    def reading(self, frames: Tensor, voxels: Tensor, kind: str = "both") -> Reading:
        """What both say, or one of them alone."""
        if kind == "both":
            return self.of_both(frames, voxels)
        return self.of_frames(frames) if kind == "frames" else self.of_events(voxels)

    def disparity(self, reading: Reading) -> Tensor:
        """Inverse depth (b, H, W), up to scale and shift."""
        return self.image.read(*reading)

    def depth(self, reading: Reading, farthest: float, kind: str = "both") -> tuple[Tensor, Tensor]:
        """Depth (b, H, W), m, and the logarithm of its relative scale of error, one for each patch (b, h, w).

        Args:
            farthest: depth that can be said, m.
            kind:     of KINDS: what the reading is of.
        """
        depth = self.decoder(*reading, farthest)
        doubt = self.doubt[kind](reading.tokens[-1][:, 1:].float())[..., 0].clamp(*DOUBTS)
        return depth, doubt.unflatten(-1, reading.grid)

    def forward(self, frames: Tensor, voxels: Tensor) -> Tensor:
        """Inverse depth (b, H, W), up to scale and shift, of frames and events (b, 3, H, W)."""
        return self.disparity(self.of_both(frames, voxels))


def _doubt(width: int) -> nn.Linear:
    layer = nn.Linear(width, 1)
    nn.init.zeros_(layer.weight)
    return layer


def _learns(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters())
