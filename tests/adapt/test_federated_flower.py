"""Flower as the engine, in this process: the weights of `federate`, and clients that die or send nonsense."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("flwr.serverapp.strategy", reason="needs the extra federated")

from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from adapt.federated import (
    SCAFFOLD,
    Aside,
    DenseGenerator,
    FedAvg,
    FedDyn,
    FederateConfig,
    FedFTG,
    FedProx,
    FTGConfig,
    LocalConfig,
    federate,
)
from adapt.federated.flower import FedFTGStrategy, client_app, initial

CONFIG = FederateConfig(rounds=3, local=LocalConfig(epochs=2, batch=4), seed=3)


def identify():
    """Newer versions of Flower want to know which task they are in before they make a message."""
    try:
        from flwr.supercore.task_identity import TaskIdentity
    except ImportError:
        return
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1


class Here(Grid):
    """Runs client apps one after the other; `change` may spoil a reply, or lose it with None."""

    def __init__(self, app, number, change=lambda client, reply: reply):
        identify()
        self.app, self.number, self.change = app, number, change

    def set_run(self, run):
        pass

    @property
    def run(self):
        return None

    def create_message(self, content, message_type, dst_node_id, group_id, ttl=None):
        return Message(content=content, dst_node_id=dst_node_id, message_type=message_type)

    def get_node_ids(self):
        return [100 + k for k in range(self.number)]

    def push_messages(self, messages):
        raise NotImplementedError

    def pull_messages(self, message_ids):
        raise NotImplementedError

    def send_and_receive(self, messages, *, timeout=None):
        replies = []
        for message in messages:
            node = message.metadata.dst_node_id
            config = {"partition-id": node - 100, "num-partitions": self.number}
            context = Context(1, node, config, RecordDict(), {})
            try:
                reply = self.app(copy.deepcopy(message), context)
            except Exception as error:
                reply = Message(Error(0, f"{type(error).__name__}: {error}"), reply_to=message)
            replies.append(self.change(node - 100, reply))
        return [reply for reply in replies[::-1] if reply is not None]  # in another order than asked


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def data(client):
    g = torch.Generator().manual_seed(client)
    return torch.randn(8 + 3 * client, 2, generator=g), torch.randint(3, (8 + 3 * client,), generator=g)


def refine():
    torch.manual_seed(1)
    return FedFTG(DenseGenerator((2,), 3, 4, 8), FTGConfig(iterations=2))


def flown(number=3, change=lambda client, reply: reply, config=CONFIG, own=data, **settings):
    strategy = FedFTGStrategy(model(), 3, min_train_nodes=1, min_available_nodes=1, **settings)
    grid = Here(client_app(model, own, 3, config), number, change)
    strategy.start(grid, initial(model()), num_rounds=config.rounds)
    return strategy


def close(one, two):
    return max(float((v - two.state_dict()[n]).abs().max()) for n, v in one.state_dict().items())


@pytest.mark.parametrize("repaired", [False, True])
def test_weights_are_those_of_our_own_rounds(repaired):
    ours = federate(model(), [data(k) for k in range(3)], 3, CONFIG, refine=refine() if repaired else None)
    theirs = flown(refine=refine() if repaired else None)
    assert close(ours.model, theirs.model) < 1e-6
    assert close(ours.model, model()) > 0.01
    assert [r.asked for r in theirs.history] == [(0, 1, 2)] * 3
    assert theirs.history[-1].loss == pytest.approx(ours.history[-1].loss, abs=1e-6)
    assert theirs.history[0].norms == pytest.approx(ours.history[0].norms, rel=1e-5)


def test_a_repair_aside_is_the_same_here_and_there():
    here, there = Aside(refine()), Aside(refine())
    ours = federate(model(), [data(k) for k in range(3)], 3, CONFIG, refine=here)
    theirs = flown(refine=there)
    assert ours.model is here.model
    assert close(here.model, there.model) < 1e-6
    assert close(theirs.model, flown().model) == 0  # the clients' own rounds are as without it


@pytest.mark.parametrize(
    "rule", [FedAvg(), FedProx(0.1), FedDyn(0.1), SCAFFOLD()], ids=lambda r: type(r).__name__
)
def test_each_rule_gives_the_weights_of_our_own_rounds(rule):
    theirs = flown(rule=rule)
    ours = federate(model(), [data(k) for k in range(3)], 3, CONFIG, rule=rule)
    assert close(ours.model, theirs.model) < 1e-6
    plain = federate(model(), [data(k) for k in range(3)], 3, CONFIG)
    assert isinstance(rule, FedAvg) or close(plain.model, theirs.model) > 1e-4


class Away:
    """Batches of a client that is away in the second round; a round reads labels once, and twice to learn."""

    def __init__(self, batches):
        self.batches, self.passes = batches, 0

    def __iter__(self):
        self.passes += 1
        if self.passes == 4:
            raise TimeoutError("it is away")
        return iter(self.batches)


@pytest.mark.parametrize("rule", [FedDyn(0.1), SCAFFOLD()], ids=lambda r: type(r).__name__)
def test_a_rule_remembers_a_client_that_misses_a_round(rule):
    """As in our own rounds: a client that is not heard of is as if it had not been asked."""
    away = Away([data(1)])

    def own(client):
        return away if client == 1 else data(client)

    theirs = flown(rule=rule, own=own)
    assert [sorted(r.norms) for r in theirs.history] == [[0, 1, 2], [0, 2], [0, 1, 2]]
    clients = [data(0), Away([data(1)]), data(2)]
    ours = federate(model(), clients, 3, CONFIG, rule=rule)
    assert close(ours.model, theirs.model) < 1e-6


def test_arrays_of_another_model_are_refused_at_the_start():
    strategy = FedFTGStrategy(model(), 3, min_train_nodes=1, min_available_nodes=1)
    other = nn.Sequential(nn.Linear(2, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    with pytest.raises(ValueError, match="not of the strategy's model"):
        strategy.start(Here(client_app(model, data, 3, CONFIG), 3), initial(other), num_rounds=1)


def spoiled(change):
    def work(client, reply):
        if client != 1:
            return reply
        content = copy.deepcopy(reply.content)
        change(content)
        reply.content = content
        return reply

    return work


def poison(content, what):
    weights = content["arrays"].to_torch_state_dict()
    if what == "shape":
        weights["0.bias"] = weights["0.bias"][:2]
    elif what == "missing":
        del weights["0.bias"]
    else:
        weights["0.bias"] = weights["0.bias"] * torch.nan if what == "nan" else weights["0.bias"] + 1e4
    content["arrays"] = type(content["arrays"])(weights)


def said(content, name, value):
    metrics = dict(content["metrics"])
    metrics[name] = value
    content["metrics"] = MetricRecord(metrics)


def count(content, value):
    said(content, "label-counts", value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: poison(c, "nan"), "not finite"),
        (lambda c: poison(c, "shape"), "shape (2,)"),
        (lambda c: poison(c, "missing"), "another model"),
        (lambda c: poison(c, "large"), "accepted are 100"),
        (lambda c: count(c, [1.0, 2.0]), "not 3 numbers"),
        (lambda c: count(c, [1.0, float("nan"), 0.0]), "not 3 numbers"),
        (lambda c: count(c, [1.0, -2.0, 0.0]), "negative"),
        (lambda c: count(c, [0.0, 0.0, 0.0]), "all 0"),
        (lambda c: said(c, "steps", 0), "0 steps"),
        (lambda c: said(c, "rate", float("inf")), "rate inf"),
        (lambda c: said(c, "loss", float("nan")), "loss of nan"),
    ],
)
def test_nonsense_is_left_out_and_named(change, words):
    found = flown(change=spoiled(change), norm_bound=100.0, refine=refine())
    for r in found.history:
        (one,) = r.excluded
        assert one.client == 1
        assert words in one.reason
        assert set(r.norms) == {0, 2}
    assert all(v.isfinite().all() for v in found.model.state_dict().values())


def test_clients_that_die_or_are_late_are_survived():
    def own(client):
        if client == 1:
            raise OSError("the battery is empty")
        return data(client)

    dead = flown(own=own)
    assert all("the battery is empty" in str(e) for r in dead.history for e in r.excluded)
    late = flown(change=lambda client, reply: None if client == 1 else reply)
    assert [r.asked for r in late.history] == [(0, 2)] * 3
    assert close(dead.model, late.model) == 0
    assert np.isfinite(dead.history[-1].loss)


def test_a_round_without_replies_leaves_the_model():
    found = flown(change=lambda client, reply: None)
    assert close(found.model, model()) == 0
    assert [r.loss for r in found.history] == [None] * 3


def test_a_reply_of_something_else_is_named():
    strategy = FedFTGStrategy(model(), 3)
    identify()
    message = Message(content=RecordDict({"config": ConfigRecord()}), dst_node_id=7, message_type="train")
    reply = Message(content=RecordDict(), reply_to=message)
    assert strategy.aggregate_train(1, [reply]) == (None, None)
    assert "not of client_app" in strategy.history[0].excluded[0].reason
