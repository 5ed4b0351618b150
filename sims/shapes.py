"""Point clouds of eight shapes, as a clean sensor has them and as a poor one, for adaptation.

Clouds are (n, 64, 3), centred, with a largest coordinate of 1. The poor sensor sees 80 % of a shape, denser
on one side, with repeated points, more noise and a tilt.
"""

import numpy as np

SHAPES = ("sphere", "box", "cylinder", "cone", "torus", "plate", "helix", "cross")
POINTS = 64


def clouds(number: int, rng: np.random.Generator, poor: bool) -> tuple[np.ndarray, np.ndarray]:
    """(number, POINTS, 3) float32 clouds and their labels (number,), of equally many shapes."""
    labels = np.arange(number) % len(SHAPES)
    rng.shuffle(labels)
    return np.stack([_cloud(SHAPES[k], rng, poor) for k in labels]).astype(np.float32), labels


def _cloud(name, rng, poor):
    points = surface(name, 4 * POINTS if poor else POINTS, rng)
    points = points * (1 + 0.2 * rng.normal(size=3)) @ _turned(rng.uniform(0, 2 * np.pi), 2)
    if poor:
        points = _seen(points, rng)
        for axis in (0, 1):
            points = points @ _turned(rng.uniform(-0.25, 0.25), axis)
    points = points + rng.normal(0, 0.03 if poor else 0.02, points.shape)
    points = points - points.mean(0)
    return points / np.abs(points).max()


def _seen(points, rng):
    """POINTS of the 80 % on one side of a plane, drawn with a density that falls along a direction."""
    along = points @ _direction(rng)
    points = points[along >= np.quantile(along, 0.2)]
    weight = np.exp(points @ _direction(rng))
    return points[rng.choice(len(points), POINTS, p=weight / weight.sum())]


def surface(name: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 3) points of a shape about the origin, of a size of about 1."""
    u, v = rng.uniform(size=(2, n))
    turn = 2 * np.pi * u
    round_ = np.stack((np.cos(turn), np.sin(turn)), 1)
    if name == "sphere":
        x = rng.normal(size=(n, 3))
        return x / np.linalg.norm(x, axis=1, keepdims=True)
    if name == "box":
        x = rng.uniform(-1, 1, (n, 3))
        x[np.arange(n), rng.integers(3, size=n)] = rng.choice((-1.0, 1.0), n)
        return 0.8 * x
    if name == "cylinder":
        return np.column_stack((0.6 * round_, 2 * v - 1))
    if name == "cone":
        return np.column_stack((0.9 * np.sqrt(v)[:, None] * round_, 1 - 2 * np.sqrt(v)))
    if name == "torus":
        tube = 2 * np.pi * v
        return np.column_stack(((0.8 + 0.3 * np.cos(tube))[:, None] * round_, 0.3 * np.sin(tube)))
    if name == "plate":
        return np.column_stack((2 * u - 1, 2 * v - 1, 0.05 * rng.normal(size=n)))
    if name == "helix":
        return np.column_stack((0.7 * np.cos(2 * turn), 0.7 * np.sin(2 * turn), 2 * u - 1))
    x = 0.15 * rng.uniform(-1, 1, (n, 3))  # a cross of two bars
    x[np.arange(n), rng.integers(2, size=n)] = rng.uniform(-1, 1, n)
    return x


def _direction(rng):
    x = rng.normal(size=3)
    return x / np.linalg.norm(x)


def _turned(angle, axis):
    """Rotation about an axis, transposed, for rows."""
    a, b = [k for k in range(3) if k != axis]
    R = np.eye(3)
    R[a, a] = R[b, b] = np.cos(angle)
    R[a, b], R[b, a] = np.sin(angle), -np.sin(angle)
    return R
