"""Moving things in front of an event camera: in its image, and in space by the depth under their events."""

from typing import NamedTuple

import numpy as np

from perception.clusters import clusters
from perception.detect import DetectConfig, Detections, Pose, measured, two_percent
from perception.events.filters import background_activity
from perception.events.represent import count_image
from perception.events.stream import EventStream
from perception.pinhole import Pinhole, as_depth
from perception.pointcloud import PointCloud, Std, cloud


class EventClusters(NamedTuple):
    """Moving things in the image of an event camera, those with the most pixels first.

    centre: (m, 2) column and row of the mean event, pixels.
    cov:    (m, 2, 2) of its error as the middle of a thing, pixels^2.
    box:    (m, 4) int64 left, top, right and bottom, pixels, all included.
    events: (m,) int64 number of each.
    pixel:  (k, 2) int32 column and row of pixels with events that are of a cluster.
    label:  (k,) int64 of which.
    size:   width and height of the sensor, pixels.
    """

    centre: np.ndarray
    cov: np.ndarray
    box: np.ndarray
    events: np.ndarray
    pixel: np.ndarray
    label: np.ndarray
    size: tuple[int, int]


def event_clusters(
    events: EventStream,
    *,
    window: int | None = 10_000,
    reach: int = 3,
    least: int = 1,
    min_events: int = 20,
    config: DetectConfig | None = None,
) -> EventClusters:
    """Moving things in one window of events: pixels with events that are near each other.

    The camera stands still, or its own motion has been compensated: else all that has an edge moves.

    Args:
        events:     of one window of time, some milliseconds to tens of them.
        window:     of the background-activity filter, microseconds; None: no filter.
        reach:      pixels between neighbours at most, along rows and columns; where it is wide, leading
                    and trailing edges of one thing come together.
        least:      events of a pixel that counts.
        min_events: of a cluster.
        config:     `pixel` and `spread` give the covariance.
    """
    config = config or DetectConfig()
    if not isinstance(events, EventStream):
        raise ValueError(f"events must be an EventStream, got {type(events).__name__}")
    if not (reach >= 1 and least >= 1 and min_events >= 1):
        raise ValueError(
            f"reach, least and min_events must be at least 1, got {reach}, {least} and {min_events}"
        )
    if window is not None:
        events = background_activity(events, window)
    count = count_image(events).sum(0)
    row, column = np.nonzero(count >= least)
    pixel, weight = np.stack((column, row), -1).astype(np.int32), count[row, column].astype(float)
    # Clusters of an image are those of points that all lie at a depth of 1 m.
    flat = PointCloud(np.pad(pixel, ((0, 0), (0, 1)), constant_values=1), pixel=pixel)
    label = clusters(flat, gap=0.0, reach=reach, min_points=1)
    number = np.bincount(label, weight)
    kept = number >= min_events
    label = np.where(kept, np.cumsum(kept) - 1, -1)[label]
    pixel, weight, label = pixel[label >= 0], weight[label >= 0], label[label >= 0]
    m, number = int(kept.sum()), number[kept]
    centre = np.stack([np.bincount(label, weight * pixel[:, k], m) for k in (0, 1)], -1) / number[:, None]
    off = pixel - centre[label]
    scatter = np.empty((m, 2, 2))
    for i, j in np.ndindex(2, 2):
        scatter[:, i, j] = np.bincount(label, weight * off[:, i] * off[:, j], m) / number
    # An even patch of half side a has scatter a^2 / 3.
    cov = config.pixel**2 * np.eye(2) + 3 * config.spread**2 * scatter
    low, high = np.full((m, 2), np.iinfo(np.int64).max), np.full((m, 2), -1)
    np.minimum.at(low, label, pixel)
    np.maximum.at(high, label, pixel)
    box, size = np.concatenate((low, high), 1), (events.width, events.height)
    return EventClusters(centre, cov, box, number.astype(np.int64), pixel, label, size)


def lift(
    found: EventClusters,
    depth: np.ndarray,
    pinhole: Pinhole,
    *,
    std: Std | None = None,
    pose: Pose = None,
    config: DetectConfig | None = None,
) -> Detections:
    """Clusters of events as objects in space, by the depth under the events.

    Events come from edges, where half of the pixels show what is behind: of each cluster only the nearer
    layer counts. A cluster without a depth is left out; `source` tells which were not.

    Args:
        found:   clusters of an event camera that sees what the depth camera sees, pixel by pixel.
        depth, pinhole, std, pose, config: as for `detect`.
    """
    config = config or DetectConfig()
    depth = as_depth(depth, pinhole)
    if found.size != (pinhole.width, pinhole.height):
        raise ValueError(
            f"events are of {found.size[0]} x {found.size[1]} pixels, depth of {pinhole.width} x "
            f"{pinhole.height}. Resize the depth image to the sensor, and the camera by Pinhole.scaled."
        )
    which = np.full(depth.shape, -1, np.int64)
    which[found.pixel[:, 1], found.pixel[:, 0]] = found.label
    under = np.where(which >= 0, depth, np.nan)
    points = cloud(under, pinhole, two_percent if std is None else std, config.nearest, config.farthest)
    label = _nearer_layer(points, which, config.layer)
    return measured(points, label, pinhole, pose, config)


def _nearer_layer(points, which, layer):
    """Labels (n,) of points by an image (H, W) of labels, -1 for those that are not of the nearer layer."""
    label = which[points.pixel[:, 1], points.pixel[:, 0]]
    if not len(label):
        return label
    z = points.points[:, 2]
    number = np.bincount(label)
    # In order of label and depth, a cluster's quantile comes so far after all earlier clusters.
    quarter = np.cumsum(number) - number + number // 4
    front = z[np.lexsort((z, label))][np.minimum(quarter, len(z) - 1)][label]
    return np.where(np.abs(z - front) <= np.maximum(layer, 2 * points.std), label, -1)
