"""The times at which a teacher's trajectory is visited, and the visit.

Source: Tang et al., "Trajectory-Backward Consistency Model" (arXiv 2511.20410) and its code: a reference
route that a flow shift bends towards noise, jittered anew at every step.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapt.diffusion.sampling import Solver
from adapt.diffusion.trigflow import NOISE, Velocity

FIRST = 1e-3  # of flow time: where a route ends


def reference(points: int = 16, shift: float = 2.5, times: int = 2) -> np.ndarray:
    """(points,) times from pi/2 down to nearly 0.

    Args:
        points: at least 2.
        shift:  of flow time s: shift s / (1 + (shift - 1) s); 1: none.
        times:  how often: 2 in the released code, which bends what it has bent.
    """
    if points < 2 or not shift > 0 or times < 0:
        raise ValueError(f"a route needs at least 2 points and a shift above 0, got {points} and {shift}")

    def bent(s: np.ndarray) -> np.ndarray:
        return shift * s / (1 + (shift - 1) * s)

    s = np.linspace(1.0, bent(np.array(FIRST)) if times else FIRST, points)
    for _ in range(times - 1 if times else 0):
        s = bent(s)
    return np.append(NOISE, np.arctan2(s[1:], 1 - s[1:]))


def jittered(route: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A route with the same start and each other time anywhere between it and the one before."""
    return np.append(route[0], rng.uniform(route[1:], route[:-1]))


class Visits(NamedTuple):
    """States x (k, b, ...) of trajectories, times t (k,), velocities v (k, b, ...), and ends (b, ...)."""

    x: Tensor
    t: Tensor
    v: Tensor
    end: Tensor


@torch.no_grad()
def rollout(teacher: Velocity, x: Tensor, route: np.ndarray) -> Visits:
    """The trajectories from noise x (b, ...) along a route (k,), one call of the teacher for each visit."""
    times = torch.from_numpy(np.append(route, 0.0)).to(x)
    states, velocities, solver = [], [], Solver()
    for t, u in pairwise(times):
        v = teacher(x, t.expand(len(x)))
        states.append(x)
        velocities.append(v)
        x = solver.step(x, v, t, u)
    return Visits(torch.stack(states), times[:-1], torch.stack(velocities), x)


Accept = Callable[[Tensor], Tensor]  # ends (b, ...) -> whether each trajectory is one to learn from (b,)


def points_of(visits: Visits, accept: Accept | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Training points x (n, ...), t (n,), dx/dt (n, ...), time by time; pure noise is of no use."""
    x, v = visits.x[1:], visits.v[1:]
    if accept is not None:
        keep = accept(visits.end)
        x, v = x[:, keep], v[:, keep]
    t = visits.t[1:, None].expand(x.shape[:2])
    return x.flatten(0, 1), t.flatten(), v.flatten(0, 1)
