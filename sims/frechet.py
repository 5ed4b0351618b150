"""Frechet distance of two sets of features: how far apart the Gaussians that fit them are.

Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule" (NeurIPS 2017), equation 6.
"""

import numpy as np
from scipy.linalg import sqrtm

EPS = 1e-6  # on the diagonal, so that features that never vary do no harm


def frechet(x: np.ndarray, y: np.ndarray) -> float:
    """Distance of features (n, d) and (m, d): |mean difference|^2 + tr(P + Q - 2 (P Q)^(1/2)).

    Raises:
        ValueError: fewer than two of a set, or other numbers of features.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(
            f"two sets of at least two with as many features are needed, got {x.shape}, {y.shape}"
        )
    x, y = x.astype(np.float64), y.astype(np.float64)
    noise = EPS * np.eye(x.shape[1])
    P, Q = (np.cov(part, rowvar=False).reshape(x.shape[1], -1) + noise for part in (x, y))
    root = sqrtm(P @ Q)
    gap = x.mean(0) - y.mean(0)
    return float(gap @ gap + np.trace(P) + np.trace(Q) - 2 * np.trace(np.real(root)))
