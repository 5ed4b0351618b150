"""How a recording is read, whatever its format: which topic and class, which coordinates, whose clock."""

import math
from dataclasses import dataclass

from tracking.checks import is_number

WORDS = {"position": ("box", "hypothesis"), "clock": ("header", "bag"), "point": ("centre", "foot", "box")}


@dataclass(frozen=True, kw_only=True)
class Input:
    """How recordings are read; each setting counts for the formats that have such a thing.

    topic:       of a bag or MCAP file; None: the only one that can be read.
    coordinates: names of those that make the measurement; None: as many of the format's own as the sensor
                 measures.
    position:    of a detection in a bag, its "box" or its likeliest "hypothesis".
    clock:       of a bag, stamps of the "header", or times of recording, "bag".
    reorder:     s that messages may be out of order.
    cls:         only detections of this class; None: all. It is called `class` in a file.
    frame_rate:  Hz, of MOTChallenge (25 by default) and KITTI (10).
    point:       of a MOTChallenge box, its "centre" or "foot", or all of the "box"; None: what the sensor's
                 size says, centre or box.
    scan_period: s over which rows of CSV are a scan; None: rows of equal time are.
    """

    topic: str | None = None
    coordinates: tuple[str, ...] | None = None
    position: str = "box"
    clock: str = "header"
    reorder: float = 1.0
    cls: str | None = None
    frame_rate: float | None = None
    point: str | None = None
    scan_period: float | None = None

    def __post_init__(self):
        for name, accepted in WORDS.items():
            value = getattr(self, name)
            if value is not None and value not in accepted:
                raise ValueError(f"{name} must be one of {', '.join(accepted)}, got {value!r:.40}")
        for name in ("topic", "cls"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ValueError(f"{name} must be text, got {value!r:.40}")
        for name in ("reorder", "frame_rate", "scan_period"):
            value = getattr(self, name)
            if value is not None and not (is_number(value) and 0 < value < math.inf):
                raise ValueError(f"{name} must be a finite number > 0, got {value!r:.40}")
        named = self.coordinates
        if named is not None and not (named and all(isinstance(name, str) for name in named)):
            raise ValueError(f"coordinates must be names such as x and y, got {named!r:.60}")
        if named is not None and len(set(named)) < len(named):
            raise ValueError(f"coordinates must be different, got {named!r:.60}")
