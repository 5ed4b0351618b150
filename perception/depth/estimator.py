"""Depth for a robot: a frame and the events before it in, depth and its standard deviation out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from perception.depth.backbone import Backbone, prepared, prepared_events
from perception.depth.fuse import FUSE
from perception.depth.pairs import BINS, FEWEST
from perception.events import EventStream
from perception.events.represent import voxel_grid
from perception.frames import as_image
from tracking.formats import weights

SHIPPED = Path(__file__).parent / "weights"
EPS = 1e-3


class Estimate(NamedTuple):
    """Depth of every pixel.

    depth: (H, W) float32 m, along the axis of the camera.
    std:   (H, W) float32 m, standard deviation of its error as the network says.
    kind:  what it rests on: "both", "frames" or "events".
    """

    depth: np.ndarray
    std: np.ndarray
    kind: str


@dataclass(frozen=True)
class Estimator:
    """A trained FUSE.

    network:  after all stages.
    farthest: depth that it can say, m.
    window:   microseconds of events before a frame that it was trained with.
    """

    network: FUSE
    farthest: float
    window: int

    @torch.no_grad()
    def step(
        self, frame: np.ndarray | None, events: EventStream | None, span: tuple[int, int] | None = None
    ) -> Estimate:
        """Depth at the end of a window.

        Without events, or with hardly any (FEWEST), it is what the frame says alone, and `std` is what is
        known of such answers; likewise without a frame, of any events. `kind` says so.

        Args:
            frame:  (H, W) or (H, W, 3), uint8 or numbers from 0 to 1; None: there is none.
            events: of the window, of a sensor of the frame's size and view.
            span:   first and last microsecond of the window; None: of its events.
        Raises:
            ValueError: neither, another size, or values that are no image.
        """
        if not isinstance(events, EventStream | None):
            raise ValueError(f"events must be an EventStream, got {type(events).__name__}")
        image = None if frame is None else as_image(frame)
        least = 1 if events is None or image is None else max(FEWEST * events.height * events.width, 1)
        fired = None if events is None or len(events) < least else events
        if image is None and fired is None:
            raise ValueError("depth needs a frame or events, got neither; skip the window")
        if image is not None and events is not None and image.shape[:2] != (events.height, events.width):
            raise ValueError(
                f"a frame of the sensor's {events.width} x {events.height} pixels is expected, got "
                f"{image.shape[1]} x {image.shape[0]}; resize one of the two"
            )
        kind = "both" if image is not None and fired is not None else "frames" if fired is None else "events"
        device, patch = next(self.network.parameters()).device, self.network.patch
        x = v = torch.empty(0)
        if image is not None:
            size = image.shape[:2]
            x = prepared(torch.from_numpy(image)[None].to(device), patch)
        if fired is not None:
            size = (fired.height, fired.width)
            v = prepared_events(torch.from_numpy(voxel_grid(fired, BINS, span))[None].to(device), patch)
        was = self.network.training
        self.network.eval()
        try:
            depth, doubt = self.network.depth(self.network.reading(x, v, kind), self.farthest, kind)
        finally:
            self.network.train(was)
        depth, doubt = (
            F.interpolate(a[:, None].float(), size, mode="bilinear", align_corners=False)[0, 0]
            for a in (depth, doubt)
        )
        depth = depth.clamp(min=EPS)
        std = depth * doubt.exp() * 2**0.5  # of a Laplace distribution of that scale
        return Estimate(depth.cpu().numpy(), std.cpu().numpy(), kind)

    def save(self, path: str | Path, half: bool = False, **about: Any) -> None:
        """Write weights, as float16 if `half`, and description to one file; `about` is kept for a card."""
        document = {
            "config": self.network.image.config,
            "fusion": self.network.fusion,
            "farthest": self.farthest,
            "window": self.window,
            "about": about,
        }
        weights.write_weights(path, "fuse", document, self.network.state_dict(), half)


def load(name: str | Path = "fuse-tiny", device="cpu") -> Estimator:
    """An estimator: shipped weights by name, or a safetensors file.

    Raises:
        ImportError: the extra `depth` is not installed.
        ValueError:  no such weights, or a file of something else.
    """
    path = weights.found(name, SHIPPED)
    document, tensors = weights.read_weights(path, "fuse")
    with weights.expecting(path, "weights of FUSE"):
        config, fusion = document["config"], document["fusion"]
        network = weights.filled(
            lambda: FUSE(Backbone.configured(config), Backbone.configured(config).without_head(), fusion),
            tensors,
        )
        farthest, window = float(document["farthest"]), document["window"]
        if not 0 < farthest < 1e6 or type(window) is not int or not 0 < window < 10**9:
            raise ValueError(f"it says depth up to {farthest} m and windows of {window!r} us")
    return Estimator(network.to(device), farthest, window)
