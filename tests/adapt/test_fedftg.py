"""The server's repair: its terms, what it leaves alone, and that it repairs."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from adapt.federated import (
    SCAFFOLD,
    Aside,
    DenseGenerator,
    FedAvg,
    FedDF,
    FedDyn,
    FederateConfig,
    FedFTG,
    FedProx,
    FTGConfig,
    ImageGenerator,
    LocalConfig,
    NoiseDistillation,
    federate,
)
from adapt.federated.baselines import DistilConfig
from adapt.federated.terms import (
    DISCREPANCIES,
    class_share,
    distil,
    diversity,
    fidelity,
    mixture,
    planned_labels,
)

CENTRES = torch.tensor([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9], [0.9, 0.9]])


def blobs(classes, each=40, seed=0):
    """Inputs of two numbers from 0 to 1 around the corners of a square."""
    g = torch.Generator().manual_seed(seed)
    y = torch.tensor(classes).repeat_interleave(each)
    return (CENTRES[y] + 0.1 * torch.randn(len(y), 2, generator=g)).clamp(0, 1), y


def classifier(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 24), nn.ReLU(), nn.Linear(24, 4))


def expert(wrong, seed=0):
    """A network that knows all classes, but takes two of them for each other."""
    model = classifier(seed)
    x, y = blobs([0, 1, 2, 3])
    first, second = wrong
    y = torch.where(y == first, second, torch.where(y == second, first, y))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(120):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def generator(seed=0):
    torch.manual_seed(seed)
    return DenseGenerator((2,), 4, noise=8, hidden=32)


def merged(models):
    out = classifier()
    mean = {n: sum(m.state_dict()[n] for m in models) / len(models) for n in out.state_dict()}
    out.load_state_dict(mean)
    return out.eval()


@pytest.fixture(scope="module")
def experts():
    """Clients who are right about those classes that they have."""
    return [expert(wrong=(2, 3)), expert(wrong=(0, 1))]


COUNTS = torch.tensor([[40.0, 40, 0, 0], [0, 0, 40, 40]])


def accuracy(model):
    x, y = blobs([0, 1, 2, 3], seed=9)
    with torch.no_grad():
        return float((model(x).argmax(1) == y).double().mean())


def test_shares_add_up_where_somebody_has_the_class():
    counts = torch.tensor([[3.0, 0, 1, 0], [1, 0, 1, 7]])
    found = class_share(counts)
    torch.testing.assert_close(found.sum(0), torch.tensor([1.0, 0, 1, 1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:, 0], torch.tensor([0.75, 0.25]), atol=1e-5, rtol=0)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=12), st.integers(1, 600), st.integers(0, 99))
def test_labels_have_the_proportions_of_the_counts_to_one(counts, number, seed):
    counts = np.array(counts)
    if not counts.sum():
        with pytest.raises(ValueError, match="no class"):
            planned_labels(counts, number, np.random.default_rng(seed))
        return
    y = planned_labels(counts, number, np.random.default_rng(seed))
    found = np.bincount(y.numpy(), minlength=len(counts))
    assert len(y) == number
    assert np.abs(found - counts * number / counts.sum()).max() < 1
    assert (found[counts == 0] == 0).all()


def test_labels_are_shuffled():
    y = planned_labels(np.ones(4), 400, np.random.default_rng(0))
    assert len(set(y[:40].tolist())) == 4


def test_diversity_is_that_of_the_definition_and_falls_with_it():
    g = torch.Generator().manual_seed(0)
    z, x = torch.randn(6, 3, generator=g), torch.rand(6, 2, 2, generator=g)
    total = 0.0
    for i in range(6):
        for j in range(6):
            total -= float((x[i] - x[j]).abs().mean() * (z[i] - z[j]).square().mean())
    assert float(diversity(x, z)) == pytest.approx(np.exp(total / 36), rel=1e-5)
    assert float(diversity(0 * x, z)) == 1.0
    assert float(diversity(2 * x, z)) < float(diversity(x, z)) < 1


def test_fidelity_weighs_each_input_and_the_code_only_the_mean():
    logits, y = torch.tensor([[4.0, 0], [4, 0], [0, 1]]), torch.tensor([0, 1, 1])
    share = torch.tensor([1.0, 0.0, 0.5])
    each = F.cross_entropy(logits, y, reduction="none")
    assert float(fidelity(logits, y, share)) == pytest.approx(float((each[0] + 0.5 * each[2]) / 3))
    assert float(fidelity(logits, y, share, exact=True)) == pytest.approx(float(each.mean() * 0.5))


@pytest.mark.parametrize("kind", DISCREPANCIES)
def test_discrepancies_are_zero_between_equals_alone(kind):
    a, b = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(5, 3)
    assert DISCREPANCIES[kind](a, a).abs().max() < 1e-6
    assert (DISCREPANCIES[kind](a, b) > 0).all()


def test_the_divergence_is_of_the_clients_from_the_model():
    p, q = torch.tensor([[0.7, 0.3]]), torch.tensor([[0.2, 0.8]])
    expected = float((p * (p / q).log()).sum())
    assert float(DISCREPANCIES["kl"](p.log(), q.log())) == pytest.approx(expected)


def test_gradients_of_the_differences_of_logits_do_not_pass_the_clients():
    for kind, passes in (("kl", True), ("l1", False)):
        ours, theirs = (torch.randn(4, 3).requires_grad_() for _ in range(2))
        DISCREPANCIES[kind](ours, theirs).sum().backward()
        assert ours.grad.abs().max() > 0
        assert (theirs.grad is not None and bool(theirs.grad.abs().max() > 0)) == passes


def test_a_mixture_is_of_probabilities_class_by_class(experts):
    x, y = blobs([0, 3], each=3)
    found = mixture(experts, x, class_share(COUNTS)[:, y])
    said = [m(x).softmax(-1) for m in experts]
    torch.testing.assert_close(found[:3], said[0][:3], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[3:], said[1][3:], atol=1e-5, rtol=0)


def test_a_step_is_of_the_mean_over_inputs_and_classes():
    model = nn.Linear(2, 4).double()
    x, wanted = torch.rand(5, 2).double(), torch.rand(5, 4).double().softmax(-1)
    expected = copy.deepcopy(model)
    loss = 0.0
    for b in range(5):
        for c in range(4):
            loss = loss - wanted[b, c] * expected(x)[b].log_softmax(-1)[c] / 20
    loss.backward()
    distil(model, torch.optim.SGD(model.parameters(), 0.3), x, wanted, 1)
    torch.testing.assert_close(model.weight, expected.weight - 0.3 * expected.weight.grad)


def test_it_joins_what_no_client_knows_and_leaves_the_clients_alone(experts):
    model = merged(experts)
    before, kept = accuracy(model), copy.deepcopy([m.state_dict() for m in experts])
    repair = FedFTG(generator(), FTGConfig(rate=4.0, decay=0.0, hard=0.1), seed=0)
    reports = [repair(model, experts, COUNTS, number) for number in range(3)]
    assert max(map(accuracy, experts)) < 0.6
    assert accuracy(model) >= max(before + 0.15, 0.9)
    assert reports[-1]["client cross entropy"] < np.log(4) / 2
    assert reports[-1]["client cross entropy"] < reports[0]["client cross entropy"]
    for m, was in zip(experts, kept):
        assert all(torch.equal(v, was[n]) for n, v in m.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_layers_that_do_not_learn_stay_so(experts):
    model = merged(experts)
    model[0].requires_grad_(False)
    kept = copy.deepcopy(model)
    FedFTG(generator(), FTGConfig(iterations=2))(model, experts, COUNTS, 0)
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
    assert torch.equal(model[0].weight, kept[0].weight)
    assert not torch.equal(model[2].weight, kept[2].weight)


def test_trust_is_what_makes_it_right(experts):
    """Told that each client has what the other one has, the model learns their mistakes."""
    model = merged(experts)
    repair = FedFTG(generator(), FTGConfig(rate=4.0, decay=0.0, hard=0.1), seed=0)
    for number in range(3):
        repair(model, experts, COUNTS.flip(0), number)
    assert accuracy(model) < 0.3


@pytest.mark.parametrize(
    "changed",
    [
        {"hard": 0.0},
        {"fidelity": 0.0},
        {"diversity": 0.0},
        {"discrepancy": "l1"},
        {"ensemble": False},
        {"exact": True},
        {"generator_steps": 2},
        {"decay": 0.1},
    ],
)
def test_every_setting_makes_a_difference(experts, changed):
    counts = torch.tensor([[40.0, 30, 5, 10], [5, 10, 40, 40]])
    found = []
    for settings in ({}, changed):
        made, model = generator(), merged(experts)
        FedFTG(made, FTGConfig(iterations=2, rate=1.0, **settings))(model, experts, counts, 0)
        found.append(torch.cat([p.flatten() for m in (made, model) for p in m.state_dict().values()]))
    assert (found[0] - found[1]).abs().max() > 1e-5


def test_labels_are_sampled_as_they_are_frequent(experts):
    asked = []

    class Spy(DenseGenerator):
        def forward(self, z, y):
            asked.append(y)
            return super().forward(z, y)

    torch.manual_seed(0)
    counts = torch.tensor([[90.0, 10, 0, 0], [0, 0, 0, 0]])
    for sampling, shares in ((True, [0.9, 0.1, 0, 0]), (False, [0.25] * 4)):
        asked.clear()
        FedFTG(Spy((2,), 4, 8), FTGConfig(iterations=4, sampling=sampling))(
            merged(experts), experts, counts, 0
        )
        y = torch.cat(asked)
        assert (torch.bincount(y, minlength=4) / len(y)).tolist() == pytest.approx(shares, abs=0.01)


def federated(rule, refine, rounds=2):
    data = [blobs([0, 1]), blobs([2, 3]), blobs([1, 2], seed=3)]
    config = FederateConfig(rounds=rounds, local=LocalConfig(epochs=2, rate=0.3), seed=1)
    return federate(classifier(), data, 4, config, rule, refine, accuracy)


def test_no_iterations_are_plain_averaging():
    plain = federated(FedAvg(), None)
    none = federated(FedAvg(), FedFTG(generator(), FTGConfig(iterations=0)))
    still = federated(FedAvg(), FedFTG(generator(), FTGConfig(model_steps=0)))
    for other in (none, still):
        assert all(torch.equal(v, other.model.state_dict()[n]) for n, v in plain.model.state_dict().items())
    assert [r.refined for r in plain.history] == [None, None]
    assert [r.merged for r in none.history] == [r.refined for r in none.history] == plain.scores


@pytest.mark.parametrize("rule", [FedAvg(), FedProx(0.1), FedDyn(0.1), SCAFFOLD()])
@pytest.mark.parametrize(
    "make",
    [
        lambda: FedFTG(generator(), FTGConfig(iterations=3)),
        lambda: FedDF(generator(), DistilConfig(generator_steps=3, batches=2)),
        lambda: NoiseDistillation((2,), config=DistilConfig(batches=2)),
    ],
)
def test_every_repair_plugs_into_every_rule(rule, make):
    plain, found, again = federated(rule, None), federated(rule, make()), federated(rule, make())
    assert found.scores == again.scores
    first = found.history[0]
    assert first.merged == plain.history[0].merged  # of the first round, before the repair
    assert first.refined is not None
    differs = [(v - plain.model.state_dict()[n]).abs().max() > 0 for n, v in found.model.state_dict().items()]
    assert all(differs)
    assert all(v.isfinite().all() for v in found.model.state_dict().values())


def test_a_repair_aside_leaves_the_rounds_as_they_were():
    plain = federated(FedAvg(), None)
    sent = []

    def refine(model, clients, counts, number):
        sent.append({name: p.clone() for name, p in model.named_parameters()})
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(0.5)
        return {"halved": 1.0}

    aside = Aside(refine)
    found = federated(FedAvg(), aside)
    assert [r.merged for r in found.history] == plain.scores
    assert [r.repair for r in found.history] == [{"halved": 1.0}] * 2
    assert found.model is aside.model
    for name, p in plain.model.named_parameters():
        assert torch.equal(sent[-1][name], p)
        assert torch.equal(dict(found.model.named_parameters())[name], 0.5 * p)


def test_a_model_aside_is_of_this_run_and_scored_in_every_round(experts):
    def half(model, clients, counts, number):
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(0.5)
        return {}

    class Dying:  # a loader of a client that is there once
        def __init__(self):
            self.left = 2

        def __iter__(self):
            self.left -= 1
            if self.left < 0:
                raise OSError("gone")
            return iter([blobs([0, 1, 2, 3], each=10)])

    def mean(model):
        return float(next(model.parameters()).detach().double().mean())

    aside = Aside(half)
    config = FederateConfig(rounds=3, local=LocalConfig(epochs=1))
    found = federate(classifier(), [Dying()], 4, config, refine=aside, score=mean)
    assert [bool(r.excluded) for r in found.history] == [False, True, True]
    assert found.scores == [mean(found.model)] * 3
    assert found.history[1].merged == pytest.approx(2 * found.scores[1])
    again = federate(classifier(), [Dying()], 4, FederateConfig(rounds=0), refine=aside)
    assert again.model is not found.model
    for wrong in (None, Aside(half), Aside):
        with pytest.raises(TypeError, match="Aside is of a repair"):
            Aside(wrong)


def test_without_counts_all_are_trusted_by_their_size(experts):
    seen = []

    def refine(model, clients, counts, number):
        seen.append(class_share(counts))
        return {}

    data = [blobs([0, 1], each=10), blobs([2, 3], each=30)]
    config = FederateConfig(rounds=1, share_counts=False, local=LocalConfig(epochs=1))
    federate(classifier(), data, 4, config, refine=refine)
    torch.testing.assert_close(seen[0], torch.tensor([[0.25] * 4, [0.75] * 4]), atol=1e-5, rtol=0)


def test_the_repair_is_told_of_those_that_are_used_alone():
    seen = []

    def refine(model, clients, counts, number):
        seen.append((len(clients), counts.tolist(), number))
        return {}

    x, y = blobs([2, 3], each=5)
    data = [blobs([0, 1], each=5), (x * torch.nan, y)]
    federate(classifier(), data, 4, FederateConfig(rounds=2), refine=refine)
    assert seen == [(1, [[5.0, 5, 0, 0]], k) for k in range(2)]


def test_a_repair_that_ruins_the_model_is_undone():
    def ruin(model, clients, counts, number):
        if number == 0:
            model[0].weight.data.fill_(torch.nan)
        return {"number": float(number)}

    plain, found = federated(FedAvg(), None), federated(FedAvg(), ruin)
    assert [r.repair for r in found.history] == [{"undone": 1.0}, {"number": 1.0}]
    assert found.scores == plain.scores


@pytest.mark.parametrize("span", [None, (-1.0, 2.0)])
def test_generated_images_have_a_range_or_a_scale(span):
    torch.manual_seed(0)
    made = ImageGenerator((2, 8, 12), 3, noise=10, width=8, span=span)
    x = made(torch.randn(16, 10), torch.arange(16) % 3)
    assert x.shape == (16, 2, 8, 12)
    if span is None:
        assert x.mean((0, 2, 3)).abs().max() < 1e-4
        assert (x.var((0, 2, 3)) - 1).abs().max() < 0.05
    else:
        assert x.min() >= -1
        assert x.max() <= 2
    with pytest.raises(ValueError, match="multiples of 4"):
        ImageGenerator((1, 10, 8), 3)


def test_a_generator_depends_on_noise_and_class():
    made, z = generator(), torch.randn(5, 8)
    x = made(z, torch.zeros(5, dtype=torch.long))
    assert not torch.allclose(x, made(z, torch.ones(5, dtype=torch.long)))
    assert not torch.allclose(x, made(z.flip(0), torch.zeros(5, dtype=torch.long)))
    assert x.min() >= 0
    assert x.max() <= 1


@pytest.mark.parametrize("wrong", [{"discrepancy": "l2"}, {"batch": 1}, {"iterations": -1}])
def test_settings_of_the_repair_out_of_range(wrong):
    with pytest.raises(ValueError):
        FTGConfig(**wrong)
