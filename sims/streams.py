"""What late and lost messages cost: sensors at 10, 25 and 3 Hz, over a link that is not perfect.

    python -m sims.streams --objects 1000 --seconds 10 --tracker gnn

The same messages are filtered three times: all of them, in order, as they were made ("in order"); as they
arrive, some late and some not at all, by `tracking.Late` ("late"); and as they arrive, with those that are
late thrown away ("thrown away"). Each is scored at 10 Hz by what it has reported by then, moved on to that
moment by its own velocity, against the truth of the moment, so being late costs in itself.
"""

import argparse
import json
import sys
import time as clock
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sims.trackers import FILTERS
from tracking.filters.tracker import Tracker
from tracking.late import Late
from tracking.metrics import gospa
from tracking.models import ConstantVelocity, PositionSensor, Survival, UniformBirth
from tracking.models.sensor import Sensor
from tracking.program import Parser, output, positive, run, write_json

ROOM = 1e4  # m^2 for each object
SPEED, Q = 8.0, 0.5  # m/s, m^2/s^3
LIFE = 0.99  # probability to survive one second
C = 10.0  # cut-off of the metric, m
RATE = 10.0  # Hz, of scores
WARM_UP = 1.0  # s that are not scored


class Message(NamedTuple):
    """A scan: when it was made and when it arrives, s (infinite: never), its sensor and measurements."""

    time: float
    arrival: float
    sensor: Sensor
    z: np.ndarray


@dataclass(frozen=True)
class Half:
    """Detection probability of a sensor that sees positions of x below an edge (m) only."""

    probability: float
    edge: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.where(x[:, 0] < self.edge, self.probability, 0.0)


@dataclass(frozen=True)
class Link:
    """How messages travel: these shares of them take up to `delay` s, or do not arrive."""

    late: float = 0.05
    lost: float = 0.02
    delay: float = 0.3


@dataclass(frozen=True)
class World:
    """Objects in a square, and sensors that differ in rate, in what they see and in how well.

    Args:
        objects: expected number, as many are born as die.
    """

    objects: int

    @property
    def side(self) -> float:
        return float(np.sqrt(ROOM * self.objects))

    @property
    def sensors(self) -> tuple[tuple[float, Sensor], ...]:
        """Rates in Hz and sensors: a radar, a camera that sees a half, and a precise scanner."""
        per = self.objects / self.side**2  # m^-2, of one object
        return (
            (10.0, PositionSensor(std=2.0, p_detect=0.9, clutter_intensity=0.1 * per)),
            (25.0, PositionSensor(std=3.0, p_detect=Half(0.8, self.side / 2), clutter_intensity=0.05 * per)),
            (3.0, PositionSensor(std=0.5, p_detect=0.95, clutter_intensity=0.02 * per)),
        )

    def tracker(self, kind: type[Tracker]) -> Tracker:
        """A filter that knows this world."""
        corners = {"lower": (0.0, 0.0), "upper": (self.side, self.side)}
        birth = UniformBirth(self.objects * -np.log(LIFE), rest_std=SPEED, **corners)
        initial = UniformBirth(self.objects, rest_std=SPEED, **corners)
        return kind(
            ConstantVelocity(dims=2, q=Q),
            self.sensors[0][1],
            birth,
            Survival(LIFE, corners["lower"], corners["upper"]),
            initial=initial,
        )


def simulate(world: World, link: Link, seconds: float, rng: np.random.Generator):
    """Messages by the time they were made, and the truth (n, 4) at every time of scoring, as pairs."""
    ticks = [(t, i) for i, (rate, _) in enumerate(world.sensors) for t in np.arange(0, seconds, 1 / rate)]
    ticks += [(t, -1) for t in np.arange(0, seconds, 1 / RATE)]
    motion, x, now = ConstantVelocity(dims=2, q=Q), _appear(world, world.objects, rng), 0.0
    messages, truth = [], []
    for time, i in sorted(ticks, key=lambda tick: tick[0]):
        if time > now:
            x = _moved(world, x, motion, time - now, rng)
            now = time
        if i < 0:
            truth.append((time, x))
        else:
            sensor = world.sensors[i][1]
            messages.append(Message(time, time, sensor, _measured(world, sensor, x, rng)))
    delays = _delays(link, len(messages), rng)
    return [m._replace(arrival=m.time + delay) for m, delay in zip(messages, delays)], truth


def _appear(world, n, rng):
    return np.concatenate((rng.uniform(0, world.side, (n, 2)), rng.normal(0, SPEED, (n, 2))), axis=1)


