"""When not to adapt, and when not to trust an adaptation: signs of harm that need no labels."""

from torch import Tensor

from adapt.source_free.scores import effective_classes

ALONE = 0.95  # share of one class in what the model says, above which there is nothing to adapt on
COLLAPSE = 0.5  # of the effective number of classes
ENOUGH = 10  # samples a class, below which a warning is given


def too_one_sided(p: Tensor) -> str | None:
    """Why samples with these predictions (n, C) cannot be adapted on, None if they can."""
    counts = p.argmax(1).bincount(minlength=p.shape[1])
    most = int(counts.argmax())
    share = float(counts[most]) / len(p)
    if share <= ALONE:
        return None
    return (
        f"the model says class {most} of {share:.0%} of the samples. Adaptation would tear one class apart "
        "into several: gather samples of all classes, or insist with guard=False"
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
