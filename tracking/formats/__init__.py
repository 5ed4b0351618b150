"""Readers and writers of recordings: `csv`, `kitti`, `mot`, `bags`, `foxglove`, and `convert` to plain CSV.

Readers of text return `Detections`; what is wrong with a file is a ValueError `path:line: came; accepted`.
Readers of bags and scenes give a `TimedScan` after the other; `source` and `sink` open whatever a path says.
"""

from tracking.formats.detections import Detections

__all__ = ["Detections"]
