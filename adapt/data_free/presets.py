"""Methods before LRA as choices of parts: DAFL, DFAD, DFQ, CMI, MB-DFKD, PRE-DFKD.

Terms and their weights are the papers'; sizes, rates and numbers of steps are ours, for small problems,
unless `PAPER` is given. The batch-norm term, which only DFQ and CMI have, is added to all unless `bn=0`:
on small problems it is what makes students accurate.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from adapt.data_free import terms
from adapt.data_free.checks import check_teacher
from adapt.data_free.context import device_of
from adapt.data_free.distiller import Config, Distiller
from adapt.data_free.memory import Memory, NoMemory, RingBuffer, VAEReplay
from adapt.data_free.networks import Encoder, PlainGenerator, Shape, Shifted, generator
from adapt.data_free.sources import GeneratorSource, InversionSource, Pool
from adapt.data_free.terms import Term, Terms
from adapt.data_free.updates import Plain, Replay, Update


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings that all presets share.

    config:   of the loop.
    bn:       weight of the batch-norm term; 0 for a teacher without batch norm.
    nz, width: of the generator.
    rate:     of the generator, by Adam.
    eps, spectral: of the generator's batch norm and convolutions.
    points:   whether inputs of shape (N, dimensions) are sets of points.
    mean, deviation: of the teacher's inputs, as it takes them; one number, or one for each channel.
    capacity, every, start: of the ring buffer.
    inversion: steps of each inverted batch (CMI).
    """

    config: Config = field(default_factory=Config)
    bn: float = 1.0
    nz: int = 64
    width: int = 32
    rate: float = 2e-3
    eps: float = 1e-5
    spectral: bool = False
    points: bool = False
    mean: float | tuple[float, ...] = 0.0
    deviation: float | tuple[float, ...] = 1.0
    capacity: int = 10
    every: int = 1
    start: int = 2
    inversion: int = 200

    def __post_init__(self):
        if min(self.nz, self.width, self.inversion) < 1 or not 0 <= self.bn < math.inf:
            raise ValueError(
                f"nz, width and inversion must be at least 1 and bn at least 0 and finite, got {self.nz}, "
                f"{self.width}, {self.inversion} and {self.bn}"
            )
        if not 0 < self.rate < math.inf:
            raise ValueError(f"rate must be positive and finite, got {self.rate}")
        means, deviations = (x if isinstance(x, tuple) else (x,) for x in (self.mean, self.deviation))
        if not all(math.isfinite(x) for x in means) or not all(0 < x < math.inf for x in deviations):
            raise ValueError(
                f"mean must be finite and deviation positive and finite, got {self.mean} and {self.deviation}"
            )

    @property
    def of_generator(self) -> dict[str, Any]:
        """What a generator is made with: a saved run goes on with no other."""
        names = ("nz", "width", "eps", "spectral", "points", "mean", "deviation")
        return {name: getattr(self, name) for name in names}

    def with_seed(self, seed: int) -> "Settings":
        """The same with another seed."""
        return replace(self, config=replace(self.config, seed=seed))


SMALL = Settings()
# What LRA ships for CIFAR-100, 32 x 32: 288,000 student steps; its virtual step is lra(inner_rate=0.9). Its
# second convolution has half the channels, and weights start uniform. Not run here.
PAPER = Settings(
    config=Config(epochs=400, rounds=72, steps=10, batch=512),
    bn=0.0,
    nz=1000,
    width=128,
    rate=0.02,
    eps=0.8,
    spectral=True,
    every=5,
    start=0,
)


def made(
    teacher: nn.Module,
    student: nn.Module,
    shape: Shape,
    settings: Settings,
    losses: Terms,
    update: Update,
    memory: Memory | None = None,
) -> Distiller:
    """A distiller with a generator of its own, on the student's device; the same seed gives the same."""
    device = device_of(student)
    check_teacher(teacher, shape, device)
    network = seeded(settings, lambda: generator_for(shape, settings)).to(device)
    weighed = {"bn": (settings.bn, terms.bn_statistics())} | dict(losses)
    source = GeneratorSource(network, shape, settings.nz, weighed, settings.config.batch, settings.rate)
    memory, about = memory or NoMemory(), settings.of_generator
    return Distiller(teacher, student, source, update, memory, settings.config, about=about)


def dafl(teacher: nn.Module, student: nn.Module, shape: Shape, settings: Settings = SMALL) -> Distiller:
    """Confident, balanced images. Source: Chen et al. (ICCV 2019); one-hot 1, balance 5, activation 0.1."""
    return made(teacher, student, shape, settings, priors(), Plain(terms.kl()))


def dfad(teacher: nn.Module, student: nn.Module, shape: Shape, settings: Settings = SMALL) -> Distiller:
    """Images that the student gets wrong. Source: Fang et al. (arXiv 1912.11006, 2019); logits' L1."""
    return made(teacher, student, shape, settings, {"adversarial": (1.0, terms.adversarial("l1"))}, Plain())


