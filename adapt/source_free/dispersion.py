"""How strongly the rest of a batch pushes a sample away, without labels, in AaD and SF(DA)^2.

The authors weigh it by 1, for a dozen classes and batches of 64. With more classes than a batch has samples
that is too little, and classes run into each other: docs/adapt has the numbers. The weights here are ours.
"""

from collections.abc import Callable

from adapt.source_free.engine import Run


def natural(neighbours: int, batch: float, classes: int) -> float:
    """Weight of a dispersion at which it is in balance with attraction, for C classes of equal mass.

    Of the B - 1 others in a batch (B - 1) / C are of a sample's class, and K neighbours pull. Half of it
    makes the loss of SF(DA)^2, whose dispersion is squared, the spectral contrastive one (HaoChen et al.,
    NeurIPS 2021).
    """
    return neighbours * classes / (batch - 1) if batch > 1 else 1.0


def auto_alpha(neighbours: int, batch: float, classes: int) -> float:
    """Weight of SF(DA)^2's dispersion at which a batch does not push its own class apart.

    A batch of B has B/C - 1 others of the same class. Between sure predictions each of them pushes a sample
    with 2 alpha, each of its K neighbours pulls with 1: they balance at alpha = K / (2 (B/C - 1)), at most
    the paper's 1. That a sample's own push on the others comes on top is left to the schedule. With many
    classes it is half of `natural`, where that is more.
    """
    others = batch / classes - 1
    balanced = min(1.0, neighbours / (2 * others)) if others > 0 else 1.0
    return max(balanced, natural(neighbours, batch, classes) / 2)


def start_and_fall(
    alpha0: float | str, beta: float, run: Run, auto: Callable[[int, float, int], float]
) -> tuple[float, float]:
    """Weight of a dispersion at the start and how fast it falls, as given or, for "auto", of this run."""
    if not isinstance(alpha0, str):
        return alpha0, beta
    classes = run.predictions.shape[1]
    return auto(run.neighbours, run.batch, classes), auto_beta(beta, run.batch, classes)


def check_alpha0(alpha0: float | str) -> None:
    """Raise ValueError unless it is a number or "auto"."""
    if isinstance(alpha0, str) and alpha0 != "auto":
        raise ValueError(f'alpha0 must be a number or "auto", got {alpha0!r}')


def auto_beta(beta: float, batch: float, classes: int) -> float:
    """How fast a dispersion falls: not at all where a batch has hardly two samples of a class.

    It falls because it pushes a class of its own apart, too: by B/C - 1 others.
    """
    return beta * min(1.0, max(0.0, batch / classes - 1))
