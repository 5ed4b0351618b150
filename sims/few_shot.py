"""Few-shot tasks of real images: classes for training, validation and test, tasks of them, and scores.

Digits, scikit-learn's or MNIST's, are turned in five ways, each a class of its own, so that there are enough.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from adapt.black_box import few_shot
from adapt.black_box.memory import Task, TaskMemory
from sims.images import FILES, Images, named, omniglot

WAYS, QUERIES = 5, 15
STEPS = 10  # of adaptation to a support
IN_FOLDER = {"mnist": FILES["mnist"], "omniglot": "omniglot/images_background_small1.zip"}
SIDE, NUMBER = 16, 5000  # of MNIST: pixels, as Omniglot has them, and images
SPLITS = ("digit", "class")


@dataclass(frozen=True)
class Classes:
    """Real images of classes, (n, 1, h, w) for each; no class is in two of the parts."""

    train: list[Tensor]
    validation: list[Tensor]
    test: list[Tensor]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.train[0].shape[1:])


def turned(images: Images) -> tuple[list[Tensor], list[int]]:
    """Images of every class in five ways, each a class of its own, and what class they were."""
    ways: list[Callable[[Tensor], Tensor]] = [
        lambda x: x,
        lambda x: x.rot90(1, (2, 3)),
        lambda x: x.rot90(2, (2, 3)),
        lambda x: x.transpose(2, 3),
        lambda x: 1 - x,
    ]
    found = [(way(x), c) for c, x in enumerate(_by_class(images)) for way in ways]
    return [x.contiguous() for x, _ in found], [c for _, c in found]


def turned_digits(split: str, seed: int, name: str = "digits", folder: str | Path | None = None) -> Classes:
    """Of 50 classes 35, 5 and 10.

    Args:
        split:  "digit": those of a digit are all in the same part, and 6 and 9, which are each other's when
                turned, not one in training and one in test; "class": they may be in several.
        seed:   of who is where.
        name:   digits or mnist; of MNIST the first NUMBER images, SIDE pixels wide.
        folder: of MNIST.
    """
    rng = np.random.default_rng(seed)
    images = named(name, folder)
    classes, digit = turned(images.take(slice(NUMBER)).sized(SIDE) if name == "mnist" else images)
    if split == "digit":
        mixed = rng.permutation(10)
        while {6, 9} & set(mixed[:7]) and {6, 9} & set(mixed[8:]):
            mixed = rng.permutation(10)
        parts = [np.flatnonzero(np.isin(digit, part)) for part in np.split(mixed, [7, 8])]
    else:
        parts = np.split(rng.permutation(len(classes)), [35, 40])
    return _parted(classes, parts)


def characters(folder: str | Path, seed: int) -> Classes:
    """Of Omniglot's characters, see IN_FOLDER, six tenths, one and three."""
    rng = np.random.default_rng(seed)
    classes = _by_class(omniglot(Path(folder) / IN_FOLDER["omniglot"]))
    cuts = [len(classes) * 6 // 10, len(classes) * 7 // 10]
    return _parted(classes, np.split(rng.permutation(len(classes)), cuts))


def _by_class(images: Images) -> list[Tensor]:
    return [images.pixels[images.labels == c] for c in range(int(images.labels.max()) + 1)]


def _parted(classes: Sequence[Tensor], parts: Sequence[np.ndarray]) -> Classes:
    train, validation, test = ([classes[k] for k in part] for part in parts)
    return Classes(train, validation, test)


def memory_of(classes: Sequence[Tensor]) -> TaskMemory:
    """What makes tasks of real images."""
    memory = TaskMemory()
    for k, x in enumerate(classes):
        memory.add(f"{k:04d}", x)
    return memory


def tasks_of(classes: Sequence[Tensor], shots: int, number: int, seed: int) -> list[Task]:
    """Tasks of real images."""
    memory, generator = memory_of(classes), torch.Generator().manual_seed(seed)
    return [memory.task(WAYS, shots, QUERIES, generator) for _ in range(number)]


def accuracies(model: nn.Module, tasks: Sequence[Task], rate: float) -> np.ndarray:
    """Accuracy on the query of each task, after its support was learned."""
    found = []
    for task in tasks:
        learned = few_shot(model, task.support, STEPS, rate)
        with torch.no_grad():
            found.append(float((learned(task.query[0]).argmax(1) == task.query[1]).double().mean()))
    return np.array(found)
