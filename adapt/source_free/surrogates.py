"""Images that stand in for events, so that a classifier of images can be asked about them.

A reconstruction network turns the windows of a stream into images of log intensity, whose sign, gain and
offset events cannot tell. What a classifier knows are intensities of 0 to 1, dark where nothing is: the
background is taken away and the logarithm undone, or a good reconstruction is recognised no better than
chance.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from perception.events import EventStream
from perception.events.represent import voxel_grid

BACKGROUND = 0.5  # quantile of an image that is taken for its background ...
WHITE = 0.99  # ... and the one that is taken for its brightest
FAINT = 1e-3  # of log intensity, of an image without contrast
AT_ONCE = 100  # streams
CONTRAST = 1.0  # of log intensity between background and white, at the start


class ReconstructionNetwork(Protocol):
    """A network of `perception.reconstruct`."""

    bins: int

    def __call__(self, voxels: Tensor, state: object = None) -> tuple[Tensor, object]:
        """Log intensity (b, 1, H, W) and the state for the next window."""
        ...


def voxels_of(streams: Sequence[EventStream], windows: int, period: int, bins: int) -> Tensor:
    """(n, windows, bins, H, W) float16 voxel grids of equal windows from each stream's first event on.

    Args:
        streams: n, of one sensor.
        windows: of each; what comes later is left out, and windows without events are all 0.
        period:  microseconds of a window.
        bins:    of a grid.
    """
    sizes = {(s.width, s.height) for s in streams}
    if len(sizes) != 1:
        raise ValueError(f"streams of one sensor are needed, at least one, got sizes {sorted(sizes)}")
    width, height = sizes.pop()
    out = np.zeros((len(streams), windows, bins, height, width), np.float16)
    for k, stream in enumerate(streams):
        if not len(stream):
            raise ValueError(f"stream {k} has no events, so there is nothing to adapt to: leave it out")
        start = int(stream.t[0])
        for j in range(windows):
            first, last = start + j * period, start + (j + 1) * period
            out[k, j] = voxel_grid(stream.between(first, last), bins, (first, last))
    return torch.from_numpy(out)


def reconstructed(network: ReconstructionNetwork, voxels: Tensor, skip: int) -> Tensor:
    """(b, windows - skip, H, W) log intensity after windows (b, windows, bins, H, W), `skip` left out."""
    state, images = None, []
    for window in voxels.float().unbind(1):
        image, state = network(window, state)
        images.append(image[:, 0])
    return torch.stack(images[skip:], 1)


@torch.no_grad()
def all_reconstructed(network: ReconstructionNetwork, voxels: Tensor, skip: int) -> Tensor:
    """`reconstructed` without gradients, some streams at a time."""
    return torch.cat([reconstructed(network, part, skip) for part in voxels.split(AT_ONCE)])


class Tone(nn.Module):
    """From log intensity to intensity: sign, contrast and background of a camera, the last two learned.

    Args:
        sign: 1 where what is bright is bright in the images, -1 where it is dark.
    """

    def __init__(self, sign: float = 1.0):
        super().__init__()
        self.sign = sign
        self.contrast = nn.Parameter(torch.tensor(CONTRAST).log())
        self.dark = nn.Parameter(torch.zeros(()))  # share of the range that is background, too

    def forward(self, log_intensity: Tensor) -> Tensor:
        """(..., H, W) of 0 to 1, of log intensity (..., H, W) up to gain and offset.

        I = (exp(c x) - 1) / (exp(c) - 1), where x is 0 at the background and 1 at white.
        """
        flat = (self.sign * log_intensity).flatten(-2)
        low = flat.quantile(BACKGROUND, -1, keepdim=True)
        high = flat.quantile(WHITE, -1, keepdim=True)
        x = (flat - low) / (high - low).clamp(min=FAINT) - self.dark
        contrast = self.contrast.exp()
        intensity = torch.expm1(contrast * x.clamp(0, 1)) / torch.expm1(contrast)
        return intensity.unflatten(-1, log_intensity.shape[-2:])
