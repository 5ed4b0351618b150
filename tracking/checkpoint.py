"""The state of a tracker in a file: a stream that is cut at any scan goes on as if it had not been.

    tracker.save("night.tracker")
    tracker = PMBM.load("night.tracker")                    # with the models and settings in the file
    tracker = PMBM.load("night.tracker", sensor=my_sensor)  # where a model holds functions, which no file has

The file is one of `tracking.formats.arrays`: nothing in it is evaluated, its size bounds the memory it takes,
and `tracking.filters.sound` looks at every number that a compiled loop would trust.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from tracking.filters.cphd import CPHD, CPHDDensity
from tracking.filters.glmb import GLMB, GLMBDensity
from tracking.filters.gnn import GNN, GNNDensity
from tracking.filters.lmb import LMB, LMBDensity
from tracking.filters.phd import GMPHD, GMPHDDensity
from tracking.filters.pmb import PMB, PMBDensity
from tracking.filters.pmbm import PMBM, PMBMDensity
from tracking.filters.sound import require_sound
from tracking.filters.tracker import Snapshot, elapsed
from tracking.formats.arrays import read_arrays, write_arrays
from tracking.models.document import describe, describe_fields, revive, revive_settings
from tracking.modes import Modes, count

KIND = "tracker state"
VERSION = 1
MAX_DIM = 64  # entries of a state
MAX_MODELS = 64  # of motion, in an `IMM`
DENSITIES: dict[type, type] = {
    PMBM: PMBMDensity,
    GLMB: GLMBDensity,
    LMB: LMBDensity,
    PMB: PMBDensity,
    GMPHD: GMPHDDensity,
    CPHD: CPHDDensity,
    GNN: GNNDensity,
}
MODELS = ("motion", "sensor", "birth", "survival", "linearisation", "occlusion", "initial")
ABSENT = "none"  # an occlusion that there is not; None stands for a model that the file cannot hold


def save(tracker, path: str | Path) -> None:
    """Write the whole state of a filter to a file, which appears complete or not at all.

    Raises:
        ValueError: the tracker is not a filter of this package, or its random numbers are not PCG64's.
    """
    kind = _kind(type(tracker))
    snapshot = tracker.snapshot()
    document = {
        "version": VERSION,
        "filter": kind.__name__,
        "time": snapshot.time,
        "random": snapshot.random,
        "config": describe_fields(tracker.config),
        "models": {
            name: ABSENT if getattr(tracker.models, name) is None else describe(getattr(tracker.models, name))
            for name in MODELS
        },
    }
    if snapshot.random["bit_generator"] != "PCG64":
        raise ValueError(
            f"random numbers of {snapshot.random['bit_generator']} cannot be saved, those of PCG64 can: "
            "give the tracker a whole number as seed"
        )
    arrays: dict[str, np.ndarray] = {}
    if snapshot.density is not None:
        require_sound(snapshot.density, tracker.models.motion.dim, count(tracker.models.motion))
        arrays = flatten(snapshot.density)
    write_arrays(path, KIND, document, arrays)


def read(path: str | Path, kind: type) -> tuple[dict[str, Any], Snapshot]:
    """The description in a file, and the snapshot, checked.

    Raises:
        ValueError: it is no state of such a filter, damaged, of another version, or unsound.
        OSError:    the file is missing or cannot be read.
    """
    kind = _kind(kind)
    document, arrays = read_state(path, kind.__name__)
    with expecting(path, kind.__name__):
        return document, _snapshot(document, arrays, kind)


def read_state(path: str | Path, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The description and the arrays in a file of a tracker of this name, neither of them checked.

    Raises:
        ValueError: it is no state of such a tracker, damaged, or of another version.
        OSError:    the file is missing or cannot be read.
    """
    document, arrays = read_arrays(path, KIND)
    version, found = document.get("version"), document.get("filter")
    if version != VERSION:
        raise ValueError(f"{path} is of version {version!r:.20}, accepted is version {VERSION}")
    if found != name:
        raise ValueError(f"{path} holds the state of another filter, {found!r:.20}, not of {name}")
    return document, arrays


def load(kind: type, path: str | Path, given: dict[str, Any]):
    """A new filter from a file.

    Args:
        kind:  class of the filter.
        path:  of the file.
        given: models that replace those of the file, by name, and `config`.
    Raises:
        ValueError: as `read`; or a model holds functions and is not given.
    """
    unknown = sorted(set(given) - {*MODELS, "config"})
    if unknown:
        raise ValueError(f"{unknown[0]} is no part of a filter; accepted are {', '.join(MODELS)} and config")
    document, snapshot = read(path, kind)
    parts = dict(given)
    with expecting(path, kind.__name__):
        described = document["models"]
        missing = [name for name in MODELS if name not in given and described[name] is None]
        if not missing:
            for name in set(MODELS) - set(given):
                parts[name] = None if described[name] == ABSENT else revive(described[name])
            if "config" not in given:
                parts["config"] = revive_settings(kind.Config, document["config"])  # type: ignore[attr-defined]
            tracker = kind(**parts)
    if missing:
        raise ValueError(
            f"{path} does not hold {', '.join(missing)}, made of functions, which no file can hold. "
            f"Give it: {kind.__name__}.load(path, {missing[0]}=...)"
        )
    resume(tracker, snapshot, path)
    return tracker


