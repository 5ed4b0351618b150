"""Pairs of frames and events of ray-cast rooms: by day, by night, blurred, overexposed, with noisy pixels."""

from collections.abc import Iterable, Sequence

import numpy as np

from perception.depth.pairs import Pairs
from perception.events.represent import voxel_grid
from perception.objects.target import target
from perception.pinhole import Pinhole
from sims.camera import EventCamera, Pixels, joined, log_intensity
from sims.world import Path, World

CONDITIONS = ("clean", "night", "blur", "overexposed", "noise")
WINDOW, BETWEEN = (
    50_000,
    10,
)  # us of events before a frame, and pictures that the event camera is shown of them
NIGHT, GLARE = 0.05, 5.0  # light and exposure, times those of day
READ_NOISE = 0.006  # of a frame, of white 1
EVENT_OFFSET = 0.002  # of log intensity, of white 1 by day: dark current of the event camera


def room_pairs(
    seeds: Iterable[int],
    conditions: Sequence[str] | None = None,
    per_room: int = 1,
    side: int = 64,
    objects: bool = False,
    travel: float = 0.0,
) -> Pairs:
    """Frames and events of random rooms.

    Args:
        seeds:      of the rooms.
        conditions: of every frame, one after the other; None: drawn at random for each.
        per_room:   frames of each room on one way through it: they see much the same.
        side:       of the images, pixels.
        objects:    whether what is known of things comes along.
        travel:     m to each side that whoever holds the camera walks at most, see `Path.random`.
    """
    return Pairs.joined(_of_room(seed, conditions, per_room, side, objects, travel) for seed in seeds)


def _of_room(seed, conditions, per_room, side, objects, travel) -> Pairs:
    rng = np.random.default_rng(seed)
    world = World.random(seed, objects=int(rng.integers(4, 14)), moving=2)
    walk = rng.uniform(0, travel) if travel else 0.0
    path = Path.random(seed, speed=rng.uniform(1.0, 3.0), travel=walk)
    lens = Pinhole.of(side, side, side * rng.uniform(0.8, 1.3))
    clean, seen, voxels, depth, known = [], [], [], [], []
    for _ in range(per_room):
        end = int(rng.integers(WINDOW, 4_000_000))
        times = end - WINDOW + WINDOW * np.arange(BETWEEN + 1) // BETWEEN
        views = [world.view(lens, path.pose(float(t)), float(t)) for t in times]
        for condition in conditions or (CONDITIONS[rng.integers(len(CONDITIONS))],):
            pictures = [view.image for view in views]
            clean.append(pictures[-1])
            seen.append(frame(pictures, condition, rng))
            voxels.append(grid(pictures, times, condition, rng))
            depth.append(views[-1].depth)
            if objects:
                middles = views[-1].pose.to_camera(world.at(float(end)))
                known.append(target(views[-1].object, middles, lens).astype(np.float16))
    images = [np.stack(column).astype(np.float16) for column in (clean, seen, voxels)]
    things = np.stack(known) if objects else None
    return Pairs(images[0], images[1], images[2], np.stack(depth).astype(np.float32), things)


def frame(pictures: Sequence[np.ndarray], condition: str, rng: np.random.Generator) -> np.ndarray:
    """(H, W) what a camera of 8 bits has of the last of some pictures; of all of them when it blurs."""
    image = np.mean(pictures, 0) if condition == "blur" else pictures[-1]
    light = {"night": NIGHT, "overexposed": GLARE}.get(condition, 1.0)
    noisy = image * light + rng.normal(0, READ_NOISE, image.shape)
    return np.round(255 * np.clip(noisy, 0, 1)) / 255


def grid(
    pictures: Sequence[np.ndarray], times: np.ndarray, condition: str, rng: np.random.Generator
) -> np.ndarray:
    """(3, H, W) voxel grid of what an event camera says of some pictures."""
    height, width = pictures[0].shape
    camera = event_camera(width, height, condition, rng)
    parts = [camera.step(lit(p, condition), int(t)) for p, t in zip(pictures, times)]
    events, _ = joined(parts, width, height)
    return voxel_grid(events, 3, (int(times[0]), int(times[-1])))


def event_camera(width: int, height: int, condition: str, rng: np.random.Generator) -> EventCamera:
    """An event camera of random thresholds."""
    on = rng.uniform(0.1, 0.3)
    shot = rng.uniform(10, 30) if condition == "noise" else rng.uniform(0, 2)
    leak = 1.0 if condition == "noise" else 0.1
    pixels = Pixels(
        on=on, off=on * rng.normal(1, 0.1), mismatch=0.15 * on, leak=leak, shot=shot, refractory=500
    )
    return EventCamera(width, height, pixels, int(rng.integers(2**31)))


def lit(picture: np.ndarray, condition: str) -> np.ndarray:
    """(H, W) log intensity that an event camera is shown of a picture by day."""
    return log_intensity(picture * (NIGHT if condition == "night" else 1.0), EVENT_OFFSET)
