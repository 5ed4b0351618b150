"""Training of reconstruction: losses over sequences of windows, with labels and without."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from perception.events import EventStream
from perception.events.represent_torch import EventBatch
from perception.reconstruct.losses import (
    constancy_loss,
    contrast_loss,
    photometric_loss,
    supervised_loss,
    total_variation,
    warp,
)

FLOWS = ("constancy", "contrast", "known")
FADING = math.exp(-1 / 4)  # of sums of events, a window
Loss = Callable[[nn.Module, np.random.Generator], dict[str, Tensor]]


@dataclass(frozen=True)
class Sequences:
    """n sequences of T windows each, of equal duration and one sensor size.

    voxels: (n, T, bins, H, W) voxel grids of the windows.
    truth:  (n, T, H, W) log intensity at the windows' ends; training without labels never reads it.
    flow:   (n, T, 2, H, W) pixels per window, or None; read only where a loss says so.
    events: n lists of T streams, for training without labels.
    span:   (T, 2) first and last microsecond of the windows.
    """

    voxels: Tensor
    truth: Tensor | None = None
    flow: Tensor | None = None
    events: list[list[EventStream]] | None = None
    span: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.voxels)

    def to(self, device: str) -> "Sequences":
        """With voxel grids and truth on a device."""
        truth = None if self.truth is None else self.truth.to(device)
        return replace(self, voxels=self.voxels.to(device), truth=truth)


def supervised(
    data: Sequences, batch: int = 4, length: int = 16, first: int = 2, bfloat16: bool = True
) -> Loss:
    """Distance and structural similarity to the truth, of windows from `first` on in random pieces."""
    if data.truth is None:
        raise ValueError("supervised training needs the truth of the sequences")
    voxels, truth = data.voxels, data.truth
    length = min(length, voxels.shape[1])
    if length <= first or min(voxels.shape[-2:]) < 11:
        raise ValueError(f"more than {first} windows, sides of 11 pixels at least, got {tuple(voxels.shape)}")

    def loss(network: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
        which = rng.integers(0, len(data), batch)
        start = int(rng.integers(0, voxels.shape[1] - length + 1))
        v, t = voxels[which, start : start + length].float(), truth[which, start : start + length].float()
        v, t = _turned(v, t[:, :, None], rng)
        state, images = None, []
        for k in range(length):
            with torch.autocast(v.device.type, torch.bfloat16, enabled=bfloat16):
                image, state = network(v[:, k].contiguous(memory_format=torch.channels_last), state)
            images.append(image.float())
        said = torch.stack(images[first:], 1).flatten(0, 1)
        return {"supervised": supervised_loss(said, t[:, first:].flatten(0, 1))}

    return loss


def _turned(voxels, truth, rng):
    """Mirrored, transposed and with dark and bright exchanged, each for half of the batches."""
    for axis in (-1, -2):
        if rng.random() < 0.5:
            voxels, truth = voxels.flip(axis), truth.flip(axis)
    if rng.random() < 0.5 and voxels.shape[-1] == voxels.shape[-2]:
        voxels, truth = voxels.transpose(-1, -2), truth.transpose(-1, -2)
    return (-voxels, -truth) if rng.random() < 0.5 else (voxels, truth)


def photometric(
    data: Sequences,
    batch: int = 2,
    length: int = 12,
    first: int = 2,
    flow: str = "constancy",
    variation: float = 0.1,
    constancy: float = 0.05,
) -> Loss:
    """Training without labels: flow from events, images that explain with it the events to come.

    The network is a ModuleDict of "image" and "flow"; what explains events with flow does not move it.

    Args:
        data:      with events; their truth is not read.
        batch, length: sequences of a step, and windows of each.
        first:     window from which images must explain events.
        flow:      how it is learned: "constancy" of fading sums of events along it; "contrast" of warped
                   events, as the source has it; or "known": not at all, for a study.
        variation, constancy: weights of total variation, and of change along flow.
    Source: Paredes-Valles, de Croon (CVPR 2021), section 3.
    """
    events, span, voxels = data.events, data.span, data.voxels
    if flow not in FLOWS:
        raise ValueError(f"flow must be one of {', '.join(FLOWS)}, got {flow!r}")
    if events is None or span is None or (flow == "known" and data.flow is None):
        raise ValueError("training without labels needs events and their spans, and known flow the flow")
    length = min(length, voxels.shape[1])
    if length <= max(first, 1):
        raise ValueError(f"more than {max(first, 1)} windows are needed, got {tuple(voxels.shape)}")

    def loss(network: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
        which = rng.integers(0, len(data), batch)
        start = int(rng.integers(0, voxels.shape[1] - length + 1))
        sums: dict[str, Tensor] = {}
        state, before, total = None, None, torch.zeros(())
        for k in range(start, start + length):
            v = voxels[which, k].float()
            earlier, total = total, FADING * total + v.sum(1, keepdim=True)
            window = EventBatch.of([events[i][k] for i in which], span=tuple(span[k].tolist()))
            parts: dict[str, Tensor] = {}
            if flow == "known":
                moved = data.flow[which, k].float()  # type: ignore[index]
            else:
                moved = network["flow"](v)  # type: ignore[index]
                if flow == "contrast":
                    parts["contrast"] = contrast_loss(window, moved)
                elif k - start >= first:
                    parts["flow"] = constancy_loss(earlier, total, moved)
                moved = moved.detach()
            image, state = network["image"](v, state)  # type: ignore[index]
            if before is not None and k - start >= first:
                parts["photometric"] = photometric_loss(before, window, moved)
                parts["constancy"] = constancy * (image - warp(before, moved)).abs().mean()
                parts["variation"] = variation * total_variation(image)
            before = image
            for name, value in parts.items():
                sums[name] = sums.get(name, torch.zeros(())) + value / length
        return sums

    return loss
