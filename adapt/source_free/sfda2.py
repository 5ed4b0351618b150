"""SF(DA)^2: neighbours as augmentations of each other, and features augmented without ever sampling any.

Source: Hwang, Lee, Shin, Yoon (ICLR 2024, arXiv 2403.10834). The weight of the dispersion is ours, see
`dispersion`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from adapt.source_free import losses
from adapt.source_free.dispersion import auto_alpha, check_alpha0, start_and_fall
from adapt.source_free.engine import EVERYTHING, Batch, Loss, Plan, Run, schedule

LARGEST = 2**31  # bytes of the covariances of all classes


@dataclass(frozen=True, kw_only=True)
class SFDA2:
    """Spectral neighbourhood clustering, implicit feature augmentation and feature disentanglement.

    alpha0:  weight of the dispersion at the start; "auto": of `auto_alpha`, falling as `auto_beta` has it.
    beta:    how fast it falls, (1 + 10 t/T)^-beta.
    ifa, fd: weights of the two regularisers; with 0 for both it is spectral neighbourhood clustering alone.
    lambda0: strength of the augmentation at the end; it grows from 0.
    memory:  share of each batch in the covariances of its classes; None: all batches count alike, as in the
             paper, where what FD can still move fades as 1/t.
    """

    alpha0: float | str = "auto"
    beta: float = 1.0
    ifa: float = 1e-4
    fd: float = 1.0
    lambda0: float = 5.0
    memory: float | None = None
    plan: Plan = EVERYTHING

    def __post_init__(self):
        check_alpha0(self.alpha0)
        if self.memory is not None and not 0 < self.memory <= 1:
            raise ValueError(f"memory must be above 0 and at most 1, got {self.memory}")

    def begin(self, run: Run) -> Loss:
        """The loss of a batch.

        Raises:
            ValueError: covariances of the features of all classes would not fit into memory.
        """
        classes, dim = run.predictions.shape[1], run.features.shape[1]
        regular = bool(self.ifa or self.fd)
        if regular and 4 * classes * dim**2 > LARGEST:
            raise ValueError(
                f"SF(DA)^2 keeps a covariance of features for each class, {classes} x {dim} x {dim} numbers "
                'here, more than 2 GB: use method="aad" or "snc"'
            )
        alpha0, beta = start_and_fall(self.alpha0, self.beta, run, auto_alpha)
        spread = ClassSpread.empty(classes, dim, run.features)

        def loss(batch: Batch) -> dict[str, Tensor]:
            nonlocal spread
            bank = run.predictions[run.around(batch)]
            parts = {"neighbours": losses.snc(batch.p, bank, schedule(alpha0, beta, run.progress))}
            if regular:
                said = batch.p.detach().argmax(1)
                spread = spread.updated(batch.said.z, said, self.memory)
                if self.ifa:
                    present, which = said.unique(return_inverse=True)
                    q = losses.class_quadratic(batch.said.weight, spread.cov[present])
                    strength = self.lambda0 * run.progress
                    parts["augmentation"] = self.ifa * losses.ifa(batch.said.logits, q, which, strength)
                if self.fd:
                    parts["disentanglement"] = self.fd * losses.fd(spread.cov, confusion(run.predictions))
                spread = spread.detached()
            return parts

        return loss


PAPER = SFDA2(alpha0=1.0, beta=5.0, ifa=1e-4, fd=10.0, lambda0=5.0)  # the authors' constants for VisDA


class ClassSpread(NamedTuple):
    """Running mean and covariance of the features of each class.

    number: (C,) samples so far.
    mean:   (C, D).
    cov:    (C, D, D), biased.
    """

    number: Tensor
    mean: Tensor
    cov: Tensor

    @classmethod
    def empty(cls, classes: int, dim: int, like: Tensor) -> "ClassSpread":
        """Of no samples."""
        return cls(like.new_zeros(classes), like.new_zeros(classes, dim), like.new_zeros(classes, dim, dim))

    def updated(self, z: Tensor, labels: Tensor, memory: float | None = None) -> "ClassSpread":
        """With the features z (B, D) of a batch, whose gradients it keeps, and pseudo-labels (B,).

        Source: Wang et al. (NeurIPS 2019), ISDA, from which SF(DA)^2 takes it.
        """
        hot = F.one_hot(labels, len(self.number)).to(z.dtype)
        number = hot.sum(0)
        mean = hot.T @ z / number.clamp(min=1)[:, None]
        centred = z - mean[labels]
        cov = torch.einsum("bc,bi,bj->cij", hot, centred, centred) / number.clamp(min=1)[:, None, None]
        share = number / (number + self.number).clamp(min=1)
        if memory is not None:
            share = torch.where(self.number > 0, memory * (number > 0), (number > 0).to(z.dtype))
        r, apart = share[:, None, None], self.mean - mean
        cov = (1 - r) * self.cov + r * cov + r * (1 - r) * apart[:, :, None] * apart[:, None, :]
        return ClassSpread(self.number + number, torch.lerp(self.mean, mean, share[:, None]), cov)

    def detached(self) -> "ClassSpread":
        """Without gradients."""
        return ClassSpread(*(t.detach() for t in self))


def confusion(p: Tensor) -> Tensor:
    """(C, C) inner products of the mean predictions (n, C) of each pseudo-label: how they are confused.

    A class that is never said has none with any other.
    """
    hot = F.one_hot(p.argmax(1), p.shape[1]).to(p.dtype)
    mean = hot.T @ p / hot.sum(0).clamp(min=1)[:, None]
    return mean @ mean.T
