"""Guides: small networks for small images, and this toolkit's own recognition and depth as guides.

Any `nn.Module` that says something of an image can be a guide; these take x as the diffusion model has it.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapt.diffusion.model import SHIPPED, Diffusion
from perception.recognize.network import Network
from tracking.formats import weights

KIND = "guide"


class Guide(nn.Module):
    """Three convolutions with batch norms, pooled over the image: logits (b, classes) of x (b, c, h, w).

    Args:
        channels: of x.
        classes:  that it tells apart.
        width:    channels of the first convolution; the next ones have twice as many.
    """

    def __init__(self, channels: int = 1, classes: int = 10, width: int = 32):
        super().__init__()
        self.channels, self.classes, self.width = channels, classes, width
        self.body = nn.Sequential(
            *_stage(channels, width), *_stage(width, 2 * width, 2), *_stage(2 * width, 2 * width)
        )
        self.out = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes) of x (b, c, h, w)."""
        h = self.body(x)
        return self.out(torch.cat((h.mean((2, 3)), h.amax((2, 3))), 1))


class MapGuide(nn.Module):
    """The same for maps: (b, h, w) numbers of x (b, c, h, w), such as logarithms of depth."""

    def __init__(self, channels: int = 1, width: int = 24):
        super().__init__()
        self.channels, self.width = channels, width
        self.fine = nn.Sequential(*_stage(channels, width))
        self.coarse = nn.Sequential(*_stage(width, 2 * width, 2), *_stage(2 * width, 2 * width, 2))
        self.whole = nn.Linear(2 * width, 2 * width)
        self.out = nn.Sequential(*_stage(3 * width, width), nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Numbers (b, h, w) of x (b, c, h, w)."""
        fine = self.fine(x)
        coarse = self.coarse(fine)
        coarse = coarse + self.whole(coarse.mean((2, 3)))[..., None, None]
        large = nn.functional.interpolate(coarse, x.shape[-2:], mode="bilinear", align_corners=False)
        return self.out(torch.cat((fine, large), 1))[:, 0]


def _stage(a: int, b: int, stride: int = 1) -> tuple[nn.Module, ...]:
    return nn.Conv2d(a, b, 3, stride, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()


def save_guide(guide: Guide | MapGuide, path: str | Path, **about: Any) -> None:
    """Write a guide of this file as safetensors."""
    document = {
        "channels": guide.channels,
        "width": guide.width,
        "classes": guide.classes if isinstance(guide, Guide) else 0,
        "about": about,
    }
    weights.write_weights(path, KIND, document, guide.state_dict())


def load_guide(name: str | Path) -> Guide | MapGuide:
    """A guide: shipped weights by name, such as "digits-classifier", or a file.

    Raises:
        ValueError: no such weights, or a file of something else.
    """
    path = weights.found(name, SHIPPED)
    document, tensors = weights.read_weights(path, KIND)
    with weights.expecting(path, "a guide"):
        channels, width, classes = (int(document[key]) for key in ("channels", "width", "classes"))
        return weights.filled(
            lambda: Guide(channels, classes, width) if classes else MapGuide(channels, width), tensors
        )


class EventClassifier(nn.Module):
    """A `perception.recognize.network.Network` as a guide of representations (b, channels, H, W): its logits.

    What a diffusion model of event representations makes is compressed already, as `represent` does it.
    """

    def __init__(self, network: Network):
        super().__init__()
        self.features, self.out = network.features, network.out

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes) of representations (b, channels, H, W)."""
        h = self.features(x)
        return self.out(torch.cat((h.mean((2, 3)), h.amax((2, 3))), 1))


class FrameDepth(nn.Module):
    """A backbone of `perception.depth` as a guide of frames (b, 1 or 3, H, W): its inverse depth (b, h, w).

    Args:
        backbone: `Backbone`, or anything that is called and has `patch` alike.
        model:    the diffusion model, whose x are turned into pixels first.
    """

    def __init__(self, backbone: nn.Module, model: Diffusion):
        super().__init__()
        self.backbone = backbone
        # a stem of convolutions insists on what its first layer is
        self.closed = [name for name, _ in self.named_modules() if name.endswith("patch_embeddings")]
        self.mean, self.deviation = model.mean, model.deviation / model.network.sigma

    def forward(self, x: Tensor) -> Tensor:
        """Inverse depth (b, h, w) of frames (b, 1 or 3, H, W)."""
        from perception.depth.backbone import prepared

        pixels = x * self.deviation + self.mean  # not cut: a gradient must get through
        frames = pixels[:, 0] if pixels.shape[1] == 1 else pixels.movedim(1, -1)
        return self.backbone(prepared(frames, self.backbone.patch))  # type: ignore[arg-type]
