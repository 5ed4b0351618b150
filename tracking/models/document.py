"""Models and settings as JSON, for files: dataclasses of numbers, words and arrays.

What holds functions (a detection probability that depends on the state, `FunctionMotion`) cannot be written
down without running code when it is read, so it is not: `describe` gives None, and who reads must have it.
"""

from collections.abc import Sequence
from dataclasses import fields
from reprlib import repr  # which goes no deeper than it shows
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from tracking.gaussian import CKF, EKF, UKF
from tracking.models.birth import GaussianBirth, MeasurementBirth, UniformBirth
from tracking.models.imm import IMM, Embedded
from tracking.models.linear import LinearMotion, LinearSensor
from tracking.models.motion import (
    ConstantAcceleration,
    ConstantVelocity,
    CoordinatedTurn,
    Motion,
    RandomWalk,
)
from tracking.models.occlusion import Occlusion
from tracking.models.sensor import PositionSensor, RangeBearing, RangeBearingDoppler
from tracking.models.survival import Survival

KINDS = {
    kind.__name__: kind
    for kind in (
        *(ConstantVelocity, ConstantAcceleration, CoordinatedTurn, RandomWalk, LinearMotion, IMM, Embedded),
        *(PositionSensor, RangeBearing, RangeBearingDoppler, LinearSensor),
        *(GaussianBirth, UniformBirth, MeasurementBirth, Survival, Occlusion),
        *(EKF, UKF, CKF),
    )
}
MAX_DIMS = 6  # position coordinates; a box of births is averaged over a grid in so many dimensions
MOTIONS = (ConstantVelocity, ConstantAcceleration, CoordinatedTurn, RandomWalk, LinearMotion, Embedded)
MAX_MODELS = 64  # of motion, in an IMM
MAX_DIM = 64  # entries of a state
MAX_COUNT = 1_000_000  # whole numbers of settings, some of which say how much memory is taken
SPECIAL = {"inf": np.inf, "-inf": -np.inf}
LARGEST_WHOLE = 2**53  # which a float holds exactly, and a machine's word at all
LARGEST, LEAST = 1e50, 1e-50  # magnitudes of numbers in a file, so that squares of ratios are numbers
UNBOUNDED = ("gate", "merge", "merge_poisson", "max_gap")  # settings that may be infinite


def describe(model: Any) -> dict[str, Any] | None:
    """A model as JSON, None if it holds what JSON cannot."""
    if type(model) not in KINDS.values():
        return None
    try:
        document = {"kind": type(model).__name__, **describe_fields(model)}
        revive(document)  # what could not be read is not written
        return document
    except (TypeError, ValueError):
        return None


def describe_fields(settings: Any) -> dict[str, Any]:
    """Fields of a dataclass as JSON.

    Raises:
        TypeError: one of them is neither a number, a word, None nor an array or sequence of numbers.
    """
    return {f.name: _encoded(getattr(settings, f.name)) for f in fields(settings) if f.init}


def revive(document: Any, complete: bool = True) -> Any:
    """The model that a description stands for.

    Args:
        document: as `describe` gives it.
        complete: whether all fields must be in it, and in the models that it is made of; else those that are
                  not have their defaults.
    Raises:
        ValueError: it is not one that `describe` gives, or its values are not accepted.
    """
    try:
        given = dict(document)
        kind = KINDS[given.pop("kind")]
        values = {name: _decoded(value, complete) for name, value in given.items()}
        accepted = {f.name for f in fields(kind) if f.init}
        if not set(values) <= accepted or (complete and set(values) != accepted):
            raise ValueError(f"a {kind.__name__} has the fields {', '.join(sorted(accepted))}")
        if values.get("dims", 1) not in DIMS:
            raise ValueError(f"dims is {values['dims']!r:.20}, accepted are 1 to {MAX_DIMS}")
        hints = get_type_hints(kind)
        for name, value in values.items():
            if not _fits(value, hints[name]) or (isinstance(value, float) and np.isinf(value)):
                raise ValueError(f"{name} is {value!r:.50}")
        if kind is Embedded and values["dim"] > MAX_DIM:
            raise ValueError(f"dim is {values['dim']}, accepted in a file are {MAX_DIM}")
        return kind(**values)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{repr(document)[:100]} describes no model: {str(error)[:200]}") from None


def revive_settings(kind: type, document: Any) -> Any:
    """Settings from their fields, each of the type of its default.

    Raises:
        ValueError: fields are missing or unknown, of another type, or out of range.
    """
    try:
        values = {name: _decoded(value) for name, value in document.items()}
        default = kind()
        for f in fields(kind):
            _check_type(f.name, values[f.name], getattr(default, f.name))
        return kind(**values)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"settings are none of {kind.__name__}: {str(error)[:200]}") from None


DIMS = range(1, MAX_DIMS + 1)


def _fits(value, hint) -> bool:
    """Whether a value is of a type that a field may have; constructors look at values more than at types."""
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return any(_is_one(value, member) for member in members)


def _is_one(value, member) -> bool:
    base = get_origin(member) or member
    if member is Motion:
        return type(value) in MOTIONS
    if member == Sequence[Motion]:
        return 1 <= len(value) <= MAX_MODELS and all(type(v) in MOTIONS for v in value)
    if base is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if base in (tuple, Sequence, np.ndarray):
        sized = base is not tuple or len(np.atleast_1d(value)) == len(get_args(member))
        return isinstance(value, (tuple, np.ndarray)) and np.asarray(value).dtype.kind in "if" and sized
    return type(value) is base


def _check_type(name, value, default):
    accepted = (int, float) if type(default) is float else type(default)
    if default is not None and (
        not isinstance(value, accepted) or isinstance(value, bool) != isinstance(default, bool)
    ):
        raise ValueError(f"{name} is {value!r:.50}, its default {default!r}")
    if isinstance(value, float) and np.isinf(value) and name not in UNBOUNDED:
        raise ValueError(f"{name} must be finite")
    if type(default) is int and value > MAX_COUNT:
        raise ValueError(f"{name} is {value}, accepted in a file are numbers up to {MAX_COUNT}")


def _encoded(value):
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else {"number": str(float(value))}
    if isinstance(value, np.ndarray) and value.dtype.kind in "iuf":
        return {"array": _encoded(value.tolist())}
    if isinstance(value, (tuple, list)):
        return [_encoded(v) for v in value]
    if type(value) in MOTIONS:  # a part of an IMM, or embedded
        return {"kind": type(value).__name__, **describe_fields(value)}
    raise TypeError(f"{type(value).__name__} cannot be written to a file")


def _decoded(value, complete=True):
    if isinstance(value, dict):
        if set(value) == {"number"}:
            return SPECIAL[value["number"]]
        if "kind" in value:
            return revive(value, complete)
        (content,) = (value[name] for name in ("array",) if len(value) == 1)
        return np.array(_decoded(content), float)
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        raise ValueError(f"whole numbers up to {LARGEST_WHOLE} are accepted, got {str(value)[:30]}")
    if isinstance(value, (int, float)) and value != 0 and not LEAST <= abs(value) <= LARGEST:
        raise ValueError(f"numbers lie between {LEAST:g} and {LARGEST:g} in magnitude, got {value:.3g}")
    return tuple(_decoded(v, complete) for v in value) if isinstance(value, list) else value
