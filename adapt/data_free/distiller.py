"""The one loop of data-free distillation; methods are choices of its parts."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from adapt.data_free.checks import check_gradient, check_student, check_teacher
from adapt.data_free.context import device_of
from adapt.data_free.guards import enough_memory, untouched
from adapt.data_free.memory import Memory, NoMemory
from adapt.data_free.sources import Moment, Source
from adapt.data_free.terms import summed
from adapt.data_free.updates import Step, Update
from tracking.formats import runs
from tracking.formats.files import require_place
from tracking.formats.weights import digest

Scores = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a distillation.

    epochs:   of `rounds`, each a refresh of the source and `steps` steps of the student.
    batch:    inputs of a student step.
    rate:     of SGD, at the start; a cosine takes it to `final` times that.
    momentum, decay: of SGD.
    clip:     largest norm of a student's gradient.
    seed:     of all that is drawn.
    """

    epochs: int = 15
    rounds: int = 16
    steps: int = 5
    batch: int = 64
    rate: float = 0.1
    final: float = 0.0
    momentum: float = 0.9
    decay: float = 5e-4
    clip: float = math.inf
    seed: int = 0

    def __post_init__(self):
        counts = (self.epochs, self.rounds, self.steps, self.batch)
        if not all(isinstance(n, int) and n >= 1 for n in counts) or self.batch < 2:
            raise ValueError(
                f"epochs, rounds and steps must be whole numbers from 1 and batch from 2, got {self}"
            )
        if not isinstance(self.seed, int) or abs(self.seed) >= 2**62:
            raise ValueError(f"seed must be a whole number of at most 62 bits, got {self.seed}")
        if not 0 < self.rate < math.inf or not self.clip > 0:
            raise ValueError(f"rate must be positive and finite, and clip positive, got {self}")
        if not all(0 <= share <= 1 for share in (self.final, self.momentum, self.decay)):
            raise ValueError(f"final, momentum and decay must be from 0 to 1, got {self}")

    @property
    def total(self) -> int:
        """Student steps of all epochs."""
        return self.epochs * self.rounds * self.steps


@dataclass(frozen=True, kw_only=True)
class Phase:
    """The last part of a distillation, with an update of its own and fresh optimizers.

    start:  share of the steps before it; at least the last step is its own.
    update: of the student.
    rate:   at its start, None: what the cosine has come to; it ends at 0.
    frozen: whether the student's batch norm stays as it is.
    clip:   largest norm of a student's gradient.
    """

    update: Update
    start: float = 0.8
    rate: float | None = None
    frozen: bool = False
    clip: float = math.inf

    def __post_init__(self):
        if not 0 <= self.start < 1 or not self.clip > 0:
            raise ValueError(f"start must be in [0, 1) and clip positive, got {self.start} and {self.clip}")
        if self.rate is not None and not 0 < self.rate < math.inf:
            raise ValueError(f"rate must be positive and finite, or None, got {self.rate}")


