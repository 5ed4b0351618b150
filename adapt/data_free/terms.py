"""Terms of the loss of a source of images: functions of one `Context`, each to be minimised.

The papers: DAFL (Chen et al., ICCV 2019), DFAD (Fang et al., 2019), DeepInversion (Yin et al., CVPR 2020),
DFQ (Choi et al., 2020), CMI (Fang et al., IJCAI 2021), PRE-DFKD (Binici et al., AAAI 2022).
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from adapt.data_free.context import Context, asked

Term = Callable[[Context], Tensor]
Terms = Mapping[str, tuple[float, Term]]  # name -> weight, term
TINY = 1e-8  # classes that no image of a batch has would else give NaN
DISCREPANCIES = ("l1", "log_l1", "kl", "js", "masked_kl")


def total(terms: Terms, context: Context) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum of terms, and each of them weighted; those of weight 0 are not computed.

    Raises:
        RuntimeError: one is not finite.
    """
    parts = {name: weight * term(context) for name, (weight, term) in terms.items() if weight}
    return summed(parts, context.x), parts


def summed(parts: Mapping[str, Tensor], like: Tensor) -> Tensor:
    """Sum of the parts of a loss; zero if there is none.

    Raises:
        RuntimeError: one is not finite; its name is said.
    """
    bad = [name for name, value in parts.items() if not value.isfinite()]
    if bad:
        raise RuntimeError(
            f"{', '.join(bad)} is not finite. Learning rates are too high, or the teacher's logits are not "
            "finite on synthetic inputs; the last saved run is as it was."
        )
    return torch.stack(list(parts.values())).sum() if parts else like.new_zeros(())


def one_hot() -> Term:
    """Cross entropy with the class that the teacher gives most, or with wanted labels where there are any.

    Source: DAFL eq. (5); DeepInversion eq. (2) for labels.
    """

    def term(context: Context) -> Tensor:
        wanted = context.t.argmax(1) if context.labels is None else context.labels
        return F.cross_entropy(context.t, wanted)

    return term


def class_balance(base: float = 10.0) -> Term:
    """Minus the entropy of the mean class probabilities of a batch, logarithm to `base`.

    Source: DAFL eq. (7).
    """

    def term(context: Context) -> Tensor:
        p = context.t.softmax(1).mean(0)
        return (p * (p + TINY).log()).sum() / torch.tensor(base).log().item()

    return term


def activation() -> Term:
    """Minus the mean magnitude of what enters the teacher's last layer. Source: DAFL eq. (6)."""
    return lambda context: -context.features.abs().mean()


def bn_statistics() -> Term:
    """Distance of batch statistics from the teacher's running ones, summed over its batch-norm layers.

    Source: DeepInversion eq. (4): norms, not their squares.
    """

    def term(context: Context) -> Tensor:
        gaps = [(s.mean - s.running_mean, s.var - s.running_var) for s in context.statistics]
        return torch.stack([torch.linalg.vector_norm(g) for pair in gaps for g in pair]).sum()

    return term


def adversarial(kind: str = "l1", temperature: float = 3.0) -> Term:
    """Minus a distance of the student's logits from the teacher's.

    Args:
        kind: l1, log_l1 (DFAD); kl (zero-shot transfer); masked_kl, where both agree (CMI); js (PRE-DFKD and
              LRA): one minus a clamped Jensen-Shannon score, with no gradient through the teacher.
        temperature: of js.
    """
    if kind not in DISCREPANCIES:
        raise ValueError(f"kind must be one of {', '.join(DISCREPANCIES)}, got {kind!r}")

    def term(context: Context) -> Tensor:
        t, s = context.t, context.s
        if kind == "l1":
            return -(s - t).abs().mean()
        if kind == "log_l1":
            return -((s - t).abs().mean() + 1).log()
        if kind == "js":
            return 1 - _jensen_shannon(t.detach() / temperature, s / temperature).clamp(0, 1)
        each = F.kl_div(s.log_softmax(1), t.log_softmax(1), log_target=True, reduction="none").sum(1)
        return -(each * (s.argmax(1) == t.argmax(1))).mean() if kind == "masked_kl" else -each.mean()

    return term


def _jensen_shannon(a: Tensor, b: Tensor) -> Tensor:
    """Mean over all elements, probabilities clamped, as PRE-DFKD has it: a small number."""
    p, q = a.softmax(1), b.softmax(1)
    m = ((p + q) / 2).clamp(0.01, 0.99)
    p, q = p.clamp(0.01, 0.99), q.clamp(0.01, 0.99)
    return 0.5 * (m * (2 * m.log() - p.log() - q.log())).mean()


def total_variation() -> Term:
    """Mean magnitude of differences of neighbours, along all axes but batch and channel.

    Source: DeepInversion eq. (3), first norm.
    """

    def term(context: Context) -> Tensor:
        axes = range(2, context.x.ndim)
        if not axes:
            raise ValueError(
                f"total variation needs inputs with neighbours, got {tuple(context.x.shape[1:])} numbers "
                "without order. Leave the term out."
            )
        return torch.stack([context.x.diff(dim=d).abs().mean() for d in axes]).mean()

    return term


def magnitude() -> Term:
    """Mean square of the inputs."""
    return lambda context: context.x.square().mean()


def contrastive(
    bank: Callable[[int, torch.Generator | None], Tensor | None], temperature: float = 0.1
) -> Term:
    """Images of a batch shall be told apart from each other and from those of a bank.

    Each image and a noisy copy are a pair; the others, and `b` images of the bank, are negatives. Angles are
    those of the teacher's features; CMI's learned head is left out.

    Args:
        bank:        (n, generator) -> n earlier images, or None while there are none.
        temperature: of the softmax over cosines.

    Source: CMI eq. (6).
    """

    def term(context: Context) -> Tensor:
        x = context.x
        noise = torch.randn(x.shape, generator=context.generator, device=x.device)
        copies = Context(x + 0.1 * x.detach().std() * noise, context.teacher)
        a, b = F.normalize(context.features, dim=1), F.normalize(copies.features, dim=1)
        others = bank(len(x), context.generator)
        if others is not None:
            with torch.no_grad():
                b = torch.cat((b, F.normalize(Context(others, context.teacher).features, dim=1)))
        return F.cross_entropy(a @ b.T / temperature, torch.arange(len(a), device=a.device))

    return term


def l1(s: Tensor, t: Tensor) -> Tensor:
    """Mean difference of logits: the student's loss in DFAD, PRE-DFKD and LRA."""
    return (s - t).abs().mean()


def kl(temperature: float = 1.0) -> Callable[[Tensor, Tensor], Tensor]:
    """The student's loss of Hinton et al. (2015): KL(teacher || student), times temperature squared."""

    def loss(s: Tensor, t: Tensor) -> Tensor:
        a, b = (s / temperature).log_softmax(1), (t / temperature).log_softmax(1)
        return F.kl_div(a, b, log_target=True, reduction="batchmean") * temperature**2

    return loss


def agreement(a: torch.nn.Module, b: torch.nn.Module, x: Tensor) -> float:
    """Share of inputs that two networks in eval mode give the same class."""
    return float((asked(a, x).argmax(1) == asked(b, x).argmax(1)).float().mean())
