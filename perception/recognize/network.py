"""A classifier of event streams: a representation, and a small convolutional network on it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from perception.events.represent_torch import (
    EventBatch,
    SpikeTensor,
    count_image,
    event_stack,
    time_surface,
    voxel_grid,
)


def _surface(events: EventBatch, bins: int) -> Tensor:
    """Time surfaces at the ends of `bins` equal parts of the span, which forget over one part."""
    first, last = events.span.unbind(-1)
    length = (last - first + 1).clamp(min=bins)
    parts = []
    for k in range(1, bins + 1):
        end = first + length * k // bins - 1
        before = events.t <= end[events.stream]
        x, y, t, p, stream = (getattr(events, name)[before] for name in ("x", "y", "t", "p", "stream"))
        span = torch.stack((first, end), -1)
        parts.append(
            time_surface(EventBatch(x, y, t, p, stream, span, events.width, events.height), length / bins)
        )
    return torch.cat(parts, 1)


# (events, bins) -> (b, channels, H, W), and channels per bin; the spike tensor is learned and so a module
REPRESENTATIONS: dict[str, tuple[Callable[[EventBatch, int], Tensor], int]] = {
    "count": (lambda events, bins: count_image(events), 0),
    "stack": (lambda events, bins: event_stack(events, bins), 1),
    "voxel": (voxel_grid, 1),
    "surface": (_surface, 2),
}
NAMES = (*REPRESENTATIONS, "spikes")


class Network(nn.Module):
    """A representation and three stages of convolutions, pooled over the image: any sensor size.

    Args:
        classes:        how many.
        representation: of NAMES.
        bins:           of the representation in time; "count" has none.
        width:          channels of the first stage; each stage doubles them.
        dropout:        before the last layer.
        fitted:         whether a learned representation starts from a good one, which takes seconds.
    """

    def __init__(
        self,
        classes: int,
        representation: str = "voxel",
        bins: int = 9,
        width: int = 32,
        dropout: float = 0.3,
        fitted: bool = True,
    ):
        super().__init__()
        if representation not in NAMES:
            raise ValueError(f"representation must be one of {', '.join(NAMES)}, got {representation!r}")
        self.representation, self.bins, self.width = representation, bins, width
        self.spikes = SpikeTensor(bins, fitted=fitted) if representation == "spikes" else None
        per_bin = 2 if self.spikes is not None else REPRESENTATIONS[representation][1]
        channels = per_bin * bins or 2
        layers: list[nn.Module] = []
        for stage in range(3):
            wide = width * 2**stage
            layers += [*_layer(channels, wide), *_layer(wide, wide), nn.MaxPool2d(2)]
            channels = wide
        self.features = nn.Sequential(*layers[:-1])
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(2 * channels, classes)

    def represent(self, events: EventBatch) -> Tensor:
        """(b, channels, H, W), compressed so that busy pixels do not drown the others."""
        if self.spikes is not None:
            grid = self.spikes(events)
        else:
            grid = REPRESENTATIONS[self.representation][0](events, self.bins)
        grid = grid.sign() * grid.abs().log1p()
        return grid / grid.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-6)

    def forward(self, events: EventBatch) -> Tensor:
        """(b, classes) logits."""
        return self.said(self.represent(events))

    def said(self, grid: Tensor) -> Tensor:
        """(b, classes) logits of what `represent` makes, (b, channels, H, W)."""
        x = self.features(grid)
        pooled = torch.cat((x.mean((2, 3)), x.amax((2, 3))), 1)
        return self.out(self.dropout(pooled))


def _layer(a, b):
    return nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()
