"""A ROS 2 node that tracks: Detection3DArray in, Detection3DArray with labels as `id` out.

    python3 node.py --ros-args -p config:=tracker.toml -r detections:=/lidar/detections -r tracks:=/tracks

It needs rclpy and vision_msgs 4, of ROS 2 Humble or later, and this toolkit. Tracker and conversion are those
of `python -m tracking track`, so a bag that was recorded gives the same tracks.
"""

import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from vision_msgs.msg import Detection3DArray

from tracking import Late
from tracking.description import read_description
from tracking.formats.scans import LastSeen
from tracking.formats.vision import installed, message_of, scan_of


class TrackerNode(Node):
    """Takes in scans as they come, at most `lag` seconds late, and reports after each."""

    def __init__(self):
        super().__init__("tracker")
        config = self.declare_parameter("config", "tracker.toml").value
        lag = self.declare_parameter("lag", 0.5).value  # s that a message may be older than the newest
        self.description = read_description(config)
        self.tracker = Late(self.description.tracker(), lag=lag)
        self.frame = ""
        self.seen = LastSeen()
        self.tracks = self.create_publisher(Detection3DArray, "tracks", 10)
        self.create_subscription(Detection3DArray, "detections", self.take, qos_profile_sensor_data)

    def take(self, message):
        """Track the detections of one message; one that cannot be used is said and passed over."""
        try:
            scan = self.understood(message)
            late = self.tracker.time is not None and scan.time < self.tracker.time
            ratio = self.description.clutter_ratio(scan)
            found = self.tracker.step(scan.z, scan.time, clutter_ratio=ratio)
        except ValueError as error:  # the tracker is as it was
            self.get_logger().warning(str(error))
            return
        if late:  # it counts from the next report on
            return
        self.tracks.publish(message_of(found, scan, self.seen.step(found, scan), installed))

    def understood(self, message):
        """The scan of a message, in the frame of the first one."""
        about = self.description.input
        coordinates = about.coordinates or ("x", "y", "z")[: self.description.dim_z]
        scan = scan_of(message, coordinates, about.position)
        if scan.frame != (self.frame or scan.frame):
            raise ValueError(
                f"a message in frame {scan.frame!r}, tracked is in {self.frame!r}: transform it first"
            )
        self.frame = scan.frame
        return scan if about.cls is None else scan.select(scan.extra["class"] == about.cls)


def main():
    """Run the node until it is interrupted."""
    rclpy.init()
    try:
        rclpy.spin(TrackerNode())
    except KeyboardInterrupt:
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
