"""Classification tasks whose data change between training and use, for source-free adaptation.

    mid   scikit-learn's digits: half as they are, the others turned by 12 to 30 degrees, paler, noisier
    lt    the same shift, and frequencies of classes that fall by a factor of 10 one way and rise the other
    pts   point clouds of eight shapes by a clean sensor, and by a poor one
    imu   windows of six channels of gestures from one device, and from another with other gains and axes
    m2u   handwritten digits of MNIST, and of USPS, from files that are not part of the toolkit
    omni  characters of Omniglot, 80 classes, by half of the people; by the others, turned, paler, noisier

Source and target never share a sample. Labels of the target are for scores alone.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import rotate

from sims.images import digits, omniglot
from sims.shapes import SHAPES, clouds

DIGITS = 10
TAIL = 10.0  # samples of the most frequent class for one of the rarest
GESTURES = 6
SIDE = 16  # of images of m2u and omni, pixels
CHARACTERS = 80  # more than a batch has samples
COPIES = 4, 2  # of a character of the source and of the target, each turned anew
TILT = 15.0  # degrees, of characters of the source
ALIKE = 0.08  # how far they differ, of the range of their frequencies, sizes and phases


@dataclass(frozen=True)
class Shift:
    """A task: labelled source data and target data of the same classes.

    x, y:       (n, ...) float32 and (n,) of the source.
    x_target, y_target: of the target.
    classes:    how many there are.
    per_class:  whether accuracy is averaged over classes instead of samples.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    x_target: np.ndarray
    y_target: np.ndarray
    classes: int
    per_class: bool = False

    def accuracy(self, said: np.ndarray) -> float:
        """Of labels (n,) said of the target."""
        right = said == self.y_target
        if not self.per_class:
            return float(right.mean())
        return float(np.mean([right[self.y_target == c].mean() for c in np.unique(self.y_target)]))


def mid(seed: int) -> Shift:
    """Digits, half and half, see above."""
    rng = np.random.default_rng([seed, 1])
    x, y = _digits()
    order = rng.permutation(len(x))
    half = len(x) // 2
    return _shift("mid", DIGITS, _clean(x, y, order[:half], rng), _turned(x, y, order[half:], rng))


def lt(seed: int) -> Shift:
    """Digits with a long tail that is the other way round in the target."""
    rng = np.random.default_rng([seed, 2])
    x, y = _digits()
    order = rng.permutation(len(x))
    half = len(x) // 2
    rising = TAIL ** -np.linspace(1, 0, DIGITS)
    source, target = _tailed(y, order[:half], rising[::-1]), _tailed(y, order[half:], rising)
    return _shift("lt", DIGITS, _clean(x, y, source, rng), _turned(x, y, target, rng), per_class=True)


def pts(seed: int, number: int = 1200) -> Shift:
    """Point clouds (n, 64, 3), see `sims.shapes`."""
    rng = np.random.default_rng([seed, 3])
    source, target = clouds(number, rng, poor=False), clouds(number, rng, poor=True)
    return _shift("pts", len(SHAPES), source, target)


def imu(seed: int, number: int = 900) -> Shift:
    """Windows (n, 6, 128) of gestures: sums of three sinusoids and a chirp in each channel."""
    rng = np.random.default_rng([seed, 4])
    alike, own = rng.uniform(size=(1, 3, 1, 6, 3)), rng.uniform(-0.5, 0.5, (3, GESTURES, 6, 3))
    hertz, size, phase = alike[0] + ALIKE * own  # gestures differ little from each other
    gestures = (1 + 8 * hertz, 0.3 + 0.7 * size, 2 * np.pi * phase)
    gain, offset = rng.uniform(0.6, 1.4, (6, 1)), rng.uniform(-0.3, 0.3, (6, 1))
    turn = _rotation(rng, np.deg2rad(30))
    mixed = np.kron(np.eye(2), turn)
    other = (gain * mixed, offset, rng.choice((0.95, 1.05)), 1.0)
    x, y = _windows(number, gestures, rng, (np.eye(6), 0.0, 1.0, 0.5))
    x_target, y_target = _windows(number, gestures, rng, other)
    return Shift("imu", x, y, x_target, y_target, GESTURES)


def m2u(seed: int, data: str | Path, source: int = 3000, target: int = 2000) -> Shift:
    """MNIST and USPS, 16 x 16.

    Args:
        seed:   which samples.
        data:   folder with mnist_train.npz and usps_train.npz, each with images and labels.
        source: samples of MNIST.
        target: samples of USPS.
    Raises:
        ValueError: files without these arrays.
    """
    rng = np.random.default_rng([seed, 5])
    mnist, y = _images(Path(data) / "mnist_train.npz", (28, 28))
    usps, y_target = _images(Path(data) / "usps_train.npz", (SIDE, SIDE))
    some, others = rng.permutation(len(mnist))[:source], rng.permutation(len(usps))[:target]
    wide = np.pad(mnist[some] / 255.0, ((0, 0), (2, 2), (2, 2)))
    small = wide.reshape(-1, SIDE, 2, SIDE, 2).mean((2, 4))
    grey = (usps[others] - usps.min()) / (usps.max() - usps.min())
    images = (a[:, None].astype(np.float32) for a in (small, grey))
    x, x_target = images
    return Shift("m2u", x, y[some], x_target, y_target[others], DIGITS)


