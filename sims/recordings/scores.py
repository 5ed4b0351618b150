"""What the table of a recording shows of each sequence."""

from collections.abc import Callable
from typing import Any

from sims.recordings.names import OF_ALL
from tracking.metrics import TrackingScores


def video_scores(scores: TrackingScores) -> dict[str, Any]:
    """HOTA, MOTA and IDF1 in percent, and the number of identity switches."""
    return {
        "hota": 100 * scores.hota,
        "det_a": 100 * scores.det_a,
        "ass_a": 100 * scores.ass_a,
        "mota": 100 * scores.mota,
        "idf1": 100 * scores.idf1,
        "id_switches": int(scores.id_switches),
    }


def with_all(
    scores: dict[str, dict[str, Any]], overall: Callable[[], dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The scores by sequence, and with several of them `OF_ALL`."""
    return {**scores, OF_ALL: overall()} if len(scores) > 1 else scores
