"""What is kept of the hypotheses of a cluster after a scan: prune, recycle, merge, split, and append.

Sources: Garcia-Fernandez, Williams, Granstrom, Svensson (TAES 2018), section IV (pruning); Williams (TAES
2015), section V (recycling).
"""

from typing import NamedTuple

import numpy as np

from tracking.association.components import join, labels, root
from tracking.association.gibbs import grouped
from tracking.compiled import compiled


class Output(NamedTuple):
    """Clusters put together so far: the lists of `tracking.filters.hypotheses.Associated`, and scratch."""

    track_offset: list
    local_offset: list
    row_offset: list
    log_w: list
    entry_offset: list
    entry: list
    option: list
    track: list
    recycled: list
    recycled_weight: list
    local_slot: np.ndarray  # option -> local hypothesis of this component


@compiled
def empty_output(n_options):
    """No clusters yet, of a scan with so many options."""
    none, nothing = [0 for _ in range(0)], [0.0 for _ in range(0)]
    return Output(
        [0],
        [0],
        [0],
        nothing,
        [0],
        none,
        none.copy(),
        none.copy(),
        none.copy(),
        nothing.copy(),
        np.full(n_options, -1, np.int64),
    )


@compiled
def finish(w, table, source, options, limits, out):
    """Prune, recycle and split the hypotheses of one component, and append what is left to the output."""
    _drop_unlikely(table, options.existence, limits.min_existence)
    keep = _survivors(w, table, options.existence, limits.recycle, out.recycled, out.recycled_weight)
    table, source = np.ascontiguousarray(table[:, keep]), source[keep]
    w, table = _merged(w, table)
    group = _independent(w, table, limits.split)
    for k in range(group.max() + 1 if len(group) > 0 else 0):
        mine = np.flatnonzero(group == k)
        part_w, part = (
            (w, table) if len(mine) == len(group) else _merged(w, np.ascontiguousarray(table[:, mine]))
        )
        _emit(part_w, part, source[mine], out)


@compiled
def _drop_unlikely(table, existence, threshold):
    for r in range(table.shape[0]):
        for i in range(table.shape[1]):
            o = table[r, i]
            if o >= 0 and (existence[o] < threshold or existence[o] == 0.0):
                table[r, i] = -1


@compiled
def _survivors(w, table, existence, threshold, recycled, recycled_weight):
    """Columns of tracks worth keeping; the others leave their options and weights in `recycled`."""
    keep = np.zeros(table.shape[1], np.bool_)
    for i in range(table.shape[1]):
        marginal = 0.0
        alive = False
        for r in range(len(w)):
            if table[r, i] >= 0:
                marginal += w[r] * existence[table[r, i]]
                alive = True
        keep[i] = alive and marginal >= threshold
        if alive and not keep[i]:
            first = len(recycled)  # one entry an option, however many rows have it
            for r in range(len(w)):
                o = table[r, i]
                if o < 0:
                    continue
                k = first
                while k < len(recycled) and recycled[k] != o:
                    k += 1
                if k == len(recycled):
                    recycled.append(o)
                    recycled_weight.append(0.0)
                recycled_weight[k] += w[r] * existence[o]
    return np.flatnonzero(keep)


@compiled
def _merged(w, table):
    """Equal rows made one, their weights added; largest first."""
    first, member = grouped(table)
    if len(first) < len(w):
        total = np.zeros(len(first))
        for r in range(len(w)):
            total[member[r]] += w[r]
        order = np.argsort(-total, kind="mergesort")
        return total[order], table[first[order]]
    return w, table


@compiled
def _independent(w, table, tolerance):
    """Group number of each track: tracks in different groups are independent up to `tolerance`."""
    b, n = table.shape
    if tolerance < 0 or n < 2:
        return np.zeros(n, np.int64)
    if tolerance >= 1:
        return np.arange(n)
    value = np.empty((b, n), np.int64)  # entries renumbered 0, 1, ... within each track
    marginal = np.zeros((b, n))
    count = np.zeros(n, np.int64)
    for i in range(n):
        for r in range(b):
            v = -1
            for s in range(r):
                if table[s, i] == table[r, i]:
                    v = value[s, i]
                    break
            if v < 0:
                v = count[i]
                count[i] += 1
            value[r, i] = v
            marginal[v, i] += w[r]
    parent = np.arange(n)
    for i in range(n):
        for k in range(i + 1, n):
            if count[i] == 1 or count[k] == 1 or root(parent, i) == root(parent, k):
                continue
            joint = np.zeros((count[i], count[k]))
            for r in range(b):
                joint[value[r, i], value[r, k]] += w[r]
            distance = 0.0
            for x in range(count[i]):
                for y in range(count[k]):
                    distance += 0.5 * abs(joint[x, y] - marginal[x, i] * marginal[y, k])
            if distance > tolerance:
                join(parent, i, k)
    return labels(parent)[0]


@compiled
def _emit(w, table, source, out):
    """Append one cluster; options become local hypotheses, numbered in order of first use."""
    for i in range(table.shape[1]):
        for r in range(len(w)):
            o = table[r, i]
            if o >= 0 and out.local_slot[o] < 0:
                out.local_slot[o] = len(out.option)
                out.option.append(o)
        out.local_offset.append(len(out.option))
        out.track.append(source[i])
    for r in range(len(w)):
        out.log_w.append(np.log(w[r]))
        for i in range(table.shape[1]):
            out.entry.append(out.local_slot[table[r, i]] if table[r, i] >= 0 else -1)
    out.track_offset.append(len(out.track))
    out.row_offset.append(len(out.log_w))
    out.entry_offset.append(len(out.entry))
