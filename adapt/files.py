"""Models and unlabelled data from files, nothing of which is unpickled; and adapted models to files."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from adapt.exported import program, script
from adapt.source_free.engine import as_input
from adapt.source_free.programs import only_batch
from tracking.formats.files import atomic_write
from tracking.formats.weights import write_weights

PROGRAM = ".pt2"
SCRIPTS = (".pt", ".pth", ".ts", ".jit")
SOME = 9  # samples that a program is exported with; torch.export takes 1 for the only size
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def read_model(path: str | Path) -> nn.Module:
    """A program of torch.export (.pt2), or TorchScript (.pt, .pth, .ts, .jit), in eval mode.

    Raises:
        ValueError: the file is neither, or holds more than arithmetic.
    """
    path = Path(path)
    if path.suffix == PROGRAM:
        return program(path)
    if path.suffix in SCRIPTS:
        return script(path)
    raise ValueError(
        f"a model is a .pt2 of torch.export, or TorchScript ({', '.join(SCRIPTS)}), got {path.name}"
    )


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
    try:
        with Image.open(path) as image:
            deep = image.mode.startswith("I;16")
            if image.mode in ("I", "F"):
                raise ValueError(f"{path} has pixels of 32 bits, whose range nobody knows: give .npy files")
            plain = image if deep or image.mode in ("L", "RGB") else image.convert("RGB")
            pixels = np.asarray(plain, np.float32) / (65535 if deep else 255)
    except OSError as error:
        raise ValueError(f"{path} is no image: {_one_line(error)}") from None
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _tensor(array, path):
    if array.dtype.kind not in "fiub" or array.ndim < 2:
        raise ValueError(f"{path} must hold numbers (n, ...), got {array.dtype} {array.shape}")
    return torch.from_numpy(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))))


def write_adapted(path: str | Path, model: nn.Module, about: dict[str, Any]) -> None:
    """Weights of an adapted model as safetensors, with what is told about it beside."""
    tensors = {name: value.detach().clone() for name, value in model.state_dict().items()}  # none shared
    write_weights(path, "adapted", about, tensors)


def write_model(path: str | Path, model: nn.Module, x: Tensor) -> None:
    """An adapted model as a whole, in the form that it was read in.

    Args:
        path:  of a .pt2 or of TorchScript.
        model: of `read_model`, adapted.
        x:     (n, ...) samples that it takes.
    """
    buffer = io.BytesIO()
    if isinstance(model, fx.GraphModule):  # exported anew: nothing of a stranger's file is passed on
        only = only_batch(model)
        some = as_input(x[: only or SOME], next(model.parameters()))
        free = None if only else ({0: torch.export.Dim.AUTO},)
        torch.export.save(torch.export.export(model, (some,), dynamic_shapes=free), buffer)
    else:
        torch.jit.save(model, buffer)
    with atomic_write(path, binary=True) as file:
        file.write(buffer.getvalue())


def _one_line(error):
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
