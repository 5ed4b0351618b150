"""A tracker's state in a file: nothing is lost, nothing is run, and nothing is believed without a look."""

import json
import pickle
import tracemalloc

import numpy as np
import pytest
import tiny_scene
from mutations import attempt, mutated, mutated_arrays, mutated_document  # tests/mutations.py
from tiny_scene import same

from tracking.checkpoint import KIND, flatten, unflatten
from tracking.filters.cphd import CPHD
from tracking.filters.glmb import GLMB, GLMBConfig
from tracking.filters.gnn import GNN
from tracking.filters.lmb import LMB, LMBConfig
from tracking.filters.phd import GMPHD
from tracking.filters.pmb import PMB
from tracking.filters.pmbm import PMBM, PMBMConfig, PMBMDensity
from tracking.filters.tracker import Tracker
from tracking.formats.arrays import read_arrays, write_arrays
from tracking.gaussian import UKF
from tracking.models import (
    IMM,
    ConstantVelocity,
    GaussianBirth,
    MeasurementBirth,
    Occlusion,
    PositionSensor,
    RangeBearing,
)

MUTATIONS = 1200  # of each of nine
SWITCHING = IMM([ConstantVelocity(dims=2, q=q) for q in (0.1, 10.0)], np.array([[0.9, 0.1], [0.2, 0.8]]))
KINDS = (PMBM, GLMB, LMB, PMB, GMPHD, CPHD, GNN)
SCANS = [(time, z) for time, _, z in tiny_scene.simulate(3, objects=4, clutter=5, scans=7)]


def run(tracker, scans=SCANS):
    return [tracker.step(z, time) for time, z in scans]


def started(kind=PMBM, **changes):
    """A tracker after some scans."""
    tracker = kind(**{**tiny_scene.models(), **changes})
    run(tracker, SCANS[:5])
    return tracker


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.tracker"


@pytest.fixture
def written(path):
    """A file with a state, its description and its arrays, to be spoilt and signed again."""
    started().save(path)
    return path, *read_arrays(path, KIND)


def nested(depth):
    """A list in a list in a list, deeper than calls may nest."""
    found = 0.5
    for _ in range(depth):
        found = [found]
    return found


# --- nothing is lost ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_cut_at_any_scan_goes_on_bit_for_bit(kind, path):
    whole, expected = kind(**tiny_scene.models()), []
    for k in range(len(SCANS) + 1):
        whole.save(path)
        cut = kind.load(path)
        assert same(cut.density, whole.density)
        assert cut.config == whole.config
        for tracks, (time, z) in zip(expected_of(kind)[k:], SCANS[k:], strict=True):
            assert same(cut.step(z, time), tracks)
        if k < len(SCANS):
            expected.append(whole.step(SCANS[k][1], SCANS[k][0]))
    assert all(same(a, b) for a, b in zip(expected, expected_of(kind), strict=True))


def expected_of(kind):
    """What the tracker says that is never cut, computed once."""
    if kind not in _expected:
        _expected[kind] = run(kind(**tiny_scene.models()))
    return _expected[kind]


_expected: dict = {}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (PMBM, {"config": PMBMConfig(gibbs_sweeps=20, split=-1.0), "seed": 7}),  # draws random numbers
        (GLMB, {"config": GLMBConfig(gibbs_sweeps=20), "seed": 7}),
        (LMB, {"config": LMBConfig(merge=np.inf)}),
        (PMBM, {"birth": MeasurementBirth(1.0, rest_std=5.0), "occlusion": Occlusion(0.1, 0.5)}),
        (GNN, {"birth": GaussianBirth([0.1, 0.2], [[100.0, 100, 0, 0], [500, 500, 1, 1]], 99 * np.eye(4))}),
        (LMB, {"birth": MeasurementBirth(1.0, rest_std=5.0), "linearisation": UKF(0.5, 2.0, 0.0)}),
        (
            GMPHD,
            {"sensor": RangeBearing(std=(5.0, 0.01), clutter_intensity=1e-3), "linearisation": UKF()},
        ),
    ],
)
def test_every_model_and_the_random_numbers_come_back(kind, changes, path):
    tracker = started(kind, **changes)
    tracker.save(path)
    again = kind.load(path)
    for name in ("motion", "survival", "linearisation", "occlusion"):
        assert getattr(again.models, name) == getattr(tracker.models, name)
    for time, z in SCANS[5:]:
        assert same(again.step(z, time), tracker.step(z, time))
    assert again.rng.bit_generator.state == tracker.rng.bit_generator.state


