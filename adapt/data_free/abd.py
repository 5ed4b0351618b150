"""ABD, data-free distillation from a teacher that may be poisoned; and our extension for small networks.

    abd            the paper's: shuffling vaccine on the source, self-retrospection in the last steps
    abd_classwise  ours: class-wise search, then a student that does not react, its batch norm frozen

Both wrap any distiller. Source: Hong et al., "Revisiting Data-Free Knowledge Distillation with Poisoned
Teachers" (ICML 2023, arXiv 2306.02368).
"""

import copy
import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from adapt.data_free.checks import check_bounds, check_teacher
from adapt.data_free.context import device_of, undisturbed
from adapt.data_free.distiller import Distiller, Phase
from adapt.data_free.retrospect import SelfRetrospect, divergence
from adapt.data_free.scan import Suspicion
from adapt.data_free.search import SEARCH, Bounds, Items, SearchConfig, search, search_for
from adapt.data_free.sources import Parts, TensorSource
from adapt.data_free.updates import Plain, Step, Update
from adapt.data_free.vaccine import Masked, Vaccine


def abd(
    distiller: Distiller,
    *,
    vaccine: float = 0.1,
    layers: int = 5,
    batches: int = 50,
    start: float = 0.8,
    rate: float | None = None,
    **retrospect: Any,
) -> Distiller:
    """The paper's ABD around a distiller that has not begun; parts are shared with it.

    Args:
        distiller:  of any preset.
        vaccine:    weight of the shuffling vaccine, 0: none. Of stored inputs suspects are unlearned.
        layers:     last convolutions that are shuffled.
        batches:    of the test of the shuffles, 0: none; at most half of those before `start`, so that a
                    short run has a vaccine, too.
        start:      share of the steps before self-retrospection, which has no vaccine; 1: without it.
        rate:       of the student in that phase; None: as its cosine has come to.
        retrospect: settings of `SelfRetrospect`.
    Raises:
        ValueError: the distiller has begun or a number is out of range, or nothing would defend.
    """
    _not_begun(distiller)
    if not (0 <= vaccine < math.inf and 0 <= start <= 1 and batches >= 0):
        raise ValueError(
            f"vaccine and batches must be at least 0 and start in [0, 1], got {vaccine}, {batches}, {start}"
        )
    if not vaccine and start == 1:
        raise ValueError("vaccine=0 and start=1 leave nothing of the defence; keep one of both")
    source, update = distiller.source, distiller.update
    if vaccine:
        c = distiller.config
        looks = int(start * (c.total if isinstance(source, TensorSource) else c.epochs * c.rounds))
        # ten first batches and fifty after them, as the paper has it, in runs that are long enough
        ignored = min(10, looks // 12)
        batches = min(batches, max(looks // 2 - ignored, 1))
        test = {"layers": layers, "batches": batches, "ignored": ignored, "seed": c.seed}
        if isinstance(source, TensorSource):
            if type(update) is not Plain:
                raise ValueError(
                    "with stored inputs the vaccine is a loss of its own, and goes with the update Plain "
                    "alone; set vaccine=0"
                )
            update = Masked(Vaccine(distiller.teacher, **test), update.loss, vaccine)
        else:
            term = Vaccine(distiller.teacher, until=start, **test)
            source = copy.copy(source)
            source.terms = dict(source.terms) | {"vaccine": (vaccine, term)}
    phase = None
    if start < 1:
        phase = Phase(update=SelfRetrospect(distiller.update, **retrospect), start=start, rate=rate)
    return replace(distiller, source=source, update=update, phase=phase)


def abd_classwise(
    distiller: Distiller,
    bounds: Bounds,
    *,
    start: float = 0.73,
    every: int = 50,
    weight: float = 0.5,
    config: SearchConfig | None = None,
    suspicion: Suspicion | None = None,
) -> Distiller:
    """Our extension around a distiller that has not begun; parts are shared with it.

    With what a scan of the teacher found, its class is not looked for again; where the scan was calibrated,
    the weight is multiplied by the fourth power of how sure it is: what the defence costs is paid in full
    where there is something to defend from, and hardly where there is not.

    Args:
        distiller: of any preset.
        bounds:    smallest and largest number of an input, as the teacher takes it.
        start:     share of the steps before it.
        every:     steps between two searches.
        weight:    of what the student must not react to.
        config:    of the search; None: `search_for` such inputs.
        suspicion: of `scan`; None: the classes are searched when this begins, and the weight is as it is.
    """
    _not_begun(distiller)
    check_bounds(bounds)
    config = config or search_for(distiller.source.shape, bounds)
    update = ClassWise(distiller.update, bounds, every, weight, config)
    if suspicion is not None:
        classes = check_teacher(distiller.teacher, distiller.source.shape, device_of(distiller.teacher))
        if not 0 <= suspicion.target < classes:
            raise ValueError(f"class {suspicion.target} is suspected, and the teacher has {classes} classes")
        if suspicion.sure is not None and not 0 <= suspicion.sure <= 1:
            raise ValueError(f"sure must be from 0 to 1, or None, got {suspicion.sure}")
        distiller = replace(distiller, about=distiller.about | {"suspected": suspicion.target})
        update.suspect = suspicion.target
        update.weight *= 1.0 if suspicion.sure is None else max(suspicion.sure**4, 1e-6)
    return replace(distiller, phase=Phase(update=update, start=start, frozen=True, clip=5.0))


class ClassWise:
    """An update, and beside it: the student ignores what turns the teacher.

    Where nothing is suspected yet all classes are searched first; the one whose items turn most beyond what
    is usual is the suspect. From then on it alone is searched, from more starts. Each input is changed by an
    item drawn with probability proportional to the square of its flips. No implicit term.

    Args:
        inner:  the update of the distillation itself.
        bounds: of inputs.
        every:  steps between searches.
        weight: of KL(student(x) || student(x')).
        config: of the search.
    """

    def __init__(
        self,
        inner: Update,
        bounds: Bounds,
        every: int = 50,
        weight: float = 0.5,
        config: SearchConfig = SEARCH,
    ):
        check_bounds(bounds)
        if every < 1 or not 0 < weight < math.inf:
            raise ValueError(f"every must be at least 1 and weight positive, got {every} and {weight}")
        self.inner, self.bounds, self.every, self.config = inner, bounds, every, config
        self.weight = weight
        self.items: Items | None = None
        self.suspect: int | None = None
        self.since = 0  # steps since the last search

    def __call__(self, step: Step) -> Parts:
        """The parts of the inner update, and `harden`."""
        if self.items is None or self.since >= self.every:
            self._search(step)
        self.since += 1
        assert self.items is not None
        chances = self.items.flips.square() + 1e-6
        rows = torch.multinomial(chances, len(step.x), replacement=True, generator=step.generator)
        times = None
        if self.config.densest > 1:
            share = torch.rand(len(rows), generator=step.generator, device=rows.device)
            times = 1 + (self.config.densest - 1) * share
        changed = self.items.on(step.x, rows, self.bounds, times)
        # gradients of the student at the clean input would let it move that answer instead
        clean = undisturbed(step.student, step.x).detach()
        harden = self.weight * divergence(clean, undisturbed(step.student, changed))
        return self.inner(step) | {"harden": harden}

    def _search(self, step: Step) -> None:
        def draw(n: int) -> Tensor:
            return step.source.sample(n, step.generator)

        if self.suspect is None:
            with torch.no_grad():
                classes = step.teacher(step.x).shape[1]
            found = search(step.teacher, draw, range(classes), self.config, self.bounds, step.generator)
            self.suspect = int(found.by_class(classes, self.config.dense).argmax())
        closer = self.config.for_one_class()
        self.items = search(step.teacher, draw, [self.suspect], closer, self.bounds, step.generator)
        self.since = 0

    def state(self) -> dict[str, Any]:
        """The items, the suspect, and the state of the inner update."""
        items = None if self.items is None else self.items.state()
        return {"items": items, "suspect": self.suspect, "since": self.since, "inner": self.inner.state()}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.items = None if state["items"] is None else Items(**state["items"])
        self.suspect, self.since = state["suspect"], state["since"]
        self.inner.load(state["inner"])


def _not_begun(distiller: Distiller) -> None:
    if distiller.step or distiller.phase is not None:
        raise ValueError("wrap a distiller before it has taken a step, and once")
