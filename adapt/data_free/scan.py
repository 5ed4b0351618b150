"""Whether a teacher has a backdoor, and to which class: a generator, a class-wise search, and no data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from scipy.special import stdtr
from torch import Tensor, nn

from adapt.data_free.checks import check_bounds, check_gradient, check_teacher
from adapt.data_free.context import device_of
from adapt.data_free.guards import enough_memory, untouched
from adapt.data_free.networks import Shape
from adapt.data_free.presets import Settings, generator_for, priors, seeded
from adapt.data_free.search import Bounds, SearchConfig, search, search_for
from adapt.data_free.sources import GeneratorSource, Moment
from adapt.data_free.terms import Term, bn_statistics

MOST = 0.9999  # as sure as is ever said
FLOOR = 0.1  # share of inputs that a change may turn to any class without being counted
SPREAD = 0.2  # a few clean teachers that score alike say little


@dataclass(frozen=True)
class Calibration:
    """What scans of clean teachers of the same classes find; by `calibrated`.

    usual: (sizes, classes) mean logarithm of their flips: some classes are easily turned to by nature.
    mean:  of the logarithm of their scores, each by the others.
    std:   likewise.
    count: how many teachers.
    alarm: how sure an alarm must be.
    """

    usual: tuple[tuple[float, ...], ...]
    mean: float
    std: float
    count: int
    alarm: float = 0.99

    def sure(self, score: float) -> float:
        """Share of clean teachers that would score less, 0 to 1: Student's t of so few."""
        z = (math.log(score) - self.mean) / (self.std * math.sqrt(1 + 1 / self.count))
        return min(float(stdtr(self.count - 1, z)), MOST)


@dataclass(frozen=True)
class Suspicion:
    """What a scan found.

    target: class that a backdoor, if there is one, leads to.
    score:  how many times as many inputs as to any other class a change of one size turns to it, at most;
            with a calibration, how many times as many as in clean teachers.
    flips:  (sizes, classes) share of inputs that the best change of each size and class turns.
    sure:   share of clean teachers that would score less, 0 to 1; None without a calibration.
    alarm:  whether that is enough to say that there is a backdoor; None likewise.
    """

    target: int
    score: float
    flips: tuple[tuple[float, ...], ...]
    sure: float | None = None
    alarm: bool | None = None


