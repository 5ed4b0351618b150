"""tracker.toml: what it may say, what it stands for, and that nothing else passes."""

import math
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from tracking.checkpoint import DENSITIES
from tracking.description import FILTERS, Description, Input, description_of, read_description
from tracking.filters.gnn import GNN, GNNConfig
from tracking.formats.scans import TimedScan
from tracking.gaussian import UKF
from tracking.models import (
    IMM,
    ConstantVelocity,
    CoordinatedTurn,
    Embedded,
    GaussianBirth,
    MeasurementBirth,
    Occlusion,
    PositionSensor,
    RangeBearing,
    Survival,
    UniformBirth,
)
from tracking.models.document import KINDS, describe, describe_fields
from tracking.models.score import ScoreModel

EXAMPLE = Path(__file__).parents[1] / "docs" / "robotics" / "tracker.toml"
LEAST = {
    "filter": "GNN",
    "motion": {"kind": "ConstantVelocity"},
    "sensor": {"kind": "PositionSensor", "std": 0.5},
    "birth": {"kind": "MeasurementBirth", "rate": 0.1},
}


def changed(**tables):
    """The least document with some tables instead of, or beside, its own."""
    return {**LEAST, **tables}


def test_the_example_that_is_shipped():
    description = read_description(EXAMPLE)
    assert description.filter.__name__ == "PMBM"
    assert description.config.threshold == 0.7
    assert description.models["motion"] == ConstantVelocity(2, 0.5)
    assert description.models["survival"] == Survival(0.95)
    assert description.input.coordinates == ("x", "y")
    tracks = description.tracker().step([[0.0, 0.0]], 0.0)
    assert tracks.mean.shape[1] == 4


def test_what_is_left_out_has_its_default():
    description = description_of(LEAST)
    assert description.config == GNNConfig()
    assert description.input == Input()
    assert description.models == {
        "motion": ConstantVelocity(),
        "sensor": PositionSensor(std=0.5),
        "birth": MeasurementBirth(0.1),
    }
    assert description.tracker().models.survival == Survival(0.99)


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_can_be_described(name):
    """With all its settings, as they stand in a state that is saved."""
    kind = FILTERS[name]
    config = kind.Config()
    written = {f.name: getattr(config, f.name) for f in fields(config) if getattr(config, f.name) is not None}
    description = description_of(changed(filter=name, config=written))
    assert description.config == config
    assert type(description.tracker()) is kind
    assert kind in DENSITIES


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("motion", CoordinatedTurn(2.0, 0.1)),
        ("motion", ConstantVelocity(2, (0.5, 0.25), "piecewise")),
        ("sensor", RangeBearing((10.0, 50.0), std=(5.0, 0.01), p_detect=0.8)),
        ("sensor", PositionSensor(cov=np.array([[2.0, 0.5], [0.5, 1.0]]))),
        ("birth", UniformBirth(0.5, lower=(0.0, 0.0), upper=(9.0, 9.0), rest_std=(1.0, 2.0))),
        ("birth", GaussianBirth([0.1], [[1.0, 2.0, 0.0, 0.0]], np.eye(4))),
        ("survival", Survival(0.9, (0.0, 0.0), (5.0, 5.0))),
        ("occlusion", Occlusion(0.1, 2.0)),
        ("linearisation", UKF(0.5)),
    ],
)
def test_models_have_the_names_and_fields_of_a_saved_state(name, model):
    description = description_of(changed(**{name: without_arrays(describe(model))}))
    assert without_arrays(describe(description.models[name])) == without_arrays(describe(model))


def test_models_that_an_object_switches_among():
    """An IMM in a file; of its parts, too, what is left out has its default."""
    cruise = {"kind": "Embedded", "motion": {"kind": "ConstantVelocity", "q": 0.1}, "dim": 5, "rest_std": 0.2}
    turn = {"kind": "CoordinatedTurn", "acceleration_std": 0.3, "turn_rate_std": 0.1}
    chain = [[0.95, 0.05], [0.1, 0.9]]
    motion = {"kind": "IMM", "models": [cruise, turn], "transition": chain}
    description = description_of(changed(motion=motion))
    same = IMM([Embedded(ConstantVelocity(q=0.1), 5, 0.2), CoordinatedTurn(0.3, 0.1)], chain)
    assert describe(description.models["motion"]) == describe(same)
    tracker = description.tracker()
    for k in range(4):
        tracks = tracker.step([[5.0 * k, 0.0]], float(k))
    assert tracks.modes.shape == (1, 2)


