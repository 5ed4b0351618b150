"""Windows: the measurements of the last scans, what MT3 sees at once, in batches of one shape."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Windows(NamedTuple):
    """A batch of windows; tokens are measurements, the latest scan first, padding last.

    z:      (b, n, d_z) measurements.
    age:    (b, n) int64 scans before the last one of the window, 0: of the last.
    real:   (b, n) bool, False for padding.

    Known of simulated windows alone, and only by the training and the scores:
    origin: (b, n) int64 row of `target` that caused the measurement, -1: clutter.
    state:  (b, n, d) state of that object at the time of the measurement, 0 for clutter.
    target: (b, k, d) states of the objects at the last scan.
    alive:  (b, k) bool, which of them exist then.
    """

    z: Tensor
    age: Tensor
    real: Tensor
    origin: Tensor
    state: Tensor
    target: Tensor
    alive: Tensor

    def __len__(self) -> int:
        return len(self.z)

    @classmethod
    def of(cls, arrays: Iterable[Tensor]) -> "Windows":
        """From the arrays, in their order."""
        return cls(*arrays)

    @classmethod
    def of_measurements(cls, z: Sequence[np.ndarray], age: Sequence[np.ndarray], device="cpu") -> "Windows":
        """Windows of measurements alone.

        Args:
            z:      (n, d_z) of each window, the latest scan first.
            age:    (n,) scans before the last one.
            device: of the result.
        """
        b, n = len(z), max(map(len, z))
        found = np.zeros((b, n, z[0].shape[1]), np.float32)
        ages, real = np.zeros((b, n), np.int64), np.zeros((b, n), bool)
        for k, (measurements, scans) in enumerate(zip(z, age, strict=True)):
            m = len(measurements)
            found[k, :m], ages[k, :m], real[k, :m] = measurements, scans, True
        arrays = (torch.as_tensor(a, device=device) for a in (found, ages, real))
        return cls.of(
            (
                *arrays,
                torch.full((b, n), -1, device=device),
                torch.zeros(b, n, 4, device=device),
                torch.zeros(b, 1, 4, device=device),
                torch.zeros(b, 1, dtype=torch.bool, device=device),
            )
        )

    def changed(self, **arrays: Tensor) -> "Windows":
        """The same with some other arrays."""
        return Windows(**(self._asdict() | arrays))

    def take(self, rows) -> "Windows":
        """Some of the windows."""
        return Windows.of(a[rows] for a in self)

    def trimmed(self, multiple: int = 1) -> "Windows":
        """Without the padding that no window needs, to a multiple of some number of tokens."""
        n = int(self.real.sum(1).max()) if len(self) else 0
        n = min(-(-n // multiple) * multiple, self.z.shape[1])
        return self.tokens(slice(0, n))

    def padded(self, n: int) -> "Windows":
        """With padding up to n tokens; those of more tokens as they are."""
        more = max(n - self.z.shape[1], 0)
        if not more:
            return self
        grown = [
            torch.cat((a, a.new_full((len(a), more, *a.shape[2:]), fill)), 1)
            for a, fill in zip(self[:5], (0, 0, False, -1, 0))
        ]
        return Windows.of([*grown, *self[5:]])

    def tokens(self, which) -> "Windows":
        """Some of the tokens of every window, a slice or an order (n,)."""
        return Windows.of([*(a[:, which] for a in self[:5]), *self[5:]])

    def shortened(self, scans: int, share: float, generator: torch.Generator) -> "Windows":
        """Some of the windows cut to their last scans, 1 to `scans` - 1 of them: streams that began there.

        Args:
            scans: of a window.
            share: of the windows that is cut, about.
            generator: of the random numbers.
        """
        b = len(self)
        draw = torch.rand(2, b, generator=generator, device=generator.device).to(self.z.device)
        oldest = torch.where(draw[0] < share, (draw[1] * (scans - 1)).long(), scans)
        real = self.real & (self.age <= oldest[:, None])
        keep = real[..., None]
        return self.changed(
            z=self.z * keep,
            age=torch.where(real, self.age, 0),
            real=real,
            origin=torch.where(real, self.origin, -1),
            state=self.state * keep,
        )

    def blank(self) -> "Windows":
        """The same without what is known of simulated windows alone."""
        return self.changed(
            origin=torch.full_like(self.origin, -1),
            state=torch.zeros_like(self.state),
            target=torch.zeros_like(self.target),
            alive=torch.zeros_like(self.alive),
        )
