"""Track recordings and print how well: `python -m sims.compare --recording kitti|mot|csv PATH ...`.

Every tracker is given the same detections, models and evidence of scores, one scan after the other; labels
serve the evaluation alone.
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from rich.table import Table

from sims.recordings import Recording, csv, kitti, mot
from sims.recordings.names import OF_ALL
from sims.trackers import FILTERS
from tracking.confidence import Confidence
from tracking.formats.detections import Detections
from tracking.formats.scans import scans_of
from tracking.metrics.detection import import_trackeval
from tracking.replay import follow
from tracking.tracks import Tracks

WARM_UP_SCANS = 10
FORMATS = {"kitti": kitti, "mot": mot, "csv": csv}
HEADINGS = {
    "hota": "HOTA",
    "mota": "MOTA",
    "idf1": "IDF1",
    "id_switches": "IDSW",
    "gospa": "GOSPA",
    "gospa_dc": "GOSPA dc",
    "gospa_3d": "GOSPA 3-D",
}


@dataclass(frozen=True)
class Tracked:
    """One tracker on one recording: result rows, and CPU time (T,) of every step, s."""

    rows: Detections
    cpu: np.ndarray


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of a recording."""
    group = parser.add_argument_group("recordings", "instead of a scenario")
    add = group.add_argument
    add("--recording", nargs="+", metavar=("FORMAT", "PATH"), help="kitti, mot or csv, and files or folders")
    add(
        "--class",
        dest="object_class",
        default="Car",
        metavar="NAME",
        help="kitti: Car, Pedestrian or Cyclist",
    )
    add("--labels", metavar="PATH", help="kitti: folder of labels; mot: ground truth; csv: its own column id")
    add(
        "--results", type=_folder, metavar="DIR", help="write what each tracker found to DIR/TRACKER/SEQUENCE"
    )
    add("--frame-rate", type=float, default=25.0, metavar="HZ", help="mot; default: 25")
    for field in fields(csv.Options):
        name = "--" + field.name.replace("_", "-")
        add(name, type=float, default=field.default, metavar="X", help=f"csv; default: {field.default}")


def _folder(text):
    if os.path.lexists(text) and not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text} is not a folder, name one that is there or can be made")
    return text


def load(args: argparse.Namespace) -> list[Recording]:
    """The recordings that the command line names.

    Raises:
        ValueError: an unknown format, no path, or something wrong in a file.
        OSError: a file cannot be read.
    """
    name, *paths = args.recording
    if name not in FORMATS or not paths:
        raise ValueError(
            f"--recording wants a format of {', '.join(FORMATS)} and a path, got {' '.join(args.recording)}"
        )
    if args.labels and name == "csv":
        raise ValueError("--labels goes with kitti and mot; the labels of csv are its own column id")
    if name == "kitti":
        return kitti.load(paths, args.object_class, args.labels)
    if name == "mot":
        if args.labels and len(paths) > 1:
            raise ValueError(f"--labels is of one recording, got {len(paths)} of them")
        return mot.load(paths, args.frame_rate, args.labels)
    return csv.load(paths, csv.Options(**{f.name: getattr(args, f.name) for f in fields(csv.Options)}))


def track(tracker: str, recording: Recording, rows: Callable[..., Detections]) -> Tracked:
    """Run a tracker over a recording, one scan after the other."""
    scans, cpu = tracked(tracker, recording)
    return Tracked(rows(scans, recording), cpu)


def tracked(tracker: str, recording: Recording) -> tuple[list[Tracks], np.ndarray]:
    """What a tracker reports in each scan, and the CPU time (T,) of each, s."""
    kind = FILTERS[tracker]
    online = kind(**recording.models, config=kind.Config(gate=recording.gate))
    sure = Confidence(recording.class_model, prior=recording.class_prior) if recording.class_model else None
    seen = recording.detections
    if recording.clutter_ratio is not None:
        seen = replace(seen, extra={**seen.extra, "clutter_ratio": recording.clutter_ratio})
    steps = list(follow(online, scans_of(seen), lambda scan: scan.extra.get("clutter_ratio"), sure))
    return [each.tracks for each in steps], np.array([each.cpu for each in steps])


