"""How steadily a student learned."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Stability:
    """How steadily a curve a_1 ... a_E of accuracies rose, in its unit.

    variance is that about the straight line of least squares: the plain one mostly says that a curve rises.
    """

    mean: float
    variance: float
    largest_drop: float
    mean_drop: float
    best: float
    final: float


def stability(curve: np.ndarray | list[float], skip: float = 1 / 3) -> Stability:
    """Stability of a curve after its first part.

    Args:
        curve: (E,) one number for each epoch.
        skip:  share of the epochs that do not count.
    Raises:
        ValueError: nothing is left, or a number is not finite.
    """
    if not 0 <= skip < 1:
        raise ValueError(f"skip must be in [0, 1), got {skip}")
    a = np.asarray(curve, float)[int(skip * len(curve)) :]
    if a.ndim != 1:
        raise ValueError(f"a curve is one number for each epoch, got shape {np.shape(curve)}")
    if not len(a) or not np.isfinite(a).all():
        raise ValueError(f"a curve needs finite numbers after its first {skip:.2f}, got {list(curve)}")
    line = np.polyval(np.polyfit(np.arange(len(a)), a, 1), np.arange(len(a))) if len(a) > 1 else a
    drops = np.maximum(a[:-1] - a[1:], 0.0)
    return Stability(
        mean=float(a.mean()),
        variance=float(np.var(a - line)),
        largest_drop=float(drops.max(initial=0.0)),
        mean_drop=float(drops.mean()) if len(drops) else 0.0,
        best=float(a.max()),
        final=float(a[-1]),
    )
