"""Federated rounds: rules against their equations, what is refused and named, what is left as it was."""

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
    FedAvg,
    FedDyn,
    FederateConfig,
    FedProx,
    LocalConfig,
    dirichlet,
    federate,
    label_counts,
    noisy_counts,
)
from adapt.federated.local import seeded, train_locally
from adapt.federated.rounds import counts_of
from adapt.federated.uploads import average, fault, parameters_of, update_norm

PLAIN = LocalConfig(epochs=3, batch=1000, rate=0.2, fade=1.0, decay=0.0, clip=1e9)  # whole-batch descent


def clients(number=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(6 + 3 * k, 2, generator=g) + k, torch.randint(2, (6 + 3 * k,), generator=g))
        for k in range(number)
    ]


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(2, 2).double()


def vector(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def double(data):
    return [(x.double(), y) for x, y in data]


def run(rule, rounds=3, data=None, participation=1.0, **settings):
    config = FederateConfig(rounds=rounds, participation=participation, local=PLAIN, seed=3, **settings)
    return federate(linear(), double(clients()) if data is None else data, 2, config, rule)


def descended(start, objective, steps=PLAIN.epochs, rate=PLAIN.rate):
    """Gradient descent on a function of the six numbers of a linear layer."""
    w = start.clone()
    for _ in range(steps):
        w = w.detach().requires_grad_()
        (slope,) = torch.autograd.grad(objective(w), w)
        w = w - rate * slope
    return w.detach()


def risk(w, data):
    x, y = data
    return F.cross_entropy(x @ w[:4].reshape(2, 2).T + w[4:], y)


def oracle(name, rounds=3):
    """The rules as the papers write them, on flat vectors and by autograd of the clients' objectives."""
    data = double(clients())
    n = torch.tensor([len(y) for _, y in data], dtype=torch.float64)
    w, k = vector(linear()), len(data)
    own, server = [torch.zeros(6).double() for _ in data], torch.zeros(6).double()
    for _ in range(rounds):
        if name == "fedavg":
            ends = [descended(w, lambda v, d=d: risk(v, d)) for d in data]
        if name == "fedprox":
            ends = [
                descended(w, lambda v, d=d, w=w: risk(v, d) + 0.3 / 2 * (v - w).square().sum()) for d in data
            ]
        if name == "feddyn":
            ends = [
                descended(w, lambda v, d=d, h=h, w=w: risk(v, d) - h @ v + 0.5 / 2 * (v - w).square().sum())
                for d, h in zip(data, own)
            ]
            own = [h - 0.5 * (e - w) for h, e in zip(own, ends)]
            server = server - 0.5 / k * sum(e - w for e in ends)
            w = sum(ends) / k - server / 0.5
            continue
        if name == "scaffold":
            ends = [descended(w, lambda v, d=d, c=server - c: risk(v, d) + c @ v) for d, c in zip(data, own)]
            new = [c - server + (w - e) / (PLAIN.epochs * PLAIN.rate) for c, e in zip(own, ends)]
            server = server + sum(a - b for a, b in zip(new, own)) / k
            own = new
        w = sum(share * e for share, e in zip(n / n.sum(), ends))
    return w


@pytest.mark.parametrize(
    ("name", "rule"),
    [("fedavg", FedAvg()), ("fedprox", FedProx(0.3)), ("feddyn", FedDyn(0.5)), ("scaffold", SCAFFOLD())],
)
def test_rules_are_those_of_the_papers(name, rule):
    torch.testing.assert_close(vector(run(rule).model), oracle(name), atol=1e-10, rtol=0)


def test_rules_differ():
    found = [vector(run(rule).model) for rule in (FedAvg(), FedProx(0.3), FedDyn(0.5), SCAFFOLD())]
    for i in range(4):
        for j in range(i):
            assert (found[i] - found[j]).abs().max() > 1e-4


def test_memories_of_clients_average_to_that_of_the_server():
    for rule in (FedDyn(0.5), SCAFFOLD()):
        start = parameters_of(linear())
        for number in range(3):
            uploads = []
            for k in range(3):
                moved = {n: v + 0.1 * (k + number) + torch.rand_like(v) for n, v in start.items()}
                uploads.append(upload(k, moved))
            rule.merged(start, uploads, 3)
        for name, value in rule.server.items():
            torch.testing.assert_close(value, sum(rule.own[k][name] for k in range(3)) / 3)


def upload(client, weights):
    from adapt.federated import Upload

    return Upload(client, weights, {}, 5, torch.ones(2), 4, 0.1, 0.0)


def test_who_was_not_there_keeps_a_memory():
    rule, start = SCAFFOLD(), parameters_of(linear())
    rule.merged(start, [upload(0, {n: v + 1 for n, v in start.items()})], 4)
    before = copy.deepcopy(rule.own[0])
    rule.merged(start, [upload(1, {n: v - 1 for n, v in start.items()})], 4)
    assert all(torch.equal(before[n], rule.own[0][n]) for n in before)
    assert 2 not in rule.own
    torch.testing.assert_close(rule.server["bias"], (rule.own[0]["bias"] + rule.own[1]["bias"]) / 4)


def test_one_client_is_plain_training():
    data = clients(1)
    config = FederateConfig(rounds=2, local=LocalConfig(batch=2, epochs=2), seed=1)
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    by_hand = copy.deepcopy(model)
    for number in range(2):
        train_locally(by_hand, data[0], config.local, seeded(1, number, 0), number)
    found = federate(model, data, 2, config).model
    assert torch.equal(vector(found), vector(by_hand))


def test_same_seed_same_weights_and_nothing_given_is_changed():
    data, model, rule = double(clients()), linear(), FedDyn(0.5)
    kept = copy.deepcopy((data, model.state_dict()))
    config = FederateConfig(rounds=3, participation=0.5, local=LocalConfig(batch=4), seed=5)
    one, two = (federate(model, data, 2, config, rule) for _ in range(2))
    assert torch.equal(vector(one.model), vector(two.model))
    assert all(torch.equal(model.state_dict()[k], v) for k, v in kept[1].items())
    assert all(torch.equal(a, b) for pair, was in zip(data, kept[0]) for a, b in zip(pair, was))
    assert rule == FedDyn(0.5)
    assert [len(r.asked) for r in one.history] == [2, 2, 2]
    other = federate(model, data, 2, FederateConfig(rounds=3, participation=0.5, seed=6), rule)
    assert not torch.equal(vector(one.model), vector(other.model))


def test_a_loader_is_a_client_too():
    (x, y), *rest = double(clients())
    loader = [(x[:4], y[:4]), (x[4:], y[4:])]
    config = FederateConfig(rounds=1, local=PLAIN)
    found = federate(linear(), [loader, *rest], 2, config)
    assert found.history[0].excluded == ()
    whole = [(x, y)] * 1
    same = federate(linear(), [whole, *rest], 2, config)
    assert torch.allclose(vector(same.model), vector(run(FedAvg(), 1).model))


class Broken:
    def __iter__(self):
        raise OSError("the disk is gone")


def with_fault(kind):
    data = double(clients())
    x, y = data[1]
    bad = {
        "raises": Broken(),
        "nan": (x * torch.nan, y),
        "empty": (x[:0], y[:0]),
        "labels": (x, y + 5),
        "shape": (x[:, :1], y),
    }
    return [data[0], bad[kind], data[2]]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("raises", "OSError: the disk is gone"),
        ("nan", "not finite"),
        ("empty", "no samples"),
        ("labels", "labels are 5 to 6, accepted are 0 to 1"),
        ("shape", "RuntimeError"),
    ],
)
@pytest.mark.parametrize("rule", [FedAvg(), FedDyn(0.5), SCAFFOLD()])
def test_what_cannot_be_used_is_named_and_the_others_go_on(kind, words, rule):
    found = run(rule, data=with_fault(kind))
    for r in found.history:
        (one,) = r.excluded
        assert one.client == 1
        assert words in one.reason
        assert set(r.norms) == {0, 2}
    if isinstance(rule, FedAvg):  # who is left out is not weighed
        data = double(clients())
        config = FederateConfig(rounds=3, local=PLAIN, seed=3)
        without = federate(linear(), [data[0], data[2]], 2, config)
        torch.testing.assert_close(vector(found.model), vector(without.model), atol=1e-12, rtol=0)
    assert vector(found.model).isfinite().all()