def test_saving_changes_nothing_and_twice_gives_the_same_file(path, tmp_path):
    tracker, other = started(), started()
    tracker.save(path)
    tracker.save(tmp_path / "again")
    assert path.read_bytes() == (tmp_path / "again").read_bytes()
    assert same(tracker.density, other.density)


def test_what_holds_functions_is_given_again(path):
    sensor = PositionSensor(std=5.0, p_detect=lambda x: np.full(len(x), 0.8), clutter_intensity=1e-5)
    tracker = started(sensor=sensor)
    tracker.save(path)
    with pytest.raises(
        ValueError, match=r"does not hold sensor, made of functions.*PMBM.load\(path, sensor="
    ):
        PMBM.load(path)
    again = PMBM.load(path, sensor=sensor)
    for time, z in SCANS[5:]:
        assert same(again.step(z, time), tracker.step(z, time))


def test_settings_may_change_on_the_way(path):
    started().save(path)
    assert PMBM.load(path, config=PMBMConfig(threshold=0.9)).config.threshold == 0.9
    with pytest.raises(ValueError, match="sensors is no part of a filter; accepted are motion, sensor"):
        PMBM.load(path, sensors=None)


def test_a_tracker_goes_on_with_its_own_models(path):
    started().save(path)
    sure = PositionSensor(std=1.0, p_detect=0.99, clutter_intensity=1e-6)
    tracker = PMBM(**{**tiny_scene.models(), "sensor": sure})
    tracker.restore(path)
    assert tracker.models.sensor is sure
    assert same(tracker.density, started().density)


def test_other_readers_open_the_file(written):
    """The oracle is the library of the format."""
    numpy = pytest.importorskip("safetensors.numpy")
    path, _, arrays = written
    theirs = numpy.load_file(path)
    assert theirs.keys() == arrays.keys()
    assert all(np.array_equal(theirs[name], arrays[name]) for name in arrays)


def test_flat_names_are_the_density(path):
    density = started().density
    arrays = flatten(density)
    assert {"local.m", "mixture.entry", "poisson.uniform", "next_label"} <= arrays.keys()
    assert same(unflatten(PMBMDensity, dict(arrays)), density)


# --- nothing is believed --------------------------------------------------------------------------


def refused(path, match, kind=PMBM):
    """Loading and restoring end in the one error, and the tracker is as it was."""
    tracker = started(kind)
    before = tracker.snapshot()
    for work in (lambda: kind.load(path), lambda: tracker.restore(path)):
        with pytest.raises(ValueError, match=match):
            work()
    assert same(tracker.snapshot().density, before.density)
    assert tracker.time == before.time
    assert tracker.rng.bit_generator.state == before.random


def test_other_files(path, tmp_path):
    with pytest.raises(FileNotFoundError):
        PMBM.load(path)
    refused(tmp_path, "is not an ordinary file")
    for content in (b"", b"x", b"\xff" * 200, pickle.dumps([1]), b"PK\x03\x04" + b"\0" * 99):
        path.write_bytes(content)
        refused(path, "is no file of arrays")
    write_arrays(path, "weights", {}, {})
    refused(path, "does not hold a whole tracker state")
    started(GLMB).save(path)
    refused(path, "holds the state of another filter, 'GLMB', not of PMBM")


