"""Colours of the page can be read on their background, and told apart with any colour vision."""

import itertools
import re
from importlib.resources import files

import numpy as np
import pytest

STYLE = files("sims.report").joinpath("page", "style.css").read_text()
SERIES = 6  # trackers of different colours; each has a shape of its own too
# Linear sRGB as people without one kind of cone see it: Machado, Oliveira, Fernandes (TVCG 2009), severity 1.
VISION = {
    "all": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def theme(name):
    """Linear RGB by name of the variables of a theme."""
    light, dark = re.findall(r"^:root[^{]*\{(.*?)\}", STYLE, re.DOTALL | re.MULTILINE)
    found = re.findall(r"--([\w-]+): #(\w{6})", light if name == "light" else dark)
    return {key: linear(np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)]) / 255) for key, code in found}


def linear(rgb):
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(a, b):
    """Of WCAG 2.2, 1.4.3."""
    high, low = sorted((float(TO_XYZ[1] @ a), float(TO_XYZ[1] @ b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def lab(rgb):
    x, y, z = np.cbrt(np.maximum(TO_XYZ @ rgb / TO_XYZ.sum(axis=1), 1e-4))
    return np.array((116 * y - 16, 500 * (x - y), 200 * (y - z)))


@pytest.mark.parametrize("name", ["light", "dark"])
def test_text_and_marks_can_be_read(name):
    colours = theme(name)
    for back in ("panel", "page"):
        assert contrast(colours["ink"], colours[back]) > 12
        assert contrast(colours["muted"], colours[back]) > 4.5
    assert contrast(colours["on-accent"], colours["accent"]) > 4.5
    assert contrast(colours["ink"], colours["pressed"]) > 4.5
    for i in range(8):
        assert contrast(colours[f"series-{i}"], colours["panel"]) > 3, i


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("name", ["light", "dark"])
def test_trackers_can_be_told_apart(name, vision):
    colours = theme(name)
    seen = [lab(np.clip(VISION[vision] @ colours[f"series-{i}"], 0, 1)) for i in range(SERIES)]
    for (i, a), (j, b) in itertools.combinations(enumerate(seen), 2):
        assert np.linalg.norm(a - b) > 25, (i, j)  # a just noticeable difference is 2.3
