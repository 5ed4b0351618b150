"""Guidance: the gradient of a guide's loss moves what a diffusion model takes for noise.

    g = -grad_x L(guide(x_t), wanted),   e' = e - b s g,   x_t = a x_0 + b e

Losses are summed over the batch, so that nobody's gradient depends on who else is in it. The shift of e is
the same for every kind of model, see `changed`.

Source: Dhariwal, Nichol, "Diffusion Models Beat GANs on Image Synthesis" (NeurIPS 2021), algorithm 2; Go et
al. (CVPR 2023), equation 3.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.diffusion.trigflow import LEAST, SIGMA, Velocity, data_of, noised

Guide = Callable[[Tensor, float], Tensor]  # x (b, ...) noised up to t, and t -> what it says
GuideLoss = Callable[[Tensor], Tensor]  # what it says (b, ...) -> loss of each (b,)


def raw(guide: nn.Module) -> Guide:
    """A guide off the shelf, which is shown noised images as if they were clean."""
    return lambda x, t: guide(as_taken(guide, x))


def as_taken(network: nn.Module, x: Tensor) -> Tensor:
    """Inputs in the precision of a network's parameters: guides of half precision are led by, too."""
    found = next((p.dtype for p in network.parameters() if p.is_floating_point()), x.dtype)
    return x.to(found)


def denoised(guide: nn.Module, velocity: Velocity) -> Guide:
    """A guide off the shelf, shown what the model takes the clean image for; gradients go through both."""

    def say(x: Tensor, t: float) -> Tensor:
        time = torch.full((len(x),), t, dtype=x.dtype, device=x.device)
        return guide(as_taken(guide, data_of(x, velocity(x, time), time)))

    return say


def toward_class(label: int | Tensor) -> GuideLoss:
    """Cross-entropy to a class, or to one for each (b,), of logits (b, k)."""

    def loss(said: Tensor) -> Tensor:
        if said.ndim != 2:
            raise ValueError(f"a classifier's answer is (b, classes), this guide's is {tuple(said.shape)}")
        target = torch.as_tensor(label, device=said.device)
        if target.ndim and target.shape != said.shape[:1]:
            raise ValueError(
                f"one class, or one for each of {len(said)}, is expected, got {tuple(target.shape)}"
            )
        target = target.expand(len(said))
        if bool((target >= said.shape[1]).any() | (target < 0).any()):
            raise ValueError(f"the guide tells {said.shape[1]} classes apart, wanted is {int(target.max())}")
        return F.cross_entropy(said, target, reduction="none")

    return loss


def toward_map(labels: Tensor) -> GuideLoss:
    """Cross-entropy, summed over pixels, to a label map (h, w) or (b, h, w), of logits (b, k, h, w)."""

    def loss(said: Tensor) -> Tensor:
        if said.ndim != 4 or said.shape[-2:] != labels.shape[-2:]:
            raise ValueError(f"the guide says {tuple(said.shape)}, the label map is {tuple(labels.shape)}")
        if labels.ndim == 3 and len(labels) != len(said):
            raise ValueError(f"one label map, or one for each of {len(said)}, is expected, got {len(labels)}")
        if bool((labels < 0).any() | (labels >= said.shape[1]).any()):
            raise ValueError(
                f"the guide tells {said.shape[1]} classes apart, the map has {int(labels.max())}"
            )
        target = labels.to(said.device).expand(len(said), *labels.shape[-2:])
        return F.cross_entropy(said, target, reduction="none").sum((1, 2))

    return loss


def toward_values(values: Tensor) -> GuideLoss:
    """Half the squared difference, summed over pixels, to a map, such as depth, (...) or (b, ...).

    That is minus the logarithm of a normal density of deviation 1 around what the guide says, as the
    cross-entropy is that of a class: a scale that is good for 16 x 16 pixels is about as good for a class.
    Larger maps pull harder. Pixels where the map is infinite or NaN, as depth is where nothing was seen, are
    left out.

    Raises:
        ValueError: nothing is left of a map.
    """
    known = values.isfinite()
    wanted = values.nan_to_num(0.0, 0.0, 0.0)

    def loss(said: Tensor) -> Tensor:
        if values.shape not in (said.shape, said.shape[1:]):
            raise ValueError(f"the guide says {tuple(said.shape)}, wanted is {tuple(values.shape)}")
        counts = known.to(said).expand_as(said).flatten(1)
        if not counts.any(1).all():
            raise ValueError("a map of what is wanted has no finite number in it")
        off = (said - wanted.to(said)).square().flatten(1)
        return (off * counts).sum(1) / 2

    return loss


