"""Times of the inner parts of the filters, beside what SciPy and NumPy make of the same in the same process.

Ranked assignment is of random matrices, costs uniform in [0, 1), where every row must take a column. Tracks
are uniform in a field at the density of `large`, with the covariance of a track that is hit in nine scans of
ten; 90 % of them are measured, among as much clutter as there are tracks.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from sims.bench import naive
from sims.peers.assignment import gated
from tracking.association.belief import belief
from tracking.association.gating import Pairs, gate
from tracking.association.murty import k_best
from tracking.filters.local import corrected
from tracking.gaussian import EKF, log_likelihood
from tracking.models import ConstantVelocity, PositionSensor

SIZES = ((10, 20), (30, 60), (100, 200))
K = 100  # assignments
TRACKS = 10_000
GATE = 16.0
ABOUT = f"costs uniform in [0, 1), K = {K}; tracks and clutter at the density of `large`"
REPEATS, FEW = 200, 20  # matrices, and repetitions of what takes milliseconds
KEPT = 31 << 20  # bytes
MODELS = (
    ConstantVelocity(dims=2, q=0.25),
    PositionSensor(std=5.0, p_detect=0.9, clutter_intensity=100 / 4000**2),
)


class Kernel(NamedTuple):
    """What is timed: ours and the other, functions of one input each, and the inputs."""

    kernel: str
    of: str
    ours: Callable[[Any], Any]
    other: Callable[[Any], Any] | None
    called: str | None
    inputs: list[Any]
    other_inputs: int  # how many of the inputs the other is given: it may be slow


def kernels(seed: int = 0, repeats: int = REPEATS, tracks: int = TRACKS) -> list[Kernel]:
    """Everything that is timed.

    Args:
        seed:    of the inputs.
        repeats: number of matrices.
        tracks:  their number.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    ranked = [
        Kernel(
            f"k-best assignment, K = {K}",
            f"{n} x {m}",
            lambda cost: k_best(cost, K),
            lambda cost: naive.k_best(cost, K),
            "Murty over SciPy",
            [rng.random((n, m)) for _ in range(repeats)],
            max(repeats // (10 * n), 1),
        )
        for n, m in SIZES
    ]
    few = min(FEW, repeats)
    scenes = [scene_of(rng, tracks) for _ in range(few)]
    small = [pairs_of(scene_of(rng, max(tracks // 10, 1))) for _ in range(few)]
    return [
        *ranked,
        Kernel("Kalman predict + update", f"{tracks:,} tracks", kalman, naive.kalman, "einsum", scenes, few),
        Kernel(
            "gating",
            f"{tracks:,} tracks",
            gating,
            tree,
            "KD-tree",
            [(s, EKF().innovate(s.m, s.P, MODELS[1])) for s in scenes],
            few,
        ),
        Kernel(
            "belief propagation",
            f"{max(tracks // 10, 1):,} tracks",
            propagate,
            naive.belief,
            "NumPy",
            small,
            few,
        ),
    ]


class Tracks(NamedTuple):
    """Means (n, 4) and covariances (n, 4, 4) of tracks, measurements (m, 2), those of the tracks in front."""

    m: np.ndarray
    P: np.ndarray
    z: np.ndarray


def scene_of(rng: np.random.Generator, n: int) -> Tracks:
    """Tracks and measurements of one scan."""
    motion, sensor = MODELS
    side = 4000.0 * np.sqrt(n / 100)
    P = np.diag((25.0, 25.0, 25.0, 25.0))[None]
    for _ in range(10):  # to its steady state
        _, P = EKF().predict(np.zeros((1, 4)), P, motion, 1.0)
        P = EKF().innovate(np.zeros((1, 4)), P, sensor).P_post
    m = np.concatenate((rng.uniform(0, side, (n, 2)), rng.normal(0, 5, (n, 2))), axis=1)
    z = m[:, :2] + rng.normal(0, 6.0, (n, 2))
    clutter = rng.uniform(0, side, (n, 2))
    return Tracks(m, np.tile(P, (n, 1, 1)), np.concatenate((z, clutter)))


def kalman(tracks: Tracks):
    """Predict, and update every track with a measurement of its own."""
    motion, sensor = MODELS
    n = len(tracks.m)
    m, P = EKF().predict(tracks.m, tracks.P, motion, 1.0)
    innovation = EKF().innovate(m, P, sensor)
    nu = tracks.z[:n] - innovation.z_hat
    every = np.arange(n)
    pairs = Pairs(np.arange(n + 1), every, every, np.zeros(n), nu, n)
    return corrected(m, innovation.gain, pairs, every), innovation.P_post


def gating(case):
    """Gate the measurements of a scan."""
    tracks, innovation = case
    return gate(innovation, tracks.z, GATE)


def tree(case):
    """The same by a KD-tree."""
    tracks, innovation = case
    S = innovation.S
    return gated(innovation.z_hat, S, S[:, 0, 0] * S[:, 1, 1] - S[:, 0, 1] ** 2, tracks.z, GATE)


def pairs_of(tracks: Tracks):
    """Arguments of belief propagation: the pairs and their weights."""
    sensor = MODELS[1]
    innovation = EKF().innovate(tracks.m, tracks.P, sensor)
    pairs = gate(innovation, tracks.z, GATE)
    likelihood = np.exp(log_likelihood(innovation, pairs.nu, pairs.row))
    weight = 0.9 / 0.1 * likelihood / sensor.clutter(tracks.z[:1])[0]
    return pairs.offset, pairs.row, pairs.col, weight, len(tracks.z)


def propagate(case):
    """Marginal association probabilities."""
    offset, _, col, weight, m = case
    return belief(offset, col, weight, m)


def keep_memory() -> None:
    """Have the allocator keep the memory that it is given back, as in a filter that has run for a while.

    That of glibc returns what exceeds the largest array freed so far; to get it back, a page fault for each
    4 KB, takes as long as a Kalman update.
    """
    np.empty(KEPT, np.uint8)


def timed(kernel: Kernel) -> dict[str, Any]:
    """Median CPU times, ms, and quantiles of ours."""
    ours = _times(kernel.ours, kernel.inputs)
    other = _times(kernel.other, kernel.inputs[: kernel.other_inputs]) if kernel.other else None
    return {
        "kernel": kernel.kernel,
        "of": kernel.of,
        "ms": float(np.median(ours)),
        "p05": float(np.quantile(ours, 0.05)),
        "p95": float(np.quantile(ours, 0.95)),
        "inputs": len(ours),
        "other": kernel.called,
        "other_ms": None if other is None else float(np.median(other)),
        "other_inputs": kernel.other_inputs,
    }


def _times(function, inputs):
    function(inputs[0])  # compiles, and fills the caches
    found = []
    for each in inputs:
        start = time.process_time()
        function(each)
        found.append(1e3 * (time.process_time() - start))
    return np.array(found)


def main() -> None:
    """Time everything, in a process that was started with one thread; arguments: seed, repeats, tracks."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    keep_memory()
    found = []
    for kernel in kernels(*map(int, sys.argv[1:])):
        print(f"{kernel.kernel}, {kernel.of}", file=sys.stderr)
        found.append(timed(kernel))
    print(json.dumps(found), file=answer, flush=True)


if __name__ == "__main__":
    main()
