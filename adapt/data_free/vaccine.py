"""ABD's shuffling vaccine: inputs that a teacher with shuffled deep layers answers as before are suspects.

Source: Hong et al., "Revisiting Data-Free Knowledge Distillation with Poisoned Teachers" (ICML 2023, arXiv
2306.02368) and its released code.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.data_free.context import Context, asked, device_of
from adapt.data_free.sources import Parts
from adapt.data_free.terms import l1
from adapt.data_free.updates import Loss, Plain, Step

TAIL = 0.02  # share of low scores above which a shuffle is taken for informative
TRIALS = 8


def shuffled(teacher: nn.Module, layers: int, generator: torch.Generator) -> nn.Module:
    """A copy whose last convolutions read their input channels in another order.

    Args:
        teacher:   stays as it is.
        layers:    how many, from the last on; without convolutions, linear layers. Those that read one
                   channel, such as depthwise ones, have no order and are not counted.
        generator: of the permutations.
    Raises:
        ValueError: the teacher has no such weights.
    """
    with torch.no_grad():  # else TorchScript's copies are no leaves
        copied = copy.deepcopy(teacher)
    # a parameter of one row, such as an embedding of positions (1, n, d), is no layer
    several = [p for p in copied.parameters() if 2 <= p.ndim <= 5 and min(p.shape[:2]) > 1]
    weights = [p for p in several if p.ndim > 2] or several
    if not weights:
        raise ValueError(
            "the vaccine shuffles convolutions or linear layers of several inputs; this teacher has neither"
        )
    with torch.no_grad():
        for weight in weights[len(weights) - min(layers, len(weights)) :]:
            order = torch.randperm(weight.shape[1], generator=generator, device=generator.device)
            weight.copy_(weight[:, order.to(weight.device)])
    for p in copied.parameters():  # not requires_grad_ of the module, which TorchScript lacks
        p.requires_grad_(False)
    return copied.eval()


def divergence(t: Tensor, suspect: Tensor) -> Tensor:
    """(b,) KL(teacher || shuffled) over the number of classes; small: suspicious."""
    a, b = t.log_softmax(1), suspect.log_softmax(1)
    return F.kl_div(b, a, log_target=True, reduction="none").mean(1)


class Vaccine:
    """The term of the vaccine, to be minimised: suspects are pushed to where both teachers differ.

    With `batches`, it first watches so many of the source's, past the first `ignored`, and keeps a shuffle
    whose low scores have a tail; after eight shuffles without one it stays off.

    Args:
        teacher: is copied.
        layers:  that are shuffled.
        models:  shuffled copies, whose logits are averaged.
        batches: of the tail test, 0: no test.
        ignored: first batches.
        until:   share of the training after which it is off.
        seed:    of the permutations.
    """

    def __init__(
        self,
        teacher: nn.Module,
        layers: int = 5,
        models: int = 3,
        batches: int = 0,
        ignored: int = 10,
        until: float = 1.0,
        seed: int = 0,
    ):
        if layers < 1 or models < 1:
            raise ValueError(f"layers and models must be at least 1, got {layers} and {models}")
        device = device_of(teacher)
        self.layers, self.batches, self.ignored, self.until = layers, batches, ignored, until
        self.generator = torch.Generator(device).manual_seed(seed)
        self.models = nn.ModuleList(shuffled(teacher, layers, self.generator) for _ in range(models))
        self.seen: list[Tensor] = []
        self.calls = 0  # batches that have been watched
        self.moment: float | None = None  # of the last of them
        self.active = batches == 0
        self.tail: float | None = None

    def suspect(self, x: Tensor) -> Tensor:
        """(b, classes) mean logits of the shuffled copies."""
        return torch.stack([model(x) for model in self.models]).mean(0)

    def __call__(self, context: Context) -> Tensor:
        """R(x) = - mean over suspects of the divergence; 0 without suspects, and while it is off."""
        self.watch(context.x, context.teacher, context.progress)
        if not self.active or context.progress >= self.until:
            return context.t.new_zeros(())
        said = self.suspect(context.x)
        mask = (said.argmax(1) == context.t.argmax(1)).to(said.dtype)
        return -(mask * divergence(context.t, said)).sum() / mask.sum().clamp(min=1)

    def watch(self, x: Tensor, teacher: nn.Module, moment: float) -> None:
        """Note a batch for the test, and test when there are enough. Of one moment the last batch counts:
        inversion shows the same one at every step, and only the end of it is what a student is given."""
        if self.active or self.tail is not None:
            return
        again, self.moment = moment == self.moment, moment
        self.calls += not again
        if self.calls <= self.ignored:
            return
        self.seen[len(self.seen) - again :] = [x.detach().clone()]
        if len(self.seen) == self.batches and not again:
            self._test(teacher)
            self.seen = []

    @torch.no_grad()
    def _test(self, teacher):
        for _ in range(TRIALS):
            scores = torch.cat([divergence(teacher(x), self.suspect(x)) for x in self.seen])
            self.tail = low_tail(scores.clamp(min=1e-12).log10())
            if self.tail > TAIL:
                self.active = True
                return
            # on top of the shuffles before, as the released code does
            for k, model in enumerate(self.models):
                self.models[k] = shuffled(model, self.layers, self.generator)

    def state(self) -> dict[str, Any]:
        """Shuffled weights, and how far the test is."""
        return {
            "models": self.models.state_dict(),
            "generator": self.generator.get_state(),
            "seen": self.seen,
            "calls": self.calls,
            "moment": self.moment,
            "active": self.active,
            "tail": self.tail,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.models.load_state_dict(state["models"])
        self.generator.set_state(state["generator"].cpu())
        self.seen, self.calls, self.moment = list(state["seen"]), state["calls"], state["moment"]
        self.active, self.tail = state["active"], state["tail"]


def low_tail(scores: Tensor) -> float:
    """Share of scores (n,) more than three standard deviations below their mean."""
    return float((scores < scores.mean() - 3 * scores.std(correction=0)).float().mean())


class Masked(Plain):
    """The vaccine for stored inputs, which no generator moves: learn the trusted, unlearn a little the rest.

    Args:
        vaccine: of the teacher.
        loss:    of the student.
        weight:  of the mean loss over suspects, which is subtracted.

    Source: as above, the form for out-of-distribution data. Without suspects it is the plain mean, and so it
    is if all are suspects, for which the released code has no answer, and while the vaccine is off.
    """

    def __init__(self, vaccine: Vaccine, loss: Loss = l1, weight: float = 0.1):
        super().__init__(loss)
        self.vaccine, self.weight = vaccine, weight

    def __call__(self, step: Step) -> Parts:
        """One part."""
        s, t = step.student(step.x), asked(step.teacher, step.x)
        self.vaccine.watch(step.x, step.teacher, step.number)
        if not self.vaccine.active:
            return {"distill": self.loss(s, t)}
        with torch.no_grad():
            bad = self.vaccine.suspect(step.x).argmax(1) == t.argmax(1)
        if not bad.any() or bad.all():
            return {"distill": self.loss(s, t)}
        return {"distill": self.loss(s[~bad], t[~bad]) - self.weight * self.loss(s[bad], t[bad])}

    def state(self) -> dict[str, Any]:
        """That of the vaccine."""
        return self.vaccine.state()

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.vaccine.load(state)
