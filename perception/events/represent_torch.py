"""The representations of `perception.events.represent` for batches of streams as tensors, with gradients.

Every function has the name, meaning and result of the one there, with a first dimension for the streams.
Gradients flow to pixel coordinates where those are real numbers (`voxel_grid`, `warped_image`), to flow, and
to the kernel of `SpikeTensor`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception.events.represent import bins_of, require_choice, span_of
from perception.events.stream import EventStream

NEVER = -(2**61)  # us
TABLE = 2**14  # values of a learned kernel, which is made of straight lines
LONGEST = 2**45  # us, a year: times the largest number of bins it fits int64


class EventBatch(NamedTuple):
    """Events of several streams of one sensor size, one after the other.

    x, y:   (n,) pixels, int64, or real where events were moved off their pixels.
    t:      (n,) int64 microseconds.
    p:      (n,) bool.
    stream: (n,) int64, which stream.
    span:   (b, 2) int64, first and last microsecond of each stream's bins.
    width, height: pixels.
    """

    x: Tensor
    y: Tensor
    t: Tensor
    p: Tensor
    stream: Tensor
    span: Tensor
    width: int
    height: int

    @classmethod
    def of(
        cls, streams: Sequence[EventStream], span: tuple[int, int] | None = None, device="cpu"
    ) -> "EventBatch":
        """Streams as one batch; `span` for all of them, by default each one's own."""
        sizes = {(s.width, s.height) for s in streams}
        if len(sizes) != 1:
            raise ValueError(f"streams of one sensor size make a batch, got sizes {sorted(sizes)}")
        width, height = sizes.pop()
        columns = {n: np.concatenate([getattr(s, n) for s in streams]) for n in "xytp"}
        spans = np.array([span_of(s, span) for s in streams], np.int64)
        if (spans[:, 1] - spans[:, 0] > LONGEST).any():
            raise ValueError(f"a batch takes spans of up to {LONGEST} us, got {spans.tolist()}")
        which = np.repeat(np.arange(len(streams)), [len(s) for s in streams])

        def tensor(a, kind=torch.int64):
            return torch.as_tensor(a, device=device).to(kind)

        x, y, t = (tensor(columns[n].astype(np.int64)) for n in "xyt")
        p = tensor(columns["p"].copy(), torch.bool)
        return cls(x, y, t, p, tensor(which), tensor(spans), width, height)

    @property
    def sign(self) -> Tensor:
        """(n,) 1.0 where the pixel became brighter, else -1.0."""
        return self.p.float() * 2 - 1

    @property
    def phase(self) -> Tensor:
        """(n,) float64, time between the ends of the stream's span, 0 to 1."""
        first, last = self.span[self.stream].unbind(-1)
        return (self.t - first).double() / (last - first).clamp(min=1)

    def bin(self, bins: int) -> Tensor:
        """(n,) bin of equal time."""
        first, last = self.span[self.stream].unbind(-1)
        return (self.t - first) * bins // (last - first + 1)

    def turn(self, bins: int) -> Tensor:
        """(n,) bin of equally many events."""
        number = torch.bincount(self.stream, minlength=len(self.span))
        start = number.cumsum(0) - number
        place = torch.arange(len(self.t), device=self.t.device) - start[self.stream]
        return ((place + 1) * bins - 1) // number[self.stream]


def count_image(events: EventBatch) -> Tensor:
    """(b, 2, H, W), see `represent.count_image`."""
    return frames(events, 1)[:, 0]


def frames(events: EventBatch, bins: int) -> Tensor:
    """(b, bins, 2, H, W), see `represent.frames`."""
    channel = events.bin(bins_of(bins)) * 2 + events.p
    grid = _summed(events, channel, torch.ones_like(events.t, dtype=torch.float32), 2 * bins)
    return grid.unflatten(1, (bins, 2))


