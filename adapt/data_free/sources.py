"""Where inputs come from when there are no data: a generator, inversion of the teacher, or stored tensors.

`refresh(teacher, student, moment, generator)` improves a source and says how, `sample(n, generator)` gives
(n, *shape) without gradient, and `state()` and `load(state)` save it with a run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from adapt.data_free.context import Context
from adapt.data_free.networks import Shape
from adapt.data_free.terms import Terms, total

Parts = dict[str, Tensor]
State = dict[str, Any]


@dataclass(frozen=True)
class Moment:
    """Where a run is: which epoch, which student step of a round, and how much of all of it is done."""

    epoch: int
    within: int  # student step since the source was refreshed
    last: bool  # of the epoch
    progress: float  # 0 to 1


class Source(Protocol):
    """What a distiller asks of a source."""

    shape: Shape
    terms: Terms

    def refresh(
        self, teacher: nn.Module, student: nn.Module, moment: Moment, generator: torch.Generator
    ) -> Parts:
        """Improve what is given; the parts of the loss meanwhile."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, *shape) without gradient."""

    def afresh(self) -> None:
        """Begin with a new optimizer."""

    def state(self) -> State:
        """All that is needed to go on."""

    def load(self, state: State) -> None:
        """Go on from a state."""


class GeneratorSource:
    """A generator network, trained against the teacher and, with an adversarial term, the student.

    Args:
        network: from z (b, nz) to inputs.
        shape:   of one input.
        nz:      size of z.
        terms:   of its loss.
        batch:   inputs of each of its steps.
        rate:    of Adam.
        steps:   for each refresh.
    """

    def __init__(
        self,
        network: nn.Module,
        shape: Shape,
        nz: int,
        terms: Terms,
        batch: int = 64,
        rate: float = 2e-3,
        steps: int = 1,
    ):
        if batch < 2:
            raise ValueError(f"a generator with batch norm needs batches of 2 or more, got {batch}")
        self.network, self.shape, self.nz, self.terms = network, tuple(shape), nz, terms
        self.batch, self.rate, self.steps = batch, rate, steps
        self.afresh()

    def afresh(self) -> None:
        """Begin with a new optimizer."""
        self.optimizer = torch.optim.Adam(self.network.parameters(), self.rate)

    def refresh(
        self, teacher: nn.Module, student: nn.Module, moment: Moment, generator: torch.Generator
    ) -> Parts:
        """Steps of the generator."""
        self.network.train()
        parts: Parts = {}
        for _ in range(self.steps):
            z = torch.randn(self.batch, self.nz, generator=generator, device=generator.device)
            x = self.network(z)
            context = Context(x, teacher, student, z=z, progress=moment.progress, generator=generator)
            loss, parts = total(self.terms, context)
            gradients = torch.autograd.grad(loss, list(self.network.parameters()), allow_unused=True)
            for p, g in zip(self.network.parameters(), gradients):
                p.grad = g
            self.optimizer.step()
        return {name: value.detach() for name, value in parts.items()}

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Inputs of the generator in training mode, as in the papers: its statistics are of the batch."""
        z = torch.randn(max(n, 2), self.nz, generator=generator, device=generator.device)
        return self.network.train()(z)[:n]

    def state(self) -> State:
        """Weights, optimizer, and what terms remember."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "terms": _states(self.terms),
        }

    def load(self, state: State) -> None:
        """Go on from a state."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        _put_states(self.terms, state["terms"])


class Pool:
    """At most `capacity` inputs; the oldest go first."""

    def __init__(self, capacity: int = 4096):
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        self.x: Tensor | None = None

    def put(self, x: Tensor) -> None:
        """Add inputs (n, *shape)."""
        joined = x.detach() if self.x is None else torch.cat((self.x, x.detach()))
        self.x = joined[-self.capacity :].clone()

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor | None:
        """n of them at random; None while it is empty."""
        if self.x is None:
            return None
        rows = torch.randint(len(self.x), (n,), generator=generator, device=self.x.device)
        return self.x[rows]


class InversionSource:
    """Batches of inputs that are themselves optimized, kept in a pool.

    Args:
        shape:   of one input.
        classes: how many; each batch is given random labels, see `labels`.
        terms:   of the loss.
        make:    () -> a new generator whose weights and z are optimized (CMI), or None: the inputs are
                 (DeepInversion).
        nz:      size of z.
        batch:   inputs of a batch.
        rate:    of Adam, betas 0.5 and 0.999.
        steps:   of each batch; the inputs of the least loss are kept.
        pool:    where they are kept.
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        terms: Terms,
        make: Callable[[], nn.Module] | None = None,
        nz: int = 64,
        batch: int = 64,
        rate: float = 0.05,
        steps: int = 200,
        pool: Pool | None = None,
    ):
        if batch < 2 or steps < 1:
            raise ValueError(f"batch must be at least 2 and steps at least 1, got {batch} and {steps}")
        self.shape, self.classes, self.terms, self.make, self.nz = tuple(shape), classes, terms, make, nz
        self.batch, self.rate, self.steps = batch, rate, steps
        self.pool = Pool() if pool is None else pool

    def afresh(self) -> None:
        """Every batch begins with a new optimizer as it is."""

    def refresh(
        self, teacher: nn.Module, student: nn.Module, moment: Moment, generator: torch.Generator
    ) -> Parts:
        """One more batch in the pool."""
        device = generator.device
        labels = self.labels(moment, generator)
        size = self.shape if self.make is None else (self.nz,)
        z = torch.randn(self.batch, *size, generator=generator, device=device).requires_grad_()
        network = None if self.make is None else self._made(generator)
        parameters = [z, *([] if network is None else network.parameters())]
        optimizer = torch.optim.Adam(parameters, self.rate, betas=(0.5, 0.999))
        least, best, parts = float("inf"), z, {}
        for _ in range(self.steps):
            x = z if network is None else network(z)
            context = Context(
                x,
                teacher,
                student,
                z=z,
                labels=labels,
                progress=moment.progress,
                generator=generator,
            )
            loss, terms = total(self.terms, context)
            if float(loss.detach()) < least:
                least, best, parts = float(loss.detach()), x.detach().clone(), terms
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            for p, g in zip(parameters, gradients):
                p.grad = g
            optimizer.step()
        self.pool.put(best)
        return {name: value.detach() for name, value in parts.items()}

    def labels(self, moment: Moment, generator: torch.Generator) -> Tensor:
        """Classes (batch,) that the next batch is to be of: any. A curriculum is a class with others."""
        return torch.randint(self.classes, (self.batch,), generator=generator, device=generator.device)

    def _made(self, generator):
        assert self.make is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator, device=generator.device)))
            return self.make().to(generator.device).train()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Inputs of the pool."""
        x = self.pool.draw(n, generator)
        if x is None:
            raise ValueError("nothing has been inverted yet; refresh the source first")
        return x

    def state(self) -> State:
        """The pool, and what terms remember."""
        return {"pool": self.pool.x, "terms": _states(self.terms)}

    def load(self, state: State) -> None:
        """Go on from a state."""
        self.pool.x = state["pool"]
        _put_states(self.terms, state["terms"])


class TensorSource:
    """Stored inputs: unlabelled data, crops of one image, noise; also ordinary distillation.

    Args:
        x:       (n, *shape).
        augment: (batch, generator) -> batch, or None.
    """

    def __init__(self, x: Tensor, augment: Callable[[Tensor, torch.Generator], Tensor] | None = None):
        if x.ndim < 2 or not len(x) or not x.is_floating_point() or not x.isfinite().all():
            raise ValueError(
                f"inputs must be finite floating-point numbers (n, *shape), n at least 1, got {x.dtype} of "
                f"{tuple(x.shape)}"
            )
        self.x, self.shape, self.augment = x, tuple(x.shape[1:]), augment
        self.terms: Terms = {}

    def afresh(self) -> None:
        """There is no optimizer."""

    def refresh(
        self, teacher: nn.Module, student: nn.Module, moment: Moment, generator: torch.Generator
    ) -> Parts:
        """Stored inputs stay as they are."""
        return {}

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n of them at random, augmented."""
        self.x = self.x.to(generator.device)
        x = self.x[torch.randint(len(self.x), (n,), generator=generator, device=self.x.device)]
        return x if self.augment is None else self.augment(x, generator)

    def state(self) -> State:
        """Nothing: the inputs are given again."""
        return {}

    def load(self, state: State) -> None:
        """Nothing changes."""


def _states(terms: Terms) -> State:
    return {name: term.state() for name, (_, term) in terms.items() if hasattr(term, "state")}


def _put_states(terms: Terms, states: State) -> None:
    for name, (_, term) in terms.items():
        if hasattr(term, "state"):
            term.load(states[name])  # type: ignore[attr-defined]
