"""MT3 in a tracker.toml: weights stand for the models, as they say what they were trained for.

filter = "MT3"
weights = "mt3-task2"   # that are shipped, or the path of a safetensors file, from the folder of the toml
device = "cpu"          # of the network

[config]
threshold = 0.5         # fields of MT3Config

[input]
coordinates = ["x", "y"]
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracking.checkpoint import MODELS
from tracking.description import config_of, input_of, require_known
from tracking.formats.input import Input
from tracking.formats.scans import TimedScan
from tracking.formats.vision import SPACE
from tracking.mt3.model import Model, check_device, load, shipped
from tracking.mt3.tracker import MT3, MT3Config

ACCEPTED = ("filter", "weights", "device", "config", "input")
OF_FILTERS = ("seed", *MODELS, "score")


@dataclass(frozen=True)
class MT3Description:
    """What a file says of MT3: its weights and settings, and how its input is read."""

    model: Model
    config: MT3Config
    input: Input

    def tracker(self) -> MT3:
        """A new tracker, ready for its first scan."""
        return MT3(self.model, self.config)

    @property
    def dim_z(self) -> int:
        return self.model.task.sight.dim_z

    def position_names(self, measured: Sequence[str]) -> tuple[str, ...]:
        """Those of the measurement, if it is a position, else x and y."""
        return SPACE[:2] if self.model.task.sight.radar else tuple(measured)

    def state_names(self, measured: Sequence[str]) -> list[str]:
        """Position and velocity."""
        names = self.position_names(measured)
        return [*names, *(f"v{name}" for name in names)]

    def clutter_ratio(self, scan: TimedScan) -> None:
        """Nothing: the network was trained without scores."""


def described(document: Mapping[str, Any], folder: str) -> MT3Description:
    """The description that a document of TOML holds, whose paths start from a folder.

    Raises:
        ValueError: it describes no such tracker.
    """
    for name in OF_FILTERS:
        if name in document:
            raise ValueError(
                f"{name} is of filters; MT3 has weights in place of models, takes no scores and draws no "
                f"random numbers. Accepted are {', '.join(ACCEPTED)}"
            )
    require_known("the file", document, ACCEPTED)
    config, about = config_of(MT3, document), input_of(document)
    device = document.get("device", "cpu")
    check_device(device)
    return MT3Description(_model(document.get("weights"), folder, device), config, about)


def _model(name, folder, device) -> Model:
    known = name in shipped()
    path = name if known else os.path.join(folder, str(name))
    if not (known or (isinstance(name, str) and os.path.isfile(path))):
        raise ValueError(
            f"weights is {name!r:.80}; accepted are {', '.join(shipped())}, or the path of a safetensors file"
        )
    try:
        return load(path, device)
    except ValueError as error:
        raise ValueError(f"weights: {error}") from None
