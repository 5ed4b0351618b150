"""Point clouds: every point, plane and cluster against a slow one, and against open3d."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from perception.clusters import clusters, voxel_clusters
from perception.pinhole import Pinhole
from perception.plane import Plane, ground
from perception.pointcloud import PointCloud, cloud, from_open3d, to_open3d

CAMERA = Pinhole.of(64, 48, 55.0)
BOXES = (
    ((-0.6, 0.7, 2.5), (0.3, 0.3, 0.3)),
    ((0.5, 0.6, 3.2), (0.25, 0.4, 0.2)),
    ((0.0, -0.5, 4.0), (0.5,) * 3),
)
NOTHING = -2  # in the image of what is seen: the wall; -1: the floor


def rendered(camera=CAMERA, boxes=BOXES, floor=1.0, wall=6.0):
    """Depth (H, W) of boxes, given by middle and half sizes, on a floor before a wall; and what is seen."""
    rays = camera.unproject(np.ones((camera.height, camera.width)))
    with np.errstate(divide="ignore"):
        depth = np.where(rays[..., 1] > 0, floor / rays[..., 1], np.inf)
        seen = np.where(depth < wall, -1, NOTHING)
        depth = np.minimum(depth, wall)
        for k, (middle, size) in enumerate(boxes):
            one, two = (np.subtract(middle, size)) / rays, (np.add(middle, size)) / rays
            enter, leave = np.minimum(one, two).max(-1), np.maximum(one, two).min(-1)
            hit = (enter <= leave) & (enter > 0) & (enter < depth)
            depth, seen = np.where(hit, enter, depth), np.where(hit, k, seen)
    return depth, seen


def same_groups(a, b):
    """Whether two labellings (n,) are the same but for the numbers; -1 is none in both."""
    a, b = np.asarray(a), np.asarray(b)
    pairs = np.unique(np.stack((a, b), -1)[(a >= 0) | (b >= 0)], axis=0)
    return len(pairs) == len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1])) and (pairs >= 0).all()


def large_first(label, min_points):
    """Groups (n,) with enough points by size, -1 for the others."""
    names, first, size = np.unique(label, return_index=True, return_counts=True)
    order = [k for k in np.lexsort((first, -size)) if size[k] >= min_points]
    new = {names[k]: i for i, k in enumerate(order)}
    return np.array([new.get(k, -1) for k in label], int)


class TestCloud:
    def test_points_are_those_of_the_returns(self):
        rng = np.random.default_rng(0)
        depth = rng.uniform(0.05, 8, (48, 64))
        for value in (np.nan, np.inf, -np.inf, 0.0, -1.0):
            depth[rng.random(depth.shape) < 0.05] = value
        for stride in (1, 2, 3, 100):
            found = cloud(depth, CAMERA, nearest=0.5, farthest=5.0, stride=stride)
            picked = np.zeros(depth.shape, bool)
            picked[::stride, ::stride] = True
            with np.errstate(invalid="ignore"):
                picked &= (depth >= 0.5) & (depth <= 5.0)
            np.testing.assert_array_equal(found.pixel[:, ::-1], np.argwhere(picked))
            np.testing.assert_allclose(found.points, CAMERA.unproject(depth)[picked], rtol=1e-5, atol=1e-6)
            assert found.stride == stride

    @pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
    def test_every_type_of_float_means_the_same(self, kind):
        depth = np.full((48, 64), 2.5, kind)
        depth[3, 4] = np.nan
        found = cloud(depth[:, ::-1], CAMERA)  # not contiguous
        assert len(found) == 48 * 64 - 1
        assert (found.points[:, 2] == 2.5).all()
        assert found.points.dtype == np.float32

    @pytest.mark.parametrize("depth", [np.nan, np.inf, 0.0, -1.0])
    def test_an_image_without_a_return_is_an_empty_cloud(self, depth):
        found = cloud(np.full((48, 64), depth), CAMERA, std=lambda z: 0.1 * z, colour=np.zeros((48, 64)))
        assert len(found) == len(found.std) == len(found.colour) == 0
        assert ground(found)[0] is None
        assert len(ground(found)[1]) == len(clusters(found)) == len(voxel_clusters(found)) == 0

    def test_deviations_come_as_number_image_or_function(self):
        depth, _ = rendered()
        image = 0.01 * depth
        by_image = cloud(depth, CAMERA, image).std
        np.testing.assert_allclose(by_image, cloud(depth, CAMERA, lambda z: 0.01 * z).std, rtol=1e-5)
        np.testing.assert_allclose(by_image, image.reshape(-1), rtol=1e-6)
        assert (cloud(depth, CAMERA, 0.25).std == 0.25).all()
        image[depth > 3], depth[depth > 3] = np.nan, np.nan  # no return, so nobody asks how sure it is
        assert np.isfinite(cloud(depth, CAMERA, image).std).all()

    def test_colours(self):
        depth, _ = rendered()
        grey = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)
        found = cloud(depth, CAMERA, colour=grey, stride=5).colour
        np.testing.assert_allclose(found, np.repeat(grey[::5, ::5].reshape(-1, 1) / 255, 3, 1), rtol=1e-6)
        colour = np.random.default_rng(0).random((48, 64, 3))
        np.testing.assert_allclose(
            cloud(depth, CAMERA, colour=colour).colour, colour.reshape(-1, 3), rtol=1e-6
        )

    def test_part_of_a_cloud(self):
        depth, seen = rendered()
        whole = cloud(depth, CAMERA, depth / 50, stride=2, colour=depth / 10)
        mask = seen[::2, ::2].reshape(-1) == 1
        for part in (whole[mask], whole[np.flatnonzero(mask)]):
            for name in ("points", "std", "pixel", "colour"):
                np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[mask])
            assert part.stride == 2
        assert len(whole[np.zeros(len(whole), bool)]) == 0
        assert repr(whole[mask]) == f"PointCloud({mask.sum()} points, with std, pixel, colour)"

    @pytest.mark.parametrize(
        ("call", "match"),
        [
            (lambda d: cloud(d, None), "a Pinhole, got None"),
            (lambda d: cloud(d[1:], CAMERA), r"\(48, 64\), got \(47, 64\)"),
            (lambda d: cloud(np.zeros((0, 0)), CAMERA), r"got \(0, 0\)"),
            (lambda d: cloud(d.astype(int), CAMERA), "metres as floats"),
            (lambda d: cloud(d, CAMERA, nearest=0.0), "0 < nearest < farthest"),
            (lambda d: cloud(d, CAMERA, nearest=3.0, farthest=2.0), "0 < nearest < farthest"),
            (lambda d: cloud(d, CAMERA, stride=0), "stride must be a whole number"),
            (lambda d: cloud(d, CAMERA, stride=1.5), "stride must be a whole number"),
            (lambda d: cloud(d, CAMERA, std=d[1:]), r"an image of shape \(48, 64\), got .* \(47, 64\)"),
            (lambda d: cloud(d, CAMERA, std=0.0), "std must be finite and > 0"),
            (lambda d: cloud(d, CAMERA, std=d * np.nan), "std must be finite and > 0"),
            (lambda d: cloud(d, CAMERA, std=lambda z: z[1:]), "std must return shape"),
            (lambda d: cloud(d, CAMERA, colour=d[1:]), r"colour must have shape"),
            (lambda d: cloud(d, CAMERA)[np.ones(5, bool)], r"a mask of 3072 points"),
            (lambda d: PointCloud(np.zeros((4, 2))), r"points of 4 points must have shape \(4, 3\)"),
            (
                lambda d: PointCloud(np.zeros((4, 3)), std=np.ones(3)),
                r"std of 4 points must have shape \(4,\)",
            ),
            (lambda d: PointCloud(np.full((4, 3), np.nan)), "points must be finite"),
        ],
    )
    def test_wrong_arguments_are_refused(self, call, match):
        with pytest.raises(ValueError, match=match):
            call(rendered()[0])


def slab(n, normal, offset, rng, noise=0.01):
    """Points about a plane, as wide as 4 m."""
    normal = np.asarray(normal, float) / np.linalg.norm(normal)
    p = rng.uniform(-2, 2, (n, 3))
    return p + np.outer(offset - p @ normal + noise * rng.normal(size=n), normal)


class TestGround:
    @settings(deadline=None, max_examples=25)
    @given(
        turn=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1),
        offset=st.floats(0.2, 5),
        seed=st.integers(0, 99),
    )
    def test_a_plane_among_other_points_is_found(self, turn, offset, seed):
        rng = np.random.default_rng(seed)
        normal = np.array(turn) / np.linalg.norm(turn)
        p = np.concatenate((slab(700, normal, offset, rng), rng.uniform(-4, 4, (700, 3))))
        plane, mask = ground(PointCloud(p), tolerance=0.03, seed=seed)
        assert abs(plane.normal @ normal) > 0.9995
        assert plane.offset == pytest.approx(-offset, abs=0.03)  # turned to the origin
        distance = np.abs(plane.distance(p))
        assert mask[distance < 0.03 - 1e-5].all()
        assert not mask[distance > 0.03 + 1e-5].any()
        assert mask[:700].mean() > 0.98
        assert mask[700:].mean() < 0.1

    def test_the_fit_is_that_of_least_squares(self):
        p = slab(3000, (0.2, -1, 0.1), -1.2, np.random.default_rng(0))
        plane, mask = ground(PointCloud(p), tolerance=0.2)
        assert mask.all()
        normal = np.linalg.svd(p - p.mean(0))[2][2]
        np.testing.assert_allclose(plane.normal * np.sign(plane.normal @ normal), normal, atol=1e-5)
        assert plane.distance(p.mean(0)) == pytest.approx(0, abs=1e-5)

    def test_up_chooses_the_floor_where_the_wall_is_larger(self):
        depth, seen = rendered(floor=1.0)
        points = cloud(depth, CAMERA)
        wall, of_wall = ground(points)
        np.testing.assert_allclose(np.append(wall.normal, wall.offset), (0, 0, -1, -6), atol=1e-3)
        np.testing.assert_array_equal(of_wall, seen.reshape(-1) == NOTHING)
        floor, of_floor = ground(points, up=(0, -3, 0))
        np.testing.assert_allclose(np.append(floor.normal, floor.offset), (0, -1, 0, -1), atol=0.02)
        assert of_floor[seen.reshape(-1) == -1].all()
        ceiling, _ = ground(points, up=(0, 1, 0))
        np.testing.assert_allclose(np.append(ceiling.normal, ceiling.offset), (0, 1, 0, 1), atol=0.02)

    def test_a_plane_that_tilts_too_far_is_none(self):
        p = PointCloud(slab(2000, (0.3, -1, 0), -1.0, np.random.default_rng(0), 0.005))  # tilts by 0.29 rad
        assert ground(p, up=(0, -1, 0), tilt=0.15, least=0.5)[0] is None
        plane, mask = ground(p, up=(0, -1, 0), tilt=0.35, least=0.5)
        assert mask.all()
        assert plane.normal[1] < -0.9

    def test_too_few_points_are_no_plane(self):
        rng = np.random.default_rng(0)
        p = PointCloud(np.concatenate((slab(300, (0, -1, 0), -1, rng), rng.uniform(-9, 9, (1700, 3)))))
        assert ground(p, least=0.1)[0] is not None
        plane, mask = ground(p, least=0.3)
        assert plane is None
        assert not mask.any()
        for n in range(3):
            assert ground(p[np.arange(n)])[0] is None
        line = PointCloud(np.arange(30.0)[:, None] * (1, 2, 3))
        assert ground(line[np.zeros(30, int)])[0] is None  # one place, many times

    def test_the_same_seed_gives_the_same_plane(self):
        p = PointCloud(np.random.default_rng(0).normal(size=(5000, 3)))
        one, two = ground(p, least=0.0, seed=5), ground(p, least=0.0, seed=np.random.default_rng(5))
        np.testing.assert_array_equal(one[1], two[1])
        assert one[0].offset == two[0].offset

    def test_points_of_uncertain_depth_count_as_far_as_their_error_goes(self):
        """Where a ray grazes the floor, an error of its depth hardly leaves the floor."""
        rng = np.random.default_rng(0)
        depth, seen = rendered(boxes=())
        noisy = depth * (1 + 0.03 * rng.normal(size=depth.shape))
        noisy[seen != -1] = np.nan
        certain = ground(cloud(noisy, CAMERA), 0.02, up=(0, -1, 0))[1]
        aware = ground(cloud(noisy, CAMERA, lambda z: 0.03 * z), 0.02, up=(0, -1, 0))
        assert certain.mean() < 0.7
        assert aware[1].mean() == pytest.approx(0.954, abs=0.03)  # within two deviations
        height = np.abs(aware[0].distance(cloud(noisy, CAMERA).points[aware[1]]))
        assert height.max() < 0.07  # and not two deviations of the farthest depth, 0.36 m

    @pytest.mark.parametrize(
        ("changed", "match"),
        [
            ({"tolerance": 0.0}, "tolerance"),
            ({"up": (0, 0, 0)}, "up must be a direction"),
            ({"up": (0, 1)}, "up must be a direction"),
            ({"up": (0, np.nan, 1)}, "up must be a direction"),
        ],
    )
    def test_wrong_arguments_are_refused(self, changed, match):
        with pytest.raises(ValueError, match=match):
            ground(PointCloud(np.zeros((5, 3))), **changed)


def neighbours_joined(points, gap, slope, reach, noise=0.0):
    """Labels by the definition, all pairs at once."""
    p, at = points.points.astype(float), points.pixel // points.stride
    ray = p[:, :2] / p[:, 2:]
    apart = np.hypot(*(ray[:, None] - ray[None]).transpose(2, 0, 1))
    allowed = gap + slope * np.minimum(p[:, None, 2], p[None, :, 2]) * apart
    if points.std is not None:
        allowed = allowed + noise * np.hypot(points.std[:, None], points.std[None])
    near = np.abs(at[:, None] - at[None]).max(-1) <= reach
    joined = near & (np.abs(p[:, None, 2] - p[None, :, 2]) <= allowed)
    return connected_components(coo_matrix(joined), directed=False)[1]


class TestClusters:
    @settings(deadline=None, max_examples=60)
    @given(
        seed=st.integers(0, 10**6),
        reach=st.integers(1, 3),
        stride=st.integers(1, 2),
        min_points=st.integers(1, 5),
        noise=st.sampled_from((0.0, 0.7)),
    )
    def test_same_as_by_the_definition(self, seed, reach, stride, min_points, noise):
        rng = np.random.default_rng(seed)
        camera = Pinhole.of(int(rng.integers(1, 13)), int(rng.integers(1, 11)), 9.0)
        depth = rng.choice((1.0, 1.25, 1.5, 3.0, np.nan), (camera.height, camera.width))
        points = cloud(depth * (1 + 0.05 * rng.random(depth.shape)), camera, 0.04, stride=stride)
        points = points[rng.permutation(len(points))[: len(points) - len(points) // 5]]
        label = clusters(points, 0.1, 0.5, reach, min_points, noise)
        if not len(points):
            assert len(label) == 0
            return
        expected = large_first(neighbours_joined(points, 0.1, 0.5, reach, noise), min_points)
        assert same_groups(label, expected)
        sizes = np.bincount(label[label >= 0])
        assert (np.diff(sizes) <= 0).all()  # the largest first

    def test_boxes_are_the_clusters_of_their_pixels(self):
        depth, seen = rendered(Pinhole.of(160, 120, 137.5))
        points = cloud(depth, Pinhole.of(160, 120, 137.5))
        # Without the floor; the top of a box is seen from so low that it leans by more than 80 degrees.
        label = clusters(points[seen.reshape(-1) != -1], gap=0.02, slope=30)
        expected = large_first(seen[seen != -1], 30)
        np.testing.assert_array_equal(label, expected)

    def test_a_surface_that_leans_is_one_and_a_step_is_two(self):
        camera = Pinhole.of(40, 30, 60.0)
        u = camera.unproject(np.ones((30, 40)))[..., 0]
        leaning = 2.0 / (1 - u * np.tan(np.deg2rad(70)) / np.tan(np.deg2rad(80)))  # nowhere beyond 80 degrees
        assert (clusters(cloud(leaning, camera), gap=0.01) == 0).all()
        step = np.where(np.arange(40) < 15, 2.0, 2.5) * np.ones((30, 1))
        label = clusters(cloud(step, camera), gap=0.01).reshape(30, 40)
        assert (label == np.where(np.arange(40) < 15, 1, 0)).all()
        assert (clusters(cloud(step, camera), gap=0.5) == 0).all()

    def test_noise_that_is_known_does_not_tear_a_wall(self):
        rng = np.random.default_rng(0)
        depth = 5 + 0.3 * rng.normal(size=(48, 64))
        torn, whole = (clusters(cloud(depth, CAMERA, std), slope=0.1) for std in (None, 0.3))
        assert (torn == 0).mean() < 0.9
        assert (whole == 0).mean() > 0.95

    def test_a_hole_is_bridged_as_far_as_reach_goes(self):
        depth = np.full((48, 64), 2.0)
        depth[:, 30:32] = np.nan
        assert clusters(cloud(depth, CAMERA), reach=2).max() == 1
        assert clusters(cloud(depth, CAMERA), reach=3).max() == 0

    def test_a_stride_has_neighbours_too(self):
        depth, _ = rendered()
        whole, part = cloud(depth, CAMERA), cloud(depth, CAMERA, stride=2)
        label = clusters(whole, gap=0.3).reshape(48, 64)[::2, ::2].reshape(-1)
        assert same_groups(clusters(part, gap=0.3, min_points=1), label)

    @pytest.mark.parametrize(
        ("call", "match"),
        [
            (lambda c: clusters(PointCloud(c.points)), "no pixels: voxel_clusters"),
            (lambda c: clusters(c, gap=-1.0), "gap"),
            (lambda c: clusters(c, slope=np.nan), "slope"),
            (lambda c: clusters(c, reach=0), "reach"),
            (lambda c: clusters(c, min_points=0), "min_points"),
            (lambda c: clusters(PointCloud(-c.points, pixel=c.pixel)), "z <= 0"),
            (lambda c: voxel_clusters(c, 0.0), "size must be finite and > 0"),
            (lambda c: voxel_clusters(c, 1e-7), "too many voxels"),
            (lambda c: voxel_clusters(c, min_points=0), "min_points"),
        ],
    )
    def test_wrong_arguments_are_refused(self, call, match):
        with pytest.raises(ValueError, match=match):
            call(cloud(rendered()[0], CAMERA))


class TestVoxelClusters:
    @settings(deadline=None, max_examples=60)
    @given(seed=st.integers(0, 10**6), n=st.integers(1, 300), min_points=st.integers(1, 8))
    def test_same_as_labelled_voxels(self, seed, n, min_points):
        rng = np.random.default_rng(seed)
        p = (rng.uniform(-1, 1, (n, 3)) * rng.choice((1.0, 4.0), 3) + rng.uniform(-50, 50, 3)).astype(
            np.float32
        )
        voxel = ((p - p.min(0).astype(float)) / 0.3).astype(int)
        filled = np.zeros(voxel.max(0) + 1, bool)
        filled[tuple(voxel.T)] = True
        expected = ndimage.label(filled, np.ones((3, 3, 3)))[0][tuple(voxel.T)]
        label = voxel_clusters(PointCloud(p), 0.3, min_points)
        assert same_groups(label, large_first(expected, min_points))
        assert (np.diff(np.bincount(label[label >= 0])) <= 0).all()

    @settings(deadline=None, max_examples=30)
    @given(seed=st.integers(0, 10**6))
    def test_nearer_than_a_voxel_is_together_and_far_is_apart(self, seed):
        p = PointCloud(np.random.default_rng(seed).uniform(-2, 2, (150, 3)))
        label = voxel_clusters(p, 0.4, 1)
        distance = np.linalg.norm(p.points[:, None] - p.points[None], axis=-1)
        together = label[:, None] == label[None]
        assert together[distance < 0.4].all()
        far = connected_components(coo_matrix(distance <= 2 * np.sqrt(3) * 0.4), directed=False)[1]
        assert (far[:, None] == far[None])[together].all()


class TestOpen3d:
    """Where open3d is installed (extra `pointcloud`)."""

    def test_there_and_back(self):
        pytest.importorskip("open3d")
        depth, _ = rendered()
        points = cloud(depth, CAMERA, colour=np.random.default_rng(0).random((48, 64, 3)))
        back = from_open3d(to_open3d(points))
        np.testing.assert_array_equal(back.points, points.points)
        np.testing.assert_allclose(back.colour, points.colour, atol=1e-6)
        assert from_open3d(to_open3d(PointCloud(points.points))).colour is None
        assert len(from_open3d(to_open3d(points[np.zeros(0, int)]))) == 0

    def test_its_points_of_a_depth_image_are_ours(self):
        o3d = pytest.importorskip("open3d")
        depth, _ = rendered()
        c = CAMERA
        theirs = o3d.geometry.PointCloud.create_from_depth_image(
            o3d.geometry.Image(depth.astype(np.float32)),
            o3d.camera.PinholeCameraIntrinsic(c.width, c.height, c.fx, c.fy, c.cx, c.cy),
            depth_scale=1.0,
        )
        np.testing.assert_allclose(np.asarray(theirs.points), cloud(depth, CAMERA).points, atol=1e-5)

    def test_its_plane_is_ours(self):
        pytest.importorskip("open3d")
        rng = np.random.default_rng(0)
        p = PointCloud(np.concatenate((slab(3000, (0.1, -1, 0.2), -1.3, rng), rng.uniform(-3, 3, (2000, 3)))))
        plane, mask = ground(p, tolerance=0.03)
        theirs, index = to_open3d(p).segment_plane(0.03, 3, 2000)
        theirs = np.array(theirs) * np.sign(theirs[1] * plane.normal[1])
        np.testing.assert_allclose(theirs[:3], plane.normal, atol=0.01)
        assert -theirs[3] == pytest.approx(plane.offset, abs=0.01)
        assert np.isin(np.flatnonzero(mask), index).mean() > 0.98

    def test_its_clusters_are_ours(self):
        pytest.importorskip("open3d")
        rng = np.random.default_rng(0)
        middles = np.array([(0, 0, 2), (1.5, 0, 2), (0, 1.5, 3), (-1.5, 0, 4.0)])
        sizes = (900, 700, 500, 300)
        p = PointCloud(np.concatenate([m + rng.uniform(-0.3, 0.3, (n, 3)) for m, n in zip(middles, sizes)]))
        p = p[rng.permutation(len(p))]
        theirs = np.asarray(to_open3d(p).cluster_dbscan(0.2, 5))
        assert same_groups(voxel_clusters(p, 0.2), theirs)

    def test_its_clusters_of_a_depth_image_are_ours(self):
        pytest.importorskip("open3d")
        depth, seen = rendered()
        points = cloud(depth, CAMERA)[seen.reshape(-1) >= 0]
        assert same_groups(clusters(points, slope=30), np.asarray(to_open3d(points).cluster_dbscan(0.3, 5)))

    def test_without_it_the_extra_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "open3d", None)
        with pytest.raises(ImportError, match=r"needs the pointcloud extra: pip install .*\[pointcloud\]"):
            to_open3d(PointCloud(np.zeros((1, 3))))


def test_distances_have_a_side():
    plane = Plane(np.array([0.0, -1, 0]), -1.0)  # a floor 1 m below
    np.testing.assert_allclose(plane.distance(np.array([[0, 0, 5.0], [3, 1, 2], [0, 1.5, 1]])), (1, 0, -0.5))


def test_inputs_are_not_changed():
    depth, _ = rendered()
    before = depth.copy()
    points = cloud(depth, CAMERA, 0.02 * depth, stride=2)
    columns = [points.points.copy(), points.std.copy(), points.pixel.copy()]
    ground(points)
    clusters(points)
    voxel_clusters(points)
    np.testing.assert_array_equal(depth, before)
    for column, name in zip(columns, ("points", "std", "pixel")):
        np.testing.assert_array_equal(getattr(points, name), column)


@pytest.mark.parametrize("changed", [{"tilt": np.nan}, {"tilt": -1.0}, {"least": np.nan}, {"least": 2.0}])
def test_planes_of_odd_settings_are_refused(changed):
    with pytest.raises(ValueError, match=next(iter(changed))):
        ground(PointCloud(np.random.default_rng(0).random((9, 3))), up=np.array([0, -1.0, 0]), **changed)


@pytest.mark.parametrize("changed", [{"min_points": np.nan}, {"reach": np.nan}, {"reach": np.inf}])
def test_clusters_of_odd_settings_are_refused(changed):
    depth = np.full((4, 4), 2.0)
    with pytest.raises(ValueError, match=next(iter(changed))):
        clusters(cloud(depth, Pinhole.of(4, 4, 4.0)), **changed)
    with pytest.raises(ValueError, match="min_points"):
        voxel_clusters(PointCloud(np.ones((9, 3))), min_points=np.nan)


@pytest.mark.parametrize("find", [ground, clusters, voxel_clusters], ids=lambda f: f.__name__)
def test_arrays_are_no_clouds_and_it_is_said_how_they_become_one(find):
    with pytest.raises(TypeError, match=r"got ndarray: PointCloud\(points\)"):
        find(np.zeros((5, 3)))


def test_parts_of_pixels_are_refused():
    assert PointCloud(np.ones((1, 3)), pixel=np.array([[3.0, 4.0]])).pixel.dtype == np.int32
    with pytest.raises(ValueError, match="whole numbers"):
        PointCloud(np.ones((1, 3)), pixel=np.array([[3.5, 4.0]]))
