"""Data sets of images, events and depth in the layouts that they are published in: EventScape, DENSE, MVSEC.

Each is a sequence of `Sample`s, as a torch DataLoader takes them; a sample is read when it is asked for.
"""

from perception.depth.datasets.carla import DENSE, EventScape, sequences
from perception.depth.datasets.lists import Listed, VoxelSample, read_list
from perception.depth.datasets.mvsec import MVSEC
from perception.depth.datasets.sample import Sample

__all__ = ["DENSE", "MVSEC", "EventScape", "Listed", "Sample", "VoxelSample", "read_list", "sequences"]
