"""Unlabelled samples of whatever yields them, by index; what comes beside them is dropped unseen."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler

KEY = "x"  # of the inputs in a batch that is a dict
CUT = "the loader was read up to {} samples (max_samples); what came after was not looked at"


class Samples(Protocol):
    """n samples."""

    def __len__(self) -> int: ...

    def batches(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        """The samples of each index, (b,) -> (b, ...), one batch after the other."""
        ...


class Held:
    """Samples in memory, (n, ...)."""

    def __init__(self, x: Tensor):
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batches(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        """The samples of each index."""
        return (self.x[index] for index in indices)


class Loaded:
    """Samples `rows` of the data set of a DataLoader, loaded by its workers anew each time."""

    def __init__(self, loader: DataLoader, rows: Sequence[Any], key: str = KEY):
        self.loader, self.rows, self.key = loader, rows, key

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        """The samples of each index."""
        given = self.loader
        again = DataLoader(
            given.dataset,
            batch_sampler=[[self.rows[k] for k in index.tolist()] for index in indices],
            num_workers=given.num_workers,
            collate_fn=given.collate_fn,
            worker_init_fn=given.worker_init_fn,
            generator=torch.Generator().manual_seed(0),
        )
        return (inputs_of(batch, self.key) for batch in again)


def samples_of(loader: Any, key: str = KEY, most: int = 50_000) -> tuple[Samples, list[str]]:
    """Samples, and warnings about them.

    Args:
        loader: (n, ...) tensor or array, DataLoader, or any iterable of batches: tensors, tuples whose first
                item is the inputs, or dicts.
        key:    of the inputs in a dict.
        most:   samples kept of an iterable that can only be read from beginning to end.
    Raises:
        ValueError: there are no samples, or they are not of one shape.
        TypeError:  nothing of these.
    """
    if isinstance(loader, (Tensor, np.ndarray)):
        held = Held(torch.as_tensor(loader))
        if held.x.ndim < 2 or not len(held):
            raise ValueError(f"samples must be (n, ...) with n >= 1, got shape {tuple(held.x.shape)}")
        return held, []
    # without batch_sampler, items of the data set are batches
    if (
        isinstance(loader, DataLoader)
        and loader.batch_sampler is not None
        and not isinstance(loader.dataset, IterableDataset)
    ):
        rows, warnings = _rows(loader, most)
        if not rows:
            raise ValueError("the loader has no samples")
        return Loaded(loader, rows, key), warnings
    if not isinstance(loader, Iterable) or isinstance(loader, (str, bytes, dict)):
        raise TypeError(
            f"loader must be a tensor or array (n, ...), or yield batches, got {type(loader).__name__}"
        )
    return _read(loader, key, most)


def _rows(loader, most):
    """Which samples of its data set a loader draws, each once and in an order that chance has no part in."""
    batches = loader.batch_sampler
    if type(batches) is BatchSampler and type(loader.sampler) in (SequentialSampler, RandomSampler):
        return range(len(loader.dataset)), []
    with torch.random.fork_rng(devices=[]):
        drawn = loader.sampler if type(batches) is BatchSampler else chain.from_iterable(batches)
        some = list(islice(drawn, most))
    return sorted(set(some)), [CUT.format(most)] if len(some) == most else []


def _read(loader, key, most):
    parts: list[Tensor] = []
    number = 0
    for batch in loader:
        x = inputs_of(batch, key)
        if parts and x.shape[1:] != parts[0].shape[1:]:
            raise ValueError(
                f"samples must have one shape, got {tuple(parts[0].shape[1:])} and {tuple(x.shape[1:])}"
            )
        parts.append(x[: most - number])
        number += len(parts[-1])
        if number >= most:
            return Held(torch.cat(parts)), [CUT.format(most)]
    if not number:
        raise ValueError("the loader has no samples")
    return Held(torch.cat(parts)), []


def inputs_of(batch: Any, key: str = KEY) -> Tensor:
    """The inputs (b, ...) in a batch; whatever else it holds is not looked at.

    Raises:
        ValueError: there are none.
    """
    if isinstance(batch, dict):
        if key not in batch:
            raise ValueError(
                f"batches are dicts without {key!r}; name the inputs with key=, one of {sorted(batch)}"
            )
        batch = batch[key]
    elif isinstance(batch, (tuple, list)) and batch:
        batch = batch[0]
    if isinstance(batch, np.ndarray):
        batch = torch.from_numpy(batch)
    if not isinstance(batch, Tensor) or batch.ndim < 2:
        came = f"shape {tuple(batch.shape)}" if isinstance(batch, Tensor) else type(batch).__name__
        raise ValueError(
            f"a batch must be a tensor (b, ...), a tuple that starts with one, or a dict with {key!r}, "
            f"got {came}"
        )
    return batch
