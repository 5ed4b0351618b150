"""Sources of one pair of classes an epoch: what is drawn of them, and where a generator is pulled."""

import pytest
import torch
from torch import nn

from adapt.data_free.context import Context
from adapt.data_free.sources import Moment
from adapt.data_free.terms import one_hot
from sims.forgetting import InPair, PairsInverted, PairsOfImages
from sims.teachers import Task


def task():
    y = torch.arange(10).repeat(3)
    x = (y / 10).view(-1, 1, 1, 1)  # an image of one pixel says its class
    return Task("ten", x, y, x, y, mean=0.0, std=1.0)


@pytest.mark.parametrize(("epoch", "pair"), [(0, {0, 1}), (3, {6, 7}), (5, {0, 1})])
def test_images_are_of_the_pair_of_the_epoch(epoch, pair):
    source, teacher = PairsOfImages(task(), noise=0.0), nn.Identity()
    generator = torch.Generator().manual_seed(0)
    source.refresh(teacher, teacher, Moment(epoch, 0, False, 0.0), generator)
    assert {round(10 * float(v)) for v in source.sample(200, generator).flatten()} == pair


def test_what_is_inverted_is_of_the_pair_of_the_epoch_and_forgotten_after_it():
    source, teacher = (
        PairsInverted((10,), 10, {"one hot": (1.0, one_hot())}, rate=0.3, steps=40),
        nn.Identity(),
    )
    generator = torch.Generator().manual_seed(0)
    for epoch, pair, kept in ((0, {0, 1}, 64), (0, {0, 1}, 128), (3, {6, 7}, 64), (5, {0, 1}, 64)):
        source.refresh(teacher, teacher, Moment(epoch, 0, False, 0.0), generator)
        assert len(source.pool.x) == kept
        assert set(source.sample(200, generator).argmax(1).tolist()) == pair
    other = PairsInverted((10,), 10, {}, steps=1)
    other.load(source.state())
    assert other.pair == 0
    assert torch.equal(other.pool.x, source.pool.x)


def test_a_generator_loses_nothing_on_what_the_teacher_takes_for_the_pair():
    term, teacher = InPair(epochs=6), nn.Linear(3, 10)
    with torch.no_grad():
        teacher.weight.zero_()
        teacher.bias.fill_(-50.0)[[4, 5]] = 0.0
    for epoch in range(6):
        for step in range(16):
            context = Context(torch.zeros(8, 3), teacher, progress=(16 * epoch + step) / 96)
            lost = float(term(context).detach())
            assert lost == pytest.approx(0.0, abs=1e-6) if epoch == 2 else lost > 15
