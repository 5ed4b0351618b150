"""EventDance: a classifier of images teaches classifiers of events, without labels and without its images.

    found = event_dance(classifier, streams, labels=("0", "1"), prepare=lambda image: image[..., 3:31, 3:31])
    found.label(stream)

A reconstruction network makes surrogate images of every stream, at several times; the classifier is asked
about all of them, and the one that it is surest of, the anchor, gives a pseudo-label. Networks on several
representations of the events learn from it and from each other; the classifier, its view of the surrogates
and, if wanted, the reconstruction learn from them in turn. In use events go into the new networks alone.

Source: Zheng, Wang, "EventDance: Unsupervised Source-free Cross-modal Adaptation for Event-based Object
    Recognition" (CVPR 2024, arXiv 2403.14082); scores of a vision-language model as in EventDance++ (arXiv
    2409.12778). The authors' code has the reconstruction alone: weights of the losses, the choice of the
    sign, the tone map and the diversity loss are ours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adapt.source_free.engine import remember
from adapt.source_free.eventdance_losses import anchors, divergence, source_losses, target_losses
from adapt.source_free.guard import harm, too_one_sided, warnings_of
from adapt.source_free.scores import EPS, effective_classes, entropy
from adapt.source_free.split import Split, copy_of, split_of
from adapt.source_free.surrogates import Tone, all_reconstructed, reconstructed, voxels_of
from perception.events import EventStream
from perception.events.represent_torch import EventBatch
from perception.recognize.augment import Augment
from perception.recognize.classifier import Classifier
from perception.recognize.fit import picked
from perception.recognize.network import Network
from perception.reconstruct.model import Reconstructor
from perception.reconstruct.model import load as load_reconstructor
from perception.training import Run, RunConfig

AT_ONCE = 50  # streams
WEIGHTS = ("entropy", "constancy", "diversity", "supervised", "agreement", "teaching", "learning")
Prepare = Callable[[Tensor], Tensor]
Vision = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class EventDanceConfig:
    """Settings.

    representations: of `perception.recognize`, each with a network.
    bins, width:  of these networks.
    windows, skip: of a stream, and how many of them at the start have no surrogate yet.
    steps, batch, rate: of the training.
    source_rate:  of the classifier's layers and the reconstruction, in units of `rate`; tone map and batch
                  norm learn at `rate`.
    confidence:   least probability of an anchor that teaches, at the start and at the end.
    entropy, constancy, diversity: weights of what the classifier learns from surrogates: to be sure, to say
                  of all surrogates of a stream what it says of the anchor, and to say all classes.
    supervised, agreement, teaching: weights of what the networks learn: the pseudo-label, what the other
                  networks say, and what the classifier says of the anchor.
    learning:     weight of what the classifier learns from the networks; it and `agreement` grow from 0.
    vision:       weight of a vision-language model's scores, where there are some.
    reconstruction: whether the reconstruction network learns, too, held to what it said before.
    augment:      how streams are changed for the networks.
    seed:         of weights, batches and changes.
    """

    representations: tuple[str, ...] = ("stack", "voxel", "spikes")
    bins: int = 9
    width: int = 16
    windows: int = 15
    skip: int = 3
    steps: int = 300
    batch: int = 32
    rate: float = 3e-3
    source_rate: float = 0.03
    confidence: tuple[float, float] = (0.5, 0.9)
    entropy: float = 0.1
    constancy: float = 1.0
    diversity: float = 0.1
    supervised: float = 1.0
    agreement: float = 1.0
    teaching: float = 1.0
    learning: float = 1.0
    vision: float = 1.0
    reconstruction: bool = False
    augment: Augment = field(default_factory=Augment)
    seed: int = 0

    def __post_init__(self):
        if not self.representations or len(set(self.representations)) < len(self.representations):
            raise ValueError(f"representations must be one or more that differ, got {self.representations}")
        for name in (*WEIGHTS, "vision", "rate", "source_rate"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be a number of at least 0, got {getattr(self, name)}")
        low, high = self.confidence
        if not 0 <= low <= high <= 1 or self.rate == 0 or min(self.bins, self.width) < 1:
            raise ValueError(
                "confidence must rise from 0 to 1, rate be positive, and bins and width at least 1, got "
                f"{self.confidence}, {self.rate}, {self.bins} and {self.width}"
            )
        if not 0 <= self.skip < self.windows or self.steps < 1 or self.batch < 2:
            raise ValueError(
                "0 <= skip < windows, steps of at least 1 and batches of at least 2 are needed, got "
                f"{self.skip}, {self.windows}, {self.steps} and {self.batch}"
            )


@dataclass(frozen=True)
class Recognizer:
    """A classifier of events for each representation, and what is known of them without labels.

    classifiers: by representation.
    source:      the classifier of images as it is after it learned from events.
    tone:        how it sees surrogates.
    history:     of every few seconds, the means of the losses.
    report:      numbers that need no label: see `event_dance`.
    """

    classifiers: dict[str, Classifier]
    source: nn.Module
    tone: Tone
    history: list[dict[str, float]]
    report: dict[str, Any]

    def probabilities(self, streams: Sequence[EventStream]) -> np.ndarray:
        """(n, labels) mean of what the networks say."""
        return np.mean([c.probabilities(streams) for c in self.classifiers.values()], 0)

    def label(self, stream: EventStream) -> str:
        """The most probable label."""
        labels = next(iter(self.classifiers.values())).labels
        return labels[int(self.probabilities([stream])[0].argmax())]


class Source(nn.Module):
    """The classifier of images, and how it is shown surrogates."""

    def __init__(self, split: Split, tone: Tone, prepare: Prepare):
        super().__init__()
        self.model, self.tone = split.model, tone
        self.split, self.prepare = split, prepare

    def forward(self, log_intensity: Tensor) -> Tensor:
        """(b, N, C) logits of surrogates (b, N, H, W)."""
        image = self.tone(log_intensity).flatten(0, 1)[:, None]
        return self.split(self.prepare(image)).logits.unflatten(0, log_intensity.shape[:2])

    @torch.no_grad()
    def anchors(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Which surrogate of (n, N, H, W) is each stream's anchor (n,), and what is said of it (n, C)."""
        self.eval()
        p = torch.cat([self(part).softmax(-1) for part in images.split(AT_ONCE)])
        which = anchors(p)
        return which, p[torch.arange(len(p)), which]

    def train(self, mode: bool = True) -> "Source":
        """Batches in training, running statistics in use; dropout never."""
        self.split.use(batch_statistics=mode)
        self.tone.train(mode)
        self.training = mode
        return self


