"""What the measurements say, as a JSON document and as tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sims.bench.measure import Measured, finished
from sims.bench.scaling import FROM
from sims.scenarios import Scenario
from sims.table import difference, interval

BASELINE = "plain"
PARTS = ("gospa", "localisation", "missed", "false")

NOTES = (
    "Times are CPU time of a scan on one thread, the metric not counted; MB is the peak of the whole\n"
    "process, interpreter, libraries and scene included. Differences of GOSPA: paired, 95 % intervals."
)


def summary(measured: Sequence[Measured]) -> dict[str, Any]:
    """One tracker on the scenes of a scenario; errors are None unless all scans were done.

    Args:
        measured: what `sims.bench.child.measure` says of each scene.
    """
    cpu = 1e3 * np.concatenate([each["cpu"] for each in measured])
    done = finished(measured)
    gospa = np.array([each["gospa"] for each in measured if each["gospa"] is not None]).reshape(-1, 4)
    return {
        "finished": done,
        "scans_done": [len(each["cpu"]) for each in measured],
        "scans": [each["scans"] for each in measured],
        **{name: float(gospa[:, i].mean()) if done else None for i, name in enumerate(PARTS)},
        "ci95": interval(gospa[:, 0]) if done else None,  # of gospa
        "gospa_of_runs": [each["gospa"] and each["gospa"][0] for each in measured],
        "cpu_ms_per_scan": {
            "median": float(np.median(cpu)) if len(cpu) else None,
            "p95": float(np.quantile(cpu, 0.95)) if len(cpu) else None,
        },
        "peak_mb": max(each["peak_mb"] for each in measured),
        "settings": measured[0]["settings"],
    }


def scenario_document(problem: Scenario, found: dict[str, list[Measured]]) -> dict[str, Any]:
    """All trackers on a scenario, with ratios to the plain GNN, or where it was not run to the first."""
    rows = {name: summary(measured) for name, measured in found.items()}
    baseline = BASELINE if BASELINE in rows else next(iter(rows))
    for row in rows.values():
        row["ratio"] = {
            "to": baseline,
            "gospa": _ratio(row["gospa"], rows[baseline]["gospa"]),
            "gospa_minus": _difference(row, rows[baseline]),
            "cpu": _ratio(row["cpu_ms_per_scan"]["median"], rows[baseline]["cpu_ms_per_scan"]["median"]),
        }
    return {"about": problem.about, "trackers": rows}


def _difference(row, other):
    """Mean of the paired differences of GOSPA over the scenes, and its interval."""
    if not (row["finished"] and other["finished"]):
        return None
    return difference(np.array(row["gospa_of_runs"]), np.array(other["gospa_of_runs"]))


def _ratio(value, other):
    return value / other if value is not None and other else None


def show_scenario(name: str, result: dict[str, Any], console: Console, notes: bool = True) -> None:
    """Print the table of a scenario."""
    rows = result["trackers"]
    baseline = next(iter(rows.values()))["ratio"]["to"]
    runs = max(len(row["scans"]) for row in rows.values())
    scans = max(row["scans"][0] for row in rows.values())
    console.print(f"{name}: {result['about']}")
    console.print(f"{runs} run{'s' * (runs > 1)} of {scans} scans, trackers taking turns\n")
    table = _table(
        "", "GOSPA", f"/ {baseline}", f"minus {baseline}", "ms/scan", "p95", f"/ {baseline}", "MB", "scans"
    )
    for tracker, row in rows.items():
        cpu, ratio = row["cpu_ms_per_scan"], row["ratio"]
        table.add_row(
            tracker,
            number(row["gospa"]),
            number(ratio["gospa"], 4, 3),
            _signed(ratio["gospa_minus"]) if tracker != baseline else "",
            number(cpu["median"], 3),
            number(cpu["p95"], 3),
            number(ratio["cpu"], 3),
            f"{row['peak_mb']:.0f}",
            "all" if row["finished"] else f"{row['scans_done'][-1]} of {row['scans'][-1]}",
        )
    console.print(table)
    if notes:
        console.print(Text(NOTES, style="dim"))


def _signed(found):
    """A difference and half its interval."""
    if found is None:
        return "-"
    sign = "-" if found["gospa"] < 0 else "+"
    half = "" if found["ci95"] is None else f" +- {number((found['ci95'][1] - found['ci95'][0]) / 2, 3)}"
    return f"{sign}{number(abs(found['gospa']), 3)}{half}"


def show_scaling(result: dict[str, Any], console: Console) -> None:
    """Print time per scan by number of objects."""
    console.print(f"Scaling: {result['about']}")
    console.print(f"median CPU time per scan, ms; exponent a of n ** a, all sizes and from {FROM} on\n")
    sizes = [str(n) for n in result["objects"]]
    table = _table("", *(f"{int(n):,}" for n in sizes), "exponent", f"from {FROM}")
    for tracker, row in result["trackers"].items():
        cells = [_cell(row["sizes"].get(n)) for n in sizes]
        table.add_row(tracker, *cells, number(row["exponent"], 3), number(row[f"exponent_from_{FROM}"], 3))
    console.print(table)


def _cell(size):
    if size is None:
        return "-"
    return number(size["cpu_ms_per_scan"]["median"], 3) if size["finished"] else "cut off"


def show_kernels(result: dict[str, Any], console: Console) -> None:
    """Print the times of the parts."""
    console.print(f"Parts, median CPU time on one thread, ms ({result['about']})\n")
    table = _table("", "of", "ours", "other", "other is", "times")
    for row in result["kernels"]:
        table.add_row(
            row["kernel"],
            row["of"],
            number(row["ms"], 3),
            number(row["other_ms"], 3),
            row["other"] or "",
            number(_ratio(row["other_ms"], row["ms"]), 3),
        )
    console.print(table)


def show_threads(result: dict[str, Any], console: Console) -> None:
    """Print the times on one thread and on several."""
    console.print(f"Threads, median time of a scan on the wall, ms ({result['about']})\n")
    table = _table("objects", "1 thread", f"{result['threads']} threads", "times")
    for row in result["sizes"]:
        cells = (number(row[name], 3) for name in ("ms_one", "ms", "speed_up"))
        table.add_row(f"{row['objects']:,}", *cells)
    console.print(table)


def show_events(result: dict[str, Any], console: Console) -> None:
    """Print million events a second of everyone, and how many times as fast as the fastest other we are."""
    console.print(f"Million events a second, median ({result['about']})\n")
    operations = result["operations"]
    others = list(dict.fromkeys(name for row in operations.values() for name in row if name != "ours"))
    table = _table("", "ours", *others, "times")
    for name, row in operations.items():
        speed = {who: found["mev_per_s"] for who, found in row.items()}
        best = max((v for who, v in speed.items() if who != "ours"), default=None)
        cells = [number(speed.get(who), 3, 1) for who in ("ours", *others)]
        table.add_row(name, *cells, number(_ratio(speed["ours"], best), 3))
    console.print(table, "")
    for row in result["streaming"]:
        console.print(
            f"Going through {row['events']:,} events ({row['file_mb']:.0f} MB) by `chunks`: "
            f"{row['peak_mb']:.0f} MB at most"
        )
    console.print("Versions: " + ", ".join(f"{k} {v}" for k, v in result["versions"].items()))


def _table(first, *headings):
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column(first, no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def number(value: float | None, digits: int = 4, decimals: int = 2) -> str:
    """About so many significant digits, at most so many decimals more for each zero in front."""
    if value is None:
        return "-"
    if 0 < abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.{min(max(digits - len(str(int(abs(value)))), 0), decimals)}f}"
