"""Flower as the engine of a federation: the same training, checks and repair as `adapt.federated.rounds`.

A client app trains with `train_locally`, the strategy refuses what `fault` refuses, merges by the rule and
repairs with `FedFTG`; with the same seeds a run has the weights of `federate`. What a rule remembers of its
clients stays with the strategy, which sends each what corrects its gradient. Needs the extra `federated`;
written for the message API of flwr (`flwr.serverapp`, 1.24 and later).

    server.py    app = ServerApp()
                 @app.main()
                 def main(grid, context):
                     FedFTGStrategy(model, 10, refine=FedFTG(generator)).start(grid, initial(model), 20)
    client.py    app = client_app(build_model, load_data, 10, config)
"""

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from adapt.federated.local import Correction, Data, Weights, labels_of, seeded, train_locally
from adapt.federated.rounds import (
    FEDAVG,
    NOISE,
    Aside,
    FederateConfig,
    Refine,
    Round,
    begun,
    counts_of,
    finished,
)
from adapt.federated.rules import Rule
from adapt.federated.uploads import Exclusion, Upload, buffers_of, fault, misfit, parameters_of, put

try:
    from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp.strategy import FedAvg
except ImportError as error:
    raise ImportError(
        "federations over Flower need the extra federated: pip install '.[federated]'"
    ) from error

WEIGHTS, METRICS, SETTINGS = "arrays", "metrics", "config"  # keys of records in a message
PULL, SHIFT = "pull", "shift"  # likewise: what corrects the gradient
DEFAULT = FederateConfig()
COUNTS, SAMPLES, CLIENT, STEPS, RATE = "label-counts", "num-examples", "client", "steps", "rate"
STRANGER = -1  # a client whose number is not known yet; no rule remembers anything of it


def initial(model: nn.Module) -> ArrayRecord:
    """A model's parameters and buffers as a strategy starts with them."""
    return _record(parameters_of(model) | buffers_of(model))


def client_app(
    model: Callable[[], nn.Module],
    data: Callable[[int], Data],
    classes: int,
    config: FederateConfig = DEFAULT,
) -> ClientApp:
    """The client's side: it trains on the data of its `partition-id`.

    Args:
        model:   makes one; its weights are replaced by those that are sent.
        data:    of a client, by its number.
        classes: at all clients together.
        config:  settings of the training, of the counts, and the seed (with `epsilon` the client's secret);
                 how often and who is the server's.
    """
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        client = int(context.node_config["partition-id"])  # type: ignore[arg-type]
        number = int(message.content[SETTINGS]["server-round"]) - 1  # type: ignore
        network, own = model(), data(client)
        put(network, _weights(message.content[WEIGHTS]))  # type: ignore[arg-type]
        labels = labels_of(own)
        if not len(labels):
            raise ValueError("it has no samples")
        rng = np.random.default_rng((config.seed, number, client, NOISE))
        counts = counts_of(labels, classes, config, rng)
        draws = seeded(config.seed, number, client)
        trained = train_locally(network, own, config.local, draws, number, _correction(message.content))
        metrics = {
            SAMPLES: len(labels),
            CLIENT: client,
            "loss": trained.loss,
            COUNTS: counts.tolist(),
            STEPS: trained.steps,
            RATE: config.local.rate_in(number),
        }
        content = RecordDict({WEIGHTS: initial(network), METRICS: MetricRecord(metrics)})
        return Message(content=content, reply_to=message)

    return app


