"""Multi-Bernoulli densities: tracks with an existence probability and a Gaussian mixture each.

The update keeps only marginals: every track is weighed over all associations, then taken as independent of
the others again. This one update serves the LMB filter and the Poisson multi-Bernoulli (PMB) filter, which
differ only in where new tracks come from.

Sources: Reuter, Vo, Vo, Dietmayer (TSP 2014), eq. 27-33 (LMB); Williams (TAES 2015), section IV.B (PMB).
"""

from dataclasses import dataclass, replace

import numpy as np

from tracking.association.belief import belief
from tracking.association.exhaustive import enumerate_best
from tracking.compiled import compiled
from tracking.filters.estimate import expected_distance, poisson_binomial
from tracking.filters.local import Locals, outcomes
from tracking.filters.poisson import FirstDetections, merge_near
from tracking.filters.tracker import Models, Scan
from tracking.modes import Modes, merged, taken, together
from tracking.tracks import Tracks

TINY = 1e-300  # keeps shares of nothing finite


@dataclass(frozen=True)
class Bernoullis:
    """Independent tracks.

    r:         (t,) existence probabilities.
    label:     (t,) labels.
    offset:    (t + 1,) track i owns the components offset[i]:offset[i + 1].
    component: Gaussians; their `r` are the weights in their track, which sum to one.
    """

    r: np.ndarray
    label: np.ndarray
    offset: np.ndarray
    component: Locals

    def __len__(self) -> int:
        return len(self.r)

    @classmethod
    def empty(cls, dim: int, modes: Modes | None = None) -> "Bernoullis":
        """No tracks, in a state space of `dim` entries; `modes` are those of none."""
        return cls(np.zeros(0), np.zeros(0, np.int64), np.zeros(1, np.int64), Locals.empty(dim, modes))

    @property
    def track(self) -> np.ndarray:
        """Track (l,) of every component."""
        return np.repeat(np.arange(len(self)), np.diff(self.offset))

    def add(self, r, label, m, P, modes: Modes | None = None) -> "Bernoullis":
        """These and tracks with one Gaussian each."""
        return Bernoullis(
            np.concatenate((self.r, r)),
            np.concatenate((self.label, label)),
            np.concatenate((self.offset, self.offset[-1] + 1 + np.arange(len(r)))),
            self.component.add(np.ones(len(r)), m, P, None, modes),
        )

    def predict(self, models: Models, dt: float) -> "Bernoullis":
        """Survive and move for `dt` seconds."""
        moved = self.component.predict(models, dt)
        alive = np.bincount(self.track, moved.r, minlength=len(self))
        weight = moved.r / np.maximum(alive, TINY)[self.track]
        return replace(self, r=self.r * alive, component=replace(moved, r=weight))


def update(tracks: Bernoullis, scan: Scan, first: FirstDetections, models: Models, config, next_label: int):
    """Marginal posterior of every track, and of the tracks that the measurements start.

    Args:
        first:      what each measurement says as a first detection; log_e = -inf: it starts no track.
        next_label: label of the track that measurement 0 starts.
    Returns:
        `Bernoullis` after the scan, not reduced, and the probability (m,) that an old track explains each
        measurement.
    """
    m = len(scan.z)
    out = outcomes(tracks.component, scan, models.linearisation, config.gate, config.max_gated)
    w, track, row, col = tracks.component.r, tracks.track, out.pairs.row, out.pairs.col
    p_missed = w * (1 - out.p_detect)
    p_detect = np.bincount(track, w * out.p_detect, minlength=len(tracks))  # of the track as a whole
    log_rho = np.logaddexp(first.log_e, np.log(scan.clutter))

    # Components of a track that gate the same measurement are one edge of the association problem.
    part = (w * out.p_detect)[row] * np.exp(out.log_likelihood - log_rho[col])
    edge, edge_of = np.unique(track[row] * max(m, 1) + col, return_inverse=True)
    weight = np.bincount(edge_of, part, minlength=len(edge))
    edge_track, edge_col = edge // max(m, 1), edge % max(m, 1)
    odds = (tracks.r / (1 - tracks.r * p_detect))[edge_track]
    offset = np.searchsorted(edge_track, np.arange(len(tracks) + 1))
    if config.association == "belief":
        p = belief(offset, edge_col, weight * odds, m)
    else:
        most = (config.max_hypotheses, config.max_gap, config.max_cluster)
        p = enumerate_best(offset, edge_col, weight * odds, m, *most)

    # What remains of a missed track, then one component for each of its detections, then the new tracks.
    r_missed = p.none * tracks.r * (1 - p_detect) / (1 - tracks.r * p_detect)
    share = p_missed / np.maximum(1 - p_detect, TINY)[track]
    mean, cov, modes = out.detected(np.arange(len(row)))
    r_new = p.unassigned * np.exp(first.log_e - log_rho)
    new = np.flatnonzero(r_new > 0)
    owner = np.concatenate((track, track[row], len(tracks) + np.arange(len(new))))
    mass = np.concatenate(
        (r_missed[track] * share, p.pair[edge_of] * part / np.maximum(weight, TINY)[edge_of], r_new[new])
    )
    component = Locals(
        mass,
        np.concatenate((tracks.component.m, mean, first.mean[new])),
        np.concatenate((tracks.component.P, cov, first.cov[new])),
        np.concatenate((np.full(len(track), -1), col, new)),
        np.concatenate((out.visible, np.ones(len(col) + len(new)))),
        together(tracks.component.modes, modes, taken(first.modes, new)),
    )
    label = np.concatenate((tracks.label, next_label + new))
    return _gathered(owner, label, component), 1 - p.unassigned


