"""A tracker as a file, `tracker.toml`: which filter, with which settings, of which models.

    filter = "PMBM"

    [config]
    threshold = 0.7

    [motion]
    kind = "ConstantVelocity"
    q = 0.5

    [sensor]
    kind = "PositionSensor"
    std = 0.5
    clutter_intensity = 1e-4

    [birth]
    kind = "UniformBirth"
    rate = 0.2
    lower = [0.0, 0.0]
    upper = [100.0, 100.0]

    tracker = read_description("tracker.toml").tracker()

`filter = "MT3"` has `weights` in place of the models (`tracking.mt3.description`), and needs torch only then.

Filters, kinds and fields have the names of the classes of `tracking`, as in a state that is saved; what is
left out has its default, and what is not known is an error. A file holds numbers and words alone, so models
made of functions have no place in it, and one from a stranger runs no code.

Source: TOML 1.0, https://toml.io, by tomllib.
"""

import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Protocol

import numpy as np

from tracking.checkpoint import DENSITIES, MODELS
from tracking.checks import is_number
from tracking.filters.settings import LARGEST
from tracking.filters.tracker import Tracker
from tracking.formats.input import Input
from tracking.formats.scans import TimedScan
from tracking.formats.vision import SPACE
from tracking.models.document import KINDS, describe_fields, revive, revive_settings
from tracking.models.score import ScoreModel
from tracking.models.sensor import PositionSensor

MAX_BYTES = 2**16  # of a file
DEEPEST = 2  # an IMM of embedded models
FILTERS: dict[str, type[Tracker]] = {kind.__name__: kind for kind in DENSITIES}
LEARNED = "MT3"
ROLES = {  # what a kind must have to be a part
    "motion": ("transition", "chain"),
    "sensor": ("measure",),
    "birth": ("expected",),
    "initial": ("expected",),
    "linearisation": ("innovate",),
}
ALONE = {"survival": "Survival", "occlusion": "Occlusion"}  # tables that can be of one kind only
NEEDED = ("motion", "sensor", "birth")
ACCEPTED = ("filter", "seed", "config", *MODELS, "score", "input")
LETTERS = ("", "v", "a")  # before a coordinate: of position, velocity, acceleration


class Described(Protocol):
    """What every description answers, whichever tracker it is of."""

    @property
    def input(self) -> Input:
        """How its recordings are read."""

    @property
    def dim_z(self) -> int:
        """Length of a measurement."""

    def tracker(self) -> Any:
        """A new tracker, ready for its first scan."""

    def clutter_ratio(self, scan: TimedScan) -> np.ndarray | None:
        """What the scores of a scan say, as `Tracker.step` takes it; None: nothing."""

    def position_names(self, measured: Sequence[str]) -> tuple[str, ...]:
        """Names of the position coordinates of a state: those that are measured, if the position is."""

    def state_names(self, measured: Sequence[str]) -> list[str] | None:
        """Names of the entries of a state; None where no more is known than their number."""


