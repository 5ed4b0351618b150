"""Files as damage or a stranger would change them: bytes, arrays and values of a description."""

import json

import numpy as np


def attempt(work):
    """What it gives, or what its ValueError says; nothing else may happen."""
    try:
        return work(), ""
    except ValueError as error:
        return None, str(error)


def mutated(content, rng):
    """Bytes, of which some have changed, gone or come."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(len(content)) ** rng.random())
        match rng.integers(4):
            case 0:
                content[at] = rng.integers(256)
            case 1:
                del content[at : at + rng.integers(1, 40)]
            case 2:
                content[at:at] = rng.bytes(rng.integers(1, 20))
            case _:
                content[at : at + 8] = rng.choice([0, 1, -1, 2**62, 255], 1).astype("<i8").tobytes()
    return bytes(content)


def mutated_arrays(arrays, rng):
    """A copy in which one array has other numbers, another shape or another type."""
    arrays = {name: a.copy() for name, a in arrays.items()}
    name = rng.choice(sorted(arrays))
    a = arrays[name]
    match rng.integers(5):
        case 0 if a.size:
            a.flat[rng.integers(a.size)] = rng.choice([-1, 0, 1, 2, 7, 10**12])
        case 1 if a.size and a.dtype == float:
            a.flat[rng.integers(a.size)] = rng.choice([np.nan, np.inf, -1e300, 1e300, 1e-300, 0.5])
        case 2 if a.ndim:
            arrays[name] = a[: rng.integers(len(a) + 1)]
        case 3:
            arrays[name] = (
                a[..., None] if rng.random() < 0.5 else a.astype(rng.choice([float, np.int64, bool]))
            )
        case _ if a.size > 1:
            arrays[name] = rng.permutation(a.ravel()).reshape(a.shape)
    return arrays


def mutated_document(document, rng):
    """A copy in which one value, however deep, has become another one, half of the time."""
    document = json.loads(json.dumps(document))
    if rng.random() < 0.5:
        return document
    place, key = document, "models"
    while isinstance(place, (dict, list)) and len(place):
        parent = place
        key = rng.choice(sorted(place)) if isinstance(place, dict) else int(rng.integers(len(place)))
        place = parent[key]
    parent[key] = [None, -1, 0, 10**30, 1e300, "x", [], {}, True, [[1.0]], {"number": "inf"}][
        rng.integers(11)
    ]
    return document
