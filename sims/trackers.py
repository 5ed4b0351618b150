"""The trackers that the command lines know, and their settings for each scenario.

All are told the same models. Gates and the metric come from the scenario; what else differs from a tracker's
own defaults is in `SETTINGS`, chosen with equal care for each on scenes of other seeds than are reported.
"""

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np

from sims.scenarios import Scenario
from tracking.filters.cphd import CPHD, CPHDDensity
from tracking.filters.estimate import marginal_existence
from tracking.filters.glmb import GLMB
from tracking.filters.gnn import GNN
from tracking.filters.lmb import LMB
from tracking.filters.phd import GMPHD, GMPHDDensity
from tracking.filters.pmb import PMB
from tracking.filters.pmbm import PMBM
from tracking.filters.tracker import Tracker
from tracking.gaussian import EKF, UKF


def filter_of(
    kind: type[Tracker], scenario: Scenario, *, linearisation: str | None = None, **settings
) -> Tracker:
    """A filter that knows the models of a scenario; `settings` are fields of its configuration.

    `linearisation` is "ekf" or "ukf"; None: the scenario's.
    """
    shared = {
        "gate": scenario.gate,
        "gospa_c": scenario.gospa_c,
        "gospa_p": scenario.gospa_p,
        "gospa_dims": scenario.metric_dims,
    }
    known = {f.name for f in fields(kind.Config)}
    config = kind.Config(**{k: v for k, v in shared.items() if k in known} | settings)
    return kind(
        scenario.motion,
        scenario.sensor,
        scenario.birth,
        scenario.survival,
        config,
        initial=scenario.initial,
        linearisation=UKF() if (linearisation or scenario.linearisation) == "ukf" else EKF(),
    )


FILTERS: dict[str, type[Tracker]] = {
    "pmbm": PMBM,
    "glmb": GLMB,
    "lmb": LMB,
    "pmb": PMB,
    "phd": GMPHD,
    "cphd": CPHD,
    "gnn": GNN,
}


WEIGHTS = ".safetensors"  # what names of files with weights of MT3 end in


def mt3_for(scenario: Scenario, *, size: str = "", weights: str | None = None, **settings):
    """MT3 with the weights that were trained for a scenario; `settings` are fields of its configuration.

    `size` is what the names of weights of other sizes end in; `weights` is a file to take instead.

    Raises:
        ValueError: there are none, or the file holds others.
    """
    try:
        import torch

        from tracking.mt3 import MT3, MT3Config, load, shipped
    except ImportError:
        raise ValueError("mt3 needs the extra `learn`: pip install -c constraints.txt '.[learn]'") from None
    name = weights or scenario.name + size
    if weights is None and name not in shipped():
        raise ValueError(f"mt3{size} has no weights for {scenario.name}, choose of: {', '.join(shipped())}")
    torch.set_num_threads(1)  # as all trackers here
    model = load(name)
    if model.task.name != scenario.name:
        raise ValueError(f"{name} holds weights for {model.task.name}, not for {scenario.name}")
    return MT3(model, MT3Config(**settings))


class _Trackers(dict[str, Callable[..., Any]]):
    """By name; the name of a file of weights stands for MT3 with these."""

    def __missing__(self, name: str) -> Callable[..., Any]:
        if name.endswith(WEIGHTS):
            return partial(mt3_for, weights=name)
        raise KeyError(name)


# name -> a function of a scenario and settings that gives a tracker, ready for its first scan
TRACKERS = _Trackers({name: partial(filter_of, kind) for name, kind in FILTERS.items()})
TRACKERS |= {f"pmbm-{way}": partial(filter_of, PMBM, linearisation=way) for way in ("ekf", "ukf")}
TRACKERS |= {"mt3": mt3_for, "mt3-m": partial(mt3_for, size="-m")}
DEFAULT = ("pmbm", "glmb", "lmb", "gnn")
MIXTURES = ("pmbm", "pmbm-ekf", "pmbm-ukf", "glmb", "lmb", "pmb")  # have a choice of estimators

