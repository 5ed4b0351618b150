"""Clips: events, frames, depth and flow of one way through a room belong together."""

import numpy as np
import pytest

from perception.pinhole import Pinhole
from sims.camera import PERFECT, EventCamera, log_intensity, replayed
from sims.clips import clip, random_clip
from sims.nmnist import load
from sims.world import Path, World


@pytest.fixture(scope="module")
def film():
    return clip(World.random(1, moving=2), Path.random(1), Pinhole.of(40, 32, 40.0), frames=3, pixels=PERFECT)


def test_everything_has_its_shape(film):
    assert len(film) == 3
    assert film.times.tolist() == [0, 20_000, 40_000, 60_000]
    assert film.image.shape == film.depth.shape == (4, 32, 40)
    assert film.flow.shape == (3, 2, 32, 40)
    assert len(film.source) == len(film.events) > 500
    assert sum(len(film.window(k)) for k in range(3)) == (film.events.t < 60_000).sum()


def test_windows_replay_from_frame_to_frame(film):
    threshold = EventCamera(40, 32, PERFECT).threshold
    level = log_intensity(film.image[0])
    for k in range(3):
        level = replayed(film.window(k), level, threshold)
        assert (
            np.abs(level - log_intensity(film.image[k + 1])).max() < 2 * 0.2
        )  # stamps at the end count next


def test_truth_is_that_of_the_world_at_each_frame(film):
    for k in (0, 3):
        view = film.world.view(film.lens, film.path.pose(film.times[k]), film.times[k])
        assert (view.depth == film.depth[k]).all()
        assert (view.image == film.image[k]).all()
    flow = film.world.flow(
        film.lens, film.world.view(film.lens, film.path.pose(0), 0), 0, film.path.pose(20_000), 20_000
    )
    assert np.allclose(flow, film.flow[0])


def test_a_clip_has_a_window():
    with pytest.raises(ValueError, match="at least one window"):
        clip(World.random(1), Path.random(1), Pinhole.of(8, 8, 8.0), frames=0)


def test_random_clips_differ_and_repeat():
    one, again, other = (random_clip(s, side=24, frames=2) for s in (5, 5, 6))
    assert one.events == again.events
    assert one.events != other.events


def test_nmnist_is_read_from_folders_and_zips(tmp_path):
    import zipfile

    from perception.events import EventStream, write

    stream = EventStream([3, 33], [0, 20], [5, 100], [0, 1], 34, 34)
    (tmp_path / "plain" / "events").mkdir(parents=True)
    (tmp_path / "plain" / "labels.csv").write_text("sample,label\na1,7\n")
    write(stream, tmp_path / "plain" / "events" / "a1.bin")
    (tmp_path / "tonic" / "7").mkdir(parents=True)
    write(stream, tmp_path / "tonic" / "7" / "a1.bin")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / "plain" / "labels.csv", "labels.csv")
        archive.write(tmp_path / "plain" / "events" / "a1.bin", "events/a1.bin")
    for name in ("plain", "tonic", "all.zip"):
        streams, labels = load(tmp_path / name)
        assert streams == [stream]
        assert labels.tolist() == [7]
    with pytest.raises(ValueError, match="neither"):
        load(tmp_path / "plain" / "events")
    (tmp_path / "plain" / "labels.csv").write_text("sample,label\n../a1,7\n")
    with pytest.raises(ValueError, match="a digit"):
        load(tmp_path / "plain")
