"""Reconstruction without learning: sums of events, a high-pass filter, the closed form of known motion."""

import numpy as np

from perception.events.represent import event_stack
from perception.events.stream import EventStream
from tracking.compiled import compiled

Displacements = np.ndarray


class Integrator:
    """Adds up events, or forgets them in time: the complementary filter without frames.

    Args:
        width, height: of the sensor.
        cutoff:    rad/s at which a pixel forgets; 0: never.
        threshold: natural logarithm of intensity per event.
    Source: Scheerlinck, Barnes, Mahony, "Continuous-Time Intensity Estimation Using Event Cameras" (ACCV
        2018), equation 10 with no frames.
    """

    def __init__(self, width: int, height: int, cutoff: float = 0.0, threshold: float = 1.0):
        if not 0 <= cutoff < np.inf or not 0 < threshold < np.inf:
            raise ValueError(f"cutoff must be >= 0 and threshold > 0, got {cutoff} and {threshold}")
        self.width, self.height, self.cutoff, self.threshold = width, height, cutoff, threshold
        self.level = np.zeros((height, width))
        self.since = np.zeros((height, width), np.int64)  # us: until when each pixel has forgotten
        self.time: int | None = None

    def step(self, events: EventStream, time: int | None = None) -> np.ndarray:
        """(H, W) log intensity at a time, microseconds, after more events; by default that of the last one.

        Raises:
            ValueError: events of another sensor, or earlier than what was asked for before.
        """
        if (events.width, events.height) != (self.width, self.height):
            raise ValueError(f"events of {self.width} x {self.height} pixels are expected, got {events}")
        if time is None and self.time is None and not len(events):
            return self.level.copy()
        time = (int(events.t[-1]) if len(events) else self.time or 0) if time is None else int(time)
        first = int(events.t[0]) if len(events) else time
        if (self.time is not None and first < self.time) or (len(events) and events.t[-1] > time):
            raise ValueError(f"events must lie between {self.time} and {time} us, got {events}")
        if self.time is None:
            self.since[:] = first
        _integrate(
            events.x, events.y, events.t, events.p, self.cutoff * 1e-6, self.threshold, self.level, self.since
        )
        self.time = time
        return self.level * np.exp(-self.cutoff * 1e-6 * (time - self.since))


def wiener(
    legs: list[EventStream], displacement: Displacements, threshold: float = 1.0, noise: float = 0.05
) -> np.ndarray:
    """(H, W) log intensity of a still image that was moved along known legs, with mean 0: the closed form.

    Events of leg k add up to C sum p = L(x - d_k+1) - L(x - d_k), which Fourier's transform makes a product.

    Args:
        legs:         k streams of one sensor, one for each leg.
        displacement: (k + 1, 2) of the image, x before y, pixels, at the ends of the legs.
        threshold:    C, natural logarithm of intensity per event.
        noise:        power of noise by power of image, which damps what the legs hardly move.
    Source: Wiener's filter for several blurred images of one scene.
    """
    displacement = np.asarray(displacement, float)
    if not legs or displacement.shape != (len(legs) + 1, 2) or not np.isfinite(displacement).all():
        raise ValueError(f"{len(legs)} legs have {len(legs) + 1} ends (x, y), got shape {displacement.shape}")
    if len({(leg.width, leg.height) for leg in legs}) > 1 or not min(noise, threshold) > 0:
        raise ValueError(f"legs of one sensor, noise and threshold > 0, got {legs}, {noise} and {threshold}")
    height, width = legs[0].height, legs[0].width
    y, x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    turned = np.exp(-2j * np.pi * (x * displacement[:, 0, None, None] + y * displacement[:, 1, None, None]))
    change = np.diff(turned, axis=0)
    seen = np.fft.rfft2([threshold * event_stack(leg, 1)[0] for leg in legs])
    spectrum = (change.conj() * seen).sum(0) / ((np.abs(change) ** 2).sum(0) + noise)
    return np.fft.irfft2(spectrum, (height, width))


@compiled
def _integrate(x, y, t, p, rate, threshold, level, since):
    for i in range(len(t)):
        v, u = y[i], x[i]
        level[v, u] *= np.exp(-rate * (t[i] - since[v, u]))
        level[v, u] += threshold if p[i] else -threshold
        since[v, u] = t[i]
