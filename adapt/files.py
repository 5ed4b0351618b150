"""Models and unlabelled data from files, nothing of which is unpickled.

A program of `torch.export` (.pt2) is an archive. torch.export.load would unpickle parts of it and evaluate
texts in it, so every such part is looked at first: tensors have to load with `weights_only`, texts have to be
arithmetic of sizes. What remains is a graph of tensor operations. TorchScript has no such door: it runs in
its own interpreter, which can read and write files, so load scripts of people you trust.
"""

import ast
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adapt.source_free.programs import with_weights
from tracking.formats.files import atomic_write
from tracking.formats.weights import write_weights

PROGRAM = ".pt2"
SCRIPTS = (".pt", ".pth", ".ts", ".jit")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
ARITHMETIC = (
    *(ast.Expression, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.keyword, ast.Constant),
    *(ast.Name, ast.Load, ast.Subscript, ast.operator, ast.unaryop, ast.cmpop, ast.boolop),
)
FUNCTIONS = frozenset(
    "Symbol Integer Rational Float Add Mul Pow Max Min Mod Abs floor ceiling FloorDiv CeilDiv CleanDiv "
    "PythonMod ModularIndexing IntTrueDiv TruncToInt Where Equality Unequality StrictLessThan LessThan "
    "StrictGreaterThan GreaterThan Eq Ne Lt Le Gt Ge And Or Not".split()
)

Model = nn.Module | torch.export.ExportedProgram


def read_model(path: str | Path) -> Model:
    """A program of torch.export (.pt2), or TorchScript (.pt, .pth, .ts, .jit).

    Raises:
        ValueError: the file is neither, or holds what could run code when it is loaded.
    """
    path = Path(path)
    content = path.read_bytes()
    if path.suffix == PROGRAM:
        check_program(path, content)
        try:
            return torch.export.load(io.BytesIO(content))
        except Exception as error:  # of the library, for anything that is not such a file
            raise ValueError(f"{path} is no program of torch.export: {_one_line(error)}") from None
    if path.suffix not in SCRIPTS:
        raise ValueError(
            f"a model is a .pt2 of torch.export, or TorchScript ({', '.join(SCRIPTS)}), got {path.name}"
        )
    try:
        return torch.jit.load(io.BytesIO(content), map_location="cpu")
    except RuntimeError:
        raise ValueError(
            f"{path} is no TorchScript. A pickled model or its weights alone cannot be loaded: save the "
            "model with torch.export.save(torch.export.export(model.eval(), (x,), "
            'dynamic_shapes=({0: torch.export.Dim.AUTO},)), "model.pt2")'
        ) from None


def check_program(path: Path, content: bytes) -> None:
    """Look at all that torch.export.load would unpickle or evaluate.

    Raises:
        ValueError: something in it is more than tensors and arithmetic of sizes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                part = name.partition("/")[2]
                if part.startswith("models/") and part.endswith(".json"):
                    _check_texts(json.loads(archive.read(name)))
                elif part.endswith("_config.json"):
                    _check_pickles(archive, name)
                elif part.startswith("data/sample_inputs/"):
                    torch.load(io.BytesIO(archive.read(name)), weights_only=True)
                elif not part.startswith(
                    ("data/weights/", "data/constants/", "archive_", ".data/", "byteorder")
                ):
                    raise ValueError(f"{name} is not known")
    except Exception as error:  # of three libraries, and ours
        raise ValueError(
            f"{path} is refused, it is more than a program of tensors: {_one_line(error)}"
        ) from None


def _check_pickles(archive, name):
    for entry in json.loads(archive.read(name)).get("config", {}).values():
        part = f"{name.rpartition('/')[0]}/{entry['path_name']}"
        if entry.get("use_pickle"):
            if "tensor" not in entry["path_name"] and "weight" not in entry["path_name"]:
                raise ValueError(f"{part} is an object of its own")
            torch.load(io.BytesIO(archive.read(part)), weights_only=True)


def _check_texts(document: Any, evaluated: bool = False) -> None:
    """Expressions and guards anywhere in a document must be arithmetic."""
    if isinstance(document, dict):
        for key, value in document.items():
            _check_texts(value, key in ("expr_str", "guards_code"))
    elif isinstance(document, list):
        for value in document:
            _check_texts(value, evaluated)
    elif evaluated and isinstance(document, str):
        nodes = ast.walk(ast.parse(document, mode="eval"))
        if not all(_is_arithmetic(node) for node in nodes):
            raise ValueError(f"{document[:80]!r} is no arithmetic")


def _is_arithmetic(node):
    if isinstance(node, ast.Attribute):
        return node.attr in ("size", "ndim", "shape")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in FUNCTIONS
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute)
    return isinstance(node, ARITHMETIC)


def read_samples(path: str | Path, key: str = "x") -> Tensor:
    """Samples (n, ...) of a file or folder.

    Args:
        path: an .npz with an array (n, ...) called `key`, or the only one in it; an .npy of (n, ...); or a
              folder with an .npy or an image for each sample, in the order of their names. Images become
              (C, H, W) from 0 to 1.
        key:  of the array in an .npz.
    Raises:
        ValueError: none of these.
    """
    path = Path(path)
    if path.is_dir():
        return _stacked(path)
    if path.suffix not in (".npz", ".npy"):
        raise ValueError(f"data are an .npz, an .npy or a folder, got {path.name}")
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return _tensor(found, path)
        with found:
            names = found.files
            if key not in names and len(names) != 1:
                raise ValueError(
                    f"it holds {', '.join(names) or 'nothing'}, and no {key!r}: name one with --key"
                )
            return _tensor(found[key if key in names else names[0]], path)
    except FileNotFoundError:
        raise
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} has no samples: {_one_line(error)}") from None


def _stacked(folder):
    arrays = sorted(folder.glob("*.npy"))
    images = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGES)
    if bool(arrays) == bool(images):
        raise ValueError(f"{folder} must have .npy files or images, one for each sample, and not both")
    read = [_array(p) for p in arrays] if arrays else [_image(p) for p in images]
    shapes = {a.shape for a in read}
    if len(shapes) > 1:
        raise ValueError(f"samples in {folder} must have one shape, got {sorted(shapes)[:5]}")
    return _tensor(np.stack(read), folder)


def _array(path):
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no array: {_one_line(error)}") from None


def _image(path):
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("images need the viz extra: pip install '.[viz]'; or give .npy files") from None
    with Image.open(path) as image:
        pixels = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"), np.float32) / 255
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _tensor(array, path):
    if array.dtype.kind not in "fiub" or array.ndim < 2:
        raise ValueError(f"{path} must hold numbers (n, ...), got {array.dtype} {array.shape}")
    return torch.from_numpy(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))))


def write_adapted(path: str | Path, model: nn.Module, about: dict[str, Any]) -> None:
    """Weights of an adapted model as safetensors, with what is told about it beside."""
    tensors = {name: value.detach().clone() for name, value in model.state_dict().items()}  # none shared
    write_weights(path, "adapted", about, tensors)


def write_model(path: str | Path, given: Model, adapted: nn.Module) -> None:
    """An adapted model as a whole, in the form that it was given in."""
    buffer = io.BytesIO()
    if isinstance(given, torch.export.ExportedProgram):
        with with_weights(given, adapted):
            torch.export.save(given, buffer)
    else:
        torch.jit.save(adapted, buffer)
    with atomic_write(path, binary=True) as file:
        file.write(buffer.getvalue())


def _one_line(error):
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
