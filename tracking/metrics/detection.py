"""HOTA, CLEAR MOT and IDF1 of tracks given frame by frame, computed by trackeval (the extra `eval`).

These are the scores of the video benchmarks. They need a similarity in [0, 1] between every truth and every
estimate of a frame: the overlap of boxes,

    clear_identity_hota(truth_ids, estimate_ids, [box_iou(a, b) for a, b in zip(truth_boxes, boxes)])

or, for points, a distance: np.maximum(0, 1 - cdist(truth, estimate) / (2 * c)) is 0.5 at the distance c.

Sources: Luiten et al. (IJCV 2021), HOTA; Bernardin, Stiefelhagen (EURASIP JIVP 2008), CLEAR MOT; Ristani et
al. (ECCV Workshops 2016), IDF1.
"""

import contextlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class TrackingScores:
    """Scores of one sequence or of several combined.

    hota, det_a, ass_a, loc_a: means over the thresholds 0.05, 0.10, ..., 0.95, in [0, 1].
    mota:        at most 1, and negative when there are more errors than objects.
    motp, idf1:  in [0, 1].
    id_switches, fragments, tp, fp, fn: counts of CLEAR MOT.
    details:     everything that trackeval computed, by metric: "HOTA", "CLEAR", "Identity".
    """

    hota: float
    det_a: float
    ass_a: float
    loc_a: float
    mota: float
    motp: float
    idf1: float
    id_switches: int
    fragments: int
    tp: int
    fp: int
    fn: int
    details: dict[str, dict] = field(repr=False, compare=False)


def clear_identity_hota(
    truth_ids: Sequence[ArrayLike],
    estimate_ids: Sequence[ArrayLike],
    similarity: Sequence[ArrayLike],
    threshold: float = 0.5,
) -> TrackingScores:
    """CLEAR MOT, identity and HOTA scores of one sequence.

    Args:
        truth_ids:    for each frame the identities (n_t,) of the true objects, whole numbers.
        estimate_ids: for each frame the labels (m_t,) of the estimates, whole numbers.
        similarity:   for each frame (n_t, m_t), in [0, 1].
        threshold:    least similarity of a match for CLEAR MOT and IDF1; HOTA takes its own.
    Returns:
        TrackingScores.
    Raises:
        ValueError:  lists of different length, an identity twice in a frame, a similarity of the wrong
                     shape or outside [0, 1], or threshold not in (0, 1].
        ImportError: trackeval is not installed.
    Source: see the top of this file; the rules at ties and gaps are those of trackeval.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], got {threshold}")
    if not len(truth_ids) == len(estimate_ids) == len(similarity):
        raise ValueError(
            "truth_ids, estimate_ids and similarity must have one entry a frame, got "
            f"{len(truth_ids)}, {len(estimate_ids)} and {len(similarity)} entries"
        )
    truth, n_truth = _contiguous(truth_ids, "truth_ids")
    estimate, n_estimate = _contiguous(estimate_ids, "estimate_ids")
    data = {
        "gt_ids": truth,
        "tracker_ids": estimate,
        "similarity_scores": [
            _as_similarity(s, len(i), len(j), t)
            for t, (s, i, j) in enumerate(zip(similarity, truth, estimate))
        ],
        "num_timesteps": len(truth),
        "num_gt_dets": sum(map(len, truth)),
        "num_tracker_dets": sum(map(len, estimate)),
        "num_gt_ids": n_truth,
        "num_tracker_ids": n_estimate,
    }
    return evaluate(data, threshold)


def combine(sequences: Iterable[TrackingScores]) -> TrackingScores:
    """Scores of several sequences together: counts are added, so that longer sequences weigh more."""
    sequences = list(sequences)
    if not sequences:
        raise ValueError("give the scores of at least one sequence, got none")
    return _scores(
        {
            name: metric.combine_sequences({str(i): s.details[name] for i, s in enumerate(sequences)})
            for name, metric in _metrics(threshold=0.5).items()  # already applied within each sequence
        }
    )


def box_iou(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Intersection over union (n, m) of boxes (n, 4) and (m, 4), both xyxy; 0 for a box without area.

    Raises:
        ValueError: wrong shape, a NaN or infinite entry, or a box with x2 < x1 or y2 < y1.
    """
    rows, cols = _as_boxes(a, "a"), _as_boxes(b, "b")
    both = intersection(rows, cols)
    union = area(rows)[:, None] + area(cols) - both
    return np.divide(both, union, out=np.zeros_like(both), where=both > 0)


def intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Area (n, m) that boxes (n, 4) and (m, 4), both xyxy, have in common."""
    lower, upper = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    return np.maximum(upper - lower, 0.0).prod(axis=2)


def area(boxes: np.ndarray) -> np.ndarray:
    """Areas (n,) of boxes (n, 4), xyxy."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def evaluate(data: dict, threshold: float) -> TrackingScores:
    """Scores of one sequence in trackeval's form, as its datasets give it."""
    return _scores({name: m.eval_sequence(data) for name, m in _metrics(threshold).items()})


def import_trackeval():
    """The module trackeval.

    Raises:
        ImportError: it is not installed, or lacks something itself.
    """
    try:
        import trackeval
    except ImportError as error:
        raise ImportError(
            f"HOTA, CLEAR MOT and IDF1 need trackeval ({error}): pip install -c constraints.txt -e '.[eval]'"
        ) from error
    return trackeval


def _metrics(threshold):
    metrics = import_trackeval().metrics
    settings = {"THRESHOLD": threshold, "PRINT_CONFIG": False}
    with contextlib.redirect_stdout(io.StringIO()):
        return {
            "HOTA": metrics.HOTA(),
            "CLEAR": metrics.CLEAR(settings),
            "Identity": metrics.Identity(settings),
        }


def _scores(details):
    hota, clear, identity = details["HOTA"], details["CLEAR"], details["Identity"]
    return TrackingScores(
        *(float(np.mean(hota[name])) for name in ("HOTA", "DetA", "AssA", "LocA")),
        mota=float(clear["MOTA"]),
        motp=float(clear["MOTP"]),
        idf1=float(identity["IDF1"]),
        id_switches=int(clear["IDSW"]),
        fragments=int(clear["Frag"]),
        tp=int(clear["CLR_TP"]),
        fp=int(clear["CLR_FP"]),
        fn=int(clear["CLR_FN"]),
        details=details,
    )


def _contiguous(ids, name):
    """Identities of each frame renumbered 0, 1, ..., and how many there are."""
    frames = [np.asarray(frame) if np.size(frame) else np.zeros(0, np.int64) for frame in ids]
    for t, frame in enumerate(frames):
        if frame.ndim != 1 or len(np.unique(frame)) != len(frame):
            raise ValueError(
                f"{name} must be a flat list of identities, each once a frame, "
                f"got {frame.tolist()} in frame {t}"
            )
    ends = np.cumsum([len(frame) for frame in frames])
    names, index = np.unique(np.concatenate([*frames, np.zeros(0, np.int64)]), return_inverse=True)
    return np.split(index, ends[:-1]) if frames else [], len(names)


def _as_similarity(similarity, n, m, t):
    similarity = np.asarray(similarity, float)
    if similarity.size == 0 and n * m == 0:
        return np.zeros((n, m))
    if similarity.shape != (n, m):
        raise ValueError(
            f"similarity of frame {t} must have shape {(n, m)}, one row a truth and one column an estimate, "
            f"got {similarity.shape}"
        )
    if not ((similarity >= 0) & (similarity <= 1)).all():  # NaN fails too
        raise ValueError(
            f"similarity must be in [0, 1], got {similarity.min()} to {similarity.max()} in frame {t}"
        )
    return similarity


def _as_boxes(boxes, name):
    boxes = np.asarray(boxes, float)
    if boxes.size == 0:
        return boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{name} must have shape (n, 4), one row a box x1, y1, x2, y2, got {boxes.shape}")
    bad = ~(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] >= boxes[:, :2]).all(axis=1))
    if bad.any():
        raise ValueError(
            f"{name} must hold finite boxes x1, y1, x2, y2 with x1 <= x2 and y1 <= y2, "
            f"got {boxes[bad][0].tolist()} in row {int(np.flatnonzero(bad)[0])}"
        )
    return boxes
