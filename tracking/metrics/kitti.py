"""Scores of KITTI tracking results: the benchmark's 2-D box scores, and GOSPA in the ground plane.

    labels = {"0003": kitti.read_labels("label_02/0003.txt")}     # tracking.formats.kitti
    results = {"0003": kitti.read_results("results/0003.txt")}
    boxes = kitti_2d(results, labels, "Car")                       # needs the extra `eval`
    ground = kitti_ground(results, labels, "Car", c=4.0)
    overall = combine(boxes.values()), combine_ground(ground.values())

Instead of `Detections`, a sequence may be the text of such a file, its columns split by white space:

    frame id class truncated occluded alpha x1 y1 x2 y2 h w l x y z rotation_y [score]

with frames from 0, boxes in px, x, y, z in m in the camera frame (x right, y down, z forward).

Source: Geiger, Lenz, Urtasun (CVPR 2012), the benchmark; its rules as in trackeval's Kitti2DBox.
"""

import contextlib
import io
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

import numpy as np

from tracking.formats.detections import Detections
from tracking.formats.files import MAX_SCANS
from tracking.formats.results import require_extra, require_ids
from tracking.metrics.detection import TrackingScores, area, evaluate, import_trackeval, intersection
from tracking.metrics.matching import match_points
from tracking.metrics.sets import as_cutoff

NEIGHBOUR = {"Car": "Van", "Pedestrian": "Person", "Cyclist": ""}  # neither right nor wrong to report
REGION = "DontCare"  # a box in which objects have no labels
MAX_OCCLUDED, MAX_TRUNCATED = 2, 0  # truth beyond these need not be found
MIN_HEIGHT = 25.0  # px; estimates no higher need not be right
MEANS = 7  # fields of GroundScores that are means per frame


@dataclass(frozen=True)
class GroundScores:
    """GOSPA (alpha = 2) in the ground plane (x, z) of one sequence or of several combined.

    Means per frame, m; parts at power p (with p = 1: gospa = localisation + missed + false):
        gospa, localisation, missed, false: strict, every truth of the class and every estimate counts.
        gospa_dc, missed_dc, false_dc: lenient, with the same assignment. Forgiven are an unassigned truth
        that is truncated or heavily occluded, and an unassigned estimate that is small, lies more than half
        in a DontCare region, or stands within c / 2 of an object of the neighbouring class.
    Counts:
        frames, truths, estimates, matches, misses, falses, misses_dc, falses_dc; switches: how often a
        truth is assigned another estimate than when it was last assigned.
    """

    gospa: float
    localisation: float
    missed: float
    false: float
    gospa_dc: float
    missed_dc: float
    false_dc: float
    frames: int
    truths: int
    estimates: int
    matches: int
    misses: int
    falses: int
    misses_dc: int
    falses_dc: int
    switches: int


def kitti_2d(
    results: Mapping[str, Detections | str], labels: Mapping[str, Detections | str], cls: str = "Car"
) -> dict[str, TrackingScores]:
    """CLEAR MOT, identity and HOTA scores of boxes under KITTI's rules, computed by trackeval.

    Vans (sitting persons) and truth that is truncated or heavily occluded neither need to be found nor
    count as false; unmatched estimates that are small or in DontCare regions are dropped.

    Args:
        results: rows of each sequence; "" for one without estimates. Other classes are left out.
        labels:  rows of the same sequences. Text ends with its last frame; `Detections` say how many.
        cls:     "Car" or "Pedestrian".
    Returns:
        TrackingScores of each sequence; `combine` joins them.
    Raises:
        ValueError:  other sequences, malformed rows, an id twice in a frame, or a frame beyond the labels.
        ImportError: trackeval is not installed.
    Source: Geiger, Lenz, Urtasun (CVPR 2012); Luiten et al. (IJCV 2021).
    """
    if cls not in ("Car", "Pedestrian"):
        raise ValueError(f'cls must be "Car" or "Pedestrian", the classes with 2-D rules, got {cls!r}')
    trackeval = import_trackeval()
    sequences = _sequences(results, labels, cls)
    # trackeval reads its data from files, and tells stdout what it does.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        _write(Path(folder), sequences.values(), cls)
        dataset = trackeval.datasets.Kitti2DBox(
            {
                "GT_FOLDER": folder,
                "TRACKERS_FOLDER": folder,
                "OUTPUT_FOLDER": folder,
                "TRACKERS_TO_EVAL": ["results"],
                "CLASSES_TO_EVAL": [cls.lower()],
                "SPLIT_TO_EVAL": "all",
                "PRINT_CONFIG": False,
            }
        )
        scores = {}
        for i, name in enumerate(sequences):
            raw = dataset.get_raw_seq_data("results", _file_name(i))
            scores[name] = evaluate(dataset.get_preprocessed_seq_data(raw, cls.lower()), threshold=0.5)
    return scores


