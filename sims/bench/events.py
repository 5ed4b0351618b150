"""Speed of event representations, filters, files and the simulator, beside other packages.

A million events of a 346 x 260 sensor, uniform in place and time, half of them brighter; for files, all of
them written by us; for the simulator, 200 frames of a moving pattern at 1 kHz. Everyone takes turns, one
thread, CPU time, median over rounds. Building another package's own container is not counted; copying its
result to NumPy is. Packages that are not installed are left out.
"""

import datetime
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from perception.events import EventStream, read, write
from perception.events.filters import background_activity, refractory
from perception.events.represent import (
    event_stack,
    frames,
    spike_tensor,
    time_surface,
    voxel_grid,
    warped_image,
)
from sims.bench.kernels import keep_memory
from sims.camera import NOISY, PERFECT, EventCamera

ABOUT = "one million events, uniform in place and time, of a 346 x 260 sensor; one thread, CPU time"
WIDTH, HEIGHT = 346, 260
NUMBER, ROUNDS, SLOW = 1_000_000, 9, 2.0  # s: what takes longer is run once
BINS, FRAMES, TAU, WINDOW, PERIOD = 5, 10, 30_000, 10_000, 1_000
FILMED = 200  # frames
STREAMED = (5, 60)  # million events of files that are gone through piece by piece
SIZE = (WIDTH, HEIGHT)
PEERS = ("tonic", "eventcv", "dv_processing", "evlib", "expelliarmus", "faery", "aedat")

Work = Callable[[], Any]


def operations(
    number: int, filmed: int, folder: Path, peers: Sequence[str] = PEERS
) -> dict[str, dict[str, Work]]:
    """What is timed: for each operation, ours and the others' that are installed.

    Args:
        number: of events.
        filmed: frames that cameras are shown; their work returns the events that fell.
        folder: for files.
        peers:  other packages, of PEERS.
    """
    stream = uniform(number)
    found: dict[str, dict[str, Work]] = {
        f"voxel grid, {BINS} bins": {"ours": lambda: voxel_grid(stream, BINS)},
        f"frames, {FRAMES} bins": {"ours": lambda: frames(stream, FRAMES)},
        "time surface": {"ours": lambda: time_surface(stream, TAU)},
        f"event stack, {BINS} bins": {"ours": lambda: event_stack(stream, BINS)},
        "event spike tensor, 9 bins": {"ours": lambda: spike_tensor(stream, 9)},
        "image of warped events": {"ours": lambda: warped_image(stream, (20.0, -10.0))},
        "background activity": {"ours": lambda: background_activity(stream, WINDOW)},
        "refractory": {"ours": lambda: refractory(stream, PERIOD)},
    }
    peers = [name for name in peers if importlib.util.find_spec(name)]
    builders = {"tonic": _tonic, "eventcv": _eventcv, "dv_processing": _dv, "evlib": _evlib}
    for name in builders.keys() & set(peers):
        for operation, work in builders[name](stream).items():
            found[next(full for full in found if full.startswith(operation))][name] = work
    return found | _files(stream, folder, peers) | _simulators(filmed, peers)


