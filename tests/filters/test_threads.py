"""Threads that share the clusters of a scan: the same result to the last bit."""

import multiprocessing
import os
import threading
from dataclasses import fields, is_dataclass

import numpy as np
import pytest

from sims.evaluate import scene_of
from sims.scenarios import SCENARIOS
from sims.trackers import TRACKERS, settings_of
from tracking import PMBM
from tracking.filters import hypotheses
from tracking.threads import in_parallel, shares


def arrays(value):
    """All arrays in a density, one after another."""
    if isinstance(value, np.ndarray):
        return [value]
    parts = (
        [getattr(value, f.name) for f in fields(value)]
        if is_dataclass(value)
        else value
        if isinstance(value, tuple)
        else []
    )
    return [a for part in parts for a in arrays(part)]


@pytest.mark.parametrize("name", ["pmbm", "glmb"])
@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_nothing(monkeypatch, name, threads):
    problem = SCENARIOS["dense"]
    scene = scene_of(problem, 3, 0)
    used = []
    monkeypatch.setattr(hypotheses, "LEAST", 10)
    monkeypatch.setattr(
        hypotheses, "in_parallel", lambda f, pieces: used.append(len(pieces)) or in_parallel(f, pieces)
    )
    settings = settings_of(problem, name)
    one, more = (TRACKERS[name](problem, **settings, threads=n) for n in (1, threads))
    for z, t in list(zip(scene.scans, scene.time))[:12]:
        one.step(z, t)
        more.step(z, t)
        mine, other = arrays(one.density), arrays(more.density)
        assert len(mine) == len(other) > 10
        for a, b in zip(mine, other):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
    assert max(used) == threads


def test_a_gibbs_chain_stays_on_one_thread(monkeypatch):
    problem = SCENARIOS["dense"]
    scene = scene_of(problem, 3, 0)
    monkeypatch.setattr(hypotheses, "LEAST", 1)
    trackers = [TRACKERS["pmbm"](problem, gibbs_sweeps=50, threads=n) for n in (1, 3)]
    for z, t in list(zip(scene.scans, scene.time))[:4]:
        a, b = (tracker.step(z, t) for tracker in trackers)
        np.testing.assert_array_equal(a.mean, b.mean)


@pytest.mark.parametrize("sizes", [[], [1], [5] * 30, [100, 1, 1, 1, 1, 100], [0, 0, 7, 0]])
@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("least", [1, 20])
def test_shares_are_all_groups_once(sizes, threads, least):
    starts = np.concatenate(([0], np.cumsum(sizes, dtype=int)))
    ends = shares(starts, threads, least)
    assert (ends[0], ends[-1]) == (0, len(sizes))
    assert (np.diff(ends) >= 0).all()
    assert 1 <= len(ends) - 1 <= max(1, min(threads, starts[-1] // least))


def test_shares_are_about_equal():
    starts = np.arange(0, 1001, 10)
    np.testing.assert_array_equal(np.diff(starts[shares(starts, 4, 1)]), [250] * 4)


def test_an_error_of_any_piece_is_raised():
    def fail(k):
        if k == 2:
            raise ValueError("piece 2")
        return k

    assert in_parallel(fail, [(0,), (1,)]) == [0, 1]
    with pytest.raises(ValueError, match="piece 2"):
        in_parallel(fail, [(0,), (1,), (2,)])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_threads_of_its_own():
    assert in_parallel(abs, [(-1,), (-2,)]) == [1, 2]
    child = multiprocessing.get_context("fork").Process(target=in_parallel, args=(abs, [(-1,), (-2,)]))
    child.start()
    child.join(30)
    assert child.exitcode == 0


def test_threads_are_shared_by_all_who_ask():
    for n in range(1, 12):
        in_parallel(abs, [(-k,) for k in range(n)])
    mine = [t for t in threading.enumerate() if t.name.startswith("clusters")]
    assert len(mine) <= os.cpu_count()


@pytest.mark.parametrize("name", ["threads", "max_gated", "keep_apart"])
@pytest.mark.parametrize("bad", [0, 2.5, "2", None, True, 10**30, np.nan, np.inf])
def test_numbers_of_things_are_whole(name, bad):
    with pytest.raises(ValueError, match=f"{name} must be a"):
        PMBM.Config(**{name: bad})
