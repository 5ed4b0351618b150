"""The trajectory network: a dense relative of MT3 that learns in minutes.

Like MT3 it reads all measurements of a window at once and answers with the objects alive at its end. Unlike
MT3 it has no queries and no matching: every late measurement says whether it is the last one of an object
that is still alive, and where that object now is. Three things make it learn fast, each an option here:

    trajectory attention   a token attends along the straight line that it predicts for its object: to
                           measurements near x_i + v_i (s - s_i), Gaussian in space and time, v_i learned
    moment read-out        attention also returns the first moments of the positions and times that it
                           weighed, and the line that fits them
    cascade                after each layer only the tokens that look most like an object go on

This is not the architecture of Pinto et al. (2021); that is `tracking.mt3.network`.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tracking.mt3.answers import OFF, Answer, gathered, of_age
from tracking.mt3.attention import Layer, Layout, TrajectoryConfig
from tracking.mt3.geometry import Sight
from tracking.mt3.windows import Windows

SPEED = 1.73  # m/s, scale of velocities
WAVES = (12, 0.8, 40.0)  # Fourier features of a coordinate: number, shortest and longest wavelength, m


class Stage(NamedTuple):
    """What the tokens of a layer say on the way, as `Auxiliary`."""

    order: Tensor  # (b, n) into the tokens of the window
    auxiliary: Tensor  # (b, n, 8)


class TrajectoryNetwork(nn.Module):
    """See the module's docstring.

    Args:
        sight:  how the sensor sees the plane.
        scans:  of a window.
        dt:     s between them.
        config: size and parts.
    """

    def __init__(self, sight: Sight, scans: int, dt: float, config: TrajectoryConfig | None = None):
        super().__init__()
        self.sight, self.scans, self.dt = sight, scans, dt
        self.config = config = config or TrajectoryConfig()
        n, low, high = WAVES
        wave = torch.logspace(np.log10(low), np.log10(high), n)
        self.frequency: Tensor
        self.register_buffer("frequency", 2 * torch.pi / wave, persistent=False)
        self.embed = nn.Linear(2 + 4 * n + (sight.dim_z + 4 if sight.radar else 0), config.width)
        self.time = nn.Parameter(0.3 * torch.randn(scans, config.width))
        self.layers = nn.ModuleList(Layer(config, sight.radar, first=i == 0) for i in range(len(config.keep)))
        self.heads = nn.ModuleList(Auxiliary(config.width) for _ in config.keep)
        exists = nn.Linear(config.width, 1)
        nn.init.constant_(exists.bias, -2.0)
        self.exists = nn.Sequential(nn.LayerNorm(config.width), exists)
        self.locate = StateHead(config.width)
        self.refine = nn.ModuleList(Layer(config, sight.radar) for _ in config.refine)
        self.later = nn.ModuleList(Correction(config.width) for _ in config.refine)

    def layout(self, windows: Windows) -> Layout:
        """Geometry of the tokens."""
        x, R = self.sight.locate(windows.z.float())
        s = (windows.age.float() - 0.5 * (self.scans - 1)) * -self.dt
        return Layout(x, s, R, windows.z[..., 2].float() if self.sight.radar else None, windows.real)

    def tokens(self, windows: Windows, layout: Layout) -> Tensor:
        """Embedding (b, n, width) of the measurements."""
        angle = layout.x[..., None] * self.frequency
        parts = [
            layout.x / (2 * self.sight.reach),
            torch.sin(angle).flatten(-2),
            torch.cos(angle).flatten(-2),
        ]
        if self.sight.radar:
            std = torch.log(layout.R[..., ::2].clamp(min=1e-6)) / 2
            bearing = windows.z[..., 1:2]
            parts += [self.sight.scaled(windows.z), std, torch.sin(bearing), torch.cos(bearing)]
        return self.embed(torch.cat(parts, -1)) + of_age(self.time, windows.age)

    def forward(self, windows: Windows) -> tuple[list[Answer], list[Stage]]:
        """Answers, the best last, and what the tokens said on the way."""
        layout = self.layout(windows)
        h = self.tokens(windows, layout)
        b, n = windows.real.shape
        order = torch.arange(n, device=h.device).expand(b, n)
        stages: list[Stage] = []
        score = None
        for layer, head, keep in zip(self.layers, self.heads, self.config.keep):
            if score is not None and keep < order.shape[1]:
                h, layout, order, _ = _best(score, keep, h, layout, order)
            h = layer(h, layout)
            stage = Stage(order, head(h))
            stages.append(stage)
            score = stage.auxiliary[..., 0].masked_fill(~layout.real, OFF)
        age = gathered(windows.age, order)
        mask = layout.real & (age < self.config.last_scans)
        logit = self.exists(h)[..., 0].masked_fill(~mask, OFF)
        mean, log_std = self.locate(h, layout.x, stages[-1].auxiliary, age.float() * self.dt)
        answers = [Answer(order, mask, logit, mean, log_std)]
        for layer, later, keep in zip(self.refine, self.later, self.config.refine):
            last = answers[-1]
            if keep < order.shape[1]:
                h, layout, order, chosen = _best(last.logit, keep, h, layout, order)
                last = Answer(*(gathered(a, chosen) for a in last))
            h = layer(h, layout)
            answers.append(later(h, last))
        return answers, stages


def _best(score, keep, h, layout, order):
    """The tokens of largest score, in their order; the choice has no gradient."""
    chosen = score.detach().topk(keep, dim=1).indices.sort(1).values
    return gathered(h, chosen), layout.gather(chosen), gathered(order, chosen), chosen


class Auxiliary(nn.Module):
    """Of every token: logits of object and alive, own residual (2), velocity (2), offset to the end (2)."""

    def __init__(self, width: int):
        super().__init__()
        self.net = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 8))

    def forward(self, h: Tensor) -> Tensor:
        """The eight numbers (b, n, 8) of tokens (b, n, width)."""
        return self.net(h).float()


class StateHead(nn.Module):
    """State at the last scan: where the token's velocity leads, and a learned correction."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.net = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU())
        self.out = nn.Linear(width, 8)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, h: Tensor, x: Tensor, auxiliary: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log standard deviations (b, n, 4); x (b, n, 2) m, age (b, n) s."""
        out = self.out(self.net(self.norm(h))).float()
        velocity = SPEED * auxiliary[..., 4:6]
        position = x + velocity * age[..., None] + 2 * out[..., :2]
        return torch.cat((position, velocity + SPEED * out[..., 2:4]), -1), out[..., 4:] - 1.0


class Correction(nn.Module):
    """What a later layer adds to an answer; nothing at the start of training."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        out = nn.Linear(width, 9)
        nn.init.zeros_(out.weight)
        nn.init.zeros_(out.bias)
        self.net = nn.Sequential(nn.Linear(width, width), nn.GELU(), out)
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor([2.0, 2.0, SPEED, SPEED]), persistent=False)

    def forward(self, h: Tensor, last: Answer) -> Answer:
        """The answer of before, corrected by what tokens (b, n, width) say now."""
        out = self.net(self.norm(h)).float()
        return last._replace(
            logit=torch.where(last.mask, last.logit + out[..., 0], OFF),
            mean=last.mean + self.scale * out[..., 1:5],
            log_std=last.log_std + out[..., 5:],
        )
