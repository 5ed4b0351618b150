"""What the trajectory network is trained for: labels come from the simulator, so nothing is matched."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tracking.mt3.answers import Answer, gathered
from tracking.mt3.attention import Layout
from tracking.mt3.trajectory import SPEED, Stage
from tracking.mt3.windows import Windows

PER_WINDOW = 16.0  # objects by which the existence loss is divided


class Weights(NamedTuple):
    """Of the parts of the loss."""

    exists: float = 6.0
    distance: float = 1.0
    speed: float = 0.1
    spread: float = 0.1
    object: float = 3.0
    alive: float = 0.5
    residual: float = 0.3
    velocity: float = 1.0
    offset: float = 0.5


def trajectory_loss(
    answers: list[Answer], stages: list[Stage], windows: Windows, layout: Layout, dims: int, weights: Weights
) -> dict[str, Tensor]:
    """Parts of the loss, weighted; their sum is what is minimised.

    Args:
        answers, stages: of the network.
        windows: what it was given, with labels.
        layout:  where the tokens lie.
        dims:    entries of the state that the metric compares.
        weights: of the parts.
    """
    parts: dict[str, Tensor] = {}
    for k, answer in enumerate(answers):
        for name, value in _answered(answer, windows, dims, weights).items():
            parts[f"{name}{k or ''}"] = value / len(answers)
    for stage in stages:
        for name, value in _on_the_way(stage, windows, layout, weights).items():
            parts[name] = parts.get(name, 0.0) + value
    return parts


def latest(answer: Answer, windows: Windows) -> Tensor:
    """Whether a token (b, n) is the last one of a live object among those that may speak."""
    object_, live = _object(answer.order, windows)
    age = gathered(windows.age, answer.order)
    speaks = answer.mask & live
    slots = windows.alive.shape[1]
    youngest = torch.full((len(age), slots + 1), 10**6, dtype=age.dtype, device=age.device)
    index = torch.where(speaks, object_, slots)
    youngest = youngest.scatter_reduce(1, index, age, "amin")
    return speaks & (age == youngest.gather(1, index))


def _object(order, windows):
    """Row (b, n) of the object behind each token, 0 for clutter, and whether it is alive at the end."""
    origin = gathered(windows.origin, order)
    row = origin.clamp(min=0)
    return row, (origin >= 0) & windows.alive.gather(1, row)


def _answered(answer, windows, dims, weights):
    row, live = _object(answer.order, windows)
    speaks = answer.mask & live
    exists = F.binary_cross_entropy_with_logits(
        answer.logit, latest(answer, windows).float(), reduction="none"
    )
    error = answer.mean - gathered(windows.target, row)
    distance = (error[..., :dims].square().sum(-1) + 1e-6).sqrt()
    std = answer.log_std.clamp(-6, 3)
    spread = (std + 0.5 * (error.detach() * (-std).exp()).square()).mean(-1)
    return {
        "exists": weights.exists * (exists * answer.mask).sum() / (len(row) * PER_WINDOW),
        "distance": weights.distance * _mean(distance, speaks),
        "speed": weights.speed * _mean(error[..., 2:].abs().mean(-1) / SPEED, speaks),
        "spread": weights.spread * _mean(spread, speaks),
    }


def _on_the_way(stage, windows, layout, weights):
    out, order = stage.auxiliary, stage.order
    row, live = _object(order, windows)
    real, found = gathered(windows.real, order), gathered(windows.origin, order) >= 0
    x, state = gathered(layout.x, order), gathered(windows.state, order)
    noise = (gathered(layout.R, order)[..., ::2].sum(-1, keepdim=True) / 2).sqrt()  # of xx and yy
    residual = F.smooth_l1_loss(out[..., 2:4], (state[..., :2] - x) / noise, reduction="none").mean(-1)
    velocity = F.smooth_l1_loss(out[..., 4:6], state[..., 2:4] / SPEED, reduction="none").mean(-1)
    offset = x + 2 * out[..., 6:8] - gathered(windows.target, row)[..., :2]
    logits = F.binary_cross_entropy_with_logits
    return {
        "object": weights.object * _mean(logits(out[..., 0], found.float(), reduction="none"), real),
        "alive": weights.alive * _mean(logits(out[..., 1], live.float(), reduction="none"), found),
        "residual": weights.residual * _mean(residual, found),
        "velocity": weights.velocity * _mean(velocity, found),
        "offset": weights.offset * _mean((offset.square().sum(-1) + 1e-6).sqrt(), live),
    }


def _mean(value, mask):
    return torch.where(mask, value, 0.0).sum() / mask.sum().clamp(min=1)
