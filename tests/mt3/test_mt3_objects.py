"""From answers to objects: probabilities add up, moments are those of a mixture."""

import numpy as np

from tracking.mt3.objects import merged


def test_probabilities_of_one_object_add_up():
    p = np.array([0.2, 0.5, 0.9])
    mean = np.array([[0.0, 0, 1, 1], [0.4, 0, 2, 1], [8.0, 8, 0, 0]])
    std = np.full((3, 4), 0.3)
    found = merged(p, mean, std, radius=1.0)
    np.testing.assert_allclose(found.existence, [0.9, 0.7])
    np.testing.assert_array_equal(found.token, [2, 1])
    w = np.array([2, 5]) / 7
    np.testing.assert_allclose(found.mean[1], w @ mean[:2])
    e = mean[:2] - found.mean[1]
    np.testing.assert_allclose(found.cov[1], 0.09 * np.eye(4) + np.einsum("k,ki,kj->ij", w, e, e), atol=1e-12)


def test_a_full_object_takes_in_no_more():
    p = np.array([0.5, 0.5, 0.4])
    found = merged(p, np.zeros((3, 4)), np.ones((3, 4)), radius=1.0)
    np.testing.assert_allclose(found.existence, [1.0, 0.4])


def test_neighbours_that_are_sure_are_two_objects():
    """The sum is what counts, not whether the first one alone is full: 1.0 and 1.0 are no 2.0."""
    mean = np.array([[0.0, 0, 0, 0], [0.3, 0, 0, 0], [0.1, 0, 0, 0]])
    found = merged(np.array([1.0, 0.98, 0.04]), mean, np.ones((3, 4)), radius=1.0)
    np.testing.assert_allclose(found.existence, [1.0, 0.98])
    np.testing.assert_allclose(found.mean[1], mean[1])  # the rest of 0.04 went to the first


def test_radius_zero_keeps_all_apart():
    p = np.array([0.5, 0.4])
    found = merged(p, np.zeros((2, 4)), np.ones((2, 4)), radius=0.0)
    np.testing.assert_allclose(found.existence, p)


def test_what_is_unlikely_does_not_count():
    found = merged(np.array([0.005, 0.01]), np.zeros((2, 4)), np.ones((2, 4)), radius=1.0)
    assert len(found.existence) == 0
    assert found.mean.shape == (0, 4)
    assert found.cov.shape == (0, 4, 4)


def test_nothing_comes_of_nothing():
    found = merged(np.zeros(0), np.zeros((0, 4)), np.zeros((0, 4)), radius=1.0)
    assert len(found.existence) == 0


def test_the_order_of_answers_does_not_matter(rng):
    p, mean = rng.random(30), rng.uniform(-3, 3, (30, 4))
    std = rng.uniform(0.1, 1, (30, 4))
    order = rng.permutation(30)
    a = merged(p, mean, std, 1.0)
    b = merged(p[order], mean[order], std[order], 1.0)
    np.testing.assert_allclose(a.mean, b.mean)
    np.testing.assert_allclose(a.existence, b.existence)
    assert (np.linalg.eigvalsh(a.cov) > 0).all()
    assert (a.existence <= 1).all()