def _gathered(owner, label, component: Locals) -> Bernoullis:
    """Tracks from components in any order, with their share of the existence as `component.r`."""
    order = np.argsort(owner, kind="stable")
    r = np.bincount(owner, component.r, minlength=len(label))
    offset = np.searchsorted(owner[order], np.arange(len(label) + 1))
    weight = component.r / np.maximum(r, TINY)[owner]
    return Bernoullis(np.minimum(r, 1.0), label, offset, replace(component, r=weight).take(order))


def reduce(tracks: Bernoullis, min_existence: float, min_weight: float, merge: float, max_components: int):
    """Drop unlikely tracks, and prune, merge and cap the components of the others.

    Args:
        merge: squared Mahalanobis distance below which components of a track become one; inf: each track
               becomes the one Gaussian of its moments.
    Returns:
        The reduced `Bernoullis`, and the ones that were dropped.
    """
    keep = tracks.r >= min_existence
    kept, dropped = _take(tracks, np.flatnonzero(keep)), _take(tracks, np.flatnonzero(~keep))
    c = kept.component
    offset, place, r, m, P, source, visible = _reduce(
        kept.offset, c.r, c.m, c.P, c.source, c.visible, min_weight, float(merge), max_components
    )
    modes = merged(c.r, place, int(offset[-1]), c.modes)
    component = Locals(r, m, P, source, visible, modes)
    return Bernoullis(kept.r, kept.label, offset, component), dropped


def _take(tracks: Bernoullis, which: np.ndarray) -> Bernoullis:
    mine = np.isin(tracks.track, which)
    offset = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.diff(tracks.offset)[which])))
    return Bernoullis(tracks.r[which], tracks.label[which], offset, tracks.component.take(mine))


@compiled
def _reduce(offset, w, m, P, source, visible, min_weight, merge, max_components):
    n = len(offset) - 1
    out_offset = np.zeros(n + 1, np.int64)
    out_w, out_m, out_P = np.empty_like(w), np.empty_like(m), np.empty_like(P)
    out_source, out_visible = np.empty_like(source), np.empty_like(w)
    place = np.full(len(w), -1, np.int64)  # component that each becomes a part of
    count = 0
    for i in range(n):
        a, b = offset[i], offset[i + 1]
        heavy = a + np.flatnonzero((w[a:b] >= min(min_weight, w[a:b].max())) & (w[a:b] > 0))
        order = np.argsort(-w[heavy], kind="mergesort")
        mw, mm, mP, group = merge_near(w[heavy], m[heavy], P[heavy], order, min(merge, 1e300))
        best = np.argsort(-mw, kind="mergesort")[:max_components]
        total = mw[best].sum()
        latest = source[heavy[order[0]]]
        seen = np.zeros(len(mw))
        for k in range(len(heavy)):
            seen[group[k]] += w[heavy[k]] * visible[heavy[k]] / mw[group[k]]
        slot = np.full(len(mw), -1, np.int64)
        for k in best:
            slot[k] = count
            out_visible[count] = min(seen[k], 1.0)
            out_w[count], out_m[count], out_P[count] = mw[k] / total, mm[k], mP[k]
            out_source[count] = latest
            count += 1
        for k in range(len(heavy)):
            place[heavy[k]] = slot[group[k]]
        out_offset[i + 1] = count
    return (
        out_offset,
        place,
        out_w[:count],
        out_m[:count],
        out_P[:count],
        out_source[:count],
        out_visible[:count],
    )


def extract(tracks: Bernoullis, config, time: float) -> Tracks:
    """Report tracks by `config.estimator`: "cardinality", "marginal" or "gospa".

    "cardinality" reports the n* likeliest tracks, n* the most probable number (Reuter et al. 2014, section
    IV.C); "marginal" those with r of at least `config.threshold`; "gospa" those whose report lowers the
    expected GOSPA error, as in `tracking.filters.estimate`.
    """
    if config.estimator == "cardinality":
        number = int(np.argmax(poisson_binomial(tracks.r)))
        chosen = np.sort(np.argsort(-tracks.r, kind="stable")[:number])
    elif config.estimator == "marginal":
        chosen = np.flatnonzero(tracks.r >= config.threshold)
    else:
        chosen = np.arange(len(tracks))
    estimates = [_moments(tracks, i) for i in chosen]
    d = tracks.component.m.shape[1]
    mean = np.array([e[0] for e in estimates]).reshape(-1, d)
    cov = np.array([e[1] for e in estimates]).reshape(-1, d, d)
    if config.estimator == "gospa":
        limit = config.gospa_c**config.gospa_p
        cost = np.minimum(expected_distance(cov, config.gospa_dims, config.gospa_p), limit)
        worth = tracks.r * (limit - cost) > limit / 2
        chosen, mean, cov = chosen[worth], mean[worth], cov[worth]
    source = tracks.component.source[tracks.offset[chosen]]  # the heaviest component comes first
    modes = _models(tracks)
    told = None if modes is None else modes[chosen]
    return Tracks(time, tracks.label[chosen], mean, cov, tracks.r[chosen], source, told)


def _models(tracks):
    """Probability (t, k) of each motion model of the tracks, None with a single model."""
    component = tracks.component
    if component.modes is None:
        return None
    p = np.zeros((len(tracks), component.modes.p.shape[1]))
    np.add.at(p, tracks.track, component.r[:, None] * component.modes.p)
    return p


def _moments(tracks, i):
    part = slice(tracks.offset[i], tracks.offset[i + 1])
    w, m, P = tracks.component.r[part], tracks.component.m[part], tracks.component.P[part]
    mean = w @ m
    e = m - mean
    return mean, np.tensordot(w, P, 1) + (w * e.T) @ e
