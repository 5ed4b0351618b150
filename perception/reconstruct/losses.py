"""What training minimises: without labels, photometric constancy and sharp images of warped events; with
them, distance and structural similarity.

Flow is in pixels per window, x before y; images are logarithms of intensity in units of the contrast
threshold, up to a constant.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from perception.events.represent_torch import EventBatch, count_image, moved, splat

SOBEL = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8


def contrast_loss(events: EventBatch, flow: Tensor, smooth: float = 1.0) -> Tensor:
    """How blurred events are after they were moved along flow to either end of the window.

    Source: Zhu, Yuan, Chaney, Daniilidis, "Unsupervised Event-based Learning of Optical Flow, Depth, and
        Egomotion" (CVPR 2019), equations 5 to 8, with squares over the number of pixels that have events, so
        that nothing is gained by moving events out of the image (Hagenaars et al., NeurIPS 2021, equation 5).

    Args:
        events: of a batch of windows.
        flow:   (b, 2, H, W).
        smooth: weight of the smoothness of flow.
    """
    phase = events.phase.float()
    total = smooth * roughness(flow)
    for end in (0, 1):
        x, y = _moved(events, flow, end)
        age = phase if end else 1 - phase
        plane = events.stream * 2 + events.p
        planes = 2 * len(events.span)
        weight = torch.ones_like(age)
        count = splat(x, y, plane, weight, planes, events.height, events.width)
        stamps = splat(x, y, plane, age, planes, events.height, events.width) / (count + 1e-9)
        total = total + stamps.square().sum() / (count.detach() > 0).sum().clamp(min=1)
    return total


def constancy_loss(before: Tensor, after: Tensor, flow: Tensor, smooth: float = 0.05) -> Tensor:
    """How much fading sums of events change along flow: they look enough like an image to tell how it moves.

    Sums are compared at two scales after their local mean and contrast were taken away, with a robust penalty
    (Sun, Roth, Black, IJCV 2014), so that neither what fades nor what is new at an edge counts for much.

    Args:
        before: (b, 1, H, W) at the beginning of a window.
        after:  at its end.
        flow:   (b, 2, H, W) of the window.
        smooth: weight of the smoothness of flow.
    """
    total = smooth * roughness(flow)
    for scale in (0.7, 2.0):
        one, other = (_contrast(blurred(image, scale)) for image in (before, after))
        total = total + ((warp(one, flow) - other).square() + 0.01).pow(0.45).mean()
    return total


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Images (b, 1, H, W) after a Gaussian filter of so many pixels."""
    reach = int(3 * sigma)
    at = torch.arange(-reach, reach + 1).to(image)
    line = torch.exp(-at.square() / (2 * sigma**2))
    line = line / line.sum()
    image = F.pad(image, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(image, line.view(1, 1, 1, -1)), line.view(1, 1, -1, 1))


def _contrast(image: Tensor, sigma: float = 4.0, floor: float = 0.3) -> Tensor:
    """Difference from the local mean, in units of the local standard deviation."""
    mean = blurred(image, sigma)
    spread = (blurred(image.square(), sigma) - mean.square()).clamp(min=0)
    return (image - mean) / (spread + floor).sqrt()


def roughness(flow: Tensor) -> Tensor:
    """Mean Charbonnier norm of differences of neighbouring flow."""
    across, down = flow.diff(dim=-1), flow.diff(dim=-2)
    return (across.square() + 1e-6).sqrt().mean() + (down.square() + 1e-6).sqrt().mean()


def photometric_loss(image: Tensor, events: EventBatch, flow: Tensor) -> Tensor:
    """Mean square of what events of the next window say and an image with flow does not predict.

    A point that moves by u over an image L changes brightness by -grad L u.

    Args:
        image:  (b, 1, H, W) at the beginning of the window.
        events: of the window.
        flow:   (b, 2, H, W) of the window.
    Source: Paredes-Valles, de Croon (CVPR 2021), equations 5 to 8.
    """
    seen = measured_increment(events, flow)
    flow = flow * ((seen != 0) | (count_image(events).sum(1, keepdim=True) > 0))
    kernel = torch.stack((SOBEL, SOBEL.T))[:, None].to(image)
    gradient = F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), kernel)
    predicted = -(warp(gradient, flow) * flow).sum(1, keepdim=True)
    return (seen - predicted).square().mean()


def measured_increment(events: EventBatch, flow: Tensor) -> Tensor:
    """(b, 1, H, W): sums of the signs of events, moved along flow to the end of the window.

    The authors' code divides by the number of pixels that the events at a pixel come from. That makes
    increments too small as soon as things move by more than a pixel: for motion of 1.8 pixels it finds 0.34,
    for 3.2 pixels 0.25 of the increments that the image predicts, the sum 0.94 and 0.98.
    """
    x, y = _moved(events, flow, 1)
    total = splat(x, y, events.stream, events.sign, len(events.span), events.height, events.width)
    return total[:, None]


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """(b, c, H, W): what has moved by flow (b, 2, H, W) to each pixel; outside, the border goes on."""
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    u = (x.to(flow) - flow[:, 0]) * (2 / max(width - 1, 1)) - 1
    v = (y.to(flow) - flow[:, 1]) * (2 / max(height - 1, 1)) - 1
    grid = torch.stack((u, v), -1)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)


def total_variation(image: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels."""
    return image.diff(dim=-1).abs().mean() + image.diff(dim=-2).abs().mean()


def similarity(one: Tensor, other: Tensor, span: float | Tensor) -> Tensor:
    """(b,) structural similarity of images (b, 1, H, W) whose values span a range, one or (b, 1, 1, 1).

    Source: Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment: From Error Visibility to Structural
        Similarity" (TIP 2004), equation 13, with its Gaussian window of 11 pixels and sigma 1.5.
    """
    at = torch.arange(-5, 6, dtype=one.dtype, device=one.device)
    line = torch.exp(-at.square() / (2 * 1.5**2))
    line = line / line.sum()

    def blurred(x):
        return F.conv2d(F.conv2d(x, line.view(1, 1, 1, -1)), line.view(1, 1, -1, 1))

    a, b = blurred(one), blurred(other)
    var_a, var_b = blurred(one * one) - a * a, blurred(other * other) - b * b
    cov = blurred(one * other) - a * b
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    score = (2 * a * b + c1) * (2 * cov + c2) / ((a * a + b * b + c1) * (var_a + var_b + c2))
    return score.mean((1, 2, 3))


def standardised(image: Tensor) -> Tensor:
    """Images (b, 1, H, W) with mean 0 and standard deviation 1 each."""
    centred = image - image.mean((1, 2, 3), keepdim=True)
    return centred / centred.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-6)


def supervised_loss(image: Tensor, truth: Tensor) -> Tensor:
    """Distance and lack of structural similarity to the standardised truth, (b, 1, H, W).

    Events say nothing of the brightness and contrast of the whole, so the truth has neither.
    """
    truth = standardised(truth)
    return (image - truth).abs().mean() + (1 - similarity(image, truth, 4.0)).mean()


def _moved(events, flow, end):
    """Coordinates of events moved along flow, pixels per window, to an end of the window, 0 or 1."""
    seconds = events.span.diff().clamp(min=1) * 1e-6
    return moved(events, flow / seconds[..., None, None].to(flow), events.span[:, end])
