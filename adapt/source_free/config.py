"""Settings of an adaptation that do not depend on the method."""

import math
from dataclasses import dataclass

from adapt.source_free.split import Head


@dataclass(frozen=True, kw_only=True)
class AdaptConfig:
    """Settings of an adaptation that do not depend on the method.

    epochs:      passes over the samples; None: what the method asks for.
    rate:        learning rate at the start; None likewise.
    batch:       samples at a time, whatever batches the loader makes.
    neighbours:  K, for methods that look at neighbours.
    backbone:    factor of the learning rate before the last layer of features.
    momentum, decay: of SGD.
    head:        name of the last linear layer, or a function that gets it from the model; None: it is looked
                 for.
    classes:     how many the model must tell apart; None: as many as it does.
    key:         of the inputs in batches that are dicts.
    max_samples: kept of an iterable that can only be read from beginning to end.
    guard:       return the model as it was where adaptation looks harmful.
    device:      where to compute; None: where the model is.
    seed:        of the order of the samples.
    """

    epochs: int | None = None
    rate: float | None = None
    batch: int = 64
    neighbours: int = 5
    backbone: float = 0.1
    momentum: float = 0.9
    decay: float = 1e-3
    head: Head | None = None
    classes: int | None = None
    key: str = "x"
    max_samples: int = 50_000
    guard: bool = True
    device: str | None = None
    seed: int = 0

    def __post_init__(self):
        least = {"batch": 2, "neighbours": 1, "max_samples": 2, "classes": 2, "epochs": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"{name} must be at least {low}, got {value}")
        if self.rate is not None and not 0 < self.rate < float("inf"):
            raise ValueError(f"rate must be a positive number, got {self.rate}")
        for name, most in (("momentum", 1.0), ("decay", math.inf), ("backbone", math.inf)):
            if not 0 <= getattr(self, name) < most:
                raise ValueError(f"{name} must be at least 0 and below {most}, got {getattr(self, name)}")


USUAL = AdaptConfig()
