"""What is said and shown of a recording."""

import json

import numpy as np
import pytest

from perception.events import EventStream, write
from perception.events.__main__ import main
from perception.events.pictures import BRIGHTER, DARKER, PAPER, coloured, film
from perception.events.summary import MAX_BINS, Summary, summary


def recording(n=20_000, width=40, height=30, seconds=2, seed=0):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, seconds * 10**6, n))
    return EventStream(
        rng.integers(0, width, n), rng.integers(0, height, n), t, rng.integers(0, 2, n), width, height
    )


def test_a_summary_in_parts_is_that_of_the_whole():
    stream = recording().merge(EventStream([3] * 900, [4] * 900, np.arange(900) * 7, [1] * 900, 40, 30))
    whole = summary([stream], 40, 30)
    for number in (1, 17, 5000):
        parts = (
            summary(stream.by_count(number), 40, 30)
            if number > 1
            else summary(stream[:300].by_count(1), 40, 30)
        )
        other = whole if number > 1 else summary([stream[:300]], 40, 30)
        assert (parts.count == other.count).all()
        assert (parts.rate == other.rate).all()
        for name in ("first", "last", "gap", "gap_at", "tick", "crowd", "crowd_at", "repeated"):
            assert getattr(parts, name) == getattr(other, name), name
    assert whole.number == 20_900
    assert whole.rate.sum() == 20_900
    assert whole.hot().tolist() == [[3, 4]]


def test_anomalies_are_named_and_a_sound_recording_has_none():
    assert summary([recording()], 40, 30).anomalies() == []
    assert Summary(4, 3).anomalies() == ["no events"]
    stream = recording(seconds=1)
    late = stream.shift(1_500_000)
    said = " ".join(summary([stream, late], 40, 30).anomalies())
    assert "no event for 0.5" in said
    coarse = EventStream(stream.x, stream.y, stream.t // 1000 * 1000, stream.p, 40, 30)
    said = " ".join(summary([coarse], 40, 30).anomalies())
    assert "multiples of 1000 us" in said
    flash = EventStream(
        np.arange(1200) % 40, np.arange(1200) // 40, np.full(1200, 5), np.ones(1200, bool), 40, 30
    )
    said = " ".join(summary([flash], 40, 30).anomalies())
    assert "1200 events at 5 us alone" in said
    assert "100.0% of the events are brighter" in said
    twice = flash.merge(flash)
    assert summary([twice], 40, 30).repeated == 1200


def test_gaps_are_found_where_they_begin():
    for length, named in ((90_000, False), (110_000, True)):
        t = np.concatenate((np.arange(0, 50_000, 100), 49_900 + length + np.arange(0, 50_000, 100)))
        found = summary([EventStream(t % 7, t % 5, t, t % 3 > 0, 8, 6)], 8, 6)
        assert (found.gap, found.gap_at) == (length, 49_900)
        assert any("no event for" in line and "from 49900 us" in line for line in found.anomalies()) == named
        assert found.seconds == pytest.approx((99_800 + length) * 1e-6)


def test_the_hottest_pixel_comes_first():
    few, many = (
        EventStream([x] * n, [9] * n, np.arange(n) * 50, [1] * n, 40, 30) for x, n in ((5, 400), (30, 800))
    )
    assert summary([recording(6000).merge(few, many)], 40, 30).hot().tolist() == [[30, 9], [5, 9]]


def test_rates_of_a_long_recording_stay_in_bounds():
    found = Summary(4, 3)
    for start in range(0, 9):
        found.add(EventStream([1, 2], [1, 2], [start * 10**10, start * 10**10 + 5], [0, 1], 4, 3))
    assert len(found.rate) <= MAX_BINS
    assert found.rate.sum() == 18
    assert found.bin > 10_000


def test_colours_say_which_way_it_went():
    events = EventStream([0, 0, 1, 1, 2, 2], [0] * 6, [0, 1, 2, 3, 4, 5], [1, 1, 0, 0, 0, 1], 4, 1)
    assert coloured(events).tolist() == [[list(c) for c in (BRIGHTER, DARKER, PAPER, PAPER)]]


@pytest.mark.parametrize("name", ["film.gif", "film.mp4"])
def test_films_have_their_pictures(tmp_path, name):
    image = pytest.importorskip("PIL.Image")
    pictures = [coloured(recording(seed=k, width=41), full=1) for k in range(5)]
    if name.endswith("mp4"):
        av = pytest.importorskip("av", reason="the viz extra is not installed")
        film(pictures, tmp_path / name, 25)
        with av.open(tmp_path / name) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert [f.shape for f in frames] == [(30, 42, 3)] * 5
        for frame, picture in zip(frames, pictures):  # colours are coarser than pixels
            assert np.abs(frame[:, :41].astype(float).mean((0, 1)) - picture.mean((0, 1))).max() < 12
    else:
        film(pictures, tmp_path / name, 25)
        with image.open(tmp_path / name) as gif:
            assert gif.n_frames == 5
            for k, picture in enumerate(pictures):
                gif.seek(k)
                assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - picture).max() <= 5
    with pytest.raises(ValueError, match="of one size"):
        film([pictures[0], pictures[1][:, :20]], tmp_path / name, 25)
    with pytest.raises(ValueError, match="pictures a second"):
        film(pictures, tmp_path / name, 0)
    with pytest.raises(ValueError, match="at least one"):
        film([], tmp_path / name, 25)
    with pytest.raises(ValueError, match="a film is"):
        film(pictures, tmp_path / "film.avi", 25)


