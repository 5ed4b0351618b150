"""Trackers to compare with that are not the toolkit's: references, and other people's."""

from collections.abc import Callable
from functools import partial
from typing import Any

from sims.peers.plain import PlainGNN
from sims.peers.stonesoup import STONE_SOUP, StoneSoup
from sims.peers.truth import TruthKalman
from sims.scenarios import Scenario

# name -> a function of a scenario, a scene of it, and settings that gives a tracker, ready for its first scan
REFERENCES: dict[str, Callable[..., Any]] = {
    "plain": lambda scenario, scene, **settings: PlainGNN(scenario, **settings),
    "truth": TruthKalman,
}
# the same, of other people's code
PEERS: dict[str, Callable[..., Any]] = {name: partial(StoneSoup, name) for name in STONE_SOUP}

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


# the same of Stone Soup's trackers, of 8 combinations each, on 3 scenes of `small` and 1 of `dense`
_FEW: dict[str, Any] = {"gate": 14.0, "hits": 3, "misses": 2}
STONE_SOUP_SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "dense": {
        "stonesoup-gnn": {"gate": 8.0, "hits": 5, "misses": 3},
        "stonesoup-jpda": {"gate": 14.0, "hits": 4, "misses": 3},
    },
}


def peer_settings(scenario: Scenario, name: str) -> dict[str, Any]:
    """Settings of a reference or peer for a scenario."""
    if name == "plain":
        return dict(PLAIN.get(scenario.name, {}))
    return dict(STONE_SOUP_SETTINGS.get(scenario.name, {}).get(name, _FEW)) if name in PEERS else {}
