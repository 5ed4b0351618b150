"""Somebody's classifiers, each of five classes, of which only the answers are to be had."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.black_box import BlackBox, Endpoint, Server, predictor
from sims.few_shot import WAYS, Classes

TEACHING, TEACHING_RATE = 200, 5e-3  # steps of Adam


def network(shape: tuple[int, ...], seed: int, hidden: int = 64) -> nn.Module:
    """Two layers: the endpoints' of torch, and a meta-model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        size = int(np.prod(shape))
        return nn.Sequential(nn.Flatten(), nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, WAYS))


def taught(
    model: nn.Module,
    x: Tensor,
    wanted: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> nn.Module:
    """A model that is trained in place on all inputs at once, and returned."""
    optimizer = torch.optim.Adam(model.parameters(), lr=TEACHING_RATE)
    for _ in range(TEACHING):
        optimizer.zero_grad()
        loss(model(x), wanted).backward()
        optimizer.step()
    return model


def endpoints(
    known: Classes, number: int, seed: int, stack: ExitStack, http: bool
) -> tuple[list[BlackBox], list[float]]:
    """Classifiers of five training classes each, of three kinds in turn; their accuracies on other images.

    Args:
        known:  classes.
        number: of endpoints.
        seed:   of their classes and images.
        stack:  closes the server.
        http:   whether they are asked over HTTP on this machine.
    """
    rng = np.random.default_rng((seed, 1))
    models: dict[str, tuple[Any, int]] = {}
    names, right = [], []
    for k in range(number):
        classes = rng.permutation(len(known.train))[:WAYS]
        x = torch.cat([known.train[c] for c in classes])
        y = torch.arange(WAYS).repeat_interleave(torch.tensor([len(known.train[c]) for c in classes]))
        order = torch.from_numpy(rng.permutation(len(x)))
        test, train = order[: len(x) // 5], order[len(x) // 5 :]
        model = _classifier(k, seed, x[train], y[train])
        models[f"api{k}"] = (predictor(model), WAYS)
        said = models[f"api{k}"][0](x[test].numpy())
        right.append(float(np.mean(said.argmax(1) == y[test].numpy())))
        names.append([str(c) for c in classes])
    server = stack.enter_context(Server(models)) if http else None
    apis = [
        BlackBox(predict if server is None else Endpoint(server.url(name)), WAYS, name=name, labels=labels)
        for (name, (predict, _)), labels in zip(models.items(), names)
    ]
    return apis, right


def _classifier(k: int, seed: int, x: Tensor, y: Tensor) -> Any:
    """The k-th endpoint's model, trained."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    if k % 3 == 0:
        return taught(network(tuple(x.shape[1:]), 1000 * seed + k), x, y)
    kind = (
        MLPClassifier((32,), max_iter=200, tol=1e-2, random_state=k)
        if k % 3 == 1
        else LogisticRegression(C=1.0)
    )
    return kind.fit(x.flatten(1).numpy(), y.numpy())
