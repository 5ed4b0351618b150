"""Scans that arrive late end where scans in order end."""

import numpy as np
import pytest

from tracking import GLMB, GMPHD, GNN, LMB, PMBM, Late, PositionSensor
from tracking.models import ConstantVelocity, MeasurementBirth, Survival, UniformBirth

SIDE = 200.0
RADAR = PositionSensor(std=1.0, p_detect=0.9, clutter_intensity=2 / SIDE**2)
CAMERA = PositionSensor(
    std=0.5, p_detect=lambda x: np.where(x[:, 0] < SIDE / 2, 0.95, 0.0), clutter_intensity=1 / SIDE**2
)
BOX = {"lower": (0.0, 0.0), "upper": (SIDE, SIDE), "rest_std": 3.0}
KINDS = pytest.mark.parametrize("kind", [PMBM, GLMB, LMB, GMPHD, GNN])


def models(**changes):
    birth = UniformBirth(0.5, **BOX)
    return {
        "motion": ConstantVelocity(dims=2, q=0.1),
        "sensor": RADAR,
        "birth": birth,
        "survival": Survival(0.99, BOX["lower"], BOX["upper"]),
        "initial": UniformBirth(4, **BOX),
        **changes,
    }


def messages(seed=0, seconds=3.0):
    """(time, sensor, z) of a radar at 4 Hz and a camera at 7 Hz, in order."""
    rng = np.random.default_rng(seed)
    x = np.concatenate((rng.uniform(20, SIDE - 20, (5, 2)), rng.normal(0, 3, (5, 2))), axis=1)
    times = [(t, RADAR) for t in np.arange(0, seconds, 0.25)] + [
        (t, CAMERA) for t in np.arange(0.05, seconds, 1 / 7)
    ]
    out = []
    for time, sensor in sorted(times, key=lambda pair: pair[0]):
        at = x[:, :2] + time * x[:, 2:]
        seen = at[rng.random(5) < sensor.detection(np.concatenate((at, x[:, 2:]), axis=1))]
        z = seen + rng.normal(size=seen.shape) * 0.7
        out.append((float(time), sensor, np.concatenate((z, rng.uniform(0, SIDE, (rng.poisson(2), 2))))))
    return out


def shuffled(rng, scans, lag):
    """The scans by arrival: some are on their way for up to `lag` s, but the first is in time."""
    delay = np.where(rng.random(len(scans)) < 0.4, rng.uniform(0, lag, len(scans)), 0.0)
    delay[0] = 0.0
    return [scans[i] for i in np.argsort([time + d for (time, _, _), d in zip(scans, delay)], kind="stable")]


def told(tracks):
    """Everything but labels."""
    return [tracks.time, *(a.tolist() for a in (tracks.mean, tracks.cov, tracks.existence, tracks.source))]


def run(tracker, scans):
    return [tracker.step(z, time, sensor=sensor) for time, sensor, z in scans]


@KINDS
def test_the_end_is_that_of_the_scans_in_order(kind):
    scans = messages()
    late = Late(kind(**models()), lag=1.0)
    by_arrival = run(late, shuffled(np.random.default_rng(1), scans, 0.9))
    in_order = run(kind(**models()), scans)
    assert late.repeated > 10
    assert late.dropped == 0
    assert told(by_arrival[-1]) == told(in_order[-1])
    assert len(by_arrival[-1]) >= 3


def test_births_at_measurements_too():
    changes = {"birth": MeasurementBirth(1.0, rest_std=3.0), "initial": MeasurementBirth(1.0, rest_std=3.0)}
    scans = messages(2)
    late = Late(LMB(**models(**changes)), lag=1.0)
    by_arrival = run(late, shuffled(np.random.default_rng(2), scans, 0.9))
    assert told(by_arrival[-1]) == told(run(LMB(**models(**changes)), scans)[-1])
    assert len(set(by_arrival[-1].label.tolist())) == len(by_arrival[-1])


@KINDS
def test_objects_keep_their_labels(kind):
    """A scan in between, of clutter alone, names nobody anew."""
    scans = messages()
    late = Late(kind(**models()), lag=5.0)
    before = run(late, scans)[-1]
    names = before.label.tolist()
    for k in (3, 9, 17):
        after = late.step([[SIDE - 1, SIDE - 1]], scans[k][0] + 0.01, sensor=CAMERA)
        kept = np.isin(after.label, names)
        assert len(set(after.label.tolist())) == len(after)
        distance = np.linalg.norm(after.mean[:, None, :2] - before.mean[None, :, :2], axis=2)
        for i in np.flatnonzero(kept):
            assert distance[i].argmin() == names.index(after.label[i])
        assert kept.sum() == len(before)


