"""Detections: where objects are, how sure that is, and whether a tracker can live on it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from perception.background import surroundings
from perception.depth_sensor import DepthNoise, InView
from perception.detect import DetectConfig, as_pose, detect
from perception.event_clusters import event_clusters, lift
from perception.events import EventStream
from perception.pinhole import Pinhole
from tracking import GNN, PMBM, ConstantVelocity, PositionSensor, UniformBirth
from tracking.metrics.gospa import gospa

CAMERA = Pinhole.of(96, 72, 80.0)
WALL = 6.0  # m
BOXES = (((-0.8, 0.1, 3.0), (0.3, 0.3, 0.3)), ((0.7, -0.2, 4.0), (0.4, 0.3, 0.2)))  # middles and half sizes


def turned(x=0.0, y=0.0, place=(0.0, 0.0, 0.0)):
    """A pose, turned about x, then y."""
    (a, b), (c, d) = (np.cos(x), np.sin(x)), (np.cos(y), np.sin(y))
    about_x = np.array([[1, 0, 0], [0, a, -b], [0, b, a]])
    return np.array([[c, 0, d], [0, 1, 0], [-d, 0, c]]) @ about_x, np.array(place)


def rendered(boxes=BOXES, pose=None, camera=CAMERA):
    """Depth (H, W) of boxes before a wall in the world, and which box is seen, -1: the wall."""
    rotation, place = as_pose(pose)
    rays = camera.unproject(np.ones((camera.height, camera.width))) @ rotation.T
    depth = (WALL - place[2]) / rays[..., 2]
    seen = np.full(depth.shape, -1)
    for k, (middle, size) in enumerate(boxes):
        one, two = (np.subtract(middle, size) - place) / rays, (np.add(middle, size) - place) / rays
        enter, leave = np.minimum(one, two).max(-1), np.maximum(one, two).min(-1)
        hit = (enter <= leave) & (enter > 0) & (enter < depth)
        depth, seen = np.where(hit, enter, depth), np.where(hit, k, seen)
    return depth, seen


def by_depth(found):
    """The same detections, the nearest first."""
    order = np.argsort(found.z[:, 2])
    return type(found)(*(column[order] for column in found))


def frontal(half, z, camera=CAMERA):
    """Depth of a square face of this half size at z, m, before a wall."""
    return rendered((((0, 0, z + half), (half,) * 3),), camera=camera)[0]


class TestDetect:
    def test_boxes_before_a_wall(self):
        depth, seen = rendered()
        found = by_depth(detect(depth, CAMERA, std=0.01))
        points = CAMERA.unproject(depth)
        assert len(found.z) == len(BOXES)
        for k in range(len(BOXES)):
            of_it = points[seen == k]
            rows, columns = np.nonzero(seen == k)
            np.testing.assert_allclose(found.z[k], of_it.mean(0), atol=1e-5)
            np.testing.assert_allclose(found.extent[k], np.ptp(of_it, axis=0) / 2, atol=1e-5)
            assert found.pixels[k] == len(of_it)
            assert found.box[k].tolist() == [columns.min(), rows.min(), columns.max(), rows.max()]
        assert sorted(found.source.tolist()) == [0, 1]

    @settings(deadline=None, max_examples=20)
    @given(x=st.floats(-0.15, 0.15), y=st.floats(-0.15, 0.15), place=st.tuples(*[st.floats(-0.4, 0.4)] * 3))
    def test_a_pose_moves_detections_to_the_world(self, x, y, place):
        pose = rotation, place = turned(x, y, place)
        depth, seen = rendered(pose=pose)
        config = DetectConfig(spread=0.0, slope=30)  # sides of boxes lean by more than 80 degrees
        here, there = (detect(depth, CAMERA, pose=p, config=config) for p in (None, pose))
        np.testing.assert_allclose(there.z, here.z @ rotation.T + place, atol=1e-5)
        np.testing.assert_allclose(there.cov, rotation @ here.cov @ rotation.T, atol=1e-9)
        np.testing.assert_array_equal(there.box, here.box)
        world = CAMERA.unproject(depth) @ rotation.T + place
        for k, name in enumerate(np.argsort(-np.bincount(seen[seen >= 0]))):
            np.testing.assert_allclose(there.z[k], world[seen == name].mean(0), atol=1e-5)
            np.testing.assert_allclose(there.extent[k], np.ptp(world[seen == name], axis=0) / 2, atol=1e-5)

    @pytest.mark.parametrize("correlation", [0.0, 0.6, 1.0])
    def test_the_covariance_is_that_of_many_noisy_images(self, correlation):
        """Errors that pixels have in common do not average out, others do."""
        rng = np.random.default_rng(0)
        depth, seen = rendered((BOXES[0],))
        std, z = 0.05, []
        config = DetectConfig(correlation=correlation, spread=0.0, pixel=1e-6, planes=0, gap=1.0)
        for _ in range(400):
            common, own = rng.normal(), rng.normal(size=depth.shape)
            error = std * (np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own)
            found = detect(depth + error, CAMERA, std=std, config=config, ignore=seen < 0)
            z.append(found.z[0])
        cov = np.cov(np.transpose(z))
        n = found.pixels[0]
        assert n == (seen == 0).sum()
        expected = std**2 * (correlation + (1 - correlation) / n)
        assert np.trace(found.cov[0]) == pytest.approx(
            expected * (found.z[0] @ found.z[0]) / found.z[0, 2] ** 2
        )
        values, vectors = np.linalg.eigh(cov)
        assert np.trace(cov) == pytest.approx(np.trace(found.cov[0]), rel=0.2)
        assert abs(vectors[:, 2] @ found.z[0]) / np.linalg.norm(found.z[0]) > 0.999  # along the ray
        assert values[1] < 0.05 * values[2]

    def test_parts_of_the_covariance_by_hand(self):
        depth = frontal(0.25, 2.0)
        config = DetectConfig(correlation=0.25, pixel=0.5, spread=0.1, stride=2)
        found = detect(depth, CAMERA, std=lambda z: 0.03 * z, config=config)
        n = found.pixels[0]
        along = 0.06**2 * (0.25 + 0.75 / n)
        across = (0.5 * 2 * 2.0 / 80) ** 2
        extent = 0.1 * found.extent[0]
        expected = (
            along * np.outer(found.z[0], found.z[0]) / 4 + np.diag((across, across, 0)) + np.diag(extent**2)
        )
        np.testing.assert_allclose(found.cov[0], expected, rtol=1e-5, atol=1e-12)

    def test_more_pixels_do_not_make_a_common_error_smaller(self):
        one, two = (
            detect(frontal(0.3, 2.0, camera), camera, config=DetectConfig(correlation=1.0)).cov[0, 2, 2]
            for camera in (CAMERA, CAMERA.scaled(384, 288))
        )
        assert two == pytest.approx(one, rel=1e-3)

    def test_deviations_of_pixels_may_be_an_image(self):
        depth, seen = rendered()
        std = np.where(seen == 0, 0.2, 0.05)
        near, far = by_depth(
            detect(depth, CAMERA, std=std, config=DetectConfig(spread=0.0, correlation=1.0))
        ).cov
        assert near[2, 2] == pytest.approx(0.2**2, rel=1e-4)
        assert far[2, 2] == pytest.approx(0.05**2, rel=1e-4)

    def test_two_percent_where_nothing_is_told(self):
        found = detect(frontal(0.3, 2.0), CAMERA, config=DetectConfig(spread=0.0, correlation=1.0))
        assert found.cov[0, 2, 2] == pytest.approx(0.04**2, rel=1e-4)

    def test_the_middle_of_a_ball_is_behind_what_is_seen(self):
        middle, radius = np.array([0.3, -0.2, 4.0]), 0.5
        camera = Pinhole.of(192, 144, 200.0)
        ray = camera.unproject(np.ones((144, 192)))
        a, b, c = (ray**2).sum(-1), ray @ middle, middle @ middle - radius**2
        root = b**2 - a * c
        depth = np.where(root > 0, (b - np.sqrt(np.maximum(root, 0))) / a, WALL)
        seen = detect(depth, camera, config=DetectConfig(behind=0.0, min_points=100))
        middles = detect(depth, camera, config=DetectConfig(behind=2 / 3, min_points=100))
        assert np.linalg.norm(seen.z[0] - middle) == pytest.approx(2 / 3 * radius, rel=0.1)
        assert np.linalg.norm(middles.z[0] - middle) < 0.15 * radius

    def test_a_face_is_no_wall(self):
        """A near face may have as many points as a wall, but they are in one place."""
        depth = frontal(0.5, 1.2)
        depth[:, :20] = np.nan  # most of what is left is the face
        assert len(detect(depth, CAMERA).z) == 1
        assert len(detect(depth, CAMERA, config=DetectConfig(plane_extent=0.2, planes=2)).z) == 0
        walls = detect(depth, CAMERA, config=DetectConfig(planes=0)).extent
        assert walls.max() > 2
        assert len(detect(depth, CAMERA, config=DetectConfig(planes=0, max_extent=1.0)).z) == 1

    def test_only_planes_that_face_up_go_where_up_is_known(self):
        """`up` is told in the frame of the detections."""
        pose = turned(x=-0.3, place=(0.0, -0.5, 0.0))
        box, floor = ((-0.8, 0.5, 3.0), (0.3, 0.3, 0.3)), ((0, 1.0, 3.0), (4.0, 0.2, 3.5))
        depth, _ = rendered((box, floor), pose)
        found = detect(
            depth, CAMERA, pose=pose, config=DetectConfig(up=(0, -1, 0), share=0.3, tilt=0.1, max_extent=1.0)
        )
        assert len(found.z) == 1
        np.testing.assert_allclose(found.z[0], box[0], atol=0.35)
        tilted = detect(
            depth,
            CAMERA,
            pose=pose,
            config=DetectConfig(up=(0, -1, 0.6), share=0.3, tilt=0.1, max_extent=1.0),
        )
        assert len(tilted.z) == 0  # floor and box stay one thing, which is too large

    def test_a_background_image(self):
        depth, seen = rendered()
        background, _ = rendered((BOXES[1],))
        found = detect(depth, CAMERA, background=background, config=DetectConfig(planes=5))
        assert found.pixels.tolist() == [(seen == 0).sum()]
        nowhere = detect(depth, CAMERA, background=depth)
        assert len(nowhere.z) == 0
        for unknown in (np.nan, 0.0, np.inf):
            background[seen == 1] = unknown  # so what is there is new
            assert len(detect(depth, CAMERA, background=background).z) == 2

    def test_what_errors_of_depth_explain_is_background(self):
        depth, background = frontal(0.3, 5.5), np.full((72, 96), WALL)
        # It is 0.5 m nearer: margin and two deviations, of what pixels do not have in common.
        for std, correlation, expected in ((0.15, 0.0, 1), (0.25, 0.0, 0), (0.25, 0.9, 1)):
            config = DetectConfig(correlation=correlation)
            assert len(detect(depth, CAMERA, std=std, background=background, config=config).z) == expected

    def test_errors_that_neighbours_have_in_common_do_not_join_them(self):
        depth = frontal(0.3, 5.0)
        for correlation, expected in ((1.0, 1), (0.0, 0)):
            config = DetectConfig(correlation=correlation, planes=0, max_extent=2.0)
            assert len(detect(depth, CAMERA, std=0.8, config=config).z) == expected

    def test_pixels_to_ignore(self):
        depth, seen = rendered()
        found = detect(depth, CAMERA, ignore=seen == 1)
        assert found.pixels.tolist() == [(seen == 0).sum()]
        assert not np.isnan(depth).any()

    @pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -2.0])
    def test_no_return_is_no_detection(self, value):
        empty = np.full((72, 96), value)
        for found in (detect(empty, CAMERA), detect(empty, CAMERA, background=rendered()[0])):
            assert [c.shape for c in found] == [(0, 3), (0, 3, 3), (0, 3), (0,), (0, 4), (0,)]

    def test_lost_pixels_leave_detections(self):
        rng = np.random.default_rng(0)
        depth, _ = rendered()
        depth[rng.random(depth.shape) < 0.2] = np.nan
        found = by_depth(detect(depth, CAMERA))
        whole = by_depth(detect(rendered()[0], CAMERA))
        np.testing.assert_allclose(found.z, whole.z, atol=0.02)
        assert np.isfinite(np.concatenate([np.ravel(c) for c in found])).all()
        assert (np.linalg.eigvalsh(found.cov) > 0).all()

    @pytest.mark.parametrize(
        ("call", "match"),
        [
            (lambda d: detect(d, None), "a Pinhole, got None"),
            (lambda d: detect(d.T, CAMERA), r"\(72, 96\), got \(96, 72\)"),
            (lambda d: detect(d[:0], CAMERA), r"\(72, 96\), got \(0, 96\)"),
            (lambda d: detect(d, CAMERA, background=d[1:]), r"\(72, 96\), got \(71, 96\)"),
            (lambda d: detect(d, CAMERA, ignore=d), "ignore must be a mask of shape"),
            (lambda d: detect(d, CAMERA, ignore=d[1:] > 0), "ignore must be a mask of shape"),
            (lambda d: detect(d, CAMERA, std=d[1:]), "std must be a number"),
            (lambda d: detect(d, CAMERA, pose=(2 * np.eye(3), np.zeros(3))), "orthonormal and right-handed"),
            (lambda d: detect(d, CAMERA, pose=(-np.eye(3), np.zeros(3))), "orthonormal and right-handed"),
            (lambda d: detect(d, CAMERA, pose=(np.eye(3), np.zeros(2))), "a finite place"),
            (lambda d: detect(d, CAMERA, pose=(np.eye(3), np.full(3, np.nan))), "a finite place"),
            (lambda d: detect(d, CAMERA, pose=(np.eye(4), np.zeros(3))), r"got \(4, 4\)"),
            (lambda d: DetectConfig(correlation=1.5), "correlation must be a probability"),
            (lambda d: DetectConfig(pixel=0.0), "pixel must be finite and > 0"),
            (lambda d: DetectConfig(share=0.0), "share must be finite and > 0"),
            (lambda d: DetectConfig(spread=-1.0), "spread must be >= 0"),
            (lambda d: DetectConfig(margin=np.nan), "margin must be >= 0"),
        ],
    )
    def test_wrong_arguments_are_refused(self, call, match):
        with pytest.raises(ValueError, match=match):
            call(rendered()[0])


class TestDepthNoise:
    @pytest.mark.parametrize("pose", [None, turned(0.1, -0.2, (0.5, 0.2, -0.3))])
    @pytest.mark.parametrize("stride", [1, 2])
    def test_it_is_the_covariance_of_detections(self, pose, stride):
        camera = CAMERA.scaled(384, 288)
        config = DetectConfig(correlation=0.0, spread=0.0, stride=stride, planes=0, max_extent=1.0)
        std = 0.2  # so large that even its share of thousands of pixels counts
        half = 0.25
        local = np.array([0.4, -0.3, 2.5])
        depth = np.full((288, 384), WALL)
        corners = camera.project(local + np.array([[-half, -half, 0], [half, half, 0]])).round().astype(int)
        depth[corners[0, 1] : corners[1, 1], corners[0, 0] : corners[1, 0]] = local[2]
        found = detect(depth, camera, std=std, pose=pose, config=config)
        noise = DepthNoise(camera, std, pose, half, config)
        x = np.concatenate((found.z, np.ones((1, 3))), 1)  # velocity does not matter
        np.testing.assert_allclose(noise(x), found.cov, rtol=0.05, atol=1e-7)
        spread = replace(noise, config=replace(config, spread=0.5))
        np.testing.assert_allclose(spread(x) - noise(x), [(0.5 * half) ** 2 * np.eye(3)], atol=1e-12)

    @settings(deadline=None)
    @given(place=st.tuples(*[st.floats(-50, 50)] * 3))
    def test_it_is_a_covariance_everywhere(self, place):
        """Also where a track has gone behind the camera."""
        noise = DepthNoise(CAMERA, 0.1, turned(0.3, 0.4))
        R = PositionSensor(dims=3, cov=noise).noise(np.array([[*place, 1.0, 1, 1]]))
        assert np.isfinite(R).all()
        assert (np.linalg.eigvalsh(R) > 0).all()

    def test_it_grows_with_depth_along_the_ray(self):
        noise = DepthNoise(CAMERA, lambda z: 0.01 * z**2, config=DetectConfig(correlation=1.0))
        R = noise(np.array([[0, 0, 1.0], [0, 0, 4.0], [4.0, 0, 4.0]]))
        spread = (0.25 * 0.25) ** 2
        np.testing.assert_allclose(R[:2, 2, 2], np.array([0.01, 0.16]) ** 2 + spread)
        assert R[2, 0, 2] == pytest.approx(0.16**2)  # a ray of 45 degrees
        assert noise(np.zeros((0, 6))).shape == (0, 3, 3)

    @pytest.mark.parametrize(
        ("changed", "match"),
        [
            ({"pinhole": None}, "a Pinhole, got None"),
            ({"std": -1.0}, "std must be finite and > 0"),
            ({"std": np.ones((72, 96))}, "std must be a number, a function"),
            ({"size": 0.0}, "size must be finite and > 0"),
            ({"pose": (np.ones((3, 3)), np.zeros(3))}, "orthonormal"),
        ],
    )
    def test_wrong_arguments_are_refused(self, changed, match):
        with pytest.raises(ValueError, match=match):
            DepthNoise(**{"pinhole": CAMERA} | changed)


def test_in_view():
    pose = turned(y=np.pi / 2, place=(1.0, 0, 0))  # looks along x
    view = InView(CAMERA, 0.8, pose, DetectConfig(nearest=0.5, farthest=4.0))
    x = np.array([[3.0, 0, 0], [3, 0, 1.1], [3, 0, 1.3], [3, 1, 0], [1.2, 0, 0], [6, 0, 0], [-2, 0, 0]])
    assert view(x).tolist() == [0.8, 0.8, 0, 0, 0, 0, 0]  # tan of half a view: 0.6 and 0.45
    with pytest.raises(ValueError, match="p_detect"):
        InView(CAMERA, 1.2)
    with pytest.raises(ValueError, match="a Pinhole"):
        InView(None)


def moving(places, n=400, size=(96, 72), seed=0, half=4, noise=0):
    """Events of squares about places, column and row, and of noise."""
    rng = np.random.default_rng(seed)
    x, y = (
        np.concatenate([rng.integers(p[k] - half, p[k] + half + 1, n) for p in places] or [np.zeros(0, int)])
        for k in (0, 1)
    )
    x, y = (np.append(v, rng.integers(0, side, noise)) for v, side in zip((x, y), size))
    return EventStream.unsorted(x, y, rng.integers(0, 10_000, len(x)), rng.integers(0, 2, len(x)), *size)


class TestEventClusters:
    def test_things_that_move_are_found_and_noise_is_not(self):
        places = np.array([(20, 30), (70, 20), (50, 60)])
        found = event_clusters(moving(places, noise=60), window=2000)
        assert len(found.centre) == 3
        order = [np.linalg.norm(found.centre - p, axis=1).argmin() for p in places]
        np.testing.assert_allclose(found.centre[order], places, atol=0.6)
        np.testing.assert_allclose(found.box[order], np.concatenate((places - 4, places + 4), 1), atol=2)
        assert (found.events > 300).all()

    @settings(deadline=None, max_examples=40)
    @given(
        seed=st.integers(0, 10**6), reach=st.integers(1, 3), least=st.integers(1, 2), few=st.integers(1, 12)
    )
    def test_same_as_labelled_pixels(self, seed, reach, least, few):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(0, 80))
        x, y = rng.integers(0, 15, n), rng.integers(0, 12, n)
        stream = EventStream(x, y, np.arange(n), x > 7, 15, 12)
        config = DetectConfig(pixel=0.7, spread=0.2)
        found = event_clusters(stream, window=None, reach=reach, least=least, min_events=few, config=config)
        count = np.zeros((12, 15), int)
        np.add.at(count, (y, x), 1)
        kept = count >= least
        # Within reach of each other: joined by squares of that side about every pixel, if these overlap.
        fine = np.kron(kept, [[1, 0], [0, 0]])
        label = (
            ndimage.label(ndimage.maximum_filter(fine, 2 * reach + 1), np.ones((3, 3)))[0][::2, ::2] * kept
        )
        groups = [np.nonzero(label == k) for k in range(1, label.max() + 1)]
        groups = [g for g in groups if len(g[0]) and count[g].sum() >= few]
        assert sorted(count[g].sum() for g in groups) == sorted(found.events)
        expected = {}
        for rows, columns in groups:
            p = np.repeat(np.stack((columns, rows), -1), count[rows, columns], 0)
            cov = 0.49 * np.eye(2) + 3 * 0.04 * np.cov(p.T, bias=True) if len(p) > 1 else 0.49 * np.eye(2)
            expected[(*p.min(0), *p.max(0))] = (len(p), *p.mean(0), *cov.ravel())
        got = {}
        for k in range(len(found.centre)):
            got[tuple(found.box[k].tolist())] = (found.events[k], *found.centre[k], *found.cov[k].ravel())
            assert (found.label == k).sum() == len(np.unique(found.pixel[found.label == k], axis=0))
        assert got.keys() == expected.keys()
        for box in expected:
            np.testing.assert_allclose(got[box], expected[box], atol=1e-9)

    @settings(deadline=None, max_examples=20)
    @given(dx=st.integers(-10, 20), dy=st.integers(-10, 20))
    def test_what_moves_by_a_pixel_is_a_pixel_on(self, dx, dy):
        one, two = (event_clusters(moving([(30 + a, 30 + b)])) for a, b in ((0, 0), (dx, dy)))
        np.testing.assert_allclose(two.centre - one.centre, [[dx, dy]], atol=1e-9)
        np.testing.assert_allclose(two.cov, one.cov, atol=1e-9)

    def test_an_empty_window_has_no_clusters(self):
        for stream in (EventStream.empty(96, 72), moving([(30, 30)], n=5), moving([], noise=1)):
            found = event_clusters(stream)
            shapes = [c.shape for c in found[:-1]]
            assert shapes == [(0, 2), (0, 2, 2), (0, 4), (0,), (0, 2), (0,)]
            assert found.size == (96, 72)

    @pytest.mark.parametrize("name", ["reach", "least", "min_events", "window"])
    def test_wrong_arguments_are_refused(self, name):
        with pytest.raises(ValueError, match=name):
            event_clusters(moving([(30, 30)]), **{name: 0})


def edges(seen, reach=1):
    """A stream with events on both sides of the outlines of boxes."""
    rows, columns = np.nonzero(
        ndimage.maximum_filter(seen, 2 * reach + 1) != ndimage.minimum_filter(seen, 2 * reach + 1)
    )
    x, y = np.repeat(columns, 3), np.repeat(rows, 3)
    return EventStream(x, y, np.arange(len(x)), np.ones(len(x), bool), 96, 72)


class TestLift:
    def test_edges_are_at_the_depth_of_what_is_nearer(self):
        depth, seen = rendered()
        found = event_clusters(edges(seen), window=None)
        lifted = by_depth(lift(found, depth, CAMERA, std=0.01))
        assert len(lifted.z) == 2
        for k, (middle, size) in enumerate(BOXES):
            front = np.subtract(middle, (0, 0, size[2]))
            np.testing.assert_allclose(lifted.z[k], front, atol=0.12)
        whole = by_depth(detect(depth, CAMERA, std=0.01))
        np.testing.assert_allclose(lifted.box, whole.box, atol=2)
        assert (lifted.pixels < whole.pixels).all()
        again = by_depth(lift(found, depth, CAMERA, std=0.01, config=DetectConfig(stride=3)))
        np.testing.assert_array_equal(again.cov, lifted.cov)  # events are where they are

    def test_a_pose_and_the_depth_beneath(self):
        """A cluster without a depth is left out, and source tells of which clusters the others are."""
        depth, seen = rendered()
        found = event_clusters(edges(seen), window=None)
        pose = rotation, place = turned(0.1, 0.2, (1.0, 2.0, 3.0))
        both = lift(found, depth, CAMERA, std=0.01)
        for gone in (0, 1):
            rows, columns = found.pixel[found.label == gone].T[::-1]
            holes = depth.copy()
            holes[rows, columns] = np.nan
            one = lift(found, holes, CAMERA, std=0.01, pose=pose)
            assert one.source.tolist() == [1 - gone]
            np.testing.assert_allclose(one.z, both.z[[1 - gone]] @ rotation.T + place, atol=1e-5)

    def test_nothing_to_lift(self):
        depth, seen = rendered()
        nothing = event_clusters(EventStream.empty(96, 72))
        assert lift(nothing, depth, CAMERA).z.shape == (0, 3)
        found = event_clusters(edges(seen), window=None)
        assert lift(found, np.full((72, 96), np.nan), CAMERA).cov.shape == (0, 3, 3)

    def test_sizes_must_match(self):
        depth, seen = rendered()
        found = event_clusters(edges(seen), window=None)
        with pytest.raises(ValueError, match=r"events are of 96 x 72 pixels, depth of 48 x 36"):
            lift(found, depth[::2, ::2], CAMERA.scaled(48, 36))
        with pytest.raises(ValueError, match=r"got \(36, 48\)"):
            lift(found, depth[::2, ::2], CAMERA)
        with pytest.raises(ValueError, match="a Pinhole, got None"):
            lift(found, depth, None)


STARTS = np.array([(-1.2, 0.2, 3.0), (1.2, -0.3, 4.0), (0.0, 0.5, 2.6)])
SPEEDS = np.array([(0.5, 0, 0.1), (-0.4, 0.1, 0.0), (0.1, -0.1, 0.3)])


def sees(time):
    """Pose of a camera that moves, and places of boxes, m, at a time in s."""
    return turned(0.03 * np.sin(time), 0.1 * np.sin(time), (0.1 * time, 0.0, 0.0)), STARTS + SPEEDS * time


@pytest.mark.parametrize("tracker", [PMBM, GNN])
def test_from_depth_to_tracks(tracker):
    """Boxes of known size seen by a camera that moves: one track each, near their middles, in the world."""
    rng = np.random.default_rng(0)
    half, std, config = 0.22, 0.01, DetectConfig(behind=1.0)
    birth = UniformBirth(0.3, rest_std=0.5, lower=(-3.0, -2, 0.5), upper=(3.0, 2, WALL))
    motion = ConstantVelocity(dims=3, q=0.05)
    tracking, totals, labels = None, [], []
    for time in np.arange(0, 1.6, 0.1):
        pose, places = sees(time)
        depth, _ = rendered([(p, (half,) * 3) for p in places], pose)
        depth = depth * (
            1 + std * (np.sqrt(0.5) * rng.normal() + np.sqrt(0.5) * rng.normal(size=depth.shape))
        )
        depth[rng.random(depth.shape) < 0.05] = np.nan
        found = detect(depth, CAMERA, std=lambda z: std * z, pose=pose, config=config)
        sensor = PositionSensor(
            dims=3,
            cov=DepthNoise(CAMERA, lambda z: std * z, pose, half, config),
            p_detect=InView(CAMERA, 0.95, pose, config),
            clutter_intensity=1e-3,
        )
        tracking = tracking or tracker(motion, sensor, birth)
        tracks = tracking.step(found.z, time, sensor=sensor)
        if time >= 0.5:
            totals.append(gospa(places, tracks.mean[:, :3], c=0.5))
            labels.append(sorted(tracks.label.tolist()))
    assert all(label == labels[0] for label in labels)
    assert len(labels[0]) == 3
    assert all(g.missed == g.false == 0 for g in totals)
    assert np.mean([g.total for g in totals]) < 0.2  # sqrt(3) times 0.1 m each
    last = gospa(places, tracks.mean[:, :3])
    error = tracks.mean[last.estimate_index, 3:] - SPEEDS[last.truth_index]
    assert np.linalg.norm(error, axis=1).max() < 0.25


def test_surroundings_have_no_narrow_things_and_all_the_walls():
    rows, columns = np.mgrid[:40, :60].astype(float)
    wall = 4 + 0.02 * columns + 0.01 * rows
    depth = wall.copy()
    depth[10:18, 20:26] = 2.0  # a thing
    depth[30:33, 40:44] = np.nan  # no return
    found = surroundings(depth, 13)
    known = np.isfinite(depth) & (depth > 2)
    assert (found >= depth)[np.isfinite(depth)].all()
    np.testing.assert_allclose(found[known], depth[known], atol=13 * 0.03)
    assert found[10:18, 20:26].min() > 4
    assert np.isfinite(found).all()
    wide = wall.copy()
    wide[5:35, 5:55] = 2.0
    assert (surroundings(wide, 13)[10:30, 10:50] == 2.0).all()  # wider than the square: it is background
    assert np.isnan(surroundings(np.zeros((4, 4)), 3)).all()
    with pytest.raises(ValueError, match="size"):
        surroundings(depth, 0)


def test_things_stand_out_from_their_surroundings_though_all_depth_is_off():
    camera = Pinhole.of(60, 40, 60.0)
    rows, columns = np.mgrid[:40, :60].astype(float)
    depth = 4 + 0.02 * columns + 0.01 * rows
    depth[10:18, 20:26] = 2.0
    config = DetectConfig(correlation=0.99, margin=0.3, min_points=10)
    for factor in (0.8, 1.0, 1.3):
        said = factor * depth
        found = detect(said, camera, std=0.3 * said, background=surroundings(said, 13), config=config)
        assert len(found.z) == 1
        assert found.box[0].tolist() == [20, 10, 25, 17]
        assert found.z[0, 2] == pytest.approx(2 * factor)
        assert found.cov[0, 2, 2] ** 0.5 == pytest.approx(0.3 * 2 * factor, rel=0.1)


def test_a_matrix_of_four_rows_is_no_pose():
    camera = Pinhole.of(8, 6, 8.0)
    for pose in (np.eye(4), 3, [np.eye(3)], ([[1, 2], [3]], [0, 0, 0])):
        with pytest.raises(ValueError, match="a pose is a rotation"):
            DepthNoise(camera, pose=pose)


@pytest.mark.parametrize(
    "changed", [{"planes": 1.5}, {"planes": -1}, {"min_points": np.nan}, {"tilt": np.nan}]
)
def test_settings_that_would_do_nothing_in_silence_are_refused(changed):
    with pytest.raises(ValueError, match=next(iter(changed))):
        detect(np.full((6, 8), 3.0), Pinhole.of(8, 6, 8.0), config=DetectConfig(**changed))


def test_surroundings_are_of_an_image_of_metres():
    for depth in (np.zeros((2, 3, 4)), np.ones((3, 4), int), 3.0):
        with pytest.raises(ValueError, match="depth"):
            surroundings(depth, 3)


def test_events_are_a_stream():
    with pytest.raises(ValueError, match="EventStream"):
        event_clusters(np.zeros((4, 4)))
    with pytest.raises(ValueError, match="min_events"):
        event_clusters(EventStream.empty(4, 4), min_events=np.nan)
