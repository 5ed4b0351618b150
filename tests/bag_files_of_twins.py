"""A bag in which every stamp comes twice, as from two sensors on one topic."""

import numpy as np

from tracking.formats import bags
from tracking.formats.scans import TimedScan
from tracking.tracks import Tracks


def write_twins(path, n=5):
    """Write it: n stamps."""
    with bags.writer(path) as bag:
        for k in range(2 * n):
            scan = TimedScan(1.0 + k // 2, np.zeros((0, 3)), ("x", "y", "z"), frame="map")
            mean = np.array([[1.0, 2.0 + 0.1 * (k // 2), 0.0]])
            arrays = mean, np.eye(3)[None], np.ones(1), np.array([-1])
            bag.write(Tracks(scan.time, np.array([0]), *arrays), scan, [bags.Attributes()])