def without_arrays(document):
    """As TOML has it: no None, and arrays are lists."""
    found = {name: value for name, value in document.items() if value is not None}
    return {name: value["array"] if isinstance(value, dict) else value for name, value in found.items()}


def test_infinite_settings_and_numbers_alone():
    description = description_of(changed(config={"gate": math.inf}, survival=0.5, seed=3))
    assert description.config.gate == math.inf
    assert description.models["survival"] == Survival(0.5)
    assert description.seed == 3


def test_scores_are_evidence():
    score = {"slope": 2.0, "neutral": [0.5, 0.25], "ranges": [0.0, 10.0], "bound": 3.0}
    description = description_of(changed(score=score))
    z = np.array([[0.0, 0.0], [6.0, 8.0], [0.0, 0.0]])
    scan = TimedScan(0.0, z, ("x", "y"), np.array([0.9, 0.9, np.nan]))
    ratio = description.clutter_ratio(scan)
    model = ScoreModel(2.0, (0.5, 0.25), (0.0, 10.0), 3.0)
    np.testing.assert_allclose(ratio, [*model.clutter_ratio([0.9, 0.9], [0.0, 10.0]), 1.0])
    assert description_of(LEAST).clutter_ratio(scan) is None
    assert description.clutter_ratio(TimedScan(0.0, z, ("x", "y"))) is None


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({}, "filter is None; accepted are PMBM, GLMB"),
        (changed(filter="pmbm"), "filter is 'pmbm'; accepted are PMBM"),
        (changed(filter=["PMBM"]), "filter is"),
        (changed(filtr=1), "the file: unknown 'filtr'; accepted are filter, seed, config, motion"),
        (changed(seed=-1), "seed is -1"),
        (changed(seed=True), "seed is True"),
        (changed(motion=3), r"motion is 3; accepted is a table \[motion\]"),
        (changed(motion={"kind": "IDM"}), r"\[motion\]: kind is 'IDM'; accepted are ConstantVelocity, "),
        (
            changed(motion={"kind": "PositionSensor"}),
            r"\[motion\]: kind is 'PositionSensor'; accepted are Con",
        ),
        (changed(birth={"kind": "ConstantVelocity"}), r"\[birth\]: kind is .*; accepted are GaussianBirth, "),
        (changed(occlusion={"kind": "EKF"}), r"\[occlusion\]: kind is 'EKF'; accepted are Occlusion"),
        (changed(linearisation={"kind": "Occlusion"}), "accepted are EKF, UKF, CKF"),
        (
            changed(sensor={"kind": "PositionSensor", "p": 1}),
            "unknown 'p'; accepted are kind, std, cov, p_detect",
        ),
        (changed(sensor={"kind": "PositionSensor", "std": 0}), r"\[sensor\].*std must be finite and > 0"),
        (changed(sensor={"kind": "PositionSensor", "std": "a"}), r"\[sensor\].*std is 'a'"),
        (changed(sensor={"kind": "PositionSensor", "std": math.nan}), r"\[sensor\]"),
        (
            changed(sensor={"kind": "PositionSensor", "std": 0.5, "dims": 10**9}),
            "dims is 1000000000, accepted are 1",
        ),
        (
            changed(sensor={"kind": "PositionSensor", "std": 0.5, "dims": 3}),
            "no such GNN can be made: sensor measures 3",
        ),
        (changed(birth={"kind": "UniformBirth"}), r"\[birth\]: no rate, which a UniformBirth needs"),
        (changed(config={"gates": 1}), r"\[config\]: unknown 'gates'; accepted are gate, "),
        (changed(config={"gate": "wide"}), r"\[config\].*gate is 'wide'"),
        (changed(config={"threshold": 2.0}), r"\[config\].*threshold must be a probability"),
        (changed(survival=2), r"\[survival\].*must be a probability"),
        (changed(score={"slope": 1}), r"\[score\]: no neutral; needed are slope, neutral"),
        (changed(score={"slope": "a", "neutral": 1}), r"\[score\]"),
        (changed(score={"slop": 1}), r"\[score\]: unknown 'slop'; accepted are slope, neutral"),
        (changed(input={"cls": "car"}), r"\[input\]: unknown 'cls'; accepted are topic, .*class"),
        (changed(input={"clock": "wall"}), r"\[input\]: clock must be one of header, bag, got 'wall'"),
        (changed(input={"reorder": 0}), r"\[input\]: reorder must be a finite number > 0"),
        (changed(input={"coordinates": []}), r"\[input\]: coordinates must be names"),
        (changed(input={"coordinates": [1]}), r"\[input\]: coordinates must be names"),
        (changed(input={"coordinates": ["x", "x"]}), r"\[input\]: coordinates must be different"),
        (changed(input={"topic": 3}), r"\[input\]: topic must be text"),
        (
            {"filter": "GNN", "motion": {}},
            r"no table \[sensor\]; needed are \[motion\], \[sensor\], \[birth\]",
        ),
    ],
)
def test_what_describes_no_tracker_is_said(document, says):
    with pytest.raises(ValueError, match=says) as error:
        description_of(document)
    assert len(str(error.value)) < 1000


