"""Readers and writers of recordings: `csv`, `kitti`, `mot`, and `convert` to plain CSV.

All readers return `Detections`; what is wrong with a file is a ValueError `path:line: came; accepted`.
"""

from tracking.formats.detections import Detections

__all__ = ["Detections"]
