import numpy as np
import pytest

from tracking.models.score import ScoreModel


def test_ratio_by_hand():
    model = ScoreModel(slope=2.0, neutral=3.0)
    np.testing.assert_allclose(model.clutter_ratio(np.array([3.0, 4.0, 2.0])), [1, np.exp(-2), np.exp(2)])


def test_no_score_proves_anything():
    model = ScoreModel(slope=2.0, neutral=0.0, bound=1.5)
    np.testing.assert_allclose(model.clutter_ratio(np.array([1e9, -1e9])), [np.exp(-1.5), np.exp(1.5)])


def test_neutral_by_range():
    model = ScoreModel(slope=1.0, neutral=(4.0, 2.0), ranges=(10.0, 30.0))
    ratio = model.clutter_ratio(np.full(4, 3.0), np.array([0.0, 10.0, 20.0, 99.0]))
    np.testing.assert_allclose(ratio, np.exp([1.0, 1.0, 0.0, -1.0]))


@pytest.mark.parametrize(
    "arguments",
    [
        dict(slope=0.0, neutral=0.0),
        dict(slope=1.0, neutral=0.0, bound=0.0),
        dict(slope=1.0, neutral=(0.0, 1.0)),
        dict(slope=1.0, neutral=(0.0, 1.0), ranges=(5.0, 5.0)),
        dict(slope=np.nan, neutral=0.0),
        dict(slope=1.0, neutral=np.nan),
    ],
)
def test_rejects(arguments):
    with pytest.raises(ValueError, match=r"slope|bound|neutral"):
        ScoreModel(**arguments)
