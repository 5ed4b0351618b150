"""A small simulated world for the tests of the trackers, and what every one of them has to survive."""

import numpy as np

from tracking.metrics import gospa
from tracking.models import ConstantVelocity, PositionSensor, Survival, UniformBirth

SIDE, STD, Q, SPEED = 1000.0, 5.0, 0.25, 5.0


def models(objects=8, clutter=10, p_detect=0.9, born=0.16):
    """Keyword arguments of a tracker that knows the truth."""
    box = {"lower": (0.0, 0.0), "upper": (SIDE, SIDE), "rest_std": SPEED}
    return {
        "motion": ConstantVelocity(dims=2, q=Q),
        "sensor": PositionSensor(std=STD, p_detect=p_detect, clutter_intensity=clutter / SIDE**2),
        "birth": UniformBirth(rate=born, **box),
        "survival": Survival(0.99, box["lower"], box["upper"]),
        "initial": UniformBirth(rate=objects, **box),
    }


def simulate(seed, objects=8, clutter=10, p_detect=0.9, born=0.16, scans=40):
    """Scans (time, truth (n, 4), z (m, 2)) of objects that come, go and are seen among clutter."""
    rng = np.random.default_rng(seed)
    motion = ConstantVelocity(dims=2, q=Q)
    noise = np.linalg.cholesky(motion.noise(None, 1.0))

    def start(k):
        return np.concatenate((rng.uniform(0, SIDE, (k, 2)), SPEED * rng.normal(size=(k, 2))), axis=1)

    x, out = start(objects), []
    for k in range(scans):
        if k > 0:
            x = motion.transition(x, 1.0) + rng.normal(size=x.shape) @ noise.T
            inside = np.all((x[:, :2] >= 0) & (x[:, :2] <= SIDE), axis=1)
            x = np.concatenate((x[inside & (rng.random(len(x)) < 0.99)], start(rng.poisson(born))))
        seen = x[rng.random(len(x)) < p_detect, :2]
        z = np.concatenate(
            (seen + STD * rng.normal(size=seen.shape), rng.uniform(0, SIDE, (rng.poisson(clutter), 2)))
        )
        out.append((float(k), x, rng.permutation(z)))
    return out


def mean_gospa(tracker, scans, c=20.0):
    """Mean over the scans of the GOSPA error of positions, order 1, m."""
    errors = []
    for time, truth, z in scans:
        tracks = tracker.step(z, time)
        assert len(set(tracks.label.tolist())) == len(tracks)
        errors.append(gospa(truth[:, :2], tracks.mean[:, :2], c=c, p=1.0).total)
    return float(np.mean(errors))


def line(p0=(0.0, 0.0), v=(3.0, 1.0), scans=10, dt=1.0):
    """Times and exact positions of one object on a straight line."""
    time = dt * np.arange(scans)
    return time, np.asarray(p0) + time[:, None] * np.asarray(v)


def same(a, b):
    """Whether two densities, nested dataclasses and tuples of arrays, are equal bit for bit."""
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if hasattr(a, "__dataclass_fields__"):
        return all(same(getattr(a, name), getattr(b, name)) for name in a.__dataclass_fields__)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return a == b


def sorted_rows(tracks):
    """State, covariance trace and existence of the tracks, in an order that labels do not decide."""
    trace = np.trace(tracks.cov, axis1=1, axis2=2)
    rows = np.column_stack((tracks.mean, trace, tracks.existence))
    return rows[np.lexsort(rows.round(6).T)]