def kitti_ground(
    results: Mapping[str, Detections | str],
    labels: Mapping[str, Detections | str],
    cls: str = "Car",
    c: float = 4.0,
    p: float = 1.0,
) -> dict[str, GroundScores]:
    """GOSPA between estimates and labels in the ground plane of the camera, strict and lenient.

    Args:
        results: rows of each sequence; "" for one without estimates. Other classes are left out.
        labels:  rows of the same sequences. Text ends with its last frame; `Detections` say how many.
        cls:     "Car", "Pedestrian" or "Cyclist".
        c:       cut-off distance, m.
        p:       order >= 1.
    Returns:
        GroundScores of each sequence; `combine_ground` joins them.
    Raises:
        ValueError: other sequences, malformed rows, an id twice in a frame, or a frame beyond the labels.
    Source: Rahmathullah, Garcia-Fernandez, Svensson (FUSION 2017); what is forgiven follows KITTI's rules.
    """
    c, p = as_cutoff(c, p)
    if cls not in NEIGHBOUR:
        raise ValueError(f"cls must be one of {', '.join(NEIGHBOUR)}, got {cls!r}")
    sequences = _sequences(results, labels, cls)
    return {name: _ground(truth, found, cls, c, p) for name, (truth, found) in sequences.items()}


def combine_ground(sequences: Iterable[GroundScores]) -> GroundScores:
    """Scores of several sequences together: means over all their frames, sums of counts."""
    table = np.array([astuple(s) for s in sequences], float)
    if not len(table):
        raise ValueError("give the scores of at least one sequence, got none")
    table[:, :MEANS] *= table[:, MEANS, None]  # the first count is that of frames
    return _from_totals(table.sum(axis=0))


def _ground(truth, found, cls, c, p):
    """GroundScores of one sequence."""
    objects, beside, regions = (_of_class(truth, kind) for kind in (cls, NEIGHBOUR[cls], REGION))
    clear = objects.extra["occluded"] <= MAX_OCCLUDED
    clear &= objects.extra["truncated"] <= MAX_TRUNCATED
    last = {}  # id of a truth -> id of the estimate it was last assigned
    total = np.zeros(len(fields(GroundScores)))
    for t in range(len(truth)):
        here, there = objects.rows(t), found.rows(t)
        x, y = _plane(objects, here), _plane(found, there)
        i, j, d = match_points(x, y, c, p)
        missed = np.delete(clear[here], i)  # which of them had to be found
        false = np.delete(np.arange(there.start, there.stop), j)
        forgiven = _forgiven(found, false, beside, regions, t, c, p)
        localisation, unit = float((d**p).sum()), c**p / 2
        strict, lenient = (len(missed), len(false)), (int(missed.sum()), int((~forgiven).sum()))
        total += (
            (localisation + unit * sum(strict)) ** (1 / p),
            localisation,
            *(unit * count for count in strict),
            (localisation + unit * sum(lenient)) ** (1 / p),
            *(unit * count for count in lenient),
            *(1, len(x), len(y), len(d), *strict, *lenient),
            _switches(last, objects.extra["id"][here][i], found.extra["id"][there][j]),
        )
    return _from_totals(total)


def _forgiven(found, false, beside, regions, t, c, p):
    """Which of the unassigned estimates, rows `false` (k,) of frame t, do not count as false, (k,) bool."""
    boxes = found.extra["box"][false]
    inside = intersection(boxes, regions.extra["box"][regions.rows(t)])
    inside /= np.maximum(area(boxes), 1e-9)[:, None]  # px^2; boxes without area occur
    forgiven = (boxes[:, 3] - boxes[:, 1] <= MIN_HEIGHT) | (inside > 0.5).any(axis=1)
    _, next_to, _ = match_points(_plane(beside, beside.rows(t)), _plane(found, false), c / 2, p)
    forgiven[next_to] = True
    return forgiven


def _plane(detections, rows):
    """Positions (n, 2) of rows in the ground plane: x and z of the camera."""
    return detections.extra["position"][rows][:, [0, 2]]


def _switches(last, truth_ids, estimate_ids):
    """How many truths are assigned another estimate than `last` says; it is brought up to date."""
    now = dict(zip(truth_ids.tolist(), estimate_ids.tolist()))
    count = sum(last.get(truth, estimate) != estimate for truth, estimate in now.items())
    last.update(now)
    return count


def _from_totals(total):
    """GroundScores from sums over frames (16,), in the order of its fields."""
    means = total[:MEANS] / max(total[MEANS], 1.0)
    return GroundScores(*means.tolist(), *map(int, total[MEANS:].tolist()))


