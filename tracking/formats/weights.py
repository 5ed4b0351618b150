"""Weights of networks as safetensors, with what is needed to use them as JSON beside; never unpickled."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tracking.formats.files import atomic_write


def write_weights(
    path: str | Path, kind: str, document: dict[str, Any], tensors: dict[str, Any], half: bool = False
) -> None:
    """Write tensors and a description to one file.

    Args:
        path:     of the file.
        kind:     of the network, which a reader asks for.
        document: of JSON's types.
        tensors:  of torch, on any device.
        half:     in half precision: half the bytes, relative errors up to 5e-4.
    """
    from safetensors.torch import save

    kept = (
        (name, value.half() if half and value.is_floating_point() else value)
        for name, value in tensors.items()
    )
    columns = {name: value.detach().cpu().contiguous() for name, value in kept}
    with atomic_write(path, binary=True) as file:
        file.write(save(columns, metadata={kind: json.dumps(document)}))


def digest(tensors: dict[str, Any]) -> str:
    """Equal for equal tensors of equal names, as of a `state_dict()`; what is no tensor is left out."""
    import torch

    found = hashlib.sha256()
    for name, value in tensors.items():
        if torch.is_tensor(value):
            found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def read_weights(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Description and tensors of a file.

    Raises:
        FileNotFoundError: there is no file.
        ValueError:        it is no safetensors file, or of another kind of network.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, "pt", device="cpu") as file:
            document = json.loads((file.metadata() or {}).get(kind, "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except FileNotFoundError:
        raise
    except Exception as error:  # of the library, for anything that is not such a file
        raise ValueError(f"{path} is no safetensors file: {error}") from None
    if not isinstance(document, dict):
        raise ValueError(f"{path} does not hold weights of {kind}")
    return document, tensors


@contextmanager
def expecting(path: str | Path, what: str) -> Iterator[None]:
    """Whatever is wrong with a description while a network is made of it is one ValueError."""
    try:
        yield
    except (LookupError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold {what} of this version: {error}") from None


def filled(build: Callable[[], Any], tensors: dict[str, Any]) -> Any:
    """The network that `build` makes, with tensors of a file; ready to be used, not to be trained.

    It is first built without memory: a small file cannot make a network of any size that it states.

    Raises:
        RuntimeError: the tensors are not those of the network.
    """
    import torch

    with torch.device("meta"):
        expected = build().state_dict()
    wrong = sorted(expected.keys() ^ tensors.keys())
    wrong += [name for name in expected.keys() & tensors.keys() if not _fits(tensors[name], expected[name])]
    if wrong:
        raise RuntimeError(f"its tensors do not fit the network it states: {', '.join(wrong[:5])}")
    if not all(value.isfinite().all() for value in tensors.values()):
        raise RuntimeError("its tensors are not finite")
    network = build()
    network.load_state_dict(tensors)
    return network.eval()


def _fits(value: Any, expected: Any) -> bool:
    """Whether a tensor can be another: whole numbers are no weights."""
    real = value.is_floating_point() or not expected.is_floating_point()
    return value.shape == expected.shape and real


def shipped(folder: Path) -> list[str]:
    """Names of the weights in a folder."""
    return sorted(path.stem for path in folder.glob("*.safetensors"))


def found(name: str | Path, folder: Path) -> Path:
    """Path of weights: those of a name without extension come with the toolkit, in a folder.

    Raises:
        ValueError: there are none of this name.
    """
    path = Path(name)
    if path.suffix:
        return path
    path = folder / f"{name}.safetensors"
    if not path.exists():
        names = ", ".join(shipped(folder))
        raise ValueError(f"no weights named {str(name)!r} are shipped, choose of: {names}")
    return path
