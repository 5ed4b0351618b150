"""`adapt(model, loader)`: the door to all methods, which leaves the model that it is given alone."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from adapt.source_free.choice import choice
from adapt.source_free.config import USUAL, AdaptConfig
from adapt.source_free.engine import (
    DivergedError,
    Method,
    Plan,
    Run,
    as_input,
    evaluate,
    filled,
    refuse_infinite,
    scores_of,
)
from adapt.source_free.guard import TORN, harm, too_one_sided, ungrouped, warnings_of
from adapt.source_free.methods import NRC, SHOT, AaD, AdaBN, Tent
from adapt.source_free.samples import Samples, samples_of
from adapt.source_free.scores import agreement
from adapt.source_free.sfda2 import PAPER, SFDA2
from adapt.source_free.split import Split, copy_of, split_of

METHODS: dict[str, Method] = {
    "adabn": AdaBN(),
    "tent": Tent(),
    "shot": SHOT(),
    "nrc": NRC(),
    "aad": AaD(),
    "snc": SFDA2(ifa=0.0, fd=0.0),
    "sfda2": SFDA2(),
    "sfda2-paper": PAPER,
}
CANDIDATES = ("adabn", "shot", "aad", "sfda2")  # that "auto" tries
NEED_NORMS = ("nothing", "norms")  # what methods train that only change batch norm
SOURCE = "source"  # the model as it was given


@dataclass(frozen=True)
class Report:
    """What adaptation did, all of it known without labels.

    method:     that the model comes from; "source" if a guard returned the model as it was.
    tripped:    why a guard did so, None if none did.
    before, after: scores of predictions, see `scores`.
    counts_before, counts: how often each class is said.
    changed:    share of the samples of which the model now says something else.
    samples, classes, features, head: what was adapted on, and how the model was cut.
    candidates: scores of all that "auto" chose from.
    warnings:   what to look at.
    seconds:    of wall time.
    """

    method: str
    tripped: str | None
    before: dict[str, float]
    after: dict[str, float]
    counts_before: list[int]
    counts: list[int]
    changed: float
    samples: int
    classes: int
    features: int
    head: str
    candidates: dict[str, dict[str, float]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        """A few lines for people."""
        lines = [f"{self.method} on {self.samples} samples of {self.classes} classes, {self.seconds:.1f} s"]
        lines += [f"guard: {self.tripped}"] if self.tripped else []
        lines += [f"{name:12} {self.before[name]:.3f} -> {self.after[name]:.3f}" for name in self.before]
        lines += [f"said         {self.counts_before} -> {self.counts}", f"changed      {self.changed:.1%}"]
        return "\n".join(lines + [f"warning: {text}" for text in self.warnings])


@dataclass(frozen=True)
class AdaptResult:
    """An adapted model.

    model:   a copy of the one given, in eval mode.
    history: of each epoch, mean parts of the loss and label-free scores.
    report:  what happened.
    """

    model: nn.Module
    history: list[dict[str, float]]
    report: Report


def adapt(
    model: Any,
    loader: Any,
    method: str | Method = "auto",
    config: AdaptConfig = USUAL,
    watch: Callable[[Run], object] = lambda run: None,
    **settings: Any,
) -> AdaptResult:
    """Adapt a classifier to unlabelled data of a new sensor.

    Args:
        model:    torch.nn.Module, ExportedProgram or TorchScript that gives logits, probabilities or their
                  logarithms (batch, classes), and ends with a linear layer. It is not changed.
        loader:   (n, ...) samples, a DataLoader, or anything that yields batches: tensors, tuples that start
                  with one (the rest is never looked at), or dicts.
        method:   a name of METHODS, a method with settings of its own, or "auto", which tries CANDIDATES and
                  takes what is best supported, see `choice`.
        config:   settings.
        watch:    called with the run after each epoch.
        settings: fields of `config` to be changed, as in `adapt(model, loader, seed=1)`.
    Raises:
        ValueError: data or model that cannot be adapted; the message says why and what to do.
        ArithmeticError: training diverged, and there is no guard.
    """
    start = time.monotonic()
    config = replace(config, **settings)
    samples, warnings = samples_of(loader, config.key, config.max_samples)
    if len(samples) < 2:
        raise ValueError("there is one sample: adaptation compares samples with each other, so give it many")
    with torch.inference_mode(False), torch.random.fork_rng(), torch.enable_grad():
        split, frozen = _opened(model, samples, config)
        z, before = evaluate(split, samples, config.batch)
        methods = _methods(method, bool(split.norms))
        tripped = (too_one_sided(before) or ungrouped(z, before.shape[1])) if config.guard else None
        tripped = f"{tripped}. {TORN}" if tripped else None
        tried = {} if tripped else {n: _tried(model, samples, m, config, watch) for n, m in methods.items()}
    refused = {name: each.harm or harm(before, each.predictions) for name, each in tried.items()}
    kept = [name for name in tried if not (config.guard and refused[name])]
    notes = [f"{name}: {why}" for name, why in refused.items() if why]
    if kept:
        name = choice({name: tried[name].predictions for name in kept})
        best = tried[name]
    else:
        tripped = tripped or "; ".join(notes)
        _freeze(frozen)
        name, best = SOURCE, _Tried(split.released(), before, [])
    report = Report(
        method=name,
        tripped=tripped,
        before=scores_of(before),
        after=scores_of(best.predictions),
        counts_before=_counts(before),
        counts=_counts(best.predictions),
        changed=1 - agreement(before, best.predictions),
        samples=len(samples),
        classes=before.shape[1],
        features=z.shape[1],
        head=split.head,
        candidates={n: scores_of(t.predictions) for n, t in tried.items()},
        warnings=warnings + warnings_of(len(samples), before.shape[1]) + (notes if kept else []),
        seconds=time.monotonic() - start,
    )
    return AdaptResult(best.model, best.history, report)


@dataclass(frozen=True)
class _Tried:
    """What one method made of the model."""

    model: nn.Module
    predictions: Tensor
    history: list[dict[str, float]]
    harm: str | None = None


def _tried(model, samples, method, config, watch) -> _Tried:
    torch.manual_seed(config.seed)  # for what is random in the model
    split, frozen = _opened(model, samples, config)
    run = Run(split, samples, method.plan, config)
    harmed = None
    try:
        history = run.go(method, watch)
    except DivergedError as error:
        if not config.guard:
            raise DivergedError(f"{error}: lower the rate, or leave the guard on") from None
        history, harmed = [], str(error)
    _freeze(frozen)
    return _Tried(split.released(), run.predictions, history, harmed)


def _opened(model: Any, samples: Samples, config: AdaptConfig) -> tuple[Split, list[nn.Parameter]]:
    """A copy of the model, cut, and its parameters that are to be frozen again: all, if all were."""
    own = copy_of(model)
    try:
        own.to(config.device)
    except (RuntimeError, AssertionError) as error:  # the latter without CUDA
        raise ValueError(f"device {config.device!r} cannot be used: {str(error).splitlines()[0]}") from None
    parameters = [p for p in own.parameters() if p.is_floating_point()]
    if not parameters:
        raise ValueError("the model has no parameters that could be adapted")
    frozen = [] if any(p.requires_grad for p in parameters) else parameters
    for parameter in frozen:
        parameter.requires_grad_(True)
    x = next(iter(samples.batches([torch.arange(min(len(samples), 8))])))
    refuse_infinite(x, torch.arange(len(x)), "samples hold values")
    try:
        split = split_of(own, as_input(x, parameters[0]), config.head)
    except (RuntimeError, AssertionError) as error:  # of the model
        said = (str(error).strip() or repr(error)).splitlines()[0]
        raise ValueError(
            f"the model does not take samples of shape {tuple(x.shape[1:])} and type {x.dtype}: {said}"
        ) from None
    if split.batch is not None and split.batch < 2:
        raise ValueError(
            "the program takes batches of one sample, and adaptation compares samples: export it with "
            "dynamic_shapes=({0: torch.export.Dim.AUTO},)"
        )
    if split.batch is not None and split.batch > len(samples):
        raise ValueError(f"the program takes batches of {split.batch} samples, and there are {len(samples)}")
    with torch.no_grad():
        classes = split(filled(as_input(x, parameters[0]), split.batch)).logits.shape[1]
    if config.classes is not None and classes != config.classes:
        raise ValueError(f"the model tells apart {classes} classes, {config.classes} were asked for")
    return split, frozen


def _methods(method: str | Method, norms: bool) -> dict[str, Method]:
    """The methods to be tried, by name."""
    if method == "auto":
        return {
            name: METHODS[name] for name in CANDIDATES if norms or METHODS[name].plan.trains not in NEED_NORMS
        }
    if isinstance(method, str):
        if method not in METHODS:
            raise ValueError(f"unknown method {method!r}, choose of: auto, {', '.join(METHODS)}")
        name, method = method, METHODS[method]
    elif isinstance(method, type) or not isinstance(getattr(method, "plan", None), Plan):
        raise TypeError(f"method must be a name, or a method such as SHOT(gamma=0.0), got {method!r}")
    else:
        name = type(method).__name__.lower()
    if method.plan.trains in NEED_NORMS and not norms:
        others = ", ".join(n for n, m in METHODS.items() if m.plan.trains not in NEED_NORMS)
        raise ValueError(
            f"{name} changes batch norm alone, and the model has none that keeps statistics: use {others}"
        )
    return {name: method}


def _freeze(parameters: list[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.requires_grad_(False)


def _counts(p: Tensor) -> list[int]:
    return p.argmax(1).bincount(minlength=p.shape[1]).tolist()
