"""How far each class can be made to win, by inputs of any kind: what MM-BD judges teachers by, without data.

A backdoor lets its class win by more than any other. Source: Wang et al., "MM-BD: Post-Training Detection of
Backdoor Attacks with Arbitrary Backdoor Pattern Types Using a Maximum Margin Statistic" (S&P 2024, arXiv
2205.06900). It serves as the yardstick of `scan`.
"""

import torch
from torch import Tensor, nn

from adapt.data_free.checks import check_bounds, check_gradient, check_teacher
from adapt.data_free.context import device_of
from adapt.data_free.guards import enough_memory, untouched
from adapt.data_free.networks import Shape
from adapt.data_free.search import Bounds


def largest_margins(
    teacher: nn.Module,
    shape: Shape,
    bounds: Bounds,
    starts: int = 30,
    steps: int = 200,
    rate: float = 0.1,
    seed: int = 0,
) -> Tensor:
    """(classes,) largest logit of each class minus the next, over inputs within bounds, on the CPU.

    Args:
        teacher: in eval mode, logits; stays as it is.
        shape:   of one input.
        bounds:  smallest and largest number of an input, as the teacher takes it.
        starts:  random ones, of each class.
        steps:   of Adam, uphill.
        rate:    of Adam, in units of the inputs.
        seed:    of the starts.
    """
    device = device_of(teacher)
    classes = check_teacher(teacher, shape, device)
    check_gradient(teacher, shape, device)
    check_bounds(bounds)
    low, high = bounds
    generator = torch.Generator(device).manual_seed(seed)
    x = low + (high - low) * torch.rand(classes * starts, *shape, generator=generator, device=device)
    wanted = torch.arange(classes, device=device).repeat_interleave(starts)
    with untouched(teacher), enough_memory(len(x)):
        optimizer = torch.optim.Adam([x.requires_grad_()], rate)
        for _ in range(steps):
            optimizer.zero_grad()
            (-_margins(teacher(x), wanted).sum()).backward()
            optimizer.step()
            with torch.no_grad():
                x.clamp_(*bounds)
        with torch.no_grad():
            return _margins(teacher(x), wanted).reshape(classes, starts).amax(1).cpu()


def _margins(logits: Tensor, wanted: Tensor) -> Tensor:
    own = logits.gather(1, wanted[:, None])[:, 0]
    return own - logits.scatter(1, wanted[:, None], -torch.inf).amax(1)
