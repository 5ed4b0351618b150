"""What a comparison found: a JSON document, and the table of it.

Every interval is a 95 % interval over runs by Student's t. Those of differences are paired: run i of two
trackers is the same scene. Where GOSPA is averaged as root mean square the intervals are those of the mean
square, taken through the root to first order.
"""

from typing import Any

import numpy as np
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text
from scipy.stats import t as student

from sims.evaluate import Scores, Settings
from sims.scenarios import Scenario

WIDTH = 108  # columns of the table
CONFIDENCE = 0.95
METRIC = ("gospa_c", "gospa_p", "ospa_c", "ospa_p", "metric_dims", "scored", "average")

Document = dict[str, Any]


def document(
    scenario: Scenario,
    scores: dict[str, list[Scores]],
    settings: Settings,
    seed: int,
    choice: dict[str, Any] | None = None,
) -> Document:
    """The result of a comparison, ready for `json.dumps`; what is not known is None.

    Args:
        scenario: what was run.
        scores:   of each tracker; the table compares the others with the first.
        settings: of each tracker.
        seed:     of the scenes.
        choice:   how thresholds were chosen, None if they were not.
    """
    first = next(iter(scores))
    influence = {name: _influence(scenario, runs) for name, runs in scores.items()}
    return {
        "scenario": scenario.name,
        "about": scenario.about,
        "seed": seed,
        "runs": len(scores[first]),
        "settings": {name: getattr(scenario, name) for name in METRIC} | {"threshold_choice": choice},
        "trackers": {
            name: _summary(scenario, scores[name])
            | {
                "ci95": interval(influence[name]),  # of gospa
                "differences": {
                    other: difference(influence[name], influence[other]) for other in scores if other != name
                },
                "settings": settings[name],
            }
            for name in scores
        },
    }


def interval(x: np.ndarray) -> list[float] | None:
    """Lower and upper end of the 95 % interval of the mean of x (n,); None for a single number."""
    if len(x) < 2:
        return None
    half = student.ppf((1 + CONFIDENCE) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return [float(x.mean() - half), float(x.mean() + half)]


def signed(x: np.ndarray, digits: int = 2) -> str:
    """The mean of differences x (n,) with its sign, and its 95 % interval: "+0.12 [+0.01, +0.23]"."""
    ends = interval(x)
    between = "" if ends is None else f" [{ends[0]:+.{digits}f}, {ends[1]:+.{digits}f}]"
    return f"{x.mean():+.{digits}f}{between}"


def difference(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Mean of x - y (n,) and its 95 % interval."""
    return {"gospa": float((x - y).mean()), "ci95": interval(x - y)}


def _influence(scenario, runs):
    """What each run contributes to the reported GOSPA (n,), which is their mean."""
    x = np.array([r.gospa[0] for r in runs])
    if scenario.average == "mean":
        return x
    root = np.sqrt(x.mean())
    return root + (x - x.mean()) / (2 * root) if root > 0 else x


def _summary(scenario, runs):
    gospa = np.mean([r.gospa for r in runs], axis=0)
    total, localisation, missed, false = np.sqrt(gospa) if scenario.average == "rms" else gospa
    cpu = 1e3 * np.concatenate([r.cpu[r.asked] for r in runs])
    return {
        "gospa": float(total),
        "localisation": float(localisation),
        "missed": float(missed),
        "false": float(false),
        "ospa": _mean(runs, "ospa"),
        "ospa2": _mean(runs, "ospa2"),
        "cardinality": {name: _mean(runs, name) for name in ("expected", "reported", "true")},
        "cpu_ms_per_scan": {"median": float(np.median(cpu)), "p95": float(np.quantile(cpu, 0.95))},
    }


def _mean(runs, name):
    value = float(np.mean([getattr(r, name) for r in runs]))
    return None if np.isnan(value) else value


def show(result: Document, console: Console) -> None:
    """Print a document as a table."""
    pm = "±" if "utf" in console.encoding.lower() else "+-"
    console.print(f"{result['scenario']}: {result['about']}")
    console.print(_header(result))
    console.print()
    table = _table(result, pm)
    if not console.is_terminal:  # rather wide than cut
        needed = Measurement.get(console, console.options.update_width(10 * WIDTH), table).maximum
        console.width = max(console.width, needed)
    console.print(table)
    console.print(Text(_footnote(result, pm), style="dim"))


def wide_console(file=None) -> Console:
    """A console that neither cuts the table nor colours what is piped on."""
    made = Console(file=file, highlight=False, markup=False, emoji=False)
    made.width = max(made.width, WIDTH) if made.is_terminal else WIDTH
    return made


def _header(result):
    s = result["settings"]
    scans = "the last scan" if s["scored"] == "last" else "all scans"
    runs = f"{result['runs']} run{'s' if result['runs'] > 1 else ''}"
    return (
        f"{runs} of seed {result['seed']}; GOSPA: c = {s['gospa_c']:g}, p = {s['gospa_p']:g}, "
        f"{s['average']} over runs and {scans}; OSPA: c = {s['ospa_c']:g}, p = {s['ospa_p']:g}, mean"
    )


def _table(result, pm):
    first = next(iter(result["trackers"]))
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column("", no_wrap=True)
    for heading in (
        "GOSPA",
        "local.",
        "missed",
        "false",
        "OSPA",
        "OSPA(2)",
        "n est/true",
        "ms/scan",
        "p95",
        f"minus {first}",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, row in result["trackers"].items():
        objects, cpu = row["cardinality"], row["cpu_ms_per_scan"]
        table.add_row(
            name,
            _with_half(row["gospa"], row["ci95"], pm),
            *(number(row[part]) for part in ("localisation", "missed", "false", "ospa", "ospa2")),
            f"{number(objects['expected'], 3)}/{number(objects['true'], 3)}",
            number(cpu["median"], 3),
            number(cpu["p95"], 3),
            paired(row["differences"][first]) if name != first else "",
        )
    return table


def _footnote(result, pm):
    several = result["runs"] > 1
    notes = []
    if several:
        notes.append(f"{pm} and [ ]: 95 % intervals over runs, of the difference paired; below 0 is better.")
    notes.append(
        "n est: expected objects, seen or not. ms/scan: CPU time of an answer on one thread, median and p95."
    )
    choice = result["settings"]["threshold_choice"]
    if choice:
        chosen = ", ".join(f"{name} {t:g}" for name, t in choice["thresholds"].items())
        notes.append(f"Thresholds chosen on {choice['runs']} scenes of seed {choice['seed']}: {chosen}.")
    return "\n".join(notes)


def _with_half(value, ends, pm):
    return number(value) if ends is None else f"{number(value)} {pm} {number((ends[1] - ends[0]) / 2, 3)}"


def paired(found: dict[str, Any]) -> str:
    """A `difference` as text: "+0.12 [+0.01, +0.23]"."""
    value = _signed(found["gospa"])
    ends = found["ci95"]
    return value if ends is None else f"{value} [{_signed(ends[0])}, {_signed(ends[1])}]"


def _signed(value):
    text = number(abs(value), 3)
    return text if float(text) == 0 else ("-" if value < 0 else "+") + text


def number(value: float | None, digits: int = 4) -> str:
    """About so many significant digits, at most two decimals, and none lost before the point."""
    if value is None:
        return "-"
    whole = len(str(int(abs(value))))
    return f"{value:.{min(max(digits - whole, 0), 2)}f}"
