"""Real RGB-D frames: read as they are, and moved as their poses say."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("PIL")
pytest.importorskip("transformers")

from PIL import Image

from perception.depth.backbone import Backbone
from perception.depth.estimator import Estimator
from perception.depth.fuse import FUSE
from perception.pinhole import Pinhole
from sims.rgbd import _from, load, rgbd_pairs
from sims.studies import rgbd
from sims.world import Pose, World

CAMERA = Pinhole.of(64, 48, 60.0)
STEP = 0.05  # m, to the right, from frame to frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three frames of a ray-cast room in the layout, with a hole in one depth image."""
    folder, world = tmp_path_factory.mktemp("frames"), World.random(3)
    for k in range(3):
        pose = Pose(np.eye(3), np.array([STEP * k, 0, 0]))
        view = world.view(CAMERA, pose)
        depth = np.round(1000 * view.depth).astype(np.uint16)
        depth[0, :8] = 0 if k == 1 else depth[0, :8]
        name = f"frame-{8 * k:06d}"
        Image.fromarray((255 * view.image).astype(np.uint8)).convert("RGB").save(
            folder / f"{name}.color.jpg", quality=98
        )
        Image.fromarray(depth).save(folder / f"{name}.depth.png")
        M = np.eye(4)
        M[:3, 3] = pose.place
        np.savetxt(folder / f"{name}.pose.txt", M)
    K = [[CAMERA.fx, 0, CAMERA.cx], [0, CAMERA.fy, CAMERA.cy], [0, 0, 1]]
    np.savetxt(folder / "camera-intrinsics.txt", K)
    return folder


def test_frames_are_read_at_a_size_and_a_zip_holds_the_same(folder, tmp_path):
    found = load(folder, 32, 24)
    assert (len(found), found.image.shape, found.camera.width) == (3, (3, 24, 32), 32)
    assert found.camera == CAMERA.scaled(32, 24)
    whole = load(folder, 64, 48)
    view = World.random(3).view(CAMERA, Pose(np.eye(3), np.zeros(3)))
    assert np.abs(whole.image[0] - view.image).max() < 0.06
    assert np.nanmax(np.abs(whole.depth[0] - view.depth)) < 1e-3
    assert np.isnan(whole.depth[1]).sum() == 8
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"inside/{file.name}")
    np.testing.assert_array_equal(load(tmp_path / "f.zip", 32, 24).image, found.image)


def test_a_frame_seen_from_the_one_before_is_that_one(folder):
    frames = load(folder, 64, 48)
    moved = _from(frames, 1, frames.poses[0])
    inside = (slice(4, -4), slice(6, -6))
    error = np.abs(moved - frames.image[0])[inside].mean()
    assert error < 0.5 * np.abs(frames.image[1] - frames.image[0])[inside].mean()
    np.testing.assert_allclose(_from(frames, 1, frames.poses[1]), frames.image[1], atol=1e-5)


def test_pairs_have_events_of_the_motion(folder):
    frames = load(folder, 64, 48)
    pairs = rgbd_pairs(frames)
    assert len(pairs) == 2
    assert np.abs(pairs.voxels).sum() > 100
    np.testing.assert_array_equal(pairs.depth, frames.depth[1:])
    assert rgbd_pairs(frames, "night").seen.mean() < 0.1 * pairs.seen.mean()


def test_the_study_says_what_it_found(folder, tmp_path, capsys):
    backbone = Backbone.tiny(64, hidden_size=32, num_attention_heads=2)
    weights, table = tmp_path / "w.safetensors", tmp_path / "t.json"
    Estimator(FUSE(backbone, backbone.without_head()), 10.0, 50_000).save(weights)
    argv = ["--data", str(folder), "--weights", str(weights), "--json", str(table)]
    assert rgbd.main(argv) == 0
    assert "both minus frames" in capsys.readouterr().out
    rows = json.loads(table.read_text())["conditions"]
    assert len(rows["night"]["both"]["relative"]) == 2


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("camera-intrinsics.txt", b"1 2 3", "3 x 3 numbers"),
        ("frame-000008.pose.txt", b"x", "4 x 4 numbers"),
        ("frame-000008.depth.png", b"\x89PNG nonsense", "no picture"),
        ("frame-000008.depth.png", None, "has no frame-000008.depth.png"),
        ("camera-intrinsics.txt", None, "are expected"),
    ],
)
def test_what_is_wrong_with_a_folder_is_one_error(folder, tmp_path, name, content, says):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=says):
        load(tmp_path)


def test_what_is_no_folder_is_an_error(tmp_path, capsys):
    (tmp_path / "x").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="neither"):
        load(tmp_path / "x")


def test_a_damaged_zip_is_one_error(folder, tmp_path):
    path = tmp_path / "f.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
        at = archive.getinfo("frame-000008.color.jpg").header_offset
    data = bytearray(path.read_bytes())
    data[at + 200] ^= 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"frame-000008.color.jpg cannot be read"):
        load(path)


@pytest.mark.parametrize("packed", [False, True])
def test_files_beyond_the_bound_are_not_read(folder, tmp_path, monkeypatch, packed):
    path = folder
    if packed:
        path = tmp_path / "f.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in folder.iterdir():
                archive.write(file, file.name)
    monkeypatch.setattr("sims.rgbd.MAX_BYTES", 100)
    with pytest.raises(ValueError, match="more than 100 bytes"):
        load(path)


def test_events_need_two_frames_and_depth(folder):
    frames = load(folder, 32, 24)
    with pytest.raises(ValueError, match="got 1 frame"):
        rgbd_pairs(replace(frames, image=frames.image[:1], depth=frames.depth[:1], poses=frames.poses[:1]))
    with pytest.raises(ValueError, match="frame 1 has no depth"):
        rgbd_pairs(
            replace(frames, depth=frames.depth * np.where(np.arange(3) == 1, np.nan, 1)[:, None, None])
        )