def _sequences(results, labels, cls):
    """By name the labels, and the estimates of one class over the same frames."""
    if results.keys() != labels.keys():
        raise ValueError(
            f"results and labels must be of the same sequences, got {sorted(results)} and {sorted(labels)}. "
            'A sequence without estimates is "".'
        )
    if not labels:
        raise ValueError("give the labels of at least one sequence, got none")
    return {name: _sequence(results[name], labels[name], cls, name) for name in labels}


def _sequence(results, labels, cls, name):
    truth = _as_detections(labels, f"labels of {name}")
    require_extra(truth, ("id", "class", "truncated", "occluded", "box", "position"))
    found = _as_detections(results, f"results of {name}")
    require_extra(found, ("id", "class", "box", "position"))
    found = _of_class(found, cls)
    require_ids(_of_class(truth, cls))
    require_ids(found)
    if not all(np.isfinite(rows.extra[it]).all() for rows in (truth, found) for it in ("box", "position")):
        raise ValueError(f"boxes and positions of {name} must be finite, got a NaN or infinite one")
    offsets = found.offsets[np.minimum(np.arange(len(truth) + 1), len(found))]
    if offsets[-1] != len(found.z):
        raise ValueError(
            f"results of {name} must lie in frames 0..{len(truth) - 1}, those of the labels, "
            f"got frame {found.scan[-1]}"
        )
    return truth, replace(found, time=truth.time, offsets=offsets)


def _of_class(rows, cls):
    return rows.select(np.char.lower(np.asarray(rows.extra["class"], str)) == cls.lower())


def _as_detections(rows, what):
    """`Detections` from themselves or from the text of a KITTI file."""
    if isinstance(rows, Detections):
        return rows
    if not isinstance(rows, str):
        raise ValueError(f"{what} must be Detections or the text of a KITTI file, got {type(rows).__name__}")
    lines = [words for line in rows.splitlines() if (words := line.split())]
    for words in lines:
        if len(words) not in (17, 18):
            raise ValueError(f"{what} must have 17 or 18 columns, got {len(words)} in {' '.join(words)!r}")
    try:
        values = np.array([words[:2] + words[3:17] for words in lines], float).reshape(-1, 16)
    except ValueError as error:
        raise ValueError(f"{what} must be numbers but for the class: {error}") from None
    bad = ~np.isfinite(values).all(axis=1) | (values[:, 0] < 0) | (values[:, 0] >= MAX_SCANS)
    bad |= (values[:, :2] % 1 != 0).any(axis=1)
    if bad.any():
        raise ValueError(
            f"{what} must be finite, with whole frames 0..{MAX_SCANS - 1} and whole ids, "
            f"got {' '.join(lines[int(np.flatnonzero(bad)[0])])!r}"
        )
    scan = values[:, 0].astype(np.int64)
    extra = {"id": values[:, 1].astype(np.int64), "class": np.array([words[2] for words in lines], str)}
    extra |= {"truncated": values[:, 2], "occluded": values[:, 3]}
    extra |= {"box": values[:, 5:9], "position": values[:, 12:15]}
    frames = np.arange(scan.max(initial=-1) + 1.0)
    return Detections.from_rows(frames, scan, values[:, [12, 14]], ("x", "z"), extra=extra)


def _write(folder, sequences, cls):
    """Files for trackeval: the sequences with their lengths, labels and estimates."""
    truth_folder, found_folder = folder / "label_02", folder / "results" / "data"
    truth_folder.mkdir()
    found_folder.mkdir(parents=True)
    lengths = []
    for i, (truth, found) in enumerate(sequences):
        lengths.append(f"{_file_name(i)} empty 000000 {len(truth):06d}\n")
        (truth_folder / f"{_file_name(i)}.txt").write_text(
            "".join(_lines(_of_class(truth, kind), kind) for kind in (cls, NEIGHBOUR[cls], REGION))
        )
        (found_folder / f"{_file_name(i)}.txt").write_text(_lines(found, cls))
    (folder / "evaluate_tracking.seqmap.all").write_text("".join(lengths))


def _file_name(i):
    return f"{i:04d}"


def _lines(rows, cls):
    """Lines of a KITTI file, with zeros for what no 2-D score looks at."""
    hidden = [rows.extra.get(name, np.zeros(len(rows.z))) for name in ("truncated", "occluded")]
    # trackeval takes memory in proportion to the largest id: they are numbered anew, in the same order.
    names, label = np.unique(rows.extra["id"], return_inverse=True)
    columns = (rows.scan, label - np.count_nonzero(names < 0), *hidden, rows.extra["box"])
    return "".join(
        f"{frame} {label} {cls} {int(truncated)} {int(occluded)} 0 {' '.join(map(repr, box))} 0 0 0 0 0 0 0\n"
        for frame, label, truncated, occluded, box in zip(*(column.tolist() for column in columns))
    )
