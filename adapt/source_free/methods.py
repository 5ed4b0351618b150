"""Methods of source-free adaptation as choices of losses on the one loop of `engine`."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from adapt.source_free import losses
from adapt.source_free.dispersion import check_alpha0, natural, start_and_fall
from adapt.source_free.engine import (
    EVERYTHING,
    FEATURES,
    NORMS_ONCE,
    NOTHING,
    Batch,
    Loss,
    Plan,
    Run,
    schedule,
)


@dataclass(frozen=True, kw_only=True)
class AdaBN:
    """Statistics of batch norm of the new data, and nothing else. Source: Li et al. (2016)."""

    plan: Plan = NOTHING

    def begin(self, run: Run) -> Loss:
        """No loss at all."""
        return lambda batch: {}


@dataclass(frozen=True, kw_only=True)
class Tent:
    """Scales and shifts of batch norm are trained for certainty, once. Source: Wang et al. (ICLR 2021)."""

    plan: Plan = NORMS_ONCE

    def begin(self, run: Run) -> Loss:
        """The entropy of a batch."""
        return lambda batch: {"certainty": losses.certainty(batch.p)}


@dataclass(frozen=True, kw_only=True)
class SHOT:
    """Information maximisation and pseudo-labels of class centres, before a head that stays.

    gamma: weight of the pseudo-labels; 0: SHOT-IM.

    Source: Liang et al. (ICML 2020).
    """

    gamma: float = 0.3
    plan: Plan = FEATURES

    def begin(self, run: Run) -> Loss:
        """Losses of a batch; pseudo-labels are made anew with each epoch."""
        labels: dict[int, Tensor] = {}  # of this epoch

        def loss(batch: Batch) -> dict[str, Tensor]:
            parts = {"information": losses.im(batch.p)}
            if self.gamma:
                if run.epoch not in labels:
                    labels.clear()
                    labels[run.epoch] = centred_labels(run.features, run.predictions)
                wanted = labels[run.epoch][batch.rows]
                parts["pseudo-labels"] = self.gamma * F.cross_entropy(batch.said.logits, wanted)
            return parts

        return loss


def centred_labels(features: Tensor, predictions: Tensor) -> Tensor:
    """Pseudo-labels (n,) of the nearest centre, from (n, D) unit features and (n, C) predictions.

    Centres are means weighted with predictions, then those of the labels found; classes that have less than
    half a sample are left out.
    """
    share = predictions
    labels = predictions.argmax(1)
    for _ in range(2):
        mass = share.sum(0)
        centre = F.normalize(share.T @ features, dim=1)
        near = (features @ centre.T).masked_fill(mass < 0.5, -torch.inf)
        labels = near.argmax(1)
        share = F.one_hot(labels, predictions.shape[1]).to(features.dtype)
    return labels


@dataclass(frozen=True, kw_only=True)
class NRC:
    """Neighbours agree, mutual ones more, and so do their neighbours. Source: Yang et al. (NeurIPS 2021).

    wider:    neighbours of each neighbour, M.
    expanded: their affinity, and that of neighbours that are not mutual.
    """

    wider: int = 5
    expanded: float = 0.1
    plan: Plan = EVERYTHING

    def begin(self, run: Run) -> Loss:
        """The loss of a batch and its neighbours."""

        def loss(batch: Batch) -> dict[str, Tensor]:
            near = run.around(batch)  # (B, K)
            flat = near.flatten()
            theirs = run.nearest(run.features[flat], flat, max(self.wider, run.neighbours))
            theirs = theirs.unflatten(0, near.shape)  # (B, K, M)
            mutual = (theirs[..., : run.neighbours] == batch.rows[:, None, None]).any(-1)
            weight = torch.where(mutual, 1.0, self.expanded).to(batch.p.dtype)
            wide = run.predictions[theirs[..., : self.wider].flatten(1)]
            own, bank = run.predictions[batch.rows], run.predictions[near]
            return {"neighbours": losses.nrc(batch.p, bank, weight, wide, own, self.expanded)}

        return loss


@dataclass(frozen=True, kw_only=True)
class AaD:
    """Neighbours attract, the rest of the batch disperses. Source: Yang et al. (NeurIPS 2022).

    alpha0: weight of the dispersion at the start; "auto": the authors' 1, `natural` where that is more,
            falling as `auto_beta` has it.
    beta:   how fast it falls, (1 + 10 t/T)^-beta.
    """

    alpha0: float | str = "auto"
    beta: float = 1.0
    plan: Plan = EVERYTHING

    def __post_init__(self):
        check_alpha0(self.alpha0)

    def begin(self, run: Run) -> Loss:
        """The loss of a batch and its neighbours."""
        alpha0, beta = start_and_fall(self.alpha0, self.beta, run, lambda *of: max(1.0, natural(*of)))

        def loss(batch: Batch) -> dict[str, Tensor]:
            alpha = schedule(alpha0, beta, run.progress)
            bank = run.predictions[run.around(batch)]
            return {"neighbours": losses.aad(batch.p, bank, alpha)}

        return loss
