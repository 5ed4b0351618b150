"""Messages of vision_msgs as scans, and tracks as messages: of stand-ins for rclpy, and of rosbags."""

import numpy as np
import pytest
from vision_stand_ins import CLASSES, detection, detections, header, hypothesis, make, pose

from tracking.formats.scans import Attributes, TimedScan
from tracking.formats.vision import (
    DETECTIONS_2D,
    DETECTIONS_3D,
    TYPES,
    message_of,
    scan_of,
    tracks_of,
)
from tracking.formats.vision_definitions import known, typestore
from tracking.tracks import Tracks


def two_tracks(d=3, dim=6):
    rng = np.random.default_rng(0)
    half = rng.normal(size=(2, dim, dim))
    mean, cov = rng.normal(size=(2, dim)), half @ half.swapaxes(1, 2)
    return Tracks(1.5, np.array([4, 12]), mean, cov, np.array([0.25, 1.0]), np.array([-1, -1]))


SEEN = [Attributes("car", (4.0, 2.0, 1.5), (0.0, 0.0, 0.6, 0.8), (9.0, 8.0, 7.0)), Attributes()]


def test_the_box_is_the_position_and_the_likeliest_hypothesis_the_rest():
    covariance = np.diag([1.0, 2.0, 3.0, 9.0, 9.0, 9.0]).ravel()
    results = [
        hypothesis(0.3, "tree"),
        hypothesis(np.nan, "ghost"),
        hypothesis(0.8, "car", covariance=covariance),
    ]
    message = detections(detection(results=results, label="x"))
    scan = scan_of(message)
    assert (scan.time, scan.stamp, scan.frame) == (1.0000005, 1_000_000_500, "map")
    assert scan.z.tolist() == [[1, 2, 3]]
    assert scan.score.tolist() == [0.8]
    assert scan.extra["class"].tolist() == ["car"]
    assert scan.cov.tolist() == np.diag([1.0, 2.0, 3.0])[None].tolist()
    assert scan.extra["size"].tolist() == [[4, 2, 1.5]]
    assert scan_of(message, position="hypothesis").z.tolist() == [[7, 8, 9]]
    turned = scan_of(message, ("z", "x"))
    assert turned.z.tolist() == [[3, 1]]
    assert turned.cov.tolist() == [[[3, 0], [0, 1]]]


def test_detections_without_hypotheses_have_no_score_and_no_covariance():
    scan = scan_of(detections(detection(), detection(results=[hypothesis(0.5)])))
    assert np.isnan(scan.score[0])
    assert scan.score[1] == 0.5
    assert scan.cov is None  # zeros mean unknown
    assert scan.extra["class"].tolist() == ["", "car"]


def test_an_empty_message_is_a_scan_without_detections():
    scan = scan_of(detections(), ("x", "y"))
    assert scan.z.shape == (0, 2)
    assert len(scan) == 0
    assert len(tracks_of(detections())) == 0


def test_boxes_in_an_image():
    centre = make("Pose2D", position=make("Point2D", x=10.0, y=20.0), theta=np.pi / 2)
    box = make("BoundingBox2D", center=centre, size_x=30.0, size_y=40.0)
    found = make("Detection2D", header=header(""), results=[], bbox=box, id="")
    message = make("Detection2DArray", header=header("camera"), detections=[found])
    assert scan_of(message, ("x", "y", "width", "height")).z.tolist() == [[10, 20, 30, 40]]
    np.testing.assert_allclose(
        scan_of(message, ("x", "y")).extra["orientation"], [[0, 0, 0.5**0.5, 0.5**0.5]]
    )
    with pytest.raises(ValueError, match="different ones of x, y, width, height, got"):
        scan_of(message, ("x", "z"))
    box.center = make("Point2D", x=10.0, y=20.0)  # as in vision_msgs 3: x, y, theta side by side
    box.center.theta = 0.0
    assert scan_of(message, ("x", "y")).z.tolist() == [[10, 20]]


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (
            detections(detection(at=(1.0, np.nan, 0.0))),
            "position of detection 0 has nan; accepted are finite",
        ),
        (detections(detection(), detection(at=(np.inf, 0.0, 0.0))), "position of detection 1 has inf"),
        (detections(detection(frame="lidar")), "in frame 'lidar', its message in 'map'; accepted is one"),
        (detections(sec=-1), "header.stamp is -1 s"),
        (detections(nanosec=10**9), "less than 10"),
    ],
)
def test_what_cannot_be_a_scan_is_said(message, says):
    with pytest.raises(ValueError, match=says):
        scan_of(message)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="position must be one of box, hypothesis, got 'centre'"):
        scan_of(detections(), position="centre")
    with pytest.raises(ValueError, match="has no pose"):
        scan_of(detections(detection()), position="hypothesis")
    with pytest.raises(ValueError, match=r"coordinates must be different ones of x, y, z, got \['x', 'x'\]"):
        scan_of(detections(), ("x", "x"))


