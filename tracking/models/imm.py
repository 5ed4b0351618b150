"""Several motion models for one object, among which it switches: for targets that manoeuvre.

    motion = IMM(
        [Embedded(ConstantVelocity(q=0.1), dim=5, rest_std=0.2), CoordinatedTurn(2.0, 0.1)],
        transition=[[0.95, 0.05], [0.05, 0.95]],
    )
    tracker = PMBM(motion, sensor, birth)        # as with any other motion model
    tracks.modes                                 # (n, 2) probability of each model

All models speak of one state, so that densities under them can be mixed. `Embedded` puts a model with fewer
entries into a larger state, and says what the others are under it; so constant velocity (4 entries) stands
beside a coordinated turn (5: turn rate) or constant acceleration (6). A turn and an acceleration together
need 7 entries, each embedded with the `entries` that are its own.

How densities under several models are predicted and updated: `tracking.modes`.

Sources: Blom, Bar-Shalom, "The interacting multiple model algorithm for systems with Markovian switching
coefficients" (TAC 1988); models of unequal states: Granstrom, Willett, Bar-Shalom, "Systematic approach to
IMM mixing for unequal dimension states" (TAES 2015), here with a distribution of the missing entries as a
part of the model, so that the mixing itself is the plain one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import ClassVar

import numpy as np
from scipy.linalg import expm, logm

from tracking.checks import require_positive, require_probability
from tracking.models.motion import Motion

MAX_PARTS = 100  # of one prediction, between which objects may switch
NEAR = 1e-9  # of a step, that a time may be off a whole number of them


@dataclass(frozen=True)
class Embedded:
    """A motion model of some entries of a larger state.

    The entries that it does not speak of are no part of what the object does under it: after any step they
    are N(0, rest_std^2), whatever they were. So an object that goes over from constant velocity to a turn
    begins with an unknown turn rate of that standard deviation.

    Args:
        motion:   model of fewer entries.
        dim:      entries of the larger state.
        rest_std: standard deviation of the other entries, a number or one each, > 0.
        entries:  where those of `motion` stand, the position first; None: at the front.
    """

    motion: Motion
    dim: int
    rest_std: float | Sequence[float] = 1.0
    entries: Sequence[int] | None = None

    def __post_init__(self):
        inner = getattr(self.motion, "dim", None)
        if inner is None or isinstance(self.motion, (Embedded, IMM)):
            raise ValueError(f"motion must be a plain motion model, got {type(self.motion).__name__}")
        entries = tuple(range(inner) if self.entries is None else (int(e) for e in self.entries))
        dims = self.motion.dims
        if len(set(entries)) != inner or entries[:dims] != tuple(range(dims)) or min(entries) < 0:
            raise ValueError(
                f"entries must be {inner} different places, the position at the front, got {entries}"
            )
        if int(self.dim) != self.dim or max(entries) >= self.dim:
            raise ValueError(
                f"dim must be a whole number above the last entry {max(entries)}, got {self.dim}"
            )
        require_positive(rest_std=self.rest_std)
        rest = self.dim - inner
        if np.shape(self.rest_std) not in ((), (rest,)):
            raise ValueError(f"rest_std must be one number, or one for each of {rest} other entries")
        object.__setattr__(self, "entries", entries)

    @property
    def dims(self) -> int:
        return self.motion.dims

    @property
    def linear(self) -> bool:
        return self.motion.linear

    def transition(self, x: np.ndarray, dt: float) -> np.ndarray:
        """States (n, dim) after `dt` seconds, the other entries at their mean."""
        if dt == 0:
            return np.array(x, float)
        moved = np.zeros(np.shape(x))
        moved[..., self._own] = self.motion.transition(np.asarray(x)[..., self._own], dt)
        return moved

    def jacobian(self, x: np.ndarray, dt: float) -> np.ndarray:
        """Derivative of `transition`: (dim, dim) of a linear model, else (n, dim, dim)."""
        inner = self.motion.jacobian(np.asarray(x)[..., self._own], dt)
        if dt == 0:
            return np.broadcast_to(np.eye(self.dim), (*inner.shape[:-2], self.dim, self.dim))
        return self._placed(inner)

    def noise(self, x: np.ndarray, dt: float) -> np.ndarray:
        """Process noise Q, (dim, dim), or (n, dim, dim) where that of the model depends on the state."""
        inner = self.motion.noise(None if x is None else np.asarray(x)[..., self._own], dt)
        Q = self._placed(inner)
        if dt > 0:
            rest = self._rest
            Q[..., rest, rest] = np.square(self.rest_std)
        return Q

    @cached_property
    def _own(self) -> np.ndarray:
        return np.array(self.entries)

    @cached_property
    def _rest(self) -> np.ndarray:
        return np.setdiff1d(np.arange(self.dim), self._own)

    def _placed(self, inner):
        out = np.zeros((*inner.shape[:-2], self.dim, self.dim))
        out[..., self._own[:, None], self._own] = inner
        return out


@dataclass(frozen=True)
class IMM:
    """Motion models among which each object switches as a Markov chain.

    A prediction over more than one `step` is made in as many, so that an object may switch within it.

    Args:
        models:     of one state: `dim` and `dims` are those of all, see `Embedded`.
        transition: (k, k) probability to be under model j a `step` after model i, [i, j]; rows sum to one.
        step:       time between which those hold, s. Over a part of it the chain is that of the same rates.
        initial:    (k,) probability of each model when an object appears; None: that of the chain in the long
                    run.
    """

    models: Sequence[Motion]
    transition: np.ndarray
    step: float = 1.0
    initial: np.ndarray | None = None
    linear: ClassVar[bool] = False

    def __post_init__(self):
        models = tuple(self.models)
        if not models or any(isinstance(m, IMM) or not hasattr(m, "dim") for m in models):
            raise ValueError(
                f"models must be one or more plain motion models, got {[type(m).__name__ for m in models]}"
            )
        sizes = [(m.dim, m.dims) for m in models]
        if len(set(sizes)) > 1:
            raise ValueError(
                f"models must have one state, got (entries, position coordinates) {sizes}. "
                f"Put the smaller ones into the larger state: Embedded(model, {max(sizes)[0]}, rest_std=...)"
            )
        k = len(models)
        T = np.array(self.transition, float)
        require_probability(transition=T)
        if T.shape != (k, k) or np.abs(T.sum(axis=1) - 1).max() > 1e-9:
            raise ValueError(
                f"transition must be ({k}, {k}), from row to column, each row with sum one, got {T.tolist()}"
            )
        require_positive(step=self.step)
        p = _long_run(T) if self.initial is None else np.array(self.initial, float)
        require_probability(initial=p)
        if p.shape != (k,) or abs(p.sum() - 1) > 1e-9:
            raise ValueError(f"initial must be {k} probabilities with sum one, got {p.tolist()}")
        object.__setattr__(self, "models", models)
        object.__setattr__(self, "transition", T)
        object.__setattr__(self, "initial", p)

    def __len__(self) -> int:
        return len(self.models)

    @property
    def dim(self) -> int:
        return self.models[0].dim

    @property
    def dims(self) -> int:
        return self.models[0].dims

    def chain(self, dt: float) -> np.ndarray:
        """Probability (k, k) to be under model j `dt` seconds after model i.

        Raises:
            ValueError: over no whole number of steps, by a chain that no rates of switching have.
        """
        steps = dt / self.step
        whole = round(steps)
        if abs(steps - whole) <= NEAR * max(whole, 1):
            return np.linalg.matrix_power(self.transition, whole)
        T = np.maximum(expm(steps * self._rates), 0.0)
        return T / T.sum(axis=1, keepdims=True)

    def parts(self, dt: float) -> tuple[float, ...]:
        """Times, s, in which a prediction over `dt` is made: steps, or in a long pause several at once."""
        steps = dt / self.step
        if len(self) == 1 or steps <= 1 + NEAR:
            return (dt,)
        each = ceil(ceil(steps - NEAR) / MAX_PARTS) * self.step
        count = int(dt / each + NEAR)
        rest = dt - count * each
        return (each,) * count + ((rest,) if rest > NEAR * self.step else ())

    @cached_property
    def _rates(self) -> np.ndarray:
        with np.errstate(all="ignore"):
            try:
                rates = np.asarray(logm(self.transition))
            except (ValueError, np.linalg.LinAlgError):
                rates = np.full(self.transition.shape, np.nan)
        off = rates - np.diag(np.diagonal(rates))
        if not np.isfinite(rates).all() or np.abs(np.imag(rates)).max() > 1e-9 or np.real(off).min() < -1e-9:
            raise ValueError(
                f"no rates of switching give the transition {self.transition.tolist()} in {self.step:g} s, "
                "so scans must be whole steps apart. Let models last longer (diagonal above 1/2)."
            )
        return np.real(rates)


def _long_run(T: np.ndarray) -> np.ndarray:
    """Probabilities (k,) that the chain keeps; of several, those it comes to from equal ones."""
    lazy = (T + np.eye(len(T))) / 2  # the same in the long run, and never in turn
    p = np.full(len(T), 1 / len(T)) @ np.linalg.matrix_power(lazy, 2**40)
    return p / p.sum()
