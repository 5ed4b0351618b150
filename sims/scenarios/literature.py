"""Scenarios that the random-finite-set literature compares filters on.

Sources: Williams (TAES 2015), section VI, in the form that Garcia-Fernandez, Williams, Granstrom, Svensson
(TAES 2018) ship as MATLAB code; Vo, Vo, Phung (TSP 2014) and Vo, Vo, Hoang (TSP 2017), in the form of Vo's
MATLAB toolbox.
"""

from functools import partial

import numpy as np

from sims.scenarios.scenario import Scenario
from sims.targets import Clutter, Scene, observe, scripted_truth
from tracking.models import (
    ConstantVelocity,
    CoordinatedTurn,
    GaussianBirth,
    PositionSensor,
    RangeBearing,
    Survival,
)
from tracking.tracks import Trajectories

_WILLIAMS_MEETING = 40  # index of the scan k = 41 at which all targets are close together


def williams15(truth_seed: int | None = None) -> Scenario:
    """Four targets that meet half way, where one of them disappears.

    Args:
        truth_seed: of one truth for all runs; None: a new truth each run.
    """
    motion = ConstantVelocity(dims=2, q=0.02)
    clutter = Clutter(10.0, (0.0, 0.0), (300.0, 300.0))
    sensor = PositionSensor(std=1.0, p_detect=0.9, clutter_intensity=clutter.intensity)
    mean, cov = np.array((100.0, 100.0, 0.0, 0.0)), np.diag((150.0, 150.0, 1.0, 1.0)) ** 2
    return Scenario(
        name="williams15" if truth_seed is None else "williams15-fixed",
        about="four targets meet at k=41 and one disappears, "
        + ("new truth each run" if truth_seed is None else "one truth for all runs")
        + " (Williams, TAES 2015; Garcia-Fernandez et al., TAES 2018)",
        motion=motion,
        sensor=sensor,
        birth=GaussianBirth(0.005, mean, cov),
        survival=Survival(0.99),
        initial=GaussianBirth(3.0, mean, cov),
        draw=partial(_williams_scene, motion, sensor, clutter, truth_seed),
        gospa_c=10.0,
        gospa_p=2.0,
        ospa_c=10.0,
        ospa_p=2.0,
        average="rms",
        runs=25,
    )


def williams_truth(motion: ConstantVelocity, rng: np.random.Generator) -> Trajectories:
    """Four targets at k = 41 within a metre of each other, moved forwards and backwards with noise."""
    time = np.arange(1.0, 82.0)
    middle = _WILLIAMS_MEETING
    states = np.empty((4, len(time), 4))
    states[:, middle] = (150.0, 150.0, 0.0, 0.0) + np.sqrt(0.1) * rng.standard_normal((4, 4))
    noise_root = np.linalg.cholesky(motion.noise(states[:, middle], 1.0))
    noise = rng.standard_normal(states.shape) @ noise_root.T
    for k in range(middle + 1, len(time)):
        states[:, k] = motion.transition(states[:, k - 1], 1.0) + noise[:, k]
    for k in range(middle - 1, -1, -1):
        states[:, k] = motion.transition(states[:, k + 1] + noise[:, k], -1.0)
    states[0, middle:] = np.nan
    return Trajectories(time, np.arange(4), states)


def _williams_scene(motion, sensor, clutter, truth_seed, rng) -> Scene:
    truth_rng = rng if truth_seed is None else np.random.default_rng(truth_seed)
    return observe(williams_truth(motion, truth_rng), sensor, clutter, rng)


# (x, vx, y, vy) one step before the first scan, first and last scan counted from 1.
_VO_LINEAR = (
    ((0.0, 0.0, 0.0, -10.0), 1, 70),
    ((400.0, -10.0, -600.0, 5.0), 1, 100),
    ((-800.0, 20.0, -200.0, -5.0), 1, 70),
    ((400.0, -7.0, -600.0, -4.0), 20, 100),
    ((400.0, -2.5, -600.0, 10.0), 20, 100),
    ((0.0, 7.5, 0.0, -5.0), 20, 100),
    ((-800.0, 12.0, -200.0, 7.0), 40, 100),
    ((-200.0, 15.0, 800.0, -10.0), 40, 100),
    ((-800.0, 3.0, -200.0, 15.0), 60, 100),
    ((-200.0, -3.0, 800.0, -15.0), 60, 100),
    ((0.0, -20.0, 0.0, -15.0), 80, 100),
    ((-200.0, 15.0, 800.0, -5.0), 80, 100),
)


