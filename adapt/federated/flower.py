"""Flower as the engine of a federation: the same training, checks and repair as `adapt.federated.rounds`.

A client app trains with `train_locally`, the strategy refuses what `fault` refuses and repairs with `FedFTG`;
with the same seeds a run has the weights of `federate`. Needs the extra `federated`; written for the message
API of flwr (`flwr.serverapp`, 1.24 and later).

    server.py    app = ServerApp()
                 @app.main()
                 def main(grid, context):
                     FedFTGStrategy(model, 10, refine=FedFTG(generator)).start(grid, initial(model), 20)
    client.py    app = client_app(build_model, load_data, 10, config)
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from adapt.federated.local import Data, labels_of, seeded, train_locally
from adapt.federated.rounds import NOISE, FederateConfig, Refine, Round, counts_of, repaired
from adapt.federated.uploads import (
    Exclusion,
    Weights,
    average,
    buffers_of,
    fault,
    parameters_of,
    put,
    update_norm,
)

try:
    from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp.strategy import FedAvg
except ImportError as error:
    raise ImportError(
        "federations over Flower need the extra federated: pip install '.[federated]'"
    ) from error

WEIGHTS, METRICS, SETTINGS = "arrays", "metrics", "config"  # keys of records in a message
DEFAULT = FederateConfig()
COUNTS, SAMPLES, CLIENT = "label-counts", "num-examples", "client"


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
        trained = train_locally(network, own, config.local, seeded(config.seed, number, client), number)
        metrics = {SAMPLES: len(labels), CLIENT: client, "loss": trained.loss, COUNTS: counts.tolist()}
        content = RecordDict({WEIGHTS: initial(network), METRICS: MetricRecord(metrics)})
        return Message(content=content, reply_to=message)

    return app


class FedFTGStrategy(FedAvg):
    """FedAvg that names whom it leaves out, and repairs the merged model.

    Clients that died, were late, or sent what cannot be right are left out; the others go on.

    Args:
        model:      with the shapes of the weights; it is not changed.
        classes:    at all clients together.
        refine:     as `FedFTG(...)`; None: only the checks.
        norm_bound: largest norm of an update that is used.
        score:      of a model in evaluation mode, for the history.
        settings:   of flwr's FedAvg, such as fraction_train.

    `history` has a `Round` for each round.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: int,
        refine: Refine | None = None,
        norm_bound: float | None = None,
        score: Callable[[nn.Module], float] | None = None,
        **settings: Any,
    ):
        super().__init__(**({"fraction_evaluate": 0.0} | settings))
        self.model, self.classes, self.refine = copy.deepcopy(model), classes, refine
        self.norm_bound, self.score = norm_bound, score
        self.history: list[Round] = []
        self.sent: Weights = {}

    def configure_train(self, server_round, arrays, config, grid):
        """Remember what is sent, to see how far the clients move from it."""
        self.sent = _weights(arrays)
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Merge what can be used, by client, and repair it; None if there is nothing."""
        kept: dict[int, tuple[Weights, MetricRecord]] = {}
        excluded = []
        for reply in replies:
            client, wrong = self._fault(reply)
            if wrong is None and client in kept:
                wrong = "another reply is of the same client"
            if wrong is None:
                content = reply.content
                kept[client] = (_weights(content[WEIGHTS]), content[METRICS])  # type: ignore[arg-type,assignment]
            else:
                excluded.append(Exclusion(client, wrong))
        asked = tuple(sorted([*kept, *(e.client for e in excluded)]))
        if not kept:
            self.history.append(Round(asked, tuple(excluded), None, {}))
            return None, None
        order = sorted(kept)  # of arrival would change the last bits
        weights = [kept[k][0] for k in order]
        samples = [float(kept[k][1][SAMPLES]) for k in order]  # type: ignore[arg-type]
        put(self.model, average(weights, samples))
        merged = None if self.score is None else float(self.score(self.model.eval()))
        refined, repair = None, {}
        if self.refine is not None:
            counts = torch.tensor([kept[k][1][COUNTS] for k in order], dtype=torch.float32)
            models = [self._with(w) for w in weights]
            repair = repaired(self.refine, self.model, models, counts, server_round - 1)
            refined = None if self.score is None else float(self.score(self.model.eval()))
        loss = float(np.average([float(kept[k][1]["loss"]) for k in order], weights=samples))  # type: ignore[arg-type]
        norms = {k: update_norm(*self._parameters(kept[k][0])) for k in order}
        self.history.append(Round(asked, tuple(excluded), loss, norms, merged, refined, repair))
        return initial(self.model), MetricRecord({"loss": loss, "clients": len(order), **repair})

    def _fault(self, reply: Message) -> tuple[int, str | None]:
        """The client of a reply, or else its node, and what is wrong with it."""
        node = reply.metadata.src_node_id
        if reply.has_error():
            return node, f"it failed: {reply.error.reason}"
        try:
            metrics, weights = reply.content[METRICS], _weights(reply.content[WEIGHTS])  # type: ignore[arg-type]
            client, samples, counts = metrics[CLIENT], metrics[SAMPLES], metrics[COUNTS]
        except (KeyError, TypeError, ValueError) as error:
            return node, f"its reply is not of client_app: {type(error).__name__}: {error}"
        if not isinstance(client, int) or not isinstance(samples, int) or samples < 1:
            return node, f"its reply names client {client} with {samples} samples"
        if not isinstance(counts, list) or len(counts) != self.classes or not np.isfinite(counts).all():
            return client, f"its label counts are not {self.classes} numbers"
        if min(counts) < 0 or not any(counts):
            return client, "its label counts are negative, or all 0"
        wrong = fault(weights, self.sent)
        return client, wrong or fault(*self._parameters(weights), self.norm_bound)

    def _parameters(self, weights: Weights) -> tuple[Weights, Weights]:
        names = [name for name, _ in self.model.named_parameters()]
        return {n: weights[n] for n in names}, {n: self.sent[n] for n in names}

    def _with(self, weights: Weights) -> nn.Module:
        client = copy.deepcopy(self.model)
        put(client, weights)
        return client.eval().requires_grad_(False)


def _record(weights: Weights) -> ArrayRecord:
    return ArrayRecord(OrderedDict((name, value.cpu()) for name, value in weights.items()))


def _weights(record: ArrayRecord) -> Weights:
    return dict(record.to_torch_state_dict())
