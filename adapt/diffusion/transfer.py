"""Experts learn from their own guide: what it says of a clean sample they are to say of the noised one.

The samples are the diffusion model's, so no image and no label is needed.

Source: Go et al. (CVPR 2023), section 4.3 and the released code: the guide's answers are sharpened by a
temperature, the expert's are not; experts start from the one of less noise. A cosine takes the rate down
where the code has a line.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.diffusion.experts import Experts
from adapt.diffusion.teacher import generator_of
from adapt.diffusion.trigflow import noised
from perception.training import Run, RunConfig

AT_ONCE = 256  # images
Distance = Callable[[Tensor, Tensor], Tensor]  # answers of the expert and wanted ones -> ()


@dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """Settings of a transfer.

    steps:  in all, shared out equally among the experts.
    batch:  samples of a step.
    rate, decay: of AdamW.
    chain:  whether an expert starts from the one of less noise, or afresh.
    seed:   of times, noise and batches.
    """

    steps: int = 1000
    batch: int = 128
    rate: float = 3e-3
    decay: float = 0.05
    chain: bool = True
    seed: int = 0


def classes(temperature: float = 0.25) -> Distance:
    """Divergence of logits (b, k) or (b, k, h, w) from sharpened ones, mean over all but classes."""

    def distance(said: Tensor, wanted: Tensor) -> Tensor:
        sharp = (wanted / temperature).log_softmax(1)
        return (sharp.exp() * (sharp - said.log_softmax(1))).sum(1).mean()

    return distance


def values(said: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared difference of maps, such as depth."""
    return F.mse_loss(said, wanted)


@torch.no_grad()
def answers(experts: Experts, images: Tensor) -> Tensor:
    """What the guide says of clean images (n, ...)."""
    parts = [experts.guide(images[k : k + AT_ONCE]) for k in range(0, len(images), AT_ONCE)]
    return torch.cat(parts)


def transfer(
    experts: Experts,
    images: Tensor,
    distance: Distance,
    config: TransferConfig = TransferConfig(),
    wanted: Tensor | None = None,
    advance: Callable[[int, dict[str, float]], object] = lambda expert, parts: None,
) -> None:
    """Train all experts.

    Args:
        experts:  whose guide is the teacher.
        images:   (n, ...) clean samples of the diffusion model.
        distance: of answers: `classes()` or `values`, or another.
        config:   settings.
        wanted:   (n, ...) of each image; default: what the guide says of it. Labels make it supervised.
        advance:  told the expert that is done, and the mean parts of its loss.
    Raises:
        ValueError: no image, or not an answer for each.
    """
    wanted = answers(experts, images) if wanted is None else wanted
    if not len(images) or len(images) != len(wanted):
        raise ValueError(f"every image needs its answer, got {len(images)} and {len(wanted)}")
    steps = max(config.steps // len(experts.ranges), 1)
    for n in range(len(experts.ranges)):
        if n and config.chain:
            experts.put(n, {name: value.clone() for name, value in experts.tensors(n - 1).items()})
        experts.select(n)
        settings = RunConfig(
            steps=steps, rate=config.rate, decay=config.decay, warm_up=min(20, steps // 4), final=0.0
        )
        run = Run(experts, _loss(images, wanted, distance, config.batch, n), settings, config.seed + n)
        advance(n, run.train())
        run.use_average()
    experts.eval()


def _loss(images: Tensor, wanted: Tensor, distance: Distance, batch: int, index: int):
    def loss(network: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
        assert isinstance(network, Experts)
        device = next(network.parameters()).device
        which = torch.from_numpy(rng.integers(0, len(images), min(batch, len(images))))
        x0 = images[which.to(images.device)].to(device)
        t = torch.from_numpy(network.ranges.draw(index, len(which), rng)).to(x0)
        e = torch.randn(x0.shape, generator=generator_of(rng, device), device=device)
        said = network.current(noised(x0, t, network.sigma * e))
        return {"distance": distance(said, wanted[which.to(wanted.device)].to(device))}

    return loss
