"""When not to adapt, and when not to trust an adaptation: signs of harm that need no labels."""

from torch import Tensor

from adapt.source_free.scores import effective_classes, gap_statistic

ALONE = 0.95  # share of one class in what the model says, above which there is nothing to adapt on
COLLAPSE = 0.5  # of the effective number of classes
GROUPS = 0.1  # gap statistic of features, below which there is nothing to adapt on either
FEW = 5  # samples a class, below which it says nothing
ENOUGH = 10  # samples a class, below which a warning is given
TORN = (
    "Adaptation would tear one class apart into several: gather samples of all classes, or insist with "
    "guard=False"
)


def too_one_sided(p: Tensor) -> str | None:
    """Why samples with these predictions (n, C) are not to be adapted on, None if they are."""
    counts = p.argmax(1).bincount(minlength=p.shape[1])
    most = int(counts.argmax())
    share = float(counts[most]) / len(p)
    if share <= ALONE:
        return None
    return f"the model says class {most} of {share:.0%} of the samples"


def ungrouped(z: Tensor, classes: int) -> str | None:
    """Why samples with these features (n, D) are not to be adapted on; None: they are, or too few to tell.

    Where a sensor differs much, a model says many classes of samples of one. Its features know better: those
    of one class are no more in groups than noise, and all methods here make groups.
    """
    if len(z) < FEW * classes:
        return None
    gap = gap_statistic(z, classes)
    if gap >= GROUPS:
        return None
    return (
        f"features of the samples are hardly more in groups than noise (gap statistic {gap:.2f}, at least "
        f"{GROUPS} is needed), as those of one class or two are"
    )


def harm(before: Tensor, after: Tensor) -> str | None:
    """What speaks against an adaptation, from predictions (n, C) before and after it; None: nothing."""
    was, is_now = effective_classes(before), effective_classes(after)
    if is_now < COLLAPSE * was:
        return f"predictions collapsed from {was:.1f} to {is_now:.1f} effective classes"
    return None


def warnings_of(number: int, classes: int) -> list[str]:
    """What to tell of so few samples."""
    if number >= ENOUGH * classes:
        return []
    return [f"{number} samples of {classes} classes are few: 50 of each class are a good number"]
