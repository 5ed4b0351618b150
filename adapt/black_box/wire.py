"""Arrays as bytes, between an endpoint and who asks it: npy without pickle, or JSON."""

import io
import json
import math
import tokenize

import numpy as np

NPY, JSON = "application/x-npy", "application/json"
KINDS = {"npy": NPY, "json": JSON}
NUMBERS = ("<f4", "<f8", "|u1", "<i4", "<i8")  # types of numbers that are read


def written(x: np.ndarray, kind: str) -> bytes:
    """An array as the body of a message of a content type."""
    if kind == JSON:
        return json.dumps({"x": x.tolist()}).encode()
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(x), allow_pickle=False)
    return file.getvalue()


def read(body: bytes, kind: str) -> np.ndarray:
    """The array in a body; it is never larger than the body says in bytes.

    Raises:
        ValueError: it is not of this content type, or not of finite numbers.
    """
    x = _of_json(body) if kind == JSON else _of_npy(body)
    if not np.isfinite(x).all():
        raise ValueError("the array has numbers that are not finite")
    return x


def _of_json(body: bytes) -> np.ndarray:
    try:
        document = json.loads(body)
        x = np.array(document["x"], np.float64)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, OverflowError) as error:
        raise ValueError(f'accepted is {{"x": nested lists of numbers}}: {type(error).__name__}') from None
    return x


def _of_npy(body: bytes) -> np.ndarray:
    # numpy's own reader makes room for the shape that the header states before it looks for the numbers
    file = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"version {version} of the format")
        shape, fortran, kind = np.lib.format.read_array_header_1_0(file)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError) as error:
        # the header is Python's text for a dictionary, and its reader fails in as many ways
        raise ValueError(f"accepted is an array in npy format 1.0: {error}") from None
    rest = body[file.tell() :]
    if fortran or kind.str not in NUMBERS:
        raise ValueError(f"accepted are arrays in C order of {', '.join(NUMBERS)}, got {kind.str}")
    if any(side < 0 for side in shape) or math.prod(shape) * kind.itemsize != len(rest):
        raise ValueError(f"an array of shape {shape} has not {len(rest)} bytes")
    return np.frombuffer(rest, kind).reshape([int(side) for side in shape])
