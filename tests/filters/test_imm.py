"""Several motion models per object, against the plain filters and with the rest of the package."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_scene import models, same, simulate
from turning_object import CHAIN, QUIET, START, WILD, one_object, path

from tracking import (
    CPHD,
    GLMB,
    GMPHD,
    GNN,
    IMM,
    LMB,
    PMB,
    PMBM,
    UKF,
    ConstantAcceleration,
    ConstantVelocity,
    CoordinatedTurn,
    Embedded,
    GaussianBirth,
    Late,
    MeasurementBirth,
    PositionSensor,
    RangeBearing,
    Recorder,
)
from tracking.checkpoint import KIND, flatten
from tracking.formats.arrays import read_arrays, write_arrays
from tracking.models.document import describe, revive
from tracking.models.linear import LinearMotion

KINDS = pytest.mark.parametrize("kind", [PMBM, GLMB, LMB, PMB, GMPHD, CPHD, GNN])


TURN = IMM(
    [Embedded(ConstantVelocity(q=0.1), 5, rest_std=0.2), CoordinatedTurn(1.0, 0.05)],
    [[0.95, 0.05], [0.2, 0.8]],
    initial=[0.9, 0.1],
)
JERK = IMM(
    [Embedded(ConstantVelocity(q=0.1), 6, (2.0, 2.0)), ConstantAcceleration(q=0.5)], [[0.9, 0.1], [0.2, 0.8]]
)


# --- properties -----------------------------------------------------------------------------------


def births(name):
    if name == "gaussian":
        at = [[500.0, 500, 0, 0], [300, 300, 0, 0]]
        return {"birth": GaussianBirth([0.3, 0.2], at, np.diag([300.0**2, 300**2, 25, 25]))}
    return {"birth": MeasurementBirth(1.0, rest_std=5.0)} if name == "measurement" else {}


@KINDS
@pytest.mark.parametrize("birth", ["uniform", "measurement", "gaussian"])
def test_one_model_and_equal_models_are_the_plain_filter(kind, birth):
    given = {**models(), **births(birth)}
    motion = given["motion"]
    plain = kind(**given)
    several = [
        kind(**{**given, "motion": IMM([motion], [[1.0]])}),
        kind(**{**given, "motion": IMM([motion, motion], np.eye(2), initial=[0.3, 0.7])}),
        kind(**{**given, "motion": IMM([motion] * 3, np.full((3, 3), 1 / 3))}),
    ]
    for time, _, z in simulate(3, objects=5, clutter=5, scans=8):
        expected = plain.step(z, time)
        assert expected.modes is None
        for tracker in several:
            tracks = tracker.step(z, time)
            assert tracks.label.tolist() == expected.label.tolist()
            assert tracks.source.tolist() == expected.source.tolist()
            for name in ("mean", "cov", "existence"):
                assert np.allclose(getattr(tracks, name), getattr(expected, name), rtol=1e-7, atol=1e-7)
            assert np.allclose(tracks.modes.sum(axis=1), 1.0, atol=1e-12)
            assert (tracks.modes >= 0).all()


def test_who_never_switches_is_weighed_by_evidence_alone():
    """Without switching the chain is that of two Kalman filters, and the wild path says which."""
    imm = IMM([QUIET, WILD], np.eye(2), initial=[0.5, 0.5])
    tracker = one_object(imm)
    for k, z in enumerate(path(np.random.default_rng(3))):
        tracks = tracker.step([START[:2] + 3 * (z - START[:2])], float(k))
    assert tracks.modes[0, 1] > 0.9
    assert np.allclose(tracks.take(np.array([0])).modes, tracks.modes)


def test_the_chain_over_any_time():
    imm = IMM([QUIET, WILD], CHAIN, step=2.0)
    assert np.allclose(imm.initial @ CHAIN, imm.initial)
    assert (imm.chain(2.0) == CHAIN).all()
    assert (imm.chain(0.0) == np.eye(2)).all()
    assert np.allclose(imm.chain(0.6) @ imm.chain(1.4), CHAIN, atol=1e-12)
    assert np.allclose(imm.chain(5.0), np.linalg.matrix_power(CHAIN, 2) @ imm.chain(1.0))
    assert imm.parts(0.3) == (0.3,)
    assert imm.parts(5.0) == (2.0, 2.0, 1.0)
    for pause in (1e3, 1e5 + 1.0):
        assert len(imm.parts(pause)) <= 101
        assert sum(imm.parts(pause)) == pytest.approx(pause)
    hasty = IMM([QUIET, WILD], [[0.1, 0.9], [0.9, 0.1]])
    assert np.allclose(hasty.chain(2.0), hasty.transition @ hasty.transition)
    with pytest.raises(ValueError, match=r"no rates of switching give .* whole steps apart"):
        hasty.chain(0.5)


def test_a_step_that_fails_leaves_the_tracker_as_it_was():
    tracker = one_object(IMM([QUIET, WILD], [[0.1, 0.9], [0.9, 0.1]]))
    tracker.step([START[:2]], 0.0)
    density = tracker.density
    with pytest.raises(ValueError, match="whole steps apart"):
        tracker.step([START[:2]], 0.5)
    assert tracker.density is density
    assert tracker.time == 0.0


def test_an_embedded_model_is_itself_in_its_entries():
    motion = Embedded(ConstantVelocity(q=0.5), 7, rest_std=(1.0, 2.0, 3.0), entries=(0, 1, 2, 3))
    x = np.random.default_rng(0).normal(size=(3, 7))
    assert np.allclose(motion.transition(x, 0.5)[:, :4], motion.motion.transition(x[:, :4], 0.5))
    assert (motion.transition(x, 0.5)[:, 4:] == 0).all()
    assert np.allclose(x @ motion.jacobian(x, 0.5).T, motion.transition(x, 0.5))
    assert np.allclose(np.diagonal(motion.noise(x, 0.5))[4:], [1.0, 4.0, 9.0])
    assert (motion.transition(x, 0.0) == x).all()
    assert (motion.jacobian(x, 0.0) == np.eye(7)).all()
    assert not motion.noise(x, 0.0).any()
    turning = Embedded(CoordinatedTurn(), 7, 1.0, (0, 1, 2, 3, 6))
    step, at = 1e-6, x[:1]
    slope = [(turning.transition(at + e, 0.7) - turning.transition(at - e, 0.7))[0] for e in step * np.eye(7)]
    assert np.allclose(turning.jacobian(at, 0.7)[0], np.transpose(slope) / (2 * step), atol=1e-8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IMM([], [[1.0]]), "models must be one or more"),
        (lambda: IMM([QUIET, CoordinatedTurn()], CHAIN), r"models must have one state.*Embedded\(model, 5"),
        (lambda: IMM([QUIET, WILD], CHAIN.T), "each row with sum one"),
        (lambda: IMM([QUIET, WILD], [[1.0]]), r"transition must be \(2, 2\)"),
        (lambda: IMM([QUIET, WILD], CHAIN, step=0.0), "step must be finite and > 0"),
        (lambda: IMM([QUIET, WILD], CHAIN, initial=[0.5, 0.6]), "initial must be 2 probabilities"),
        (lambda: IMM([IMM([QUIET], [[1.0]])], [[1.0]]), "plain motion models"),
        (lambda: Embedded(QUIET, 3), "dim must be a whole number above the last entry 3"),
        (lambda: Embedded(QUIET, 6, entries=(1, 0, 2, 3)), "the position at the front"),
        (lambda: Embedded(QUIET, 6, rest_std=(1.0, 1.0, 1.0)), "one for each of 2"),
        (lambda: Embedded(QUIET, 6, rest_std=0.0), "rest_std must be finite and > 0"),
        (lambda: Embedded(Embedded(QUIET, 5), 6), "motion must be a plain motion model"),
    ],
)
def test_what_is_no_such_model_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- with the rest of the package -----------------------------------------------------------------


def busy(kind, **changes):
    motion = IMM([QUIET, WILD], CHAIN)
    return kind(**{**models(), "motion": motion, **changes})


SCANS = [(time, z) for time, _, z in simulate(4, objects=5, clutter=5, scans=8)]


@KINDS
def test_saved_and_loaded_it_goes_on_bit_for_bit(kind, tmp_path):
    whole = busy(kind)
    for time, z in SCANS[:5]:
        whole.step(z, time)
    whole.save(tmp_path / "state")
    cut = kind.load(tmp_path / "state")
    assert same(cut.density, whole.density)
    for time, z in SCANS[5:]:
        assert same(cut.step(z, time), whole.step(z, time))


def test_a_file_of_one_model_is_as_it_was_and_does_not_fit_several(tmp_path):
    plain = GNN(**models())
    plain.step(SCANS[0][1], 0.0)
    assert not any("modes" in name for name in flatten(plain.density))
    plain.save(tmp_path / "plain")
    with pytest.raises(ValueError, match="is of one motion model, wanted is 2"):
        busy(GNN).restore(tmp_path / "plain")
    several = busy(GNN)
    several.step(SCANS[0][1], 0.0)
    several.save(tmp_path / "several")
    with pytest.raises(ValueError, match="is of several motion model, wanted is one"):
        GNN(**models()).restore(tmp_path / "several")


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("local.modes.p", lambda a: a + 0.1),
        ("local.modes.p", lambda a: a[:, :1]),
        ("local.modes.m", lambda a: a * np.nan),
        ("local.modes.P", lambda a: -a),
        ("local.modes.P", lambda a: a[..., :3]),
        ("poisson.modes.p", lambda a: np.ones((1, 2))),
        ("poisson.modes.m", lambda a: None),
    ],
)
def test_an_unsound_file_is_no_state(name, spoil, tmp_path):
    tracker = busy(PMBM)
    for time, z in SCANS[:3]:
        tracker.step(z, time)
    tracker.save(tmp_path / "state")
    document, arrays = read_arrays(tmp_path / "state", KIND)
    spoilt = spoil(arrays[name])
    rest = {key: a for key, a in arrays.items() if key != name}
    write_arrays(tmp_path / "bad", KIND, document, rest if spoilt is None else {**rest, name: spoilt})
    with pytest.raises(ValueError, match="holds no state of PMBM to go on from"):
        PMBM.load(tmp_path / "bad")


@pytest.mark.parametrize(
    "motion", [TURN, JERK, TURN.models[0], IMM([LinearMotion(CHAIN, CHAIN @ CHAIN.T, 1.0)], [[1]])]
)
def test_models_as_json(motion):
    document = describe(motion)
    again = revive(document)
    assert describe(again) == document
    x = np.random.default_rng(0).normal(size=(2, motion.dim))
    for a, b in zip(getattr(motion, "models", [motion]), getattr(again, "models", [again])):
        assert np.array_equal(a.transition(x, 1.0), b.transition(x, 1.0))


def test_json_of_strangers():
    document = describe(TURN)
    for changes in (
        {"models": []},
        {"models": [document] * 2},
        {"models": [describe(PositionSensor(std=1.0))] * 2},
        {"models": [document["models"][0]] * 65},
        {"transition": {"array": [[1.0]]}},
        {"step": "long"},
    ):
        with pytest.raises(ValueError, match="describes no model"):
            revive({**document, **changes})
    deep = document["models"][0]
    for _ in range(5000):
        deep = {**document["models"][0], "motion": deep}
    for spoilt in (deep, {**document["models"][0], "dim": 10**9}):
        with pytest.raises(ValueError, match="describes no model"):
            revive(spoilt)


@pytest.mark.parametrize("kind", [PMBM, LMB, GNN])
def test_late_scans_end_where_scans_in_order_end(kind):
    late, plain = Late(busy(kind), lag=3.0), busy(kind)
    for k in (0, 2, 1, 3, 5, 4, 6):
        told = late.step(SCANS[k][1], SCANS[k][0])
    for k in range(7):
        expected = plain.step(SCANS[k][1], SCANS[k][0])
    assert np.array_equal(told.mean, expected.mean)
    assert np.array_equal(told.modes, expected.modes)
    assert late.repeated == 2


@pytest.mark.parametrize("linearisation", [None, UKF()])
def test_recorded_paths_are_smoothed(linearisation):
    """The smoother of one model is the plain one; of two it ends in the filter and knows more before."""
    scans = path(np.random.default_rng(5), 15)
    plain, one = (
        Recorder(one_object(m, GNN, linearisation=linearisation)) for m in (WILD, IMM([WILD], [[1.0]]))
    )
    several = Recorder(one_object(TURN, GNN, linearisation=linearisation))
    for k, z in enumerate(scans):
        for recorder in (plain, one):
            recorder.step([z], float(k))
        told = several.step([z], float(k))
    (expected,), (found,), (turning,) = (r.trajectories() for r in (plain, one, several))
    assert np.allclose(found.mean, expected.mean, atol=1e-9)
    assert np.allclose(found.cov, expected.cov, atol=1e-9)
    assert np.allclose(turning.mean[-1], told.mean[0], atol=0.2)  # at the first report the models are as one
    assert len(turning) == 15
    filtered = [s.tracks.cov[0] for s in several.scans]
    narrower = [np.trace(a[:2, :2]) < np.trace(b[:2, :2]) for a, b in zip(turning.cov[:-1], filtered[:-1])]
    assert np.mean(narrower) > 0.7


def test_a_sensor_that_is_not_linear():
    sensor = RangeBearing(std=(2.0, 0.02), p_detect=0.99, clutter_intensity=1e-9)
    tracker = replace_sensor(one_object(TURN, linearisation=UKF()), sensor)
    for k, z in enumerate(path(np.random.default_rng(6)) + 100.0):
        tracks = tracker.step(sensor.measure(np.pad(z, (0, 3))[None]), float(k))
    assert len(tracks) == 1
    assert np.linalg.norm(tracks.mean[0, :2] - z) < 10


def replace_sensor(tracker, sensor):
    birth = replace(tracker.models.birth, mean=tracker.models.birth.mean + np.array([100.0, 100, 0, 0, 0]))
    return type(tracker)(tracker.models.motion, sensor, birth, linearisation=tracker.models.linearisation)