def test_an_update_beyond_the_bound_is_named():
    norms = run(FedAvg(), 1).history[0].norms
    order = sorted(norms, key=norms.get)
    bound = (norms[order[1]] + norms[order[2]]) / 2
    found = run(FedAvg(), 1, norm_bound=bound).history[0]
    assert [e.client for e in found.excluded] == [order[2]]
    assert f"accepted are {bound:g}" in found.excluded[0].reason
    assert set(found.norms) == set(order[:2])


def test_a_round_without_updates_leaves_the_model_and_a_run_of_them_is_an_error():
    data = [Broken(), double(clients())[0]]
    config = FederateConfig(rounds=8, participation=0.5, local=PLAIN, seed=0)
    seen = []

    def score(model):
        seen.append(vector(model))
        return 0.0

    found = federate(linear(), data, 2, config, score=score)
    assert len({r.asked for r in found.history}) == 2
    before = vector(linear())
    for r, after in zip(found.history, seen):
        assert torch.equal(before, after) == (r.asked == (0,))
        assert (r.loss is None) == (r.asked == (0,))
        before = after
    with pytest.raises(RuntimeError, match="client 0: it failed: OSError: the disk is gone"):
        federate(linear(), [Broken()], 2, config)
    with pytest.raises(ValueError, match="no client"):
        federate(linear(), [], 2)


