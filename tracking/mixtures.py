"""Moments of Gaussian mixtures with a component for each motion model, compiled.

Source: Bar-Shalom, Li, Kirubarajan, "Estimation with Applications to Tracking and Navigation" (2001), section
11.6.6, steps 1, 2 and 5 of the interacting multiple model estimator.
"""

import numpy as np

from tracking.compiled import compiled


@compiled
def combine(p, m, P):
    """Moments (n, d), (n, d, d) of mixtures: weights p (n, k), means (n, k, d), covariances P."""
    n, _, d = m.shape
    mean, cov = np.zeros((n, d)), np.zeros((n, d, d))
    for i in range(n):
        _moments(p[i], m[i], P[i], mean[i], cov[i])
    return mean, cov


@compiled
def _moments(p, m, P, mean, cov):
    """Moments of a mixture with weights p (k,) of sum one, into `mean` (d,) and `cov` (d, d), both zero."""
    k, d = m.shape
    for j in range(k):
        for a in range(d):
            mean[a] += p[j] * m[j, a]
    for j in range(k):
        if p[j] == 0.0:
            continue
        for a in range(d):
            for b in range(a + 1):
                cov[a, b] += p[j] * (P[j, a, b] + (m[j, a] - mean[a]) * (m[j, b] - mean[b]))
    for a in range(d):
        for b in range(a):
            cov[b, a] = cov[a, b]


@compiled
def mix(p, m, P, chain):
    """The mixtures that each model begins with, after a chain (k, k) from row to column: p, m and P anew."""
    n, k, d = m.shape
    out_p, out_m, out_P = np.zeros((n, k)), np.zeros((n, k, d)), np.zeros((n, k, d, d))
    share = np.empty(k)
    for i in range(n):
        for j in range(k):
            for a in range(k):
                out_p[i, j] += p[i, a] * chain[a, j]
            for a in range(k):
                share[a] = p[i, a] * chain[a, j] / max(out_p[i, j], 1e-300)
            if out_p[i, j] == 0.0:  # nobody is under the model: it keeps what it was
                share[j] = 1.0
            _moments(share, m[i], P[i], out_m[i, j], out_P[i, j])
    return out_p, out_m, out_P


@compiled
def merge(w, order, starts, p, m, P):
    """Mixtures merged model by model: group g has the members order[starts[g]:starts[g + 1]] of weights w."""
    n, k, d = len(starts) - 1, m.shape[1], m.shape[2]
    out_p, out_m, out_P = np.zeros((n, k)), np.zeros((n, k, d)), np.zeros((n, k, d, d))
    for g in range(n):
        members = order[starts[g] : starts[g + 1]]
        if len(members) == 1:
            out_p[g], out_m[g], out_P[g] = p[members[0]], m[members[0]], P[members[0]]
            continue
        total = w[members].sum()
        if not total > 0.0:
            continue
        for j in range(k):
            share = w[members] * p[members, j]
            weight = share.sum()
            out_p[g, j] = weight / total
            share = share / weight if weight > 0.0 else w[members] / total
            _moments(share, m[members, j], P[members, j], out_m[g, j], out_P[g, j])
    return out_p, out_m, out_P
