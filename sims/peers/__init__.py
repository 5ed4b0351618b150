"""Trackers to compare with that are not the toolkit's: references, and other people's."""

from collections.abc import Callable
from typing import Any

from sims.peers.plain import PlainGNN
from sims.peers.truth import TruthKalman
from sims.scenarios import Scenario
from sims.targets import Scene

# name -> a function of a scenario, a scene of it, and settings that gives a tracker, ready for its first scan
REFERENCES: dict[str, Callable[..., Any]] = {
    "plain": lambda scenario, scene, **settings: PlainGNN(scenario, **settings),
    "truth": TruthKalman,
}

# scenario -> thresholds of the plain GNN: of least mean GOSPA on scenes of seed 1,000,003, one threshold
# changed at a time until none is better (8 scenes of `small` and `dense`, 2 of `large`, 1 of `huge`)
_HUGE = {"gate": 14.0, "hits": 2, "window": 2, "misses": 4, "silent": 2}
PLAIN: dict[str, dict[str, Any]] = {
    "small": {"gate": 14.0, "hits": 3, "window": 3, "misses": 4, "silent": 2},
    "dense": {"gate": 8.0, "hits": 5, "window": 6, "misses": 4, "silent": 2},
    "large": {"gate": 14.0, "hits": 3, "window": 4, "misses": 4, "silent": 2},
    "huge": _HUGE,
    "mega": _HUGE,  # the same density
}


def reference_settings(scenario: Scenario, name: str) -> dict[str, Any]:
    """Settings of a reference for a scenario; those of a scenario that is not listed are its own defaults."""
    return dict(PLAIN.get(scenario.name, {})) if name == "plain" else {}


def reference(scenario: Scenario, scene: Scene, name: str, settings: dict[str, Any]):
    """A reference tracker by name."""
    return REFERENCES[name](scenario, scene, **settings)