def test_statistics_of_batches_are_averaged_and_counters_stay_whole():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    for rule in (FedAvg(), FedDyn(0.1), SCAFFOLD()):
        config = FederateConfig(rounds=1, local=LocalConfig(epochs=1, batch=100))
        norm = federate(model, clients(), 2, config, rule).model[1]
        assert norm.num_batches_tracked.item() == 1
        x = [model[0](x).detach() for x, _ in clients()]
        n = np.array([len(v) for v in x])
        expected = sum(0.1 * v.mean(0) * k / n.sum() for v, k in zip(x, n))
        torch.testing.assert_close(norm.running_mean, expected)
        assert (norm.running_var > 0).all()


def test_faults_of_uploads():
    start = parameters_of(linear())
    assert fault(start, start, 1e-9) is None
    assert "another model" in fault({"weight": start["weight"]}, start)
    assert "shape (2,), not (2, 2)" in fault(start | {"weight": start["bias"]}, start)
    assert "not finite" in fault(start | {"bias": start["bias"] * torch.inf}, start)
    whole = start | {"bias": torch.full_like(start["bias"], 1_000_000, dtype=torch.int64)}
    assert "torch.int64, not torch.float64" in fault(whole, start, 1.0)
    moved = start | {"bias": start["bias"] + torch.tensor([3.0, 4.0])}
    assert update_norm(moved, start) == pytest.approx(5)
    assert fault(moved, start, 4.9) == "its update has norm 5, accepted are 4.9"
    assert fault(moved, start, 5.1) is None


def test_average_is_weighted():
    a, b = {"w": torch.tensor([0.0]), "n": torch.tensor(3)}, {"w": torch.tensor([4.0]), "n": torch.tensor(9)}
    found = average([a, b], [1, 3])
    assert found["w"].item() == 3.0
    assert found["n"].item() == 3


@given(st.integers(0, 1000), st.sampled_from([0.1, 0.5, 100.0]), st.integers(1, 6))
def test_every_sample_has_one_client(seed, alpha, number):
    labels = np.arange(120) % 4
    parts = dirichlet(labels, number, alpha, np.random.default_rng(seed), least=3)
    assert sorted(np.concatenate(parts).tolist()) == list(range(120))
    assert min(map(len, parts)) >= 3