def warm_up(tracker: str, recording: Recording) -> None:
    """Compile what a tracker needs, so that it is not timed."""
    online = FILTERS[tracker](**recording.models)
    for k, (now, z) in enumerate(recording.detections):
        online.step(z, now)
        if k == WARM_UP_SCANS:
            return


def evaluate(
    module, recordings: list[Recording], trackers: list[str], jobs: int, advance: Callable[[], Any]
) -> dict[str, dict[str, Tracked]]:
    """Every tracker on every recording, in `jobs` processes; the numbers do not depend on them."""
    pairs = [(name, recording) for name in trackers for recording in recordings]
    if jobs == 1:
        runs = (track(name, recording, module.rows) for name, recording in pairs)
    else:
        from joblib import Parallel, delayed

        runs = Parallel(n_jobs=jobs, return_as="generator")(
            delayed(track)(*pair, module.rows) for pair in pairs
        )
    found: dict[str, dict[str, Tracked]] = {name: {} for name in trackers}
    for (name, recording), run in zip(pairs, runs):
        found[name][recording.name] = run
        advance()
    return found


def document(
    module, args, recordings: list[Recording], found: dict[str, dict[str, Tracked]]
) -> dict[str, Any]:
    """The result, ready for `json.dumps`: scores and CPU time by tracker and sequence."""
    return {
        "recording": args.recording[0],
        "class": recordings[0].cls,
        "frames": sum(len(r.detections) for r in recordings),
        "trackers": {name: _scores(module, runs, recordings) for name, runs in found.items()},
    }


def _scores(module, runs, recordings):
    scores = module.score({name: run.rows for name, run in runs.items()}, recordings)
    for name in [r.name for r in recordings if r.name not in scores]:
        scores[name] = {}  # without labels there is the time alone
    for sequence, row in scores.items():
        cpu = 1e3 * np.concatenate([run.cpu for name, run in runs.items() if sequence in (OF_ALL, name)])
        row["cpu_ms_per_scan"] = {"median": float(np.median(cpu)), "p95": float(np.quantile(cpu, 0.95))}
    return scores


def require_scorer(args: argparse.Namespace, recordings: list[Recording]) -> None:
    """Raise ImportError, before hours of tracking, if the library is missing that is to score it."""
    unscored = (
        args.recording[0] == "kitti" and args.object_class == "Cyclist"
    )  # not in the benchmark's library
    if not unscored and any(r.truth is not None for r in recordings):
        import_trackeval()


def make_folders(trackers: list[str], folder: Path) -> None:
    """Make DIR/TRACKER for the results, and see that files can be written there.

    Raises:
        OSError: a folder cannot be made or written to.
    """
    for tracker in trackers:
        (folder / tracker).mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder / tracker):
            pass


def write_results(module, found: dict[str, dict[str, Tracked]], folder: Path) -> None:
    """Write DIR/TRACKER/SEQUENCE.txt (or .csv), each file as a whole or not at all."""
    for tracker, runs in found.items():
        for sequence, run in runs.items():
            module.write(folder / tracker / f"{sequence}{module.SUFFIX}", run.rows)


def show(result: dict[str, Any], console) -> None:
    """Print the result as a table; with several sequences those of the first tracker come first."""
    kind = f" {result['class']}" if result["class"] else ""
    console.print(f"{result['recording']}{kind}: {result['frames']} scans, tracked online\n")
    rows = [(name, seq, row) for name, scores in result["trackers"].items() for seq, row in scores.items()]
    columns = [key for key in HEADINGS if any(key in row for _, _, row in rows)]
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for heading in ("", "sequence"):
        table.add_column(heading, no_wrap=True)
    for heading in [*(HEADINGS[key] for key in columns), "ms/scan", "p95"]:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, sequence, row in rows:
        cpu = row["cpu_ms_per_scan"]
        values = [text(key, row.get(key)) for key in columns]
        table.add_row(name, sequence, *values, f"{cpu['median']:.2f}", f"{cpu['p95']:.2f}")
    console.print(table)


def text(key: str, value: float | None) -> str:
    """A score as the table shows it."""
    if value is None:
        return "-"
    return (
        str(value) if key == "id_switches" else f"{value:.3f}" if key.startswith("gospa") else f"{value:.2f}"
    )
