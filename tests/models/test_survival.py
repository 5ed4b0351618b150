import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracking.models import Survival
from tracking.models.survival import as_survival

M, P = (
    np.array([[0.0, 0.0, 1.0, 0.0], [9.0, 2.0, 0.0, 0.0]]),
    np.tile(np.diag([4.0, 1.0, 1.0, 1.0]), (2, 1, 1)),
)


@settings(max_examples=50, deadline=None)
@given(p=st.floats(0.01, 0.999), a=st.floats(0, 10), b=st.floats(0, 10))
def test_steps_multiply(p, a, b):
    survival = Survival(p)
    np.testing.assert_allclose(survival(M, P, a) * survival(M, P, b), survival(M, P, a + b), rtol=1e-8)


def test_by_place():
    survival = Survival(lambda x: np.where(x[:, 0] > 5, 0.5, 0.9))
    np.testing.assert_allclose(survival(M, P, 2.0), [0.81, 0.25])
    assert survival(M[:0], P[:0], 2.0).shape == (0,)


def test_inside_against_simulation():
    survival = Survival(0.8, (-1.0, -2.0), (10.0, 2.5))
    rng = np.random.default_rng(0)
    for m, cov, p in zip(M, P, survival.inside(M, P)):
        x = rng.multivariate_normal(m, cov, 200_000)[:, :2]
        assert p == pytest.approx(((x > (-1, -2)) & (x < (10, 2.5))).all(axis=1).mean(), abs=4e-3)
    np.testing.assert_allclose(survival(M, P, 1.0), 0.8 * survival.inside(M, P))
    assert survival.bounded
    assert not Survival(0.8).bounded


def test_what_was_outside_does_not_leave_again():
    survival = Survival(0.8, (-1.0, -2.0), (10.0, 2.5))
    np.testing.assert_allclose(survival(M, P, 1.0, (M, P)), 0.8)  # nothing moved: nothing left
    middle = np.tile([4.0, 0.0, 0.0, 0.0], (2, 1)), 1e-4 * P
    np.testing.assert_allclose(survival(M, P, 1.0, middle), 0.8 * survival.inside(M, P), rtol=1e-9)
    inwards = M + np.array([[3.0, 0, 0, 0], [-3.0, 0, 0, 0]])
    np.testing.assert_allclose(survival(inwards, P, 1.0, (M, P)), 0.8)  # never more than before
    away = np.array([100.0, 0, 0, 0])
    outside = M + away
    assert survival(outside + away, P, 1.0, (outside, P)).max() < 1e-6


def test_never_quite_certain_and_never_negative():
    assert (Survival(1.0)(M, P, 1.0) == 1 - 1e-9).all()
    assert (Survival(0.9)(M, P, 0.0) == 1 - 1e-9).all()
    assert (Survival(0.0)(M, P, 1.0) == 0).all()
    far = Survival(1.0, (1e6, 1e6), (2e6, 2e6))(M, P, 1.0)
    assert (far == 0).all()
    assert Survival(0.99)(M, P, 1e6).max() < 1e-300


def test_mean_lifetime():
    assert Survival(np.exp(-0.1)).lifetime(M) == pytest.approx(10.0)
    times = np.random.default_rng(0).geometric(0.001, 400_000) * 0.01  # steps of 10 ms
    assert Survival(0.999**100).lifetime(M) == pytest.approx(times.mean(), rel=0.01)
    assert Survival(1.0).lifetime(M) == np.inf
    assert Survival(lambda x: np.full(len(x), 0.5)).lifetime(M[:0]) == np.inf
    assert Survival(lambda x: np.exp(-x[:, 0])).lifetime(np.array([[0.5], [0.1]])) == pytest.approx(10.0)


def test_what_stands_for_a_survival():
    survival = Survival(0.5)
    assert as_survival(survival) is survival
    assert as_survival(0.5) == survival
    assert as_survival(lambda x: np.full(len(x), 0.3))(M, P, 1.0) == pytest.approx([0.3, 0.3])


@pytest.mark.parametrize("bad", [1.5, -0.5, np.nan])
def test_bad_probabilities_from_functions_are_caught(bad):
    with pytest.raises(ValueError, match="probability"):
        Survival(lambda x: np.full(len(x), bad))(M, P, 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probability": 1.1}, "probability"),
        ({"probability": np.nan}, "probability"),
        ({"lower": (0, 0)}, "both corners"),
        ({"upper": (0, 0)}, "both corners"),
        ({"lower": (0, 0), "upper": (1, 0)}, "lower must be below upper"),
        ({"lower": (0, np.nan), "upper": (1, 1)}, "lower must be below upper"),
    ],
)
def test_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        Survival(**arguments)
