"""The inner parts as one writes them first, over SciPy and NumPy: what `sims.bench.kernels` compares with."""

from heapq import heappop, heappush
from itertools import count

import numpy as np
from scipy.optimize import linear_sum_assignment


def k_best(cost: np.ndarray, k: int) -> np.ndarray:
    """Costs of the k cheapest assignments of the rows of (n, m), each child solved from scratch.

    Source: Murty (Oper. Res. 1968).
    """
    heap: list[tuple[float, int, np.ndarray, np.ndarray, int]] = []
    number = count()  # decides between equal costs
    _push(heap, cost, 0, number)
    found: list[float] = []
    while heap and len(found) < k:
        total, _, table, column, first = heappop(heap)
        found.append(total)
        for row in range(first, len(cost)):
            child = table.copy()
            child[row, column[row]] = np.inf
            _push(heap, child, row, number)
            keep = table[row, column[row]]
            table = table.copy()
            table[row] = np.inf  # rows before are fixed
            table[:, column[row]] = np.inf
            table[row, column[row]] = keep
    return np.array(found)


def _push(heap, table, first, number):
    try:
        row, column = linear_sum_assignment(table)
    except ValueError:  # no assignment is left
        return
    heappush(heap, (float(table[row, column].sum()), next(number), table, column, first))


def kalman(tracks):
    """Kalman prediction by a second and update, `np.einsum` and `np.linalg.inv`.

    Args:
        tracks: `sims.bench.kernels.Tracks`.
    """
    F, H, Q, R = np.eye(4), np.eye(2, 4), np.zeros((4, 4)), 25.0 * np.eye(2)
    F[0, 2] = F[1, 3] = 1.0
    Q[:2, :2], Q[2:, 2:] = 0.25 / 3 * np.eye(2), 0.25 * np.eye(2)
    Q[:2, 2:] = Q[2:, :2] = 0.25 / 2 * np.eye(2)
    m = np.einsum("ij,nj->ni", F, tracks.m)
    P = np.einsum("ij,njk,lk->nil", F, tracks.P, F) + Q
    S = np.einsum("ij,njk,lk->nil", H, P, H) + R
    K = np.einsum("nij,kj,nkl->nil", P, H, np.linalg.inv(S))
    m = m + np.einsum("nij,nj->ni", K, tracks.z[: len(m)] - np.einsum("ij,nj->ni", H, m))
    return m, P - np.einsum("nij,jk,nkl->nil", K, H, P)


def belief(case, tolerance: float = 1e-6, max_iterations: int = 1000) -> np.ndarray:
    """Probability of each pair (e,) by loopy belief propagation, vectorised over pairs.

    Args:
        case:      offsets, rows, columns and weights of the pairs, and number of columns.
        tolerance: as of `tracking.association.belief`.
        max_iterations: likewise.
    Source: Williams, Lau (TAES 2014), eq. 17-21.
    """
    offset, row, col, weight, m = case
    n, to_row = len(offset) - 1, np.ones(len(col))
    for _ in range(max_iterations):
        product = weight * to_row
        to_col = weight / (1 + np.bincount(row, product, n)[row] - product)
        message = 1 / (1 + np.bincount(col, to_col, m)[col] - to_col)
        change = np.abs(np.log(message / to_row)).max(initial=0.0)
        to_row = message
        if change < tolerance:
            break
    product = weight * to_row
    return product / (1 + np.bincount(row, product, n)[row])