def test_the_frame_of_the_detections_stands_in_for_none():
    assert scan_of(detections(detection(frame="lidar"), frame="")).frame == "lidar"


@pytest.mark.parametrize("classes", [CLASSES.__getitem__, known], ids=["stand-ins", "rosbags"])
@pytest.mark.parametrize("kind", TYPES)
def test_tracks_come_back_from_messages(classes, kind):
    d = 3 if kind == DETECTIONS_3D else 2
    tracks = two_tracks()
    scan = TimedScan(1.5, np.zeros((0, d)), ("x", "y", "z")[:d], frame="map", stamp=1_500_000_001)
    message = message_of(tracks, scan, SEEN, classes, kind)
    if classes is known:
        message = typestore().deserialize_cdr(typestore().serialize_cdr(message, kind), kind)
    back = tracks_of(message)
    np.testing.assert_array_equal(back.label, tracks.label)
    np.testing.assert_array_equal(back.mean, tracks.mean[:, :d])
    np.testing.assert_array_equal(back.cov, tracks.cov[:, :d, :d])
    np.testing.assert_array_equal(back.existence, tracks.existence)
    found = scan_of(message, ("x", "y"))
    assert (found.stamp, found.frame) == (1_500_000_001, "map")
    assert found.extra["id"].tolist() == ["4", "12"]
    assert found.extra["class"].tolist() == ["car", ""]
    np.testing.assert_array_equal(scan_of(message, ("x", "y"), "hypothesis").z, found.z)


def test_what_the_state_does_not_have_is_that_of_the_detection():
    tracks = two_tracks(2, 4)
    scan = TimedScan(1.5, np.zeros((0, 2)), ("x", "z"), frame="camera")
    message = message_of(tracks, scan, SEEN, CLASSES.__getitem__)
    at = message.detections[0].bbox.center.position
    assert (at.x, at.y, at.z) == (tracks.mean[0, 0], 8.0, tracks.mean[0, 1])
    full = np.reshape(message.detections[0].results[0].pose.covariance, (6, 6))
    np.testing.assert_array_equal(full[np.ix_([0, 2], [0, 2])], tracks.cov[0, :2, :2])
    assert not full[1].any()
    assert not full[3:].any()


def test_boxes_that_are_tracked_are_written_as_boxes():
    tracks = two_tracks(4, 8)
    scan = TimedScan(1.5, np.zeros((0, 4)), ("x", "y", "width", "height"))
    message = message_of(tracks, scan, SEEN, CLASSES.__getitem__, DETECTIONS_2D)
    box = message.detections[1].bbox
    assert [box.center.position.x, box.center.position.y, box.size_x, box.size_y] == tracks.mean[
        1, :4
    ].tolist()
    full = np.reshape(message.detections[1].results[0].pose.covariance, (6, 6))
    np.testing.assert_array_equal(full[:2, :2], tracks.cov[1, :2, :2])
    assert np.count_nonzero(full) == 4


def test_what_is_no_track_is_refused():
    for ids, says in (
        (["a", "1"], r"ids are \['a'\]"),
        (["3", "3"], "each once"),
        (["1" * 30, "2"], "ids are"),
    ):
        with pytest.raises(ValueError, match=says):
            tracks_of(detections(*(detection(label=text, results=[hypothesis(0.5)]) for text in ids)))
    with pytest.raises(ValueError, match="must be probabilities"):
        tracks_of(detections(detection(label="1", results=[hypothesis(1.5)])))


def test_tracks_that_are_not_finite_are_not_written():
    tracks = two_tracks()
    tracks.mean[1, 0] = np.nan
    with pytest.raises(ValueError, match="track 12 is at"):
        message_of(tracks, TimedScan(1.5, np.zeros((0, 3)), ("x", "y", "z")), SEEN, CLASSES.__getitem__)
    with pytest.raises(ValueError, match="cannot be the stamp of a message"):
        message_of(tracks, TimedScan(-1.0, np.zeros((0, 3)), ("x", "y", "z")), SEEN, CLASSES.__getitem__)


def test_reading_does_not_change_a_message():
    message = detections(detection(results=[hypothesis(0.5)]))
    before = repr(message)
    scan_of(message)
    assert repr(message) == before
    assert pose().position.x == 0.0
