"""Metrics of multitarget estimation.

gospa             sets of points: position error, misses, false ones
ospa              sets of points: error per object
ospa2             sets of trajectories over a window: error per track
trajectory_gospa  sets of trajectories: as GOSPA, and switches
clear_identity_hota, kitti_2d, kitti_ground: the scores of video benchmarks (extra `eval`) and of KITTI
"""

from tracking.metrics.detection import TrackingScores, box_iou, clear_identity_hota, combine
from tracking.metrics.gospa import Gospa, gospa
from tracking.metrics.kitti import GroundScores, combine_ground, kitti_2d, kitti_ground
from tracking.metrics.ospa import Ospa, ospa, ospa2, ospa2_over_time
from tracking.metrics.trajectory import TrajectoryGospa, trajectory_gospa

__all__ = [
    "Gospa",
    "GroundScores",
    "Ospa",
    "TrackingScores",
    "TrajectoryGospa",
    "box_iou",
    "clear_identity_hota",
    "combine",
    "combine_ground",
    "gospa",
    "kitti_2d",
    "kitti_ground",
    "ospa",
    "ospa2",
    "ospa2_over_time",
    "trajectory_gospa",
]