@dataclass(frozen=True, kw_only=True)
class ScanConfig:
    """Settings of a scan.

    steps:    of its generator.
    settings: of that.
    search:   None: `search_for` such inputs, with masks that need not hang together.
    surest:   of so many inputs the one that the teacher is surest of is used: a generator's inputs are easier
              to turn than real ones.
    """

    steps: int = 200
    settings: Settings = field(default_factory=Settings)
    search: SearchConfig | None = None
    surest: int = 4

    def __post_init__(self):
        if self.steps < 0 or self.surest < 1:
            raise ValueError(f"steps must be at least 0 and surest 1, got {self.steps} and {self.surest}")


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
        calibration: by what scans of clean teachers of the same classes found, see `calibrated`; None: it is
                     not said how sure the finding is.
    Raises:
        ValueError: a bad teacher, one that gives no gradient, or a calibration of other classes or sizes.
    """
    return judged(class_flips(teacher, shape, bounds, config), calibration)


def class_flips(teacher: nn.Module, shape: Shape, bounds: Bounds, config: ScanConfig = SCAN) -> Tensor:
    """(sizes, classes) share of inputs that the best change of each size turns to each class, on the CPU."""
    device = device_of(teacher)
    classes = check_teacher(teacher, shape, device)
    check_gradient(teacher, shape, device)
    check_bounds(bounds)
    s, wanted = config.settings, config.search or _search_for(shape, bounds)
    generator = torch.Generator(device).manual_seed(s.config.seed)
    network = seeded(s, lambda: generator_for(shape, s)).to(device)
    losses: dict[str, tuple[float, Term]] = priors() | {"bn": (s.bn, bn_statistics())}
    source = GeneratorSource(network, shape, s.nz, losses, s.config.batch, s.rate)

    @torch.no_grad()
    def draw(n: int) -> Tensor:
        parts = [min(s.config.batch, n - k) for k in range(0, n, s.config.batch)]
        return torch.cat([surest(source.sample(config.surest * k, generator), k) for k in parts])

    def surest(x: Tensor, n: int) -> Tensor:
        first, second = teacher(x).topk(2).values.unbind(1)
        return x[(first - second).topk(n).indices]

    with untouched(teacher), enough_memory(s.config.batch):
        for k in range(config.steps):
            source.refresh(teacher, teacher, Moment(0, 0, False, k / config.steps), generator)
        found = search(teacher, draw, range(classes), wanted, bounds, generator)
    return found.best(len(wanted.budgets), classes).cpu()


def _search_for(shape: Shape, bounds: Bounds) -> SearchConfig:
    # with contiguity fewer poisoned teachers stand out from clean ones
    return replace(search_for(shape, bounds), contiguity=0.0, asked=512)


def judged(flips: Tensor, calibration: Calibration | None = None) -> Suspicion:
    """What flips (sizes, classes) say: the size at which one class stands out most counts.

    Where changes are large all classes turn, where they are small none does; both are no ratio to speak of.
    """
    kept = tuple(map(tuple, flips.tolist()))
    if calibration is None:
        first, second = flips.topk(2).values.clamp(min=FLOOR).unbind(1)
        size = int((first / second).argmax())
        return Suspicion(int(flips[size].argmax()), float(first[size] / second[size]), kept)
    usual = torch.tensor(calibration.usual)
    if usual.shape != flips.shape:
        raise ValueError(
            f"the calibration is of {tuple(usual.shape)} sizes and classes, the scan of {tuple(flips.shape)}"
        )
    lift = _counted(flips) - usual
    score = math.exp(max(float(lift.max()), 0.0))
    sure = calibration.sure(score)
    return Suspicion(int(lift.amax(0).argmax()), score, kept, sure, sure >= calibration.alarm)


def _counted(flips: Tensor) -> Tensor:
    return flips.clamp(min=FLOOR).log()


def calibrated(clean: Sequence[Suspicion], alarm: float = 0.99, spread: float = SPREAD) -> Calibration:
    """A calibration by what scans of at least three clean teachers of the same classes found.

    Args:
        clean:  what they found.
        alarm:  how sure an alarm must be, between 0 and 1.
        spread: deviation of the logarithm of scores that is assumed at least.
    Raises:
        ValueError: there are fewer, or they are of different classes or sizes.
    """
    if not (0 < alarm < 1 and 0 < spread < math.inf):
        raise ValueError(f"alarm must be between 0 and 1 and spread positive, got {alarm} and {spread}")
    clean = list(clean)
    if len(clean) < 3:
        raise ValueError(f"a calibration needs scans of at least three clean teachers, got {len(clean)}")
    shares = [share for found in clean for row in found.flips for share in row]
    if not all(found.flips and found.flips[0] for found in clean) or not all(map(math.isfinite, shares)):
        raise ValueError("flips of a scan are finite numbers for each size and class")
    sizes = sorted({(len(found.flips), *map(len, found.flips)) for found in clean})
    if any(len(set(size[1:])) > 1 for size in sizes):
        raise ValueError("flips of a scan are of as many classes for every size")
    if len(sizes) > 1:
        raise ValueError(
            f"clean teachers must have the same classes, got (sizes, classes) {[s[:2] for s in sizes]}"
        )
    counted = torch.stack([_counted(torch.tensor(found.flips)) for found in clean])
    others = (counted.sum(0) - counted) / (len(clean) - 1)
    logs = (counted - others).amax((1, 2)).clamp(min=0)
    usual = tuple(map(tuple, counted.mean(0).tolist()))
    return Calibration(usual, float(logs.mean()), max(float(logs.std()), spread), len(clean), alarm)
