"""A filter for one object, written with filterpy, becomes a tracker of many.

    kf = KalmanFilter(dim_x=4, dim_z=2)          # x, P, F, Q, H, R as for one object
    tracker = from_filterpy(kf, dt=0.1, clutter_intensity=1e-4)
    for time, z in scans:
        tracks = tracker.step(z, time)           # z (m, 2), of any number of objects, and clutter

What is used is the motion (F and Q, or fx), the measurement (H, or hx) and the noise R, as they are when the
function is called; x and P say where objects appear. Steps without time in them, as filterpy's, become steps
of `dt` seconds, repeated where scans are further apart, as by calling `predict()` again.

An IMMEstimator becomes an `IMM`. Where it predicts twice without a measurement in between it forgets to move
its probabilities on; here they move with every step, as in the method.

Made for filterpy 1.4.5 and 2.0. The unscented filter here draws its points anew after a prediction, as that
of 2.0; that of 1.4.5 measures with the points from before it, without the process noise in their spread.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracking.filters.pmbm import PMBM
from tracking.filters.tracker import Tracker
from tracking.gaussian import EKF, UKF, Innovation, Linearisation
from tracking.models.birth import GaussianBirth
from tracking.models.imm import IMM
from tracking.models.linear import LinearMotion, LinearSensor, whole_steps
from tracking.models.motion import FunctionMotion
from tracking.models.sensor import FunctionSensor

MAX_REPEATS = 10_000
EXTENDED, UNSCENTED = "ExtendedKalmanFilter", "UnscentedKalmanFilter"


@dataclass(frozen=True)
class Repeated:
    """A linearisation of a motion that is known for steps of `dt` seconds only: longer ones are repeated.

    Args:
        inner: linearisation of one step.
        dt:    its length, s.
    """

    inner: Linearisation
    dt: float

    def predict(self, m, P, motion, dt):
        """Moments after `dt` seconds, (n, d) and (n, d, d)."""
        steps = whole_steps(dt, self.dt)
        if steps > MAX_REPEATS:
            raise ValueError(f"{dt:g} s are {steps} steps of {self.dt:g} s, accepted are {MAX_REPEATS}")
        for _ in range(steps):
            m, P = self.inner.predict(m, P, motion, self.dt)
        return m, P

    def innovate(self, m, P, sensor) -> Innovation:
        """Predicted measurements of densities (n, d), (n, d, d)."""
        return self.inner.innovate(m, P, sensor)


def from_filterpy(
    kf: Any,
    dt: float | None = None,
    *,
    clutter_intensity: float | Callable,
    p_detect: float | Callable = 0.9,
    birth: Any = 0.1,
    F: Callable | None = None,
    Q: Callable | None = None,
    Hx: Callable | None = None,
    HJacobian: Callable | None = None,
    angles: Sequence[int] = (),
    tracker: type[Tracker] = PMBM,
    **settings,
) -> Tracker:
    """A multitarget tracker with the models of a filterpy filter.

    Args:
        kf:        KalmanFilter, ExtendedKalmanFilter, UnscentedKalmanFilter, or IMMEstimator of Kalman
                   filters that measure alike; it is not changed.
        dt:        length of its steps, s; None: that of the unscented filter, or F and Q are functions.
        clutter_intensity: expected clutter points per scan and unit of measurement volume, > 0.
        p_detect:  probability that an object is detected in a scan.
        birth:     expected objects per second that appear at x with covariance P of the filter, or a birth
                   model. One that speaks of a position needs it at the front of the state.
        F, Q:      functions of the step (s) that give (d, d), in place of the matrices of the filter; with an
                   unscented filter Q alone. Scans may then be any time apart.
        Hx, HJacobian: of an extended filter, as its `update` takes them.
        angles:    components of z that wrap at +-pi, in place of a residual function.
        tracker:   class of the tracker.
        settings:  further arguments of the tracker: survival, config, initial, occlusion, seed.
    Raises:
        ValueError: something of the filter has no counterpart here, or is missing.
    """
    kf = copy.deepcopy(kf)
    several = None
    if hasattr(kf, "filters") and hasattr(kf, "mu"):
        several, kf = kf, _measuring_alike(kf, F, Q)
    kind = _kind_of(kf)
    dim = int(np.size(kf.x))
    shared: dict[str, Any] = {
        "cov": np.asarray(kf.R, float),
        "p_detect": p_detect,
        "clutter_intensity": clutter_intensity,
    }
    linearisation: Linearisation = EKF()
    if kind == UNSCENTED:
        linearisation, dt = _points_of(kf), float(kf._dt) if dt is None else dt
        sensor: Any = FunctionSensor(
            int(kf._dim_z), _each(kf.hx, (dim,), int(kf._dim_z)), angles=_angles_of(kf, angles), **shared
        )
    elif kind == EXTENDED:
        sensor = _extended_sensor(kf, Hx, HJacobian, tuple(angles), shared)
    elif angles:
        raise ValueError("angles are of an extended or unscented filter, a KalmanFilter measures H x")
    else:
        sensor = LinearSensor(np.asarray(kf.H, float), **shared)
    dims = max(getattr(sensor, "dims", 1), 1)
    if several is not None:
        models = [_motion_of(one, kind, dt, None, None, dims) for one in several.filters]
        return tracker(
            IMM(models, several.M, _required(dt), several.mu), sensor, _appears(several, birth), **settings
        )
    motion = _motion_of(kf, kind, dt, F, Q, dims)
    if not motion.linear and Q is None:
        linearisation = Repeated(linearisation, _required(dt))
    return tracker(motion, sensor, _appears(kf, birth), linearisation=linearisation, **settings)


def _appears(kf, birth):
    if not isinstance(birth, (int, float)):
        return birth
    return GaussianBirth(birth, np.reshape(np.asarray(kf.x, float), (1, -1)), kf.P)


def _measuring_alike(imm, F, Q):
    """The first filter of an IMMEstimator, which stands for the measurement of all."""
    first = imm.filters[0]
    for one in imm.filters:
        if _kind_of(one) != "KalmanFilter" or not (
            np.array_equal(one.H, first.H) and np.array_equal(one.R, first.R)
        ):
            raise ValueError(
                "filters of an IMMEstimator must be KalmanFilters with one H and one R: an object switches "
                "how it moves, not how it is seen"
            )
    if F is not None or Q is not None:
        raise ValueError("F and Q as functions are of one filter; each of an IMMEstimator moves by its own")
    return first


def _kind_of(kf) -> str:
    if hasattr(kf, "points_fn") and hasattr(kf, "fx"):
        return UNSCENTED
    if not all(hasattr(kf, name) for name in "xPFQR") or hasattr(kf, "filters"):
        raise ValueError(
            "kf must be a KalmanFilter, ExtendedKalmanFilter or UnscentedKalmanFilter of filterpy, got "
            f"{type(kf).__name__}"
        )
    fading = [
        getattr(kf, name, 1.0) for name in ("_alpha_sq", "alpha_sq")
    ]  # the second of FadingKalmanFilter
    if any(alpha != 1.0 for alpha in fading) or np.any(getattr(kf, "M", 0.0)):
        raise ValueError(
            "a filter with fading memory (alpha) or with noises that correlate (M) has no counterpart here; "
            "set alpha = 1 and M = 0, and let Q say how fast the past is forgotten"
        )
    return EXTENDED if not hasattr(kf, "H") else "KalmanFilter"


def _required(dt) -> float:
    if dt is None:
        raise ValueError("dt is needed: the length of the filter's steps, s; or F and Q as functions of it")
    return dt


def _motion_of(kf, kind, dt, F, Q, dims):
    dim = int(np.size(kf.x))
    if kind == UNSCENTED:
        if F is not None:
            raise ValueError("an unscented filter moves by fx; accepted is Q, a function of the step")
        own = np.asarray(kf.Q, float)
        return FunctionMotion(dim, _each(kf.fx, (dim,), dim), (lambda dt: own) if Q is None else Q, dims=dims)
    if F is not None or Q is not None:
        if not (callable(F) and callable(Q)):
            raise ValueError("give both F and Q as functions of the step in seconds, or neither")
        return FunctionMotion(dim, lambda x, dt: x @ F(dt).T, Q, lambda x, dt: F(dt), dims)
    if kind == EXTENDED and not type(kf).predict_x.__module__.startswith("filterpy."):
        own = np.asarray(kf.Q, float)
        moved = _Overridden(kf)
        return FunctionMotion(dim, moved.transition, lambda dt: own, moved.jacobian, dims)
    return LinearMotion(kf.F, kf.Q, _required(dt), dims)


@dataclass(frozen=True)
class _Overridden:
    """The motion of an extended filter whose class has its own `predict_x`; F is what that leaves behind."""

    kf: Any

    def transition(self, x, dt):
        return np.array([np.ravel(self._after(row).x) for row in x]).reshape(x.shape)

    def jacobian(self, x, dt):
        d = x.shape[1]
        return np.array([np.array(self._after(row).F, float) for row in x]).reshape(len(x), d, d)

    def _after(self, row):
        moved = copy.copy(self.kf)
        moved.x, moved.F = row.reshape(np.shape(self.kf.x)), np.array(self.kf.F, float)
        moved.predict_x(0)
        return moved


def _extended_sensor(kf, Hx, HJacobian, angles, shared):
    if Hx is None or HJacobian is None:
        raise ValueError(
            "an ExtendedKalmanFilter is given its measurement functions in every update; "
            "give them here too: from_filterpy(ekf, dt, Hx=..., HJacobian=..., ...)"
        )
    shape, dim, dim_z = np.shape(kf.x), int(np.size(kf.x)), int(kf.dim_z)
    jacobian = _each(HJacobian, shape, dim_z * dim)
    return FunctionSensor(
        dim_z,
        _each(Hx, shape, dim_z),
        lambda x: jacobian(x).reshape(len(x), dim_z, dim),
        angles=angles,
        **shared,
    )


def _each(function, shape, size):
    """A function of one state, of the shape that filterpy gives it, as one of many: (n, d) -> (n, size)."""

    def batched(x, *rest):
        return np.array([np.ravel(function(row.reshape(shape), *rest)) for row in x]).reshape(len(x), size)

    return batched


def _points_of(kf) -> UKF:
    """The sigma points, where they are those of Merwe (alpha, beta, kappa) or Julier (kappa)."""
    points, d = kf.points_fn, int(kf._dim_x)
    plain = kf.x_mean is None and kf.residual_x is np.subtract and getattr(kf, "state_add", np.add) is np.add
    if not plain:
        raise ValueError(
            "x_mean_fn, residual_x and state_add of the filter have no counterpart here: entries of a state "
            "are plain numbers"
        )
    if not hasattr(points, "kappa"):
        raise ValueError(
            f"sigma points of {type(points).__name__} have no counterpart here; accepted are those of "
            "MerweScaledSigmaPoints and JulierSigmaPoints"
        )
    scaled = hasattr(points, "beta")
    ukf = UKF(points.alpha, points.beta, points.kappa) if scaled else UKF(1.0, 0.0, points.kappa)
    mine, w_mean, w_cov = ukf.points(np.zeros((1, d)), np.asarray(kf.P, float)[None])
    theirs = points.sigma_points(np.zeros(d), np.asarray(kf.P, float))
    same = (
        np.allclose(mine[0], theirs, 1e-9, 1e-12) and np.allclose(w_mean, kf.Wm) and np.allclose(w_cov, kf.Wc)
    )
    if not same:
        raise ValueError(
            "the sigma points or weights of the filter are not those of its alpha, beta and kappa with a "
            "Cholesky factor; accepted are the points as filterpy makes them by default"
        )
    return ukf


def _angles_of(kf, angles) -> tuple[int, ...]:
    if not angles and (kf.residual_z is not np.subtract or kf.z_mean is not None):
        raise ValueError(
            "the filter has a residual or mean function of measurements; say which components of z are "
            "angles instead, angles=(1,) for a range and bearing"
        )
    return tuple(angles)
