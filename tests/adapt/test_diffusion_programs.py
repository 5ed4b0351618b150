"""Training, sampling and studies of diffusion as programs; images, judges and distances they rest on."""

import json
import re

import numpy as np
import pytest
import torch

pytest.importorskip("peft", reason="the extra diffusion is not installed")

from adapt.diffusion import __main__ as program
from adapt.diffusion.experts import load_experts
from adapt.diffusion.guides import MapGuide, load_guide
from adapt.diffusion.model import load
from sims.frechet import frechet
from sims.images import digits, of_file, rooms, split
from sims.judges import DepthJudge, Judge, accuracy, learned
from sims.studies import ppap, synthetic, tbcm
from sims.train import diffusion as train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What the smallest training of digits writes."""
    folder = tmp_path_factory.mktemp("diffusion")
    argv = ["--images", "digits", "--scale", "0.004", "--width", "8", "--experts", "2"]
    argv += ["--resume", str(folder / "run"), "--out", str(folder / "d.safetensors")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "POOL", 40)
        patch.setattr(train, "SCORED", 20)
        assert train.main(argv) == 0
        yield folder, argv


@pytest.mark.slow
def test_the_command_trains_writes_and_has_nothing_left_to_do(trained, capsys):
    folder, argv = trained
    names = {f"d{s}.safetensors" for s in ("", "-fast", "-classifier", "-classifier-experts")}
    assert names < {p.name for p in folder.iterdir()}
    assert {p.name for p in folder.glob("run.*")} == {"run.teach", "run.distil"}
    assert "| distance, fast, 1 step |" in (folder / "d.md").read_text()
    assert load(folder / "d-fast.safetensors").jumps
    first = load(folder / "d.safetensors").sample(2, torch.Generator().manual_seed(0))
    assert train.main(argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["number"] == 1297
    assert found["skipped"] == 0
    assert torch.equal(first, load(folder / "d.safetensors").sample(2, torch.Generator().manual_seed(0)))


@pytest.mark.slow
def test_a_sheet_of_samples_is_written(trained, capsys):
    image = pytest.importorskip("PIL.Image")
    folder, _ = trained
    out = folder / "sheet.png"
    common = ["sample", "--n", "5", "--out", str(out), "--seed", "1"]
    of = ["--model", str(folder / "d.safetensors"), "--steps", "3"]
    assert program.main([*common, *of]) == 0
    page = np.asarray(image.open(out))
    assert page.shape == (4 * 17, 4 * 26)
    led = [
        "--guide",
        "classifier",
        "--class",
        "7",
        "--guide-weights",
        str(folder / "d-classifier.safetensors"),
    ]
    led += ["--experts", str(folder / "d-classifier-experts.safetensors")]
    assert program.main([*common, *of, *led, "--scale", "0"]) == 0
    assert np.array_equal(page, np.asarray(image.open(out)))
    assert program.main([*common, *of, *led]) == 0
    assert not np.array_equal(page, np.asarray(image.open(out)))
    capsys.readouterr()
    led[3] = "10"
    assert program.main([*common, *of, *led]) == 2
    assert "10 classes" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_of_another_seed_or_other_images_is_not_gone_on_with(trained, tmp_path, capsys):
    argv = trained[1]
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit):
            train.main([*argv, "--device", "cuda"])
    assert train.main([*argv, "--seed", "1", "--out", str(tmp_path / "o.safetensors")]) == 2
    assert "settings" in capsys.readouterr().err


def test_sheets_have_the_colours_of_their_images():
    x = torch.rand(5, 3, 2, 4)
    page = program.sheet(x, zoom=1)
    assert page.shape == (2 * 3 - 1, 3 * 5 - 1, 3)
    assert np.array_equal(page[:2, :4], np.round(255 * x[0].movedim(0, -1).numpy()).astype(np.uint8))
    assert program.sheet(x[:, :1], zoom=2).shape == (10, 28)
    with pytest.raises(ValueError, match="2 channels"):
        program.sheet(x[:, :2])


def test_options_of_a_guide_are_not_lost_without_one(capsys):
    for option in (["--scale", "3"], ["--experts", "e"], ["--guide-weights", "g"]):
        with pytest.raises(SystemExit):
            program.main(["sample", "--out", "s.png", *option])
        assert "for a --guide" in capsys.readouterr().err


def test_shipped_weights_are_led_to_the_class_that_is_asked_for():
    from adapt.diffusion.guidance import toward_class
    from adapt.diffusion.model import SHIPPED
    from adapt.diffusion.ppap import sample

    guide = load_guide("digits-classifier")
    experts = load_experts(SHIPPED / "digits-classifier-experts.safetensors", guide)
    label = torch.arange(40) % 10
    for name in ("digits", "digits-fast"):
        generator = torch.Generator().manual_seed(0)
        x = sample(load(name), experts, toward_class(label), 40, generator, scale=10.0)
        assert float((guide(x).argmax(1) == label).float().mean()) > 0.4  # by chance: 0.1


@pytest.mark.parametrize(
    "argv",
    [
        ["sample", "--guide", "classifier", "--out", "x.png"],
        ["sample", "--scale", "-1", "--out", "x.png"],
        ["sample", "--guide", "depth", "--out", "x.png"],
        ["sample", "--depth", "x.npy", "--out", "x.png"],
        ["sample", "--guide", "depth", "--class", "1", "--depth", "x.npy", "--out", "x.png"],
        ["sample"],
        [],
    ],
)
def test_bad_arguments_of_sampling_are_one_line(argv, capsys):
    with pytest.raises(SystemExit) as end:
        program.main(argv)
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") <= 2


@pytest.mark.slow
def test_rooms_have_a_guide_of_depth(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "POOL", 40)
    argv = ["--images", "rooms", "--haze", "0.3", "--rooms", "60", "--side", "8", "--scale", "0.004"]
    assert (
        train.main([*argv, "--width", "8", "--experts", "2", "--out", str(tmp_path / "r.safetensors")]) == 0
    )
    names = {f"r{s}.safetensors" for s in ("", "-fast", "-depth", "-depth-experts")}
    assert {p.name for p in tmp_path.iterdir()} == names | {"r.md"}
    card = (tmp_path / "r.md").read_text()
    assert "| images | rooms, haze 0.3 per m |" in card
    assert "| error of log depth, guided, fast |" in card
    guide = load_guide(tmp_path / "r-depth.safetensors")
    assert isinstance(guide, MapGuide)
    assert len(load_experts(tmp_path / "r-depth-experts.safetensors", guide).ranges) == 2


def test_samples_follow_a_depth_map(tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    near = np.full((32, 32), 6.0)
    near[8:24, 8:24] = 1.5  # m, a box before a wall
    np.save(tmp_path / "a.npy", near)
    np.save(tmp_path / "b.npy", near.astype(np.float32) * np.nan)
    np.save(tmp_path / "c.npy", near[0])
    (tmp_path / "d.npy").write_bytes(b"no")
    np.save(tmp_path / "f.npy", near[:, :8])
    (tmp_path / "g.npy").write_bytes(
        (tmp_path / "a.npy").read_bytes().replace(b"(32, 32), }", b"(32, 32, (}")
    )
    np.savez(tmp_path / "z.npz", near)
    (tmp_path / "h.npy").write_bytes((tmp_path / "z.npz").read_bytes()[:300])
    argv = [
        "sample",
        "--model",
        "rooms-fast",
        "--guide",
        "depth",
        "--n",
        "4",
        "--out",
        str(tmp_path / "a.png"),
    ]
    assert program.main([*argv, "--depth", str(tmp_path / "a.npy")]) == 0
    page = np.asarray(image.open(tmp_path / "a.png")).astype(float)[::4, ::4]
    frames = [page[y : y + 16, x : x + 16] for y in (0, 17) for x in (0, 17)]
    for frame in frames:  # what is far looks like haze
        edge = np.concatenate((frame[:3].ravel(), frame[-3:].ravel()))
        assert edge.mean() > frame[5:11, 5:11].mean() + 40
    odd = {"b": "no finite", "c": "depth map", "d": r"no \.npy", "e": "No such file", "f": "cut it to fit"}
    for name, said in (odd | {"g": r"no \.npy", "h": r"no \.npy"}).items():
        assert program.main([*argv, "--depth", str(tmp_path / f"{name}.npy")]) == (1 if name == "e" else 2)
        assert re.search(said, capsys.readouterr().err)


def test_a_pixel_of_a_depth_map_is_the_mean_of_what_is_known_of_it(tmp_path):
    sparse = np.full((8, 8), np.nan)
    sparse[0, 0], sparse[0, 1], sparse[5, 3], sparse[7, 7] = 1.0, 4.0, 1e300, 0.0
    np.save(tmp_path / "a.npy", sparse)
    log = program._log_depth(str(tmp_path / "a.npy"), (4, 4))
    assert float(log[0, 0]) == pytest.approx(np.log(2))
    assert float(log[2, 1]) == pytest.approx(300 * np.log(10))
    assert int(log.isfinite().sum()) == 2
    large = program._log_depth(str(tmp_path / "a.npy"), (16, 16))
    assert large.shape == (16, 16)
    assert int(large.isfinite().sum()) == 12


@pytest.mark.parametrize("module", [train, ppap, tbcm, synthetic])
@pytest.mark.parametrize("argv", [["--scale", "x"], ["--seeds", "0"], ["--haze", "-1"], ["--other"]])
def test_bad_arguments_of_diffusion_programs_are_one_line(module, argv, capsys):
    with pytest.raises(SystemExit) as end:
        module.main(argv)
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") <= 2


def test_images_of_a_file_are_scaled_and_odd_files_refused(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (6, 5, 4), np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(6))
    found = of_file(tmp_path / "a.npz")
    assert found.pixels.shape == (6, 1, 5, 4)
    assert float(found.pixels.min()) == 0
    assert float(found.pixels.max()) == 1
    small = found.sized(2)
    assert small.pixels.shape == (6, 1, 2, 2)
    torch.testing.assert_close(small.pixels.mean(), found.pixels.mean(), atol=0.03, rtol=0)
    assert torch.equal(small.labels, found.labels)
    assert small.sized(2) is small
    np.savez(tmp_path / "z.npz", x=x)
    assert of_file(tmp_path / "z.npz", labelled=False).labels.tolist() == [0] * 6
    np.savez(tmp_path / "b.npz", x=x[0], y=np.arange(6))
    np.savez(tmp_path / "c.npz", z=x)
    (tmp_path / "d.npz").write_bytes(b"no")
    (tmp_path / "e.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-40])
    with open(tmp_path / "f.npz", "wb") as file:
        np.save(file, x)
    np.savez(tmp_path / "g.npz", x=np.where(x > 9, np.nan, x), y=np.arange(6))
    np.savez(tmp_path / "h.npz", x=x[:0], y=np.arange(0))
    np.savez(tmp_path / "i.npz", x=x, y=np.arange(6) - 1)
    np.savez(tmp_path / "j.npz", x=x, y=np.array(list("abcdef")))
    np.savez(tmp_path / "k.npz", z=x)
    with pytest.raises(ValueError, match=r"k\.npz"):
        of_file(tmp_path / "k.npz", labelled=False)
    for name in "bcdefghijz":
        with pytest.raises(ValueError, match=rf"{name}\.npz"):
            of_file(tmp_path / f"{name}.npz")


def test_rooms_have_frames_and_depth_and_splits_do_not_overlap():
    found = rooms(3, 12, seed=5)
    assert found.pixels.shape == (3, 1, 12, 12)
    assert found.depth.shape == (3, 12, 12)
    assert torch.equal(found.pixels, rooms(3, 12, seed=5).pixels)
    assert float(found.pixels.std()) > 0.03
    hazy = rooms(3, 12, seed=5, haze=0.5)
    kept = (hazy.pixels - 0.9) / (found.pixels - 0.9)  # of the contrast to the haze
    torch.testing.assert_close(-kept.log()[:, 0] / 0.5, found.depth, atol=1e-3, rtol=1e-3)
    images = digits()
    one, two = split(images, 500)
    assert (len(one.pixels), len(two.pixels)) == (1297, 500)
    both = torch.cat((one.pixels, two.pixels)).flatten(1).sum(0)
    assert torch.allclose(both, images.pixels.flatten(1).sum(0), rtol=1e-4)


def test_frechet_distance_is_that_of_gaussians():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (40_000, 2))
    y = rng.normal((1, 0), (2, 1), (40_000, 2))
    assert frechet(x, y) == pytest.approx(1 + 1, abs=0.06)  # |1|^2 + (2 - 1)^2
    assert frechet(x, x) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="two sets"):
        frechet(x, y[:, :1])


def test_judges_learn_through_all_they_have():
    torch.manual_seed(0)
    x = torch.randn(60, 1, 8, 8)
    labels = (x.mean((1, 2, 3)) > 0).long()
    judge = learned(Judge(1, 2, 8), x, labels, steps=40, batch=30)
    assert accuracy(judge, x, labels) > 0.9
    assert judge.features(x).shape == (60, 64)
    depth = DepthJudge(8)
    out = depth(x)
    assert out.shape == (60, 8, 8)
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in depth.parameters())


@pytest.mark.slow
def test_the_studies_run(trained, tmp_path, capsys):
    folder, _ = trained
    model = str(folder / "d.safetensors")

    def parts(name):
        return json.loads((tmp_path / name).read_text())["parts"]

    def json_of(name):
        return ["--model", model, "--json", str(tmp_path / name)]

    assert tbcm.main(["--quick", "--cost", *json_of("tbcm")]) == 0
    found = parts("tbcm")
    assert {"teacher 8", "held out"} < set(found["0, teacher"])
    assert {"0, tbcm", "0, scm", "0, trained", *(f"cost, {arm}" for arm in tbcm.COSTS)} < set(found)
    assert ppap.main(["--quick", *json_of("ppap")]) == 0
    assert list(parts("ppap")["0"]) == ["none", "raw", "denoised", "ppap 1", "ppap 2", "labels 1", "labels 2"]
    of_rooms = ["--depth", "--haze", "0.3", "--model", "rooms", "--json", str(tmp_path / "depth")]
    assert ppap.main(["--quick", *of_rooms, "--fast", "rooms-fast"]) == 0
    assert list(parts("depth")["0"])[-3:] == ["ppap 2", "none, fast", "ppap 2, fast"]
    for other in (["--fast", model], ["--fast", "mnist-fast"], ["--haze", "0"], ["--model", "mnist"]):
        assert ppap.main(["--quick", *of_rooms[:-2], *other]) == 2
    assert ppap.main(["--quick", "--model", "rooms"]) == 2
    assert synthetic.main(["--quick", "--model", "mnist"]) == 2
    assert ppap.main(["--quick", *json_of("depth")]) == 2  # of other settings
    assert synthetic.main(["--quick", *json_of("synthetic")]) == 0
    assert set(parts("synthetic")) == {f"0, {name}" for name in synthetic.ROWS}
    assert synthetic.main(["--quick", "--events", *json_of("events")]) == 0
    assert "ppap" in capsys.readouterr().out
