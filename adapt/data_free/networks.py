"""Small networks for images, sequences, points and vectors, and generators of such inputs.

Shapes are those of one input: (C, H, W) an image, (C, L) a sequence, (D,) a vector, (N, 3) with "points" a
set of points. Students have names, a family and a width: "cnn-8", "resnet-16", "mlp-64", "points-32".
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from adapt.files import read_model
from tracking.formats import weights

Shape = tuple[int, ...]
CONV = {1: nn.Conv1d, 2: nn.Conv2d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
POOL = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d}
LARGEST = 4096  # width of a student, and elements of an axis: a name or file cannot ask for any size


def cnn(shape: Shape, classes: int, width: int) -> nn.Module:
    """Three convolutions with batch norm and one layer, on an image or a sequence."""
    dims = _dims(shape, "cnn")
    layers: list[nn.Module] = []
    channels = shape[0]
    for wide, stride in ((width, 1), (2 * width, 2), (2 * width, 1)):
        layers += [_conv(dims, channels, wide, stride), NORM[dims](wide), nn.ReLU()]
        channels = wide
    return nn.Sequential(*layers, POOL[dims](2), nn.Flatten(), nn.Linear(channels * 2**dims, classes))


def resnet(shape: Shape, classes: int, width: int) -> nn.Module:
    """A stem, three basic blocks and one layer: nine convolutions. He et al. (CVPR 2016), small."""
    dims = _dims(shape, "resnet")
    stem = nn.Sequential(_conv(dims, shape[0], width, 1), NORM[dims](width), nn.ReLU())
    sizes = ((width, 1), (2 * width, 2), (2 * width, 2))
    blocks = [Block(dims, a, wide, stride) for a, (wide, stride) in zip((width, width, 2 * width), sizes)]
    return nn.Sequential(stem, *blocks, POOL[dims](2), nn.Flatten(), nn.Linear(2 * width * 2**dims, classes))


def mlp(shape: Shape, classes: int, width: int) -> nn.Module:
    """Two hidden layers with batch norm, on any input."""
    layers: list[nn.Module] = [nn.Flatten()]
    size = math.prod(shape)
    for _ in range(2):
        layers += [nn.Linear(size, width), nn.BatchNorm1d(width), nn.ReLU()]
        size = width
    return nn.Sequential(*layers, nn.Linear(size, classes))


class Points(nn.Module):
    """A shared layer on each point of (N, 3), the largest of each feature, two layers: any order of points.

    Source: Qi et al., "PointNet" (CVPR 2017), without its transforms.
    """

    def __init__(self, shape: Shape, classes: int, width: int):
        super().__init__()
        if len(shape) != 2:
            raise ValueError(f"points are of shape (N, dimensions), got {shape}")
        each = (nn.Conv1d(shape[1], width, 1), nn.BatchNorm1d(width), nn.ReLU())
        self.each = nn.Sequential(*each, nn.Conv1d(width, 2 * width, 1), nn.BatchNorm1d(2 * width), nn.ReLU())
        self.out = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Tensor:
        """(b, classes) logits of (b, N, dimensions)."""
        return self.out(self.each(x.transpose(1, 2)).amax(2))


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, dims: int, channels: int, wide: int, stride: int):
        super().__init__()
        self.first = nn.Sequential(_conv(dims, channels, wide, stride), NORM[dims](wide), nn.ReLU())
        self.second = nn.Sequential(_conv(dims, wide, wide, 1), NORM[dims](wide))
        same = channels == wide and stride == 1
        around = CONV[dims](channels, wide, 1, stride, bias=False)
        self.around = nn.Identity() if same else nn.Sequential(around, NORM[dims](wide))

    def forward(self, x: Tensor) -> Tensor:
        """(b, wide, *side / stride)."""
        return F.relu(self.second(self.first(x)) + self.around(x))


FAMILIES: dict[str, Callable[[Shape, int, int], nn.Module]] = {
    "cnn": cnn,
    "resnet": resnet,
    "mlp": mlp,
    "points": Points,
}


def build(name: str, shape: Shape, classes: int) -> nn.Module:
    """A student by name, with random weights of torch's global state.

    Raises:
        ValueError: no such family or width, or it does not take such inputs.
    """
    family, _, width = name.partition("-")
    if family not in FAMILIES or not (width.isascii() and width.isdigit() and 0 < int(width) <= LARGEST):
        names = ", ".join(FAMILIES)
        raise ValueError(f"a student is a family ({names}), '-' and a width, such as cnn-16; got {name!r}")
    if not shape or not all(0 < n <= LARGEST for n in shape) or not 1 < classes <= 10 * LARGEST:
        raise ValueError(f"inputs of shape {shape} and {classes} classes cannot be learned")
    return FAMILIES[family](tuple(shape), classes, int(width))


def save(path: str | Path, network: nn.Module, name: str, shape: Shape, classes: int) -> None:
    """Write a student of `build` as safetensors, with what it is."""
    document = {"network": name, "shape": list(shape), "classes": classes}
    weights.write_weights(path, "student", document, network.state_dict())


def load(path: str | Path) -> nn.Module:
    """A network of a file, in eval mode.

    Args:
        path: .safetensors of `save`; or what `adapt.files.read_model` reads, a .pt2 or TorchScript.
    Raises:
        FileNotFoundError: there is no such file.
        ValueError:        it is something else; pickles, such as torch.save writes, are refused.
    """
    if Path(path).suffix != ".safetensors":
        return read_model(path)
    document, tensors = weights.read_weights(path, "student")
    with weights.expecting(path, "a student"):
        name, shape, classes = document["network"], tuple(document["shape"]), document["classes"]
        return weights.filled(lambda: build(name, shape, classes), tensors)


class ConvGenerator(nn.Module):
    """From noise z (b, nz) to images or sequences whose channels have mean 0 and variance 1.

    Args:
        shape:    (C, H, W) or (C, L).
        nz:       size of z.
        width:    channels.
        eps:      of batch norm between convolutions; PRE-DFKD and LRA have 0.8, a slip of an old tutorial.
        spectral: spectral norm on the convolutions, as they have it.
    """

    def __init__(self, shape: Shape, nz: int, width: int = 32, eps: float = 1e-5, spectral: bool = False):
        super().__init__()
        dims = _dims(shape, "a generator of images")
        norm: Callable[[nn.Module], nn.Module] = spectral_norm if spectral else lambda module: module
        self.side = tuple(shape[1:])
        self.start = tuple(-(-n // 4) for n in self.side)
        self.width, self.last = width, NORM[dims](shape[0], affine=False)
        self.first = nn.Linear(nz, width * math.prod(self.start))
        self.norm = NORM[dims](width)
        self.stages = nn.ModuleList(
            nn.Sequential(norm(_conv(dims, width, width, 1)), NORM[dims](width, eps), nn.LeakyReLU(0.2))
            for _ in range(2)
        )
        self.out = norm(CONV[dims](width, shape[0], 3, padding=1))

    def forward(self, z: Tensor) -> Tensor:
        """(b, *shape)."""
        x = self.norm(self.first(z).reshape(len(z), self.width, *self.start))
        for stage in self.stages:
            x = stage(F.interpolate(x, scale_factor=2.0))
        x = self.out(x)[(..., *(slice(n) for n in self.side))]
        return self.last(torch.tanh(x))


class PlainGenerator(nn.Module):
    """From noise z (b, nz) to vectors or sets of points, whose coordinates have mean 0 and variance 1."""

    def __init__(self, shape: Shape, nz: int, width: int = 32):
        super().__init__()
        self.shape = tuple(shape)
        wide = 4 * width
        layers: list[nn.Module] = [nn.Linear(nz, wide), nn.BatchNorm1d(wide), nn.LeakyReLU(0.2)]
        layers += [nn.Linear(wide, wide), nn.BatchNorm1d(wide), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(wide, math.prod(shape)))
        self.last = nn.BatchNorm1d(shape[-1], affine=False)

    def forward(self, z: Tensor) -> Tensor:
        """(b, *shape)."""
        x = self.layers(z)
        return self.last(x.reshape(-1, self.shape[-1])).reshape(-1, *self.shape)


def generator(
    shape: Shape,
    nz: int = 64,
    width: int = 32,
    points: bool = False,
    eps: float = 1e-5,
    spectral: bool = False,
) -> nn.Module:
    """A generator of inputs of a shape; `points`: of sets of points instead of sequences."""
    if len(shape) == 1 or (points and len(shape) == 2):
        return PlainGenerator(shape, nz, width)
    return ConvGenerator(shape, nz, width, eps, spectral)


class Shifted(nn.Module):
    """A generator whose inputs have other means and deviations than 0 and 1.

    Args:
        network:         from z (b, nz) to inputs (b, *shape).
        mean, deviation: of all of an input, or of each channel: the first number of the shape of images and
                         sequences, the last of vectors and sets of points.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, mean: float | Sequence[float], deviation: float | Sequence[float]):
        super().__init__()
        self.network = network
        after = () if isinstance(network, PlainGenerator) else (1,) * len(network.side)  # type: ignore[arg-type]
        for name, value in (("mean", mean), ("deviation", deviation)):
            number = torch.as_tensor(value, dtype=torch.float32)
            self.register_buffer(name, number.reshape(-1, *after) if number.ndim else number)

    def forward(self, z: Tensor) -> Tensor:
        """(b, *shape)."""
        return self.mean + self.deviation * self.network(z)


