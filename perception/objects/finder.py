"""Things for a robot: a frame and the events before it in, where things are out."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from perception.depth.fuse import KINDS
from perception.depth.pairs import BINS, FEWEST
from perception.events import EventStream
from perception.events.represent import voxel_grid
from perception.frames import as_grey
from perception.objects.network import ObjectNet
from perception.objects.target import UNIT
from perception.objects.votes import Found, VoteConfig, things
from perception.pinhole import Pinhole, require_pinhole
from tracking.formats import weights

SHIPPED = Path(__file__).parent / "weights"
MAX_WIDTH, MAX_WIDTHS = 1024, 8  # of a file


@dataclass(frozen=True)
class Finder:
    """A trained `ObjectNet`.

    network: that finds.
    window:  microseconds of events before a frame that it was trained with.
    side:    of the images that it was trained on, pixels: things of other sizes in pixels it has not seen.
    config:  which votes make a thing; None: `VoteConfig()`.
    """

    network: ObjectNet
    window: int
    side: int
    config: VoteConfig | None = None

    @torch.no_grad()
    def step(
        self,
        frame: np.ndarray | None,
        events: EventStream | None,
        pinhole: Pinhole,
        span: tuple[int, int] | None = None,
    ) -> Found:
        """Things at the end of a window.

        Without events, or with hardly any (FEWEST), what the frame shows; likewise without a frame. Where
        hardly any event is all there is, nothing is found.

        Args:
            frame:   (H, W) or (H, W, 3), uint8 or numbers from 0 to 1; None: there is none.
            events:  of the window, of a sensor of the frame's size and view.
            pinhole: the camera, of that size: its focal length makes metres of sizes in the image.
            span:    first and last microsecond of the window; None: of its events.
        Raises:
            ValueError: neither, another size, or values that are no image.
        """
        require_pinhole(pinhole)
        size = (pinhole.height, pinhole.width)
        image = None if frame is None else as_grey(frame)
        if image is None and events is None:
            raise ValueError("things are found in a frame or in events, got neither; skip the window")
        if not isinstance(events, EventStream | None):
            raise ValueError(f"events must be an EventStream, got {type(events).__name__}")
        sizes = {"frame": None if image is None else image.shape}
        sizes["events"] = None if events is None else (events.height, events.width)
        for name, given in sizes.items():
            if given is not None and given != size:
                raise ValueError(
                    f"{name} of the camera's {size[1]} x {size[0]} pixels are expected, "
                    f"got {given[1]} x {given[0]}"
                )
        fired = None if events is None or len(events) < FEWEST * size[0] * size[1] else events
        if image is None and fired is None:
            return Found.none(size)
        kind = "both" if image is not None and fired is not None else "frames" if fired is None else "events"
        grey = np.zeros(size, np.float32) if image is None else image
        grid = np.zeros((BINS, *size), np.float32) if fired is None else voxel_grid(fired, BINS, span)
        device = next(self.network.parameters()).device
        x, v = (torch.from_numpy(a)[None].to(device) for a in (grey, grid))
        was = self.network.training
        self.network.eval()
        try:
            answer = self.network(x, v, torch.tensor([KINDS.index(kind)], device=device))
        finally:
            self.network.train(was)
        there, way, depth, doubt = (a[0].cpu().numpy() for a in (answer.there.sigmoid(), *answer[1:]))
        return things(there, way, depth + np.log(UNIT * pinhole.fx), doubt, self.config)

    def save(self, path: str | Path, half: bool = False, **about: Any) -> None:
        """Write weights, as float16 if `half`, and description to one file; `about` is kept for a card."""
        document = {
            "widths": list(self.network.widths),
            "window": self.window,
            "side": self.side,
            "votes": None if self.config is None else asdict(self.config),
            "about": about,
        }
        weights.write_weights(path, "objects", document, self.network.state_dict(), half)


def load(name: str | Path = "objects-tiny", device="cpu") -> Finder:
    """A finder: shipped weights by name, or a safetensors file.

    Raises:
        ValueError: no such weights, or a file of something else.
    """
    path = weights.found(name, SHIPPED)
    document, tensors = weights.read_weights(path, "objects")
    with weights.expecting(path, "weights of a finder of objects"):
        widths, window, side = (document[key] for key in ("widths", "window", "side"))
        numbers = [*widths, window, side]
        if len(widths) > MAX_WIDTHS or not all(type(n) is int and 0 < n < 10**9 for n in numbers):
            raise ValueError(
                f"it says widths {widths!r:.80}, windows of {window!r:.20} us, sides {side!r:.20}"
            )
        if max(widths) > MAX_WIDTH:
            raise ValueError(f"widths up to {MAX_WIDTH} are accepted, got {max(widths)}")
        network = weights.filled(lambda: ObjectNet(tuple(widths)), tensors)
        votes = document.get("votes")
        config = None if votes is None else VoteConfig(**votes)
    return Finder(network.to(device), window, side, config)
