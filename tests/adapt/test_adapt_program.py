"""The command line, and files that it takes, refuses and writes."""

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import adapt
from adapt.__main__ import main
from adapt.files import read_model, read_samples

ROOT = Path(__file__).resolve().parents[2]
AUTO = ({0: torch.export.Dim.AUTO},)


@pytest.fixture
def folder(source, target, tmp_path):
    x = target[0]
    torch.export.save(torch.export.export(source, (x[:9],), dynamic_shapes=AUTO), tmp_path / "model.pt2")
    torch.jit.trace(source, x[:9]).save(tmp_path / "script.pt")
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=np.zeros(len(x)))
    return tmp_path


def call(folder, *changes, model="model.pt2", data="data.npz", out="adapted.safetensors"):
    return main(
        [
            "--model",
            str(folder / model),
            "--data",
            str(folder / data),
            "--out",
            str(folder / out),
            "--epochs",
            "2",
            *changes,
        ]
    )


@pytest.mark.parametrize("model", ["model.pt2", "script.pt"])
def test_weights_and_model_are_those_of_the_library(folder, source, target, model, capsys):
    whole = folder / ("whole" + model[-4:])
    assert call(folder, "--method", "sfda2", "--json", "--out-model", str(whole), model=model) == 0
    out = capsys.readouterr()
    assert json.loads(out.out)["method"] == "sfda2"
    assert "epoch 2 of 2: entropy" in out.err
    wanted = adapt.adapt(read_model(folder / model), target[0], "sfda2", epochs=2).model
    weights = load_file(folder / "adapted.safetensors")
    assert weights.keys() == source.state_dict().keys() == wanted.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in wanted.state_dict().items())
    with torch.no_grad():
        assert torch.allclose(read_model(whole)(target[0]), wanted(target[0]), atol=1e-6)
    source_copy = adapt.source_free.split.copy_of(source)
    source_copy.load_state_dict(weights)  # the weights fit the model they were exported from
    with torch.no_grad():
        assert torch.allclose(source_copy(target[0]), wanted(target[0]), atol=1e-5)


def test_auto_is_the_default_and_reports_as_text(folder, capsys):
    assert call(folder) == 0
    said = capsys.readouterr().out
    assert " on 300 samples of 4 classes" in said
    assert "information" in said


