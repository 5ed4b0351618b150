"""What a tracker reported, with what only detections know: boxes, sizes, classes."""

from collections.abc import Sequence

import numpy as np

from tracking.formats.detections import Detections
from tracking.tracks import Tracks


def attach(scans: Sequence[Tracks], detections: Detections, max_coast: int | None = None) -> Detections:
    """Give each reported track the attributes of the detection it was last updated with.

    A track that was never updated with a detection has none, and is left out.

    Args:
        scans:      what the tracker reported in each scan of `detections`, from its first on.
        detections: what the tracker was given, row by row the same, so that Tracks.source fits.
        max_coast:  scans without a detection after which a track is left out; None: no limit.
    Returns:
        A row for each track and scan: z the estimated position in the coordinates of `detections` (the first
        entries of the mean), score its existence, extra those of the detection and "id" the label,
        "source" the row of the detection in `detections`, "coast" the scans since then.
    Raises:
        ValueError: scans and detections differ in number or time, or a source is no row of its scan.
    """
    d = len(detections.names)
    _check_times(scans, detections)
    last: dict[int, tuple[int, int]] = {}  # label -> row of its last detection, and that scan
    picked, attached, z = [], [], []
    for k, tracks in enumerate(scans):
        rows = detections.rows(k)
        _check_sources(k, tracks.source, rows.stop - rows.start)
        for i, (label, j) in enumerate(zip(tracks.label.tolist(), tracks.source.tolist())):
            if j >= 0:
                last[label] = (rows.start + j, k)
            row, seen = last.get(label, (-1, k))
            if row >= 0 and (max_coast is None or k - seen <= max_coast):
                picked.append((k, label, k - seen))
                attached.append(row)
                z.append((*tracks.mean[i, :d], tracks.existence[i]))
    scan, label, coast = np.array(picked, np.int64).reshape(-1, 3).T
    source, table = np.array(attached, np.int64), np.array(z).reshape(-1, d + 1)
    extra = {name: column[source] for name, column in detections.extra.items()}
    extra |= {"id": label, "source": source, "coast": coast}
    return Detections.from_rows(detections.time, scan, table[:, :d], detections.names, table[:, d], extra)


def require_extra(rows: Detections, names: tuple[str, ...]) -> None:
    """Raise ValueError unless the detections have these extra columns."""
    missing = [name for name in names if name not in rows.extra]
    if missing:
        raise ValueError(f"rows must have extra {', '.join(missing)}, got {sorted(rows.extra)}")


def require_ids(rows: Detections, largest: int = 2**31 - 1) -> np.ndarray:
    """The ids (N,) of result rows, each in 0..largest and once in its scan, or ValueError.

    The default is what evaluation programs read, 32 bits.
    """
    require_extra(rows, ("id",))
    label, scan = np.asarray(rows.extra["id"]), rows.scan
    if len(label) and not (label.min() >= 0 and label.max() <= largest):
        raise ValueError(f"ids must lie in 0..{largest}, got {label.min()}..{label.max()}")
    order = np.lexsort((label, scan))
    again = order[1:][(np.diff(scan[order]) == 0) & (np.diff(label[order]) == 0)]
    if len(again):
        raise ValueError(f"id {label[again[0]]} has several rows in scan {scan[again[0]]}, accepted is one")
    return label


def require_bounded(table: np.ndarray, size: float) -> None:
    """Raise ValueError unless all numbers of result rows (N, c) are finite and at most `size`."""
    good = (np.abs(table) <= size).all(axis=1)  # NaN is not
    if not good.all():
        row = np.flatnonzero(~good)[0]
        raise ValueError(
            f"values must be finite and at most {size:g} in size, got {table[row].tolist()} in row {row}"
        )


def require_words(name: str, words) -> list[str]:
    """The words (N,) as text, each without white space, or ValueError."""
    words = np.asarray(words).astype(str).tolist()
    for word in set(words):
        if word.split() != [word]:
            raise ValueError(f"{name} must be one word without white space, got {word!r}")
    return words


def _check_times(scans, detections):
    if len(scans) != len(detections):
        raise ValueError(f"scans must be one for each of the {len(detections)} recorded, got {len(scans)}")
    time = np.array([tracks.time for tracks in scans], float)
    other = np.flatnonzero(~np.isclose(time, detections.time, rtol=1e-12, atol=1e-9))
    if len(other):
        k = other[0]
        raise ValueError(f"scans[{k}] is of {time[k]} s, the recorded scan of {detections.time[k]} s")


def _check_sources(k, source, n):
    if len(source) and source.max() >= n:
        raise ValueError(
            f"scans[{k}] has source {source.max()}, its scan has {n} detections. "
            "Give the detections that the tracker was given."
        )