def test_a_damaged_file(written):
    path, _, _ = written
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    refused(path, "does not hold a whole tracker state")
    path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    refused(path, "bytes differ from those that were written")


def test_a_version_to_come(written):
    path, document, arrays = written
    write_arrays(path, KIND, {**document, "version": 2}, arrays)
    refused(path, "is of version 2, accepted is version 1")


def test_a_file_that_promises_more_than_it_has_takes_no_memory(path):
    entry = {"dtype": "F64", "shape": [10**9, 10**3], "data_offsets": [0, 8 * 10**12]}
    head = json.dumps({"local.m": entry, "__metadata__": {KIND: "{}", "sha256": ""}}).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head)
    tracker = PMBM(**tiny_scene.models())
    tracemalloc.start()
    with pytest.raises(ValueError, match="sizes of an array and its bytes differ"):
        tracker.restore(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6
    path.write_bytes((2**62).to_bytes(8, "little") + head)
    with pytest.raises(ValueError, match="its header would have 4611686018427387904 bytes"):
        tracker.restore(path)
    deep = b"[" * 200_000
    path.write_bytes(len(deep).to_bytes(8, "little") + deep)
    refused(path, "does not hold a whole tracker state")


def spoil(name, change):
    return pytest.param(name, change, id=f"{name}-{change.__name__}")


def beyond(a):
    a.flat[0] = 10**6


def below(a):
    a.flat[0] = -7


def nan(a):
    a.flat[-1] = np.nan


def swapped(a):
    a[[0, 1]] = a[[1, 0]]


def equal(a):
    a[1] = a[0]


def skew(a):
    a[0, 0, 1] += 1e3


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *(spoil(name, beyond) for name in ("mixture.entry", "mixture.local_offset", "label", "local.r")),
        *(
            spoil(name, below)
            for name in ("mixture.entry", "mixture.row_offset", "local.source", "poisson.w")
        ),
        *(spoil(name, nan) for name in ("local.m", "local.P", "mixture.log_w", "poisson.uniform")),
        *(spoil(name, swapped) for name in ("mixture.local_offset", "mixture.entry_offset")),
        *(spoil(name, equal) for name in ("mixture.track_offset", "label")),
        spoil("local.P", skew),
        spoil("local.P", below),
        spoil("next_label", below),
    ],
)
def test_what_compiled_loops_trust_is_looked_at(written, name, change):
    path, document, arrays = written
    change(arrays[name])
    write_arrays(path, KIND, document, arrays)
    refused(path, "holds no state of PMBM to go on from")


@pytest.mark.parametrize(
    "change",
    [
        lambda d, a: a.pop("label"),
        lambda d, a: a.update(more=np.zeros(3)),
        lambda d, a: a.update({"local.r": a["local.r"][:, None]}),
        lambda d, a: a.update({"local.source": a["local.source"].astype(float)}),
        lambda d, a: a.update({"poisson.m": np.zeros((0, 10**7)), "poisson.w": np.zeros(0)}),
        lambda d, a: a.update(next_label=np.int64(2**62)),
        lambda d, a: d.update(time=None),
        lambda d, a: d.update(time="now"),
        lambda d, a: d.update(random={}),
        lambda d, a: d["random"]["state"].update(state=-1),
        lambda d, a: d.update(random={"bit_generator": "os.system"}),
    ],
)
def test_what_else_a_stranger_may_write(written, change):
    path, document, arrays = written
    change(document, arrays)
    write_arrays(path, KIND, document, arrays)
    refused(path, "holds no state of PMBM to go on from")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["motion"].update(dims=10**9),
        lambda m: m["motion"].update(kind="PMBM"),
        lambda m: m["sensor"].update(angles=[1]),
        lambda m: m["sensor"].update(std=-1.0),
        lambda m: m["birth"].update(rate={"number": "nan"}),
        lambda m: m["birth"].update(rate={"number": "inf"}),
        lambda m: m["birth"].update(rest_mean=1e300),
        lambda m: m["birth"].update(rest_std=1e-300),
        lambda m: m["birth"].update(lower=[0.0] * 40, upper=[1.0] * 40),
        lambda m: m["survival"].update(probability=[0.5, 0.5]),
        lambda m: m["sensor"].update(p_detect=[0.9]),
        lambda m: m["motion"].update(noise_model=3),
        lambda m: m.update(survival=3),
        lambda m: m["birth"].update(rate=nested(900)),
        lambda m: m.pop("occlusion"),
    ],
)
def test_models_of_a_stranger(written, change):
    """They matter only where a tracker is made of them."""
    path, document, arrays = written
    change(document["models"])
    write_arrays(path, KIND, document, arrays)
    with pytest.raises(ValueError, match="holds no state of PMBM to go on from"):
        PMBM.load(path)
    PMBM(**tiny_scene.models()).restore(path)


