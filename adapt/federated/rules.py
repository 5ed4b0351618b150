"""FedAvg, FedProx, FedDyn and SCAFFOLD: what is added to clients' gradients, how their weights are merged.

All four are one local training with another `Correction`, pull * (w - w_start) + shift. A rule keeps what
its clients and its server remember between rounds; `federate` works on a copy of the rule it is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from adapt.federated.local import Correction, Weights
from adapt.federated.uploads import Upload, average


class Rule(Protocol):
    """A rule of federated optimisation."""

    def correction(self, client: int) -> Correction:
        """What is added to the gradient of a client in the coming round."""

    def merged(self, start: Weights, uploads: Sequence[Upload], clients: int) -> Weights:
        """The next parameters, of uploads of some of the clients; what is remembered is brought up to date.

        Args:
            start:   parameters that the clients were sent.
            uploads: at least one; a client that is not among them is as if it had not been asked.
            clients: how many there are.
        """


def _by_samples(uploads: Sequence[Upload]) -> Weights:
    return average([u.weights for u in uploads], (u.samples for u in uploads))


class FedAvg:
    """Mean of the weights in proportion to samples.

    Source: McMahan et al. (AISTATS 2017), Algorithm 1.
    """

    def correction(self, client: int) -> Correction:
        return Correction()

    def merged(self, start: Weights, uploads: Sequence[Upload], clients: int) -> Weights:
        return _by_samples(uploads)


@dataclass(frozen=True)
class FedProx:
    """FedAvg whose clients minimise their loss plus mu / 2 |w - w_start|^2.

    Source: Li et al. (MLSys 2020), eq. (2).
    """

    mu: float = 1e-2

    def __post_init__(self):
        if not self.mu >= 0:
            raise ValueError(f"mu must be at least 0, got {self.mu}")

    def correction(self, client: int) -> Correction:
        return Correction(pull=self.mu)

    def merged(self, start: Weights, uploads: Sequence[Upload], clients: int) -> Weights:
        return _by_samples(uploads)


@dataclass
class FedDyn:
    """Clients' losses are bent so that their minima agree with that of the sum.

    A client minimises its loss - <h_k, w> + alpha / 2 |w - w_start|^2, then h_k <- h_k - alpha (w_k -
    w_start). The server has h <- h - alpha / N sum_k (w_k - w_start) and w = mean_k w_k - h / alpha.

    Source: Acar et al. (ICLR 2021), Algorithm 1.
    """

    alpha: float = 1e-2
    server: Weights = field(default_factory=dict)
    own: dict[int, Weights] = field(default_factory=dict)

    def __post_init__(self):
        if not self.alpha > 0:
            raise ValueError(f"alpha must be above 0, got {self.alpha}; FedAvg() does without")

    def correction(self, client: int) -> Correction:
        h = self.own.get(client)
        return Correction(self.alpha, None if h is None else {name: -v for name, v in h.items()})

    def merged(self, start: Weights, uploads: Sequence[Upload], clients: int) -> Weights:
        mean = average([u.weights for u in uploads], [1.0] * len(uploads))
        moved = {u.client: _difference(u.weights, start) for u in uploads}
        for client, change in moved.items():
            self.own[client] = _added(self.own.get(client), change, -self.alpha)
        for change in moved.values():
            self.server = _added(self.server or None, change, -self.alpha / clients)
        return {name: value - self.server[name] / self.alpha for name, value in mean.items()}


@dataclass
class SCAFFOLD:
    """Control variates c of the server and c_k of the clients take out how clients drift apart.

    A client moves along g - c_k + c, then c_k <- c_k - c + (w_start - w_k) / (K rate) after K steps; the
    server has c <- c + 1 / N sum_k (change of c_k). Both ways are twice as much to send.

    Source: Karimireddy et al. (ICML 2020), Algorithm 1, option II, with a global rate of 1.
    """

    server: Weights = field(default_factory=dict)
    own: dict[int, Weights] = field(default_factory=dict)

    def correction(self, client: int) -> Correction:
        if not self.server:
            return Correction()
        mine = self.own.get(client)
        return Correction(
            shift={name: c if mine is None else c - mine[name] for name, c in self.server.items()}
        )

    def merged(self, start: Weights, uploads: Sequence[Upload], clients: int) -> Weights:
        zero = {name: torch.zeros_like(v) for name, v in start.items()}
        common, grown = self.server or zero, self.server or zero
        for u in uploads:
            before = self.own.get(u.client, zero)
            slope = _difference(start, u.weights)
            after = {name: before[name] - common[name] + d / (u.steps * u.rate) for name, d in slope.items()}
            self.own[u.client] = after
            grown = {name: c + (after[name] - before[name]) / clients for name, c in grown.items()}
        self.server = grown
        return _by_samples(uploads)


def _difference(a: Weights, b: Weights) -> Weights:
    return {name: value - b[name] for name, value in a.items()}


def _added(a: Weights | None, b: Weights, factor: float) -> Weights:
    return {name: factor * value if a is None else a[name] + factor * value for name, value in b.items()}
