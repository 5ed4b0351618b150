"""Rounds of federated learning in one process: no engine, no network, the same numbers as with one.

A client that fails, has nothing, or sends weights that cannot be right is left out of the round and named;
the others go on. The server's repair (`FedFTG`) plugs in as `refine`, whatever the rule.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from adapt.federated.local import Data, LocalConfig, labels_of, seeded, train_locally
from adapt.federated.rules import FedAvg, Rule
from adapt.federated.splits import label_counts, noisy_counts
from adapt.federated.uploads import (
    Exclusion,
    Upload,
    average,
    buffers_of,
    fault,
    parameters_of,
    put,
    update_norm,
)

FEDAVG = FedAvg()
SERVER, NOISE = 0x5E7, 0xD9  # besides the seed: draws of the server, and noise of counts


class Refine(Protocol):
    """A repair of the merged model on the server."""

    def __call__(
        self, model: nn.Module, clients: Sequence[nn.Module], counts: Tensor, number: int
    ) -> dict[str, float]:
        """Change the model in place; what to report of it.

        Args:
            model:   with the merged weights, in evaluation mode.
            clients: k models with the clients' weights, in evaluation mode; not to be changed.
            counts:  (k, classes) of their labels.
            number:  of the round, from 0.
        """


@dataclass
class Aside:
    """A repair of a copy: `model` is the repaired one, and clients go on from the merged one.

    Whatever it makes of the weights, the rounds are then as if it were not there: it cannot grow into harm,
    nor pull against what FedDyn and SCAFFOLD remember. The paper sends the repaired model.

    Args:
        refine: the repair.
    """

    refine: Refine
    model: nn.Module | None = field(default=None, init=False)

    def __post_init__(self):
        if isinstance(self.refine, Aside | type) or not callable(self.refine):
            raise TypeError(f"Aside is of a repair, such as Aside(FedFTG(generator)), got {self.refine!r}")


@dataclass(frozen=True, kw_only=True)
class FederateConfig:
    """Settings of a federation.

    rounds:        how many.
    participation: share of the clients that is asked in each round, at least one.
    local:         settings of the training at clients.
    norm_bound:    largest norm of an update that is used; None: any. The history tells what norms are usual.
    share_counts:  whether clients tell how many samples they have of each class; else the server knows only
                   how many there are, and takes every class for equally frequent.
    epsilon:       of Laplace noise on these counts, see `noisy_counts`; None: exact. It is drawn of the
                   seed, and hides nothing from a server that knows it.
    seed:          of who is asked, and of batches and noise at the clients.
    """

    rounds: int = 20
    participation: float = 1.0
    local: LocalConfig = field(default_factory=LocalConfig)
    norm_bound: float | None = None
    share_counts: bool = True
    epsilon: float | None = None
    seed: int = 0

    def __post_init__(self):
        if self.rounds < 0 or not 0 < self.participation <= 1:
            raise ValueError(f"rounds must be at least 0 and participation in (0, 1], got {self}")
        if any(value is not None and not value > 0 for value in (self.norm_bound, self.epsilon)):
            raise ValueError(f"norm_bound and epsilon must be above 0 or None, got {self}")


@dataclass(frozen=True)
class Round:
    """What happened in a round.

    asked:    clients that were to train.
    excluded: those of them whose update was not used.
    loss:     mean loss at the others.
    norms:    of the others' updates, by client.
    merged:   score of the merged weights; None without a score.
    refined:  score after the repair; None without one.
    repair:   what the repair reports, see `repaired`.
    """

    asked: tuple[int, ...]
    excluded: tuple[Exclusion, ...]
    loss: float | None
    norms: dict[int, float]
    merged: float | None = None
    refined: float | None = None
    repair: dict[str, float] = field(default_factory=dict)

    @property
    def score(self) -> float | None:
        return self.merged if self.refined is None else self.refined


@dataclass(frozen=True)
class FedResult:
    """The trained model, repaired if there was a repair, and what happened in each round."""

    model: nn.Module
    history: tuple[Round, ...]

    @property
    def scores(self) -> list[float | None]:
        """Score after each round."""
        return [r.score for r in self.history]

    def rounds_to(self, score: float) -> int | None:
        """Rounds until a score was first reached, None if it never was."""
        reached = [k for k, s in enumerate(self.scores) if s is not None and s >= score]
        return reached[0] + 1 if reached else None


def federate(
    model: nn.Module,
    clients: Sequence[Data],
    classes: int,
    config: FederateConfig = FederateConfig(),
    rule: Rule = FEDAVG,
    refine: Refine | Aside | None = None,
    score: Callable[[nn.Module], float] | None = None,
    advance: Callable[[Round], object] = lambda done: None,
) -> FedResult:
    """Train one classifier on the data of many clients.

    Args:
        model:   gives logits (b, classes); it is not changed.
        clients: for each, a pair of tensors, (n, ...) samples and (n,) labels, or a loader of such batches.
        classes: at all clients together.
        config:  settings.
        rule:    FedAvg(), FedProx(mu), FedDyn(alpha) or SCAFFOLD(); it is not changed.
        refine:  repair of the merged model, `FedFTG(...)` or `Aside(FedFTG(...))`; it keeps what it learns.
        score:   of a model in evaluation mode, for the history.
        advance: told every round when it is done.
    Raises:
        ValueError:   there is no client.
        RuntimeError: in no round there was an update to use; says why, client by client.
    """
    if not len(clients):
        raise ValueError("there is no client; a client is a pair of tensors or a loader")
    model, rule = copy.deepcopy(model), copy.deepcopy(rule)
    rng, refine = np.random.default_rng((config.seed, SERVER)), begun(refine)
    history: list[Round] = []
    for number in range(config.rounds):
        asked = chosen(len(clients), config.participation, rng)
        uploads, excluded = _collected(model, clients, classes, asked, number, config, rule)
        history.append(finished(model, uploads, excluded, asked, number, len(clients), rule, refine, score))
        advance(history[-1])
    if history and all(r.loss is None for r in history):
        raise RuntimeError(
            "no client's update could be used in any round: "
            + "; ".join(map(str, {e.client: e for r in history for e in r.excluded}.values()))
        )
    if isinstance(refine, Aside) and refine.model is not None:
        model = refine.model
    return FedResult(model.eval(), tuple(history))


def begun(refine: Refine | Aside | None) -> Refine | Aside | None:
    """A repair at the start of a federation: one aside has no model of an earlier one."""
    if isinstance(refine, Aside):
        refine.model = None
    return refine


def chosen(clients: int, participation: float, rng: np.random.Generator) -> tuple[int, ...]:
    """Clients of a round, in order: a fixed share of all, at least one."""
    number = max(1, round(participation * clients))
    return tuple(sorted(rng.choice(clients, number, replace=False).tolist()))


def counts_of(labels: np.ndarray, classes: int, config: FederateConfig, rng: np.random.Generator) -> Tensor:
    """(classes,) what a client says of its labels: exact, with noise, or only how many there are.

    The last also where noise leaves nothing of the counts.
    """
    told = label_counts(labels, classes)
    if config.share_counts and config.epsilon is not None:
        told = noisy_counts(told, config.epsilon, rng)
    if not config.share_counts or not told.any():
        return torch.full((classes,), len(labels) / classes)
    return torch.tensor(told, dtype=torch.float32)


def _collected(model, clients, classes, asked, number, config, rule):
    """Uploads of a round that can be used, and who is left out."""
    uploads: list[Upload] = []
    excluded: list[Exclusion] = []
    start, buffers = parameters_of(model), buffers_of(model)
    for client in asked:
        worker = copy.deepcopy(model)
        rng, correction = seeded(config.seed, number, client), rule.correction(client)
        try:
            labels = labels_of(clients[client])
            if not len(labels):
                excluded.append(Exclusion(client, "it has no samples"))
                continue
            noise = np.random.default_rng((config.seed, number, client, NOISE))
            counts = counts_of(labels, classes, config, noise)
            trained = train_locally(worker, clients[client], config.local, rng, number, correction)
        except Exception as error:  # a client is a machine of its own: whatever fails there, the others go on
            excluded.append(Exclusion(client, f"it failed: {type(error).__name__}: {error}"))
            continue
        weights, own = parameters_of(worker), buffers_of(worker)
        wrong = fault(weights, start, config.norm_bound) or fault(own, buffers)
        if wrong:
            excluded.append(Exclusion(client, wrong))
            continue
        rate = config.local.rate_in(number)
        uploads.append(Upload(client, weights, own, len(labels), counts, trained.steps, rate, trained.loss))
    return uploads, excluded


def finished(
    model: nn.Module,
    uploads: Sequence[Upload],
    excluded: Sequence[Exclusion],
    asked: tuple[int, ...],
    number: int,
    clients: int,
    rule: Rule,
    refine: Refine | Aside | None,
    score: Callable[[nn.Module], float] | None,
) -> Round:
    """Merge the uploads of a round in place and repair what comes of it; the record of the round.

    Args:
        model:    with the weights that the clients were sent.
        uploads:  those that can be used, in the order of clients: sums in another differ in their last bits.
        excluded: the others.
        asked:    clients.
        number:   of the round, from 0.
        clients:  how many there are.
        rule, refine, score: as of `federate`; the rule remembers.
    """
    if not uploads:
        last = refine.model if isinstance(refine, Aside) else None
        refined = None if last is None else _scored(score, last)
        return Round(asked, tuple(excluded), None, {}, _scored(score, model), refined)
    start = parameters_of(model)
    put(model, rule.merged(start, uploads, clients))
    put(model, average([u.buffers for u in uploads], (u.samples for u in uploads)))
    merged, refined, repair = _scored(score, model), None, {}
    if refine is not None:
        counts = torch.stack([u.counts for u in uploads])
        mended = copy.deepcopy(model) if isinstance(refine, Aside) else model
        mend = refine.refine if isinstance(refine, Aside) else refine
        repair = repaired(mend, mended, list(_models(model, uploads)), counts, number)
        refined = _scored(score, mended)
        if isinstance(refine, Aside):
            refine.model = mended
    loss = float(np.average([u.loss for u in uploads], weights=[u.samples for u in uploads]))
    norms = {u.client: update_norm(u.weights, start) for u in uploads}
    return Round(asked, tuple(excluded), loss, norms, merged, refined, repair)


def repaired(
    refine: Refine, model: nn.Module, clients: Sequence[nn.Module], counts: Tensor, number: int
) -> dict[str, float]:
    """Repair the model in place; what is reported of it.

    {"undone": 1.0} where its weights were not finite afterwards, and are those from before again: all clients
    would fail on them from then on.
    """
    before = parameters_of(model) | buffers_of(model)
    report = refine(model.eval(), clients, counts, number)
    if fault(parameters_of(model) | buffers_of(model), before) is None:
        return report
    put(model, before)
    return {"undone": 1.0}


def _models(model: nn.Module, uploads: Sequence[Upload]) -> Iterable[nn.Module]:
    for u in uploads:
        client = copy.deepcopy(model)
        put(client, u.weights | u.buffers)
        yield client.eval().requires_grad_(False)


def _scored(score: Callable[[nn.Module], float] | None, model: nn.Module) -> float | None:
    return None if score is None else float(score(model.eval()))
