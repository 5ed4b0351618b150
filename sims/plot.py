"""Draw what a tracker made of a scene: `python -m sims.plot --tracker pmbm --out crossing.png`.

Grey dots are measurements, thin lines the truth, coloured lines the reported tracks, one colour a label.
"""

import argparse
import io
import sys
from collections.abc import Sequence

import numpy as np

from sims.evaluate import scene_of, track
from sims.scenarios import Scenario, scenario
from sims.targets import Scene
from sims.trackers import TRACKERS, settings_of
from tracking.formats.files import atomic_write
from tracking.metrics import gospa
from tracking.tracks import Tracks, Trajectories


def draw(problem: Scenario, scene: Scene, tracks: list[Tracks], title: str) -> bytes:
    """A PNG of positions in the plane, and of GOSPA and its parts over time.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure = empty_figure((11, 5))
    plane, time = figure.subplots(1, 2, width_ratios=(1.2, 1))
    _plane(plane, problem, scene, tracks, title)
    _errors(time, problem, scene, tracks)
    return png(figure)


def empty_figure(size: tuple[float, float]):
    """A matplotlib figure of a size, inches, that no window system is asked for.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("pictures need the viz extra: pip install '.[viz]'") from None
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure) -> bytes:
    """A figure as the content of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def _plane(axes, problem, scene, tracks, title):
    if problem.sensor.dim_z == 2 and not problem.sensor.angles:
        z = np.concatenate(scene.scans)
        axes.plot(z[:, 0], z[:, 1], ".", color="0.8", markersize=3, label="measurements")
    for i, states in enumerate(scene.truth.states):
        axes.plot(states[:, 0], states[:, 1], color="0.35", linewidth=0.8, label="truth" if i == 0 else None)
    for i, states in enumerate(Trajectories.from_tracks(tracks).states):
        axes.plot(states[:, 0], states[:, 1], color=f"C{i % 10}", linewidth=2.2, alpha=0.8, zorder=3)
    axes.set(title=title, xlabel="x (m)", ylabel="y (m)", aspect="equal")
    axes.legend(loc="upper right", fontsize=8)


def _errors(axes, problem, scene, tracks):
    d, c, p = problem.metric_dims, problem.gospa_c, problem.gospa_p
    errors = [gospa(scene.truth.at(k)[:, :d], t.mean[:, :d], c, p) for k, t in enumerate(tracks)]
    parts = np.array([(e.localisation, e.missed, e.false) for e in errors]).T
    unit = "m" if p == 1 else f"m^{p:g}"
    axes.stackplot(
        scene.time, parts, labels=("localisation", "missed", "false"), colors=("C0", "C1", "C3"), alpha=0.8
    )
    axes.set(title=f"GOSPA^p (c = {c:g} m, p = {p:g})", xlabel="time (s)", ylabel=unit)
    axes.legend(loc="upper right", fontsize=8)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m sims.plot", description=__doc__.splitlines()[0])
    parser.add_argument("--scenario", default="crossing", metavar="NAME")
    parser.add_argument("--tracker", default="pmbm", choices=list(TRACKERS))
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--out", required=True, metavar="FILE.png")
    args = parser.parse_args(argv)
    try:
        problem = scenario(args.scenario)
        scene = scene_of(problem, args.seed, 0)
        tracker = TRACKERS[args.tracker](problem, **settings_of(problem, args.tracker))
        picture = draw(problem, scene, track(tracker, scene).tracks, f"{args.tracker} on {problem.name}")
        with atomic_write(args.out, binary=True) as file:
            file.write(picture)
    except (ValueError, OSError, ImportError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
