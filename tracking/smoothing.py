"""Smoothed trajectories: what was an object's path, now that all its measurements are known?

    recorder = Recorder(PMBM(...))
    for time, z in scans:
        tracks = recorder.step(z, time)          # as of the tracker itself
    for path in recorder.trajectories():         # label, time, mean, cov, existence
        ...

A tracker says at every scan which measurement each label was updated with. Along those associations a filter
runs forwards once more and a Rauch-Tung-Striebel smoother backwards, all labels of a scan at once. A scan
between the first and the last report of a label in which it was not reported, or not detected, is a miss.

With an `IMM` the filter that runs forwards is one too; backwards it is one smoother for the moments of all
models, with the covariance of state and prediction taken over the models, so it does not weigh them anew.

Source: Rauch, Tung, Striebel (AIAA 1965); with sigma points Sarkka, "Unscented Rauch-Tung-Striebel smoother"
(TAC 2008), eq. 20-21: the gain is the covariance of state and prediction times the predicted precision.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tracking.bridges.filterpy import Repeated
from tracking.checks import as_measurements, require_positive
from tracking.gaussian import EKF, symmetrise
from tracking.late import Late
from tracking.models.linear import whole_steps
from tracking.modes import Modes, combined, mixed, moved, started, taken, together, update
from tracking.tracks import Tracks, Trajectories


@dataclass(frozen=True)
class Trajectory:
    """One object over time, from the first scan that reports its label to the last.

    label:     number of the object.
    time:      (k,) of the scans, s.
    mean:      (k, d) smoothed states.
    cov:       (k, d, d) their covariances.
    existence: (k,) probability that the object exists as the tracker said it then, NaN where it said nothing.
    source:    (k,) row of the scan that it was detected by, -1 if none.
    """

    label: int
    time: np.ndarray
    mean: np.ndarray
    cov: np.ndarray
    existence: np.ndarray
    source: np.ndarray

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True)
class Recorded:
    """What a scan adds to the trajectories.

    tracks: of the scan; z: (n, d_z) measurement of each, NaN where it has none; sensor: of the scan.
    """

    tracks: Tracks
    z: np.ndarray
    sensor: Any


class Recorder:
    """A tracker whose trajectories are kept.

    Args:
        tracker:       with a method `step`; its models are used.
        memory:        s after which scans are forgotten, so that memory stays as it is however long the run;
                       trajectories then begin there. None: nothing is forgotten.
        motion, sensor, linearisation: of a tracker without models; EKF by default.
    """

    def __init__(self, tracker, memory: float | None = None, *, motion=None, sensor=None, linearisation=None):
        if isinstance(tracker, Late):  # its tracks are of another scan than the one it was given
            raise ValueError(
                "a Recorder takes scans in order of time, a Late does not; accepted is the tracker in it, "
                "with scans that are sorted first"
            )
        models = getattr(tracker, "models", None)
        self.motion = motion or getattr(models, "motion", None)
        self.sensor = sensor or getattr(models, "sensor", None)
        if self.motion is None or self.sensor is None:
            raise ValueError(
                f"{type(tracker).__name__} has no models: give motion= and sensor= for smoothing"
            )
        if memory is not None:
            require_positive(memory=memory)
        self.linearisation = linearisation or getattr(models, "linearisation", EKF())
        self.tracker, self.memory = tracker, memory
        self.scans: deque[Recorded] = deque()

    def step(self, z, time: float, **arguments) -> Tracks:
        """Take in one scan as the tracker does, and keep what it says.

        Args:
            z:         (m, d_z) measurements.
            time:      of the scan, s.
            arguments: further ones of the tracker's own `step`.
        Returns:
            What the tracker returns.
        """
        tracks = self.tracker.step(z, time, **arguments)
        sensor: Any = arguments.get("sensor") or self.sensor
        own = as_measurements(z, sensor.dim_z)
        used = np.full((len(tracks), sensor.dim_z), np.nan)
        hit = tracks.source >= 0
        used[hit] = own[tracks.source[hit]]
        self.scans.append(Recorded(tracks, used, sensor))
        while self.memory is not None and self.scans[0].tracks.time < tracks.time - self.memory:
            self.scans.popleft()
        return tracks

    def trajectories(self, labels: Sequence[int] | None = None) -> list[Trajectory]:
        """Smoothed trajectories of all labels, or of some, by label."""
        return smooth(list(self.scans), self.motion, self.linearisation, labels)


@dataclass
class _Pass:
    """Filtered moments of the labels of one scan, and how the next scan follows from them.

    rows: (c,) of them that go on; predicted (c, d), (c, d, d) moments at the next scan; gain: (c, d, d).
    """

    label: np.ndarray
    m: np.ndarray
    P: np.ndarray
    rows: np.ndarray
    predicted: tuple[np.ndarray, np.ndarray]
    gain: np.ndarray


def smooth(scans: list[Recorded], motion, linearisation, labels=None) -> list[Trajectory]:
    """Smoothed trajectories along recorded associations.

    Args:
        scans:         recorded ones, in order.
        motion:        motion model.
        linearisation: `EKF()`, `UKF()` or `CKF()`.
        labels:        of the wanted trajectories; None: all.
    """
    found = [s.tracks.label for s in scans]
    if labels is not None:
        found = [label[np.isin(label, np.asarray(labels, np.int64))] for label in found]
    every = np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)
    last = np.zeros(len(every), np.int64)
    for k, label in enumerate(found):
        last[np.searchsorted(every, label)] = k
    passes = _forwards(scans, motion, linearisation, every, last)
    smoothed = _backwards(passes)
    return _gathered(scans, passes, smoothed, every)


def smoother_step(m, P, motion, linearisation, dt: float):
    """Moments after `dt` seconds, and the gain by which what is learnt there reaches back.

    Args:
        m, P:          (n, d), (n, d, d) filtered moments.
        motion:        motion model.
        linearisation: of it.
        dt:            s.
    Returns:
        Predicted moments (n, d) and (n, d, d), gain (n, d, d).
    """
    if isinstance(linearisation, Repeated):  # nothing is learnt between the steps: the gains multiply
        gain = np.broadcast_to(np.eye(m.shape[1]), P.shape)
        for _ in range(whole_steps(dt, linearisation.dt)):
            m, P, step = smoother_step(m, P, motion, linearisation.inner, linearisation.dt)
            gain = gain @ step
        return m, P, gain
    ahead, spread = linearisation.predict(m, P, motion, dt)
    return ahead, spread, _gain(_cross(m, P, ahead, motion, linearisation, dt), spread)


def _gain(cross, spread):
    return cross @ np.linalg.pinv(spread, 1e-13, hermitian=True)


def _cross(m, P, ahead, motion, linearisation, dt):
    """Covariance (n, d, d) of states and what they are after `dt`, with mean `ahead` (n, d)."""
    if motion.linear or isinstance(linearisation, EKF):
        return P @ np.swapaxes(motion.jacobian(m, dt), -1, -2)
    points, _, w = linearisation.points(m, P)
    n, k, d = points.shape
    after = motion.transition(points.reshape(n * k, d), dt).reshape(n, k, d)
    return np.einsum("k,nki,nkj->nij", w, points - m[:, None], after - ahead[:, None])


def _step(m, P, modes: Modes | None, motion, linearisation, dt):
    """As `smoother_step`, with the modes after the step before the gain."""
    if modes is None:
        ahead, spread, gain = smoother_step(m, P, motion, linearisation, dt)
        return ahead, spread, None, gain
    gain = np.broadcast_to(np.eye(m.shape[1]), P.shape)
    for part in motion.parts(dt):
        m, _ = combined(modes)
        before = mixed(modes, motion.chain(part))
        modes = moved(before, motion, linearisation, part)
        ahead, spread = combined(modes)
        cross = np.zeros_like(P)
        for j, model in enumerate(motion.models):
            within = _cross(before.m[:, j], before.P[:, j], modes.m[:, j], model, linearisation, part)
            between = (before.m[:, j] - m)[:, :, None] * (modes.m[:, j] - ahead)[:, None]
            cross += modes.p[:, j, None, None] * (within + between)
        gain = gain @ _gain(cross, spread)
    return ahead, spread, modes, gain


def joined(trajectories: Sequence[Trajectory], time: np.ndarray) -> Trajectories:
    """Trajectories on common times (T,), NaN where there is none, as the metrics take them.

    Of scans at one and the same time the last one counts.
    """
    time = np.asarray(time, float)
    dim = trajectories[0].mean.shape[1] if trajectories else 0
    states = np.full((len(trajectories), len(time), dim), np.nan)
    for i, path in enumerate(trajectories):
        at = np.searchsorted(path.time, time, side="right") - 1
        here = (at >= 0) & (path.time[np.maximum(at, 0)] == time)
        states[i, here] = path.mean[at[here]]
    return Trajectories(time, np.array([path.label for path in trajectories], np.int64), states)


def _forwards(scans, motion, linearisation, every, last) -> list[_Pass]:
    """The filter once more, along the associations; all labels of a scan at once."""
    passes: list[_Pass] = []
    d = motion.dim
    label, m, P = np.zeros(0, np.int64), np.zeros((0, d)), np.zeros((0, d, d))
    modes = started(m, P, motion)
    for k, scan in enumerate(scans):
        tracks = scan.tracks
        if k > 0:
            rows = np.flatnonzero(last[np.searchsorted(every, label)] >= k)
            dt = tracks.time - scans[k - 1].tracks.time
            m, P, modes, gain = _step(m[rows], P[rows], taken(modes, rows), motion, linearisation, dt)
            passes[-1].rows, passes[-1].predicted, passes[-1].gain = rows, (m, P), gain
            label = label[rows]
        wanted = np.flatnonzero(np.isin(tracks.label, every))
        new = wanted[~np.isin(tracks.label[wanted], label)]
        old = wanted[np.isin(tracks.label[wanted], label) & (tracks.source[wanted] >= 0)]
        place = _place(label, tracks.label[old])
        m, P, modes = _updated(m, P, modes, place, scan.z[old], scan.sensor, linearisation)
        label = np.concatenate((label, tracks.label[new]))
        m, P = np.concatenate((m, tracks.mean[new])), np.concatenate((P, tracks.cov[new]))
        modes = together(modes, _begun(tracks, new, motion))
        none = np.zeros(0, np.int64)
        passes.append(_Pass(label, m, P, none, (m[:0], P[:0]), P[:0]))
    return passes


def _begun(tracks, new, motion):
    """Modes of some tracks, all models of which have the moments that were reported; None of one model."""
    modes = started(tracks.mean[new], tracks.cov[new], motion)
    return modes if modes is None or tracks.modes is None else replace(modes, p=tracks.modes[new])


def _updated(m, P, modes, rows, z, sensor, linearisation):
    """Moments with some rows (k,) updated by measurements (k, d_z)."""
    if len(rows) == 0:
        return m, P, modes
    if modes is not None:
        modes = modes.put(rows, update(modes.take(rows), z, sensor, linearisation))
        return *combined(modes), modes
    innovation = linearisation.innovate(m[rows], P[rows], sensor)
    m, P = m.copy(), P.copy()
    nu = sensor.residual(z, innovation.z_hat)
    m[rows] += np.einsum("nij,nj->ni", innovation.gain, nu)
    P[rows] = innovation.P_post
    return m, P, None


def _backwards(passes: list[_Pass]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Smoothed moments of every scan."""
    smoothed: list[Any] = [None] * len(passes)
    for k in range(len(passes) - 1, -1, -1):
        now = passes[k]
        m, P = now.m.copy(), now.P.copy()
        if len(now.rows):
            ahead_m, ahead_P = (a[: len(now.rows)] for a in smoothed[k + 1])  # who goes on comes first there
            G = now.gain
            m[now.rows] += np.einsum("nij,nj->ni", G, ahead_m - now.predicted[0])
            P[now.rows] += G @ (ahead_P - now.predicted[1]) @ G.swapaxes(1, 2)
        smoothed[k] = m, symmetrise(P)
    return smoothed


