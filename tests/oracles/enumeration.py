"""The exact multi-object posterior by writing out every history of every object.

Nothing here is recursive over joint associations, ranked or pruned. Poisson form: a global hypothesis is a
partition of all measurements of all scans into tracks with at most one measurement a scan; its weight is the
product of the weights of its tracks, each the sum over "clutter", "object, dead by now" and "object, alive".
Labelled form: every label is not born, or lives through some scans, seen or missed in each; joint histories
use every measurement at most once, and those that agree on the labels alive at the end are one hypothesis.

The single-object maths is a `Linear` world, from joint Gaussians, or an `Extended` one, from the textbook
extended Kalman filter; with state-dependent detection and survival evaluated at predicted means.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from joint_gaussian import condition
from scipy.linalg import expm


@dataclass
class Linear:
    """One object in a linear-Gaussian world: F(dt), Q(dt), H, R."""

    F: Callable
    Q: Callable
    H: np.ndarray
    R: np.ndarray

    def state(self, prior, dts, seen):
        """Moments at the last scan given what was seen in each scan since `prior`."""
        return condition(prior, [(self.F(dt), self.Q(dt)) for dt in dts], self.H, self.R, seen)[:2]

    def log_likelihood(self, m, P, z):
        """log density of a measurement of a Gaussian."""
        return condition((m, P), [], self.H, self.R, [z])[2]


@dataclass
class Extended:
    """One object with a nonlinear sensor h, its derivative dh, and components of z that wrap."""

    F: Callable
    Q: Callable
    h: Callable
    dh: Callable
    R: np.ndarray
    wraps: Sequence[int] = ()

    def state(self, prior, dts, seen):
        m, P = prior
        for dt, z in zip((None, *dts), seen):
            if dt is not None:
                m, P = self.F(dt) @ m, self.F(dt) @ P @ self.F(dt).T + self.Q(dt)
            if z is not None:
                nu, H, S = self._innovation(m, P, z)
                K = P @ H.T @ np.linalg.inv(S)
                m, P = m + K @ nu, P - K @ S @ K.T
        return m, P

    def log_likelihood(self, m, P, z):
        nu, _, S = self._innovation(m, P, z)
        return -0.5 * (nu @ np.linalg.inv(S) @ nu + np.log(np.linalg.det(2 * np.pi * S)))

    def _innovation(self, m, P, z):
        H, nu = self.dh(m), np.asarray(z) - self.h(m)
        for i in self.wraps:
            nu[i] = (nu[i] + np.pi) % (2 * np.pi) - np.pi
        return nu, H, H @ P @ H.T + self.R


@dataclass
class World:
    """Everything that the posterior depends on.

    time:    of each scan.
    z:       measurements (m, d_z) of each scan; clutter: intensity at each (m,).
    births:  per scan a list of (expected number or probability, mean, covariance) just before it.
    uniform: (expected births before each scan, volume, start), start(z) -> mean, cov of an object seen at z;
             Poisson form only.
    occlusion: (hide, show) rates of objects that were detected, or labelled, to become hidden and visible.
    """

    time: Sequence[float]
    z: Sequence[np.ndarray]
    clutter: Sequence[np.ndarray]
    births: Sequence[list]
    single: object
    p_detect: Callable = lambda x: 0.9
    p_survive: Callable = lambda m, P, dt, before: 0.99**dt
    uniform: tuple | None = None
    occlusion: tuple | None = None
    dts: np.ndarray = field(init=False)

    def __post_init__(self):
        self.dts = np.diff(self.time)

    def aged(self, alive, m, P, dt, before):
        """Weights (2,) of "alive and visible" and "alive and hidden" after a step that ends at N(m, P)."""
        p = self.p_survive(m, P, dt, before)
        if self.occlusion is None:
            return p * alive
        hide, show = self.occlusion
        return p * alive @ expm(dt * np.array([[-hide, hide], [show, -show]]))

    def predicted(self, prior, first, seen):
        """Moments just before scan first + len(seen) of an object with a prior just before scan `first`."""
        return self.single.state(prior, self.dts[first : first + len(seen)], [*seen, None])

    def updated(self, prior, first, seen):
        """Moments just after the last scan of `seen`."""
        return self.single.state(prior, self.dts[first : first + len(seen) - 1], seen)

    def detected(self, m, P, z):
        """Weight p_D N(z) and moments after a detection of a Gaussian."""
        weight = self.p_detect(m) * np.exp(self.single.log_likelihood(m, P, z))
        return weight, *self.single.state((m, P), [], [z])

    def undetected(self, k):
        """Weights and moments (w, m, P) of the objects not seen before scan k, oldest births first."""
        out = []
        for first in range(k + 1):
            for w, *prior in self.births[first]:
                for s in range(first, k):
                    w *= 1 - self.p_detect(self.predicted(prior, first, [None] * (s - first))[0])
                    unseen = [None] * (s + 1 - first)
                    before = self.updated(prior, first, unseen)
                    w *= self.p_survive(*self.predicted(prior, first, unseen), self.dts[s], before)
                out.append((w, *self.predicted(prior, first, [None] * (k - first))))
        return out

    def unseen_uniform(self, k):
        """Expected objects of the uniform birth not seen before scan k."""
        rate, _, start = self.uniform
        centre, P = start(None)
        w = 0.0
        for s in range(k + 1):
            w += rate[s]
            if s < k:
                w *= (1 - self.p_detect(centre)) * self.p_survive(centre, P, self.dts[s], (centre, P))
        return w

    def indices(self):
        """For every scan, what an object can do in it: be missed, or cause a measurement."""
        return [(None, *range(len(z))) for z in self.z]


@dataclass
class Track:
    """A single track of the Poisson form: weight, existence probability, moments."""

    weight: float
    r: float
    m: np.ndarray
    P: np.ndarray


def poisson_posterior(world: World):
    """Tracks by pattern (index or None in every scan), and weights of the partitions into patterns."""
    patterns = [p for p in product(*world.indices()) if any(j is not None for j in p)]
    tracks = {p: _track(world, p) for p in patterns}
    measurements = [(k, j) for k, z in enumerate(world.z) for j in range(len(z))]
    weights = {}

    def extend(chosen, weight, used):
        free = [m for m in measurements if m not in used]
        if not free:
            weights[frozenset(chosen)] = weight
            return
        for p in patterns:
            mine = {(k, j) for k, j in enumerate(p) if j is not None}
            if min(mine) == free[0] and not mine & used:
                extend([*chosen, p], weight * tracks[p].weight, used | mine)

    extend([], 1.0, set())
    total = sum(weights.values())
    return tracks, {h: w / total for h, w in weights.items()}


def _track(world, pattern):
    first = next(k for k, j in enumerate(pattern) if j is not None)
    z = world.z[first][pattern[first]]
    parts = []
    for w, m, P in world.undetected(first):
        likelihood, *after = world.detected(m, P, z)
        parts.append((w * likelihood, *after))
    if world.uniform is not None:
        m, P = world.uniform[2](z)
        parts.append((world.unseen_uniform(first) / world.uniform[1] * world.p_detect(m), m, P))
    total = sum(w for w, _, _ in parts)
    # The filters keep one Gaussian of a first detection: the mixture's moments.
    m = sum(w * m for w, m, _ in parts) / total
    P = sum(w * (P + np.outer(mean - m, mean - m)) for w, mean, P in parts) / total
    prior, seen = (m, P), [None]
    alive, gone = np.array([total, 0.0]), world.clutter[first][pattern[first]]
    for k in range(first + 1, len(pattern)):
        m, P = world.predicted(prior, first, seen)
        last = world.updated(prior, first, seen)
        before, alive = alive.sum(), world.aged(alive, m, P, world.dts[k - 1], last)
        gone += before - alive.sum()
        if pattern[k] is None:
            alive = alive * [1 - world.p_detect(m), 1]
            seen.append(None)
        else:
            z = world.z[k][pattern[k]]
            alive, gone = alive * [world.detected(m, P, z)[0], 0], 0.0
            seen.append(z)
    m, P = world.single.state(prior, world.dts[first : first + len(seen) - 1], seen)
    weight = alive.sum() + gone
    return Track(weight, alive.sum() / weight, m, P)


def labelled_posterior(world: World):
    """Moments (m, P) by (label, pattern since birth), and weights of hypotheses, sets of such pairs.

    Labels count births from 0, in order.
    """
    states, lives = {}, []
    label = 0
    for first in range(len(world.z)):
        for r, *prior in world.births[first]:
            lives.append(_lives(world, label, first, r, prior, states))
            label += 1
    weights = {}

    def extend(i, alive, weight, used):
        if i == len(lives):
            key = frozenset(alive)
            weights[key] = weights.get(key, 0.0) + weight
            return
        for outcome, w, mine in lives[i]:
            if not mine & used:
                extend(i + 1, alive if outcome is None else [*alive, outcome], weight * w, used | mine)

    extend(0, [], 1.0, frozenset())
    total = sum(weights.values())
    return states, {h: w / total for h, w in weights.items()}


def _lives(world, label, first, r, prior, states):
    """Every life of a label: what it is at the end (None: dead or never born), weight, measurements used."""
    out = [(None, 1 - r, frozenset())]
    open_ = [((), np.array([r, 0.0]), frozenset())]  # alive just before scan `first`
    for k in range(first, len(world.z)):
        now = []
        for pattern, alive, used in open_:
            seen = [None if j is None else world.z[first + s][j] for s, j in enumerate(pattern)]
            m, P = world.predicted(prior, first, seen)
            if k > first:
                last = world.updated(prior, first, seen)
                before, alive = alive.sum(), world.aged(alive, m, P, world.dts[k - 1], last)
                out.append((None, before - alive.sum(), used))
            now.append(((*pattern, None), alive * [1 - world.p_detect(m), 1], used))
            for j, z in enumerate(world.z[k]):
                odds = world.detected(m, P, z)[0] / world.clutter[k][j]
                now.append(((*pattern, j), alive * [odds, 0], used | {(k, j)}))
        open_ = now
    for pattern, alive, used in open_:
        seen = [None if j is None else world.z[first + s][j] for s, j in enumerate(pattern)]
        states[label, pattern] = world.single.state(prior, world.dts[first : first + len(seen) - 1], seen)
        out.append(((label, pattern), alive.sum(), used))
    return out