def uniform(number: int, seed: int = 0) -> EventStream:
    """Events uniform in place and time, over one second."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 1_000_000, number))
    x, y = rng.integers(0, WIDTH, number), rng.integers(0, HEIGHT, number)
    return EventStream(x, y, t, rng.integers(0, 2, number), WIDTH, HEIGHT)


def _tonic(stream: EventStream) -> dict[str, Work]:
    from tonic import functional

    events = np.empty(len(stream), [("x", "<i8"), ("y", "<i8"), ("t", "<i8"), ("p", "<i8")])
    for name in "xytp":
        events[name] = getattr(stream, name)
    sensor = (WIDTH, HEIGHT, 2)
    span = int(stream.duration)
    return {
        "voxel": lambda: functional.to_voxel_grid_numpy(events.copy(), sensor, BINS),
        "frames": lambda: functional.to_frame_numpy(events, sensor, n_time_bins=FRAMES),
        "time surface": lambda: functional.to_timesurface_numpy(events, sensor, dt=span, tau=TAU),
        "background": lambda: functional.denoise_numpy(events, WINDOW),
        "refractory": lambda: functional.refractory_period_numpy(events, PERIOD),
    }


def _eventcv(stream: EventStream) -> dict[str, Work]:
    import eventcv

    columns = np.stack([getattr(stream, name).astype(np.int64) for name in "xytp"], 1)
    events = eventcv.from_numpy(columns, sensor_size=SIZE, time_unit="us")
    return {
        "voxel": lambda: events.voxel(bins=BINS).numpy(),
        "time surface": lambda: events.tsurf(tau_us=TAU).numpy(),
        "background": lambda: events.background_activity_filter(WINDOW),
        "refractory": lambda: events.refractory_filter(PERIOD),
    }


def _dv(stream: EventStream) -> dict[str, Work]:
    import dv_processing as dv

    store = dv.EventStore()
    for t, x, y, p in zip(*(getattr(stream, name).tolist() for name in "txyp")):
        store.push_back(t, x, y, p)

    def surface() -> Any:
        made = dv.TimeSurface((WIDTH, HEIGHT))
        made.accept(store)
        return made.generateFrame().image

    def background() -> Any:
        made = dv.noise.BackgroundActivityNoiseFilter(
            (WIDTH, HEIGHT), datetime.timedelta(microseconds=WINDOW)
        )
        made.accept(store)
        return made.generateEvents()

    return {"time surface": surface, "background": background}


def _evlib(stream: EventStream) -> dict[str, Work]:
    import evlib
    import polars

    events = polars.DataFrame(
        {
            "t": polars.Series(stream.t).cast(polars.Duration("us")),
            "x": stream.x.astype(np.int16),
            "y": stream.y.astype(np.int16),
            "polarity": stream.sign,
        }
    )
    return {
        "voxel": lambda: evlib.create_voxel_grid(events, HEIGHT, WIDTH, BINS),
        "frames": lambda: evlib.create_event_frame(events, HEIGHT, WIDTH, FRAMES),
    }


def _files(stream: EventStream, folder: Path, peers: Sequence[str]) -> dict[str, dict[str, Work]]:
    """Reading of files that are in the memory of the system."""
    found: dict[str, dict[str, Work]] = {}
    paths = {
        name: folder / f"events.{name}" for name in ("evt2.raw", "evt3.raw", "dat", "aedat4", "h5", "npz")
    }
    for name, path in paths.items():
        write(stream, path, **({"format": name[:4]} if name.endswith("raw") else {}))
        found[f"read {name}"] = {"ours": partial(read, path, size=SIZE)}
    if "expelliarmus" in peers:
        from expelliarmus import Wizard

        for name, encoding in (("evt2.raw", "evt2"), ("evt3.raw", "evt3"), ("dat", "dat")):
            found[f"read {name}"]["expelliarmus"] = partial(Wizard(encoding=encoding).read, str(paths[name]))
    if "aedat" in peers:
        import aedat

        def decode(path: Path = paths["aedat4"]) -> Any:
            return [packet["events"] for packet in aedat.Decoder(str(path)) if "events" in packet]

        found["read aedat4"]["aedat"] = decode
    if "eventcv" in peers:
        for name in ("evt2.raw", "evt3.raw", "dat", "aedat4"):
            found[f"read {name}"]["eventcv"] = partial(_loaded, str(paths[name]))
    return found


def _loaded(path: str) -> Any:
    import eventcv

    return eventcv.load(path).numpy()


def _simulators(filmed: int, peers: Sequence[str]) -> dict[str, dict[str, Work]]:
    """Cameras in front of a moving pattern; they return how many events fell."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = [
        np.sin(2 * np.pi * (x / 24 + 0.012 * k)) * np.sin(2 * np.pi * (y / 30 - 0.006 * k))
        for k in range(filmed)
    ]
    images = 0.5 + 0.4 * np.array(waves)
    film = [(1000 * k, np.log(image)) for k, image in enumerate(images)]
    found: dict[str, dict[str, Work]] = {
        "camera, perfect pixels": {"ours": lambda: EventCamera(WIDTH, HEIGHT, PERFECT).film(film).events},
        "camera, noisy pixels": {"ours": lambda: EventCamera(WIDTH, HEIGHT, NOISY).film(film).events},
    }
    if "eventcv" in peers:
        import eventcv

        coded = np.round(255 * images ** (1 / 2.2)).astype(np.uint8)  # it takes what a display would be sent
        perfect = {"sigma_thres": 0.0, "refractory_us": 0, "cutoff_hz": 0.0, "leak_rate_hz": 0.0}
        noisy = {"refractory_us": 500, "cutoff_hz": 200.0, "leak_rate_hz": 0.1, "shot_noise_rate_hz": 1.0}
        found["camera, perfect pixels"]["eventcv"] = lambda: eventcv.simulate(
            coded, fps=1000.0, shot_noise_rate_hz=0.0, **perfect
        ).numpy()
        found["camera, noisy pixels"]["eventcv"] = lambda: eventcv.simulate(
            coded, fps=1000.0, **noisy
        ).numpy()
    return found


