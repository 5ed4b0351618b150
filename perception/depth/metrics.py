"""How far depth is from the truth, and the protocols that published numbers were made under.

Depth is in metres. Truth that is not finite, not above 0 or not below the clip does not count. What is
averaged is averaged over the pixels of each image first, then over images.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

MVSEC_ALPHA, MVSEC_CLIP = 3.70378, 80.0  # of log depth
DENSE_ALPHA, DENSE_CLIP = 5.7, 1000.0  # also of EventScape
MVSEC_NEAREST = MVSEC_CLIP * math.exp(-MVSEC_ALPHA)  # 1.970 m, of log depth 0
DENSE_NEAREST = DENSE_CLIP * math.exp(-DENSE_ALPHA)  # 3.346 m
BELOW = (10.0, 20.0, 30.0)  # m, of mae10, mae20 and mae30


class Errors(NamedTuple):
    """Of p predicted and g true, one number each, or (n,) of n images.

    abs_rel, sq_rel: mean of |p - g| / g and of (p - g)^2 / g, the latter in m.
    rmse, rmse_log:  root of the mean of (p - g)^2, m, and of (ln p - ln g)^2.
    si_log:          variance of ln p - ln g, which a common factor does not change.
    delta1, delta2, delta3: share of pixels with max(p / g, g / p) < 1.25, 1.25^2 and 1.25^3.
    mae10, mae20, mae30: mean of |p - g| where g is below 10, 20 and 30 m; NaN: nowhere.
    """

    abs_rel: Any
    sq_rel: Any
    rmse: Any
    rmse_log: Any
    si_log: Any
    delta1: Any
    delta2: Any
    delta3: Any
    mae10: Any
    mae20: Any
    mae30: Any


def errors(
    predicted: np.ndarray, truth: np.ndarray, clip: float, lower: float = 0.0, clamp: bool = False
) -> Errors:
    """Errors of depth, of each image and then their mean over images.

    An image takes no part in the mean of a number that it does not have, so not in any without valid truth.

    Args:
        predicted: (H, W) or (n, H, W), m.
        truth:     of the same shape, m.
        clip:      m, from which on truth does not count.
        lower:     m, to which predictions are clamped; > 0 then.
        clamp:     predictions are clamped to [lower, clip].
    Raises:
        ValueError: different shapes, no valid truth in any image, or a prediction for valid truth that is
                    not finite or, where logarithms need it, not above 0.
    Source: Eigen, Puhrsch, Fergus (NeurIPS 2014); mean absolute errors as in Hidalgo-Carrio, Gehrig,
        Scaramuzza (3DV 2020), E2DEPTH.
    """
    each = errors_by_image(predicted, truth, clip, lower, clamp)
    if np.isnan(each.abs_rel).all():
        raise ValueError(f"truth has no pixel above 0 and below {clip:g} m, so nothing can be compared")
    return Errors(*(_mean_of_numbers(values) for values in each))


def errors_by_image(
    predicted: np.ndarray, truth: np.ndarray, clip: float, lower: float = 0.0, clamp: bool = False
) -> Errors:
    """Errors (n,) of each image, NaN for one without valid truth; arguments as of `errors`."""
    _check_range(clip, lower, clamp)
    rows = []
    for k, (p, g) in enumerate(zip(*_images(predicted, truth))):
        valid = _valid(g, clip)
        p, g = p[valid].astype(float), g[valid].astype(float)
        _check_predicted(k, p, clamp)
        rows.append(_of_pixels(np.clip(p, lower, clip) if clamp else p, g))
    return Errors(*np.array(rows).T)


def aligned(disparity: np.ndarray, truth: np.ndarray, clip: float) -> np.ndarray:
    """Depth in (0, clip] of relative disparity: the scale and shift of each image that fit 1 / truth best.

    Fitted inverse depth below 1 / clip, also negative, becomes the clip.

    Args:
        disparity: (H, W) or (n, H, W), larger for what is nearer, of any scale and shift.
        truth:     of the same shape, m.
        clip:      m, from which on truth does not count.
    Returns: of the same shape, m; NaN in an image without valid truth.
    Source: Ranftl, Lasinger, Hafner, Schindler, Koltun (TPAMI 2022), MiDaS, least squares in disparity.
    """
    _check_range(clip)
    disparity, truth = np.asarray(disparity), np.asarray(truth)
    pairs = zip(*_images(disparity, truth))
    found = [_aligned_image(k, d.astype(float), g, clip) for k, (d, g) in enumerate(pairs)]
    return np.stack(found).reshape(disparity.shape)


def log_depth(depth: np.ndarray, alpha: float = MVSEC_ALPHA, furthest: float = MVSEC_CLIP) -> np.ndarray:
    """1 + ln(d / furthest) / alpha, cut to [0, 1]: what networks of the E2DEPTH family predict.

    Args:
        depth:    any shape, m; NaN stays NaN.
        alpha:    3.70378 for MVSEC, 5.7 for DENSE and EventScape.
        furthest: m, 80 for MVSEC, 1000 for DENSE and EventScape.
    Source: Hidalgo-Carrio, Gehrig, Scaramuzza (3DV 2020), E2DEPTH.
    """
    _check_logarithm(alpha, furthest)
    depth = np.clip(_floats(depth), furthest * math.exp(-alpha), furthest)
    return np.clip(1 + np.log(depth / furthest) / alpha, 0, 1)


def from_log_depth(coded: np.ndarray, alpha: float = MVSEC_ALPHA, furthest: float = MVSEC_CLIP) -> np.ndarray:
    """Depth in metres of what `log_depth` gave; 0 is furthest * exp(-alpha), 1.970 m for MVSEC."""
    _check_logarithm(alpha, furthest)
    return furthest * np.exp(alpha * (_floats(coded) - 1))


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is done to predictions and truth before they are compared.

    Args:
        clip:        m, from which on truth does not count.
        lower:       m, to which predictions are clamped.
        clamp:       predictions are clamped to [lower, clip].
        nearest:     m, below which truth does not count.
        closed:      truth of exactly `clip` counts: in CARLA the sky is at exactly 1000 m.
        clamp_truth: truth outside [lower, clip] counts as what bounds it; needs `closed`.
        drop:        pixels predicted beyond the largest truth of their image, or not above 0, do not count,
                     so that what is much too far costs nothing; with `closed`, the largest itself stays.
        normalise:   truth is divided by the largest of its image and multiplied by `clip`, which changes
                     nothing only if some pixel reaches the clip.
        align:       predictions are relative disparity, see `aligned`.
        rows:        of the image from the top that count, without the car's bonnet; None: all.
    """

    clip: float
    lower: float = 0.0
    clamp: bool = False
    nearest: float = 0.0
    closed: bool = False
    clamp_truth: bool = False
    drop: bool = False
    normalise: bool = False
    align: bool = False
    rows: int | None = None

    def __post_init__(self):
        _check_range(self.clip, self.lower, self.clamp or self.clamp_truth)
        if not 0 <= self.nearest < self.clip:
            raise ValueError(f"nearest must be from 0 to the clip, {self.clip:g} m, got {self.nearest}")
        if self.clamp_truth and not self.closed:
            raise ValueError("clamp_truth moves truth to the clip, where only closed=True lets it count")
        if self.rows is not None and not (isinstance(self.rows, (int, np.integer)) and self.rows >= 1):
            raise ValueError(f"rows must be a whole number, at least 1, or None for all, got {self.rows}")

    def errors(self, predicted: np.ndarray, truth: np.ndarray) -> Errors:
        """Errors of depth (H, W) or (n, H, W), m, or of disparity with `align`; raises as `errors`."""
        return errors(*self.prepared(predicted, truth), self._limit, self.lower, self.clamp)

    def errors_by_image(self, predicted: np.ndarray, truth: np.ndarray) -> Errors:
        """Errors (n,) of each image, for what needs more than their mean."""
        return errors_by_image(*self.prepared(predicted, truth), self._limit, self.lower, self.clamp)

    def prepared(self, predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, H, W) predictions and truth in metres as they are compared; truth is NaN where none counts."""
        predicted, truth = (images[:, : self.rows] for images in _images(predicted, truth))
        if self.align:
            predicted = aligned(predicted, truth, self.clip)
        if self.clamp:  # before others are dropped, as RAM-Net does
            predicted = np.clip(predicted, self.lower, self.clip)
        pairs = zip(predicted, truth)
        return predicted, np.stack([self._counted(p, g.astype(float)) for p, g in pairs])

    @property
    def _limit(self) -> float:
        """The clip, or with `closed` the next larger number."""
        return float(np.nextafter(self.clip, np.inf)) if self.closed else self.clip

    def _counted(self, predicted, truth):
        """(H, W) truth as compared, NaN where none counts."""
        truth = np.where(np.isfinite(truth) & (truth > 0) & (truth >= self.nearest), truth, np.nan)
        if self.clamp_truth:
            truth = np.clip(truth, self.lower, self.clip)
        elif not self.normalise:
            truth = np.where(truth < self._limit, truth, np.nan)
        if np.isnan(truth).all():
            return truth
        if self.normalise:
            truth = np.minimum(truth, self.clip)
            truth = truth / np.nanmax(truth) * self.clip  # in this order, the largest is the clip exactly
        if self.drop:
            top = np.nanmax(truth)
            beyond = predicted > top if self.closed else predicted >= top
            truth = np.where(beyond | (predicted <= 0), np.nan, truth)
        return truth


def _images(predicted, truth):
    """Both as (n, H, W) numbers."""
    if any(isinstance(images, np.ma.MaskedArray) for images in (predicted, truth)):
        raise ValueError("predictions and truth must be plain arrays, got a masked one: truth.filled(np.nan)")
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.shape != truth.shape or predicted.ndim not in (2, 3) or not predicted.size:
        raise ValueError(
            f"predictions and truth must be of one shape, (H, W) or (n, H, W), "
            f"got {predicted.shape} and {truth.shape}"
        )
    for name, images in (("predictions", predicted), ("truth", truth)):
        if images.dtype.kind not in "fiu":
            raise ValueError(f"{name} must be real numbers, got an array of {images.dtype}")
    return tuple(images[None] if images.ndim == 2 else images for images in (predicted, truth))


def _valid(truth, clip):
    return np.isfinite(truth) & (truth > 0) & (truth < clip)


def _of_pixels(p, g):
    """The numbers of Errors, of predicted and true depth (m,) of one image."""
    if not len(g):
        return [np.nan] * len(Errors._fields)
    log, off = np.log(p) - np.log(g), np.abs(p - g)
    ratio = np.maximum(p / g, g / p)
    relative = (np.mean(off / g), np.mean(off**2 / g), np.sqrt(np.mean(off**2)))
    logarithmic = (np.sqrt(np.mean(log**2)), log.var())
    shares = (np.mean(ratio < 1.25**k) for k in (1, 2, 3))
    near = (off[g < limit].mean() if (g < limit).any() else np.nan for limit in BELOW)
    return [*relative, *logarithmic, *shares, *near]


def _mean_of_numbers(values):
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def _aligned_image(k, disparity, truth, clip):
    """(H, W) depth of disparity."""
    valid = _valid(truth, clip)
    if not valid.any():
        return np.full(disparity.shape, np.nan)
    d, inverse = disparity[valid], 1 / truth[valid].astype(float)
    if not np.isfinite(d).all():
        raise ValueError(
            f"disparity must be finite where truth is valid, image {k} has {d[~np.isfinite(d)][0]}"
        )
    centred = d - d.mean()
    # a constant fits nothing but the mean; its deviations from that are rounding
    scale = centred @ (inverse - inverse.mean()) / (centred @ centred) if np.ptp(d) else 0.0
    with np.errstate(invalid="ignore"):  # where no truth is valid, disparity may be infinite
        fitted = inverse.mean() + scale * (disparity - d.mean())
    return 1 / np.maximum(fitted, 1 / clip)


def _floats(values):
    values = np.asarray(values)
    return values if values.dtype.kind == "f" else values.astype(float)


def _check_range(clip, lower=0.0, clamp=False):
    if not clip > 0:
        raise ValueError(f"clip must be > 0 m, got {clip}")
    if not 0 <= lower < clip:
        raise ValueError(f"lower must be from 0 to the clip, {clip:g} m, got {lower}")
    if clamp and not lower > 0:
        raise ValueError("clamping needs lower > 0 m: depth 0 has no logarithm")


def _check_predicted(k, p, clamp):
    bad = np.isnan(p) if clamp else ~(np.isfinite(p) & (p > 0))
    if bad.any():
        hint = "" if clamp else "; clamp=True with lower > 0 brings others than NaN into range"
        raise ValueError(
            f"predictions must be finite and > 0 m where truth is valid, image {k} has {p[bad][0]}{hint}"
        )


def _check_logarithm(alpha, furthest):
    if not (0 < alpha < np.inf and 0 < furthest < np.inf):
        raise ValueError(f"alpha and furthest must be finite and > 0, got {alpha} and {furthest}")


PROTOCOLS: dict[str, Protocol] = {
    "fuse-mvsec": Protocol(clip=MVSEC_CLIP, nearest=MVSEC_NEAREST, closed=True, drop=True),
    "fuse-dense": Protocol(clip=DENSE_CLIP, nearest=DENSE_NEAREST, closed=True, drop=True),
    "e2depth-mvsec": Protocol(clip=MVSEC_CLIP, drop=True, normalise=True),
    "e2depth-dense": Protocol(clip=DENSE_CLIP, drop=True, normalise=True),
    "ramnet": Protocol(
        clip=MVSEC_CLIP, lower=MVSEC_NEAREST, clamp=True, closed=True, clamp_truth=True, drop=True
    ),
    "depth-anything": Protocol(clip=MVSEC_CLIP, lower=1e-3, clamp=True, align=True),
}
"""Protocols by name, of the code that was released with each.

fuse-*:         Sun et al. (IROS 2025), metric predictions, which are not clamped.
e2depth-*:      Hidalgo-Carrio et al. (3DV 2020); DENSE up to 1000 m, as later papers compare it.
ramnet:         Gehrig et al. (RA-L 2021), on MVSEC; truth passes through log depth, which clamps it.
depth-anything: Yang et al. (NeurIPS 2024), relative models on MVSEC; 80 m and 1 mm are of its KITTI settings.

Not taken over: 1e-5 added to denominators, delta <= instead of <, squared truth below sq_rel (E2DEPTH and
RAM-Net), and the magnitude of logarithms in RAM-Net's si_log.
"""