def test_alpha_is_how_alike_clients_are():
    labels = np.arange(2000) % 10
    largest = {}
    for alpha in (0.1, 1.0, 100.0):
        parts = dirichlet(labels, 5, alpha, np.random.default_rng(0))
        counts = np.stack([label_counts(labels[p], 10) for p in parts])
        largest[alpha] = (counts.max(0) / counts.sum(0)).mean()  # of a class, at one client
    assert largest[0.1] > 0.75 > largest[1.0] > 0.3 > largest[100.0]


def test_splits_that_cannot_be():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="not enough"):
        dirichlet(np.zeros(50, int), 6, 1.0, rng)
    with pytest.raises(ValueError, match="larger alpha"):
        dirichlet(np.zeros(60, int), 5, 0.01, rng)
    with pytest.raises(ValueError, match="alpha above 0"):
        dirichlet(np.zeros(60, int), 5, 0.0, rng)
    with pytest.raises(ValueError, match="accepted are 0 to 2"):
        label_counts(np.array([0, 3]), 3)


def test_noise_of_counts_has_the_scale_of_the_mechanism():
    counts = np.full(20_000, 100)
    noise = noisy_counts(counts, 0.5, np.random.default_rng(0)) - counts
    assert abs(noise.mean()) < 0.1
    assert np.abs(noise).mean() == pytest.approx(2.0, rel=0.05)
    assert noisy_counts(np.zeros(1000), 0.5, np.random.default_rng(0)).min() == 0
    with pytest.raises(ValueError, match="above 0"):
        noisy_counts(counts, 0.0, np.random.default_rng(0))


def test_what_the_server_is_told_of_labels():
    labels, rng = np.array([0, 0, 0, 2]), np.random.default_rng(0)
    assert counts_of(labels, 4, FederateConfig(), rng).tolist() == [3, 0, 1, 0]
    assert counts_of(labels, 4, FederateConfig(share_counts=False), rng).tolist() == [1, 1, 1, 1]
    noisy = counts_of(labels, 4, FederateConfig(epsilon=1.0), rng)
    assert noisy.tolist() != [3, 0, 1, 0]
    nothing = [
        counts_of(labels[:2], 4, FederateConfig(epsilon=0.01), np.random.default_rng(k)) for k in range(60)
    ]
    assert all(told.sum() > 0 for told in nothing)
    assert [0.5] * 4 in [told.tolist() for told in nothing]


@pytest.mark.parametrize(
    "wrong",
    [{"rounds": -1}, {"participation": 0}, {"participation": 1.5}, {"norm_bound": 0}, {"epsilon": -1}],
)
def test_settings_out_of_range(wrong):
    with pytest.raises(ValueError):
        FederateConfig(**wrong)


def test_rounds_to_a_score():
    scores = iter([0.1, 0.5, 0.4, 0.9])
    config = FederateConfig(rounds=4, local=PLAIN)
    found = federate(linear(), double(clients()), 2, config, score=lambda m: next(scores))
    assert found.scores == [0.1, 0.5, 0.4, 0.9]
    assert (found.rounds_to(0.5), found.rounds_to(0.6), found.rounds_to(0.95)) == (2, 4, None)


def test_a_loader_that_can_be_gone_through_once_is_named():
    (x, y), *rest = double(clients())
    found = run(FedAvg(), 1, [((a, b) for a, b in [(x, y)]), *rest]).history[0]
    assert [e.client for e in found.excluded] == [0]
    assert "must start anew" in found.excluded[0].reason


def test_a_last_sample_is_not_alone_where_statistics_need_two():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    config = FederateConfig(rounds=1, local=LocalConfig(epochs=2, batch=5))  # of 6, 9 and 12 samples
    found = federate(model, clients(), 2, config)
    assert found.history[0].excluded == ()
    assert found.model[1].num_batches_tracked.item() == 2


@pytest.mark.parametrize("wrong", [lambda: FedDyn(0.0), lambda: FedDyn(float("nan")), lambda: FedProx(-1.0)])
def test_rules_out_of_range(wrong):
    with pytest.raises(ValueError, match="must be"):
        wrong()