def timed(work: dict[str, Work], number: int | None, rounds: int) -> dict[str, dict[str, float]]:
    """Median CPU time, ms, and million events a second of each; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in work}
    events = {name: len(each()) if number is None else number for name, each in work.items()}  # and compile
    for _ in range(rounds):
        for name, each in work.items():
            if times[name] and times[name][0] > SLOW:
                continue
            start = time.process_time()
            each()
            times[name].append(time.process_time() - start)
    found = {}
    for name, taken in times.items():
        median = float(np.median(taken))
        found[name] = {"ms": 1e3 * median, "mev_per_s": events[name] / median / 1e6, "events": events[name]}
    return found


def streamed(number: int, folder: Path) -> dict[str, float]:
    """Peak memory, MB, of a process that goes through a file of so many events, and the size of the file."""
    path = folder / f"{number}.raw"
    part = uniform(1_000_000)
    write((part.shift(k * 1_000_000) for k in range(number // 1_000_000)), path)
    code = (
        "import sys; from perception.events import chunks; "
        "n = sum(len(part) for part in chunks(sys.argv[1], 200_000)); "
        "status = dict(line.split(':', 1) for line in open('/proc/self/status')); "
        "print(n, int(status['VmHWM'].split()[0]) / 1024)"  # getrusage also knows of the parent's memory
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, check=True)
    seen, peak = done.stdout.split()
    found = {"events": int(seen), "file_mb": path.stat().st_size / 2**20, "peak_mb": float(peak)}
    path.unlink()
    return found


def versions() -> dict[str, str]:
    """Of the packages that are installed."""
    from importlib.metadata import version

    names = {name: name.replace("_", "-") for name in PEERS if importlib.util.find_spec(name)}
    return {name: version(package) for name, package in names.items()}


def main() -> None:
    """Time everything, in a process that was started with one thread; arguments: events, frames, rounds."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    keep_memory()
    number, filmed, rounds = map(int, sys.argv[1:])
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, work in operations(number, filmed, Path(folder)).items():
            print(name, file=sys.stderr)
            found[name] = timed(work, None if name.startswith("camera") else number, rounds)
        memory = [streamed(k * number, Path(folder)) for k in STREAMED]
    result = {"versions": versions(), "operations": found, "streaming": memory}
    print(json.dumps(result), file=answer, flush=True)


if __name__ == "__main__":
    main()
