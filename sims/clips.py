"""Clips: what an event camera and a frame camera see on a way through a ray-cast room, with all truth."""

from dataclasses import dataclass, replace

import numpy as np

from perception.events import EventStream
from perception.pinhole import Pinhole
from sims.camera import TYPICAL, EventCamera, Pixels, Recording, joined, log_intensity
from sims.world import Path, View, World


@dataclass(frozen=True)
class Clip:
    """Events between k + 1 frames, and the truth at the frames.

    events: from the first frame to the last.
    source: (n,) why each event fell, see `sims.exposure`.
    times:  (k + 1,) of the frames, microseconds.
    image:  (k + 1, H, W) intensity, 0 to 1.
    depth:  (k + 1, H, W) m.
    flow:   (k, 2, H, W) pixels from each frame to the next, x before y.
    world, path, lens: that it was made of.
    """

    events: EventStream
    source: np.ndarray
    times: np.ndarray
    image: np.ndarray
    depth: np.ndarray
    flow: np.ndarray
    world: World
    path: Path
    lens: Pinhole

    def __len__(self) -> int:
        return len(self.flow)

    def window(self, k: int) -> EventStream:
        """Events from frame k to the next."""
        return self.events.between(int(self.times[k]), int(self.times[k + 1]))


def clip(
    world: World,
    path: Path,
    lens: Pinhole,
    frames: int,
    period: int = 20_000,
    between: int = 6,
    pixels: Pixels = TYPICAL,
    light: float = 1.0,
    offset: float = 0.02,
    seed: int = 0,
) -> Clip:
    """Film a way through a room.

    Args:
        world, path, lens: what is seen, from where, through what.
        frames:  windows of events; there is one frame more.
        period:  microseconds between frames.
        between: pictures that the event camera is shown in each period.
        pixels:  of the event camera.
        light:   brightness; 1 is day.
        offset:  of the logarithm, see `sims.camera.log_intensity`.
        seed:    of the event camera.
    """
    if frames < 1 or not 1 <= between <= period:
        raise ValueError(
            f"at least one window and picture are needed, got {frames} and {between} in {period} us"
        )
    camera = EventCamera(lens.width, lens.height, pixels, seed)
    times = np.arange(frames + 1) * period
    views: list[View] = []
    parts: list[Recording] = []
    flow: list[np.ndarray] = []
    for k in range(frames * between + 1):
        at = k * period // between
        view = world.view(lens, path.pose(at), at, light=light)
        parts.append(camera.step(log_intensity(view.image, offset), at))
        if k % between == 0:
            if views:
                flow.append(world.flow(lens, views[-1], at - period, view.pose, at))
            views.append(view)
    events, source = joined(parts, lens.width, lens.height)
    image, depth = (np.stack([getattr(view, name) for view in views]) for name in ("image", "depth"))
    return Clip(events, source, times, image, depth, np.stack(flow), world, path, lens)


def random_clip(seed: int, side: int = 64, frames: int = 24, moving: int = 2, noisy: bool = True) -> Clip:
    """A clip of a random room, way and camera.

    Thresholds are 0.1 to 0.3, darker and brighter ones apart by a tenth; half of the noisy cameras leak and
    fire at random.
    """
    rng = np.random.default_rng(seed)
    on = rng.uniform(0.1, 0.3)
    pixels = Pixels(on=on, off=on * rng.normal(1, 0.1), mismatch=0.15 * on)
    if noisy and rng.random() < 0.5:
        pixels = replace(pixels, leak=0.1, shot=rng.uniform(0, 2), refractory=500)
    world = World.random(seed, objects=int(rng.integers(4, 14)), moving=moving)
    path = Path.random(seed, speed=rng.uniform(1.0, 3.0))
    return clip(
        world, path, Pinhole.of(side, side, side * rng.uniform(0.8, 1.3)), frames, pixels=pixels, seed=seed
    )
