"""GOSPA between sets of trajectories: besides position errors, misses and false ones, it counts switches.

Source: Garcia-Fernandez, Rahmathullah, Svensson, "A metric on the space of finite sets of trajectories for
evaluation of multi-target tracking algorithms" (TSP 2020), the linear programming metric.

The program here is theirs after three steps that keep its optimum:

- Weights W_t(i, j) of real pairs only. A pair costs less than its two dummies by c^p - d^p when both
  trajectories exist closer than c, and as much as they do otherwise: we maximise that gain. So pairs that
  never come closer than c drop out, and the connected components of the others are solved apart.
- While a pair has no gain its weight may as well stay at its lowest: the total variation is no larger, and
  more room is left to other pairs. So a run of scans without gain needs one weight, not one a scan.
- When a switch costs at least what any pair gains in all, no weight changes: one assignment for all times.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment, linprog
from scipy.sparse import coo_array, vstack

from tracking.metrics.matching import close_trajectories, edge_components, groups
from tracking.metrics.sets import as_cutoff, as_trajectory_sets, existence
from tracking.tracks import Trajectories

INTEGRAL = 1e-6  # weights closer than this to whole numbers are whole numbers seen through the solver
PRECISE = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}  # the least it takes


class TrajectoryGospa(NamedTuple):
    """A trajectory GOSPA distance and its parts.

    total is the distance, in the unit of the states; localisation, missed, false and switch are at power p
    and add up to total_p = total ** p. All are sums over time; a mean per scan is total_p / T.
    """

    total: float
    localisation: float
    missed: float
    false: float
    switch: float
    total_p: float


def trajectory_gospa(
    truth: ArrayLike | Trajectories,
    estimate: ArrayLike | Trajectories,
    c: float = 10.0,
    p: float = 2.0,
    switch_penalty: float = 1.0,
) -> TrajectoryGospa:
    """Trajectory GOSPA (linear programming metric) between two sets of trajectories.

    Args:
        truth:          (n, T, d) true states, NaN where a trajectory does not exist (before, after, or in a
                        hole), or `Trajectories`. All entries count, in m; pass states[..., :2] to compare
                        positions.
        estimate:       (m, T, d) estimated states at the same times.
        c:              cut-off distance, m.
        p:              order >= 1.
        switch_penalty: gamma > 0, m: a truth that changes its estimate costs gamma^p, one that begins or
                        ceases to have one costs gamma^p / 2.
    Returns:
        TrajectoryGospa(total, localisation, missed, false, switch, total_p).
    Raises:
        ValueError: the sets differ in T or d or are not finite, or c, p, switch_penalty are out of range.
    Source: Garcia-Fernandez, Rahmathullah, Svensson (TSP 2020), the LP metric.
    """
    c, p = as_cutoff(c, p)
    switch_penalty, _ = as_cutoff(switch_penalty, p, "switch_penalty")
    x, y = as_trajectory_sets(truth, estimate)
    rows, cols, distance, near = close_trajectories(x, y, c)
    # In units of c^p, as the tolerances of the solver are absolute.
    gain = np.where(near, 1 - (distance / c) ** p, 0.0)
    change = (switch_penalty / c) ** p / 2
    weight = np.empty_like(gain)
    for pairs in groups(edge_components(rows, cols, (len(x), len(y)))[0]):
        weight[pairs] = _weights(gain[pairs], rows[pairs], cols[pairs], change)
    assigned = float(weight[near].sum())
    localisation = float((weight * distance**p).sum())
    missed = c**p / 2 * max(0.0, float(existence(x).sum()) - assigned)
    false = c**p / 2 * max(0.0, float(existence(y).sum()) - assigned)
    switch = switch_penalty**p / 2 * float(np.abs(np.diff(weight, axis=1)).sum())
    total_p = localisation + missed + false + switch
    return TrajectoryGospa(total_p ** (1 / p), localisation, missed, false, switch, total_p)


def _weights(gain, rows, cols, change):
    """Weights (k, T) in [0, 1] of the k pairs of one component, at most 1 in all for a row or a column.

    Args:
        gain:   (k, T) gain of a whole weight at each time, >= 0.
        rows, cols: (k,) ends of the pairs.
        change: cost of a change of a weight by one.
    """
    rows, cols = (np.unique(side, return_inverse=True)[1] for side in (rows, cols))
    total = gain.sum(axis=1)
    if len(gain) == 1 or change >= total.max():
        matrix = np.zeros((rows.max() + 1, cols.max() + 1))
        matrix[rows, cols] = total
        partner = np.full(len(matrix), -1)
        i, j = linear_sum_assignment(matrix, maximize=True)
        partner[i] = j
        return np.repeat((partner[rows] == cols)[:, None], gain.shape[1], axis=1).astype(float)
    weights = _solve(gain, rows, cols, change)
    whole = np.round(weights)
    return whole if np.abs(weights - whole).max() < INTEGRAL else weights


def _solve(gain, rows, cols, change):
    """The linear program of one component: as `_weights`, over weights of segments and their increments."""
    begins = np.ones(gain.shape, bool)
    begins[:, 1:] = (gain[:, 1:] > 0) | (gain[:, :-1] > 0)
    segment = np.cumsum(begins).reshape(gain.shape) - 1  # (k, T) the variable that is the weight there
    later = segment[:, 1:][begins[:, 1:]]  # segments with one before them, of the same pair
    segments, links = segment[-1, -1] + 1, len(later)

    # Total variation = 2 * sum of increments + first weight - last weight, increment u >= W - W_before, 0.
    cost = np.concatenate((-gain[begins], np.full(links, 2 * change)))
    cost[segment[:, 0]] += change
    cost[segment[:, -1]] -= change
    link = np.arange(links)
    columns = np.concatenate((later, later - 1, segments + link))
    entries = np.repeat((1.0, -1.0, -1.0), links)
    increments = coo_array((entries, (np.tile(link, 3), columns)), shape=(links, len(cost)))
    shares = [_shares(side, begins, segment, len(cost)) for side in (rows, cols)]
    limit = np.concatenate((np.zeros(links), *(np.ones(share.shape[0]) for share in shares)))
    # The dual simplex method is 3 to 15 times faster here than the interior point, and ends in a vertex.
    constraints = vstack((increments, *shares))
    result = linprog(cost, constraints, limit, bounds=(0, 1), method="highs-ds", options=PRECISE)
    if not result.success:
        raise RuntimeError(f"the linear program of the trajectory metric was not solved: {result.message}")
    return result.x[:segments][segment]


def _shares(side, begins, segment, variables):
    """Rows that sum the weights of all pairs of one truth (or estimate) at one time, one row per change.

    Args:
        side:    (k,) the truth (or estimate) of each pair.
        begins:  (k, T) where a segment begins; between, a row would only repeat itself.
        segment: (k, T) variables.
    """
    changes = np.zeros((side.max() + 1, begins.shape[1]), bool)
    np.logical_or.at(changes, side, begins)
    changes[np.bincount(side) == 1] = False  # alone, its bound of 1 says the same
    row = (np.cumsum(changes) - 1).reshape(changes.shape)
    used = changes[side]
    ends = row[side][used], segment[used]
    return coo_array((np.ones(len(ends[0])), ends), shape=(np.count_nonzero(changes), variables))