@pytest.mark.parametrize("grey", [False, True])
def test_a_film_may_begin_with_an_empty_picture(tmp_path, grey):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    busy = (
        np.repeat(rng.integers(0, 256, (20, 30, 1)).astype(np.uint8), 3, -1)
        if grey
        else coloured(recording())
    )
    film([np.full_like(busy, 255), busy], tmp_path / "a.gif", 25, grey=grey)
    with image.open(tmp_path / "a.gif") as gif:
        assert (np.asarray(gif.convert("RGB")) >= (255 if grey else 250)).all()
        gif.seek(1)
        assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - busy).max() <= (0 if grey else 5)


def test_summaries_refuse_what_does_not_belong_to_them():
    found = summary([recording(100)], 40, 30)
    with pytest.raises(ValueError, match="40 x 30"):
        found.add(EventStream([0], [0], [10**7], [1], 4, 3))
    with pytest.raises(ValueError, match="us on"):
        found.add(recording(100))
    assert found.number == 100
    with pytest.raises(ValueError, match="give the size"):
        Summary(65_536, 65_536)


def test_info_says_what_a_file_is(tmp_path, capsys):
    write(recording(), tmp_path / "a.raw")
    assert main(["info", str(tmp_path / "a.raw")]) == 0
    said = capsys.readouterr().out
    assert "40 x 30" in said
    assert "20000" in said
    assert "anomalies    none" in said
    assert main(["info", str(tmp_path / "a.raw"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["events"] == 20000
    write(EventStream([1], [1], [5], [1], 40, 30), tmp_path / "one.raw")
    assert main(["info", str(tmp_path / "one.raw")]) == 0
    assert "at most 1 events in 10 ms" in capsys.readouterr().out


def test_info_says_where_a_file_is_damaged_and_what_comes_before(tmp_path, capsys):
    write(recording(), tmp_path / "a.dat")
    whole = (tmp_path / "a.dat").read_bytes()
    (tmp_path / "a.dat").write_bytes(whole[: len(whole) // 2 + 3])
    assert main(["info", str(tmp_path / "a.dat")]) == 1
    said = capsys.readouterr().out
    assert "damaged:" in said
    events = int(next(line for line in said.splitlines() if line.startswith("events")).split()[1])
    assert 9_900 < events < 10_100


def test_show_writes_a_sheet_and_a_film(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib", reason="the viz extra is not installed")
    image = pytest.importorskip("PIL.Image")
    write(recording(), tmp_path / "a.npz")
    monkeypatch.chdir(tmp_path)
    assert main(["show", "a.npz", "--speed", "10", "--size", "40x30"]) == 0
    assert capsys.readouterr().out.split() == ["a.png", "a.gif"]
    with image.open(tmp_path / "a.png") as sheet:
        assert sheet.size[0] > 1000
    with image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 5


def test_bad_command_lines_are_one_line(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="the viz extra is not installed")
    write(EventStream.empty(4, 3), tmp_path / "none.npz")
    write(recording(100), tmp_path / "one.2025.npz")
    for argv, status in (
        (["show", str(tmp_path / "none.npz")], 2),
        (["info", str(tmp_path / "missing.npz")], 1),
        (["show", str(tmp_path / "none.npz"), "--speed", "0"], 2),
        (["show", str(tmp_path / "one.2025.npz"), "--out", str(tmp_path / "a"), "--rate", "51"], 2),
    ):
        assert main(argv) == status
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["info", str(tmp_path / "none.npz")]) == 0
    for size in ("0x1", "65537x1", "99999999999x1", "346", "-1x5"):
        with pytest.raises(SystemExit) as stop:
            main(["info", str(tmp_path / "none.npz"), f"--size={size}"])
        assert stop.value.code == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert "must be WIDTHxHEIGHT" in said


def test_pictures_are_named_after_the_whole_name(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="the viz extra is not installed")
    write(recording(300, seconds=1), tmp_path / "a.2024.npz")
    monkeypatch.chdir(tmp_path)
    assert main(["show", "a.2024.npz"]) == 0
    assert main(["show", "a.2024.npz", "--out", "b.1"]) == 0
    assert capsys.readouterr().out.split() == ["a.2024.png", "a.2024.gif", "b.1.png", "b.1.gif"]
