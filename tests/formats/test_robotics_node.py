"""docs/robotics/node.py on a stand-in for rclpy: messages in, messages with labels out."""

import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from vision_stand_ins import CLASSES, detection, detections, hypothesis

from tracking.description import read_description
from tracking.formats.vision import scan_of, tracks_of

FOLDER = Path(__file__).parents[2] / "docs" / "robotics"
PARAMETERS = {"config": str(FOLDER / "tracker.toml"), "lag": 0.5}


class Node:
    """What the example uses of rclpy.node.Node."""

    def __init__(self, name):
        self.name, self.published, self.warnings, self.callbacks = name, [], [], {}

    def declare_parameter(self, name, default):
        return SimpleNamespace(value=PARAMETERS.get(name, default))

    def create_publisher(self, kind, topic, depth):
        assert (kind.__name__, topic, depth) == ("Detection3DArray", "tracks", 10)
        return SimpleNamespace(publish=self.published.append)

    def create_subscription(self, kind, topic, callback, qos):
        assert (kind.__name__, qos) == ("Detection3DArray", "sensor data")
        self.callbacks[topic] = callback

    def get_logger(self):
        return SimpleNamespace(warning=self.warnings.append)


@pytest.fixture
def example(monkeypatch):
    """The names in the example, with stand-ins for ROS's packages."""
    spun = []
    modules = {
        "rclpy": {"init": lambda: None, "spin": spun.append, "try_shutdown": lambda: spun.append("shutdown")},
        "rclpy.node": {"Node": Node},
        "rclpy.qos": {"qos_profile_sensor_data": "sensor data"},
    }
    for full, kind in CLASSES.items():
        package, _, name = full.split("/")
        modules.setdefault(package, {})
        modules.setdefault(f"{package}.msg", {})[name] = kind
    for name, content in modules.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return SimpleNamespace(**runpy.run_path(str(FOLDER / "node.py")), spun=spun)


def message(k, frame="map", **about):
    """An object at 1 m/s and a fixed one, at scan k."""
    moving = detection((0.1 * k, 5.0, 1.0), [hypothesis(0.9)])
    fixed = detection((-20.0, 3.0, 2.0), [hypothesis(0.8, "sign")])
    return detections(moving, fixed, frame=frame, sec=100 + k // 10, nanosec=k % 10 * 10**8, **about)


def test_tracks_are_those_of_the_class_itself(example):
    node = example.TrackerNode()
    take = node.callbacks["detections"]
    tracker = read_description(PARAMETERS["config"]).tracker()
    for k in range(20):
        take(message(k))
        expected = tracker.step(scan_of(message(k), ("x", "y")).z, 100 + k / 10)
        found = tracks_of(node.published[-1])
        assert found.label.tolist() == expected.label.tolist()
        np.testing.assert_allclose(found.mean[:, :2], expected.mean[:, :2], atol=1e-6)
        np.testing.assert_allclose(found.cov[:, :2, :2], expected.cov[:, :2, :2], atol=1e-6)
        np.testing.assert_allclose(found.existence, expected.existence, atol=1e-6)
    assert len(node.published) == 20
    last = node.published[-1]
    assert (last.header.frame_id, last.header.stamp.sec, last.header.stamp.nanosec) == ("map", 101, 9 * 10**8)
    assert sorted(each.results[0].hypothesis.class_id for each in last.detections) == ["car", "sign"]
    assert sorted(each.bbox.center.position.z for each in last.detections) == [1.0, 2.0]  # of the detections
    assert {each.bbox.size.x for each in last.detections} == {4.0}
    assert node.warnings == []


def test_late_messages_count_and_bad_ones_are_passed_over(example):
    node, orderly = example.TrackerNode(), example.TrackerNode()
    for k in (0, 1, 2, 3, 5, 4, 6):
        node.take(message(k))
    for k in range(7):
        orderly.take(message(k))
    assert len(node.published) == 6  # the late one is in the report after it
    a, b = tracks_of(node.published[-1]), tracks_of(orderly.published[-1])
    np.testing.assert_allclose(a.mean, b.mean)
    node.take(message(7, frame="odom"))
    node.take(detections(detection((np.nan, 0.0, 0.0)), sec=101))
    assert len(node.published) == 6
    assert "a message in frame 'odom', tracked is in 'map'" in node.warnings[0]
    assert "position of detection 0 has nan" in node.warnings[1]
    node.take(message(8))
    assert len(node.published) == 7


def test_the_program(example):
    example.main()
    assert [type(each).__name__ for each in example.spun] == ["TrackerNode", "str"]