def test_in_order_nothing_is_repeated_and_labels_are_the_filters_own():
    scans = messages()
    late = Late(PMBM(**models()), lag=1.0)
    for ours, theirs in zip(run(late, scans), run(PMBM(**models()), scans), strict=True):
        assert told(ours) == told(theirs)
        assert ours.label.tolist() == theirs.label.tolist()
    assert late.repeated == 0


def test_a_scan_from_before_the_first():
    scans = messages()
    late = Late(GNN(**models()), lag=1.0)
    last = run(late, [*scans[1:5], scans[0], *scans[5:]])[-1]
    assert told(last) == told(run(GNN(**models()), scans)[-1])
    assert len(set(last.label.tolist())) == len(last)


def test_equal_times_go_by_arrival():
    late, plain = Late(GNN(**models()), lag=1.0), GNN(**models())
    for z, time, sensor in (
        ([[9, 9]], 0, RADAR),
        ([[9, 10]], 0, CAMERA),
        ([], 0.5, RADAR),
        ([], 0.5, CAMERA),
    ):
        assert told(late.step(z, time, sensor=sensor)) == told(plain.step(z, time, sensor=sensor))
    assert late.repeated == 0


def test_what_comes_too_late_is_dropped_or_said():
    late = Late(GNN(**models()), lag=1.0)
    last = run(late, messages())[-1]
    density = late.tracker.density
    assert late.step([[50.0, 50.0]], 0.5) is last
    assert late.dropped == 1
    strict = Late(GNN(**models()), lag=1.0, too_late="raise")
    run(strict, messages())
    with pytest.raises(
        ValueError, match=r"a scan of 0.5 s came 2.\d+ s after the newest.*Raise lag, or drop"
    ):
        strict.step([[50.0, 50.0]], 0.5)
    assert late.tracker.density is density


def test_memory_is_bounded():
    late = Late(GNN(**models()), lag=1.0)
    few = Late(GNN(**models()), lag=100.0, max_scans=3)
    for k in range(200):
        late.step([], 0.1 * k)
        few.step([], 0.1 * k)
    assert len(late._scans) <= 11
    assert len(few._scans) == 3
    few.step([[1.0, 1.0]], 19.65)  # before the last three, after the one before them
    assert few.dropped == 0
    few.step([[1.0, 1.0]], 19.0)
    assert few.dropped == 1


def test_what_goes_wrong_changes_nothing():
    late = Late(GNN(**models()), lag=10.0)
    run(late, messages())
    before, scans, free = late.tracker.snapshot(), list(late._scans), late._free
    for z, match in (([[np.nan, 1]], "finite"), ([[1.0]], "shape"), ([["a", "b"]], "numbers")):
        with pytest.raises(ValueError, match=match):
            late.step(z, 1.0)
    with pytest.raises(ValueError, match="clutter_ratio"):
        late.step([[1.0, 1.0]], 1.0, clutter_ratio=[-1.0])
    with pytest.raises(ValueError, match="sensor must be a sensor model, got int"):
        late.step([[1.0, 1.0]], 1.0, sensor=0)
    with pytest.raises(ValueError, match="time must be one finite number"):
        late.step([], np.nan)
    assert late.tracker.density is before.density
    assert late.tracker.time == before.time
    assert (late._scans, late._free) == (scans, free)


def test_measurements_are_kept_as_they_were():
    late, z = Late(GNN(**models()), lag=5.0), np.array([[50.0, 50.0]])
    late.step(z, 0.0)
    late.step(z, 1.0)
    z[:] = 0.0
    again = Late(GNN(**models()), lag=5.0)
    for time in (0.0, 0.5, 1.0):
        last = again.step([[50.0, 50.0]], time)
    assert told(late.step([[50.0, 50.0]], 0.5)) == told(last)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lag": 0.0}, "lag must be finite and > 0"),
        ({"lag": 1.0, "max_scans": 0}, "max_scans must be a whole number"),
        ({"lag": 1.0, "too_late": "keep"}, 'too_late must be "drop" or "raise"'),
    ],
)
def test_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        Late(GNN(**models()), **arguments)
    with pytest.raises(ValueError, match="tracker must be a filter of this package, got str"):
        Late("pmbm", lag=1.0)
