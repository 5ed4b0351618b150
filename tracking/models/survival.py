"""Survival: how likely an object still exists after a step, and still is where we look."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import erfc

import numpy as np

from tracking.checks import require_probability
from tracking.compiled import compiled


@dataclass(frozen=True)
class Survival:
    """Probability of surviving a step: `probability` ** dt, times that of staying inside the region.

    Args:
        probability: of surviving one second, in [0, 1], or a function of the states (n, d) -> (n,).
        lower:       lower corner of the region that objects leave for good, (dims,) m, or None.
        upper:       its upper corner.
    """

    probability: float | Callable = 0.99
    lower: Sequence[float] | None = None
    upper: Sequence[float] | None = None

    def __post_init__(self):
        if not callable(self.probability):
            require_probability(probability=self.probability)
        if (self.lower is None) != (self.upper is None):
            raise ValueError(f"give both corners of the region or none, got {self.lower} and {self.upper}")
        if self.lower is not None and not np.all(np.less(self.lower, self.upper)):
            raise ValueError(f"lower must be below upper, got {self.lower} and {self.upper}")

    @property
    def bounded(self) -> bool:
        return self.lower is not None

    def lifetime(self, x: np.ndarray) -> float:
        """Mean time to live, s, of the longest-lived of the states (n, d); infinite where there is none."""
        p = self.lives(x, 1.0).max() if callable(self.probability) and len(x) else self.probability
        return np.inf if callable(p) or p == 1 else 0.0 if p == 0 else float(-1 / np.log(p))

    def __call__(self, m: np.ndarray, P: np.ndarray, dt: float, before=None) -> np.ndarray:
        """Survival probability (n,) over a step, at most 1 - 1e-9.

        Args:
            m, P:   (n, d), (n, d, d) predicted Gaussians.
            dt:     length of the step, s.
            before: their moments before the step. An object that exists was inside then, so what of the
                    Gaussian lay outside is no part of it, and does not leave again at every step.
        """
        p = self.lives(m, dt)
        if self.bounded:
            was = np.ones(len(m)) if before is None else self.inside(*before)
            p = p * np.minimum(self.inside(m, P) / np.maximum(was, 1e-6), 1.0)
        return np.minimum(p, 1 - 1e-9)

    def lives(self, x: np.ndarray, dt: float) -> np.ndarray:
        """Probability (n,) of not dying in `dt` seconds, wherever the states (n, d) lie."""
        if not callable(self.probability):
            return np.full(len(x), float(self.probability) ** dt)
        p = np.asarray(self.probability(x), float)
        require_probability(probability=p)
        return np.broadcast_to(p**dt, (len(x),))

    def inside(self, m: np.ndarray, P: np.ndarray) -> np.ndarray:
        """Probability (n,) of lying in the region, its coordinates taken as independent."""
        return _inside(m, P, np.asarray(self.lower, float), np.asarray(self.upper, float))


@compiled
def _inside(m, P, lower, upper):
    p = np.ones(len(m))
    for i in range(len(m)):
        for a in range(len(lower)):
            scale = np.sqrt(2 * P[i, a, a])
            below, above = (lower[a] - m[i, a]) / scale, (upper[a] - m[i, a]) / scale
            if below > -6.0:  # beyond, erfc is 0 to the last digit, as for almost all objects
                p[i] *= 0.5 * (erfc(-above) - erfc(-below)) if above < 6.0 else 0.5 * erfc(below)
            elif above < 6.0:
                p[i] *= 0.5 * erfc(-above)
    return p


def as_survival(survival) -> Survival:
    """A `Survival` from itself, a probability per second, or a function of the states."""
    return survival if isinstance(survival, Survival) else Survival(survival)
