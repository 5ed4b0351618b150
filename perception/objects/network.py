"""A network that says of every pixel of a frame and of the events before it what thing it is of.

Five images come out: the log odds that there is a thing, the way from the pixel to the middle of the thing
(columns, rows), the logarithm of the middle's depth, and that of the scale of its error. A thing that is as
large in the image at twice the focal length is twice as far away, so depth is said in pixels of focal length,
and the camera makes metres of it.

Source: a U-Net (Ronneberger et al., MICCAI 2015) whose answers are those of Panoptic-DeepLab (Cheng et al.,
CVPR 2020), for things of no class; the depth of the middle is CenterNet's (Zhou et al., 2019).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception.depth.fuse import KINDS
from perception.depth.pairs import BINS

GROUPS = 4  # of a norm
REACH = 8.0  # pixels of a way that is said as 1

DOUBTS = (-4.0, 2.0)  # least and largest
FAINT = 1e-3  # contrast below which an image is not made stronger


class Answer(NamedTuple):
    """What the network says of each pixel, (b, H, W) each but `way`.

    there: log odds that a thing is seen.
    way:   (b, 2, H, W) columns and rows to its middle, pixels.
    depth: logarithm of the depth of its middle, in metres per pixel of focal length.
    doubt: logarithm of the scale of the error of `depth`, of a Laplace distribution.
    """

    there: Tensor
    way: Tensor
    depth: Tensor
    doubt: Tensor


class ObjectNet(nn.Module):
    """See the module's docstring.

    Args:
        widths: channels at full size, half of it, and so on.
    Raises:
        ValueError: fewer than two widths, or others than multiples of 4 from 8 on.
    """

    def __init__(self, widths: tuple[int, ...] = (24, 48, 96, 128)):
        super().__init__()
        if len(widths) < 2 or any(width < 2 * GROUPS or width % GROUPS for width in widths):
            raise ValueError(f"widths must be two or more multiples of {GROUPS} from 8 on, got {widths}")
        self.widths = tuple(widths)
        first = 1 + BINS + 2  # and which of the two there is
        self.down = nn.ModuleList(_block(a, b) for a, b in zip((first, *widths), widths))
        self.up = nn.ModuleList(_block(a + b, a) for a, b in zip(widths[-2::-1], widths[:0:-1]))
        self.out = nn.Conv2d(widths[0], 5, 1)
        for p in self.out.parameters():
            nn.init.zeros_(p)

    @property
    def stride(self) -> int:
        """Pixels that sides are filled up to multiples of."""
        return 2 ** (len(self.widths) - 1)

    def forward(self, frames: Tensor, voxels: Tensor, kind: Tensor) -> Answer:
        """Of frames (b, H, W) of 0 to 1, grids (b, 3, H, W), and which count: numbers of KINDS (b,)."""
        height, width = frames.shape[-2:]
        # Its edge goes on: a dark rim would be the edge of a thing.
        beyond = (0, -width % self.stride, 0, -height % self.stride)
        x = F.pad(_given(frames, voxels, kind), beyond, mode="replicate")
        kept = []
        for k, down in enumerate(self.down):
            x = down(F.avg_pool2d(x, 2) if k else x)
            kept.append(x)
        for up, fine in zip(self.up, kept[-2::-1]):
            x = up(
                torch.cat((F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), fine), 1)
            )
        out = self.out(x)[..., :height, :width].float()
        return Answer(out[:, 0], REACH * out[:, 1:3], out[:, 3], out[:, 4].clamp(*DOUBTS))


def _given(frames: Tensor, voxels: Tensor, kind: Tensor) -> Tensor:
    """(b, 6, H, W): both of contrast 1, what does not count 0, and which count."""
    frames, voxels = frames[:, None].float(), voxels.float()
    axes = (1, 2, 3)
    frames = frames - frames.mean(axes, keepdim=True)
    frames, voxels = (
        image / image.square().mean(axes, keepdim=True).sqrt().clamp(min=FAINT) for image in (frames, voxels)
    )
    kind = kind.view(-1, 1, 1, 1)
    one = torch.ones_like(frames)
    seen, fired = one * (kind != KINDS.index("events")), one * (kind != KINDS.index("frames"))
    return torch.cat((frames * seen, voxels * fired, seen, fired), 1)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(GROUPS, outputs),
            nn.GELU(),
        ]
    return nn.Sequential(*layers)
