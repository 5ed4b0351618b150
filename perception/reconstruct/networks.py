"""Networks that turn voxel grids into images and into flow.

Those of images take one window of events after the other: `image, state = network(voxels, state)`, with
`None` as the state of the first window. States are tuples of tensors and may be detached or kept.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = tuple[Tensor, ...] | None


class FireNet(nn.Module):
    """A small recurrent network without any change of resolution.

    Args:
        bins:     of the voxel grid.
        channels: of every layer.
    Source: Scheerlinck, Rebecq, Gehrig, Barnes, Mahony, Scaramuzza, "Fast Image Reconstruction with an Event
        Camera" (WACV 2020), figure 2.
    """

    def __init__(self, bins: int = 5, channels: int = 16):
        super().__init__()
        _check_size(bins=bins, channels=channels)
        self.bins, self.channels = bins, channels
        self.head = nn.Conv2d(bins, channels, 3, padding=1)
        self.memory1, self.residual1 = ConvGRU(channels), Residual(channels)
        self.memory2, self.residual2 = ConvGRU(channels), Residual(channels)
        self.out = nn.Conv2d(channels, 1, 1)

    def forward(self, voxels: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Image (b, 1, H, W), unbounded, and the state, of voxel grids (b, bins, H, W)."""
        one, two = (None, None) if state is None else state
        one = self.memory1(F.relu(self.head(voxels)), one)
        two = self.memory2(self.residual1(one), two)
        return self.out(self.residual2(two)), (one, two)


class E2VID(nn.Module):
    """A recurrent U-Net: encoders with memory, decoders that add the encoders' outputs.

    Args:
        bins:     of the voxel grid.
        channels: of the head; each of the encoders doubles them and halves the resolution.
        encoders: how many.
    Source: Rebecq, Ranftl, Koltun, Scaramuzza, "High Speed and High Dynamic Range Video with an Event Camera"
        (TPAMI 2021), section 3.3. The paper's size is channels = 32, encoders = 3.
    """

    def __init__(self, bins: int = 5, channels: int = 32, encoders: int = 3):
        super().__init__()
        _check_size(bins=bins, channels=channels, encoders=encoders)
        self.bins, self.channels = bins, channels
        sizes = [channels * 2**k for k in range(encoders + 1)]
        self.head = nn.Conv2d(bins, channels, 5, padding=2)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 5, 2, 2) for a, b in pairwise(sizes))
        self.memory = nn.ModuleList(ConvLSTM(b) for b in sizes[1:])
        self.residual = nn.Sequential(Residual(sizes[-1]), Residual(sizes[-1]))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 5, padding=2) for a, b in pairwise(sizes))
        self.out = nn.Conv2d(channels, 1, 1)

    def forward(self, voxels: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Image (b, 1, H, W), unbounded, and the state, of voxel grids (b, bins, H, W) of any size."""
        height, width = voxels.shape[-2:]
        step = 2 ** len(self.down)
        voxels = F.pad(voxels, (0, -width % step, 0, -height % step))
        x = F.relu(self.head(voxels))
        skips, new = [], []
        for k, (down, memory) in enumerate(zip(self.down, self.memory)):
            skips.append(x)
            old = None if state is None else state[2 * k : 2 * k + 2]
            x, cell = memory(F.relu(down(x)), old)
            new += [x, cell]
        x = self.residual(x)
        for k in reversed(range(len(self.up))):
            skip = new[2 * k]
            x = F.interpolate(x + skip, scale_factor=2, mode="bilinear", align_corners=False)
            x = F.relu(self.up[k](x))
        return self.out(x + skips[0])[..., :height, :width], tuple(new)


class FireFlowNet(nn.Module):
    """A small network for flow, without memory and without any change of resolution.

    Args:
        bins:     of the voxel grid.
        channels: of every layer.
        reach:    pixels per window that a component of the flow may have.
    Source: Paredes-Valles, de Croon, "Back to Event Basics: Self-Supervised Learning of Image Reconstruction
        for Event Cameras via Photometric Constancy" (CVPR 2021), section 3.4; dilation is ours, so that it
        sees as far as things move.
    """

    def __init__(self, bins: int = 5, channels: int = 32, reach: float = 16.0):
        super().__init__()
        self.bins, self.reach = bins, reach
        self.layers = nn.Sequential(
            nn.Conv2d(bins, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=2, dilation=2),
            nn.ReLU(),
            Residual(channels, dilation=4),
            Residual(channels),
        )
        self.out = nn.Conv2d(channels, 2, 1)
        nn.init.normal_(self.out.weight, std=1e-3)  # a network that starts at rest

    def forward(self, voxels: Tensor) -> Tensor:
        """Flow (b, 2, H, W), pixels per window, x before y, of voxel grids (b, bins, H, W)."""
        return self.reach * torch.tanh(self.out(self.layers(voxels)) / self.reach)


def _check_size(**sizes):
    """No file can ask for a network that takes minutes to be refused."""
    for name, value in sizes.items():
        most = {"bins": 1000, "channels": 10**6, "encoders": 8}[name]
        if type(value) is not int or not 1 <= value <= most:
            raise ValueError(f"{name} must be a whole number from 1 to {most}, got {value!r}")


class ConvGRU(nn.Module):
    """A gated recurrent unit of 3 x 3 convolutions (Ballas et al., ICLR 2016)."""

    def __init__(self, channels: int):
        super().__init__()
        self.gates = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
        self.candidate = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x: Tensor, old: Tensor | None) -> Tensor:
        """The new state."""
        old = torch.zeros_like(x, dtype=torch.float32) if old is None else old  # what is small must add up
        update, reset = self.gates(torch.cat((x, old), 1)).sigmoid().chunk(2, 1)
        new = torch.tanh(self.candidate(torch.cat((x, reset * old), 1)))
        return old + update * (new - old)


class Cell(NamedTuple):
    """Output and memory of a ConvLSTM."""

    hidden: Tensor
    memory: Tensor


class ConvLSTM(nn.Module):
    """A long short-term memory of 3 x 3 convolutions (Shi et al., NeurIPS 2015)."""

    def __init__(self, channels: int):
        super().__init__()
        self.gates = nn.Conv2d(2 * channels, 4 * channels, 3, padding=1)

    def forward(self, x: Tensor, old: tuple[Tensor, ...] | None) -> Cell:
        """The new output and memory."""
        nothing = torch.zeros_like(x, dtype=torch.float32)  # what is small must add up
        hidden, memory = (nothing, nothing) if old is None else old
        take, keep, give, new = self.gates(torch.cat((x, hidden), 1)).chunk(4, 1)
        memory = keep.sigmoid() * memory + take.sigmoid() * new.tanh()
        return Cell(give.sigmoid() * memory.tanh(), memory)


class Residual(nn.Module):
    """Two 3 x 3 convolutions around which the input goes."""

    def __init__(self, channels: int, dilation: int = 1):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, H, W)."""
        return F.relu(x + self.second(F.relu(self.first(x))))
