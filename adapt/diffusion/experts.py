"""Experts of ranges of noise: small adapters on one frozen guide, of which one at a time is switched on.

Adapters are low-rank (Hu et al., "LoRA", ICLR 2022) on convolutions and linear layers, as `peft` has them: a
convolution of rank channels and one of 1 x 1 after it. Each expert also has its own copies of the guide's
norms, affine parameters and running statistics. Biases elsewhere are not adapted, which `peft` offers for
one adapter alone.

Source: Go et al., "Towards Practical Plug-and-Play Diffusion Models" (CVPR 2023, arXiv 2212.05973), section
4.
"""

import copy
import math
import re
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from adapt.diffusion.guidance import as_taken
from adapt.diffusion.ranges import Ranges
from adapt.diffusion.trigflow import SIGMA
from tracking.formats import weights

KIND = "experts"
INSTANCE = nn.modules.instancenorm._InstanceNorm
NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, INSTANCE)


class _Guide(nn.Module):
    """A guide one level down: `peft` matches the ends of names, and "guide.1" is no end of "guide.11"."""

    def __init__(self, guide: nn.Module):
        super().__init__()
        self.guide = guide

    def forward(self, x: Tensor) -> Any:
        return self.guide(x)


class Experts(nn.Module):
    """A guide with an expert for each range of noise; the guide passed in is not changed.

    Args:
        guide:   x (b, ...) -> what it says of it.
        ranges:  of time.
        rank:    of the adapters.
        alpha:   adapters are scaled by alpha / rank.
        targets: names of the layers that are adapted; default: all linear and ungrouped convolutional ones.
        sigma:   standard deviation of the noise at pi/2: TrigFlow's, or 1 for DDPM and its kin.
    Raises:
        ImportError: the extra `diffusion` is not installed.
        ValueError:  no layer to adapt, or settings that cannot be.
    """

    def __init__(
        self,
        guide: nn.Module,
        ranges: Ranges,
        *,
        rank: int = 4,
        alpha: float = 8.0,
        targets: list[str] | None = None,
        sigma: float = SIGMA,
    ):
        super().__init__()
        try:
            from peft import LoraConfig, get_peft_model
        except ImportError:
            raise ImportError("experts need the diffusion extra: pip install '.[diffusion]'") from None
        names = adaptable(guide) if targets is None else targets
        if not names:
            raise ValueError("the guide has no linear or convolutional layer that an adapter could sit on")
        if not (0 < sigma < math.inf and 0 < alpha < math.inf):
            raise ValueError(f"sigma and alpha must be positive and finite, got {sigma} and {alpha}")
        self.of_guide = weights.digest(guide.state_dict())
        self.ranges, self.sigma, self.names = ranges, sigma, names
        self.rank, self.alpha = rank, alpha
        inner = _Guide(copy.deepcopy(guide)).eval().requires_grad_(False)
        norms = [
            name
            for name, module in inner.named_modules()
            if isinstance(module, NORMS) and (module.state_dict() or not isinstance(module, INSTANCE))
        ]
        config = LoraConfig(
            r=rank,
            lora_alpha=alpha,  # type: ignore[arg-type]
            target_modules="|".join(re.escape(f"guide.{name}") for name in names),
            modules_to_save=norms or None,
        )
        self.adapted = get_peft_model(inner, config, adapter_name="expert0")  # type: ignore[arg-type]
        for n in range(1, len(ranges)):
            self.adapted.add_adapter(f"expert{n}", config)
        self.active = -1
        self.select(0)
        self.eval()

    def select(self, index: int) -> None:
        """Switch an expert on, for all that follows."""
        if index != self.active:
            self.adapted.set_adapter(f"expert{index}")
            self.active = index

    def forward(self, x: Tensor, t: float | Tensor) -> Any:
        """What the expert of t says of x (b, ...), noised up to t: one time for the whole batch."""
        self.select(self.ranges.of(float(t)))
        return self.adapted(as_taken(self, x))

    def current(self, x: Tensor) -> Any:
        """What the expert that is on says of x."""
        return self.adapted(x)

    def guide(self, x: Tensor) -> Any:
        """What the guide itself says of x: no adapter, no training mode."""
        training = self.training
        self.eval()
        try:
            with self.adapted.disable_adapter():
                return self.adapted(x)
        finally:
            self.train(training)

    def tensors(self, index: int) -> dict[str, Tensor]:
        """All that one expert has: adapters, affine parameters of norms and their running statistics."""
        from peft import get_peft_model_state_dict

        return get_peft_model_state_dict(self.adapted, adapter_name=f"expert{index}")

    def put(self, index: int, tensors: dict[str, Tensor]) -> None:
        """Give an expert the tensors of another.

        Raises:
            ValueError: they are of another guide.
        """
        from peft import set_peft_model_state_dict

        own = self.tensors(index)
        wrong = sorted(own.keys() ^ tensors.keys())
        wrong += [k for k in own.keys() & tensors.keys() if own[k].shape != tensors[k].shape]
        if wrong:
            raise ValueError(f"the tensors are not of an expert of this guide: {', '.join(wrong[:5])}")
        set_peft_model_state_dict(self.adapted, tensors, adapter_name=f"expert{index}")

    def trainable(self) -> int:
        """Parameters of one expert that learn."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def save(self, path: str | Path, **about: Any) -> None:
        """Write the experts, without the guide, to one safetensors file."""
        document = {
            "edges": list(self.ranges.edges),
            "steps": list(self.ranges.steps),
            "rank": self.rank,
            "alpha": self.alpha,
            "targets": list(self.names),
            "sigma": self.sigma,
            "guide": self.of_guide,
            "about": about,
        }
        tensors = {
            f"{n}.{name}": value for n in range(len(self.ranges)) for name, value in self.tensors(n).items()
        }
        weights.write_weights(path, KIND, document, tensors)


def load_experts(path: str | Path, guide: nn.Module) -> Experts:
    """Experts of a file, on the guide that they were made for.

    Raises:
        ValueError: a file of something else, or experts of another guide.
    """
    document, tensors = weights.read_weights(path, KIND)
    with weights.expecting(path, "experts of this guide"):
        if not all(bool(value.isfinite().all()) for value in tensors.values()):
            raise ValueError("their tensors are not finite")
        known = {name for name, _ in guide.named_modules()}
        missing = [name for name in document["targets"] if name not in known]
        if missing:
            raise ValueError(f"they adapt layers that the guide does not have: {', '.join(missing[:5])}")
        if document["guide"] != weights.digest(guide.state_dict()):
            raise ValueError("they were made for a guide of other weights")
        ranges = Ranges(tuple(document["edges"]), tuple(document["steps"]))
        if f"{len(ranges) - 1}." not in {f"{key.split('.')[0]}." for key in tensors}:
            raise ValueError(f"there are {len(ranges)} ranges and not as many experts")
        settings = {name: document[name] for name in ("rank", "alpha", "targets", "sigma")}
        experts = Experts(guide, ranges, **settings)
        for n in range(len(ranges)):
            mine = {k.partition(".")[2]: v for k, v in tensors.items() if k.partition(".")[0] == str(n)}
            experts.put(n, mine)
    return experts


def adaptable(guide: nn.Module) -> list[str]:
    """Names of the layers that adapters can sit on; attention of torch keeps its own to itself.

    A guide's `closed`, if it has one, names further parts to be left alone.
    """
    closed = [*getattr(guide, "closed", ())]
    closed += [name for name, m in guide.named_modules() if isinstance(m, nn.MultiheadAttention)]

    def fits(module: nn.Module) -> bool:
        return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)

    return [
        name
        for name, module in guide.named_modules()
        if fits(module) and not any(name.startswith(f"{other}.") for other in closed)
    ]
