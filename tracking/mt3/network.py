"""MT3: measurements in, a set of Bernoulli-like predictions at the last scan out.

Encoder over all measurements of a window, two-stage selection of the queries, decoder with iterative
refinement of the states in logit space.

Sources: Pinto, Hess, Ljungbergh, Xia, Svensson, Wymeersch, "Next Generation Multitarget Trackers: Random
Finite Set Methods vs Transformer-based Deep Learning" (FUSION 2021); for states with velocity and
uncertainty, and queries from memory, Pinto et al., "Can Deep Learning be Applied to Model-Based Multi-Object
Tracking?" (arXiv 2202.07909), called MT3v2 here. From the second are taken for both: the field of view maps
to the middle of the unit interval, so that no proposal is at infinity; refinement sees the normalised
outputs; the heads of the states start at zero.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tracking.mt3.answers import OFF, Answer, gathered, of_age
from tracking.mt3.geometry import Sight
from tracking.mt3.windows import Windows

SPAN = 4.0  # of the unit interval, in largest coordinates of the field of view
SPEED_SPAN = 120.0  # m/s
EDGE = 1e-5  # logits are of values between this and 1 - this
UNSURE = 1.0  # log m/s: what is said of a velocity that is not estimated


@dataclass(frozen=True, kw_only=True)
class MT3NetworkConfig:
    """Size and form of an MT3 network; the defaults are the paper's.

    width, heads, hidden, dropout: of a layer.
    encoder, decoder: number of layers.
    queries:  most objects that can be reported.
    velocity: MT3v2: states with velocity and uncertainty, queries from memory; else MT3: positions.
    norm_first: normalise before attention rather than after; not as in the papers.
    """

    width: int = 256
    heads: int = 8
    hidden: int = 2048
    dropout: float = 0.1
    encoder: int = 6
    decoder: int = 6
    queries: int = 16
    velocity: bool = False
    norm_first: bool = False

    def __post_init__(self):
        if self.width % self.heads or min(self.encoder, self.decoder, self.queries, self.hidden) < 1:
            raise ValueError(f"width must be a multiple of heads and all sizes at least 1, got {self}")


class Memory(NamedTuple):
    """What the encoder says: its output (b, n, width), and proposals as an `Answer` of all tokens."""

    encoded: Tensor
    proposals: Answer


class MT3Network(nn.Module):
    """See the module's docstring.

    Args:
        sight:  how the sensor sees the plane.
        scans:  of a window.
        dt:     s between them; the network does not use it.
        config: size and form.
    """

    def __init__(self, sight: Sight, scans: int, dt: float, config: MT3NetworkConfig | None = None):
        super().__init__()
        self.sight, self.scans, self.dt = sight, scans, dt
        self.config = config = config or MT3NetworkConfig()
        width, levels = config.width, config.decoder + 1  # the last set of heads is the encoder's
        self.dims = 4 if config.velocity else 2
        self.scale: Tensor  # m and m/s of the unit interval
        self.span: Tensor  # of the field of view in measurement space
        scale = [SPAN * sight.reach] * 2 + [SPEED_SPAN] * 2
        self.register_buffer("scale", torch.tensor(scale[: self.dims]), persistent=False)
        self.register_buffer("span", torch.tensor(sight.upper) - torch.tensor(sight.lower), persistent=False)
        self.embed = nn.Linear(sight.dim_z, width, bias=False)
        self.time = nn.Parameter(torch.rand(scans, width))
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder))
        self.select = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))
        self.query = nn.Linear(width if config.velocity else 2 * width, 2 * width)
        self.query_norm = nn.LayerNorm(2 * width)
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder))
        self.norm = nn.LayerNorm(width)
        self.exists = nn.ModuleList(nn.Linear(width, 1) for _ in range(levels))
        self.delta = nn.ModuleList(_mlp(width, self.dims) for _ in range(levels))
        self.spread = nn.ModuleList(_mlp(width, 4) for _ in range(levels if config.velocity else 0))
        self.contrast = nn.Linear(width, width, bias=False)
        for p in self.parameters():
            if p.ndim > 1 and p is not self.time:
                nn.init.xavier_uniform_(p)
        for name, p in self.delta.named_parameters():
            if name.endswith(("4.weight", "4.bias")):  # their last layers
                nn.init.zeros_(p)

    def forward(self, windows: Windows) -> tuple[list[Answer], Memory]:
        """Answers of every decoder layer, the best last, and what the encoder says."""
        memory = self._encode(windows)
        proposals, h = memory.proposals, memory.encoded
        k = min(self.config.queries, h.shape[1])
        chosen = proposals.logit.detach().topk(k, dim=1).indices
        proposal = gathered(proposals.mean, chosen)[..., : self.dims].detach()
        reference = _logit(proposal / self.scale + 0.5)
        mask = gathered(proposals.mask, chosen)
        content = gathered(self._hidden(h, windows), chosen).detach() if self.config.velocity else None
        query, where = self._queries(reference, content)
        time, padding = of_age(self.time, windows.age), windows.real[:, None, None]
        answers = []
        for level, layer in enumerate(self.decoder):
            query = layer(query, where, h, time, padding)
            o = self.norm(query)
            reference = self.delta[level](o).float() + reference
            answers.append(self._answer(level, o, reference, chosen, mask))
            reference = _logit(reference.sigmoid().detach())
        return answers, memory

    def _encode(self, windows: Windows) -> Memory:
        x = self.embed(windows.z.float() / self.span)
        time, padding = of_age(self.time, windows.age), windows.real[:, None, None]
        for layer in self.encoder:
            x = layer(x, time, padding)
        h = self._hidden(x, windows)
        position = self.sight.locate(windows.z.float())[0]
        start = F.pad(position, (0, self.dims - 2)) / self.scale + 0.5
        reference = self.delta[-1](h).float() + _logit(start)
        order = torch.arange(h.shape[1], device=h.device).expand(len(h), -1)
        return Memory(x, self._answer(-1, h, reference, order, windows.real))

    def _hidden(self, x, windows):
        return self.select(x * windows.real[..., None])

    def _answer(self, level, h, reference, order, mask) -> Answer:
        logit = self.exists[level](h)[..., 0].float().masked_fill(~mask, OFF)
        state = (reference.sigmoid() - 0.5) * self.scale
        if self.config.velocity:
            std = F.softplus(self.spread[level](h).float()) + 1e-3
            return Answer(order, mask, logit, state, std.log())
        unknown = state.new_full((*state.shape[:-1], 2), UNSURE)
        spread = torch.cat((torch.full_like(unknown, -1.0), unknown), -1)
        return Answer(order, mask, logit, F.pad(state, (0, 2)), spread)

    def _queries(self, reference, content):
        """First queries and their position embedding, (b, k, width) each."""
        if content is None:
            content = _sinusoids(reference.sigmoid() * 2 * torch.pi, self.config.width)
        first, second = self.query_norm(self.query(content)).chunk(2, -1)
        return (first, second) if self.config.velocity else (second, first)


def _sinusoids(x: Tensor, width: int) -> Tensor:
    """Sine and cosine of coordinates (..., c) at `width` frequencies together, (..., c width)."""
    j = torch.arange(width, device=x.device)
    angle = x[..., None] / 10_000 ** (2 * (j // 2) / width)
    return torch.where(j % 2 == 0, angle.sin(), angle.cos()).flatten(-2)


def _logit(u: Tensor) -> Tensor:
    return torch.logit(u, eps=EDGE)


def _mlp(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, out)
    )


class Attention(nn.Module):
    """Multi-head attention; `real` (b, 1, 1, n) masks keys."""

    def __init__(self, config: MT3NetworkConfig):
        super().__init__()
        width = config.width
        self.heads, self.dropout = config.heads, config.dropout
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, real: Tensor | None = None) -> Tensor:
        """Mixture (b, k, width) of values (b, n, width) for queries (b, k, width)."""
        q, k, v = (
            f(a).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for f, a in zip((self.q, self.k, self.v), (q, k, v))
        )
        p = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=real, dropout_p=p)
        return self.out(mixed.transpose(1, 2).flatten(2))


class _Residual(nn.Module):
    """x + f(x), normalised after, or before f."""

    def __init__(self, config: MT3NetworkConfig):
        super().__init__()
        self.norm, self.drop = nn.LayerNorm(config.width), nn.Dropout(config.dropout)
        self.first = config.norm_first

    def forward(self, x: Tensor, f) -> Tensor:
        if self.first:
            return x + self.drop(f(self.norm(x)))
        return self.norm(x + self.drop(f(x)))


def _feed(config):
    return nn.Sequential(
        nn.Linear(config.width, config.hidden),
        nn.ReLU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.hidden, config.width),
    )


class EncoderLayer(nn.Module):
    """Self-attention with the time encoding in queries and keys, never in values."""

    def __init__(self, config: MT3NetworkConfig):
        super().__init__()
        self.attention, self.feed = Attention(config), _feed(config)
        self.around, self.after = _Residual(config), _Residual(config)

    def forward(self, x: Tensor, time: Tensor, real: Tensor) -> Tensor:
        """Tokens (b, n, width) after the layer; `time` (b, n, width) is their time encoding."""
        x = self.around(x, lambda y: self.attention(y + time, y + time, y, real))
        return self.after(x, self.feed)


class DecoderLayer(nn.Module):
    """Self-attention among the queries, attention to the memory, feed-forward."""

    def __init__(self, config: MT3NetworkConfig):
        super().__init__()
        self.among, self.across, self.feed = Attention(config), Attention(config), _feed(config)
        self.first, self.second, self.third = (_Residual(config) for _ in range(3))

    def forward(self, o: Tensor, where: Tensor, memory: Tensor, time: Tensor, real: Tensor) -> Tensor:
        """Queries (b, k, width) after the layer; `where` (b, k, width) is their position embedding."""
        o = self.first(o, lambda y: self.among(y + where, y + where, y))
        o = self.second(o, lambda y: self.across(y + where, memory + time, memory, real))
        return self.third(o, self.feed)
