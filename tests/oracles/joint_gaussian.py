"""A linear-Gaussian state given its measurements, from one joint Gaussian: no recursion, gain or update."""

import numpy as np


def condition(prior, steps, H, R, seen):
    """Moments of the last state given the measurements, and the log density of the measurements.

    Args:
        prior: mean (d,) and covariance (d, d) of the first state.
        steps: (F, Q) from each state to the next.
        H, R:  sensor.
        seen:  measurement (d_z,) or None of every state; one more than `steps`.
    """
    m, P = (np.asarray(a, float) for a in prior)
    d, n = len(m), len(seen)
    mean, cov = np.zeros((n, d)), np.zeros((n, d, n, d))
    mean[0], cov[0, :, 0] = m, P
    for k, (F, Q) in enumerate(steps, 1):
        mean[k] = F @ mean[k - 1]
        for i in range(k):
            cov[k, :, i] = F @ cov[k - 1, :, i]
            cov[i, :, k] = cov[k, :, i].T
        cov[k, :, k] = F @ cov[k - 1, :, k - 1] @ F.T + Q
    at = [k for k in range(n) if seen[k] is not None]
    if not at:
        return mean[-1], cov[-1, :, -1], 0.0
    pick = np.zeros((len(at), len(H), n, d))  # all measurements as one matrix times all states
    for row, k in enumerate(at):
        pick[row, :, k] = H
    pick = pick.reshape(-1, n * d)
    C = cov.reshape(n * d, n * d)
    S = pick @ C @ pick.T + np.kron(np.eye(len(at)), R)
    nu = np.concatenate([np.atleast_1d(seen[k]) for k in at]) - pick @ mean.ravel()
    cross = C[-d:] @ pick.T
    log_density = -0.5 * (nu @ np.linalg.solve(S, nu) + np.linalg.slogdet(2 * np.pi * S)[1])
    return (
        mean[-1] + cross @ np.linalg.solve(S, nu),
        C[-d:, -d:] - cross @ np.linalg.solve(S, cross.T),
        float(log_density),
    )
