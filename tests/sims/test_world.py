"""Ray-cast rooms: depth, flow and pose are exact, and events of them replay."""

import numpy as np
import pytest

from perception.pinhole import Pinhole
from sims.camera import EventCamera, Pixels, record, replayed
from sims.world import BALL, BOX, Path, Pose, World, scene

LENS = Pinhole.of(64, 48, 60.0)


def bilinear(image, u, v):
    """Values between pixels; NaN outside."""
    left, top = np.floor(u).astype(int), np.floor(v).astype(int)
    inside = (left >= 0) & (top >= 0) & (left < image.shape[1] - 1) & (top < image.shape[0] - 1)
    left, top = np.where(inside, left, 0), np.where(inside, top, 0)
    a, b = u - left, v - top
    corners = [image[top + i, left + j] for i in (0, 1) for j in (0, 1)]
    mixed = (1 - b) * ((1 - a) * corners[0] + a * corners[1]) + b * ((1 - a) * corners[2] + a * corners[3])
    return np.where(inside, mixed, np.nan)


@pytest.mark.parametrize("seed", range(6))
def test_points_lie_on_the_surfaces_that_were_hit(seed):
    world, pose = World.random(seed, moving=3), Path.random(seed).pose(400_000)
    view = world.view(LENS, pose, 400_000)
    points = pose.to_world(LENS.unproject(view.depth))
    assert np.allclose(
        LENS.project(pose.to_camera(points)), np.moveaxis(np.mgrid[:64, :48], 0, -1).swapaxes(0, 1)
    )
    off = np.empty(view.depth.shape)
    for i, centre in enumerate(world.at(400_000)):
        mine, reach = view.object == i, world.size[i]
        relative = points[mine] - centre
        if world.kind[i] == BALL:
            off[mine] = np.linalg.norm(relative, axis=-1) - reach[0]
        else:
            off[mine] = (np.abs(relative) - reach).max(-1)
    walls = view.object == -1
    off[walls] = np.minimum(points[walls] - world.room[0], world.room[1] - points[walls]).min(-1)
    assert np.abs(off).max() < 1e-9
    assert (view.object >= 0).sum() > 50
    assert (view.depth > 0).all()


def test_nothing_lies_nearer_than_what_is_seen():
    """Points along the rays, before the hit, are inside no object: an independent look at what is hidden."""
    world, pose = World.random(2, objects=12), Path.random(2).pose(0)
    view = world.view(LENS, pose)
    far = pose.to_world(LENS.unproject(view.depth))
    for share in np.linspace(0.02, 0.999, 60):
        point = pose.place + share * (far - pose.place)
        for i, centre in enumerate(world.place):
            relative = point - centre
            if world.kind[i] == BALL:
                inside = np.linalg.norm(relative, axis=-1) < world.size[i, 0] - 1e-9
            else:
                inside = (np.abs(relative) < world.size[i] - 1e-9).all(-1)
            assert not inside.any()


def test_depth_is_along_the_axis_and_not_the_ray():
    world = World.random(0, objects=0)
    view = world.view(LENS, Pose(np.eye(3), np.zeros(3)))
    wall = world.room[1, 2]
    straight = np.isclose(view.depth, wall)
    assert straight.mean() > 0.2
    ray = np.linalg.norm(LENS.unproject(view.depth), axis=-1)
    assert (ray[straight] >= wall).all()
    assert ray[straight].max() > 1.05 * wall


@pytest.mark.parametrize("seed", range(4))
def test_depth_of_one_pose_is_that_of_another_within_a_thousandth(seed):
    world, path, lens = World.random(seed), Path.random(seed), Pinhole.of(128, 96, 120.0)
    one, other = (world.view(lens, path.pose(t), samples=1) for t in (0, 15_000))
    moved = other.pose.to_camera(one.pose.to_world(lens.unproject(one.depth)))
    u, v = np.moveaxis(lens.project(moved), -1, 0)
    error = np.abs(bilinear(other.depth, u, v) / moved[..., 2] - 1)
    assert np.nanmedian(error) < 1e-3
    assert (error[np.isfinite(error)] < 0.02).mean() > 0.95  # the rest is at the borders of objects


@pytest.mark.parametrize("moving", [0, 8])
def test_flow_leads_to_where_the_same_thing_is_seen(moving):
    world, path, lens = World.random(3, moving=moving), Path.random(3), Pinhole.of(128, 96, 120.0)
    one = world.view(lens, path.pose(0), 0)
    other = world.view(lens, path.pose(30_000), 30_000)
    flow = world.flow(lens, one, 0, other.pose, 30_000)
    assert 0.3 < np.linalg.norm(flow, axis=0).mean() < 20
    y, x = np.mgrid[:96, :128]
    seen = bilinear(other.image, x + flow[0], y + flow[1])
    still = bilinear(other.image, x + 0.0, y + 0.0)
    assert np.nanmedian(np.abs(seen - one.image)) < 0.3 * np.nanmedian(np.abs(still - one.image))
    assert np.abs(world.flow(lens, one, 0, one.pose, 0)).max() < 1e-9


