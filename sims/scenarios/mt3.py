"""The two tasks that MT3 ships: 20 scans of 0.1 s, estimates wanted at the last.

Source: Pinto, Hess, Ljungbergh, Xia, Svensson, Wymeersch, "Next Generation Multitarget Trackers: Random
Finite Set Methods vs Transformer-based Deep Learning" (FUSION 2021), and task1.yaml, task2.yaml of its code.

Order of a scan: motion, leaving the field of view, births (none in the last two scans, at most 16 objects),
deaths (also of newborns), measurements. Windows without an object at the end or without measurements are
drawn again. The source's initial `std_v0` of 3 is used there, and here, as a variance. Unlike there, an
object that dies in the last scan, unseen, is not part of the truth of that scan: task 2 ends with 5.2 objects
on average, instead of its 5.335.
"""

from functools import partial
from typing import Any

import numpy as np

from sims.scenarios.scenario import Scenario
from sims.targets import Clutter, Process, simulate
from tracking.models import ConstantVelocity, PositionSensor, Survival, UniformBirth

DT = 0.1
TIME = DT * np.arange(20)
MAX_OBJECTS = 16
QUIET_SCANS = 2  # without births, at the end
VELOCITY_STD = np.sqrt(3.0)
_SCORING: dict[str, Any] = {"gospa_c": 2.0, "ospa_c": 2.0, "scored": "last", "runs": 100}
_LOWER, _UPPER = (-10.0, -10.0), (10.0, 10.0)

# Task 1 has no noise, clutter or births, but filters divide by each. A millimetre is far below the distance
# between objects and far above rounding; the motion noise keeps covariances from collapsing.
_TASK1_STD = 1e-3
_TASK1_Q = 1e-4
_TASK1_BIRTH_RATE = 1e-6


def task1() -> Scenario:
    """A smoke test: no noise, no clutter, every object detected."""
    clutter = Clutter(0.0, _LOWER, _UPPER)
    told: dict[str, Any] = {"p_detect": 1.0, "clutter_intensity": clutter.intensity}
    world = Process(
        motion=ConstantVelocity(dims=2, q=0.0),
        sensor=PositionSensor(cov=_no_noise, **told),
        clutter=clutter,
        initial=_uniform(4.0),
        survival=Survival(1.0, _LOWER, _UPPER),
        max_objects=MAX_OBJECTS,
        nonempty=True,
    )
    return Scenario(
        name="mt3-task1",
        about="noise-free smoke test, no clutter, p_D = 1 (Pinto et al., FUSION 2021, task1.yaml)",
        motion=ConstantVelocity(dims=2, q=_TASK1_Q),
        sensor=PositionSensor(std=_TASK1_STD, **told),
        birth=_uniform(_TASK1_BIRTH_RATE),
        survival=world.survival,
        initial=_uniform(positive_mean(4.0)),
        draw=partial(simulate, world, TIME),
        **_SCORING,
    )


def task2() -> Scenario:
    """Six objects in dense clutter, births and deaths, p_D = 0.8."""
    clutter = Clutter(30.0, _LOWER, _UPPER)
    p_survival, births = 0.95, 0.4  # per scan
    world = Process(
        motion=ConstantVelocity(dims=2, q=0.9),
        sensor=PositionSensor(std=0.3, p_detect=0.8, clutter_intensity=clutter.intensity),
        clutter=clutter,
        initial=_uniform(6.0),
        birth=_uniform(births / DT),
        survival=Survival(p_survival ** (1 / DT), _LOWER, _UPPER),
        max_objects=MAX_OBJECTS,
        quiet_scans=QUIET_SCANS,
        newborns_die=True,
        nonempty=True,
    )
    return Scenario(
        name="mt3-task2",
        about="6 objects, 30 clutter points, p_D = 0.8, p_S = 0.95 (Pinto et al., FUSION 2021, task2.yaml)",
        motion=world.motion,
        sensor=world.sensor,
        # A newborn must live to be measured, and the filters know, as networks learn, that births end early.
        birth=_uniform(partial(_until, p_survival * births / DT, TIME[-1 - QUIET_SCANS])),
        survival=world.survival,
        initial=_uniform(positive_mean(6.0)),
        draw=partial(simulate, world, TIME),
        **_SCORING,
    )


def positive_mean(rate: float) -> float:
    """Mean of a Poisson number of objects given that there are any."""
    return rate / -np.expm1(-rate)


def _uniform(rate):
    return UniformBirth(rate, VELOCITY_STD, 0.0, _LOWER, _UPPER)


def _until(rate, last, time):
    """Births per second: none after the last scan that has any."""
    return rate if time < last + DT / 2 else 0.0


def _no_noise(x):
    return np.zeros((len(x), 2, 2))
