"""Named scenarios: models for the filters, scenes to draw, and how results are scored."""

from sims.scenarios.crossing import crossing
from sims.scenarios.literature import vo_bearing, vo_linear, williams15
from sims.scenarios.mt3 import task1, task2
from sims.scenarios.radar import radar
from sims.scenarios.scale import scale
from sims.scenarios.scenario import Scenario

SCENARIOS: dict[str, Scenario] = {
    "crossing": crossing(),
    "williams15": williams15(),
    "williams15-fixed": williams15(truth_seed=0),
    "vo-linear": vo_linear(),
    "vo-bearing": vo_bearing(),
    "mt3-task1": task1(),
    "mt3-task2": task2(),
    "radar-1": radar(1),
    "radar-2": radar(2),
    "radar-3": radar(3),
    "radar-4": radar(4),
    "small": scale("small", side=1000.0, n0=10, n_clutter=10),
    "dense": scale("dense", side=1000.0, n0=10, n_clutter=60, p_detect=0.75),
    "large": scale("large", side=4000.0, n0=100, n_clutter=100, runs=3),
    "huge": scale("huge", side=20000.0, n0=1000, n_clutter=500, n_scans=50, runs=1),
    "mega": scale("mega", side=63000.0, n0=10000, n_clutter=5000, n_scans=50, runs=1),
}


def scenario(name: str) -> Scenario:
    """The scenario of a name.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in SCENARIOS:
        raise ValueError(f"unknown scenario {name!r}, choose one of: {', '.join(SCENARIOS)}")
    return SCENARIOS[name]