@dataclass
class Distiller:
    """A distillation of `teacher` into `student`, which is trained in place.

    Args:
        teacher:  in eval mode, logits; it is never changed.
        student:  with logits of the same classes, on the device where all is computed; it is in training mode
                  as a whole, also where its parameters are frozen.
        source:   where inputs come from.
        update:   how the student learns from them.
        memory:   what it is reminded of.
        config:   settings.
        phase:    a last part with another update, or None.
        evaluate: (student in eval mode) -> numbers for the history, after every epoch. Nothing is chosen by
                  them.
        about:    what else a saved run must agree in, to be gone on with: numbers and texts.

    `history` has a row for each epoch: its number, means of all parts of losses, and what `evaluate` said.
    """

    teacher: nn.Module
    student: nn.Module
    source: Source
    update: Update
    memory: Memory = field(default_factory=NoMemory)
    config: Config = Config()
    phase: Phase | None = None
    evaluate: Scores | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if not any(p.requires_grad for p in self.student.parameters()):
            raise ValueError("the student has no parameters that can be trained (requires_grad)")
        self.device = device_of(self.student)
        self.generator = torch.Generator(self.device).manual_seed(self.config.seed)
        self.step = 0
        self.history: list[dict[str, float]] = []
        self._sums: dict[str, list[float]] = {}  # name -> sum, number
        self._random = _random_of(self.config.seed)
        self._optimize()

    @property
    def done(self) -> bool:
        """Whether all steps have been taken."""
        return self.step >= self.config.total

    @property
    def _begun(self) -> Phase | None:
        """The last phase, once it has begun."""
        return self.phase if self.phase is not None and self.step >= self._start else None

    @property
    def _start(self):
        assert self.phase is not None
        # rounding must not leave a short run without its phase
        return min(round(self.phase.start * self.config.total), self.config.total - 1)

    def fit(
        self, seconds: float = math.inf, save: str | Path | None = None, every: float = 60.0
    ) -> list[dict[str, float]]:
        """Go on for so many seconds, or to the end; the history.

        Args:
            seconds: that it may take.
            save:    file of the run, written about `every` seconds and at the end.
            every:   seconds.
        Raises:
            ValueError:   teacher and student do not go together, the teacher is in training mode, or gives no
                          gradient to a source or a defence that learns from it; `seconds` is negative or NaN.
            OSError:      `save` is no place to write to.
            RuntimeError: a loss is not finite, or memory is out; the last save is as it was.
        """
        if not seconds >= 0:
            raise ValueError(f"seconds must be at least 0, got {seconds}")
        check_teacher(self.teacher, self.source.shape, self.device)
        check_student(self.student, self.teacher, self.source.shape, self.device)
        if self.source.terms or self.phase is not None:
            check_gradient(self.teacher, self.source.shape, self.device)
        if save is not None:
            require_place(save)
        begun = saved = time.monotonic()
        with untouched(self.teacher), _private(self._random), enough_memory(self.config.batch):
            while not self.done and time.monotonic() - begun < seconds:
                self._take()
                if save is not None and time.monotonic() - saved > every:
                    self._random.copy_(torch.get_rng_state())
                    self.save(save)
                    saved = time.monotonic()
            self._random.copy_(torch.get_rng_state())
        if save is not None:
            self.save(save)
        self.student.eval()
        return self.history

    def _take(self) -> None:
        """One step of the student, with what comes before and after it."""
        c = self.config
        within = self.step % c.steps
        epoch, place = divmod(self.step, c.rounds * c.steps)
        moment = Moment(epoch, within, place == c.rounds * c.steps - 1, self.step / c.total)
        if self.phase is not None and self.step == self._start:
            self._optimize()
            self.source.afresh()
        phase = self._begun
        self.student.train(phase is None or not phase.frozen)
        if within == 0:
            self._log(self.source.refresh(self.teacher, self.student, moment, self.generator))
        x = self.source.sample(c.batch, self.generator)
        update = self.update if phase is None else phase.update
        step = Step(x, self.teacher, self.student, self.memory, self.source, self.generator, self.step)
        self._move(update(step), x)
        self.memory.remember(x, self.teacher, moment, self.generator)
        self.step += 1
        if moment.last:
            self._close(epoch)

    def _move(self, parts: dict[str, Tensor], x: Tensor) -> None:
        loss = summed(parts, x)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        clip = (self._begun or self.config).clip
        if clip < math.inf:
            nn.utils.clip_grad_norm_(self.student.parameters(), clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.optimizer.step()
        self._log({name: value.detach() for name, value in parts.items()})

    def _rate(self) -> float:
        c, phase = self.config, self._begun
        if phase is not None and phase.rate is not None:
            done = (self.step - self._start) / (c.total - self._start)
            return phase.rate * 0.5 * (1 + math.cos(math.pi * done))
        cosine = 0.5 * (1 + math.cos(math.pi * self.step / c.total))
        return c.rate * (c.final + (1 - c.final) * cosine)

    def _optimize(self) -> None:
        c = self.config
        parameters = [p for p in self.student.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(parameters, c.rate, c.momentum, weight_decay=c.decay)

    def _log(self, parts: dict[str, Tensor]) -> None:
        for name, value in parts.items():
            total, number = self._sums.get(name, [0.0, 0])
            self._sums[name] = [total + float(value), number + 1]

    def _close(self, epoch: int) -> None:
        row: dict[str, float] = {"epoch": epoch} | {name: s / n for name, (s, n) in self._sums.items()}
        if self.evaluate is not None:
            row |= self.evaluate(self.student.eval())
        self.history.append(row)
        self._sums = {}

    def save(self, path: str | Path) -> None:
        """Write all that the run needs to go on as if it had not stopped."""
        runs.save(path, self._state())

    def resume(self, path: str | Path) -> None:
        """Go on from a file; a run that cannot is left as it was.

        Raises:
            ValueError: the file holds no run, or one of another teacher, other parts or settings.
        """
        same = ("config", "about", "parts", "terms", "teacher")
        runs.restore(path, self._state(), self._put, same, "this distiller", self.device)

    def _state(self):
        parts = {
            "source": self.source,
            "update": self.update,
            "memory": self.memory,
            "phase": None if self.phase is None else self.phase.update,
        }
        states = {name: part.state() for name, part in parts.items() if part is not None}
        return {
            "parts": {name: _settings(part, states.get(name, {})) for name, part in parts.items()}
            | {"of the phase": _settings(self.phase, {})},
            "terms": {name: [weight, _said(term)] for name, (weight, term) in self.source.terms.items()},
            "teacher": digest(self.teacher.state_dict()),
            "states": states,
            "student": self.student.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "history": self.history,
            "sums": self._sums,
            "config": asdict(self.config),
            "about": self.about,
            "generator": self.generator.get_state(),
            "torch": self._random,
        }

    def _put(self, state):
        if type(state["step"]) is not int or not 0 <= state["step"] <= self.config.total:
            raise ValueError(f"it says that {state['step']} of {self.config.total} steps are done")
        self.student.load_state_dict(state["student"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.source.load(state["states"]["source"])
        self.update.load(state["states"]["update"])
        self.memory.load(state["states"]["memory"])
        if self.phase is not None:
            self.phase.update.load(state["states"]["phase"])
        self.step, self.history, self._sums = state["step"], state["history"], state["sums"]
        self.generator.set_state(state["generator"].cpu())
        self._random.copy_(state["torch"].cpu())


def _settings(part: Any, state: dict[str, Any]) -> dict[str, Any]:
    """What a part of a run is, and the numbers and texts it was made with: those its state does not have."""
    given = {} if part is None else vars(part)
    said = {k: _said(v) for k, v in given.items() if k not in state}
    return {"type": type(part).__name__} | {k: v for k, v in said.items() if v is not None}


def _said(value: Any) -> Any:
    """Numbers and texts that stand for a value, the same for the same; None: it is known by its state."""
    if isinstance(value, int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [_said(v) for v in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _said(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Tensor):
        return digest({"": value})
    if not isinstance(value, nn.Module) and callable(getattr(value, "state", None)):
        return _settings(value, value.state())
    if isinstance(value, FunctionType):  # what it closes over are its settings
        return [value.__qualname__, *(_said(cell.cell_contents) for cell in value.__closure__ or ())]
    return None


@contextmanager
def _private(state: Tensor) -> Iterator[None]:
    """torch's global generator, which dropout draws from, in a state of our own."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(state)
        yield


def _random_of(seed: int) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.get_rng_state()
