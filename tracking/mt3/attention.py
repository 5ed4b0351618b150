"""The layer of the trajectory network: attention along the line that a token predicts for its object."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tracking.mt3.answers import OFF, gathered

LENGTHS, TIMES = (0.6, 1.0, 1.6, 3.0), (0.2, 0.5, 1.0, 2.0)  # m and s, at the start of training
MOMENT_LIMIT = 8.0


@dataclass(frozen=True, kw_only=True)
class TrajectoryConfig:
    """Size and parts of a trajectory network.

    width, heads, hidden: of a layer.
    first_dim:  of a head in the first layer, whose tokens are many and know nothing of each other yet.
    keep:       tokens that enter each layer; the first takes all.
    last_scans: scans whose tokens may be the last detection of an object.
    refine:     candidates that enter each layer after the cascade, chosen by existence.
    straight:   trajectory attention follows the predicted velocity; else it looks around the token.
    bias:       Gaussian bias in space and time at all.
    moments:    moment read-out.
    """

    width: int = 96
    heads: int = 4
    hidden: int = 256
    first_dim: int = 8
    keep: tuple[int, ...] = (100_000, 384, 256, 256, 256)
    last_scans: int = 4
    refine: tuple[int, ...] = ()
    straight: bool = True
    bias: bool = True
    moments: bool = True

    def __post_init__(self):
        if self.width % self.heads or min(*self.keep, *self.refine, self.last_scans, self.hidden) < 1:
            raise ValueError(f"width must be a multiple of heads and all sizes at least 1, got {self}")


class Layout(NamedTuple):
    """Where the tokens lie: x (b, n, 2) m, s (b, n) s, R (b, n, 3) covariance, rate (b, n) m/s or None."""

    x: Tensor
    s: Tensor
    R: Tensor
    rate: Tensor | None
    real: Tensor

    def gather(self, order: Tensor) -> "Layout":
        """That of the tokens `order` (b, k)."""
        x, s, R, real = (gathered(a, order) for a in (self.x, self.s, self.R, self.real))
        return Layout(x, s, R, None if self.rate is None else gathered(self.rate, order), real)


class Layer(nn.Module):
    """Pre-norm: trajectory attention, then a network of one hidden layer."""

    def __init__(self, config: TrajectoryConfig, doppler: bool, first: bool = False):
        super().__init__()
        self.attention = TrajectoryAttention(config, doppler, first)
        self.before, self.between = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.feed = nn.Sequential(
            nn.Linear(config.width, config.hidden), nn.GELU(), nn.Linear(config.hidden, config.width)
        )

    def forward(self, h: Tensor, layout: Layout) -> Tensor:
        """Tokens (b, n, width) after the layer."""
        h = h + self.attention(self.before(h), layout)
        return h + self.feed(self.between(h))


class TrajectoryAttention(nn.Module):
    """Attention with the logits

        q_i . k_j / sqrt(d) - |x_j - x_i - v_i (s_j - s_i)|^2_{L_i} / 2 - (s_j - s_i)^2 / (2 tau^2)

    where L_i = (l^2 I + c R_i)^-1, R_i the covariance of the token's position, and v_i a linear function of
    the token. Up to terms without j this is an inner product of a few features of i and j, so that ordinary
    attention computes it, with gradients to v, l, tau and c. With range rates a Gaussian in them is added.
    The features are appended to the values too: what comes back are moments of what was attended to.
    """

    def __init__(self, config: TrajectoryConfig, doppler: bool, first: bool):
        super().__init__()
        heads = config.heads
        dim = config.first_dim if first else config.width // heads
        moving = config.straight and not first
        self.heads, self.dim = heads, dim
        self.bias, self.doppler, self.read = config.bias, doppler, config.moments
        self.project = nn.Linear(config.width, 3 * heads * dim)
        self.velocity = nn.Linear(config.width, 2 * heads) if moving else None
        if self.velocity is not None:
            nn.init.zeros_(self.velocity.weight)
            nn.init.zeros_(self.velocity.bias)
        start = torch.tensor([LENGTHS, TIMES]).repeat(1, -(-heads // len(LENGTHS)))[:, :heads]
        self.log_length, self.log_time = (nn.Parameter(a.log()) for a in start)
        self.log_noise = nn.Parameter(torch.zeros(heads)) if doppler else None
        self.log_rate = nn.Parameter(torch.full((heads,), 0.7)) if doppler else None  # 2 m/s
        moments = (11 + 2 * doppler) if config.moments else 0
        self.out = nn.Linear((dim + moments) * heads, config.width)

    def forward(self, h: Tensor, layout: Layout) -> Tensor:
        """What tokens (b, n, width) read from each other."""
        b, n, _ = h.shape
        q, k, v = self.project(h).float().reshape(b, n, 3, self.heads, self.dim).permute(2, 0, 3, 1, 4)
        phi = _features(layout, self.doppler)  # (b, n, f)
        velocity = self._velocities(h)
        weight = self._weights(layout, velocity)  # (b, heads, n, f)
        far = torch.where(layout.real, 0.0, OFF)[..., None]  # a key feature: keeps padding out
        spread = phi[:, None].expand(-1, self.heads, -1, -1)
        q = torch.cat((q / self.dim**0.5, weight, torch.ones_like(weight[..., :1])), -1)
        k = torch.cat((k, spread, far[:, None].expand(-1, self.heads, -1, -1)), -1)
        v = torch.cat((v, spread, torch.zeros_like(weight[..., :1])), -1)
        more = -q.shape[-1] % 8
        q, k, v = (F.pad(a, (0, more)) for a in (q, k, v))
        with torch.autocast(h.device.type, enabled=False):
            mixed = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        parts = [mixed[..., : self.dim]]
        if self.read:
            parts.append(self._moments(mixed[..., self.dim : self.dim + phi.shape[-1]], layout))
        return self.out(torch.cat(parts, -1).permute(0, 2, 1, 3).flatten(2))

    def _velocities(self, h):
        if self.velocity is None:
            return h.new_zeros(len(h), self.heads, h.shape[1], 2, dtype=torch.float32)
        return self.velocity(h).float().reshape(*h.shape[:2], self.heads, 2).permute(0, 2, 1, 3)

    def _weights(self, layout, v):
        """Coefficients of the key features (b, heads, n, f); constants in the key are left out."""
        x, s = layout.x[:, None], layout.s[:, None]
        shape = (1, self.heads, 1)
        tau2 = (2 * self.log_time).exp().reshape(shape)
        xx = (2 * self.log_length).exp().reshape(shape)
        xy, yy = torch.zeros_like(xx), xx
        if self.log_noise is not None:
            scale = self.log_noise.exp().reshape(shape)
            R = layout.R[:, None]
            xx, xy, yy = (a + scale * R[..., i] for i, a in enumerate((xx, xy, yy)))
        det = xx * yy - xy**2
        xx, xy, yy = yy / det, -xy / det, xx / det  # its inverse
        start = x - v * s[..., None]  # where the line is at s = 0
        pull = torch.stack(
            (xx * start[..., 0] + xy * start[..., 1], xy * start[..., 0] + yy * start[..., 1]), -1
        )
        drift = torch.stack((xx * v[..., 0] + xy * v[..., 1], xy * v[..., 0] + yy * v[..., 1]), -1)
        one = torch.ones_like(s).expand(-1, self.heads, -1)
        columns = [
            pull[..., 0],
            pull[..., 1],
            drift[..., 0],
            drift[..., 1],
            -(v * pull).sum(-1) + s / tau2,
            -0.5 * ((v * drift).sum(-1) + 1 / tau2),
            -0.5 * xx * one,
        ]
        if self.log_rate is not None:
            w = (-2 * self.log_rate).exp().reshape(shape)
            columns += [0.5 * (xx - yy) * one, -xy * one, w * layout.rate[:, None], -0.5 * w * one]
        weight = torch.stack(columns, -1)
        return weight if self.bias else torch.zeros_like(weight)

    def _moments(self, m, layout):
        """Moments about the token (b, heads, n, 11), in units of the head's length and time."""
        x, s = layout.x[:, None], layout.s[:, None]
        shape = (1, self.heads, 1)
        length, tau = (a.detach().exp().reshape(shape) for a in (self.log_length, self.log_time))
        dx, ds = m[..., :2] - x, m[..., 4] - s
        dxds = m[..., 2:4] - x * m[..., 4:5] - s[..., None] * m[..., :2] + x * s[..., None]
        spread = m[..., 6] - 2 * (x * m[..., :2]).sum(-1) + (x**2).sum(-1)
        ds2 = m[..., 5] - 2 * s * m[..., 4] + s**2
        slope = (dxds - dx * ds[..., None]) / (ds2 - ds**2 + 0.02)[..., None]
        base = dx - slope * ds[..., None]
        length, tau = length[..., None], tau[..., None]
        parts = [
            dx / length,
            ds[..., None] / tau,
            dxds / length,
            spread[..., None] / length**2,
            ds2[..., None] / tau**2,
            slope / 2,
            base / length,
        ]
        if layout.rate is not None:
            rate = layout.rate[:, None]
            d = m[..., 9] - rate
            parts.append(torch.stack((d, m[..., 10] - 2 * rate * m[..., 9] + rate**2), -1) / 2)
        return torch.cat(parts, -1).clamp(-MOMENT_LIMIT, MOMENT_LIMIT)


def _features(layout: Layout, doppler: bool) -> Tensor:
    """Features of a key (b, n, f): x, y, x s, y s, s, s^2, x^2 + y^2; with Doppler y^2, x y, rate, rate^2."""
    (x, y), s = layout.x.unbind(-1), layout.s
    columns = [x, y, x * s, y * s, s, s**2, x**2 + y**2]
    if doppler:
        assert layout.rate is not None
        columns += [y**2, x * y, layout.rate, layout.rate**2]
    return torch.stack(columns, -1)
