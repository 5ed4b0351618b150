"""Matching, and the loss of MT3 on cases that can be computed by hand."""

from itertools import permutations

import numpy as np
import pytest
import torch

from sims.scenarios import SCENARIOS
from sims.windows import WindowSimulator
from tracking.mt3.criterion import Criterion, contrast
from tracking.mt3.matching import greedy, hungarian
from tracking.mt3.network import Memory


def total(cost, found):
    return sum(float(cost[p, n]) for n, p in enumerate(found.tolist()) if p >= 0)


@pytest.mark.parametrize("seed", range(6))
def test_hungarian_is_the_cheapest_of_all(seed):
    generator = torch.Generator().manual_seed(seed)
    cost = torch.randn(2, 5, 4, generator=generator)
    alive = torch.tensor([[True, True, False, True], [False, True, False, False]])
    found = hungarian(cost, alive)
    for table, there, row in zip(cost, alive, found):
        columns = there.nonzero()[:, 0].tolist()
        best = min(
            sum(float(table[p, n]) for p, n in zip(order, columns))
            for order in permutations(range(5), len(columns))
        )
        assert total(table, row) == pytest.approx(best, abs=1e-6)
        assert (row[~there] == -1).all()
        assert len(set(row[there].tolist())) == len(columns)


@pytest.mark.parametrize("match", [hungarian, greedy])
def test_each_object_gets_a_prediction_of_its_own(match):
    generator = torch.Generator().manual_seed(1)
    cost = torch.rand(20, 6, 6, generator=generator)
    alive = torch.rand(20, 6, generator=generator) < 0.7
    found = match(cost, alive)
    assert ((found >= 0) == alive).all()
    for row in found:
        used = row[row >= 0].tolist()
        assert len(used) == len(set(used))


def test_greedy_takes_the_cheapest_pair_first():
    cost = torch.tensor([[[1.0, 2.0], [0.5, 0.6]]])  # the best total is 1.6, the cheapest pair 0.5
    both = torch.tensor([[True, True]])
    assert greedy(cost, both).tolist() == [[1, 0]]
    assert hungarian(cost, both).tolist() == [[0, 1]]


def test_greedy_is_close_to_hungarian_where_objects_are_apart():
    generator = torch.Generator().manual_seed(2)
    place = 10 * torch.rand(50, 6, 2, generator=generator)
    near = torch.cat(
        (place + 0.1 * torch.randn(50, 6, 2, generator=generator), 10 * torch.rand(50, 10, 2)), 1
    )
    cost, alive = torch.cdist(near, place), torch.ones(50, 6, dtype=torch.bool)
    assert (greedy(cost, alive) == hungarian(cost, alive)).float().mean() > 0.9


class _Same(torch.nn.Module):
    """A network whose projection for the contrastive loss is the identity."""

    contrast = staticmethod(lambda x: x)


def contrastive(encoded, origin, real, temperature=1.0):
    windows = WindowSimulator(SCENARIOS["mt3-task1"], 0).draw(1)
    windows = windows.changed(origin=torch.tensor([origin]), real=torch.tensor([real]))
    return float(contrast(_Same(), Memory(torch.tensor([encoded]), None), windows, temperature))


def test_the_contrastive_loss_by_hand():
    a, b = [1.0, 0.0], [0.0, 1.0]
    found = contrastive([a, a, b], [0, 0, 1], [True] * 3)
    # each of the first two has similarity 1 with its like and 0 with the third, which is not counted: alone
    assert found == pytest.approx(-np.log(np.e / (np.e + 1)), rel=1e-5)
    padded = contrastive([a, a, b, a], [0, 0, 1, -1], [True, True, True, False])
    assert padded == pytest.approx(found, rel=1e-5)
    sharper = contrastive([a, a, b], [0, 0, 1], [True] * 3, temperature=0.1)
    assert sharper == pytest.approx(-np.log(1 / (1 + np.exp(-10))), rel=1e-3)


def test_clutter_attracts_clutter():
    a, b = [1.0, 0.0], [0.0, 1.0]
    assert contrastive([a, a, b], [-1, -1, 0], [True] * 3) == pytest.approx(0.3133, abs=1e-3)


def test_one_measurement_alone_has_no_contrast():
    assert contrastive([[1.0, 0.0]], [0], [True]) == 0.0


def test_a_positive_weight_and_greedy_matching_are_settings(network, windows):
    if not hasattr(network, "decoder"):
        pytest.skip("of the paper's network alone")
    network.eval()
    plain, heavy, quick = (
        Criterion(**kw)(network, windows) for kw in ({}, {"positive": 3.0}, {"exact": False})
    )
    assert heavy["exists"] > plain["exists"]
    assert heavy["state"] == plain["state"]
    assert quick["state"] >= 0.9 * plain["state"]
    assert quick["contrastive"] == plain["contrastive"]