class FedFTGStrategy(FedAvg):
    """Flower's FedAvg with any of our rules, that names whom it leaves out and repairs the merged model.

    Clients that died, were late, or sent what cannot be right are left out; the others go on.

    Args:
        model:      with the shapes of the weights; it is not changed.
        classes:    at all clients together.
        rule:       FedAvg(), FedProx(mu), FedDyn(alpha) or SCAFFOLD(); it is not changed.
        refine:     as `FedFTG(...)`, or `Aside(FedFTG(...))`, whose `model` is the repaired one; None:
                    only the checks.
        norm_bound: largest norm of an update that is used.
        score:      of a model in evaluation mode, for the history.
        settings:   of flwr's FedAvg, such as fraction_train.

    `history` has a `Round` for each round.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: int,
        rule: Rule = FEDAVG,
        refine: Refine | Aside | None = None,
        norm_bound: float | None = None,
        score: Callable[[nn.Module], float] | None = None,
        **settings: Any,
    ):
        super().__init__(**({"fraction_evaluate": 0.0} | settings))
        self.model, self.classes, self.rule = copy.deepcopy(model), classes, copy.deepcopy(rule)
        self.refine, self.norm_bound, self.score = begun(refine), norm_bound, score
        self.history: list[Round] = []
        self.sent: Weights = {}
        self.number: dict[int, int] = {}  # of the client at a node
        self.clients = 0

    def configure_train(self, server_round, arrays, config, grid):
        """The messages to the clients; what is sent is remembered, to see how far they move from it."""
        self.sent = _weights(arrays)
        wrong = misfit(self.sent, parameters_of(self.model) | buffers_of(self.model))
        if wrong is not None:
            raise ValueError(f"the arrays to start with are not of the strategy's model: {wrong}")
        put(self.model, self.sent)
        self.clients = len(list(grid.get_node_ids()))
        messages = list(super().configure_train(server_round, arrays, config, grid))
        for message in messages:
            client = self.number.get(message.metadata.dst_node_id, STRANGER)
            message.content = _with_correction(message.content, self.rule.correction(client))
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Merge what can be used, by client, and repair it; None if there is nothing."""
        kept: dict[int, Upload] = {}
        excluded = []
        for reply in replies:
            client, wrong = self._fault(reply)
            if wrong is None and client in kept:
                wrong = "another reply is of the same client"
            if wrong is None:
                kept[client] = self._upload(reply)
                self.number[reply.metadata.src_node_id] = client
            else:
                excluded.append(Exclusion(client, wrong))
        asked = tuple(sorted([*kept, *(e.client for e in excluded)]))
        uploads = [kept[k] for k in sorted(kept)]
        done = finished(
            self.model,
            uploads,
            excluded,
            asked,
            server_round - 1,
            self.clients,
            self.rule,
            self.refine,
            self.score,
        )
        self.history.append(done)
        if done.loss is None:
            return None, None
        return initial(self.model), MetricRecord({"loss": done.loss, "clients": len(kept), **done.repair})

    def _upload(self, reply: Message) -> Upload:
        weights, m = _weights(reply.content[WEIGHTS]), reply.content[METRICS]  # type: ignore[arg-type]
        counts = torch.tensor(m[COUNTS], dtype=torch.float32)
        own, rest = parameters_of(self.model).keys(), buffers_of(self.model).keys()
        return Upload(
            m[CLIENT],  # type: ignore[arg-type]
            {name: weights[name] for name in own},
            {name: weights[name] for name in rest},
            m[SAMPLES],  # type: ignore[arg-type]
            counts,
            m[STEPS],  # type: ignore[arg-type]
            m[RATE],  # type: ignore[arg-type]
            m["loss"],  # type: ignore[arg-type]
        )

    def _fault(self, reply: Message) -> tuple[int, str | None]:
        """The client of a reply, or else its node, and what is wrong with it."""
        node = reply.metadata.src_node_id
        if reply.has_error():
            return node, f"it failed: {reply.error.reason}"
        try:
            metrics, weights = reply.content[METRICS], _weights(reply.content[WEIGHTS])  # type: ignore[arg-type]
            client, samples, counts = metrics[CLIENT], metrics[SAMPLES], metrics[COUNTS]
            steps, rate, loss = metrics[STEPS], metrics[RATE], metrics["loss"]
        except (KeyError, TypeError, ValueError) as error:
            return node, f"its reply is not of client_app: {type(error).__name__}: {error}"
        if not isinstance(client, int) or client < 0 or not isinstance(samples, int) or samples < 1:
            return node, f"its reply names client {client} with {samples} samples"
        if not isinstance(counts, list) or len(counts) != self.classes or not np.isfinite(counts).all():
            return client, f"its label counts are not {self.classes} numbers"
        if min(counts) < 0 or not any(counts):
            return client, "its label counts are negative, or all 0"
        if not isinstance(steps, int) or steps < 1 or not (_number(rate) and rate > 0 and _number(loss)):
            return client, f"it says to have taken {steps} steps at rate {rate} to a loss of {loss}"
        wrong = fault(weights, self.sent)
        return client, wrong or fault(*self._parameters(weights), self.norm_bound)

    def _parameters(self, weights: Weights) -> tuple[Weights, Weights]:
        names = [name for name, _ in self.model.named_parameters()]
        return {n: weights[n] for n in names}, {n: self.sent[n] for n in names}


def _with_correction(content: RecordDict, correction: Correction) -> RecordDict:
    """The content, which all clients share, with what is one client's."""
    own: dict[str, Any] = {}
    if correction.pull:
        own[PULL] = ConfigRecord({PULL: correction.pull})
    if correction.shift is not None:
        own[SHIFT] = _record(correction.shift)
    return RecordDict({**content, **own}) if own else content


def _correction(content: RecordDict) -> Correction:
    pull = float(content[PULL][PULL]) if PULL in content else 0.0  # type: ignore
    return Correction(pull, _weights(content[SHIFT]) if SHIFT in content else None)  # type: ignore[arg-type]


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _record(weights: Weights) -> ArrayRecord:
    return ArrayRecord(OrderedDict((name, value.cpu()) for name, value in weights.items()))


def _weights(record: ArrayRecord) -> Weights:
    return dict(record.to_torch_state_dict())
