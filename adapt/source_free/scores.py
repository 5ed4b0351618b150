"""Label-free scores of predictions (n, C), whose rows are probabilities, and of features (n, D).

None of them knows whether predictions are right. All reward predictions that are sure; `information` and
`neighbourhood` also ask that they do not collapse to a few classes.
"""

import math
import warnings

import numpy as np
import torch
from torch import Tensor

EPS = 1e-12
ROWS = 512  # at once, of a matrix of all pairs
MOST = 4000  # samples of which all pairs are looked at
GROUPED = 2000  # samples that are grouped, or GROUPED_EACH for each group if that is more
GROUPED_EACH = 10


def entropy(p: Tensor) -> Tensor:
    """(n,) entropy of each row, nats."""
    return -(p * p.clamp(min=EPS).log()).sum(1)


def information(p: Tensor) -> float:
    """Mutual information of samples and classes, nats: entropy of the mean minus mean entropy.

    More is better. Source: Krause, Perona, Gomes (NIPS 2010); the loss of SHOT.
    """
    return float(entropy(p.mean(0, keepdim=True)) - entropy(p).mean())


def effective_classes(p: Tensor) -> float:
    """How many classes are said, 1 to C: exponential of the entropy of the histogram of predictions."""
    counts = torch.bincount(p.argmax(1), minlength=p.shape[1]).double()
    return math.exp(float(entropy((counts / counts.sum())[None])))


def soft_neighbourhood_density(p: Tensor, temperature: float = 0.05) -> float:
    """Mean entropy of each sample's similarities to the others, nats. More is better.

    Of more than MOST samples, evenly many are looked at. It is also high when all predictions are alike:
    never use it without `effective_classes`.

    Source: Saito et al. (ICCV 2021), SND.
    """
    if len(p) < 2:
        return 0.0
    unit = torch.nn.functional.normalize(thinned(p), dim=1)
    total = 0.0
    for start in range(0, len(unit), ROWS):
        near = unit[start : start + ROWS] @ unit.T / temperature
        row = torch.arange(len(near), device=p.device)
        near[row, row + start] = -torch.inf
        total += float(entropy(near.softmax(1)).sum())
    return total / len(unit)


def gap_statistic(z: Tensor, k: int) -> float:
    """How much closer to the middles of k groups features (n, D) are than noise of the same covariance.

    Logarithm of the mean squares within groups of k-means, of three draws of noise minus that of the
    features: 0 where there are no groups. The same features always get the same number.

    Source: Tibshirani, Walther, Hastie (J. R. Stat. Soc. B 2001), the gap statistic, with the normal
        distribution of Liu et al. (JASA 2008), SigClust, for their box.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    x = thinned(z, max(GROUPED, GROUPED_EACH * k)).cpu().double().numpy()
    x = x - x.mean(0)
    rng = np.random.default_rng(0)

    def within(y: np.ndarray) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of samples that are there several times
            found = KMeans(k, n_init=2, random_state=0).fit(y)
        return float(np.log(found.inertia_ + EPS) - np.log((y**2).sum() + EPS))

    def like() -> np.ndarray:  # of x's covariance but for a factor, of which `within` knows nothing
        rows = (min(ROWS, len(x) - start) for start in range(0, len(x), ROWS))
        return np.concatenate([rng.standard_normal((n, len(x))) @ x for n in rows])

    noise = [within(like()) for _ in range(3)]
    return float(np.mean(noise)) - within(x)


def agreement(p: Tensor, q: Tensor) -> float:
    """Share of samples of which two sets of predictions say the same."""
    return float((p.argmax(1) == q.argmax(1)).double().mean())


def thinned(p: Tensor, most: int = MOST) -> Tensor:
    """At most so many rows, evenly."""
    return p if len(p) <= most else p[torch.linspace(0, len(p) - 1, most, device=p.device).long()]
