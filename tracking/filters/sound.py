"""Is a density one that a filter can have made? Compiled loops trust it, so a file from a stranger is asked.

Shapes, whole numbers that point into other arrays, ranges of probabilities, finite numbers and covariances
that are some. Whether the numbers are true no one can tell.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tracking.filters.bernoulli import Bernoullis
from tracking.filters.cphd import CPHDDensity
from tracking.filters.glmb import GLMBDensity
from tracking.filters.gnn import GNNDensity
from tracking.filters.hypotheses import Mixture
from tracking.filters.lmb import LMBDensity
from tracking.filters.local import Locals
from tracking.filters.phd import GMPHDDensity
from tracking.filters.pmb import PMBDensity
from tracking.filters.pmbm import PMBMDensity
from tracking.filters.poisson import Poisson
from tracking.filters.seeds import Seeds
from tracking.modes import Modes

ROUNDING = 1e-12  # by which a probability may be above one
MAX_EXPECTED = 1e9  # objects that a density expects
MAX_LABEL = 2**45


class Size(NamedTuple):
    """Entries of a state, and motion models of an `IMM`, None of a single model."""

    dim: int
    models: int | None = None


def require_sound(density, dim: int, models: int | None = None) -> None:
    """Raise ValueError unless a density is one that its filter can go on from.

    Args:
        dim:    entries of a state.
        models: motion models of an `IMM`, None of a single model.
    """
    CHECKS[type(density)](density, Size(dim, models))


def _pmbm(density: PMBMDensity, size):
    _poisson("poisson", density.poisson, size)
    _locals("local", density.local, size, 1.0)
    require_labels(density.label, density.mixture.n_tracks, density.next_label)
    _mixture(density.mixture, len(density.local))
    _seeds(density.seeds, size)


def _glmb(density: GLMBDensity, size):
    _poisson("unborn", density.unborn, size)
    _locals("local", density.local, size, 1.0)
    require_labels(density.label, density.mixture.n_tracks, density.next_label)
    _mixture(density.mixture, len(density.local))
    _seeds(density.seeds, size)


def _pmb(density: PMBDensity, size):
    _poisson("poisson", density.poisson, size)
    _bernoullis(density.tracks, density.next_label, size)
    _seeds(density.seeds, size)


def _lmb(density: LMBDensity, size):
    _poisson("unborn", density.unborn, size)
    _bernoullis(density.tracks, density.next_label, size)
    _seeds(density.seeds, size)


def _gnn(density: GNNDensity, size):
    _poisson("poisson", density.poisson, size)
    _locals("tracks", density.tracks, size, 1.0)
    require_labels(density.label, len(density.tracks), density.next_label)
    require_column("floor", density.floor, len(density.tracks), 0.0, 1.0)
    _seeds(density.seeds, size)


def _gmphd(density: GMPHDDensity, size):
    k = len(density.parts)
    _locals("parts", density.parts, size, MAX_EXPECTED)
    _expected("parts", density.parts.r, density.uniform)
    require_whole("label", density.label, k, -1, _next(density.next_label) - 1)
    if density.reported.dtype != bool or density.reported.shape != (k,):
        raise ValueError(f"reported must be {k} truth values")
    own = density.label[density.reported]
    if (own < 0).any() or len(np.unique(own)) < len(own):
        raise ValueError("labels of reported components must differ")
    _seeds(density.seeds, size)


def _cphd(density: CPHDDensity, size):
    _gmphd(density.phd, size)
    p = density.cardinality
    require_column("cardinality", p, len(np.atleast_1d(p)), 0.0, 1.0 + 1e-6)
    if abs(p.sum() - 1) > 1e-6:
        raise ValueError(f"cardinality must sum to one, got {p.sum()}")


CHECKS: dict[type, Callable[[Any, Size], None]] = {
    PMBMDensity: _pmbm,
    GLMBDensity: _glmb,
    PMBDensity: _pmb,
    LMBDensity: _lmb,
    GNNDensity: _gnn,
    GMPHDDensity: _gmphd,
    CPHDDensity: _cphd,
}


def _poisson(name, poisson: Poisson, size):
    require_column(f"{name}.w", poisson.w, len(np.atleast_1d(poisson.w)), 0.0, MAX_EXPECTED)
    _expected(name, poisson.w, poisson.uniform)
    require_gaussians(name, poisson.m, poisson.P, len(poisson.w), size.dim)
    _modes(name, poisson.modes, len(poisson.w), size)


def _locals(name, local: Locals, size, largest):
    n = len(np.atleast_1d(local.r))
    require_column(f"{name}.r", local.r, n, 0.0, largest + ROUNDING)
    require_column(f"{name}.visible", local.visible, n, 0.0, 1.0 + ROUNDING)
    require_whole(f"{name}.source", local.source, n, -1, MAX_LABEL)
    require_gaussians(name, local.m, local.P, n, size.dim)
    _modes(name, local.modes, n, size)


def _seeds(seeds: Seeds, size):
    n = len(np.atleast_1d(seeds.explained))
    require_column("seeds.explained", seeds.explained, n, -ROUNDING, 1.0 + 1e-6)
    require_gaussians("seeds", seeds.m, seeds.P, n, size.dim)


def _bernoullis(tracks: Bernoullis, next_label, size):
    n = len(np.atleast_1d(tracks.r))
    require_column("tracks.r", tracks.r, n, 0.0, 1.0 + ROUNDING)
    require_labels(tracks.label, n, next_label)
    _locals("tracks.component", tracks.component, size, 1.0 + 1e-6)
    _offsets("tracks.offset", tracks.offset, n, len(tracks.component))


def _mixture(mixture: Mixture, n_locals):
    tracks, rows = mixture.n_tracks, len(np.atleast_1d(mixture.log_w))
    clusters = mixture.n_clusters
    _offsets("mixture.local_offset", mixture.local_offset, tracks, n_locals)
    _offsets("mixture.track_offset", mixture.track_offset, clusters, tracks)
    _offsets("mixture.row_offset", mixture.row_offset, clusters, rows)
    require_column("mixture.log_w", mixture.log_w, rows, -np.inf, 1e-6)
    width, height = np.diff(mixture.track_offset), np.diff(mixture.row_offset)
    _offsets("mixture.entry_offset", mixture.entry_offset, clusters, len(np.atleast_1d(mixture.entry)))
    if not np.array_equal(np.diff(mixture.entry_offset), width * height):
        raise ValueError("mixture.entry must have a row of tracks for every global hypothesis")
    require_whole("mixture.entry", mixture.entry, int((width * height).sum()), -1, n_locals - 1)
    owner = np.repeat(np.arange(tracks), np.diff(mixture.local_offset))
    for k in range(clusters):
        table = mixture.table(k)
        track = mixture.track_offset[k] + np.arange(table.shape[1])
        if not ((table < 0) | (np.append(owner, -1)[table] == track)).all():
            raise ValueError("mixture.entry names a local hypothesis of another track")


def require_labels(label, n: int, next_label: int) -> None:
    """Raise ValueError unless these are n different labels, all of which were given before the next one."""
    require_whole("label", label, n, 0, _next(next_label) - 1)
    if len(np.unique(label)) < n:
        raise ValueError("labels must differ")


def _next(label) -> int:
    if not 0 <= label <= MAX_LABEL:
        raise ValueError(f"next_label must lie in [0, 2^45], got {label}")
    return label


def _expected(name, w, uniform):
    if not (uniform >= 0 and w.sum() + uniform <= MAX_EXPECTED):
        raise ValueError(f"{name} must expect from 0 to {MAX_EXPECTED:g} objects")


def require_gaussians(name: str, m, P, n: int, dim: int) -> None:
    """Raise ValueError unless these are means (n, dim) and covariances (n, dim, dim)."""
    for part, a, shape in (("m", m, (n, dim)), ("P", P, (n, dim, dim))):
        if a.dtype != float or a.shape != shape or not np.isfinite(a).all():
            raise ValueError(f"{name}.{part} must be finite numbers {shape}, got {a.dtype} {a.shape}")
    with np.errstate(over="ignore"):
        scale = np.abs(P).max(axis=(1, 2), initial=0.0)
        skew = np.abs(P - P.swapaxes(1, 2)).max(axis=(1, 2), initial=0.0)
    if (
        not (skew <= 1e-6 * scale).all()
        or (np.linalg.eigvalsh(P).min(axis=1, initial=0) < -1e-6 * scale).any()
    ):
        raise ValueError(f"{name}.P must be covariances: symmetric, without negative eigenvalues")


def _modes(name, modes: Modes | None, n, size: Size):
    if modes is None or size.models is None:
        if modes is not None or size.models is not None:
            told, wanted = "of one" if modes is None else "of several", size.models or "one"
            raise ValueError(f"{name} is {told} motion model, wanted is {wanted}")
        return
    k, d = size.models, size.dim
    p = modes.p
    if p.dtype != float or p.shape != (n, k) or not ((p >= 0) & (p <= 1 + ROUNDING)).all():
        raise ValueError(f"{name}.modes.p must be probabilities ({n}, {k}), got {p.dtype} {p.shape}")
    if np.abs(p.sum(axis=1) - 1).max(initial=0.0) > 1e-6:
        raise ValueError(f"{name}.modes.p must sum to one")
    if modes.m.shape != (n, k, d) or modes.P.shape != (n, k, d, d):
        raise ValueError(f"{name}.modes must be Gaussians of {k} models and {d} entries")
    require_gaussians(f"{name}.modes", modes.m.reshape(n * k, d), modes.P.reshape(n * k, d, d), n * k, d)


def require_column(name: str, a, n: int, low: float, high: float) -> None:
    """Raise ValueError unless this is an array (n,) of finite numbers from `low` to `high`."""
    if a.dtype != float or a.shape != (n,) or not (np.isfinite(a) & (a >= low) & (a <= high)).all():
        raise ValueError(f"{name} must be {n} numbers from {low:g} to {high:g}, got {a.dtype} {a.shape}")


def require_whole(name: str, a, n: int, low: int, high: int) -> None:
    """Raise ValueError unless this is an array (n,) of whole numbers from `low` to `high`."""
    if a.dtype != np.int64 or a.shape != (n,) or not ((a >= low) & (a <= high)).all():
        raise ValueError(f"{name} must be {n} whole numbers from {low} to {high}, got {a.dtype} {a.shape}")


def _offsets(name, a, n, last):
    """Ends of n groups, none of them empty, of `last` members."""
    require_whole(name, a, n + 1, 0, last)
    if a[0] != 0 or a[-1] != last or (np.diff(a) <= 0).any():
        raise ValueError(f"{name} must rise from 0 to {last}, got {a[:10].tolist()}")