def test_a_tripped_guard_is_told(folder, source, capsys):
    x = torch.ones(60, 8)
    np.save(folder / "one.npy", x.numpy())
    assert call(folder, data="one.npy") == 0
    out = capsys.readouterr()
    assert "guard: the model says class" in out.out
    assert "returned the model as it was" in out.err
    weights = load_file(folder / "adapted.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in source.state_dict().items())


class Trap:
    def __reduce__(self):
        return (print, ("it ran",))


def with_part(path, end, change):
    """An archive with one member changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(out, "w") as other:
        names = archive.namelist()
        assert any(name.endswith(end) for name in names), names
        for name in names:
            content = archive.read(name)
            other.writestr(name, change(content) if name.endswith(end) else content)
    path.write_bytes(out.getvalue())


def trapped():
    buffer = io.BytesIO()
    torch.save((Trap(),), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("end", "change", "says"),
    [
        (
            "models/model.json",
            lambda b: b.replace(b"aten.relu.default", b"aten.from_file.default"),
            "of ATen",
        ),
        ("models/model.json", lambda b: b.replace(b"torch.ops.aten.relu.default", b"os.system"), "of ATen"),
        ("models/model.json", lambda b: b.replace(b"aten.relu.default", b"aten.relu.__class__"), "of ATen"),
        ("models/model.json", lambda b: b.replace(b'"0.weight"', b'"__class__.forward"'), "__class__"),
        ("weights_config.json", lambda b: b.replace(b'"0.weight"', b'"0.weight; print(1)"'), "0.weight"),
        (
            "weights_config.json",
            lambda b: b.replace(b'"use_pickle": false', b'"use_pickle": true', 1),
            "pickled",
        ),
        ("models/model.json", lambda b: b[:-40], "char"),
        ("models/model.json", lambda b: b"[" * 10**6, "recursion"),
    ],
)
def test_programs_that_hold_more_than_arithmetic_are_refused(folder, end, change, says, capsys):
    path = folder / "model.pt2"
    with_part(path, end, change)
    assert call(folder) == 2
    out = capsys.readouterr()
    assert len(out.err.splitlines()) == 1
    assert str(path) in out.err
    assert says in out.err
    assert not (folder / "adapted.safetensors").exists()


def test_what_torch_would_unpickle_or_evaluate_is_never_looked_at(folder, target, capsys):
    """torch.export.load runs code in these places; here nothing does, and nothing of it is passed on."""
    path, before = folder / "model.pt2", (folder / "model.pt2").read_bytes()
    with_part(path, "sample_inputs/model.pt", lambda b: trapped())
    with_part(path, "models/model.json", lambda b: b.replace(b"Symbol(", b"print("))
    guard = b'"guards_code": ["__import__(\'os\').getcwd()"]'
    with_part(path, "models/model.json", lambda b: b.replace(b'"guards_code": []', guard))
    assert path.read_bytes() != before
    assert call(folder, "--method", "adabn", "--out-model", str(folder / "whole.pt2")) == 0
    out = capsys.readouterr()
    assert "it ran" not in out.out + out.err
    assert b"getcwd" not in (folder / "whole.pt2").read_bytes()
    with torch.no_grad():
        said = read_model(folder / "whole.pt2")(target[0])
        assert torch.allclose(torch.export.load(folder / "whole.pt2").module()(target[0]), said, atol=1e-6)


def test_a_file_that_unpacks_to_much_more_than_it_holds_is_refused(folder):
    path = folder / "bomb.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/models/model.json", b" " * 2**25)
    with pytest.raises(ValueError, match="much more than it holds"):
        read_model(path)


class Rich(torch.nn.Module):
    """What else a graph may have: regions without gradient, sizes, lists, constants, several answers."""

    def __init__(self):
        super().__init__()
        self.recur = torch.nn.LSTM(4, 6, batch_first=True)
        self.attend = torch.nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
        self.register_buffer("mask", torch.tensor([True, False, False]), persistent=False)
        self.out = torch.nn.Linear(6, 4)

    def forward(self, x):
        n, length = x.shape[:2]
        with torch.no_grad():
            scale = x.abs().mean((1, 2), keepdim=True) * n
        z = self.attend(self.recur(x / scale)[0], src_key_padding_mask=self.mask.expand(n, length))
        first, *_ = z.reshape(n * length, 6).reshape(n, length, 6).unbind(1)
        zeros = torch.zeros(n, 4, device=x.device)
        return self.out(first).masked_fill(zeros.bool(), float("-inf")) + zeros, z


def test_graphs_of_many_kinds_say_what_their_models_say(tmp_path):
    torch.manual_seed(0)
    model, x = Rich().eval(), torch.randn(5, 3, 4)
    torch.export.save(torch.export.export(model, (x,), dynamic_shapes=AUTO), tmp_path / "m.pt2")
    read = read_model(tmp_path / "m.pt2")
    for some in (x, torch.randn(2, 3, 4)):
        for ours, theirs in zip(read(some), model(some), strict=True):
            torch.testing.assert_close(ours, theirs)
    assert read.state_dict().keys() == model.state_dict().keys()
    own = adapt.source_free.split.copy_of(read)
    assert own.state_dict().keys() == model.state_dict().keys()
    theirs, ours = (torch.autograd.grad(m(x)[0].sum(), m.out.weight)[0] for m in (model, own))
    torch.testing.assert_close(ours, theirs)
    with pytest.raises(ValueError, match=r"inputs of shape \(any, 3, 4\), got \(5, 2, 4\)"):
        read(x[:, :2])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("m.pt", pickle.dumps(Trap()), "no TorchScript"),
        ("m.pt2", b"nothing", "no program"),
        ("m.onnx", b"", "a model is a .pt2"),
    ],
)
def test_other_files_are_no_models(folder, name, content, says, capsys):
    (folder / name).write_bytes(content)
    assert call(folder, model=name) == 2
    out = capsys.readouterr()
    assert says in out.err
    assert "it ran" not in out.out
    assert len(out.err.splitlines()) == 1


def test_state_dicts_and_pickled_models_are_not_loaded(folder, source, capsys):
    torch.save(source, folder / "whole.pt")
    assert call(folder, model="whole.pt") == 2
    assert "torch.export.save" in capsys.readouterr().err
    assert call(folder, model="absent.pt2") == 1


def test_samples_come_from_arrays_folders_and_images(tmp_path):
    x = np.random.default_rng(0).random((3, 2, 4), np.float32)
    np.savez(tmp_path / "a.npz", data=x)
    np.save(tmp_path / "b.npy", x.astype(">f8"))
    parts = tmp_path / "parts"
    parts.mkdir()
    for k in range(3):
        np.save(parts / f"{k}.npy", x[k])
    for path in ("a.npz", "b.npy", "parts"):
        np.testing.assert_allclose(read_samples(tmp_path / path), x, rtol=1e-6)
    image = pytest.importorskip("PIL.Image")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    image.fromarray(np.full((4, 5), 51, np.uint8)).save(pictures / "0.png")
    image.fromarray(np.full((4, 5), 102, np.uint8)).save(pictures / "1.png")
    found = read_samples(pictures)
    assert found.shape == (2, 1, 4, 5)
    assert found[1, 0, 0, 0] == pytest.approx(0.4)
    image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(pictures / "2.png")
    with pytest.raises(ValueError, match="one shape"):
        read_samples(pictures)
    deep = tmp_path / "deep"
    deep.mkdir()
    image.fromarray(np.full((4, 5), 13107, np.uint16)).save(deep / "0.png")
    assert read_samples(deep)[0, 0, 0, 0] == pytest.approx(0.2)
    image.fromarray(np.full((4, 5), 0.5, np.float32)).save(deep / "0.tif")
    with pytest.raises(ValueError, match="32 bits"):
        read_samples(deep)
    (deep / "0.tif").write_bytes((deep / "0.png").read_bytes()[:40])
    with pytest.raises(ValueError, match=r"0\.tif is no image"):
        read_samples(deep)


def test_data_that_are_none(tmp_path):
    np.savez(tmp_path / "two.npz", a=np.zeros((2, 2)), b=np.zeros((2, 2)))
    np.savez(tmp_path / "objects.npz", x=np.array([{}, 1], dtype=object))
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    (tmp_path / "torn.npz").write_bytes(b"PK\3\4")
    (tmp_path / "empty").mkdir()
    for name, says in (
        ("two.npz", "--key"),
        ("objects.npz", "no samples"),
        ("text.npy", "must hold numbers"),
        ("torn.npz", "no samples"),
        ("empty", "one for each sample"),
        ("x.csv", "data are an .npz"),
    ):
        with pytest.raises(ValueError, match=says):
            read_samples(tmp_path / name)


def test_the_program_runs_from_a_shell_and_says_what_is_wrong(folder):
    found = subprocess.run(
        [sys.executable, "-m", "adapt", "--model", "model.pt2", "--data", "data.npz", "--out", "weights.bin"],
        capture_output=True, text=True, timeout=300, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert found.returncode == 2
    assert found.stderr.strip().endswith("--out must end with .safetensors, got weights.bin; see --help")
    with pytest.raises(SystemExit):
        main(["--help"])
    with pytest.raises(SystemExit):
        main(["--model", "a.pt2", "--data", "b.npy", "--out", "c.safetensors", "--out-model", "d.pt"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (("--method", "magic"), "--method must be auto or one of"),
        (("--classes", "5"), "tells apart 4 classes, 5 were asked for"),
        (("--batch", "1"), "batch must be at least 2"),
        (("--key", "z"), "no 'z'"),
    ],
)
def test_arguments_that_do_not_fit(folder, changes, says, capsys):
    assert call(folder, *changes) == 2
    assert says in capsys.readouterr().err


class Reader(torch.nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            x = x + torch.from_file("numbers", False, 4)
        return x


def test_scripts_that_read_files_are_refused_in_branches_too(tmp_path):
    torch.jit.script(Reader()).save(tmp_path / "m.pt")
    with pytest.raises(ValueError, match="asks for aten::from_file"):
        read_model(tmp_path / "m.pt")
