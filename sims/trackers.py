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


def filter_of(kind: type[Tracker], scenario: Scenario, **settings) -> Tracker:
    """A filter that knows the models of a scenario; `settings` are fields of its configuration."""
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
        linearisation=UKF() if scenario.linearisation == "ukf" else EKF(),
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
# name -> a function of a scenario and settings that gives a tracker, ready for its first scan
TRACKERS: dict[str, Callable[..., Any]] = {name: partial(filter_of, kind) for name, kind in FILTERS.items()}
DEFAULT = ("pmbm", "glmb", "lmb", "gnn")
MIXTURES = ("pmbm", "glmb", "lmb", "pmb")  # have a choice of estimators

# scenario -> tracker -> settings
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {}


def settings_of(scenario: Scenario, name: str) -> dict[str, Any]:
    """Settings of a tracker for a scenario, over the tracker's own defaults."""
    return dict(SETTINGS.get(scenario.name, {}).get(name, {}))


def with_threshold(name: str, settings: dict[str, Any], threshold: float) -> dict[str, Any]:
    """The same settings, with objects reported from an existence probability of `threshold` on."""
    estimator = {"estimator": "marginal"} if name in MIXTURES else {}
    return settings | estimator | {"threshold": threshold}


def expected_number(tracker) -> float | None:
    """Expected number of objects, detected or not, after the last scan; None if the tracker cannot tell."""
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