class Encoder(nn.Module):
    """From an input (b, *shape) to mean and logarithm of variance of a code, (b, nz) each."""

    def __init__(self, shape: Shape, nz: int, width: int = 32, points: bool = False):
        super().__init__()
        if len(shape) == 1 or (points and len(shape) == 2):
            size = 4 * width
            self.body = nn.Sequential(
                nn.Flatten(), nn.Linear(math.prod(shape), size), nn.BatchNorm1d(size), nn.LeakyReLU(0.2)
            )
        else:
            dims = _dims(shape, "an encoder of images")
            layers: list[nn.Module] = []
            channels = shape[0]
            for wide, stride in ((width, 1), (2 * width, 2), (2 * width, 2)):
                layers += [_conv(dims, channels, wide, stride), NORM[dims](wide), nn.LeakyReLU(0.2)]
                channels = wide
            self.body = nn.Sequential(*layers, POOL[dims](2), nn.Flatten())
            size = channels * 2**dims
        self.mean, self.log_var = nn.Linear(size, nz), nn.Linear(size, nz)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of variance."""
        features = self.body(x)
        return self.mean(features), self.log_var(features)


def _dims(shape, what):
    if len(shape) - 1 not in CONV:
        raise ValueError(f"{what} takes images (C, H, W) or sequences (C, L), got shape {tuple(shape)}")
    return len(shape) - 1


def _conv(dims, channels, wide, stride):
    return CONV[dims](channels, wide, 3, stride, 1, bias=False)