def event_dance(
    model: nn.Module,
    streams: Sequence[EventStream],
    *,
    labels: Sequence[str],
    prepare: Prepare = lambda image: image,
    reconstructor: Reconstructor | None = None,
    vision: Vision | None = None,
    config: EventDanceConfig | None = None,
    advance: Callable[[int, dict[str, float]], object] = lambda step, parts: None,
) -> Recognizer:
    """Adapt a classifier of images to a camera that has events alone.

    Args:
        model:   trained on images, (b, ...) -> logits (b, C); not changed. What can be adapted is as for
                 `adapt.adapt`.
        streams: recordings without labels, of one sensor.
        labels:  C names in the order of the model's answers.
        prepare: from surrogates (m, 1, H, W) of 0 to 1, dark background, to what the model takes: crops,
                 resizes, repeats channels, normalises.
        reconstructor: of images; default: the shipped one.
        vision:  from the same surrogates to probabilities (m, C) of a vision-language model.
        config:  `EventDanceConfig()`.
        advance: told the steps done and the means of the losses, every few seconds.
    Returns:
        The recognizer. Its report has `sign` (of the surrogates, 1 or -1, of which the model is surer),
        `confidence` (mean of the anchors before and after), `classes` (effective number in the pseudo-labels,
        before and after), `agreement` (share of the streams of which all networks say the same) and
        `warnings` (signs of harm that need no label: few streams, or pseudo-labels of hardly any class but
        one, before or after).
    Raises:
        ValueError: streams without events or of several sensors, or a model that cannot be split or has
            another number of classes.
    """
    config = config or EventDanceConfig()
    reconstructor = reconstructor or load_reconstructor()
    network: Any = reconstructor.network
    voxels = voxels_of(streams, config.windows, reconstructor.period, network.bins)
    images = all_reconstructed(network, voxels, config.skip)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        source = prepared_source(model, images, prepare)
        before = source.anchors(images)
        if before[1].shape[1] != len(labels):
            raise ValueError(
                f"the model tells {before[1].shape[1]} classes apart, {len(labels)} labels were given"
            )
        networks = nn.ModuleDict(
            {name: Network(len(labels), name, config.bins, config.width) for name in config.representations}
        )
        whole = nn.ModuleDict({"networks": networks, "source": source})
        if config.reconstruction:
            whole["reconstruction"] = copy_of(network)
        for p in source.split.head_parameters:  # classes stay what they are, as in SHOT
            p.requires_grad_(False)
        run = Run(
            whole,
            _loss(config, EventBatch.of(streams), voxels, images, vision),
            RunConfig(steps=config.steps, rate=config.rate, decay=1e-2, factors=_factors(source, config)),
            config.seed,
        )
        history = []
        while not run.done:
            history.append(run.train(5.0))
            advance(run.step, history[-1])
    run.use_average()
    whole.eval()
    if config.reconstruction:
        images = all_reconstructed(whole["reconstruction"], voxels, config.skip)  # type: ignore[arg-type]
    after = source.anchors(images)
    width, height = streams[0].width, streams[0].height
    names = tuple(str(label) for label in labels)
    classifiers = {name: Classifier(n.eval(), names, width, height) for name, n in networks.items()}  # type: ignore[arg-type]
    said = np.stack([c.probabilities(streams).argmax(1) for c in classifiers.values()])
    report = {
        "sign": int(source.tone.sign),
        "confidence": [float(p.amax(1).mean()) for _, p in (before, after)],
        "classes": [effective_classes(p) for _, p in (before, after)],
        "agreement": float((said == said[:1]).all(0).mean()),
        "warnings": warnings_of(len(streams), len(labels))
        + [why for why in (too_one_sided(before[1]), harm(before[1], after[1])) if why],
    }
    return Recognizer(classifiers, source.model, source.tone, history, report)