@pytest.mark.parametrize(
    "change",
    [
        {"max_hypotheses": 2**31 - 1},
        {"quota": "yes"},
        {"threshold": None},
        {"estimator": "eval"},
        {"more": 1},
        {"threshold": nested(900)},
    ],
)
def test_settings_of_a_stranger(written, change):
    path, document, arrays = written
    document["config"].update(change)
    write_arrays(path, KIND, document, arrays)
    with pytest.raises(ValueError, match="settings are none of PMBMConfig"):
        PMBM.load(path)
    PMBM.load(path, config=PMBMConfig())


def test_states_of_another_size(written):
    path, _, _ = written
    changes = {"motion": tiny_scene.ConstantVelocity(dims=3), "birth": birth(3), "initial": birth(3)}
    tracker = PMBM(**{**tiny_scene.models(), **changes})
    before = tracker.density
    with pytest.raises(ValueError, match="does not fit the models of the tracker"):
        tracker.restore(path)
    assert tracker.density is before


def birth(dims):
    return GaussianBirth(0.1, np.zeros(2 * dims), 1e5 * np.eye(2 * dims))


def test_what_cannot_be_saved(path):
    tracker = started(seed=np.random.Generator(np.random.MT19937(1)))
    with pytest.raises(ValueError, match="random numbers of MT19937 cannot be saved"):
        tracker.save(path)
    assert not path.exists()

    class Other(Tracker):
        Config = PMBMConfig

    with pytest.raises(ValueError, match="Other cannot be saved or loaded, accepted are PMBM, GLMB"):
        Other(**tiny_scene.models()).save(path)


def test_arrays_of_other_types_are_not_written(path):
    with pytest.raises(ValueError, match="x is an array of float32; accepted are float64, int64 and bool"):
        write_arrays(path, KIND, {}, {"x": np.zeros(2, np.float32)})
    with pytest.raises(ValueError, match="JSON"):
        write_arrays(path, KIND, {"x": np.nan}, {})
    assert not path.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "changes"),
    [*((kind, {}) for kind in KINDS), (PMBM, {"motion": SWITCHING}), (GNN, {"motion": SWITCHING})],
)
def test_more_than_a_thousand_mutations_of_each_give_clear_errors_only(kind, changes, path):
    """Bytes of the file, and numbers of it with a fresh digest, as a stranger would write them."""
    started(kind, **changes).save(path)
    content, (document, arrays) = path.read_bytes(), read_arrays(path, KIND)
    rng = np.random.default_rng(11)
    taken = 0
    for i in range(MUTATIONS):
        if i % 2:
            path.write_bytes(mutated(content, rng))
        else:
            write_arrays(path, KIND, mutated_document(document, rng), mutated_arrays(arrays, rng))
        tracker, error = attempt(lambda: kind.load(path))
        assert tracker is not None or str(path) in error
        if tracker is not None:
            taken += 1
            attempt(lambda tracker=tracker: run(tracker, SCANS[5:7]))
    assert MUTATIONS / 100 < taken < MUTATIONS / 2  # neither all nor none
