"""ABD's self-retrospection: a student is made insensitive to what would fool it.

Per step, a universal perturbation is sought that changes the answers to a batch most, by default those of the
teacher, who knows the backdoor; the student then shall not react to it. Source: Hong et al. (ICML 2023); the
implicit hypergradient by fixed-point iteration is that of Grazzi et al. (ICML 2020).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from adapt.data_free.context import undisturbed
from adapt.data_free.sources import Parts
from adapt.data_free.updates import Step, Update

WHERE = ("teacher", "student")


def divergence(clean: Tensor, changed: Tensor) -> Tensor:
    """KL(clean || changed) of logits, mean over the batch."""
    return F.kl_div(changed.log_softmax(1), clean.log_softmax(1), log_target=True, reduction="batchmean")


def implicit(
    inner: Callable[[Tensor], Tensor],
    outer: Callable[[Tensor], Tensor],
    delta: Tensor,
    rounds: int,
    eta: float,
) -> Tensor:
    """A scalar whose gradient in parameters th is the hypergradient of outer(delta*(th), th).

    delta* minimises inner(delta, th). With Phi(d) = d - eta d inner / dd, v_(k+1) = v_k dPhi/dd + d outer/dd
    and v_0 = 0, it is d outer/dth + v_K dPhi/dth: the first K terms of a Neumann series of the inverse
    Hessian.

    Args:
        inner, outer: of delta; they depend on th through what they close over.
        delta:        near the minimum.
        rounds:       K; 0: the direct gradient alone.
        eta:          below 2 over the largest eigenvalue of the Hessian, for convergence in K.
    """
    delta = delta.detach().requires_grad_()
    direct = outer(delta)
    if rounds == 0:
        return direct
    (slope,) = torch.autograd.grad(direct, delta, retain_graph=True)
    (descent,) = torch.autograd.grad(inner(delta), delta, create_graph=True)
    step = delta - eta * descent
    v = torch.zeros_like(delta)
    for _ in range(rounds):
        (pulled,) = torch.autograd.grad(step, delta, v, retain_graph=True)
        v = pulled + slope
    return direct + (v.detach() * step).sum() - (v.detach() * step).sum().detach()


class SelfRetrospect:
    """An update, and beside it self-retrospection.

    Args:
        inner:   the update of the distillation itself.
        rounds:  of the search, by Adam; rate times rounds is how far it can reach.
        rate:    of the search.
        penalty: of the perturbation's square.
        K, eta:  of the hypergradient; K = 0 leaves the implicit term out.
        portion: of the batch that is perturbed, at least one input.
        weight:  of the term. The released code averages over the whole batch, perturbed or not, so there its
                 weight is the portion, 0.02; here the mean is over those that are.
        on:      whose answers the search changes.

    The student's running statistics are those of `inner` alone.
    """

    def __init__(
        self,
        inner: Update,
        rounds: int = 30,
        rate: float = 0.1,
        penalty: float = 1e-3,
        K: int = 5,
        eta: float = 0.1,
        portion: float = 1.0,
        weight: float = 0.1,
        on: str = "teacher",
    ):
        if on not in WHERE or not 0 < portion <= 1 or rounds < 1 or K < 0:
            raise ValueError(
                f"on must be one of {', '.join(WHERE)}, portion in (0, 1], rounds at least 1 and K at least "
                f"0, got {on!r}, {portion}, {rounds}, {K}"
            )
        if not all(0 < number < math.inf for number in (rate, eta, weight)) or not 0 <= penalty < math.inf:
            raise ValueError(
                "rate, eta and weight must be positive, penalty at least 0, and all finite, got "
                f"{rate}, {eta}, {weight}, {penalty}"
            )
        self.inner, self.rounds, self.rate, self.penalty = inner, rounds, rate, penalty
        self.K, self.eta, self.portion, self.weight, self.on = K, eta, portion, weight, on

    def __call__(self, step: Step) -> Parts:
        """The parts of the inner update, and `retrospect`."""
        delta = self.search(step)
        retrospect = self.weight * self.term(step, delta)
        return self.inner(step) | {"retrospect": retrospect}

    def search(self, step: Step) -> Tensor:
        """(1, *shape) the perturbation."""
        x = step.x
        ask = step.teacher if self.on == "teacher" else (lambda x: undisturbed(step.student, x))
        with torch.no_grad():
            clean = ask(x)
        # at zero the divergence has no slope, so the search starts beside it
        noise = torch.randn(1, *x.shape[1:], generator=step.generator, device=x.device)
        delta = (1e-2 * noise).requires_grad_()
        optimizer = torch.optim.Adam([delta], self.rate)
        for _ in range(self.rounds):
            loss = self.penalty * delta.square().sum() - divergence(clean, ask(x + delta))
            (delta.grad,) = torch.autograd.grad(loss, delta)
            optimizer.step()
        return delta.detach()

    def term(self, step: Step, delta: Tensor) -> Tensor:
        """Differentiable in the student's parameters: how much it reacts, and how delta would go with it."""
        x = step.x
        clean = undisturbed(step.student, x)
        count = max(round(self.portion * len(x)), 1)
        rows = torch.randperm(len(x), generator=step.generator, device=x.device)[:count]

        def changed(d: Tensor, rows: Tensor) -> Tensor:
            moved = x.clone()
            moved[rows] = x[rows] + d
            return undisturbed(step.student, moved)

        every = torch.arange(len(x), device=x.device)

        def inner(d: Tensor) -> Tensor:
            return self.penalty * d.square().sum() - divergence(clean.detach(), changed(d, every))

        def outer(d: Tensor) -> Tensor:
            return divergence(clean.detach()[rows], changed(d, rows)[rows])

        return implicit(inner, outer, delta, self.K, self.eta)

    def state(self) -> dict[str, Any]:
        """That of the inner update."""
        return self.inner.state()

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.inner.load(state)
