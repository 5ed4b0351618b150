import numpy as np
import pytest
from scipy.linalg import expm

from tracking.models import Occlusion


def test_is_the_markov_chain_of_its_rates():
    visible = np.array([0.0, 0.3, 1.0])
    for dt in (0.0, 0.1, 2.0, 1e3):
        steps = expm(dt * np.array([[-0.4, 0.4], [0.7, -0.7]]))
        expected = np.stack((visible, 1 - visible), axis=1) @ steps
        np.testing.assert_allclose(Occlusion(0.4, 0.7).predict(visible, dt), expected[:, 0], atol=1e-12)


def test_two_steps_are_one():
    chain, visible = Occlusion(0.2, 1.5), np.array([0.9, 0.1])
    np.testing.assert_allclose(
        chain.predict(chain.predict(visible, 0.4), 1.1), chain.predict(visible, 1.5), atol=1e-14
    )


@pytest.mark.parametrize("rates", [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (1.0, np.nan), (np.inf, 1.0)])
def test_rejects(rates):
    with pytest.raises(ValueError, match="must be finite and > 0"):
        Occlusion(*rates)
