"""The image network that FUSE builds on, taken apart: tokens after some of its blocks, and the head.

It is Depth Anything (Yang et al., CVPR 2024; V2, NeurIPS 2024) as `transformers` has it: a vision transformer
(DINOv2) and a dense prediction head. Pretrained weights come by name or from a folder; `tiny` makes one that
learns on a CPU. Both are the same class, so whatever works with one works with the other.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for channels of 0 to 1
ENCODER = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "mlp_ratio",
    "patch_size",
    "image_size",
    "out_indices",
    "use_swiglu_ffn",
    "layer_norm_eps",
)
HEAD = (
    "patch_size",
    "reassemble_hidden_size",
    "reassemble_factors",
    "neck_hidden_sizes",
    "fusion_hidden_size",
    "head_hidden_size",
)
LARGEST, MOST_LAYERS = 10_000, 100  # that a configuration may state
TINY = {"hidden_size": 96, "num_hidden_layers": 6, "num_attention_heads": 4, "patch_size": 8}


class Backbone(nn.Module):
    """A Depth Anything network.

    Args:
        net:  `transformers.DepthAnythingForDepthEstimation`.
        stem: whether patches are read by small convolutions, see `Stem`.
    """

    def __init__(self, net: Any, stem: bool = False):
        super().__init__()
        settings = net.backbone.config
        if stem:
            net.backbone.embeddings.patch_embeddings.projection = Stem(
                settings.hidden_size, settings.patch_size
            )
        # Taps are wanted as the blocks leave them: fusion comes before the last norm.
        settings.apply_layernorm, settings.reshape_hidden_states = False, False
        self.net, self.stem = net, stem
        self.patch: int = settings.patch_size
        self.width: int = settings.hidden_size
        self.heads: int = settings.num_attention_heads
        self.taps: int = len(settings.out_features)

    @classmethod
    def tiny(cls, side: int = 64, stem: bool = True, **changes: Any) -> "Backbone":
        """One of a million parameters with random weights.

        Args:
            side:    of the images that it is to be trained on, pixels; others are taken too.
            stem:    of small convolutions, see `Stem`; without, it is what `transformers` has.
            changes: of `TINY`, names as in `transformers.Dinov2Config`.
        """
        size = TINY | changes
        layers, width = size["num_hidden_layers"], size["hidden_size"]
        taps = [layers * k // 6 for k in (2, 3, 5, 6)]
        made = cls.configured(
            {
                "stem": stem,
                "encoder": size | {"image_size": side, "out_indices": taps},
                "head": {
                    "patch_size": size["patch_size"],
                    "reassemble_hidden_size": width,
                    "neck_hidden_sizes": [width // 4, width // 2, width, width],
                    "fusion_hidden_size": 32,
                    "head_hidden_size": 32,
                },
            }
        )
        nn.init.constant_(made.net.head.conv3.bias, 0.3)  # 1/m: its last step cuts off what is negative
        return made

    @classmethod
    def configured(cls, config: dict[str, Any]) -> "Backbone":
        """One with random weights, of sizes as `config` gives them; they may come from a stranger's file.

        Raises:
            ImportError: the extra `depth` is not installed.
            ValueError:  no sizes of such a network.
        """
        kind = _transformers()
        _check(config)
        try:
            encoder = kind.Dinov2Config(**config["encoder"])
            head = kind.DepthAnythingConfig(backbone_config=encoder, **config["head"])
            return cls(kind.DepthAnythingForDepthEstimation(head), config.get("stem", False))
        except Exception as error:  # of the library, whose checks are many
            raise ValueError(f"no sizes of Depth Anything: {error}") from None

    @classmethod
    def named(cls, name: str | Path, download: bool = False) -> "Backbone":
        """A pretrained one: a folder, or a name of the hub such as depth-anything/Depth-Anything-V2-Small-hf.

        Weights are read as safetensors alone, and no code that comes with them is run.

        Args:
            name:     of the folder, or of the hub for what was downloaded before.
            download: what was not.
        Raises:
            ImportError: the extra `depth` is not installed.
            ValueError:  no such network, or one of another kind.
        """
        kind, local = _transformers(), not download
        with _found(name):
            config = kind.AutoConfig.from_pretrained(
                str(name), local_files_only=local, trust_remote_code=False
            )
        if not isinstance(config, kind.DepthAnythingConfig):
            raise ValueError(f"{str(name)!r} is of a {config.model_type}, not a Depth Anything network")
        if config.depth_estimation_type != "relative":
            raise ValueError(f"{str(name)!r} says metric depth; one for relative depth, 1/z, is expected")
        if not isinstance(config.backbone_config, kind.Dinov2Config):  # of others the library fetches weights
            raise ValueError(f"{str(name)!r} has an encoder of another kind; DINOv2 is expected")
        with _found(name):
            net, found = kind.DepthAnythingForDepthEstimation.from_pretrained(
                str(name),
                config=config,
                use_safetensors=True,
                local_files_only=local,
                output_loading_info=True,
            )
        if found["missing_keys"]:
            raise ValueError(f"{str(name)!r} lacks weights: {', '.join(sorted(found['missing_keys'])[:3])}")
        return cls(net.float())

    @property
    def config(self) -> dict[str, Any]:
        """What `configured` takes to make one like it."""
        encoder, head = self.net.backbone.config, self.net.config
        taps = {"out_indices": list(encoder.out_indices)}
        return {
            "stem": self.stem,
            "encoder": {name: getattr(encoder, name) for name in ENCODER if name != "out_indices"} | taps,
            "head": {name: getattr(head, name) for name in HEAD},
        }

    @property
    def encoder(self) -> nn.Module:
        """The vision transformer."""
        return self.net.backbone

    def another(self) -> "Backbone":
        """A copy that shares nothing."""
        return copy.deepcopy(self)

    def without_head(self) -> "Backbone":
        """A copy that shares nothing and says tokens alone."""
        made = self.another()
        made.net.neck = made.net.head = nn.Identity()
        return made

    def tokens(self, x: Tensor) -> list[Tensor]:
        """Class and patch tokens (b, 1 + n, width) after each tapped block, of images (b, 3, H, W).

        Raises:
            ValueError: sides that are not multiples of the patch.
        """
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % self.patch or x.shape[3] % self.patch:
            raise ValueError(
                f"images (b, 3, H, W) with sides of a multiple of {self.patch} are expected, got "
                f"{tuple(x.shape)}; `prepared` and `prepared_events` make them"
            )
        return list(self.net.backbone(x).feature_maps)

    def finished(self, tokens: list[Tensor]) -> list[Tensor]:
        """Tokens after the last norm: what the head reads and what is compared in training."""
        return [self.net.backbone.layernorm(t) for t in tokens]

    def read(self, finished: list[Tensor], grid: tuple[int, int]) -> Tensor:
        """Inverse depth (b, H, W), up to scale and shift, of finished tokens of a grid of patches."""
        return self.net.head(self.net.neck(finished, *grid), *grid)

    def grid(self, x: Tensor) -> tuple[int, int]:
        """Rows and columns of patches of images (b, 3, H, W)."""
        return x.shape[-2] // self.patch, x.shape[-1] // self.patch

    def forward(self, x: Tensor) -> Tensor:
        """Inverse depth (b, H, W) of images (b, 3, H, W)."""
        return self.read(self.finished(self.tokens(x)), self.grid(x))

    def decoder(self) -> "Decoder":
        """A copy of what reads tokens, for metric depth."""
        return Decoder(self.net)


class Stem(nn.Sequential):
    """Patches read by small convolutions, each halving the sides, instead of by one large one.

    From random weights and a few thousand images a transformer learns twice as fast with it. Source: Xiao et
    al., "Early convolutions help transformers see better" (NeurIPS 2021).

    Args:
        width: of the tokens.
        patch: pixels, a power of 2.
    """

    def __init__(self, width: int, patch: int):
        halvings = patch.bit_length() - 1
        if patch != 1 << halvings or not halvings:
            raise ValueError(f"a stem of small convolutions needs a patch of 2, 4, 8 or so, got {patch}")
        layers: list[nn.Module] = []
        channels = 3
        for k in reversed(range(halvings)):
            out = max(width >> k, 16)
            layers += [nn.Conv2d(channels, out, 3, 2, 1, bias=False), nn.GroupNorm(1, out), nn.GELU()]
            channels = out
        super().__init__(*layers, nn.Conv2d(channels, width, 1))

    @property
    def weight(self) -> Tensor:
        """The first one, whose type the library asks for."""
        first = self[0]
        assert isinstance(first, nn.Conv2d)
        return first.weight


class Decoder(nn.Module):
    """Metric depth from finished tokens: neck and head of a network, its last layer a sigmoid.

    Args:
        net: `transformers.DepthAnythingForDepthEstimation`, which is copied.
    """

    def __init__(self, net: Any):
        super().__init__()
        self.neck, self.head = copy.deepcopy(net.neck), copy.deepcopy(net.head)
        self.head.activation2 = nn.Sigmoid()
        self.head.max_depth = 1
        # Inverse depth from before would begin upside down, and where it is large without gradient.
        nn.init.normal_(self.head.conv3.weight, std=0.01)
        nn.init.zeros_(self.head.conv3.bias)

    def forward(self, finished: list[Tensor], grid: tuple[int, int], farthest: float) -> Tensor:
        """Depth (b, H, W), m, up to the farthest."""
        return farthest * self.head(self.neck(finished, *grid), *grid)


def prepared(image: Tensor, patch: int, size: tuple[int, int] | None = None) -> Tensor:
    """Images (b, 3, h, w) as a backbone takes them, of images (b, H, W) or (b, H, W, 3) of values 0 to 1.

    Args:
        image: grey or colour.
        patch: of the backbone.
        size:  (h, w) wanted at least, see `fitted`; None: that of the image.
    """
    if image.ndim not in (3, 4) or (image.ndim == 4 and image.shape[-1] != 3):
        raise ValueError(f"images (b, H, W) or (b, H, W, 3) are expected, got {tuple(image.shape)}")
    colour = image[..., None].expand(*image.shape, 3) if image.ndim == 3 else image
    x = colour.permute(0, 3, 1, 2).float()
    x = F.interpolate(x, fitted((x.shape[-2], x.shape[-1]), patch, size), mode="bicubic", antialias=True)
    mean, std = (torch.tensor(a, device=x.device).view(3, 1, 1) for a in (MEAN, STD))
    return (x - mean) / std


def prepared_events(voxels: Tensor, patch: int, size: tuple[int, int] | None = None) -> Tensor:
    """Voxel grids (b, 3, h, w) as a backbone takes them, of grids (b, 3, H, W).

    What is not zero is brought to mean 0 and standard deviation 1 after the change of size, unless it is all
    alike; zeros stay, and a grid without events is all zeros. Sizes change linearly, not by cubes as in the
    paper's code, which makes events of the other sign beside each.
    """
    if voxels.ndim != 4 or voxels.shape[1] != 3:
        raise ValueError(f"voxel grids (b, 3, H, W) are expected, got {tuple(voxels.shape)}")
    wanted = fitted((voxels.shape[-2], voxels.shape[-1]), patch, size)
    x = voxels.float()
    if wanted != tuple(x.shape[-2:]):
        x = F.interpolate(x, wanted, mode="bilinear", antialias=True)
    there = x != 0
    number = there.sum((1, 2, 3), keepdim=True).clamp(min=1)
    mean = x.sum((1, 2, 3), keepdim=True) / number
    std = (((x - mean).square() * there).sum((1, 2, 3), keepdim=True) / number).sqrt()
    varied = std > 1e-4 * x.abs().amax((1, 2, 3), keepdim=True)
    return torch.where(there & varied, (x - mean) / torch.where(varied, std, 1.0), x)


def fitted(size: tuple[int, int], patch: int, least: tuple[int, int] | None = None) -> tuple[int, int]:
    """(h, w): multiples of the patch that keep the proportions of (H, W), both at least as large as wanted.

    Source: the "lower bound" of Depth Anything and FUSE (Sun et al., IROS 2025).
    """
    scale = 1.0 if least is None else max(least[0] / size[0], least[1] / size[1])
    one, other = (max(round(side * scale / patch), 1) * patch for side in size)
    if least is not None:
        one, other = (side if side >= low else side + patch for side, low in zip((one, other), least))
    return one, other


def _check(config: dict[str, Any]) -> None:
    """Raise ValueError for what are no sizes, or sizes that would take minutes to be refused."""
    if type(config.get("stem", False)) is not bool:
        raise ValueError(f"stem must be true or false, got {config['stem']!r}")
    for part, names in (("encoder", ENCODER), ("head", HEAD)):
        given = config.get(part)
        if not isinstance(given, dict) or not given.keys() <= set(names):
            raise ValueError(f"sizes of the {part} are of {', '.join(names)}, got {given!r}")
        for name, value in given.items():
            numbers = value if isinstance(value, (list, tuple)) else [value]
            if len(numbers) > 8 or not all(
                isinstance(x, (int, float)) and 0 <= x <= LARGEST for x in numbers
            ):
                raise ValueError(f"{name} must be numbers from 0 to {LARGEST}, 8 at most, got {value!r}")
    if not 0 < config["encoder"].get("num_hidden_layers", 12) <= MOST_LAYERS:
        raise ValueError(f"at most {MOST_LAYERS} layers are accepted, got {config['encoder']}")
    if not all(config[part].get("patch_size", 14) >= 1 for part in ("encoder", "head")):
        raise ValueError(f"a patch has at least one pixel, got {config}")


@contextmanager
def _found(name: str | Path) -> Iterator[None]:
    """Whatever the library raises for a folder or a name is one ValueError."""
    try:
        yield
    except Exception as error:  # of several libraries, for anything that is not such a network
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"no depth network at {str(name)!r}, a folder or a name of the hub: {reason}"
        ) from None


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise ImportError(
            "depth networks need the extra `depth`: pip install -c constraints.txt '.[depth]'"
        ) from None
    return transformers