def _loss(config, events, voxels, images, vision):
    start = torch.cat((torch.zeros(1, dtype=torch.int64), torch.bincount(events.stream).cumsum(0)))
    weights = {name: getattr(config, name) for name in WEIGHTS}
    done = 0

    def loss(whole: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
        nonlocal done
        which = rng.choice(len(voxels), min(config.batch, len(voxels)), replace=False)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        source: Any = whole["source"]  # type: ignore[index]
        parts: dict[str, Tensor] = {}
        seen = images[which]
        if config.reconstruction:
            before = seen
            seen = reconstructed(whole["reconstruction"], voxels[which], config.skip)  # type: ignore[index]
            parts["kept"] = (seen - before).square().mean() / before.var().clamp(min=EPS)
        p = source(seen).softmax(-1)
        anchor = anchors(p.detach())
        row = torch.arange(len(p))
        surest = p[row, anchor]
        weight = torch.ones(len(p))
        if vision is not None:
            with torch.no_grad():
                q = vision(source.tone(seen[row, anchor])[:, None])
            if q.shape != surest.shape:
                raise ValueError(
                    f"vision must give probabilities {tuple(surest.shape)}, got shape {tuple(q.shape)}"
                )
            parts["vision"] = config.vision * divergence(q, surest).mean()
            weight = torch.where(q.argmax(1) == surest.argmax(1), 1.0, 0.3)
        batch = config.augment(picked(events, start, which), generator)
        logits = {name: network(batch) for name, network in whole["networks"].items()}  # type: ignore[index]
        progress, done = done / config.steps, done + 1
        low, high = config.confidence
        least = low + (high - low) * progress
        parts |= source_losses(p, anchor) | target_losses(logits, surest, least, weight)
        mean = torch.stack([x.softmax(1) for x in logits.values()]).mean(0).detach()
        parts["learning"] = divergence(mean, surest).mean()
        for name in ("agreement", "learning"):  # what the networks begin with is nothing to go by
            parts[name] = progress * parts[name]
        return {name: weights.get(name, 1.0) * value for name, value in parts.items()}

    return loss


def _factors(source: Source, config: EventDanceConfig) -> dict[str, float]:
    """Of learning rates: layers of the classifier are slow, its batch norm and tone map are not."""
    norms = {id(p) for norm in source.split.norms for p in norm.affine}
    fast = [name for name, p in source.named_parameters() if id(p) in norms or name.startswith("tone.")]
    slow = {"source.": config.source_rate, "reconstruction.": config.source_rate}
    return slow | {f"source.{name}": 1.0 for name in fast}


def prepared_source(model: nn.Module, images: Tensor, prepare: Prepare) -> Source:
    """A copy of a classifier as it sees surrogates (n, N, H, W): of the sign that it is surer of.

    Its batch norm knows them: Li et al. (2016), AdaBN.
    """
    found = []
    for sign in (1.0, -1.0):
        own = copy_of(model)
        for p in own.parameters():
            p.requires_grad_(True)
        tone = Tone(sign)
        with torch.no_grad():
            some = prepare(tone(images[:2]).flatten(0, 1)[:, None])
        try:
            split = split_of(own, some)
        except (RuntimeError, AssertionError, TypeError) as error:  # of the model
            raise ValueError(
                "the model does not take what `prepare` makes of surrogates, "
                f"{tuple(getattr(some, 'shape', ()))}: "
                f"{str(error).strip().splitlines()[0]}"
            ) from None
        if split.batch is not None:
            raise ValueError(
                f"the model takes batches of {split.batch} alone; export it with a batch of any size "
                "(torch.export.Dim)"
            )
        source = Source(split, tone, prepare)
        remember(split, images.split(AT_ONCE), source)
        said = source.anchors(images)[1]
        found.append((float(entropy(said).mean()), source))
    return min(found, key=lambda row: row[0])[1]