@dataclass
class Guidance:
    """A guide, what is wanted of it, and how strongly.

    Args:
        guide: (x, t) -> what it says: `Experts`, `raw(module)` or `denoised(module, velocity)`.
        loss:  of what it says, one number for each sample.
        scale: s, or a function of t.
        sigma: standard deviation of the noise at pi/2: TrigFlow's, or 1 for DDPM and its kin.
        calls: how often the guide was asked.
    """

    guide: Guide
    loss: GuideLoss
    scale: float | Callable[[float], float] = 1.0
    sigma: float = SIGMA
    calls: int = field(default=0, init=False)

    def __post_init__(self):
        if not callable(self.scale) and not 0 <= self.scale < math.inf:
            raise ValueError(f"the scale of a guidance must be at least 0 and finite, got {self.scale}")
        known = getattr(self.guide, "sigma", self.sigma)
        if known != self.sigma:
            raise ValueError(f"the guide knows noise of deviation {known:g}, the model's is {self.sigma:g}")

    def strength(self, t: float) -> float:
        """The scale at a time."""
        return self.scale(t) if callable(self.scale) else self.scale

    def gradient(self, x: Tensor, t: float) -> Tensor:
        """g (b, ...) at x (b, ...): where the guide's loss falls.

        Raises:
            RuntimeError: in inference mode, in which there are no gradients.
            ValueError:   the guide does not take such images, gives no gradient, or its answer does not fit
                          what is wanted.
        """
        if torch.is_inference_mode_enabled():
            raise RuntimeError(
                "guidance needs gradients, which torch.inference_mode() forbids; use torch.no_grad()"
            )
        self.calls += 1
        with torch.enable_grad():
            at = x.detach().clone().requires_grad_(True)
            try:
                said = self.guide(at, t)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                first = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise ValueError(
                    f"the guide does not take the model's images of {tuple(x.shape[1:])}: {first}"
                ) from error
            if isinstance(said, Tensor) and said.is_floating_point():
                said = said.to(x.dtype)  # a loss of half precision would be too rough for its gradient
            loss = self.loss(said)
            if loss.shape != (len(x),):
                raise ValueError(f"a guide's loss is one number a sample, got {tuple(loss.shape)}")
            if not loss.requires_grad:
                raise ValueError("no gradient comes back from the guide: does it run under torch.no_grad()?")
            (gradient,) = torch.autograd.grad(loss.sum(), at)
        return -gradient

    def shift(self, x: Tensor, t: float) -> Tensor:
        """Change (b, ...) of the noise e, of deviation 1, in x = cos t x_0 + sigma sin t e."""
        return -self.sigma * math.sin(t) * self.strength(t) * self.gradient(x, t)


def changed(kind: str, out: Tensor, de: Tensor, a: float, b: float) -> Tensor:
    """A model's answer after a change de of its noise, at the same x = a data + b noise.

    Args:
        kind: of the prediction, one of `trigflow.KINDS`; "trigflow" is a velocity, its noise in units of
            sigma.
        out:  (b, ...) the answer.
        de:   (b, ...) of the noise.
        a, b: shares; a is taken for at least `LEAST`.
    """
    a = max(a, LEAST)
    if kind == "epsilon":
        return out + de
    if kind == "sample":
        return out - (b / a) * de
    return out + de / a  # v = a e - b x_0 with a^2 + b^2 = 1; flow e - x_0 with a + b = 1; TrigFlow as v


def guided(velocity: Velocity, guidance: Guidance) -> Velocity:
    """A velocity that heeds a guide; the times of a batch must agree.

    At pure noise there is nothing to see, and a gradient would be magnified without bound: no guide is asked.
    """

    def of(x: Tensor, t: Tensor) -> Tensor:
        with torch.no_grad():
            v = velocity(x, t)
        first = float(t.reshape(-1)[0])
        if bool((t != first).any()):
            raise ValueError("a guided batch has one time, as a sampler's has")
        if guidance.strength(first) == 0 or math.cos(first) < LEAST:
            return v
        de = guidance.shift(x, first)
        return changed("trigflow", v, guidance.sigma * de, math.cos(first), math.sin(first))

    return of


def guided_jump(
    velocity: Velocity,
    x: Tensor,
    times: Sequence[float],
    guidance: Guidance,
    generator: torch.Generator,
    climbs: int = 2,
) -> Tensor:
    """Data of noise x (b, ...) by a consistency model that is led by a guide between its jumps.

    After each jump but the last the data is noised to the next time, and x moves by Sigma s g, the shift of
    the mean of Dhariwal and Nichol's algorithm 1 with the noise's own variance, in as many smaller climbs.

    Args:
        velocity:  of the consistency model.
        x:         (b, ...) noise.
        times:     of each jump, see `sampling.jumps`.
        guidance:  guide and scale.
        generator: of the noise between.
        climbs:    at each time.
    Raises:
        ValueError: no climb.
    """
    if climbs < 1:
        raise ValueError(f"a guide needs at least 1 climb at each time, got {climbs}")
    for k, time in enumerate(times):
        t = torch.full((len(x),), float(time), dtype=x.dtype, device=x.device)
        if k:
            e = torch.randn(x.shape, generator=generator, device=generator.device).to(x)
            x = noised(x, t, guidance.sigma * e)
            variance = (guidance.sigma * math.sin(time)) ** 2
            scale = guidance.strength(time) * variance / climbs
            for _ in range(climbs if scale else 0):
                x = x + scale * guidance.gradient(x, time)
        with torch.no_grad():
            x = data_of(x, velocity(x, t), t)
    return x
