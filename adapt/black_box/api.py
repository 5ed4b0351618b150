"""A classifier of which only answers are to be had: counted, limited, cached, checked, asked in batches."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor, nn

from adapt.black_box.answers import checked
from adapt.black_box.cache import AnswerCache

Predict = Callable[[np.ndarray], Any]  # (n, ...) -> (n, classes) probabilities


class BudgetExceeded(RuntimeError):  # noqa: N818
    """There are no queries left for a question.

    answers: (m, classes) to the first inputs of it, which were still asked.
    """

    def __init__(self, name: str, budget: int, wanted: int, answers: np.ndarray):
        super().__init__(
            f"{name} has a budget of {budget} queries and {wanted} more would be needed; "
            "raise its budget to go on"
        )
        self.answers = answers


class BlackBox:
    """A classifier that can only be asked.

    Args:
        predict: (n, ...) float32 -> (n, classes) probabilities: any function, an `Endpoint`,
                 `predictor(model)`.
        classes: of its answers.
        name:    for messages.
        labels:  names of the classes: where two endpoints have the same name, they mean the same.
        budget:  queries it may be asked, an input is one; None: any number.
        batch:   inputs that are sent at once.
        cache:   where answers are kept; an answer that is there costs no query.

    `queries` are the inputs to which it answered, well or not; it may be set, as `budget` may.
    """

    def __init__(
        self,
        predict: Predict,
        classes: int,
        *,
        name: str = "black box",
        labels: Sequence[str] | None = None,
        budget: int | None = None,
        batch: int = 1024,
        cache: AnswerCache | None = None,
    ):
        if classes < 2 or batch < 1 or (budget is not None and budget < 0):
            raise ValueError(
                f"classes must be at least 2, batch at least 1 and budget at least 0, got {classes}, {batch} "
                f"and {budget}"
            )
        if cache is not None and (cache.name, cache.classes) != (name, classes):
            raise ValueError(
                f"{cache.path} has answers of {cache.name!r} with {cache.classes} classes, not of {name!r} "
                f"with {classes}"
            )
        if labels is not None and len(set(labels)) != classes:
            raise ValueError(f"{classes} classes need as many different labels, got {list(labels)}")
        self.predict, self.classes, self.name = predict, classes, name
        self.labels = None if labels is None else tuple(labels)
        self.budget, self.batch, self.cache = budget, batch, cache
        self.queries = 0

    @overload
    def __call__(self, x: Tensor) -> Tensor: ...
    @overload
    def __call__(self, x: np.ndarray) -> np.ndarray: ...
    def __call__(self, x):
        """Probabilities (n, classes) of inputs (n, ...): float64, or for a tensor one of its type and device.

        Of a tensor of whole numbers they are float32.

        Raises:
            BudgetExceeded: before a batch for which the budget does not suffice; earlier ones are cached.
            BadAnswer:      the answer is not of probabilities.
            ValueError:     the inputs are not finite, or a gradient is wanted.
        """
        if not isinstance(x, Tensor):
            return self._asked(np.ascontiguousarray(x, np.float32))
        if x.requires_grad and torch.is_grad_enabled():
            raise ValueError(f"{self.name} has no gradient; ask it about x.detach() and see zo_grad")
        p = torch.from_numpy(self._asked(x.detach().cpu().float().contiguous().numpy()))
        return p.to(x if x.is_floating_point() else x.float())

    def _asked(self, x: np.ndarray) -> np.ndarray:
        if x.ndim < 2 or not np.isfinite(x).all():
            raise ValueError(f"inputs must be (n, ...) and finite, got {x.shape}")
        out = np.zeros((len(x), self.classes))
        for start in range(0, len(x), self.batch):
            part = x[start : start + self.batch]
            keys = [] if self.cache is None else self.cache.keys(part)
            known = {} if self.cache is None else self.cache.known(keys)
            new = np.flatnonzero([k not in known for k in keys] if keys else np.ones(len(part), bool))
            if self.budget is not None and self.queries + len(new) > self.budget:
                raise BudgetExceeded(self.name, self.budget, len(new), out[:start])
            rows = out[start : start + len(part)]
            for i in range(len(keys)):
                if keys[i] in known:
                    rows[i] = known[keys[i]]
            if len(new):
                answer = self.predict(part[new])
                self.queries += len(new)  # what it was asked, whatever it says
                rows[new] = checked(answer, len(new), self.classes)
                if self.cache is not None:
                    self.cache.add([keys[i] for i in new], rows[new])
        return out


def predictor(model: Any) -> Predict:
    """What asks a model at hand: an `nn.Module` that gives logits, or one of scikit-learn's.

    A module is copied as it is now, in evaluation mode: a server's threads may ask it at once, and it may be
    trained further. scikit-learn's get flat inputs.
    """
    if isinstance(model, nn.Module):
        asked = copy.deepcopy(model).eval()
        return lambda x: _of_module(asked, x)
    if hasattr(model, "predict_proba"):
        return lambda x: model.predict_proba(x.reshape(len(x), -1))
    raise TypeError(
        f"a {type(model).__name__} is neither an nn.Module nor has it predict_proba; "
        "give BlackBox a function from (n, ...) inputs to (n, classes) probabilities"
    )


@torch.no_grad()
def _of_module(model: nn.Module, x: np.ndarray) -> np.ndarray:
    device = next(model.parameters()).device
    return model(torch.tensor(x, device=device)).double().softmax(-1).cpu().numpy()
