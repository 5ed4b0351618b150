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

Filters, kinds and fields have the names of the classes of `tracking`, as in a state that is saved; what is
left out has its default, and what is not known is an error. A file holds numbers and words alone, so models
made of functions have no place in it, and one from a stranger runs no code.

Source: TOML 1.0, https://toml.io, by tomllib.
"""

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

import numpy as np

from tracking.checkpoint import DENSITIES, MODELS
from tracking.filters.settings import LARGEST
from tracking.filters.tracker import Tracker
from tracking.formats.scans import TimedScan
from tracking.models.document import KINDS, describe_fields, revive, revive_settings
from tracking.models.score import ScoreModel

MAX_BYTES = 2**16  # of a file
DEEPEST = 2  # an IMM of embedded models
FILTERS: dict[str, type[Tracker]] = {kind.__name__: kind for kind in DENSITIES}
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
WORDS = {"position": ("box", "hypothesis"), "clock": ("header", "bag"), "point": ("centre", "foot", "box")}


@dataclass(frozen=True, kw_only=True)
class Input:
    """How recordings are read; each setting counts for the formats that have such a thing.

    topic:       of a bag or MCAP file; None: the only one that can be read.
    coordinates: names of those that make the measurement; None: as many of the format's own as the sensor
                 measures.
    position:    of a detection in a bag, its "box" or its likeliest "hypothesis".
    clock:       of a bag, stamps of the "header", or times of recording, "bag".
    reorder:     s that messages may be out of order.
    cls:         only detections of this class; None: all. It is called `class` in a file.
    frame_rate:  Hz, of MOTChallenge (25 by default) and KITTI (10).
    point:       of a MOTChallenge box, its "centre" or "foot", or all of the "box"; None: what the sensor's
                 size says, centre or box.
    scan_period: s over which rows of CSV are a scan; None: rows of equal time are.
    """

    topic: str | None = None
    coordinates: tuple[str, ...] | None = None
    position: str = "box"
    clock: str = "header"
    reorder: float = 1.0
    cls: str | None = None
    frame_rate: float | None = None
    point: str | None = None
    scan_period: float | None = None

    def __post_init__(self):
        for name, accepted in WORDS.items():
            value = getattr(self, name)
            if value is not None and value not in accepted:
                raise ValueError(f"{name} must be one of {', '.join(accepted)}, got {value!r:.40}")
        for name in ("topic", "cls"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ValueError(f"{name} must be text, got {value!r:.40}")
        for name in ("reorder", "frame_rate", "scan_period"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0 < value < math.inf):
                raise ValueError(f"{name} must be a finite number > 0, got {value!r:.40}")
        named = self.coordinates
        if named is not None and not (named and all(isinstance(name, str) for name in named)):
            raise ValueError(f"coordinates must be names such as x and y, got {named!r:.60}")
        if named is not None and len(set(named)) < len(named):
            raise ValueError(f"coordinates must be different, got {named!r:.60}")


@dataclass(frozen=True)
class Description:
    """What a file says: the class of a filter, its models and settings, and how its input is read.

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

    def clutter_ratio(self, scan: TimedScan) -> np.ndarray | None:
        """What the scores of a scan say, as `Tracker.step` takes it: 1 where there is none.

        The distance of a detection is that from the origin of the frame.
        """
        if self.score is None or scan.score is None:
            return None
        ratio = self.score.clutter_ratio(np.nan_to_num(scan.score), np.linalg.norm(scan.z, axis=1))
        return np.where(np.isfinite(scan.score), ratio, 1.0)


def read_description(path) -> Description:
    """The description in a TOML file.

    Raises:
        ValueError: it is no TOML, or describes no tracker; the message says where, what came, and what is
                    accepted.
        OSError:    the file is missing or cannot be read.
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
        return description_of(document)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def description_of(document: Mapping[str, Any]) -> Description:
    """The description that a document of TOML holds.

    Raises:
        ValueError: it describes no tracker.
    """
    _require_known("the file", document, ACCEPTED)
    kind = document.get("filter")
    if not isinstance(kind, str) or kind not in FILTERS:
        raise ValueError(f"filter is {kind!r:.40}; accepted are {', '.join(FILTERS)}")
    missing = [name for name in NEEDED if name not in document]
    if missing:
        raise ValueError(f"no table [{missing[0]}]; needed are [{'], ['.join(NEEDED)}]")
    seed = document.get("seed", 0)
    if type(seed) is not int or not 0 <= seed <= LARGEST:
        raise ValueError(f"seed is {seed!r:.40}; accepted are whole numbers from 0 to {LARGEST}")
    models = {name: _model(name, document[name]) for name in MODELS if name in document}
    config = _config(FILTERS[kind], _table("config", document.get("config", {})))
    score = _of_fields("score", ScoreModel, document["score"]) if "score" in document else None
    table = dict(_table("input", document.get("input", {})))
    _require_known("[input]", table, [_written(f.name) for f in fields(Input)])
    made = Description(FILTERS[kind], models, config, seed, score, _input(table))
    try:
        made.tracker()
    except (ValueError, TypeError) as error:  # models that do not fit each other
        raise ValueError(f"no such {kind} can be made: {error}") from None
    return made


def _written(name):
    """The name of a field in a file."""
    return "class" if name == "cls" else name


def _input(table) -> Input:
    if "class" in table:
        table["cls"] = table.pop("class")
    if "coordinates" in table:
        named = table["coordinates"]
        table["coordinates"] = tuple(named) if isinstance(named, list) else (named,)
    try:
        return Input(**table)
    except (ValueError, TypeError) as error:
        raise ValueError(f"[input]: {error}") from None


def _config(kind, table):
    accepted = [f.name for f in fields(kind.Config)]  # type: ignore[attr-defined]
    _require_known("[config]", table, accepted)
    values = {**describe_fields(kind.Config()), **_plain(table)}  # type: ignore[attr-defined]
    try:
        return revive_settings(kind.Config, values)  # type: ignore[attr-defined]
    except ValueError as error:
        raise ValueError(f"[config]: {error}") from None


def _model(name, value):
    """A model of its table; survival may be a number, too."""
    if name == "survival" and _is_number(value):
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
    _require_known(f"[{name}]", table, ("kind", *known))
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
    _require_known(f"[{name}]", table, [f.name for f in fields(kind)])
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


def _require_known(where, table, accepted):
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


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
