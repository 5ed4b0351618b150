"""The loss of MT3: matched states, existence, and a contrastive loss on the memory.

Sources: as `tracking.mt3.network`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tracking.mt3.answers import OFF, Answer, gathered
from tracking.mt3.matching import greedy, hungarian
from tracking.mt3.network import Memory, MT3Network
from tracking.mt3.windows import Windows


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """Settings of the loss; the defaults are the paper's.

    contrastive: weight of the contrastive loss.
    temperature: by which its similarities are divided.
    positive:    weight of objects that exist in the existence loss; the paper has (16 - n) / n of n objects.
    exact:       Hungarian matching; else greedy, on the device.
    """

    contrastive: float = 4.0
    temperature: float = 1.0
    positive: float = 1.0
    exact: bool = True

    def __call__(self, network: MT3Network, windows: Windows) -> dict[str, Tensor]:
        """Parts of the loss, weighted."""
        answers, memory = network(windows)
        there = windows.alive.float().topk(min(network.config.queries, windows.alive.shape[1]), 1).indices
        windows = windows.changed(  # slots without an object would cost the greedy matching a turn each
            target=gathered(windows.target, there), alive=windows.alive.gather(1, there)
        )
        parts = {"contrastive": self.contrastive * contrast(network, memory, windows, self.temperature)}
        state = exists = torch.zeros((), device=windows.z.device)
        match = hungarian if self.exact else greedy
        for answer in (*answers, memory.proposals):
            encoder = answer is memory.proposals
            a, b = self._set(answer, windows, network.dims, network.config.velocity, encoder, match)
            state, exists = state + a, exists + b
        return parts | {"state": state, "exists": exists}

    def _set(
        self, answer: Answer, windows: Windows, dims: int, uncertain: bool, encoder: bool, match: Callable
    ):
        target = windows.target[..., :dims]
        mean = torch.where(answer.mask[..., None], answer.mean[..., :dims], 1e3)  # padding is never matched
        p = answer.logit.sigmoid()
        confidence = -F.logsigmoid(answer.logit) if uncertain else -p
        cost = torch.cdist(mean, target) + confidence[..., None]
        found = match(cost, windows.alive)
        there = found >= 0
        row = found.clamp(min=0)
        matched = torch.zeros_like(p).scatter_reduce(1, row, there.float(), "amax")
        weight = 1 + (self.positive - 1) * matched
        exists = F.binary_cross_entropy_with_logits(answer.logit, matched, weight, reduction="none")
        exists = (exists * answer.mask).sum() / answer.mask.sum().clamp(min=1)
        error = (gathered(answer.mean, row)[..., :dims] - target).abs()
        if uncertain and not encoder:
            std = gathered(answer.log_std, row)[..., :dims].exp()
            error = 0.5 * (error / std).square() + std.log()
        each = error.sum(-1) if uncertain else error.mean(-1)
        return torch.where(there, each, 0.0).sum() / there.sum().clamp(min=1), exists


def contrast(network: MT3Network, memory: Memory, windows: Windows, temperature: float) -> Tensor:
    """Measurements of one object attract each other, and clutter clutter; all others repel."""
    r = F.normalize(network.contrast(memory.encoded).float(), dim=-1)
    similarity = r @ r.transpose(1, 2) / temperature
    apart = torch.eye(r.shape[1], dtype=torch.bool, device=r.device) | ~windows.real[:, None]
    log_p = similarity.masked_fill(apart, OFF).log_softmax(-1)
    same = (windows.origin[:, :, None] == windows.origin[:, None]) & ~apart
    number = same.sum(-1)
    each = -(log_p * same).sum(-1) / number.clamp(min=1)
    counted = windows.real & (number > 0)
    return torch.where(counted, each, 0.0).sum() / counted.sum().clamp(min=1)
