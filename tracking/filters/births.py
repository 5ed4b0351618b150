"""Births as Bernoulli densities, for the labelled filters."""

import numpy as np

from tracking.filters.seeds import Seeds
from tracking.filters.tracker import Models
from tracking.models.birth import GaussianBirth
from tracking.modes import taken

MAX_BIRTH_PROBABILITY = 0.99


def bernoulli_births(seeds: Seeds, models: Models, time: float, dt: float):
    """One Bernoulli a birth component: existence (b,), means (b, d), covariances (b, d, d) and modes.

    The existence probability is the expected number of births in the step, so short steps give the same
    expectation as one long step; at most one object is born of each component in a step.
    """
    birth = models.birth
    if isinstance(birth, GaussianBirth):
        r, m, P = birth.expected(time, models.birth_time(dt)), birth.mean, birth.cov
        modes = models.modes(m, P)
    else:
        r, m, P, modes = seeds.births(models, time, dt)
    born = r > 0
    return np.minimum(r[born], MAX_BIRTH_PROBABILITY), m[born], P[born], taken(modes, born)