def restore(tracker, path: str | Path) -> None:
    """Go on from the state in a file, with the models and settings that the tracker has.

    Raises:
        ValueError: as `read`; or its states are of another size. The tracker is then unchanged.
    """
    resume(tracker, read(path, type(tracker))[1], path)


def resume(tracker, snapshot: Snapshot, path: str | Path) -> None:
    """Go on from a snapshot that was read from `path`, if the models of the tracker fit it."""
    if snapshot.density is not None:
        try:
            require_sound(snapshot.density, tracker.models.motion.dim, count(tracker.models.motion))
        except ValueError as error:
            raise ValueError(f"{path} does not fit the models of the tracker: {error}") from None
    tracker.rewind(snapshot)


def flatten(value: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Arrays of a density by name, such as "local.m"; numbers are arrays without axes."""
    arrays: dict[str, np.ndarray] = {}
    for name in get_type_hints(type(value)):
        part = getattr(value, name)
        if part is None:  # the modes of a single motion model
            continue
        if is_dataclass(part) or isinstance(part, tuple):
            arrays |= flatten(part, f"{prefix}{name}.")
        else:
            arrays[prefix + name] = np.asarray(part)
    return arrays


def unflattened(kind: type, arrays: dict[str, np.ndarray]) -> Any:
    """The density of a kind with these arrays and no others.

    Raises:
        KeyError:   an array is missing.
        ValueError: there is another one, or where a number belongs there is something else.
    """
    left = dict(arrays)
    density = unflatten(kind, left)
    if left:
        raise ValueError(f"unknown arrays {sorted(left)[:3]}")
    return density


def unflatten(kind: type, arrays: dict[str, np.ndarray], prefix: str = "") -> Any:
    """The density of a kind with these arrays, each of which is taken out of `arrays`.

    Raises:
        KeyError:   an array is missing.
        ValueError: where a number belongs there is something else.
    """
    values = {}
    for name, hint in get_type_hints(kind).items():
        if hint in (int, float):
            array = arrays.pop(prefix + name)
            if array.shape != () or array.dtype != (np.int64 if hint is int else np.float64):
                raise ValueError(f"{prefix}{name} must be one number of {hint.__name__}")
            values[name] = hint(array)
        elif hint is np.ndarray:
            values[name] = arrays.pop(prefix + name)
        elif hint == Modes | None:
            there = any(a.startswith(f"{prefix}{name}.") for a in arrays)
            values[name] = unflatten(Modes, arrays, f"{prefix}{name}.") if there else None
        else:
            values[name] = unflatten(hint, arrays, f"{prefix}{name}.")
    return kind(**values)


def _kind(kind: type) -> type:
    found = next((k for k in DENSITIES if issubclass(kind, k)), None)
    if found is None:
        names = ", ".join(k.__name__ for k in DENSITIES)
        raise ValueError(f"{kind.__name__} cannot be saved or loaded, accepted are {names}")
    return found


@contextmanager
def expecting(path: str | Path, name: str) -> Iterator[None]:
    """Whatever is wrong with what a file says of a tracker is one ValueError."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path} holds no state of {name} to go on from: {str(error)[:300]}") from None


def _snapshot(document, arrays, kind) -> Snapshot:
    time, random = document["time"], document["random"]
    generator = np.random.PCG64()
    generator.state = random  # raises where it is no state of it
    if time is None:
        if arrays:
            raise ValueError("a density without a time")
        return Snapshot(None, None, dict(generator.state))
    elapsed(None, time)
    density = unflattened(DENSITIES[kind], arrays)
    require_sound(density, _dim(arrays), _count(arrays))
    return Snapshot(density, float(time), dict(generator.state))


def _dim(arrays) -> int:
    """Entries of a state, of the first means there are."""
    m = next(a for name, a in arrays.items() if name == "m" or name.endswith(".m"))
    if m.ndim != 2 or not 1 <= m.shape[1] <= MAX_DIM:
        raise ValueError(f"means must be states of 1 to {MAX_DIM} entries")
    return m.shape[1]


def _count(arrays) -> int | None:
    """Motion models of an `IMM`, of the first probabilities there are; None of a single model."""
    p = next((a for name, a in arrays.items() if name.endswith("modes.p")), None)
    if p is None:
        return None
    if p.ndim != 2 or not 1 <= p.shape[1] <= MAX_MODELS:
        raise ValueError(f"modes must be of 1 to {MAX_MODELS} motion models")
    return p.shape[1]
