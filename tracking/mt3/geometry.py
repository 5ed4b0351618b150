"""Where measurements lie in the plane, in torch: what the trajectory network computes with."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sight:
    """How a sensor sees the plane.

    kind:  "position": z = (x, y); "radar": z = (range, bearing, range rate).
    lower: corner of the field of view in measurement space.
    upper: the opposite corner.
    std:   standard deviations of the noise; at most at the reference range where that is given.
    reference_range: m; beyond it the radar's noise grows with (r / reference) ** 2. None: it does not grow.
    """

    kind: str
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    std: tuple[float, ...]
    reference_range: float | None = None

    def __post_init__(self):
        if self.kind not in ("position", "radar"):
            raise ValueError(f"kind must be 'position' or 'radar', got {self.kind!r}")
        if not len(self.lower) == len(self.upper) == len(self.std) == self.dim_z:
            raise ValueError(f"a {self.kind} sensor has {self.dim_z} components, got {self}")
        sizes = [high - low for low, high in zip(self.lower, self.upper)]
        sizes += [*self.std] if self.reference_range is None else [*self.std, self.reference_range]
        if not all(0 < size < float("inf") for size in sizes):
            raise ValueError(f"lower must be below upper, noise and reference range > 0, got {self}")

    @property
    def dim_z(self) -> int:
        return 2 if self.kind == "position" else 3

    @property
    def radar(self) -> bool:
        return self.kind == "radar"

    @property
    def reach(self) -> float:
        """Largest coordinate of a position in the field of view, m."""
        return self.upper[0] if self.radar else max(*map(abs, self.lower), *map(abs, self.upper))

    def locate(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (..., 2) of measurements (..., d_z), and their covariances (..., 3) as xx, xy, yy."""
        if not self.radar:
            nothing = torch.zeros_like(z[..., 0])
            return z, torch.stack((nothing + self.std[0] ** 2, nothing, nothing + self.std[1] ** 2), -1)
        r, theta = z[..., 0], z[..., 1]
        cos, sin = torch.cos(theta), torch.sin(theta)
        growth = 1.0 if self.reference_range is None else (r / self.reference_range).clamp(min=1.0) ** 4
        along, across = self.std[0] ** 2 * growth, (self.std[1] * r) ** 2 * growth
        xx = cos**2 * along + sin**2 * across
        xy = cos * sin * (along - across)
        yy = sin**2 * along + cos**2 * across
        return torch.stack((r * cos, r * sin), -1), torch.stack((xx, xy, yy), -1)

    def scaled(self, z: Tensor) -> Tensor:
        """Measurements, the field of view mapped to [-1, 1]."""
        columns = zip(z.unbind(-1), self.lower, self.upper)
        return torch.stack([(2 * x - low - high) / (high - low) for x, low, high in columns], -1)
