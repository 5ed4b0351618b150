"""Estimators against enumeration of every hypothesis and every set of objects."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracking.filters.estimate import (
    ESTIMATORS,
    estimate,
    expected_cardinality,
    expected_distance,
    local_weights,
    marginal_existence,
    poisson_binomial,
)
from tracking.filters.hypotheses import Mixture, empty_mixture, with_tracks
from tracking.filters.local import Locals


@dataclass
class Density:
    """What the estimators read."""

    local: Locals
    label: np.ndarray
    mixture: Mixture


@dataclass
class Settings:
    estimator: str
    threshold: float = 0.5
    gospa_c: float = 10.0
    gospa_p: float = 2.0
    gospa_dims: int = 2


def random_density(seed, clusters=3):
    """Clusters of one to three tracks with one to three local hypotheses each, and up to five rows."""
    rng = np.random.default_rng(seed)
    track_offset, local_offset, row_offset, entry_offset = [0], [0], [0], [0]
    log_w, entry = [], []
    for _ in range(clusters):
        columns = []
        for _ in range(rng.integers(1, 4)):
            count = rng.integers(1, 4)
            columns.append(local_offset[-1] + np.arange(count))
            local_offset.append(local_offset[-1] + count)
        rows = np.unique([[rng.choice([*c, -1]) for c in columns] for _ in range(5)], axis=0)
        # Every local hypothesis is used by somebody, as the filters make sure.
        used = [[c[i] if i < len(c) else -1 for c in columns] for i in range(max(map(len, columns)))]
        rows = np.unique(np.concatenate((rows, used)), axis=0)
        w = np.sort(rng.dirichlet(np.ones(len(rows))))[::-1]
        log_w.extend(np.log(w))
        entry.extend(rng.permutation(rows).ravel())
        track_offset.append(track_offset[-1] + len(columns))
        row_offset.append(len(log_w))
        entry_offset.append(len(entry))
    parts = (track_offset, local_offset, row_offset, log_w, entry_offset, entry)
    mixture = Mixture(*(np.array(a) for a in parts))
    n = local_offset[-1]
    r = np.where(rng.random(n) < 0.2, 1.0, rng.uniform(0.05, 0.95, n))
    factor = rng.normal(size=(n, 4, 4))
    local = Locals.empty(4).add(
        r, 5 * rng.normal(size=(n, 4)), factor @ factor.swapaxes(1, 2) + np.eye(4), rng.integers(-1, 9, n)
    )
    return Density(local, 100 + rng.permutation(track_offset[-1]), mixture)


def worlds(density):
    """All (probability, {track: local hypothesis}) of joint hypotheses and sets of objects that exist."""
    mixture, r = density.mixture, density.local.r
    for rows in product(*(range(len(mixture.weights(k))) for k in range(mixture.n_clusters))):
        w, present = 1.0, []
        for k, row in enumerate(rows):
            w *= mixture.weights(k)[row]
            table = mixture.table(k)[row]
            present += [(mixture.track_offset[k] + i, h) for i, h in enumerate(table) if h >= 0]
        for exists in product((False, True), repeat=len(present)):
            p = w * np.prod([r[h] if e else 1 - r[h] for e, (_, h) in zip(exists, present)])
            yield p, dict(t for e, t in zip(exists, present) if e)


def assert_reports(tracks, density, chosen):
    """The tracks are those of {track: local hypothesis}."""
    local = np.array([chosen[i] for i in sorted(chosen)], int)
    assert tracks.label.tolist() == density.label[sorted(chosen)].tolist()
    np.testing.assert_array_equal(tracks.mean, density.local.m[local])
    np.testing.assert_array_equal(tracks.cov, density.local.P[local])
    np.testing.assert_array_equal(tracks.source, density.local.source[local])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_marginals_by_enumeration(seed):
    density = random_density(seed, 2)
    existence, weight, number = np.zeros(len(density.label)), np.zeros(len(density.local)), 0.0
    for p, objects in worlds(density):
        for i, h in objects.items():
            existence[i] += p
            weight[h] += p
        number += p * len(objects)
    np.testing.assert_allclose(marginal_existence(density), existence, atol=1e-12)
    np.testing.assert_allclose(local_weights(density.mixture) * density.local.r, weight, atol=1e-12)
    assert expected_cardinality(density) == pytest.approx(number)

    tracks = estimate(density, Settings("marginal", threshold=0.3), 7.0)
    assert tracks.time == 7.0
    assert tracks.label.tolist() == density.label[existence >= 0.3].tolist()
    np.testing.assert_allclose(tracks.existence, existence[existence >= 0.3], atol=1e-12)
    best = {}  # what a track does in the best hypothesis of its cluster
    for k in range(density.mixture.n_clusters):
        for i, h in enumerate(density.mixture.table(k)[0]):
            best[density.mixture.track_offset[k] + i] = h
    chosen = {}
    for i in np.flatnonzero(existence >= 0.3):
        mine = slice(density.mixture.local_offset[i], density.mixture.local_offset[i + 1])
        chosen[i] = best[i] if best[i] >= 0 else mine.start + int(weight[mine].argmax())
    assert_reports(tracks, density, chosen)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_best_reports_the_best_hypothesis_of_each_cluster(seed):
    density = random_density(seed)
    tracks = estimate(density, Settings("best", threshold=0.4), 0.0)
    chosen = {}
    for k in range(density.mixture.n_clusters):
        for i, h in enumerate(density.mixture.table(k)[0]):
            if h >= 0 and density.local.r[h] >= 0.4:
                chosen[density.mixture.track_offset[k] + i] = h
    assert_reports(tracks, density, chosen)
    np.testing.assert_array_equal(tracks.existence, density.local.r[[chosen[i] for i in sorted(chosen)]])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_map_is_the_most_probable_hypothesis_and_set(seed):
    density = random_density(seed, 2)
    _, chosen = max(worlds(density), key=lambda w: w[0])
    assert_reports(estimate(density, Settings("map"), 0.0), density, chosen)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_cardinality_first_the_number_then_the_best_set_of_so_many(seed):
    density = random_density(seed, 2)
    everything = list(worlds(density))
    pmf = np.zeros(len(density.label) + 1)
    for p, objects in everything:
        pmf[len(objects)] += p
    number = int(pmf.argmax())
    _, chosen = max((w for w in everything if len(w[1]) == number), key=lambda w: w[0])
    assert_reports(estimate(density, Settings("cardinality"), 0.0), density, chosen)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), c=st.floats(1, 30))
def test_gospa_reports_whoever_lowers_the_expected_error(seed, c):
    density = random_density(seed, 2)
    config = Settings("gospa", threshold=0.0, gospa_c=c)
    all_ = estimate(density, Settings("marginal", threshold=0.0), 0.0)
    error = np.minimum(np.trace(all_.cov[:, :2, :2], axis1=1, axis2=2), c**2)  # E[d^2] of a report
    reporting = all_.existence * error + (1 - all_.existence) * c**2 / 2
    silence = all_.existence * c**2 / 2
    assert estimate(density, config, 0.0).label.tolist() == all_.label[reporting < silence].tolist()


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.5])
def test_expected_distance_against_samples(dims, p):
    P = np.diag([4.0, 4.0, 4.0, 900.0])[None]
    e = 2 * np.random.default_rng(0).normal(size=(400_000, dims))
    expected = (np.linalg.norm(e, axis=1) ** p).mean()
    assert expected_distance(P, dims, p)[0] == pytest.approx(expected, rel=0.02)
    assert expected_distance(np.diag([1.0, 7.0])[None], 2, 2.0)[0] == pytest.approx(8.0)  # exact for p = 2


@settings(max_examples=50, deadline=None)
@given(r=st.lists(st.floats(0, 1), max_size=7))
def test_poisson_binomial_by_enumeration(r):
    pmf = np.zeros(len(r) + 1)
    for exists in product((0, 1), repeat=len(r)):
        pmf[sum(exists)] += np.prod([x if e else 1 - x for e, x in zip(exists, r)])
    np.testing.assert_allclose(poisson_binomial(np.array(r)), pmf, atol=1e-12)


def test_poisson_binomial_of_thousands():
    pmf = poisson_binomial(np.full(3000, 0.5))
    assert pmf.sum() == pytest.approx(1)
    assert pmf.argmax() == 1500
    assert (pmf >= 0).all()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_nobody_is_nobody(name):
    density = Density(Locals.empty(4), np.zeros(0, np.int64), empty_mixture())
    tracks = estimate(density, Settings(name), 3.0)
    assert len(tracks) == 0
    assert tracks.mean.shape == (0, 4)
    assert tracks.cov.shape == (0, 4, 4)
    assert tracks.time == 3.0
    assert expected_cardinality(density) == 0.0


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("seed", range(3))
def test_estimates_are_copies_with_each_label_once(name, seed):
    density = random_density(seed)
    before = density.local.m.copy(), density.local.P.copy(), density.label.copy()
    tracks = estimate(density, Settings(name), 0.0)
    assert len(np.unique(tracks.label)) == len(tracks)
    for array in (tracks.mean, tracks.cov, tracks.label, tracks.existence, tracks.source):
        array[:] = 99
    for a, b in zip(before, (density.local.m, density.local.P, density.label)):
        np.testing.assert_array_equal(a, b)


def test_the_number_among_hundreds_of_bernoullis():
    """Beyond a few hundred the pmf is put together from halves."""
    r = np.random.default_rng(0).random(700)
    pmf = np.ones(1)
    for value in r:
        pmf = np.convolve(pmf, [1 - value, value])
    np.testing.assert_allclose(poisson_binomial(r), pmf, atol=1e-14)
    assert poisson_binomial(r).min() >= 0


def test_certain_objects_do_not_drown_the_choice_among_the_uncertain():
    """With objects that exist for sure in every cluster, the number left goes to the likeliest others."""
    r = np.array([1.0, 0.3, 1.0, 0.9, 1.0, 0.6])
    n = len(r)
    local = Locals.empty(4).add(r, np.zeros((n, 4)), np.tile(np.eye(4), (n, 1, 1)))
    density = Density(local, np.arange(n), with_tracks(empty_mixture(), n))
    tracks = estimate(density, Settings("cardinality"), 0.0)
    assert tracks.label.tolist() == [0, 2, 3, 4, 5]
    np.testing.assert_array_equal(tracks.existence, r[[0, 2, 3, 4, 5]])