def test_objects_take_their_flow_and_their_texture_with_them():
    """One object moves alone: what flow says of it is where it is seen, brightness and all."""
    world = World.random(5, objects=6, moving=6, speed=1.0)
    pose, lens = Pose(np.eye(3), np.zeros(3)), Pinhole.of(160, 120, 150.0)
    one, other = world.view(lens, pose, 0), world.view(lens, pose, 150_000)
    flow = world.flow(lens, one, 0, pose, 150_000)
    y, x = np.mgrid[:120, :160]
    u, v = x + flow[0], y + flow[1]
    for i in range(6):
        mine = (one.object == i) & (np.hypot(*flow) > 1)
        if mine.sum() < 100:
            continue
        inner = mine & np.roll(mine, 2, 0) & np.roll(mine, -2, 0) & np.roll(mine, 2, 1) & np.roll(mine, -2, 1)
        inside = inner & (u > 0) & (u < 159) & (v > 0) & (v < 119)
        lands = other.object[np.round(v[inside]).astype(int), np.round(u[inside]).astype(int)]
        assert (lands == i).mean() > 0.8
        error = np.abs(bilinear(other.image, u, v) - one.image)[inside]
        assert np.nanmedian(error) < 0.03


def test_intensity_and_depth_are_of_the_same_pixels():
    """An edge between objects is where both change."""
    view = World.random(1, objects=10).view(
        Pinhole.of(200, 150, 180.0), Pose(np.eye(3), np.zeros(3)), samples=4
    )
    fine = World.random(1, objects=10).view(
        Pinhole.of(800, 600, 720.0), Pose(np.eye(3), np.zeros(3)), samples=1
    )
    blocks = fine.image.reshape(150, 4, 200, 4).mean((1, 3))
    assert np.abs(blocks - view.image).mean() < 0.25 * np.abs(np.roll(blocks, 1, 1) - view.image).mean()
    middle = fine.depth.reshape(150, 4, 200, 4)[:, 1:3, :, 1:3].mean((1, 3))
    assert np.median(np.abs(middle - view.depth)) < 1e-3


def test_moving_objects_move_in_the_image_of_a_camera_that_rests():
    world = World.random(5, moving=8)
    pose = Pose(np.eye(3), np.zeros(3))
    view = world.view(LENS, pose, 0)
    speed = np.linalg.norm(world.flow(LENS, view, 0, pose, 100_000), axis=0)
    assert (speed[view.object == -1] < 1e-9).all()
    assert (speed[view.object >= 0] > 1e-3).mean() > 0.9


def test_a_path_is_smooth_and_its_poses_are_rotations():
    path = Path.random(7)
    for t in (0, 123_456, 10**7):
        pose, near = path.pose(t), path.pose(t + 1000)
        assert np.allclose(pose.rotation @ pose.rotation.T, np.eye(3))
        assert np.linalg.det(pose.rotation) == pytest.approx(1)
        assert np.abs(near.place - pose.place).max() < 0.01
        points = np.random.default_rng(0).normal(size=(5, 3))
        assert np.allclose(pose.to_camera(pose.to_world(points)), points)


def test_events_of_a_room_replay_to_what_is_seen_at_the_end():
    world, path = World.random(1), Path.random(1)
    look = scene(world, LENS, path)
    camera = EventCamera(64, 48, Pixels(), seed=0)
    rec = record(camera, look, 0, 100_000)
    error = np.abs(replayed(rec.events, look(0), camera.threshold) - look(100_000))
    assert len(rec.events) > 3000
    assert (error < camera.threshold.max(0)).all()


def test_night_is_darker_and_more_samples_are_smoother():
    world, pose = World.random(4), Pose(np.eye(3), np.zeros(3))
    day, night = world.view(LENS, pose), world.view(LENS, pose, light=0.05)
    dark = day.image < 1
    assert np.allclose(night.image[dark], 0.05 * day.image[dark])
    fine = world.view(LENS, pose, samples=6).image
    assert np.abs(day.image - fine).mean() < np.abs(world.view(LENS, pose, samples=1).image - fine).mean()


def test_worlds_are_of_both_kinds_and_the_same_for_a_seed():
    kinds = np.concatenate([World.random(s).kind for s in range(4)])
    assert {BALL, BOX} == set(kinds.tolist())
    assert (World.random(3).place == World.random(3).place).all()
    assert (World.random(3).place != World.random(4).place).any()


def test_what_is_behind_the_camera_later_has_no_flow():
    world = World.random(3)
    here, back = Pose(np.eye(3), np.zeros(3)), Pose(np.diag((-1.0, 1.0, -1.0)), np.zeros(3))
    assert np.isnan(world.flow(LENS, world.view(LENS, here), 0, back, 1000)).all()


def test_a_camera_outside_the_room_is_an_error():
    world = World.random(0)
    with pytest.raises(ValueError, match="inside the room"):
        world.view(LENS, Pose(np.eye(3), np.array([50.0, 0, 0])))
    with pytest.raises(ValueError, match="moving"):
        World.random(0, objects=3, moving=4)
    for lens in ((0, 4, 1.0), (4, 4, 0.0), (4, 4, np.nan)):
        with pytest.raises(ValueError, match="pixels"):
            Pinhole.of(*lens)
    with pytest.raises(ValueError, match="samples"):
        world.view(LENS, Pose(np.eye(3), np.zeros(3)), samples=0)
