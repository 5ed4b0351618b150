"""Random changes of event streams that leave their label as it is."""

from dataclasses import dataclass

import torch
from torch import Tensor

from perception.events.represent_torch import EventBatch


@dataclass(frozen=True, kw_only=True)
class Augment:
    """How far streams are changed, each on its own.

    shift:  pixels, each way.
    turn:   rad, each way.
    scale:  largest factor, and one over the smallest, of each axis.
    shear:  largest x per y.
    drop:   largest share of the events that are left out.
    jitter: microseconds, standard deviation of a change of each event's time.
    """

    shift: float = 2.0
    turn: float = 0.2
    scale: float = 1.15
    shear: float = 0.15
    drop: float = 0.3
    jitter: float = 0.0

    def __call__(self, events: EventBatch, generator: torch.Generator) -> EventBatch:
        """The batch with events moved to the nearest pixel; those that leave the sensor are lost."""
        b = len(events.span)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=events.t.device) * 2 - 1

        angle, shear = self.turn * uniform(b), self.shear * uniform(b)
        wide, high = torch.exp(torch.log(torch.tensor(self.scale)) * uniform(2, b))
        cos, sin = angle.cos(), angle.sin()
        matrix = torch.stack(
            (wide * cos, wide * (shear * cos - sin), high * sin, high * (shear * sin + cos)), -1
        )
        middle = torch.tensor([(events.width - 1) / 2, (events.height - 1) / 2], device=events.t.device)
        at = torch.stack((events.x, events.y), -1) - middle
        own = matrix.reshape(b, 2, 2)[events.stream]
        moved = (own * at[:, None]).sum(-1) + middle + (self.shift * uniform(b, 2))[events.stream]
        x, y = moved.round().long().unbind(-1)
        keep = (x >= 0) & (x < events.width) & (y >= 0) & (y < events.height)
        share = (self.drop * uniform(b).abs())[events.stream]
        keep &= torch.rand(len(share), generator=generator, device=share.device) >= share
        t = events.t
        if self.jitter:
            noise = torch.randn(len(t), generator=generator, device=t.device) * self.jitter
            first, last = events.span[events.stream].unbind(-1)
            t = (t + noise.long()).clamp(first, last)
        x, y, t, p, stream = (column[keep] for column in (x, y, t, events.p, events.stream))
        return events._replace(x=x, y=y, t=t, p=p, stream=stream)
