"""Named arrays and a JSON document in one file, for files that come from strangers.

The container is that of safetensors, so that its readers open it too: eight bytes with the length of a JSON
header, the header, and the bytes of the arrays, one after another and without a gap. Nothing is compressed
and nothing is evaluated, so a file takes no more memory than it has bytes, and no file runs code. A SHA-256
digest of everything tells a damaged file from a whole one; it is no signature.

Source: the safetensors format, https://github.com/huggingface/safetensors, section "Format".
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from tracking.formats.files import atomic_write

MAX_HEADER = 2**24  # bytes
MAX_BYTES = 2**31  # of a file
MAX_ARRAYS = 10_000
MAX_RANK = 8
DTYPES = {"F64": np.dtype("<f8"), "I64": np.dtype("<i8"), "BOOL": np.dtype("?")}
NAMES = {dtype.str: name for name, dtype in DTYPES.items()}


def write_arrays(path: str | Path, kind: str, document: dict[str, Any], arrays: dict[str, np.ndarray]):
    """Write arrays and a description to one file, at once or not at all.

    Args:
        path:     of the file.
        kind:     of content, which a reader asks for.
        document: of JSON's types.
        arrays:   of float64, int64 or bool.
    Raises:
        ValueError: another dtype, a document that is not JSON, or something other than a file of that name.
    """
    text = json.dumps(document, allow_nan=False)
    header: dict[str, Any] = {}
    data = []
    start = 0
    for name, array in arrays.items():
        array = np.asarray(array)
        if array.dtype.newbyteorder("<").str not in NAMES:
            raise ValueError(f"{name} is an array of {array.dtype}; accepted are float64, int64 and bool")
        dtype = NAMES[array.dtype.newbyteorder("<").str]
        data.append(array.astype(DTYPES[dtype]).tobytes())
        shape = [int(n) for n in array.shape]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, start + len(data[-1])]}
        start += len(data[-1])
    header["__metadata__"] = {kind: text, "sha256": _digest(kind, text, header, data)}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with atomic_write(path, binary=True) as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for part in data:
            file.write(part)


def read_arrays(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The description and the arrays of a file, which are fresh and in memory of their own.

    Raises:
        ValueError: no ordinary file, not written by `write_arrays` for this kind, damaged, or too large.
        OSError:    the file is missing or cannot be read.
    """
    path = os.fspath(path)
    head, data = _split(path, _bytes(path))
    try:
        # Every object of the header is small, so refusing repeated names costs nothing.
        header = json.loads(head, object_pairs_hook=_unique, parse_constant=_refuse)
        metadata = header.pop("__metadata__")
        text, digest = metadata[kind], metadata["sha256"]
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
        if not isinstance(document, dict) or len(header) > MAX_ARRAYS:
            raise ValueError("no document")
        arrays, end = {}, 0
        for name, entry in header.items():
            arrays[name], end = _array(entry, data, end)
        if end != len(data) or digest != _digest(kind, text, header, [data]):
            raise ValueError("bytes differ from those that were written")
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"{path} does not hold a whole {kind} as this package writes it ({str(error)[:200]})"
        ) from None
    return document, arrays


def _bytes(path: str) -> bytes:
    if os.path.lexists(path) and not os.path.isfile(path):
        raise ValueError(f"{path} is not an ordinary file")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size  # reading at most so many bytes would set as many aside
        if size > MAX_BYTES:
            raise ValueError(f"{path} has {size} bytes, accepted are {MAX_BYTES}")
        return file.read(size)


def _split(path: str, content: bytes) -> tuple[bytes, memoryview]:
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > min(MAX_HEADER, len(content) - 8):
        raise ValueError(f"{path} is no file of arrays: its header would have {size} bytes")
    return content[8 : 8 + size], memoryview(content)[8 + size :]


def _array(entry, data: memoryview, end: int) -> tuple[np.ndarray, int]:
    """One array of the data, and where it ends; the next one starts there."""
    dtype, shape, (first, last) = DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    if not all(type(n) is int and n >= 0 for n in (*shape, first, last)) or len(shape) > MAX_RANK:
        raise ValueError("sizes are whole numbers")
    size = dtype.itemsize
    for n in shape:
        size *= n
    if first != end or last - first != size or last > len(data) or max(shape, default=0) > MAX_BYTES:
        raise ValueError("the sizes of an array and its bytes differ")
    flat = np.frombuffer(data[first:last], dtype)
    if dtype.kind == "b" and (flat.view(np.uint8) > 1).any():
        raise ValueError("a truth value that is neither 0 nor 1")
    return flat.reshape(shape).astype(dtype.newbyteorder("=")), last


def _digest(kind, text, header, data) -> str:
    sizes = [[n, e["dtype"], e["shape"], e["data_offsets"]] for n, e in header.items() if n != "__metadata__"]
    found = hashlib.sha256(json.dumps([kind, text, sizes]).encode())
    for part in data:
        found.update(part)
    return found.hexdigest()


def _unique(pairs):
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a name comes twice")
    return document


def _refuse(constant):
    raise ValueError(f"{constant} is no number of JSON")
