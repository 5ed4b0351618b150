"""Is a track what the detector looks for."""

import numpy as np
import pytest

from tracking import Confidence, ScoreModel, Tracks

MODEL = ScoreModel(slope=1.0, neutral=0.0)


def tracks(time, labels, sources):
    n = len(labels)
    moments = np.zeros((n, 4)), np.tile(np.eye(4), (n, 1, 1))
    return Tracks(time, np.array(labels), *moments, np.full(n, 0.9), np.array(sources))


def test_one_score_is_bayes_rule():
    sure = Confidence(MODEL, prior=0.5, correlation=0.3, threshold=0.0)
    seen = sure.step(tracks(0.0, [7, 8], [1, 0]), np.array([-1.0, 2.0]))
    np.testing.assert_allclose(seen.existence, 0.9 / (1 + np.exp([-2.5, 0.5])))


@pytest.mark.parametrize(("correlation", "effective"), [(0.0, 5.0), (1.0, 1.0), (0.25, 5 / 2)])
def test_correlated_scores_count_less(correlation, effective):
    sure = Confidence(MODEL, correlation=correlation, threshold=0.0)
    for k in range(5):
        seen = sure.step(tracks(float(k), [1], [0]), np.array([0.4]))
    np.testing.assert_allclose(seen.existence, 0.9 / (1 + np.exp(-0.4 * effective)))


def test_a_false_object_that_stands_still_is_never_reported():
    sure = Confidence(MODEL)
    for k in range(100):
        assert len(sure.step(tracks(float(k), [1], [0]), np.array([-0.5]))) == 0


def test_a_missed_track_keeps_its_class():
    sure = Confidence(MODEL)
    assert len(sure.step(tracks(0.0, [1], [0]), np.array([3.0]))) == 1
    assert len(sure.step(tracks(1.0, [1], [-1]), np.zeros(0))) == 1


def test_a_track_without_scores_has_the_prior():
    assert len(Confidence(MODEL, prior=-1.0).step(tracks(0.0, [1], [-1]), np.zeros(0))) == 0
    assert len(Confidence(MODEL, prior=1.0).step(tracks(0.0, [1], [-1]), np.zeros(0))) == 1


def test_memory_is_bounded():
    sure = Confidence(MODEL, memory=10.0)
    for k in range(1000):
        sure.step(tracks(float(k), [k], [0]), np.array([1.0]))
    assert len(sure.evidence) <= 11


def test_distance_goes_to_the_model():
    sure = Confidence(ScoreModel(1.0, (0.0, 10.0), ranges=(0.0, 100.0)))
    seen = sure.step(tracks(0.0, [1, 2], [0, 1]), np.array([5.0, 5.0]), np.array([0.0, 100.0]))
    assert seen.label.tolist() == [1]


@pytest.mark.parametrize(
    "wrong", [{"correlation": 1.5}, {"threshold": -0.1}, {"memory": 0.0}, {"correlation": np.nan}]
)
def test_rejects(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Confidence(MODEL, **wrong)


def test_rejects_scores_that_are_not_those_of_the_scan():
    sure = Confidence(MODEL)
    with pytest.raises(ValueError, match="score"):
        sure.step(tracks(0.0, [1], [3]), np.array([1.0]))
    with pytest.raises(ValueError, match="score"):
        sure.step(tracks(0.0, [1], [0]), np.array([np.nan]))
    assert not sure.evidence
