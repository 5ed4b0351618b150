"""Images and arrays of single files: sizes are checked before memory is taken, and nothing is unpickled."""

import math
import os

import numpy as np

from perception.events.files import npz

MAX_SIDE = 65_536  # pixels, as of an EventStream
MAX_PIXELS = 1 << 26  # of an image or an array, 0.5 GB as float64
NEEDS = "pictures need the viz extra: pip install -c constraints.txt -e '.[viz]'"
ODD = (*npz.ODD, IndexError, OverflowError)


def read_image(path) -> np.ndarray:
    """(H, W) uint8 of a grey PNG, (H, W, 3) uint8 of one in colour, whose transparency is left out.

    Raises:
        ValueError:  `path: what came; accepted: what`.
        OSError:     the file is missing or cannot be opened.
        ImportError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise ImportError(NEEDS) from None
    with open(path, "rb") as file:
        try:
            with Image.open(file, formats=("PNG",)) as image:
                mode, (wide, high) = image.mode, image.size
                if mode in ("L", "RGB", "RGBA", "P") and wide * high <= MAX_PIXELS:
                    return np.array(image if mode == "L" else image.convert("RGB"))
        except (*ODD, Image.DecompressionBombError) as error:
            raise ValueError(f"{path}: no image ({error}); accepted: a whole PNG") from None
    raise ValueError(
        f"{path}: {wide} x {high} pixels of kind {mode}; "
        f"accepted: 8 bits, grey or colour, {MAX_PIXELS} pixels at most"
    )


def read_array(path, dimensions: int, what: str, kinds: str = "f") -> np.ndarray:
    """The array of a .npy file.

    Args:
        path:       the file.
        dimensions: that it must have.
        what:       it is, for messages.
        kinds:      of numbers that are accepted, as numpy.dtype.kind has them.
    Raises:
        ValueError: `path: what came; accepted: what`.
        OSError:    the file is missing or cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            shape, dtype = npz.header(file)
        except ODD as error:
            raise ValueError(f"{path}: no array ({error}); accepted: {what} in .npy") from None
        held = os.fstat(file.fileno()).st_size - file.tell()
    wrong = len(shape) != dimensions or dtype.kind not in kinds or math.prod(shape) > MAX_PIXELS
    if wrong or math.prod(shape) * dtype.itemsize != held:
        raise ValueError(
            f"{path}: an array of shape {shape} and type {dtype} in {held} bytes; accepted: {what}, "
            f"{dimensions} dimensions, {MAX_PIXELS} numbers at most"
        )
    return np.load(path, allow_pickle=False)