def event_stack(events: EventBatch, bins: int, by: str = "time", value: str = "sum") -> Tensor:
    """(b, bins, H, W), see `represent.event_stack`."""
    require_choice("by", by, ("time", "count"))
    require_choice("value", value, ("sum", "last"))
    channel = events.bin(bins_of(bins)) if by == "time" else events.turn(bins_of(bins))
    if value == "sum":
        return _summed(events, channel, events.sign, bins)
    last = _latest(events, channel, torch.arange(len(events.t), device=events.t.device), bins)
    signs = torch.cat((events.sign, events.sign.new_zeros(1)))  # -1, the last entry: no event
    return signs[last.clamp(min=-1)]


def voxel_grid(events: EventBatch, bins: int) -> Tensor:
    """(b, bins, H, W), see `represent.voxel_grid`; real coordinates are shared out bilinearly."""
    at = events.phase * (bins_of(bins) - 1)
    low = at.long().clamp(max=bins - 1)
    share = (at - low).float()
    return _summed(events, low, events.sign * (1 - share), bins) + _summed(
        events, (low + 1).clamp(max=bins - 1), events.sign * share, bins
    )


def last_times(events: EventBatch, never: int = NEVER) -> Tensor:
    """(b, 2, H, W) int64, see `represent.last_times`."""
    found = _latest(events, events.p.long(), events.t, 2)
    return torch.where(found == NEVER, never, found)


def time_surface(events: EventBatch, tau: float | Tensor) -> Tensor:
    """(b, 2, H, W), see `represent.time_surface`, at the end of each span; one tau, or one each (b,)."""
    tau = torch.as_tensor(tau, dtype=torch.float64, device=events.t.device).reshape(-1, 1, 1, 1)
    if not ((tau > 0) & tau.isfinite()).all():
        raise ValueError(f"tau must be > 0 us and finite, got {tau.flatten().tolist()}")
    last = last_times(events)
    age = events.span[:, 1, None, None, None] - last
    return torch.where(last == NEVER, 0.0, torch.exp(-age.double() / tau)).float()


def spike_tensor(events: EventBatch, bins: int) -> Tensor:
    """(b, 2 bins, H, W), see `represent.spike_tensor`."""
    at = events.phase * (bins_of(bins) - 1)
    return _measured(events, lambda k: F.relu(1 - (at - k).abs()).float(), bins)


