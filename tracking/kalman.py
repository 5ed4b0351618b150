"""Covariances of the Kalman filter for thousands of Gaussians at once, compiled for the size of the state.

The loops are plain; what makes them fast is that the sizes are constants of each compiled version, so that
the compiler unrolls them, and that one pass over the Gaussians does all while a matrix is in the cache.

Source: Bar-Shalom, Li, Kirubarajan, "Estimation with Applications to Tracking and Navigation" (2001),
eq. 5.2.3-5 (covariance of prediction), 5.2.3-13 (gain) and 5.2.3-18 (Joseph form).
"""

from functools import cache

import numpy as np

from tracking.compiled import compiled


@compiled
def transform(m, F):
    """F m of every mean (n, d), by one matrix (d, d)."""
    out = np.empty(m.shape)
    for i in range(len(m)):
        for a in range(m.shape[1]):
            s = 0.0
            for b in range(m.shape[1]):
                s += F[a, b] * m[i, b]
            out[i, a] = s
    return out


def propagate(P, F, Q):
    """Predicted covariances F P F' + Q, (n, d, d).

    Args:
        P: (n, d, d) covariances.
        F: (d, d) or (n, d, d) transition matrices.
        Q: (d, d) or (n, d, d) process noise.
    """
    d = P.shape[-1]
    return _propagation(d)(_stack(P), _stack(F), _stack(Q))


def gains(P, H, R):
    """What an update needs of n predicted Gaussians, whatever is measured.

    Args:
        P: (n, d, d) covariances.
        H: (d_z, d) or (n, d_z, d) measurement matrices.
        R: (d_z, d_z) or (n, d_z, d_z) measurement noise.
    Returns:
        S (n, d_z, d_z), S^-1, log det S (n,), the gain K (n, d, d_z), and the covariance after an update.
    Raises:
        ValueError: an S is not positive definite.
    """
    d, q = P.shape[-1], H.shape[-2]
    *found, bad = _gains(d, q)(_stack(P), _stack(H), _stack(R))
    if bad >= 0:
        raise ValueError(
            "the covariance of a predicted measurement must be finite and positive definite, got "
            f"{found[0][bad].tolist()}: is the measurement noise a covariance, and P = {P[bad].tolist()}?"
        )
    return tuple(found)


@compiled
def correct(out, m, K, nu):
    """out = m + K nu: the mean (d,) after a residual nu (d_z,)."""
    for a in range(len(m)):
        s = m[a]
        for b in range(len(nu)):
            s += K[a, b] * nu[b]
        out[a] = s


def _stack(A):
    """Contiguous matrices (k, a, b); k = 1 where one serves all."""
    return np.ascontiguousarray(A, float).reshape(-1, *np.shape(A)[-2:])


def _of_size(function, *sizes):
    """A function compiled for sizes, under a name of its own.

    On disk numba tells functions apart by their names alone: of two sizes that were compiled by two
    processes, one would run with what belongs to the other.
    """
    function.__qualname__ = "_".join(map(str, (function.__name__, *sizes)))
    return compiled(function)


@cache
def _propagation(d):
    def propagate(P, F, Q):
        out, FP = np.empty(P.shape), np.empty((d, d))
        for i in range(len(P)):
            Pi, Fi, Qi = P[i], F[min(i, len(F) - 1)], Q[min(i, len(Q) - 1)]
            for a in range(d):
                for b in range(d):
                    s = 0.0
                    for c in range(d):
                        s += Fi[a, c] * Pi[c, b]
                    FP[a, b] = s
            for a in range(d):
                for b in range(a + 1):
                    s = 0.5 * (Qi[a, b] + Qi[b, a])
                    for c in range(d):
                        s += FP[a, c] * Fi[b, c]
                    out[i, a, b] = out[i, b, a] = s
        return out

    return _of_size(propagate, d)


@cache
def _gains(d, q):
    def gains(P, H, R):
        n = len(P)
        S, S_inv, log_det = np.empty((n, q, q)), np.empty((n, q, q)), np.empty(n)
        K, post = np.empty((n, d, q)), np.empty((n, d, d))
        PHt, L, T, U = np.empty((d, q)), np.empty((q, q)), np.empty((d, d)), np.empty((d, q))
        for i in range(n):
            Pi, Hi, Ri = P[i], H[min(i, len(H) - 1)], R[min(i, len(R) - 1)]
            for a in range(d):
                for b in range(q):
                    s = 0.0
                    for c in range(d):
                        s += Pi[a, c] * Hi[b, c]
                    PHt[a, b] = s
            for a in range(q):
                for b in range(a + 1):
                    s = 0.5 * (Ri[a, b] + Ri[b, a])
                    for c in range(d):
                        s += Hi[a, c] * PHt[c, b]
                    S[i, a, b] = S[i, b, a] = s
            # S = L L'; then L^-1 in place, S^-1 = L^-T L^-1
            log_det[i] = 0.0
            for a in range(q):
                for b in range(a + 1):
                    s = S[i, a, b]
                    for c in range(b):
                        s -= L[a, c] * L[b, c]
                    if b < a:
                        L[a, b] = s * L[b, b]
                    elif not 0.0 < s < np.inf:
                        return S, S_inv, log_det, K, post, i
                    else:
                        log_det[i] += np.log(s)
                        L[a, a] = 1.0 / np.sqrt(s)
            for a in range(q):
                for b in range(a):
                    s = 0.0
                    for c in range(b, a):
                        s -= L[a, c] * L[c, b]
                    L[a, b] = s * L[a, a]
            for a in range(q):
                for b in range(a + 1):
                    s = 0.0
                    for c in range(a, q):
                        s += L[c, a] * L[c, b]
                    S_inv[i, a, b] = S_inv[i, b, a] = s
            for a in range(d):
                for b in range(q):
                    s = 0.0
                    for c in range(q):
                        s += PHt[a, c] * S_inv[i, c, b]
                    K[i, a, b] = s
            # Joseph form (I - K H) P (I - K H)' + K R K' = T - U K', with T = P - K H P, U = T H' - K R
            for a in range(d):
                for b in range(d):
                    s = Pi[a, b]
                    for c in range(q):
                        s -= K[i, a, c] * PHt[b, c]
                    T[a, b] = s
                for b in range(q):
                    s = 0.0
                    for c in range(d):
                        s += T[a, c] * Hi[b, c]
                    for c in range(q):
                        s -= K[i, a, c] * Ri[c, b]
                    U[a, b] = s
            for a in range(d):
                for b in range(a + 1):
                    s = T[a, b]
                    for c in range(q):
                        s -= U[a, c] * K[i, b, c]
                    post[i, a, b] = post[i, b, a] = s
        return S, S_inv, log_det, K, post, -1

    return _of_size(gains, d, q)
