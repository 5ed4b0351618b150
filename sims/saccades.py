"""Still images turned into events by small movements of the eye, as N-MNIST was recorded."""

import numpy as np

from sims.camera import TYPICAL, EventCamera, Pixels, Recording

# px: three legs that lead back to the start
TRIANGLE = ((-3.0, -3.0), (3.0, -3.0), (0.0, 3.0), (-3.0, -3.0))
# As the images of N-MNIST move: contrast maximisation on 40 of its recordings finds middle speeds of 105 down
# for the first leg, (40, -104) for the second and (-92, 0) for the third, pixels a second.
NMNIST = ((-2.3, -2.6), (0.0, 2.6), (2.3, -2.6), (-2.3, -2.6))


def saccade(
    image: np.ndarray,
    corners: tuple[tuple[float, float], ...] = TRIANGLE,
    leg: int = 100_000,
    steps: int = 24,
    eased: bool = False,
    pixels: Pixels = TYPICAL,
    offset: float = 0.15,
    seed: int = 0,
) -> Recording:
    """Events of a camera that looks at a still image while the image moves along straight legs.

    Args:
        image:   (H, W) intensity, 0 to 1, of the sensor's size; what leaves on one side comes back on the
                 other, so leave a border.
        corners: (k + 1) displacements (x, y) of the image, pixels, at the ends of k legs.
        leg:     microseconds that each leg takes.
        steps:   frames of each leg.
        eased:   whether legs begin and end slowly, as a motor moves, or at full speed.
        pixels:  of the camera.
        offset:  of the logarithm, see `sims.camera.log_intensity`.
        seed:    of the camera.
    Source: Orchard, Jayawant, Cohen, Thakor, "Converting Static Image Datasets to Spiking Neuromorphic
        Datasets Using Saccades" (Frontiers in Neuroscience 2015).
    """
    if len(corners) < 2 or steps < 1 or leg < steps:
        raise ValueError(f"two corners and 1 step of 1 us at least, got {len(corners)}, {steps} of {leg} us")
    image = np.asarray(image, float)
    if image.ndim != 2 or not offset > 0 or not ((image >= 0) & (image <= 1)).all():
        raise ValueError(f"an image (H, W) from 0 to 1 and offset > 0 are expected, got shape {image.shape}")
    camera = EventCamera(image.shape[1], image.shape[0], pixels, seed)
    where, when = way(corners, leg, steps, eased)
    frames = moved(np.log(image + offset), where)
    return camera.film(zip(when.tolist(), frames))


def way(
    corners: tuple[tuple[float, float], ...], leg: int, steps: int, eased: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Displacements (n, 2) of frames along the legs between corners, pixels, and their times (n,), us."""
    at = np.arange((len(corners) - 1) * steps + 1)
    path = np.array(corners, float)
    done = at / steps
    if eased:
        done = np.floor(done) + 0.5 - 0.5 * np.cos(np.pi * (done - np.floor(done)))
    where = np.stack([np.interp(done, np.arange(len(path)), path[:, axis]) for axis in (0, 1)], -1)
    return where, at * leg // steps


def moved(image: np.ndarray, by: np.ndarray) -> np.ndarray:
    """(n, H, W): an image moved by (n, 2) pixels, x before y, as a band-limited function on a torus."""
    spectrum = np.fft.rfft2(image)
    y = np.fft.fftfreq(image.shape[0])[:, None]
    x = np.fft.rfftfreq(image.shape[1])[None, :]
    by = np.asarray(by, float)[:, :, None, None]
    return np.fft.irfft2(spectrum * np.exp(-2j * np.pi * (x * by[:, 0] + y * by[:, 1])), image.shape)