@dataclass(frozen=True)
class Description:
    """What a file says of a filter: its class, models and settings, and how its input is read.

    score: what scores of detections say of them, or None: nothing.
    """

    filter: type[Tracker]
    models: Mapping[str, Any]
    config: Any
    seed: int = 0
    score: ScoreModel | None = None
    input: Input = field(default_factory=Input)

    def tracker(self) -> Tracker:
        """A new tracker, ready for its first scan."""
        return self.filter(**self.models, config=self.config, seed=self.seed)

    @property
    def dim_z(self) -> int:
        return self.models["sensor"].dim_z

    def position_names(self, measured: Sequence[str]) -> tuple[str, ...]:
        """Those of the measurement, if it is a position, else x, y, z."""
        if isinstance(self.models["sensor"], PositionSensor):
            return tuple(measured)
        return SPACE[: self.models["motion"].dims]

    def state_names(self, measured: Sequence[str]) -> list[str] | None:
        """Position, velocity and acceleration, where the state is made of these."""
        motion, names = self.models["motion"], self.position_names(measured)
        if len(names) != motion.dims or motion.dim % motion.dims or motion.dim // motion.dims > len(LETTERS):
            return None
        return [letter + name for letter in LETTERS[: motion.dim // motion.dims] for name in names]

    def clutter_ratio(self, scan: TimedScan) -> np.ndarray | None:
        """What the scores of a scan say, as `Tracker.step` takes it: 1 where there is none.

        The distance of a detection is that from the origin of the frame.
        """
        if self.score is None or scan.score is None:
            return None
        ratio = self.score.clutter_ratio(np.nan_to_num(scan.score), np.linalg.norm(scan.z, axis=1))
        return np.where(np.isfinite(scan.score), ratio, 1.0)


def read_description(path) -> Described:
    """The description in a TOML file.

    Raises:
        ValueError: it is no TOML, or describes no tracker; the message says where, what came, and what is
                    accepted.
        OSError:    the file is missing or cannot be read.
        ImportError: it describes MT3, and torch is not installed.
    """
    name = os.fspath(path)
    with open(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"{name}: more than {MAX_BYTES} bytes; accepted is the description of a tracker")
    try:
        document = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: {str(error)[:200]}; accepted is TOML") from None
    try:
        return description_of(document, os.path.dirname(name))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def description_of(document: Mapping[str, Any], folder: str = "") -> Described:
    """The description that a document of TOML holds.

    Args:
        document: of the types of `tomllib`.
        folder:   that paths in it start from.
    Raises:
        ValueError:  it describes no tracker.
        ImportError: it describes MT3, and torch is not installed.
    """
    kind = document.get("filter")
    if kind == LEARNED:
        return _learned(document, folder)
    if not isinstance(kind, str) or kind not in FILTERS:
        raise ValueError(f"filter is {kind!r:.40}; accepted are {', '.join((*FILTERS, LEARNED))}")
    require_known("the file", document, ACCEPTED)
    missing = [name for name in NEEDED if name not in document]
    if missing:
        raise ValueError(f"no table [{missing[0]}]; needed are [{'], ['.join(NEEDED)}]")
    seed = document.get("seed", 0)
    if type(seed) is not int or not 0 <= seed <= LARGEST:
        raise ValueError(f"seed is {seed!r:.40}; accepted are whole numbers from 0 to {LARGEST}")
    models = {name: _model(name, document[name]) for name in MODELS if name in document}
    config = config_of(FILTERS[kind], document)
    score = _of_fields("score", ScoreModel, document["score"]) if "score" in document else None
    made = Description(FILTERS[kind], models, config, seed, score, input_of(document))
    try:
        made.tracker()
    except (ValueError, TypeError) as error:  # models that do not fit each other
        raise ValueError(f"no such {kind} can be made: {error}") from None
    return made


def _learned(document, folder) -> Described:
    try:
        from tracking.mt3.description import described

        return described(document, folder)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"MT3 needs the learn extra ({error}): pip install -c constraints.txt -e '.[learn]'"
        ) from None


def input_of(document: Mapping[str, Any]) -> Input:
    """How recordings are read, of the table [input].

    Raises:
        ValueError: something in it is unknown or not accepted.
    """
    table = dict(_table("input", document.get("input", {})))
    require_known("[input]", table, ["class" if f.name == "cls" else f.name for f in fields(Input)])
    if "class" in table:
        table["cls"] = table.pop("class")
    if "coordinates" in table:
        named = table["coordinates"]
        table["coordinates"] = tuple(named) if isinstance(named, list) else (named,)
    try:
        return Input(**table)
    except (ValueError, TypeError) as error:
        raise ValueError(f"[input]: {error}") from None


def config_of(kind: Any, document: Mapping[str, Any]) -> Any:
    """Settings of a class of trackers, of the table [config].

    Raises:
        ValueError: something in it is unknown or not accepted.
    """
    table = _table("config", document.get("config", {}))
    require_known("[config]", table, [f.name for f in fields(kind.Config)])
    values = {**describe_fields(kind.Config()), **_plain(table)}
    try:
        return revive_settings(kind.Config, values)
    except ValueError as error:
        raise ValueError(f"[config]: {error}") from None


def _model(name, value):
    """A model of its table; survival may be a number, too."""
    if name == "survival" and is_number(value):
        value = {"probability": value}
    try:
        return revive(_checked(name, value), complete=False)
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith("[") else f"[{name}]: {error}") from None


def _checked(name, value):
    """A table, and those of the models within it, as `describe` would give them."""
    if name.count(".") > DEEPEST:
        raise ValueError(f"[{name}]: accepted are models within models {DEEPEST} deep")
    table = dict(_table(name, value))
    kind = table.setdefault("kind", ALONE.get(name, ""))
    accepted = [ALONE[name]] if name in ALONE else [k for k in KINDS if _has_role(KINDS[k], name)]
    if kind not in accepted:
        raise ValueError(f"[{name}]: kind is {kind!r:.40}; accepted are {', '.join(accepted)}")
    known = {f.name: f for f in fields(KINDS[kind]) if f.init}
    require_known(f"[{name}]", table, ("kind", *known))
    absent = [
        key
        for key, f in known.items()
        if key not in table and f.default is MISSING and f.default_factory is MISSING
    ]
    if absent:
        raise ValueError(f"[{name}]: no {absent[0]}, which a {kind} needs; it takes {', '.join(known)}")
    plain = {}
    for key, part in table.items():  # an IMM has a list of models, `Embedded` has one
        several = isinstance(part, list) and bool(part) and all(isinstance(p, dict) for p in part)
        if several:
            plain[key] = [_checked(f"{name}.{key}", p) for p in part]
        else:
            plain[key] = _checked(f"{name}.{key}", part) if isinstance(part, dict) else _plain(part)
    return plain


def _has_role(kind, name):
    return any(hasattr(kind, method) for method in ROLES[name.partition(".")[0]])


def _of_fields(name, kind, value):
    table = _table(name, value)
    require_known(f"[{name}]", table, [f.name for f in fields(kind)])
    needed = [f.name for f in fields(kind) if f.default is MISSING]
    absent = [key for key in needed if key not in table]
    if absent:
        raise ValueError(f"[{name}]: no {absent[0]}; needed are {', '.join(needed)}")
    try:
        return kind(**table)
    except (ValueError, TypeError) as error:
        raise ValueError(f"[{name}]: {error}") from None


def _table(name, value):
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {value!r:.40}; accepted is a table [{name}]")
    return value


def require_known(where: str, table: Mapping[str, Any], accepted: Sequence[str]) -> None:
    """Raise ValueError for the first name in a table that is not accepted."""
    unknown = [key for key in table if key not in accepted]
    if unknown:
        raise ValueError(f"{where}: unknown {unknown[0]!r:.40}; accepted are {', '.join(accepted)}")


def _plain(value):
    """A value of TOML as `describe` would give it: JSON has no infinite numbers."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return {"number": str(value)} if isinstance(value, float) and math.isinf(value) else value