# A report of existence r and expected distance d lowers GOSPA when r (c - d) > c / 2; here d > c / 4.
_BIRTHS_ANYWHERE: dict[str, dict[str, Any]] = {
    "pmbm": {"recycle": 0.1, "split": 0.01, "threshold": 0.7},
    "glmb": {"estimator": "best", "max_hypotheses": 100, "split": 0.01, "threshold": 0.7},
    "lmb": {"estimator": "marginal", "association": "belief", "threshold": 0.7},
    "gnn": {"threshold": 0.7},
}
_BIRTHPLACES: dict[str, dict[str, Any]] = {"glmb": {"max_hypotheses": 100, "split": 0.01}}
_WILLIAMS: dict[str, dict[str, Any]] = {
    # As in the code of the TAES 2018 paper, but for clusters and `quota`, which are as good and faster.
    "pmbm": {"estimator": "best", "threshold": 0.4, "recycle": 0.0, "merge_poisson": 0.0},
    "glmb": {"max_hypotheses": 100, "split": 0.03},
    "pmb": {"estimator": "cardinality"},
    "gnn": {"threshold": 0.4},
}
_RADAR_CLEAR: dict[str, dict[str, Any]] = {
    "glmb": {"estimator": "best", "max_hypotheses": 100, "split": 0.03, "min_existence": 5e-3},
}
_RADAR_CLUTTERED: dict[str, dict[str, Any]] = {
    "pmbm": {"merge_poisson": 1.0},
    "glmb": {"max_hypotheses": 100, "split": 0.03, "min_existence": 5e-3},
    "lmb": {"min_existence": 3e-3},
    "pmb": {"recycle": 0.2, "merge": 4.0, "max_components": 5},
}
_MT3: dict[str, dict[str, Any]] = {
    "pmbm": {"gate": 12.0, "max_hypotheses": 100, "recycle": 0.2, "split": 0.01, "estimator": "best"},
    "glmb": {"gate": 12.0, "max_hypotheses": 100, "split": 0.03, "min_existence": 5e-3},
    "lmb": {"association": "belief", "min_existence": 0.01},
    "pmb": {"recycle": 0.3, "merge": 4.0, "max_components": 5},
    "phd": {"merge": 8.0},
    "cphd": {"merge": 8.0},
}

# scenario -> tracker -> settings, from comparisons of a handful of values each on scenes of seed 1,000,003
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    **dict.fromkeys(("crossing", "small", "dense", "large", "huge", "mega"), _BIRTHS_ANYWHERE),
    **dict.fromkeys(("vo-linear", "vo-bearing"), _BIRTHPLACES),
    **dict.fromkeys(("williams15", "williams15-fixed"), _WILLIAMS),
    **dict.fromkeys(("radar-1", "radar-3"), _RADAR_CLEAR),
    **dict.fromkeys(("radar-2", "radar-4"), _RADAR_CLUTTERED),
    "mt3-task2": _MT3,
}

# scenario -> tracker -> existence threshold, by `--choose-threshold`: of least mean GOSPA on 100 scenes of
# seed 1,000,003 (mt3-task2 and PMBM on radar: 200). Where GLMB is left out an estimator without a threshold
# does better.
CHOSEN: dict[str, dict[str, float]] = {
    "mt3-task2": {"pmbm": 0.65, "lmb": 0.45, "pmb": 0.5, "phd": 0.45, "cphd": 0.5, "gnn": 0.25},
    "radar-1": {
        "pmbm": 0.5,
        "pmbm-ekf": 0.55,
        "lmb": 0.4,
        "pmb": 0.45,
        "phd": 0.45,
        "cphd": 0.2,
        "gnn": 0.45,
    },
    "radar-2": {
        "pmbm": 0.45,
        "pmbm-ukf": 0.4,
        "glmb": 0.3,
        "lmb": 0.35,
        "pmb": 0.5,
        "phd": 0.35,
        "cphd": 0.35,
        "gnn": 0.25,
    },
    "radar-3": {"pmbm": 0.5, "lmb": 0.4, "pmb": 0.4, "phd": 0.4, "cphd": 0.35, "gnn": 0.3},
    "radar-4": {
        "pmbm": 0.2,
        "glmb": 0.15,
        "lmb": 0.25,
        "pmb": 0.35,
        "phd": 0.4,
        "cphd": 0.45,
        "gnn": 0.1,
    },
}


def settings_of(scenario: Scenario, name: str) -> dict[str, Any]:
    """Settings of a tracker for a scenario, over the tracker's own defaults."""
    plain = name.removesuffix("-ekf").removesuffix("-ukf")
    settings = dict(SETTINGS.get(scenario.name, {}).get(plain, {}))
    chosen = CHOSEN.get(scenario.name, {})
    threshold = chosen.get(name, chosen.get(plain))
    return settings if threshold is None else with_threshold(name, settings, threshold)


def with_threshold(name: str, settings: dict[str, Any], threshold: float) -> dict[str, Any]:
    """The same settings, with objects reported from an existence probability of `threshold` on.

    Estimators without a threshold give way to "marginal".
    """
    if name in MIXTURES and settings.get("estimator") not in ("marginal", "best"):
        settings = settings | {"estimator": "marginal"}
    return settings | {"threshold": threshold}


def expected_number(tracker) -> float | None:
    """Expected number of objects, detected or not, after the last scan; None if the tracker cannot tell."""
    if hasattr(tracker, "expected_number"):
        return tracker.expected_number
    density = getattr(tracker, "density", None)
    if isinstance(density, CPHDDensity):
        return float(density.cardinality @ np.arange(len(density.cardinality)))
    if isinstance(density, GMPHDDensity):
        return density.mass
    if density is None:
        return None
    undetected = density.poisson if hasattr(density, "poisson") else density.unborn
    existence = marginal_existence(density) if hasattr(density, "mixture") else density.tracks.r
    return float(existence.sum() + undetected.mass)
