"""TBCM: a consistency model of one or two steps learns from a teacher's own trajectories, without an image.

The loss is that of continuous-time consistency models (sCM), which go from any x_t to the data at once:

    f(x, t) = cos t x - sin t v(x, t),   and along a trajectory of the teacher df/dt = 0

`tbcm` takes its points from the teacher's trajectories, `scm` from images and noise: distilled when it has a
teacher, trained on the images alone when it has none. Neither has an adversarial term.

The defaults are for stability. Let points have density p(t), and w(t) be the weight of a tangent in all,
with what it is divided by. Integrating E[w delta (cos^2 t delta + cos t sin t d delta/dt)] along the flow
by parts, the energy of an error delta falls at every time as long as p w rises no faster than tan t. The
papers' parts work against each other there: 1 / tan t hardly moves what is near noise, on which a single
step depends, and a learned weight or tangents of norm one, which make up for it, let it rise too fast. Here
the weight is 1 / sin t, level near noise, and the norm is damped by a constant of 1 instead of 0.1.

Source: Tang et al. (arXiv 2511.20410); Lu, Song (ICLR 2025, arXiv 2410.11081), section 4.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from adapt.diffusion.derivative import along
from adapt.diffusion.network import WAVES, Waves
from adapt.diffusion.route import Accept, jittered, points_of, reference, rollout
from adapt.diffusion.sampling import gaussian
from adapt.diffusion.teacher import Loss, generator_of, log_normal
from adapt.diffusion.trigflow import SIGMA, Velocity, noised, velocity_of, wide


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the loss.

    points, shift, bends: of the route, see `route.reference`.
    trajectories: of a step; each gives points - 1 training points.
    warm_up:      steps in which the unstable part of the tangent comes in.
    calm_start, calm_length, calm: from which step, and over how many, it goes back to a share.
    damping:      added to the norm that a tangent is divided by; 0.1 in the papers.
    weight:       "sine": 1 / (sigma sin t), or "tangent": 1 / (sigma tan t), the papers'.
    adaptive:     whether the weight of a time is learned.
    derivative:   "forward" or "difference", see `derivative.along`; a difference is cheaper on a CPU.
    mean, spread: of the log-normal noise level of `scm`.
    """

    points: int = 16
    shift: float = 2.5
    bends: int = 1
    trajectories: int = 8
    warm_up: int = 100
    calm_start: int = 15_000
    calm_length: int = 2_000
    calm: float = 0.75
    damping: float = 1.0
    weight: str = "sine"
    adaptive: bool = False
    derivative: str = "difference"
    mean: float = -1.0
    spread: float = 1.4

    def __post_init__(self):
        if self.weight not in ("sine", "tangent"):
            raise ValueError(f"weight must be sine or tangent, got {self.weight!r}")
        if not self.damping > 0 or self.trajectories < 1:
            raise ValueError(
                f"damping and trajectories must be positive, got {self.damping}, {self.trajectories}"
            )

    def share(self, step: int) -> float:
        """Share of the unstable part of the tangent at a step."""
        r = min(1.0, step / max(self.warm_up, 1))
        late = min(max((step - self.calm_start) / max(self.calm_length, 1), 0.0), 1.0)
        return r * (1 - late) + self.calm * late