def dfq(teacher: nn.Module, student: nn.Module, shape: Shape, settings: Settings = SMALL) -> Distiller:
    """All of these and batch-norm statistics. Source: Choi et al. (CVPR workshops 2020).

    Weights of one-hot 0.5 and balance 5 with logits' L1 are ours, for small problems.
    """
    losses = priors(one_hot=0.5, activation=0.0) | {"adversarial": (1.0, terms.adversarial("l1"))}
    return made(teacher, student, shape, settings, losses, Plain())


def cmi(teacher: nn.Module, student: nn.Module, shape: Shape, settings: Settings = SMALL) -> Distiller:
    """Images by inversion through generators that start anew, told apart from earlier ones.

    Source: Fang et al. (IJCAI 2021); adversarial 0.5, batch norm 1, one-hot 1 with random labels,
    contrastive 0.8, distillation at temperature 20. The contrastive term has no learned head.
    """
    device = device_of(student)
    classes = check_teacher(teacher, shape, device)
    pool = Pool()
    losses: dict[str, tuple[float, Term]] = {
        "bn": (settings.bn, terms.bn_statistics()),
        "one hot": (1.0, terms.one_hot()),
        "adversarial": (0.5, terms.adversarial("masked_kl")),
        "contrastive": (0.8, terms.contrastive(pool.draw)),
    }
    source = InversionSource(
        shape,
        classes,
        losses,
        make=lambda: generator_for(shape, settings),
        nz=settings.nz,
        batch=settings.config.batch,
        rate=settings.rate,
        steps=settings.inversion,
        pool=pool,
    )
    how = Plain(terms.kl(20.0))
    return Distiller(teacher, student, source, how, config=settings.config, about=settings.of_generator)


def mb_dfkd(teacher: nn.Module, student: nn.Module, shape: Shape, settings: Settings = SMALL) -> Distiller:
    """Replay of a buffer beside new images. Source: Binici et al. (WACV 2022), as LRA's baseline has it."""
    return made(teacher, student, shape, settings, wanted(), Replay(), ring(settings))


def pre_dfkd(teacher: nn.Module, student: nn.Module, shape: Shape, settings: Settings = SMALL) -> Distiller:
    """Replay of an autoencoder beside new images. Source: Binici et al. (AAAI 2022)."""
    return made(teacher, student, shape, settings, wanted(), Replay(), autoencoder(student, shape, settings))


def priors(
    one_hot: float = 1.0, balance: float = 5.0, activation: float = 0.1
) -> dict[str, tuple[float, Term]]:
    """DAFL's terms."""
    return {
        "one hot": (one_hot, terms.one_hot()),
        "balance": (balance, terms.class_balance()),
        "activation": (activation, terms.activation()),
    }


def wanted() -> dict[str, tuple[float, Term]]:
    """Terms of MB-DFKD, PRE-DFKD and LRA."""
    return priors() | {"adversarial": (1.0, terms.adversarial("js"))}


def ring(settings: Settings) -> RingBuffer:
    """The buffer of MB-DFKD and LRA; in runs of a few epochs it begins in the first half."""
    start = min(settings.start, max(settings.config.epochs // 2 - 1, 0))
    return RingBuffer(settings.capacity, settings.every, start)


def autoencoder(student: nn.Module, shape: Shape, settings: Settings) -> VAEReplay:
    """The autoencoder of PRE-DFKD and LRA; its decoder is a generator without spectral norm."""

    def both() -> nn.ModuleList:
        return nn.ModuleList(
            (
                Encoder(shape, settings.nz, settings.width, settings.points),
                generator_for(shape, replace(settings, spectral=False)),
            )
        )

    made_both = seeded(settings, both, 1).to(device_of(student))
    assert isinstance(made_both, nn.ModuleList)
    encoder, decoder = made_both
    return VAEReplay(encoder, decoder, settings.nz)


def seeded(settings: Settings, make: Callable[[], nn.Module], plus: int = 0) -> nn.Module:
    """What `make` makes with the seed of the settings; torch's global state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.config.seed + plus)
        return make()


def generator_for(shape: Shape, settings: Settings) -> nn.Module:
    """A generator of inputs as a teacher takes them.

    Raises:
        ValueError: means or deviations of another number of channels.
    """
    s = settings
    network = generator(shape, s.nz, s.width, s.points, s.eps, s.spectral)
    if (s.mean, s.deviation) == (0.0, 1.0):
        return network
    channels = shape[-1] if isinstance(network, PlainGenerator) else shape[0]
    for name, value in (("mean", s.mean), ("deviation", s.deviation)):
        if isinstance(value, tuple) and len(value) not in (1, channels):
            raise ValueError(f"{name} is one number or one for each of {channels} channels, got {len(value)}")
    return Shifted(network, s.mean, s.deviation)