def vo_linear() -> Scenario:
    """Twelve targets from four birth places, positions measured in clutter."""
    motion = ConstantVelocity(dims=2, q=25.0, noise_model="piecewise")
    clutter = Clutter(30.0, (-1000.0, -1000.0), (1000.0, 1000.0))
    sensor = PositionSensor(std=10.0, p_detect=0.98, clutter_intensity=clutter.intensity)
    places = np.array([(0.1, 0.1), (400.0, -600.0), (-800.0, -200.0), (-200.0, 800.0)])
    birth = GaussianBirth(0.03, np.pad(places, ((0, 0), (0, 2))), 10.0**2 * np.eye(4))
    return Scenario(
        name="vo-linear",
        about="up to 10 of 12 targets from 4 birth places, linear (Vo, Vo, Phung, TSP 2014)",
        motion=motion,
        sensor=sensor,
        birth=birth,
        survival=Survival(0.99),
        initial=birth,  # as in the toolbox, whose filters start empty and expect births at the first scan
        draw=partial(observe, _vo_truth(motion, _VO_LINEAR), sensor, clutter),
        gospa_c=100.0,
        ospa_c=100.0,
        runs=10,
        gate=32.24,  # chi2(2) at 1 - 1e-7
    )


_W0 = np.deg2rad(2.0)
# (x, vx, y, vy, turn rate), first and last scan as above.
_VO_BEARING = (
    ((1003.8676, -10.0, 1488.2543, -10.0, _W0 / 8), 1, 100),
    ((-255.8857, 20.0, 1011.4102, 3.0, -_W0 / 3), 10, 100),
    ((-1507.3806, 11.0, 256.7993, 10.0, -_W0 / 2), 10, 100),
    ((-1500.0, 43.0, 250.0, 0.0, 0.0), 10, 66),
    ((246.1324, 11.0, 738.9253, 5.0, _W0 / 4), 20, 80),
    ((-242.6194, -12.0, 993.2007, -12.0, _W0 / 2), 40, 100),
    ((1000.0, 0.0, 1500.0, -10.0, _W0 / 4), 40, 100),
    ((250.0, -50.0, 750.0, 0.0, -_W0 / 4), 40, 80),
    ((1000.0, -50.0, 1500.0, 0.0, -_W0 / 4), 60, 100),
    ((250.0, -40.0, 750.0, 25.0, _W0 / 4), 60, 100),
)


def vo_bearing() -> Scenario:
    """Ten turning targets seen by a range and bearing sensor; z = (range, bearing from north).

    As in the source, one of them ends up to 120 m beyond the range of the clutter, and is still detected.
    """
    motion = CoordinatedTurn(acceleration_std=5.0, turn_rate_std=np.pi / 180)
    clutter = Clutter(15.0, (0.0, -np.pi / 2), (2000.0, np.pi / 2))
    sensor = RangeBearing(
        from_north=True, std=(10.0, np.deg2rad(2.0)), p_detect=0.98, clutter_intensity=clutter.intensity
    )
    places = np.array([(-1500.0, 250.0), (-250.0, 1000.0), (250.0, 750.0), (1000.0, 1500.0)])
    std = (50.0, 50.0, 50.0, 50.0, np.deg2rad(6.0))
    birth = GaussianBirth((0.02, 0.02, 0.03, 0.03), np.pad(places, ((0, 0), (0, 3))), np.diag(std) ** 2)
    return Scenario(
        name="vo-bearing",
        about="10 turning targets, range and bearing (Vo, Vo, Phung, TSP 2014)",
        motion=motion,
        sensor=sensor,
        birth=birth,
        survival=Survival(0.99),
        initial=birth,
        draw=partial(observe, _vo_truth(motion, _VO_BEARING), sensor, clutter),
        gospa_c=100.0,
        ospa_c=100.0,
        runs=10,
        gate=32.24,
        linearisation="ukf",
    )


def _vo_truth(motion, objects) -> Trajectories:
    """Noise-free paths of a table of objects; as in the toolbox they move once before their first scan."""
    x = np.array([start for start, _, _ in objects])
    x[:, :4] = x[:, [0, 2, 1, 3]]  # position first
    first, last = np.array([scans for _, *scans in objects]).T - 1
    return scripted_truth(motion, motion.transition(x, 1.0), first, last, np.arange(1.0, 101.0))