def test_files_that_are_none(tmp_path):
    path = tmp_path / "tracker.toml"
    for content, says in (
        (b"filter = ", "accepted is TOML"),
        (b"\xff", "accepted is TOML"),
        (b"a = " + b"[" * 60_000, "accepted is TOML"),
        (b"#" * 70_000, "more than 65536 bytes"),
        (b'filter = "X"', "filter is 'X'"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=says) as error:
            read_description(path)
        assert str(error.value).startswith(str(path))
    with pytest.raises(FileNotFoundError):
        read_description(tmp_path / "missing.toml")


SWITCHING = {
    "kind": "IMM",
    "transition": [[0.95, 0.05], [0.1, 0.9]],
    "models": [
        {"kind": "Embedded", "dim": 5, "rest_std": 0.2, "motion": {"kind": "ConstantVelocity", "q": 0.1}},
        {"kind": "CoordinatedTurn", "acceleration_std": 0.3},
    ],
}


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"kind": "Embedded", "dim": 5}, r"\[motion.models\]: no motion, which a Embedded needs"),
        ({"kind": "CoordinatedTurn", "q": 1.0}, r"\[motion.models\]: unknown 'q'"),
        ({"kind": "PositionSensor"}, r"\[motion.models\]: kind is 'PositionSensor'"),
        ({"q": 1.0}, r"\[motion.models\]: kind is ''"),
        (
            {"kind": "IMM", "transition": [[1.0]], "models": [{"kind": "CoordinatedTurn"}]},
            r"\[motion\]: .* describes no model",
        ),
    ],
)
def test_what_is_wrong_within_a_model_is_named(part, words):
    with pytest.raises(ValueError, match=words):
        description_of(changed(motion={**SWITCHING, "models": [part, SWITCHING["models"][1]]}))


def test_models_nested_without_end_are_refused():
    motion = {"kind": "ConstantVelocity"}
    for _ in range(500):
        motion = {"kind": "Embedded", "dim": 5, "motion": motion}
    with pytest.raises(ValueError, match="2 deep"):
        description_of(changed(motion=motion))


def test_every_kind_of_model_has_a_place():
    """A new kind that files can hold can also be named in one."""
    places = {"motion": set(), "sensor": set(), "birth": set(), "linearisation": set()}
    for name, kinds in places.items():
        with pytest.raises(ValueError, match="accepted are") as error:
            description_of(changed(**{name: {"kind": "?"}}))
        kinds |= set(str(error.value).partition("accepted are ")[2].split(", "))
    assert set().union(*places.values()) | {"Survival", "Occlusion"} == set(KINDS)
    assert describe_fields(GNN.Config())
    assert isinstance(description_of(LEAST), Description)
