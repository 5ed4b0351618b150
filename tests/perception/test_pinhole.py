"""The pinhole camera: against the camera matrix, against itself, and against the simulator's lens."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception.pinhole import Pinhole, as_depth

CAMERA = Pinhole(13, 9, 20.0, 25.0, 5.5, 4.25)


@st.composite
def cameras(draw):
    side, focal, centre = st.integers(1, 40), st.floats(1.0, 500.0), st.floats(-5.0, 45.0)
    return Pinhole(*(draw(s) for s in (side, side, focal, focal, centre, centre)))


def points(n=50, seed=0):
    return np.random.default_rng(seed).uniform((-3, -3, 0.2), (3, 3, 9), (n, 3))


def test_projection_is_that_of_the_camera_matrix():
    K = np.array([[20.0, 0, 5.5], [0, 25.0, 4.25], [0, 0, 1]])
    p = points()
    homogeneous = p @ K.T
    np.testing.assert_allclose(CAMERA.project(p), homogeneous[:, :2] / homogeneous[:, 2:])
    assert CAMERA.project(p.reshape(5, 10, 3)).shape == (5, 10, 2)


@settings(deadline=None)
@given(camera=cameras(), far=st.floats(0.01, 1e3))
def test_pixels_go_to_space_and_back(camera, far):
    p = camera.unproject(np.full((camera.height, camera.width), far))
    np.testing.assert_allclose(p[..., 2], far)
    rows, columns = np.mgrid[: camera.height, : camera.width]
    np.testing.assert_allclose(camera.project(p), np.stack((columns, rows), -1), atol=1e-6)


@settings(deadline=None)
@given(camera=cameras(), width=st.integers(1, 60), height=st.integers(1, 60))
def test_a_scaled_camera_sees_the_same(camera, width, height):
    small = camera.scaled(width, height)
    share = np.array([width, height]) / (camera.width, camera.height)
    expected = (camera.project(points()) + 0.5) * share - 0.5  # corners of the image stay corners
    np.testing.assert_allclose(small.project(points()), expected, rtol=1e-9, atol=1e-6)
    again = small.scaled(camera.width, camera.height)
    np.testing.assert_allclose(again.project(points()), camera.project(points()), rtol=1e-9, atol=1e-6)


def test_a_pixel_of_half_the_size_is_in_the_middle_of_four():
    p = Pinhole.of(8, 6, 10.0).unproject(np.ones((6, 8)))
    blocks = p.reshape(3, 2, 4, 2, 3).mean((1, 3))
    np.testing.assert_allclose(Pinhole.of(8, 6, 10.0).scaled(4, 3).unproject(np.ones((3, 4))), blocks)


def test_what_is_not_in_front_is_not_in_the_image():
    found = CAMERA.project(np.array([[1.0, 1, 0], [1, 1, -2], [np.nan, 1, 1], [0, 0, 3]]))
    assert np.isnan(found[:2]).all()
    assert np.isnan(found[2, 0])
    np.testing.assert_allclose(found[3], (5.5, 4.25))


def test_depths_that_are_not_finite_are_no_points():
    depth = np.ones((9, 13), np.float32)
    depth[0, 0], depth[3, 5], depth[8, 12] = np.nan, np.inf, -np.inf
    found = CAMERA.unproject(depth)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(found).all(-1), ~np.isfinite(depth))
    assert np.isfinite(found[np.isfinite(depth)]).all()


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"width": 0}, "width must be a whole number"),
        ({"height": 9.0}, "height must be a whole number"),
        ({"width": True}, "width must be a whole number"),
        ({"width": None}, "width must be a whole number"),
        ({"fx": None}, "fx must be a finite number of pixels, got None.*calibration"),
        ({"cy": np.nan}, "cy must be a finite number"),
        ({"fy": np.inf}, "fy must be a finite number"),
        ({"fx": 0.0}, "fx and fy must be > 0"),
        ({"fy": -3.0}, "fx and fy must be > 0"),
        ({"cx": "1"}, "cx must be a finite number"),
    ],
)
def test_wrong_intrinsics_are_refused(changed, match):
    right = {"width": 13, "height": 9, "fx": 20.0, "fy": 25.0, "cx": 5.5, "cy": 4.25}
    with pytest.raises(ValueError, match=match):
        Pinhole(**right | changed)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: CAMERA.project(np.zeros((4, 2))), r"points must have shape \(\.\.\., 3\), got \(4, 2\)"),
        (lambda: CAMERA.rays(3.0), r"pixels must have shape \(\.\.\., 2\), got \(\)"),
        (lambda: CAMERA.unproject(np.ones((13, 9))), r"shape \(9, 13\), got \(13, 9\).*scaled"),
        (lambda: CAMERA.unproject(np.ones((0, 0))), r"got \(0, 0\)"),
        (lambda: CAMERA.unproject(np.ones((9, 13), np.uint16)), "got uint16.*depth / 1000"),
        (lambda: CAMERA.unproject(np.ma.masked_less(np.ones((9, 13)), 0)), "masked"),
        (lambda: as_depth(np.ones((9, 13)), None), "a Pinhole, got None"),
        (lambda: CAMERA.scaled(0, 5), "width"),
    ],
)
def test_wrong_arguments_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_inputs_are_not_changed():
    depth = np.full((9, 13), np.inf)
    CAMERA.unproject(depth)
    assert (depth == np.inf).all()
