"""PPAP: any model that was trained on clean images guides a diffusion model, without data and without labels.

    1. the diffusion model makes samples                     `Diffusion.sample`
    2. experts of ranges of noise learn the guide's answers  `experts`, `ranges`, `transfer`
    3. their gradients lead the sampler                      `guidance`; `hook` for diffusers' pipelines

Source: Go, Lee, Kim, Lee, Jeong, Lee, Choi, "Towards Practical Plug-and-Play Diffusion Models" (CVPR 2023,
arXiv 2212.05973).
"""

import torch
from torch import Tensor, nn

from adapt.diffusion.experts import Experts
from adapt.diffusion.guidance import Guidance, GuideLoss, guided, guided_jump
from adapt.diffusion.model import Diffusion
from adapt.diffusion.ranges import Ranges
from adapt.diffusion.sampling import even, integrate, jumps
from adapt.diffusion.transfer import Distance, TransferConfig, transfer

STEPS = 25  # of the sampler, as in the paper
JUMPS, CLIMBS = 4, 2  # of a consistency model, and steps of the guide at each of its times
MAP_JUMPS, MAP_CLIMBS = 8, 5  # with which it follows a depth map twice as closely


def ppap(
    guide: nn.Module,
    model: Diffusion,
    distance: Distance,
    *,
    ranges: Ranges | None = None,
    samples: int = 2000,
    config: TransferConfig | None = None,
) -> Experts:
    """Experts of a guide for a diffusion model; neither is changed.

    Args:
        guide:    of the model's images, as the model has them.
        model:    that makes the samples which experts learn from.
        distance: of the guide's answers: `classes()`, or `values` for maps.
        ranges:   of noise; default: five, even in the log signal-to-noise ratio.
        samples:  that are made.
        config:   of the transfer; its seed is that of the samples too.
    """
    config = config or TransferConfig()
    images = model.sample(samples, torch.Generator(model.device).manual_seed(config.seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        experts = Experts(guide, ranges or Ranges.log_snr(5), sigma=model.network.sigma)
    transfer(experts, images, distance, config)
    return experts


def sample(
    model: Diffusion,
    experts: Experts,
    loss: GuideLoss,
    n: int,
    generator: torch.Generator,
    *,
    scale: float | None = None,
    steps: int | None = None,
    climbs: int = CLIMBS,
) -> Tensor:
    """(n, c, h, w) samples that are as a guide wants them, as the model has them.

    Args:
        model:     a velocity, or a consistency model, which takes fewer steps.
        experts:   of the guide.
        loss:      what is wanted, of n samples: `toward_class(7)`, `toward_values(depth)`.
        n:         samples.
        generator: of the noise.
        scale:     of the gradient; default: 3, or 10 of a consistency model.
        steps:     default: 25, or 4 of a consistency model; those that are led are of first order, with which
            they end nearer to real images.
        climbs:    of a consistency model at each of its times: more follow a depth map more closely.
    Raises:
        ValueError: no sample; one step, which starts at pure noise, where there is nothing that a guide sees.
    """
    scale = (10.0 if model.jumps else 3.0) if scale is None else scale
    steps = (JUMPS if model.jumps else STEPS) if steps is None else steps
    if n < 1 or (steps < 2 and scale):
        raise ValueError(f"at least 1 sample and 2 steps are wanted where a guide leads, got {n} and {steps}")
    guidance = Guidance(experts, loss, scale, model.network.sigma)
    x = model.noise(n, generator)
    if model.jumps:
        return guided_jump(model.network, x, jumps(steps), guidance, generator, climbs)
    return integrate(guided(model.network, guidance), x, even(steps), order=1 if scale else 2)