def _moved(world, x, motion, dt, rng):
    x = motion.transition(x, dt) + rng.normal(size=x.shape) @ np.linalg.cholesky(motion.noise(x, dt)).T
    inside = ((x[:, :2] > 0) & (x[:, :2] < world.side)).all(axis=1)
    alive = x[inside & (rng.random(len(x)) < LIFE**dt)]
    return np.concatenate((alive, _appear(world, rng.poisson(-np.log(LIFE) * world.objects * dt), rng)))


def _measured(world, sensor, x, rng):
    seen = x[rng.random(len(x)) < sensor.detection(x), :2]
    z = seen + rng.normal(size=seen.shape) @ np.sqrt(sensor.noise(seen))
    clutter = float(sensor.clutter(np.zeros((1, 2)))[0]) * world.side**2
    return rng.permutation(np.concatenate((z, rng.uniform(0, world.side, (rng.poisson(clutter), 2)))))


def _delays(link, n, rng):
    """Of n messages, s: exactly the shares of the link are late or lost, whichever they are."""
    delay, order = np.zeros(n), rng.permutation(n)
    lost, late = round(link.lost * n), round(link.late * n)
    delay[order[:lost]] = np.inf
    delay[order[lost : lost + late]] = rng.uniform(0.01, link.delay, late)
    return delay


def scores(step: Callable, arrivals: list[tuple[float, Message]], truth) -> tuple[np.ndarray, float]:
    """GOSPA (T,) at the times of scoring after the warm-up, m, and seconds of CPU.

    Args:
        step:     takes a message, gives tracks.
        arrivals: messages and when they come, in that order.
        truth:    pairs of a time and the states then.
    """
    tracks, errors, start, spent = None, [], 0, 0.0
    for time, x in truth:
        began = clock.process_time()
        while start < len(arrivals) and arrivals[start][0] <= time:
            tracks = step(arrivals[start][1])
            start += 1
        spent += clock.process_time() - began
        if time >= WARM_UP:
            told = np.zeros((0, 2)) if tracks is None else _at(tracks, time)
            errors.append(gospa(x[:, :2], told, c=C, p=2.0).total)
    return np.array(errors), spent


def _at(tracks, time):
    """Positions (n, 2) at a later time, as whoever uses tracks would take them."""
    return tracks.mean[:, :2] + (time - tracks.time) * tracks.mean[:, 2:]


def study(world: World, link: Link, kind: type[Tracker], seconds: float, seed: int) -> dict:
    """The three runs: mean GOSPA, its ratio to that in order, CPU; and what happened to the messages."""
    messages, truth = simulate(world, link, seconds, np.random.default_rng(seed))
    in_order = [(m.time, m) for m in messages]
    arriving = sorted(((m.arrival, m) for m in messages if m.arrival < np.inf), key=lambda pair: pair[0])
    plain, careless, late = (
        world.tracker(kind),
        world.tracker(kind),
        Late(world.tracker(kind), lag=link.delay),
    )
    thrown = _Thrown(careless)
    runs = {
        "in order": scores(lambda m: plain.step(m.z, m.time, sensor=m.sensor), in_order, truth),
        "late": scores(lambda m: late.step(m.z, m.time, sensor=m.sensor), arriving, truth),
        "thrown away": scores(thrown.step, arriving, truth),
    }
    reference = runs["in order"][0].mean()
    return {
        "objects": world.objects,
        "seconds": seconds,
        "seed": seed,
        "messages": len(messages),
        "lost": len(messages) - len(arriving),
        "late": sum(1 for m in messages if m.time < m.arrival < np.inf),
        "steps_repeated": late.repeated,
        "too_late": late.dropped,
        "runs": {
            name: {"gospa": float(e.mean()), "ratio": float(e.mean() / reference), "cpu_s": spent}
            for name, (e, spent) in runs.items()
        },
    }


class _Thrown:
    """A tracker that takes no scan from before its last one."""

    def __init__(self, tracker):
        self.tracker, self.tracks = tracker, None

    def step(self, m: Message):
        if self.tracker.time is None or m.time >= self.tracker.time:
            self.tracks = self.tracker.step(m.z, m.time, sensor=m.sensor)
        return self.tracks


def main(arguments: list[str] | None = None) -> int:
    """Run the program; its exit status."""
    parser = Parser("python -m sims.streams", __doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--objects", type=positive, default=1000, metavar="N")
    parser.add_argument("--seconds", type=positive, default=4, metavar="S", help="of the stream")
    parser.add_argument("--tracker", choices=sorted(FILTERS), default="gnn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=output, metavar="FILE", help="write the result there too")
    args = parser.parse_args(arguments)

    def work():
        found = study(World(args.objects), Link(), FILTERS[args.tracker], args.seconds, args.seed)
        print(json.dumps(found, indent=1))
        if args.json is not None:
            write_json(args.json, found)

    return run(parser.prog, work)


if __name__ == "__main__":
    sys.exit(main())
