"""Bags and MCAP files to read, in memory that a test can change."""

import numpy as np

from tracking.formats import bags, vision
from tracking.formats.scans import LastSeen, TimedScan
from tracking.formats.vision_definitions import known, typestore
from tracking.tracks import Tracks

EPOCH = 1_700_000_000


def tracks_at(k, d=3, dim=6):
    """Two tracks that move, at scan k."""
    mean = np.arange(2.0 * dim).reshape(2, dim) + 0.25 * k
    cov = np.tile(np.diag(np.arange(1.0, dim + 1)) * (k + 1), (2, 1, 1))
    existence = np.array([0.5, 0.875])
    return Tracks(EPOCH + 0.1 * k, np.array([3, 7 + k]), mean, cov, existence, np.array([-1, -1]))


def scan_at(k, names=("x", "y", "z"), frame="map", stamp=None):
    """The scan that they were reported of."""
    stamp = EPOCH * 10**9 + k * 10**8 + 1 if stamp is None else stamp
    return TimedScan(stamp / 1e9, np.zeros((0, len(names))), names, frame=frame, stamp=stamp)


def write_tracks(path, n=4, names=("x", "y", "z"), **about):
    """A bag of n scans of tracks; returns them."""
    seen = LastSeen()
    written = [tracks_at(k) for k in range(n)]
    with bags.writer(path, **about) as bag:
        for k, tracks in enumerate(written):
            bag.write(tracks, scan_at(k, names), seen.step(tracks, scan_at(k, names)))
    return written


def serialised(k, kind=vision.DETECTIONS_3D, **about):
    """A message of detections in CDR."""
    scan = scan_at(k, ("x", "y", "z") if kind == vision.DETECTIONS_3D else ("x", "y"), **about)
    message = vision.message_of(tracks_at(k), scan, LastSeen().step(tracks_at(k), scan), known, kind)
    return bytes(typestore().serialize_cdr(message, kind))


def write_messages(path, topics, compression=None, version=8):
    """A bag of {(topic, type): [(time of recording in ns, bytes)]}, by rosbags alone."""
    from rosbags.rosbag2 import Writer
    from rosbags.rosbag2.enums import CompressionFormat

    bag = Writer(path, version=version)
    if compression is not None:
        bag.set_compression(compression, CompressionFormat.ZSTD)
    with bag:
        for (topic, kind), messages in topics.items():
            connection = bag.add_connection(topic, kind, typestore=typestore())
            for time, data in messages:
                bag.write(connection, time, data)
