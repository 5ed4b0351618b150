"""BiDf-MKD: one model that learns fast, learned from many endpoints of which only the answers are to be had.

An episode of an endpoint: inputs are recovered that it takes for its classes (support), a copy of the
meta-model learns its answers to them, inputs are recovered on which this copy still disagrees (boundary
query), and the meta-model learns, through the copy's learning, to answer these as the endpoint does. In
between, recovered inputs of all endpoints are mixed to tasks that no endpoint has (task memory replay).

Source: Hu, Shen, Wang, Wu, Yuan, Tao, "Learning to Learn from APIs: Black-Box Data-Free Meta-Learning" (ICML
2023, arXiv 2305.18413), with the true KL divergence where the authors' code has an inner product.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from adapt.black_box.api import BlackBox
from adapt.black_box.episodes import Parameters, adapted, answers_kl, inner_product, outer
from adapt.black_box.inversion import Inversion, InversionConfig
from adapt.black_box.memory import TaskMemory
from tracking.formats import runs

QUERIES = ("boundary", "plain", "support")


@dataclass(frozen=True, kw_only=True)
class MetaConfig:
    """Settings of a meta-learning.

    updates:     of the meta-model.
    episodes:    in each update.
    rate:        of the meta-model, Adam.
    per_class:   inputs recovered of each class, for support and for query.
    steps, rate_inside: of a copy that learns an endpoint's answers.
    memory_steps, memory_rate: of one that learns a task of the memory.
    shots, queries: inputs of each class in such a task.
    kept:        batches of a class in the memory.
    warm_up:     updates before which a query is a second support, since a model that knows nothing has no
                 boundary.
    patience:    updates without a better accuracy, after which the next endpoint is inverted.
    query:       "boundary", "plain" (a second support) or "support" (the same, which teaches next to
                 nothing).
    replay:      whether there are tasks of the memory; without, the last endpoint's episode is repeated.
    first_order: leave out second derivatives.
    exact:       the authors' inner product instead of the KL divergence.
    inversion:   settings of it.
    seed:        of everything.
    """

    updates: int = 1500
    episodes: int = 4
    rate: float = 1e-3
    per_class: int = 30
    steps: int = 10
    rate_inside: float = 0.01
    memory_steps: int = 5
    memory_rate: float = 0.01
    shots: int = 1
    queries: int = 15
    kept: int = 20
    warm_up: int = 100
    patience: int = 200
    query: str = "boundary"
    replay: bool = True
    first_order: bool = False
    exact: bool = False
    inversion: InversionConfig = field(default_factory=InversionConfig)
    seed: int = 0

    def __post_init__(self):
        if self.query not in QUERIES:
            raise ValueError(f"query must be one of {', '.join(QUERIES)}, got {self.query!r}")
        if self.per_class <= self.shots or min(self.updates, self.episodes, self.patience, self.shots) < 1:
            raise ValueError(
                "updates, episodes, patience and shots must be at least 1 and per_class more than shots, "
                f"got {self}"
            )
        if min(self.queries, self.kept) < 1 or min(self.steps, self.memory_steps) < 0:
            raise ValueError(f"queries and kept must be at least 1 and steps at least 0, got {self}")

    def queries_of(self, classes: int) -> int:
        """How often an endpoint is asked each time it is inverted."""
        return self.inversion.queries(classes * self.per_class) * (1 if self.query == "support" else 2)


class MetaLearner:
    """A meta-learning that can be stopped, saved and gone on with, also in the midst of an inversion.

    Args:
        apis:   endpoints, all with as many classes as the model.
        model:  gives logits; a copy of it learns. Batch norm, if any, without running statistics.
        shape:  of one input.
        config: settings.
    Raises:
        ValueError: no endpoint, or one with another number of classes than the model or the first one.
    """

    def __init__(
        self,
        apis: Sequence[BlackBox],
        model: nn.Module,
        shape: tuple[int, ...],
        config: MetaConfig = MetaConfig(),
    ):
        if not len(apis):
            raise ValueError("there is no endpoint to learn from")
        self.apis, self.model = list(apis), copy.deepcopy(model).train()
        self.shape, self.config = tuple(shape), config
        self.ways = _ways(self.apis, self.model, self.shape)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.rate)
        self.random = torch.Generator().manual_seed(config.seed)
        self.memory = TaskMemory(config.kept)
        self.update = 0
        self.fresh = True
        self.best, self.since = -1.0, 0
        self.pending: dict[str, Any] | None = None  # an endpoint's episode that is not finished
        self.inversion: Inversion | None = None  # the one that is under way in it
        self.last: dict[str, Any] | None = None  # the last that is
        self.waiting: list[tuple[list[Tensor], float]] = []  # gradients and accuracies of finished episodes

    @property
    def done(self) -> bool:
        return self.update >= self.config.updates

    def train(
        self,
        updates: int | None = None,
        advance: Callable[[int, float], object] = lambda update, accuracy: None,
    ) -> nn.Module:
        """Go on for so many updates, or to the end; the meta-model.

        Args:
            updates: how many at most.
            advance: told the updates done and the accuracy on queries after each.
        Raises:
            BudgetExceeded: an endpoint may not be asked further. Nothing is lost: raise its budget and train
                            on, or save, and resume later.
            Unavailable:    likewise, of an endpoint that does not answer.
        """
        end = self.config.updates if updates is None else min(self.update + updates, self.config.updates)
        while self.update < end:
            while len(self.waiting) < self.config.episodes:
                self.waiting.append(self._episode())
            advance(self.update + 1, self._step())
        return self.model

    def _step(self) -> float:
        parameters = list(self.model.parameters())
        self.optimizer.zero_grad()
        for gradients, _ in self.waiting:
            for p, g in zip(parameters, gradients):
                p.grad = g.clone() if p.grad is None else p.grad + g
        self.optimizer.step()
        accuracy = sum(a for _, a in self.waiting) / len(self.waiting)
        self.waiting, self.update = [], self.update + 1
        self.since += 1
        if accuracy > self.best:
            self.best, self.since = accuracy, 0
        if self.since >= self.config.patience:
            self.fresh, self.best, self.since = True, -1.0, 0
        return accuracy

    def _episode(self) -> tuple[list[Tensor], float]:
        """Gradients of the outer loss, and accuracy on the query."""
        if self.fresh:
            self._invert()
            self.fresh = False
            return self._endpoint_episode()
        if self.config.replay:
            return self._memory_episode()
        return self._endpoint_episode()

    def _invert(self) -> None:
        """Recover support and query of the next endpoint; goes on with what is pending."""
        c = self.config
        if self.pending is None:
            api = int(torch.randint(len(self.apis), (), generator=self.random))
            seeds = torch.randint(2**31, (2,), generator=self.random).tolist()
            boundary = c.query == "boundary" and self.update >= c.warm_up
            self.pending = {"api": api, "seeds": seeds, "boundary": boundary}
        work = self.pending
        api = self.apis[work["api"]]
        for name, seed in zip(("support", "query"), work["seeds"]):
            if name in work:
                continue
            if name == "query" and c.query == "support":
                work["query"] = work["support"]
                continue
            if self.inversion is None:
                self.inversion = self._inversion(work, name, seed)
            x, p = self.inversion.run(api)
            work[name] = (x, p)
            self.inversion = None
            for k in range(self.ways):
                of = f"{work['api']}/{k}" if api.labels is None else api.labels[k]
                self.memory.add(of, x[k * c.per_class : (k + 1) * c.per_class])
        self.last, self.pending = work, None

    def _inversion(self, work: dict[str, Any], name: str, seed: int) -> Inversion:
        c = self.config
        targets = torch.arange(self.ways).repeat_interleave(c.per_class)
        copied = None
        if name == "query" and work["boundary"]:
            parameters = self._adapted(*work["support"])
            copied = copy.deepcopy(self.model)
            copied.load_state_dict(copied.state_dict() | {n: p.detach() for n, p in parameters.items()})
        return Inversion(targets, self.shape, c.inversion, seed, copied)

    def _endpoint_episode(self) -> tuple[list[Tensor], float]:
        assert self.last is not None
        parameters = self._adapted(*self.last["support"])
        x, p = self.last["query"]
        return self._gradients(*outer(self.model, parameters, x, p, self._fit))

    def _memory_episode(self) -> tuple[list[Tensor], float]:
        c = self.config
        task = self.memory.task(self.ways, c.shots, c.queries, self.random)
        start = dict(self.model.named_parameters())
        parameters = adapted(
            self.model, start, *task.support, F.cross_entropy, c.memory_steps, c.memory_rate, c.first_order
        )
        return self._gradients(*outer(self.model, parameters, *task.query, F.cross_entropy))

    def _adapted(self, x: Tensor, p: Tensor) -> Parameters:
        c, start = self.config, dict(self.model.named_parameters())
        return adapted(self.model, start, x, p, self._fit, c.steps, c.rate_inside, c.first_order)

    @property
    def _fit(self):
        return inner_product if self.config.exact else answers_kl

    def _gradients(self, loss: Tensor, accuracy: float) -> tuple[list[Tensor], float]:
        return list(torch.autograd.grad(loss, list(self.model.parameters()))), accuracy

    def save(self, path: str | Path) -> None:
        """Write all that is needed to go on as if it had not stopped."""
        runs.save(path, self._state())

    def resume(self, path: str | Path) -> None:
        """Go on from a file, with the same endpoints, model and settings; queries are counted on.

        Raises:
            ValueError: the file holds no meta-learning, or another one; this one stays as it was.
        """
        runs.restore(path, self._state(), self._put, ("about",), "this meta-learning")

    def _state(self) -> dict[str, Any]:
        return {
            "about": self._about(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": self.random.get_state(),
            "memory": self.memory.state(),
            "counts": {"update": self.update, "since": self.since},
            "fresh": self.fresh,
            "best": self.best,
            "queries": [api.queries for api in self.apis],
            "pending": self.pending,
            "inversion": None if self.inversion is None else self._saved(self.inversion),
            "last": self.last,
            "waiting": self.waiting,
        }

    def _put(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.random.set_state(state["random"])
        self.memory.restore(state["memory"])
        self.update, self.since = int(state["counts"]["update"]), int(state["counts"]["since"])
        self.fresh, self.best = bool(state["fresh"]), float(state["best"])
        self.pending, self.last, self.waiting = state["pending"], state["last"], state["waiting"]
        self.inversion = None
        if state["inversion"] is not None:
            self.inversion = self._restored(state["inversion"])
        for api, queries in zip(self.apis, state["queries"]):
            api.queries = max(api.queries, int(queries))

    def _saved(self, inversion: Inversion) -> dict[str, Any]:
        model = None if inversion.model is None else inversion.model.state_dict()
        return {"state": inversion.state(), "seed": inversion.seed, "model": model}

    def _restored(self, saved: dict[str, Any]) -> Inversion:
        model = None
        if saved["model"] is not None:
            model = copy.deepcopy(self.model)
            model.load_state_dict(saved["model"])
        targets = torch.arange(self.ways).repeat_interleave(self.config.per_class)
        inversion = Inversion(targets, self.shape, self.config.inversion, int(saved["seed"]), model)
        inversion.restore(saved["state"])
        return inversion

    def _about(self) -> dict[str, Any]:
        apis = [[api.name, api.classes, list(api.labels or ())] for api in self.apis]
        config = asdict(self.config)
        del config["updates"]  # a run may be made longer
        return {"config": config, "shape": list(self.shape), "apis": apis}


def meta_learn(
    apis: Sequence[BlackBox],
    model: nn.Module,
    shape: tuple[int, ...],
    config: MetaConfig = MetaConfig(),
    *,
    checkpoint: str | Path | None = None,
    advance: Callable[[int, float], object] = lambda update, accuracy: None,
) -> nn.Module:
    """A model that learns new tasks of few samples fast, from endpoints alone.

    Args:
        apis:       endpoints, all with as many classes as the model.
        model:      gives logits; it is not changed.
        shape:      of one input; inputs are from 0 to 1.
        config:     settings.
        checkpoint: a file to go on from if it is there; it is written after every update that endpoints were
                    asked for, and at the end, whatever the end is.
        advance:    told the updates done and the accuracy on queries after each.
    Returns:
        The meta-model, for `few_shot`.
    Raises:
        BudgetExceeded, Unavailable: an endpoint does not answer further; with a checkpoint, the same call
                                     goes on from there.
    """
    learner = MetaLearner(apis, model, shape, config)
    if checkpoint is None:
        return learner.train(advance=advance)
    if Path(checkpoint).exists():
        learner.resume(checkpoint)
    else:
        learner.save(checkpoint)  # a place that cannot be written to is found out before anybody is asked
    asked = [api.queries for api in apis]

    def kept(update: int, accuracy: float) -> None:
        nonlocal asked
        if asked != (asked := [api.queries for api in apis]):
            learner.save(checkpoint)
        advance(update, accuracy)

    try:
        return learner.train(advance=kept)
    finally:
        learner.save(checkpoint)


def _ways(apis: Sequence[BlackBox], model: nn.Module, shape: tuple[int, ...]) -> int:
    with torch.no_grad():
        said = functional_call(model, dict(model.named_parameters()), (torch.zeros(2, *shape),))
    for api in apis:
        if api.classes != said.shape[1]:
            raise ValueError(
                f"{api.name} has {api.classes} classes and the model {said.shape[1]}; "
                "accepted are endpoints and a model of one number of classes"
            )
    return int(said.shape[1])
