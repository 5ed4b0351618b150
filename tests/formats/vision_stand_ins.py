"""Messages of vision_msgs as plain objects with keyword arguments, as those of rclpy are."""

from types import SimpleNamespace

FIELDS = {
    "builtin_interfaces/msg/Time": {"sec": int, "nanosec": int},
    "std_msgs/msg/Header": {"stamp": object, "frame_id": str},
    "geometry_msgs/msg/Point": dict.fromkeys("xyz", float),
    "geometry_msgs/msg/Vector3": dict.fromkeys("xyz", float),
    "geometry_msgs/msg/Quaternion": dict.fromkeys("xyzw", float),
    "geometry_msgs/msg/Pose": {"position": object, "orientation": object},
    "geometry_msgs/msg/PoseWithCovariance": {"pose": object, "covariance": object},
    "vision_msgs/msg/Point2D": dict.fromkeys("xy", float),
    "vision_msgs/msg/Pose2D": {"position": object, "theta": float},
    "vision_msgs/msg/ObjectHypothesis": {"class_id": str, "score": float},
    "vision_msgs/msg/ObjectHypothesisWithPose": {"hypothesis": object, "pose": object},
    "vision_msgs/msg/BoundingBox2D": {"center": object, "size_x": float, "size_y": float},
    "vision_msgs/msg/BoundingBox3D": {"center": object, "size": object},
    **{
        f"vision_msgs/msg/Detection{d}D": {"header": object, "results": list, "bbox": object, "id": str}
        for d in (2, 3)
    },
    **{f"vision_msgs/msg/Detection{d}DArray": {"header": object, "detections": list} for d in (2, 3)},
}


def stand_in(name):
    """A class that takes all fields of a message by name, of these types exactly, as rclpy asserts."""

    def start(self, **values):
        assert set(values) == set(FIELDS[name]), (name, values)
        for key, kind in FIELDS[name].items():
            assert kind is object or type(values[key]) is kind, (name, key, values[key])
        self.__dict__.update(values)

    return type(name.rpartition("/")[2], (SimpleNamespace,), {"__init__": start})


CLASSES = {name: stand_in(name) for name in FIELDS}


def make(name, **values):
    """A message by the last part of its name."""
    (found,) = [kind for full, kind in CLASSES.items() if full.endswith(f"/{name}")]
    return found(**values)


def header(frame="map", sec=1, nanosec=500):
    """A header."""
    return make("Header", stamp=make("Time", sec=sec, nanosec=nanosec), frame_id=frame)


def pose(x=0.0, y=0.0, z=0.0):
    """A pose without a turn."""
    return make(
        "Pose",
        position=make("Point", x=x, y=y, z=z),
        orientation=make("Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
    )


def hypothesis(score, cls="car", at=(7.0, 8.0, 9.0), covariance=(0.0,) * 36):
    """An ObjectHypothesisWithPose."""
    with_covariance = make("PoseWithCovariance", pose=pose(*at), covariance=list(covariance))
    return make(
        "ObjectHypothesisWithPose",
        hypothesis=make("ObjectHypothesis", class_id=cls, score=score),
        pose=with_covariance,
    )


def detection(at=(1.0, 2.0, 3.0), results=(), frame="", label=""):
    """A Detection3D."""
    box = make("BoundingBox3D", center=pose(*at), size=make("Vector3", x=4.0, y=2.0, z=1.5))
    return make("Detection3D", header=header(frame), results=list(results), bbox=box, id=label)


def detections(*found, **about):
    """A Detection3DArray."""
    return make("Detection3DArray", header=header(**about), detections=list(found))
