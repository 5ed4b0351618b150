"""A cluster gives the numbers of one process bit for bit, also when a worker is killed in the middle."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import pytest

from sims import cluster
from sims.compare import main
from sims.evaluate import evaluate
from sims.parallel import Workers, each
from sims.scenarios import scenario
from sims.trackers import settings_of

pytest.importorskip("distributed", reason="the cluster extra is not installed")

CALLS = [(k, 0.3) for k in range(12)]


def slow_square(k, seconds):
    time.sleep(seconds)
    return k * k, os.getpid()


@contextmanager
def program(*arguments):
    """A program of dask in a process of its own, on this machine only."""
    command = [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]]
    here = os.path.dirname(__file__)  # where pickled functions of this file are found
    env = os.environ | {"PYTHONPATH": os.pathsep.join([os.getcwd(), here])}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def scheduler():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with program("dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard") as process:
        yield f"tcp://127.0.0.1:{port}", process


def worker(address):
    return program("dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard")


@contextmanager
def two_workers():
    with ExitStack() as stack:
        address, _ = stack.enter_context(scheduler())
        processes = [stack.enter_context(worker(address)) for _ in range(2)]
        client = cluster.connect(address)
        stack.callback(client.close)
        client.wait_for_workers(2, timeout=60)
        yield address, client, processes


@pytest.mark.slow
def test_a_killed_worker_loses_nothing():
    with two_workers() as (_, client, processes):
        done = []

        def advance():
            done.append(1)
            if len(done) == 4:  # results on it, and one on the way
                processes[0].kill()

        found = each(slow_square, CALLS, Workers(cluster=client), advance)
        assert processes[0].wait() != 0
    assert [square for square, _ in found] == [k * k for k, _ in CALLS]
    assert len(done) == len(CALLS)
    assert {pid for _, pid in found[-4:]} == {processes[1].pid}


@pytest.mark.slow
def test_comparisons_are_the_same_bit_for_bit_with_a_worker_lost():
    problem = scenario("mt3-task2")
    settings = {name: settings_of(problem, name) for name in ("pmbm", "gnn")}
    here = evaluate(problem, settings, seed=3, runs=12)
    with two_workers() as (_, client, processes):
        done = []

        def advance():
            done.append(1)
            if len(done) == 3:
                processes[1].kill()

        there = evaluate(problem, settings, seed=3, runs=12, workers=Workers(cluster=client), advance=advance)
    assert repr(numbers(here)) == repr(numbers(there))


def numbers(scores):
    return {
        name: [[x.tolist() if hasattr(x, "tolist") else x for x in r._replace(cpu=0.0)] for r in runs]
        for name, runs in scores.items()
    }


@pytest.mark.slow
def test_the_command_line_takes_an_address(tmp_path, capsys):
    argv = ["--scenario", "mt3-task1", "--trackers", "gnn", "pmb", "--runs", "2", "--json"]
    with two_workers() as (address, _, _):
        assert main([*argv, str(tmp_path / "there.json"), "--cluster", address]) == 0
    assert main([*argv, str(tmp_path / "here.json")]) == 0
    there, here = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("there", "here"))
    for result in (there, here):
        for row in result["trackers"].values():
            del row["cpu_ms_per_scan"]
    assert there == here


@pytest.mark.slow
def test_a_cluster_without_workers_or_with_other_code_is_refused(monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 2.0)
    with scheduler() as (address, _):
        time.sleep(4)
        with pytest.raises(ValueError, match="has no workers"):
            cluster.connect(address)
        with worker(address):
            monkeypatch.setattr(cluster, "PATIENCE", 30.0)
            cluster.connect(address).close()
            client_side = cluster.fingerprint() | {"numpy": "1.0"}
            monkeypatch.setattr(cluster, "expected", lambda: client_side)
            with pytest.raises(ValueError, match=r"instead of 1\.0"):
                cluster.connect(address)


@pytest.mark.slow
def test_a_lost_scheduler_is_one_line():
    with scheduler() as (address, process), worker(address):
        client = cluster.connect(address)
        with pytest.raises(ConnectionError, match="the scheduler of the cluster is gone"):
            each(slow_square, CALLS, Workers(cluster=client), process.kill)
