"""Time per scan from ten objects to ten thousand at constant density, and the exponent of its growth."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sims.plot import empty_figure, png
from sims.scenarios import Scenario
from sims.scenarios.scale import scale

OBJECTS = (10, 30, 100, 300, 1000, 3000, 10_000)
TRACKERS = ("pmbm", "lmb", "gnn", "plain")
SCANS = 30
FROM = 100  # objects; below, what a scan costs at all hides how the cost grows


def at_density(objects: int, scans: int | None = None) -> Scenario:
    """So many objects at the density, of objects and of clutter, of the scenario `large`.

    Args:
        objects: number at the first scan.
        scans:   number of scans; None: SCANS.
    """
    side = 4000.0 * np.sqrt(objects / 100)
    return scale("large", side=float(side), n0=objects, n_clutter=objects, n_scans=scans or SCANS)


def growth(objects: Sequence[float], ms: Sequence[float], start: float = 0) -> float | None:
    """Exponent a of ms = b objects ** a, by least squares of the logarithms.

    Args:
        objects: numbers of objects.
        ms:      times per scan.
        start:   numbers below are left out.
    Returns:
        The exponent; None for fewer than two different numbers.
    """
    points = [(n, t) for n, t in zip(objects, ms, strict=True) if n >= start]
    if len({n for n, _ in points}) < 2:
        return None
    x, y = np.log(np.array(points, float)).T
    return float(np.polyfit(x, y, 1)[0])


def document(
    found: dict[int, dict[str, dict[str, Any]]], trackers: Sequence[str], seed: int, runs: int
) -> dict[str, Any]:
    """The result, ready for `json.dumps`.

    Args:
        found:    objects -> tracker -> what `sims.bench.table.summary` says of it.
        trackers: names.
        seed, runs: of the scenes.
    """
    return {
        "about": "objects and clutter at the density of `large`: a field of 4 sqrt(n / 100) km, p_D = 0.9",
        "seed": seed,
        "runs": runs,
        "objects": list(found),
        "trackers": {
            name: {
                "sizes": {str(n): found[n][name] for n in found if name in found[n]},
                "exponent": _exponent(found, name, 0),
                f"exponent_from_{FROM}": _exponent(found, name, FROM),
            }
            for name in trackers
        },
    }


def _exponent(found, name, start):
    """Of the sizes at which all scans were done."""
    done = [
        (n, row[name]["cpu_ms_per_scan"]["median"])
        for n, row in found.items()
        if name in row and row[name]["finished"]
    ]
    return growth([n for n, _ in done], [t for _, t in done], start)


def plot(result: dict[str, Any]) -> bytes:
    """A PNG of time per scan over number of objects, both logarithmic.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure = empty_figure((7, 5))
    axes = figure.subplots()
    for name, row in result["trackers"].items():
        sizes = {int(n): s for n, s in row["sizes"].items() if s["finished"]}
        if not sizes:
            continue
        exponent = row[f"exponent_from_{FROM}"]
        label = name if exponent is None else f"{name}: n^{exponent:.2f} from {FROM} on"
        n = list(sizes)
        median = [s["cpu_ms_per_scan"]["median"] for s in sizes.values()]
        p95 = [s["cpu_ms_per_scan"]["p95"] for s in sizes.values()]
        (line,) = axes.loglog(n, median, "o-", label=label)
        axes.fill_between(n, median, p95, color=line.get_color(), alpha=0.15, linewidth=0)
    low, high = axes.get_ylim()
    ends = np.array(axes.get_xlim())
    anchor = low * 1.5 / ends[0]
    axes.loglog(ends, anchor * ends, ":", color="0.6", label="proportional to n")
    axes.set_ylim(low, high)
    axes.set_xlim(ends)
    axes.set(
        title="CPU time per scan on one thread: median, shaded to the 95th percentile",
        xlabel="objects",
        ylabel="ms",
    )
    axes.grid(True, which="both", color="0.92")
    axes.legend()
    return png(figure)
