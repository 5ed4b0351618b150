"""Whether a teacher has a backdoor, and to which class: a generator, a class-wise search, and no data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from adapt.data_free.checks import check_bounds, check_teacher
from adapt.data_free.context import device_of
from adapt.data_free.guards import enough_memory, untouched
from adapt.data_free.networks import Shape
from adapt.data_free.presets import Settings, generator_for, priors, seeded
from adapt.data_free.search import Bounds, SearchConfig, search, search_for
from adapt.data_free.sources import GeneratorSource, Moment
from adapt.data_free.terms import Term, bn_statistics

MOST = 0.9999  # as sure as is ever said
FLOOR = 0.05  # excess that any class may have


@dataclass(frozen=True)
class Calibration:
    """Scores of clean teachers: mean and deviation of their logarithm, and how sure an alarm must be."""

    mean: float
    std: float
    alarm: float = 0.99

    def sure(self, score: float) -> float:
        """Share of clean teachers that would score less, 0 to 1."""
        z = (math.log(score) - self.mean) / self.std
        return min(0.5 * (1 + math.erf(z / math.sqrt(2))), MOST)


@dataclass(frozen=True)
class Suspicion:
    """What a scan found.

    target: class that a backdoor, if there is one, leads to.
    score:  how far its excess of flips stands out from that of the other classes.
    excess: of each class.
    sure:   share of clean teachers that would score less, 0 to 1; None without a calibration.
    alarm:  whether that is enough to say that there is a backdoor; None likewise.
    """

    target: int
    score: float
    excess: tuple[float, ...]
    sure: float | None = None
    alarm: bool | None = None


@dataclass(frozen=True, kw_only=True)
class ScanConfig:
    """Settings of a scan.

    steps:    of its generator.
    settings: of that.
    search:   None: `search_for` such inputs, without contiguity: with it fewer poisoned teachers stand out
              from clean ones.
    """

    steps: int = 200
    settings: Settings = field(default_factory=Settings)
    search: SearchConfig | None = None


SCAN = ScanConfig()


def scan(
    teacher: nn.Module,
    shape: Shape,
    bounds: Bounds,
    config: ScanConfig = SCAN,
    calibration: Calibration | None = None,
) -> Suspicion:
    """Whether a teacher has a backdoor, and to which class, by a generator and a search; no data.

    Args:
        teacher:     in eval mode, logits; stays as it is.
        shape:       of one input.
        bounds:      smallest and largest number of an input, as the teacher takes it.
        config:      settings.
        calibration: of clean teachers like this one, by `calibrated` of their scores; None: it is not said
                     how sure the finding is.
    """
    excess = class_excess(teacher, shape, bounds, config)
    return judged(excess, calibration)


def class_excess(teacher: nn.Module, shape: Shape, bounds: Bounds, config: ScanConfig = SCAN) -> list[float]:
    """Mean excess of flips to each class."""
    device = device_of(teacher)
    classes = check_teacher(teacher, shape, device)
    check_bounds(bounds)
    s, wanted = config.settings, config.search or replace(search_for(shape, bounds), contiguity=0.0)
    generator = torch.Generator(device).manual_seed(s.config.seed)
    network = seeded(s, lambda: generator_for(shape, s)).to(device)
    losses: dict[str, tuple[float, Term]] = priors() | {"bn": (s.bn, bn_statistics())}
    source = GeneratorSource(network, shape, s.nz, losses, s.config.batch, s.rate)
    with untouched(teacher), enough_memory(s.config.batch):
        for k in range(config.steps):
            source.refresh(teacher, teacher, Moment(0, 0, False, k / config.steps), generator)
        found = search(
            teacher,
            lambda n: source.sample(n, generator),
            range(classes),
            wanted,
            bounds,
            generator,
        )
    return found.by_class(classes, wanted.dense).tolist()


def judged(excess: Sequence[float], calibration: Calibration | None = None) -> Suspicion:
    """What excesses say."""
    e = torch.tensor(excess)
    found = Suspicion(int(e.argmax()), outstanding(e), tuple(excess))
    if calibration is None:
        return found
    sure = calibration.sure(found.score)
    return replace(found, sure=sure, alarm=sure >= calibration.alarm)


def outstanding(excess: Tensor) -> float:
    """The largest excess over the second largest, both at least FLOOR: 1 where nothing stands out."""
    first, second = excess.topk(2).values.clamp(min=FLOOR)
    return float(first / second)


def calibrated(scores: Sequence[float], alarm: float = 0.99) -> Calibration:
    """A calibration of the scores of at least three clean teachers.

    Raises:
        ValueError: there are fewer, or scores that no scan gives: they are at least 1.
    """
    if len(scores) < 3 or not all(1 <= score < math.inf for score in scores):
        raise ValueError(
            f"a calibration needs scores of at least three clean teachers, 1 or more each, got {list(scores)}"
        )
    logs = torch.tensor(scores).log()
    return Calibration(float(logs.mean()), max(float(logs.std()), 0.05), alarm)