class SpikeTensor(nn.Module):
    """Event spike tensor with a learned kernel, a small network that starts as the triangle.

    Args:
        bins:   centres in time, evenly from 0 to 1.
        hidden: units of each of the two hidden layers.
        seed:   of the initial weights.
        fitted: whether they are fitted to the triangle, which takes seconds; not if they will be read.
    Source: as `represent.spike_tensor`.
    """

    def __init__(self, bins: int = 9, hidden: int = 30, seed: int = 0, fitted: bool = True):
        super().__init__()
        self.bins = bins_of(bins)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            act = nn.LeakyReLU(0.1)
            self.kernel = nn.Sequential(
                nn.Linear(1, hidden), act, nn.Linear(hidden, hidden), act, nn.Linear(hidden, 1)
            )
            if fitted:
                self._fit_triangle()

    def _fit_triangle(self, steps: int = 1000, samples: int = 2000):
        optimizer = torch.optim.Adam(self.kernel.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        width = max(self.bins - 1, 1)
        with torch.enable_grad():
            for _ in range(steps):
                s = torch.rand(samples, 1) * 2 - 1
                error = self.kernel(s) - F.relu(1 - s.abs() * width)
                optimizer.zero_grad()
                error.square().mean().backward()
                optimizer.step()
                schedule.step()

    def forward(self, events: EventBatch) -> Tensor:
        """(b, 2 bins, H, W) of a batch of streams."""
        phase, bins = events.phase.float(), self.bins
        centres = torch.linspace(0, 1, bins, device=phase.device) if bins > 1 else phase.new_zeros(1)
        kernel = self._kernel_at(phase[:, None] - centres)
        return _measured(events, lambda k: kernel[:, k], bins)

    def _kernel_at(self, s: Tensor) -> Tensor:
        """The kernel at times (n, bins) from -1 to 1; of many, between the values of a table."""
        if s.numel() <= TABLE:
            return self.kernel(s.reshape(-1, 1)).reshape(s.shape)
        table = self.kernel(torch.linspace(-1, 1, TABLE, device=s.device)[:, None])[:, 0]
        at = (s + 1) * ((TABLE - 1) / 2)
        low = at.long().clamp(0, TABLE - 2)
        steps = torch.cat((table.diff(), table.new_zeros(1)))
        return table[low] + (at - low) * steps[low]


def warped_image(events: EventBatch, flow: Tensor, at: Tensor | None = None) -> Tensor:
    """(b, 2, H, W), see `represent.warped_image`.

    Args:
        events: n events of b streams.
        flow:   (b, 2) or (b, 2, H, W) pixels per second.
        at:     (b,) microseconds; default: the ends of the spans.
    Raises:
        ValueError: flow of another shape, or not finite.
    """
    b = len(events.span)
    if flow.shape not in ((b, 2), (b, 2, events.height, events.width)):
        raise ValueError(
            f"flow must have shape ({b}, 2) or ({b}, 2, {events.height}, {events.width}), "
            f"got {tuple(flow.shape)}"
        )
    if not flow.isfinite().all():
        raise ValueError("flow must be finite")
    x, y = moved(events, flow, at)
    return _summed(events._replace(x=x, y=y), events.p.long(), torch.ones_like(x), 2)


def moved(events: EventBatch, flow: Tensor, at: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Where flow (b, 2) or (b, 2, H, W), pixels per second, takes events until `at` (b,), microseconds.

    Events that lie off the sensor, since they were moved before, have the flow of its border.
    """
    at = events.span[:, 1] if at is None else at
    dt = ((at[events.stream] - events.t).double() * 1e-6).to(flow.dtype)
    if flow.ndim == 2:
        own = flow[events.stream]
    else:
        row, column = (
            place.detach().round().long().clamp(0, side - 1)
            for place, side in ((events.y, events.height), (events.x, events.width))
        )
        own = flow[events.stream, :, row, column]
    return events.x + dt * own[:, 0], events.y + dt * own[:, 1]


def splat(
    x: Tensor, y: Tensor, plane: Tensor, weight: Tensor, planes: int, height: int, width: int
) -> Tensor:
    """(planes, H, W): weights (n,) shared out bilinearly around real coordinates; those outside are lost."""
    left, top = x.detach().floor(), y.detach().floor()
    out = torch.zeros(planes * height * width, dtype=(x[:1] * weight[:1]).dtype, device=x.device)
    for dx in (0, 1):
        for dy in (0, 1):
            u, v = left + dx, top + dy
            share = weight * (1 - (x - u).abs()) * (1 - (y - v).abs())
            inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
            index = (plane * height + v.long().clamp(0, height - 1)) * width + u.long().clamp(0, width - 1)
            out = out.index_add(0, index, torch.where(inside, share, 0.0))
    return out.reshape(planes, height, width)


def _summed(events, channel, weight, channels):
    """(b, channels, H, W): weights added up at the events' pixels."""
    planes, plane = len(events.span) * channels, events.stream * channels + channel
    if events.x.is_floating_point():
        grid = splat(events.x, events.y, plane, weight, planes, events.height, events.width)
    else:
        index = (plane * events.height + events.y) * events.width + events.x
        grid = weight.new_zeros(planes * events.height * events.width).index_add(0, index, weight)
    return grid.reshape(-1, channels, events.height, events.width)


def _measured(events, kernel, bins):
    """(b, 2 bins, H, W): the events' phases, times kernel(k) (n,) for each bin k."""
    parts = [_summed(events, events.p.long(), events.phase.float() * kernel(k), 2) for k in range(bins)]
    return torch.stack(parts, 2).flatten(1, 2)


def _latest(events, channel, value, channels):
    """(b, channels, H, W) int64: the largest value at every pixel, NEVER where there is none."""
    index = ((events.stream * channels + channel) * events.height + events.y) * events.width + events.x
    size = len(events.span) * channels * events.height * events.width
    grid = torch.full((size,), NEVER, dtype=torch.int64, device=events.t.device)
    grid = grid.scatter_reduce(0, index, value, "amax")
    return grid.reshape(-1, channels, events.height, events.width)
