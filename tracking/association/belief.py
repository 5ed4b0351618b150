"""Marginal association probabilities by loopy belief propagation.

Cost O(pairs) an iteration, no hypotheses; it always converges (Williams, Lau 2014, section V).

Source: Williams, Lau, "Approximate evaluation of marginal association probabilities with belief
propagation" (TAES 2014), eq. 17-21.
"""

from typing import NamedTuple

import numpy as np

from tracking.compiled import compiled


class Marginals(NamedTuple):
    """pair (e,) probability of each pair; none (n,) of no measurement; unassigned (m,) of no row."""

    pair: np.ndarray
    none: np.ndarray
    unassigned: np.ndarray


def belief(offset, col, weight, m: int, tolerance: float = 1e-6, max_iterations: int = 1000) -> Marginals:
    """Marginals of the association of n rows to m columns, each used at most once.

    Args:
        offset: (n + 1,) row i owns the pairs offset[i]:offset[i + 1].
        col:    (e,) column of each pair.
        weight: (e,) >= 0 weight of the pair relative to "row has none" times "column is unassigned".
        m:      number of columns.
        tolerance: stop when no message moves by more than this factor.
    """
    return Marginals(
        *propagate(
            np.asarray(offset), np.asarray(col), np.asarray(weight, float), m, tolerance, max_iterations
        )
    )


@compiled
def propagate(offset, col, weight, m, tolerance, max_iterations):
    """`belief` for callers in compiled code: pair, none, unassigned."""
    n, e = len(offset) - 1, len(col)
    to_col, to_row = np.empty(e), np.ones(e)  # mu (row -> column) and nu (column -> row)
    others = np.empty(e)
    for _ in range(max_iterations):
        received = np.ones(m)
        for i in range(n):
            # 1 + the sum over the other pairs, from both sides: a difference loses it beside a large term.
            before = 1.0
            for k in range(offset[i], offset[i + 1]):
                others[k] = before
                before += weight[k] * to_row[k]
            after = 0.0
            for k in range(offset[i + 1] - 1, offset[i] - 1, -1):
                to_col[k] = weight[k] / (others[k] + after)
                after += weight[k] * to_row[k]
                received[col[k]] += to_col[k]
        change = 0.0
        for k in range(e):
            message = 1.0 / max(received[col[k]] - to_col[k], 1.0)
            change = max(change, abs(np.log(message / to_row[k])))
            to_row[k] = message
        if change < tolerance:
            break
    none, pair = np.ones(n), np.empty(e)
    for i in range(n):
        for k in range(offset[i], offset[i + 1]):
            none[i] += weight[k] * to_row[k]
        none[i] = 1.0 / none[i]
        for k in range(offset[i], offset[i + 1]):
            pair[k] = weight[k] * to_row[k] * none[i]
    received = np.ones(m)
    for k in range(e):
        received[col[k]] += to_col[k]
    return pair, none, 1.0 / received