def _gathered(scans, passes, smoothed, every) -> list[Trajectory]:
    """One trajectory a label, from the moments of every scan."""
    if len(every) == 0:
        return []
    label = np.concatenate([p.label for p in passes])
    time = np.repeat([s.tracks.time for s in scans], [len(p.label) for p in passes])
    mean, cov = (np.concatenate([s[i] for s in smoothed]) for i in (0, 1))
    existence, source = np.full(len(label), np.nan), np.full(len(label), -1)
    start = 0
    for scan, p in zip(scans, passes):
        mine = np.flatnonzero(np.isin(scan.tracks.label, p.label))
        at = start + _place(p.label, scan.tracks.label[mine])
        existence[at], source[at] = scan.tracks.existence[mine], scan.tracks.source[mine]
        start += len(p.label)
    order = np.argsort(label, kind="stable")
    ends = np.searchsorted(label[order], every, side="right")
    parts = np.split(order, ends[:-1])
    return [
        Trajectory(int(name), time[rows], mean[rows], cov[rows], existence[rows], source[rows])
        for name, rows in zip(every, parts)
    ]


def _place(label, wanted):
    """Where each wanted label stands among distinct labels in any order."""
    order = np.argsort(label)
    return order[np.searchsorted(label[order], wanted)] if len(wanted) else np.zeros(0, np.int64)
