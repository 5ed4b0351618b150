import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracking.association.gating import gate
from tracking.gaussian import Innovation


def innovation(rng, n, d):
    factor = rng.normal(size=(n, d, d))
    S = factor @ factor.swapaxes(1, 2) + 0.1 * np.eye(d)
    z_hat = 3 * rng.normal(size=(n, d))
    return Innovation(z_hat, S, np.linalg.inv(S), np.linalg.slogdet(S)[1], None, None)


def dense(predicted, z, threshold, angles):
    """Residuals and squared distances of all pairs in the gate, by row and column."""
    out = []
    for i, z_hat in enumerate(predicted.z_hat):
        for j in range(len(z)):
            nu = z[j] - z_hat
            for a in angles:
                nu[a] = np.angle(np.exp(1j * nu[a]))
            d2 = nu @ np.linalg.solve(predicted.S[i], nu)
            if d2 < threshold:
                out.append((i, j, d2, nu))
    return out


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 12),
    m=st.integers(0, 40),
    d=st.integers(1, 3),
    wraps=st.integers(0, 3),
    threshold=st.sampled_from([1e-3, 0.5, 9.0, 20.0, 1e9, np.inf]),
)
def test_equals_the_dense_table(seed, n, m, d, wraps, threshold):
    rng = np.random.default_rng(seed)
    predicted, z = innovation(rng, n, d), 3 * rng.normal(size=(m, d))
    angles = tuple(range(min(wraps, d)))
    before = z.copy()
    expected = dense(predicted, z, threshold, angles)
    pairs = gate(predicted, z, threshold, angles)
    assert pairs.row.tolist() == [e[0] for e in expected]
    assert pairs.col.tolist() == [e[1] for e in expected]
    assert pairs.offset.tolist() == np.searchsorted(pairs.row, np.arange(n + 1)).tolist()
    np.testing.assert_allclose(pairs.d2, [e[2] for e in expected], rtol=1e-9)
    np.testing.assert_allclose(pairs.nu, np.reshape([e[3] for e in expected], (-1, d)), atol=1e-12)
    np.testing.assert_array_equal(z, before)


@pytest.mark.parametrize("angles", [(0,), (1,), (0, 1), (-1,)])
def test_angles_wrap_across_pi(angles):
    S = np.broadcast_to(0.01 * np.eye(2), (1, 2, 2))
    predicted = Innovation(np.full((1, 2), np.pi - 0.05), S, np.linalg.inv(S), None, None, None)
    z = np.where(np.isin([0, 1], [a % 2 for a in angles]), -np.pi + 0.05, np.pi + 0.05)[None]
    pairs = gate(predicted, z, 9.0, angles)
    assert pairs.col.tolist() == [0]
    np.testing.assert_allclose(pairs.nu, [[0.1, 0.1]], atol=1e-12)


def test_the_threshold_itself_is_outside():
    S = np.ones((1, 1, 1))
    predicted = Innovation(np.zeros((1, 1)), S, S, None, None, None)
    assert gate(predicted, np.array([[2.0], [1.9999]]), 4.0).col.tolist() == [1]


def test_more_pairs_than_the_first_allocation():
    rng = np.random.default_rng(0)
    pairs = gate(innovation(rng, 3, 2), rng.normal(size=(500, 2)), np.inf)
    assert len(pairs.col) == 1500
    assert pairs.col.tolist() == list(range(500)) * 3


def test_thousands_of_tracks_need_no_dense_table():
    rng = np.random.default_rng(0)
    n = 20_000
    S = np.tile(np.eye(2), (n, 1, 1))
    predicted = Innovation(rng.uniform(0, 1e5, (n, 2)), S, S, np.zeros(n), None, None)
    pairs = gate(predicted, predicted.z_hat[::-1].copy(), 20.0)
    assert (pairs.col == n - 1 - pairs.row).sum() == n
    assert len(pairs.col) < 1.2 * n
