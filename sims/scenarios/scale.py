"""Scenarios for speed and scale: constant velocity in a square field, from 10 objects to 10,000.

Exactly n0 objects at the first scan, uniform in the field, and about as many births as objects die or leave,
so that their number stays near n0. Objects that leave are gone. Filters are given the true models.
"""

from functools import partial

import numpy as np

from sims.scenarios.scenario import Scenario
from sims.targets import Clutter, Process, simulate
from tracking.models import ConstantVelocity, PositionSensor, Survival, UniformBirth

_VELOCITY_STD = 5.0  # m/s per axis
_P_SURVIVAL = 0.99
_STD = 5.0  # m


def scale(
    name: str,
    *,
    side: float,
    n0: int,
    n_clutter: float,
    p_detect: float = 0.9,
    n_scans: int = 100,
    runs: int = 5,
) -> Scenario:
    """A square field with about n0 objects.

    Args:
        name:      of the scenario.
        side:      of the field, m.
        n0:        number of objects.
        n_clutter: expected clutter points per scan.
        p_detect:  detection probability.
        n_scans:   scans, one a second.
        runs:      default number of runs.
    """
    lower, upper = (0.0, 0.0), (side, side)
    clutter = Clutter(n_clutter, lower, upper)
    # Through each of the four sides goes E[max(v, 0)] / L of the objects; the rim is thinner than the middle.
    leaving = 0.7 * 4 * _VELOCITY_STD / np.sqrt(2 * np.pi) / side
    world = Process(
        motion=ConstantVelocity(dims=2, q=0.25),
        sensor=PositionSensor(std=_STD, p_detect=p_detect, clutter_intensity=clutter.intensity),
        clutter=clutter,
        initial=UniformBirth(n0, _VELOCITY_STD, 0.0, lower, upper),
        birth=UniformBirth(n0 * (1 - _P_SURVIVAL + leaving), _VELOCITY_STD, 0.0, lower, upper),
        survival=Survival(_P_SURVIVAL, lower, upper),
        n_initial=n0,
    )
    return Scenario(
        name=name,
        about=f"{n0:,} objects in {side / 1000:g} x {side / 1000:g} km, {n_clutter:,} clutter points, "
        f"p_D = {p_detect} (this toolkit's speed scenarios)",
        motion=world.motion,
        sensor=world.sensor,
        birth=world.birth,
        survival=world.survival,
        initial=world.initial,
        draw=partial(simulate, world, np.arange(float(n_scans))),
        gospa_c=20.0,
        ospa_c=20.0,
        runs=runs,
        gate=16.0,  # chi2(2) at 0.9997
    )
