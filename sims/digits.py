"""Handwritten digits moved in front of a simulated event camera, in the manner of N-MNIST."""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import zoom

from perception.events import EventStream
from sims.camera import Pixels
from sims.saccades import NMNIST, saccade

SIDE = 34  # pixels of the sensor, as of N-MNIST
DIGIT = 20  # pixels of a digit


def canvas(digit: np.ndarray, side: int = SIDE, size: int = DIGIT) -> np.ndarray:
    """(side, side) intensity, 0 to 1, of a digit (8, 8) with values 0 to 16, enlarged to `size` pixels."""
    large = np.clip(
        zoom(digit / 16.0, size / digit.shape[0], order=3, grid_mode=True, mode="grid-constant"), 0, 1
    )
    out = np.zeros((side, side))
    edge = (side - size) // 2
    out[edge : edge + size, edge : edge + size] = large
    return out


def saccades(
    seed: int = 0, number: int | None = None, advance: Callable[[int], object] = lambda done: None
) -> tuple[list[EventStream], list[str]]:
    """Streams and labels of scikit-learn's digits, 1,797 of them.

    Cameras differ in threshold and noise, and every digit has its own; legs are those of N-MNIST.

    Args:
        seed:    of the cameras.
        number:  the first so many digits; default: all.
        advance: told how many are done.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    rng = np.random.default_rng(seed)
    streams = []
    for k, digit in enumerate(digits.images[:number]):
        on = rng.uniform(0.2, 0.4)
        pixels = Pixels(
            on=on, off=on * rng.normal(1, 0.1), mismatch=0.1 * on, shot=rng.uniform(0, 2), leak=0.1
        )
        events = saccade(canvas(digit), NMNIST, eased=True, pixels=pixels, seed=seed + k).events
        streams.append(events.flip(polarity=True))  # in N-MNIST's files digits are darker than what is around
        advance(k + 1)
    return streams, [str(d) for d in digits.target[:number]]
