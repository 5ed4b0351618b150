"""Ranges of noise, each with its own expert: even in steps, in time, or in log signal-to-noise ratio.

Times are TrigFlow's: t = atan(noise / data), 0 for clean and pi/2 for nothing but noise, whatever the
process.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from adapt.diffusion.trigflow import NOISE


@dataclass(frozen=True)
class Ranges:
    """Consecutive ranges of time, least noise first.

    edges: (n + 1,) rising from 0 to pi/2.
    steps: times that a sampler can visit, if it has a fixed schedule; none: any.
    """

    edges: tuple[float, ...]
    steps: tuple[float, ...] = ()

    def __post_init__(self):
        if len(self.edges) < 2 or not all(a < b for a, b in zip(self.edges, self.edges[1:])):
            raise ValueError(f"edges of ranges must rise, and be at least 2, got {self.edges}")
        if self.edges[0] != 0 or abs(self.edges[-1] - NOISE) > 1e-6:
            raise ValueError(f"ranges reach from 0 to pi/2, got {self.edges}")

    def __len__(self):
        return len(self.edges) - 1

    @classmethod
    def even(cls, n: int) -> "Ranges":
        """n ranges of equal time."""
        return cls(tuple(np.linspace(0, NOISE, n + 1).tolist()))

    @classmethod
    def of_steps(cls, alphas_cumprod: Tensor, n: int) -> "Ranges":
        """n ranges of equally many steps of a schedule (T,): step k is expert k n // T's, as in the paper."""
        times = np.arccos(np.sqrt(alphas_cumprod.double().numpy()))
        total = len(times)
        if not 1 <= n <= total:
            raise ValueError(f"from 1 to {total} ranges can be made of {total} steps, got {n}")
        first = [-(-k * total // n) for k in range(1, n)]  # smallest step of each range
        inner = [float(times[k - 1] + times[k]) / 2 for k in first]
        return cls((0.0, *inner, NOISE), tuple(times.tolist()))

    @classmethod
    def log_snr(cls, n: int, high: float = 4.0, low: float = -4.0) -> "Ranges":
        """n ranges of equal length in the log signal-to-noise ratio from high to low; the ends reach on.

        log SNR = 2 log cot t, of data with the noise's standard deviation.
        """
        inner = np.linspace(high, low, n + 1)[1:-1]
        return cls((0.0, *(math.atan(math.exp(-value / 2)) for value in inner), NOISE))

    def of(self, t: float) -> int:
        """Index of the range that a time belongs to."""
        return min(max(bisect_right(self.edges, t) - 1, 0), len(self) - 1)

    def draw(self, index: int, count: int, rng: np.random.Generator) -> np.ndarray:
        """(count,) times of a range, at random."""
        if self.steps:
            return rng.choice([t for t in self.steps if self.of(t) == index], count)
        return rng.uniform(self.edges[index], self.edges[index + 1], count)
