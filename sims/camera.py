"""An event camera that looks at frames or at a scene: exact crossing times, pixels' flaws, labelled noise.

Between two frames the logarithm of intensity runs straight; an event falls where it has moved by a pixel's
threshold, at the time at which it does. So events are as exact as the frames are dense: `record` renders
a scene as often as its motion needs.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf, isfinite
from typing import NamedTuple

import numpy as np

from perception.events import EventStream
from perception.events.stream import MAX_TIME
from sims.exposure import by_time, expose, slowed

LONGEST = 10_000_000  # us between two frames
WHOLE = 2**40  # us from the first frame to the last, 12 days: then a float still tells 1/4000 us
LEAST_THRESHOLD = 0.01  # log intensity: mismatch makes no pixel more sensitive
LEAK_SPREAD = 0.1  # decades: standard deviation of leak rates between pixels


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """How the pixels of an event camera behave; by default they are perfect but for their thresholds.

    Args:
        on, off:    thresholds, natural logarithm of intensity.
        mismatch:   standard deviation of thresholds between pixels, same unit.
        refractory: microseconds after an event in which a pixel is blind; what changes meanwhile is lost.
        leak:       Hz, brighter events of a pixel that sees no change; pixels differ by 0.1 decades.
        shot:       Hz, events of a black pixel that sees no change, of both polarities; of a white one a
                    quarter of it.
        cutoff:     Hz, bandwidth of a white pixel; darker ones are slower, in proportion.
    Source: thresholds and refractory time, Lichtsteiner, Posch, Delbruck, "A 128x128 120 dB 15 us Latency
        Asynchronous Temporal Contrast Vision Sensor" (JSSC 2008); noise, leak and bandwidth, Hu, Liu,
        Delbruck, "v2e: From Video Frames to Realistic DVS Events" (CVPRW 2021), section 4.
    """

    on: float = 0.2
    off: float = 0.2
    mismatch: float = 0.03
    refractory: int = 0
    leak: float = 0.0
    shot: float = 0.0
    cutoff: float = inf

    def __post_init__(self):
        if not (LEAST_THRESHOLD <= self.on < inf and LEAST_THRESHOLD <= self.off < inf):
            raise ValueError(f"thresholds must be at least {LEAST_THRESHOLD}, got {self.on} and {self.off}")
        for name in ("mismatch", "refractory", "leak", "shot"):
            if not 0 <= getattr(self, name) < inf:
                raise ValueError(f"{name} must be finite and not negative, got {getattr(self, name)}")
        if not self.cutoff > 0:
            raise ValueError(f"cutoff must be > 0 Hz, got {self.cutoff}")


TYPICAL = Pixels()
PERFECT = Pixels(mismatch=0.0)
NOISY = Pixels(refractory=500, leak=0.1, shot=1.0, cutoff=200.0)


class Recording(NamedTuple):
    """Events, and why each of them fell: (n,) uint8, SIGNAL, SHOT or LEAK of `sims.exposure`."""

    events: EventStream
    source: np.ndarray


class EventCamera:
    """A camera that is shown frame after frame and says which events fell since the last one.

    Args:
        width, height: of the sensor.
        pixels: how they behave.
        seed:   of mismatch and noise.
    """

    def __init__(self, width: int, height: int, pixels: Pixels = TYPICAL, seed: int = 0):
        nothing = EventStream.empty(width, height)
        self.width, self.height, self.pixels = nothing.width, nothing.height, pixels
        self.rng = np.random.default_rng(seed)
        shape = (height, width)
        spread = (
            self.rng.normal(0.0, pixels.mismatch, (2, *shape)) if pixels.mismatch else np.zeros((2, *shape))
        )
        nominal = np.array((pixels.off, pixels.on))[:, None, None]
        self.threshold = np.maximum(nominal + spread, LEAST_THRESHOLD)  # (2, H, W), darker first
        uneven = 10 ** (LEAK_SPREAD * self.rng.standard_normal(shape)) if pixels.leak else np.ones(shape)
        self.drift = 1e-6 * pixels.leak * uneven * self.threshold[1]  # log intensity per us
        self.start: int | None = None  # us, of the first frame
        self.time: int | None = None  # us, of the last frame
        self.shown = self.seen = np.zeros(shape)  # log intensity of the last frame, and as pixels see it
        self.reference = np.zeros(shape)  # log intensity at each pixel's last event
        self.since = self.due = np.zeros(shape)  # us after the first frame: of that event, of the next noise

    def step(self, log_intensity: np.ndarray, time: int) -> Recording:
        """Events since the last frame; of the first frame, none.

        Args:
            log_intensity: (H, W) natural logarithm of intensity, where 0 is white.
            time:          microseconds, later than the last frame's.
        """
        shown = after = self._checked(log_intensity, time)
        if self.time is None or self.start is None:
            self.shown, self.seen, self.reference = shown, shown.copy(), shown.copy()
            self.since = np.zeros(shown.shape)
            shot = self.pixels.shot * 1e-6
            wait = self.rng.standard_exponential(shown.shape)
            self.due = wait / shot if shot else np.full(shown.shape, inf)
            self.start = self.time = int(time)
            return Recording(EventStream.empty(self.width, self.height), np.zeros(0, np.uint8))
        length = int(time) - self.time
        if isfinite(self.pixels.cutoff):
            after = slowed(self.shown, shown, self.seen, length * 1e-6, self.pixels.cutoff)
        found = expose(
            (self.time - self.start, length, self.seen, after),
            self.threshold,
            self.drift,
            (float(self.pixels.refractory), self.pixels.shot * 1e-6),
            (self.reference, self.since, self.due),
            self.rng,
        )
        x, y, t, p, source = by_time(*found, self.time, length, self.width)
        events = EventStream(x, y, t, p.view(bool), self.width, self.height)
        self.shown, self.seen, self.time = shown, after, int(time)
        return Recording(events, source)

    def _checked(self, log_intensity, time):
        frame = np.array(log_intensity, np.float64)  # a copy: whoever made it may draw the next one there
        if frame.shape != (self.height, self.width):
            raise ValueError(f"a frame of shape {(self.height, self.width)} is expected, got {frame.shape}")
        if not np.isfinite(frame).all():
            raise ValueError("log intensity must be finite; log_intensity(image) keeps black finite")
        if not isinstance(time, (int, float, np.integer, np.floating)) or not -MAX_TIME <= time <= MAX_TIME:
            raise ValueError(f"time must be whole microseconds within +-{MAX_TIME}, got {time!r}")
        if self.start is not None and time - self.start > WHOLE:
            raise ValueError(f"a film of one camera takes at most {WHOLE} us, got {time} after {self.start}")
        if int(time) != time or (self.time is not None and not 0 < time - self.time <= LONGEST):
            last = "" if self.time is None else f", at most {LONGEST} us after {self.time}"
            raise ValueError(f"time must be whole microseconds that rise{last}, got {time}")
        return frame

    def film(self, frames: Iterable[tuple[int, np.ndarray]]) -> Recording:
        """All events of frames that come as (microseconds, log intensity)."""
        return joined([self.step(frame, time) for time, frame in frames], self.width, self.height)


def record(
    camera: EventCamera,
    scene: Callable[[int], np.ndarray],
    start: int,
    stop: int,
    longest: int = 5_000,
    shortest: int = 100,
    share: float = 3e-3,
) -> Recording:
    """All events of a scene, which is rendered as often as it needs.

    A frame is taken if since the last one at most a `share` of the pixels has changed by more than the
    threshold, so that nearly every event lies within one straight piece; else one two thirds as far ahead.

    Args:
        camera: that looks at it.
        scene:  (H, W) log intensity at a time in microseconds.
        start, stop: microseconds, of the first and the last frame.
        longest, shortest: microseconds between frames.
        share:  of the pixels.
    Source: Rebecq, Gehrig, Scaramuzza, "ESIM: an Open Event Camera Simulator" (CoRL 2018), section 3.1
        (adaptive sampling).
    """
    if not 1 <= shortest <= longest:
        raise ValueError(f"shortest must lie between 1 and longest, got {shortest} and {longest} us")
    if stop < start:
        raise ValueError(f"stop must not be before start, got {stop} and {start} us")
    parts = [camera.step(scene(start), start)]
    step = longest
    while (now := camera.time) is not None and now < stop:
        step = min(step, stop - now)
        frame = scene(now + step)
        changed = (np.abs(frame - camera.seen) > min(camera.pixels.on, camera.pixels.off)).mean()
        if changed > share and step > shortest:
            step = max(2 * step // 3, shortest)
            continue
        parts.append(camera.step(frame, now + step))
        if changed < share / 3:
            step = min(3 * step // 2 + 1, longest)
    return joined(parts, camera.width, camera.height)


def joined(parts: list[Recording], width: int, height: int) -> Recording:
    """Recordings of one camera that follow each other, as one."""
    if not parts:
        return Recording(EventStream.empty(width, height), np.zeros(0, np.uint8))
    x, y, t, p = (np.concatenate([getattr(part.events, name) for part in parts]) for name in "xytp")
    return Recording(EventStream(x, y, t, p, width, height), np.concatenate([part.source for part in parts]))


def log_intensity(image: np.ndarray, offset: float = 0.02) -> np.ndarray:
    """(H, W) ln(I + offset) of an image: uint8, uint16, or real numbers where 1 is white.

    Colours (H, W, 3) are averaged. The offset is what the pixel's dark current adds; it keeps black finite.
    """
    image = np.asarray(image)
    if image.dtype not in (np.uint8, np.uint16) and image.dtype.kind != "f":
        raise ValueError(f"an image of uint8, uint16 or real numbers is expected, got {image.dtype}")
    if image.ndim == 3 and image.shape[-1] == 3:
        image = image.mean(-1) if image.dtype.kind == "f" else image.mean(-1) / np.iinfo(image.dtype).max
    elif image.dtype.kind in "iu":
        image = image / np.iinfo(image.dtype).max
    if image.ndim != 2 or not offset > 0 or not (image >= 0).all():
        raise ValueError(
            f"an image (H, W) or (H, W, 3) that is not negative and offset > 0, got {image.shape}"
        )
    return np.log(image + offset)


def replayed(events: EventStream, first: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """(H, W) log intensity that events lead to from a first one, (H, W), by thresholds (2, H, W)."""
    out = first.astype(np.float64)
    np.add.at(out, (events.y, events.x), events.sign * threshold[events.p.astype(int), events.y, events.x])
    return out