class Student(nn.Module):
    """A velocity that learns to be a consistency model, and what the loss must remember, saved with its run.

    Args:
        velocity: to start from: a copy of the teacher.
        sigma:    of TrigFlow.
    Raises:
        ValueError: it has dropout, or takes time in whole steps.
    """

    step: Tensor
    skipped: Tensor

    def __init__(self, velocity: nn.Module, sigma: float = SIGMA):
        super().__init__()
        for name, module in velocity.named_modules():
            if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
                raise ValueError(f"a student's derivative is not that of its dropout, {name}: set its p to 0")
            if getattr(module, "whole", False):
                raise ValueError(
                    "a model of whole steps has no derivative in time: convert it with whole=False"
                )
        self.velocity, self.sigma = copy.deepcopy(velocity), sigma
        self.velocity.requires_grad_(True)
        self.log_loss = nn.Sequential(Waves(), nn.Linear(2 * WAVES, 1))
        for p in self.log_loss.parameters():
            nn.init.zeros_(p)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer(
            "skipped", torch.zeros((), dtype=torch.int64)
        )  # points whose tangent was not finite

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Velocity (b, ...), of which `trigflow.data_of` makes the consistency function."""
        return self.velocity(x, t)


def tangent(student: Student, point: tuple[Tensor, Tensor, Tensor], share: float, how: str) -> Tensor:
    """g (b, ...): cos t times df/dt along the teacher's velocity, with a share of its unstable part.

    F moves along it, and so f = cos t x - sin t v against its own change.

    Args:
        student: the consistency model.
        point:   x (b, ...), t (b,), dx/dt (b, ...).
        share:   r, from 0 to 1.
        how:     the derivative is taken.
    Source: Lu, Song (ICLR 2025), algorithm 1.
    """
    x, t, dxdt = point
    cos, both = wide(t.cos(), x), t.cos() * t.sin()
    with torch.no_grad():
        rate = along(student, (x, t), (wide(both, x) * dxdt, both), how) if share else torch.zeros_like(x)
        return -(cos**2) * (student(x, t) - dxdt) - share * (wide(both, x) * x + rate)


def consistency_loss(
    student: Student, point: tuple[Tensor, Tensor, Tensor], config: Config
) -> dict[str, Tensor]:
    """The loss of points x (b, ...), t (b,), dx/dt (b, ...); steps are counted in the student.

    Points whose tangent is not finite do not count; the student's `skipped` says how many there were. Where
    none is left there is no loss, and the step changes nothing.

    Raises:
        RuntimeError: the student's own answer is not finite: its weights are lost.
    """
    x, t, _ = point
    g = tangent(student, point, config.share(int(student.step)), config.derivative)
    student.step += 1
    fine = g.flatten(1).isfinite().all(1)
    student.skipped += (~fine).sum()
    x, t, g = x[fine], t[fine], g[fine]
    if not len(x):
        _check_answers(student, point)
        return {}
    g = g / (wide(g.flatten(1).norm(dim=1), g) + config.damping)
    said = student(x, t) / student.sigma
    miss = (said - said.detach() - g).square().flatten(1).mean(1)
    weight = 1 / (student.sigma * (t.sin() if config.weight == "sine" else t.tan()))
    if config.adaptive:
        log_loss = student.log_loss(t)[:, 0]
        return {"consistency": (weight * (-log_loss).exp() * miss + log_loss).mean()}
    return {"consistency": (weight * miss).mean()}


def _check_answers(student: Student, point: tuple[Tensor, Tensor, Tensor]) -> None:
    x, t, dxdt = point
    seen = x.flatten(1).isfinite().all(1) & dxdt.flatten(1).isfinite().all(1)
    with torch.no_grad():
        if len(x[seen]) and not bool(student(x[seen], t[seen]).isfinite().any()):
            raise RuntimeError("the student's answers are not finite any more; start again with a lower rate")


def tbcm(
    teacher: Velocity,
    shape: tuple[int, ...],
    config: Config = Config(),
    accept: Accept | None = None,
) -> Loss:
    """The loss of a `Student` for `perception.training.Run`; no image is read.

    Args:
        teacher: velocity of images or latents; it is only called.
        shape:   of one of them.
        config:  settings.
        accept:  tells which ends of trajectories are good enough to learn from, to keep out a teacher's
            failures.
    """
    route = reference(config.points, config.shift, config.bends)

    def loss(network: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
        assert isinstance(network, Student)
        device = network.step.device
        x = gaussian(config.trajectories, shape, network.sigma, generator_of(rng, device))
        visits = rollout(teacher, x, jittered(route, rng))
        return consistency_loss(network, points_of(visits, accept), config)

    return loss


def scm(images: Tensor, teacher: Velocity | None = None, config: Config = Config(), encode=None) -> Loss:
    """The loss of a `Student` on images and noise, with as many points a step as `tbcm` has.

    Args:
        images:  (n, ...) of standard deviation sigma, or what `encode` makes such latents of.
        teacher: whose velocity is followed; None: that of image and noise, which is training from scratch.
        config:  settings.
        encode:  images (b, ...) -> latents (b, ...), at every step: what a consistency model of latents pays.
    """
    batch = config.trajectories * (config.points - 1)

    def loss(network: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
        assert isinstance(network, Student)
        device = network.step.device
        x0 = images[torch.from_numpy(rng.integers(0, len(images), batch)).to(images.device)].to(device)
        with torch.no_grad():
            x0 = x0 if encode is None else encode(x0)
            t = log_normal(batch, rng, config.mean, config.spread, network.sigma).to(device)
            z = network.sigma * torch.randn(x0.shape, generator=generator_of(rng, device), device=device)
            x = noised(x0, t, z)
            dxdt = velocity_of(x0, t, z) if teacher is None else teacher(x, t)
        return consistency_loss(network, (x, t, dxdt), config)

    return loss