def omni(seed: int, data: str | Path) -> Shift:
    """Characters, 16 x 16: by half of the people upright within TILT, by the others as digits of `mid` are.

    Args:
        seed: which characters, and which people.
        data: zip of Omniglot, see `sims.images.omniglot`.
    Raises:
        ValueError: as of `sims.images.omniglot`, or a character that one person alone has written.
    """
    rng = np.random.default_rng([seed, 6])
    images = omniglot(data, SIDE)
    x, characters = images.pixels[:, 0].double().numpy(), images.labels.numpy()
    y = np.full(len(x), -1)
    parts: tuple[list[int], list[int]] = [], []
    for k, character in enumerate(rng.permutation(np.unique(characters))[:CHARACTERS]):
        own = rng.permutation(np.flatnonzero(characters == character))
        if len(own) < 2:
            raise ValueError(
                f"{data} must have each character twice at least, number {character} is there once"
            )
        y[own] = k
        parts[0].extend(own[: len(own) // 2])
        parts[1].extend(own[len(own) // 2 :])
    source, target = (np.repeat(rows, copies) for rows, copies in zip(parts, COPIES))
    upright = np.stack([rotate(x[k], rng.uniform(-TILT, TILT), reshape=False, order=1) for k in source])
    clean = _clean(upright, y[source], np.arange(len(source)), rng)
    return _shift("omni", y.max() + 1, clean, _turned(x, y, target, rng))


FROM_FILES = {
    "m2u": (m2u, "a folder with mnist_train.npz and usps_train.npz"),
    "omni": (omni, "a zip of Omniglot"),
}
SHIFTS = {"mid": mid, "lt": lt, "pts": pts, "imu": imu}


def shift(name: str, seed: int, data: str | Path | None = None) -> Shift:
    """A task by name; those of FROM_FILES need their data."""
    if name in FROM_FILES:
        make, what = FROM_FILES[name]
        if data is None:
            raise ValueError(f"{name} needs {what}")
        return make(seed, data)
    return SHIFTS[name](seed)


def _shift(name, classes, source, target, per_class=False):
    (x, y), (x_target, y_target) = source, target
    return Shift(name, x, y, x_target, y_target, classes, per_class)


def _digits():
    images = digits()
    return images.pixels[:, 0].double().numpy(), images.labels.numpy()


def _tailed(y, rows, share):
    """Rows with so large a share of each class."""
    kept = []
    for c in range(DIGITS):
        own = rows[y[rows] == c]
        kept.append(own[: max(1, round(share[c] * len(own)))])
    return np.concatenate(kept)


def _clean(x, y, rows, rng):
    noisy = x[rows] + rng.normal(0, 0.03, x[rows].shape)
    return noisy[:, None].astype(np.float32), y[rows]


def _turned(x, y, rows, rng):
    out = [rotate(x[k], rng.uniform(12, 30), reshape=False, order=1) for k in rows]
    out = 0.8 * np.stack(out) + 0.08
    return (out + rng.normal(0, 0.08, out.shape))[:, None].astype(np.float32), y[rows]


def _windows(number, gestures, rng, device):
    """(number, 6, 128) windows as a device has them, and their labels."""
    mixing, offset, rate, noise = device
    hertz, size, phase = gestures
    y = np.arange(number) % GESTURES
    rng.shuffle(y)
    t = np.arange(128) / 128 * rate
    start = rng.uniform(-0.5, 0.5, (number, 1, 1, 1))
    tempo = np.exp(rng.normal(0, 0.08, (number, 1, 1, 1)))
    time = tempo * (t + start)
    bend = np.array([0.0, 0.0, 2.0])[:, None] * time**2  # the third is a chirp
    waves = size[y][..., None] * np.sin(2 * np.pi * (hertz[y][..., None] * time + bend) + phase[y][..., None])
    x = mixing @ waves.sum(2) + offset
    return (x + rng.normal(0, noise, x.shape)).astype(np.float32), y


def _rotation(rng, most):
    """(3, 3) about a random axis, by 0.7 to 1 times `most` rad."""
    axis = rng.normal(size=3)
    x, y, z = axis / np.linalg.norm(axis)
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = rng.choice((-1, 1)) * rng.uniform(0.7, 1.0) * most
    return np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * K @ K


def _images(path, shape):
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no .npz of arrays: {error}") from None
    images = next((a for a in arrays.values() if a.ndim >= 2), None)
    labels = next((a for a in arrays.values() if a.ndim == 1), None)
    if images is None or labels is None or len(images) != len(labels):
        raise ValueError(f"{path} must have images (n, ...) and labels (n,), got {list(arrays)}")
    return images.reshape(-1, *shape).astype(np.float64), labels.astype(np.int64)
