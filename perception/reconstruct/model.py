"""A trained reconstruction network, event by event: windows in, images out."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from perception.events import EventStream
from perception.events.represent import voxel_grid
from perception.reconstruct.networks import E2VID, FireNet, State
from tracking.formats import weights

SHIPPED = Path(__file__).parent / "weights"
NETWORKS: dict[str, Any] = {"FireNet": FireNet, "E2VID": E2VID}
ENDS = (1.0, 99.0)  # percentiles of an image that become black and white


@dataclass
class Reconstructor:
    """Images of the log intensity that a camera's events tell of.

    Absolute brightness and contrast cannot be known from events: images are up to gain and offset.

    network: trained.
    period:  microseconds of the windows that it was trained with; other lengths are taken too.
    """

    network: FireNet | E2VID
    period: int
    state: State = field(default=None, repr=False)
    size: tuple[int, int] | None = field(default=None, repr=False)

    @torch.no_grad()
    def step(self, events: EventStream, span: tuple[int, int] | None = None) -> np.ndarray:
        """(H, W) float32 log intensity at the end of a window; `displayed` turns it into a picture.

        Args:
            events: of the window, of the sensor of those before; none at all is a window too.
            span:   first and last microsecond of the window; default: of its events.
        Raises:
            ValueError: another sensor size than before; the state is then unchanged.
        """
        size = (events.width, events.height)
        if self.size not in (None, size):
            raise ValueError(f"events of {self.size} pixels came before, got {events}; reset() starts anew")
        device = next(self.network.parameters()).device
        voxels = torch.from_numpy(voxel_grid(events, self.network.bins, span))[None].to(device)
        image, self.state = self.network(voxels, self.state)
        self.size = size
        return image[0, 0].float().cpu().numpy()

    def reset(self) -> None:
        """Forget all windows."""
        self.state, self.size = None, None

    def save(self, path: str | Path, **about: Any) -> None:
        """Write weights and description to one file; `about` is kept beside them, for a card."""
        settings = {"bins": self.network.bins, "channels": self.network.channels}
        if isinstance(self.network, E2VID):
            settings["encoders"] = len(self.network.down)
        name = type(self.network).__name__
        document = {"network": name, "settings": settings, "period": self.period, "about": about}
        weights.write_weights(path, "reconstruct", document, self.network.state_dict())


def load(name: str | Path = "firenet", device="cpu") -> Reconstructor:
    """A reconstructor: shipped weights by name, or a safetensors file.

    Raises:
        ValueError: no such weights, or a file of something else.
    """
    path = weights.found(name, SHIPPED)
    document, tensors = weights.read_weights(path, "reconstruct")
    with weights.expecting(path, "a reconstruction network"):
        kind, settings = NETWORKS[document["network"]], document["settings"]
        network = weights.filled(lambda: kind(**settings), tensors)
        period = document["period"]
        if type(period) is not int or not 0 < period < 10**9:
            raise ValueError(f"its windows have {period!r} us")
    return Reconstructor(network.to(device), period)


def displayed(image: np.ndarray, ends: tuple[float, float] = ENDS) -> np.ndarray:
    """(H, W) uint8 picture of a log intensity: percentiles `ends` become black and white."""
    if not image.size or not np.isfinite(image).all():
        raise ValueError(f"an image of finite numbers is expected, got shape {image.shape}")
    low, high = np.percentile(image, ends)
    return np.round(255 * np.clip((image - low) / max(high - low, 1e-9), 0, 1)).astype(np.uint8)
