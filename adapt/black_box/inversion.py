"""Inputs that an endpoint takes for given classes, found by asking it alone.

    support   min CE(A(x), y)                                     over x = G(z; phi), both z and phi
    boundary  min CE(A(x), y) - w [argmax A(x) = argmax M(x)] D(A(x), M(x))
              inputs that the endpoint still takes for y, and a model M does not yet

A is never differentiated: its part of the gradient is a zero-order estimate at x, which autograd takes on
to z and phi. M counts as constant and is evaluated at x only, not at the points around it.

Source: Hu, Shen, Wang, Wu, Yuan, Tao, "Learning to Learn from APIs" (ICML 2023, arXiv 2305.18413).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adapt.black_box.api import BlackBox
from adapt.black_box.generators import GENERATORS
from adapt.black_box.zeroth_order import zo_grad

SMALLEST = 1e-6  # probability that a logarithm is taken of


@dataclass(frozen=True, kw_only=True)
class InversionConfig:
    """Settings of an inversion; it asks iterations * (directions + 1) times about each input.

    iterations: steps of Adam.
    directions: of the zero-order gradient.
    radius:     of it; larger for endpoints that are constant in pieces.
    rate:       of Adam.
    noise:      numbers of z.
    generator:  "dense" or "convolutional".
    width:      of its layers.
    boundary:   weight w of the disagreement with a model.
    distance:   D: "kl" or "l1".
    """

    iterations: int = 200
    directions: int = 100
    radius: float = 5e-3
    rate: float = 1e-3
    noise: int = 256
    generator: str = "convolutional"
    width: int = 128
    boundary: float = 1.0
    distance: str = "kl"

    def __post_init__(self):
        least = min(self.iterations, self.directions, self.noise, self.width, self.radius, self.rate)
        if not least > 0 or not isinstance(self.iterations, int) or not isinstance(self.directions, int):
            raise ValueError(f"all but boundary must be positive, and counts whole numbers, got {self}")
        if self.generator not in GENERATORS or self.distance not in ("kl", "l1"):
            raise ValueError(f"generator is one of {', '.join(GENERATORS)} and distance kl or l1, got {self}")

    def queries(self, inputs: int) -> int:
        """How often an endpoint is asked for so many inputs."""
        return self.iterations * (self.directions + 1) * inputs


class Inversion:
    """An inversion that can be interrupted: it goes on where it was, also from a saved state.

    Args:
        targets: (b,) classes wanted.
        shape:   of one input.
        config:  settings.
        seed:    of z, phi and directions.
        model:   gives logits; with it inputs are looked for on which it disagrees with the endpoint.
    """

    def __init__(
        self,
        targets: Tensor,
        shape: tuple[int, ...],
        config: InversionConfig = InversionConfig(),
        seed: int = 0,
        model: nn.Module | None = None,
    ):
        self.targets, self.shape, self.config = targets, tuple(shape), config
        self.seed, self.model = seed, model
        self.random = torch.Generator().manual_seed(seed)
        self.z = torch.randn(len(targets), config.noise, generator=self.random).requires_grad_()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = GENERATORS[config.generator](self.shape, config.noise, config.width)
        self.optimizer = torch.optim.Adam(
            [self.z, *self.network.parameters()], lr=config.rate, betas=(0.5, 0.999)
        )
        self.step = 0
        self.best = torch.full((len(targets),), torch.inf)  # loss
        self.images = torch.zeros(len(targets), *self.shape)
        self.answers = torch.zeros(len(targets), 0)

    @property
    def done(self) -> bool:
        return self.step >= self.config.iterations

    def run(self, api: BlackBox) -> tuple[Tensor, Tensor]:
        """Go on to the end: (b, *shape) the best input for each target, (b, classes) the answer to it.

        An exception of the endpoint leaves the inversion before the step in which it came; run goes on from
        there, and what was answered in this step is asked again, unless the endpoint has a cache.

        Raises:
            ValueError: a target is no class of the endpoint.
        """
        if not bool(((self.targets >= 0) & (self.targets < api.classes)).all()):
            raise ValueError(
                f"{api.name} has classes 0 to {api.classes - 1}, targets are {self.targets.unique()}"
            )
        while not self.done:
            self._take(api)
        return self.images, self.answers

    def _take(self, api: BlackBox) -> None:
        x = self.network(self.z)
        theirs = None if self.model is None else self._said(x.detach())
        seen: list[Tensor] = []

        def loss(points: Tensor) -> Tensor:
            p = api(points.flatten(0, 1)).unflatten(0, points.shape[:2])
            seen.append(p[0])
            return self._loss(p, theirs)

        before = self.random.get_state()
        try:
            c = self.config
            gradient, now = zo_grad(loss, x.detach(), c.directions, c.radius, generator=self.random)
        except BaseException:
            self.random.set_state(before)
            raise
        assert now is not None
        if not self.answers.shape[1]:
            self.answers = torch.zeros(len(self.targets), seen[0].shape[1])
        better = now < self.best  # differs from the authors' code: the loss itself, and of each input
        self.best = torch.where(better, now, self.best)
        self.images[better], self.answers[better] = x.detach()[better], seen[0][better]
        self.optimizer.zero_grad()
        (x * gradient).flatten(1).sum(1).mean().backward()
        self.optimizer.step()
        self.step += 1

    def _said(self, x: Tensor) -> Tensor:
        assert self.model is not None
        with torch.no_grad():
            return self.model(x).softmax(-1)

    def _loss(self, p: Tensor, theirs: Tensor | None) -> Tensor:
        """(r, b) of answers (r, b, classes), and a model's (b, classes) at the points they are around."""
        found = cross_entropy(p, self.targets)
        if theirs is None or not self.config.boundary:
            return found
        agree = p.argmax(-1) == theirs.argmax(-1)
        return found - self.config.boundary * agree * distance(p, theirs, self.config.distance)

    def state(self) -> dict[str, Any]:
        """All that is needed to go on, of tensors and plain values; the model is not in it."""
        return {
            "step": self.step,
            "z": self.z.detach().clone(),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": self.random.get_state(),
            "best": self.best.clone(),
            "images": self.images.clone(),
            "answers": self.answers.clone(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state of an inversion with the same arguments."""
        with torch.no_grad():
            self.z.copy_(state["z"])
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.random.set_state(state["random"])
        self.step = int(state["step"])
        self.best, self.images, self.answers = (state[name].clone() for name in ("best", "images", "answers"))


def invert(
    api: BlackBox,
    targets: Tensor,
    shape: tuple[int, ...],
    config: InversionConfig = InversionConfig(),
    seed: int = 0,
    model: nn.Module | None = None,
) -> tuple[Tensor, Tensor]:
    """Inputs that an endpoint takes for given classes, see `Inversion`.

    Returns:
        (b, *shape) inputs from 0 to 1, (b, classes) the endpoint's probabilities of them.
    Raises:
        BudgetExceeded: the budget does not suffice; nothing is returned, where `Inversion` keeps what it has.
        ValueError:     a target is no class of the endpoint.
    """
    return Inversion(targets, shape, config, seed, model).run(api)


def cross_entropy(p: Tensor, y: Tensor) -> Tensor:
    """(r, b) of probabilities (r, b, classes) and classes (b,)."""
    return -p[..., torch.arange(len(y)), y].clamp(min=SMALLEST).log()


def distance(p: Tensor, q: Tensor, kind: str) -> Tensor:
    """(r, b) of probabilities (r, b, classes) from q (b, classes): KL(p || q), or the sum of differences."""
    if kind == "l1":
        return (p - q).abs().sum(-1)
    return (p * (p.clamp(min=SMALLEST).log() - q.clamp(min=SMALLEST).log())).sum(-1)
