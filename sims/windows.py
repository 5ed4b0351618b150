"""The simulator of `sims.targets` for thousands of windows at once, in torch, on any device.

It draws from the same `Process`, in the same order of a scan: move, leave, appear, die, measure. Objects have
fixed slots, so that nothing here loops over windows or objects, only over scans. Constant velocity in the
plane, with a `PositionSensor` or a `RangeBearingDoppler`, is what it knows.
"""

import numpy as np
import torch
from torch import Tensor

from sims.scenarios import Scenario
from sims.scenarios.radar import radar_noise
from sims.targets import Process
from tracking.models import ConstantVelocity, GaussianBirth, PositionSensor, RangeBearingDoppler, UniformBirth
from tracking.mt3.windows import Windows

SPARE = 8.0  # standard deviations above the mean up to which slots for clutter and births are kept


class WindowSimulator:
    """Draws windows of a scenario that is scored at its last scan.

    Args:
        scenario: mt3-task1, mt3-task2, or radar-1 ... radar-4, or one like them.
        seed:     of the random numbers.
        device:   where to draw.
    Raises:
        ValueError: a scenario of other models.
    """

    def __init__(self, scenario: Scenario, seed: int = 0, device="cpu"):
        process, time = (*getattr(scenario.draw, "args", ()), None, None)[:2]
        if not isinstance(process, Process) or scenario.scored != "last":
            raise ValueError(
                f"windows are of scenarios that are scored at their last scan, got {scenario.name}. "
                "Choose one of: mt3-task1, mt3-task2, radar-1 ... radar-4."
            )
        step = np.diff(time)
        if not isinstance(process.motion, ConstantVelocity) or not np.allclose(step, step[0]):
            raise ValueError(f"windows are of constant velocity and equal steps, got {process.motion}")
        if not isinstance(process.sensor, (PositionSensor, RangeBearingDoppler)):
            raise ValueError(f"windows are of positions or range, bearing and rate, got {process.sensor}")
        self.scenario, self.process, self.device = scenario, process, torch.device(device)
        self.scans, self.dt = len(time), float(step[0])
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self._prepare()

    def _prepare(self):
        process, origin = self.process, np.zeros((1, 4))
        self.cap = process.max_objects or 64
        late = float(np.sum(process.birth.expected(0.0, self.dt))) if process.birth is not None else 0.0
        born = late * self.scans
        self.slots = self.cap + int(np.ceil(born + SPARE * np.sqrt(born)))
        mean = process.clutter.mean
        self.n_clutter = int(np.ceil(mean + SPARE * np.sqrt(mean)))
        self.initial_mean, self.birth_mean = float(np.sum(process.initial.expected(0.0, 1.0))), late
        self.F = self._tensor(process.motion.jacobian(origin, self.dt))
        values, vectors = np.linalg.eigh(process.motion.noise(origin, self.dt).reshape(4, 4))
        self.root = self._tensor(vectors * np.sqrt(np.maximum(values, 0.0)))
        self.p_survival = self._probability(process.survival.probability) ** self.dt
        self.p_detect = self._probability(process.sensor.p_detect)
        self.lower, self.upper = self._tensor(process.clutter.lower), self._tensor(process.clutter.upper)
        self.polar = isinstance(process.sensor, RangeBearingDoppler)

    def _probability(self, value) -> float:
        """A number, or that of a function which is constant inside the field of view."""
        return float(value.value) if hasattr(value, "value") else float(value)

    def _tensor(self, value) -> Tensor:
        return torch.as_tensor(np.asarray(value), dtype=torch.float32, device=self.device)

    def draw(self, n: int, max_tokens: int | None = None) -> Windows:
        """Draw n windows; those without an object at the end or without measurements are drawn again.

        Args:
            n:          number of windows.
            max_tokens: width of the batch; the oldest of more tokens are left out. None: that of the longest.
        """
        parts, found = [], 0
        while found < n:
            windows = self._draw(max(n - found, 16), max_tokens)
            if self.process.nonempty:
                windows = windows.take(windows.alive.any(1) & windows.real.any(1))
            parts.append(windows)
            found += len(windows)
        return _stacked(parts).take(slice(0, n))

    def _draw(self, b: int, max_tokens) -> Windows:
        x0, alive, used = self._start(b)
        born, x = x0, x0
        history, present = [], []
        for k in range(self.scans):
            if k > 0:
                x, alive, used = self._advance(x, alive, used, born, k)
            history.append(x)
            present.append(alive)
        return self._observe(torch.stack(history, 1), torch.stack(present, 1), max_tokens)

    def _start(self, b):
        """First states of all slots, born or not yet; which are alive; how many slots are used."""
        initial, birth = self.process.initial, self.process.birth or self.process.initial
        x = self._appear(birth, b)
        first = self._appear(initial, b)
        count = self._poisson(self.initial_mean, b)
        if self.process.nonempty:  # given that there are any
            while bool((count == 0).any()):
                count = torch.where(count == 0, self._poisson(self.initial_mean, b), count)
        count = count.clamp(max=self.cap)
        slot = torch.arange(self.slots, device=self.device)
        mine = slot < count[:, None]
        x = torch.where(mine[..., None], first, x)
        return x, mine & self._inside(x), count

    def _advance(self, x, alive, used, born, k):
        slot = torch.arange(self.slots, device=self.device)
        noise = self._normal(len(x), self.slots, 4) @ self.root.T
        waiting = slot >= used[:, None]
        x = torch.where(waiting[..., None], born, x @ self.F.T + noise)
        alive = alive & self._inside(x)
        if not self.process.newborns_die:
            alive = alive & (self._uniform(*alive.shape) < self.p_survival)
        if self.birth_mean > 0 and k < self.scans - self.process.quiet_scans:
            count = self._poisson(self.birth_mean, len(x))
            if self.process.max_objects is not None:
                count = torch.minimum(count, self.cap - alive.sum(1))
            new = waiting & (slot < (used + count)[:, None])
            alive = alive | (new & self._inside(x))
            used = (used + count).clamp(max=self.slots)
        if self.process.newborns_die:
            alive = alive & (self._uniform(*alive.shape) < self.p_survival)
        return x, alive, used

    def _appear(self, birth, b):
        if isinstance(birth, UniformBirth):
            low, high = self._tensor(birth.lower), self._tensor(birth.upper)
            position = low + (high - low) * self._uniform(b, self.slots, 2)
            rest = self._tensor(birth.rest_mean) + self._tensor(birth.rest_std) * self._normal(
                b, self.slots, 2
            )
            return torch.cat((position, rest), -1)
        if not isinstance(birth, GaussianBirth) or len(birth.mean) != 1:
            raise ValueError(f"births must be uniform or of one Gaussian, got {birth}")
        root = self._tensor(np.linalg.cholesky(birth.cov[0]))
        return self._tensor(birth.mean[0]) + self._normal(b, self.slots, 4) @ root.T

    def _inside(self, x):
        if self.polar:
            z = polar(x)
            return ((z >= self.lower) & (z <= self.upper)).all(-1)
        low, high = self._tensor(self.process.survival.lower), self._tensor(self.process.survival.upper)
        return ((x[..., :2] >= low) & (x[..., :2] <= high)).all(-1)

    def _observe(self, x, alive, max_tokens) -> Windows:
        b, scans = x.shape[:2]
        detected = alive & (self._uniform(*alive.shape) < self.p_detect)
        z = polar(x) if self.polar else x[..., :2]
        z = z + (self._noise_root(x) @ self._normal(*z.shape)[..., None])[..., 0]
        if self.polar:
            bearing = torch.remainder(z[..., 1] + torch.pi, 2 * torch.pi) - torch.pi
            z = torch.stack((z[..., 0], bearing, z[..., 2]), -1)
        if self.process.crop:
            detected = detected & ((z >= self.lower) & (z <= self.upper)).all(-1)
        count = self._poisson(self.process.clutter.mean, b, scans)
        false = torch.arange(self.n_clutter, device=self.device) < count[..., None]
        where = self._uniform(b, scans, self.n_clutter, len(self.lower))
        clutter = self.lower + (self.upper - self.lower) * where
        nothing = torch.full(false.shape, -1, device=self.device)
        slot = torch.arange(self.slots, device=self.device).expand(b, scans, -1)
        age = torch.arange(scans - 1, -1, -1, device=self.device)[:, None].expand(
            -1, detected.shape[2] + false.shape[2]
        )
        return self._pack(
            torch.cat((z, clutter), 2),
            age.expand(b, -1, -1),
            torch.cat((detected, false), 2),
            torch.cat((slot, nothing), 2),
            torch.cat((x, x.new_zeros(*clutter.shape[:3], 4)), 2),
            x[:, -1],
            alive[:, -1],
            max_tokens,
        )

    def _pack(self, z, age, real, origin, state, target, alive, max_tokens) -> Windows:
        """Tokens to the front, the latest scan first, in random order within each scan."""
        b, _, m = real.shape
        # One order of the slots for all windows of a draw; the tokens that are left of it stand anywhere.
        slots = torch.randperm(m, generator=self.generator, device=self.device)
        z, age, real, origin, state = (
            a.flip(1)[:, :, slots].reshape(b, -1, *a.shape[3:]) for a in (z, age, real, origin, state)
        )
        place = real.cumsum(1) - 1
        width = int(real.sum(1).max()) if max_tokens is None else max_tokens
        place = torch.where(real & (place < width), place, width)  # what is left over goes to a last place

        def packed(a, fill):
            out = a.new_full((b, width + 1, *a.shape[2:]), fill)
            index = place.reshape(*place.shape, *[1] * (a.ndim - 2)).expand_as(a)
            return out.scatter(1, index, a)[:, :width]

        token = torch.arange(width, device=self.device) < real.sum(1, keepdim=True)
        return Windows(
            packed(z, 0.0), packed(age, 0), token, packed(origin, -1), packed(state, 0.0), target, alive
        )

    def _noise_root(self, x):
        """A root (..., d_z, d_z) of the measurement noise at states (..., 4)."""
        sensor = self.process.sensor
        if not callable(sensor.cov):
            R = np.asarray(sensor.noise(np.zeros((1, 4))), float).reshape(sensor.dim_z, sensor.dim_z)
            return self._tensor(np.linalg.cholesky(R))
        flat = x.reshape(-1, 4)
        if sensor.cov is radar_noise:  # stays on the device
            root = _cholesky(radar_noise(flat, torch))
        else:
            values, vectors = np.linalg.eigh(sensor.cov(flat.double().cpu().numpy()))
            root = self._tensor(vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :])
        return root.reshape(*x.shape[:-1], sensor.dim_z, sensor.dim_z)

    def _uniform(self, *shape):
        return torch.rand(shape, generator=self.generator, device=self.device)

    def _normal(self, *shape):
        return torch.randn(shape, generator=self.generator, device=self.device)

    def _poisson(self, mean, *shape):
        rate = torch.full(shape, mean, device=self.device)
        return torch.poisson(rate, generator=self.generator).long()


def _cholesky(R: Tensor) -> Tensor:
    """Lower roots of positive definite matrices (n, 3, 3), written out: solvers of GPUs are slow at many."""
    a = R[:, 0, 0].sqrt()
    b, c = R[:, 1, 0] / a, R[:, 2, 0] / a
    d = (R[:, 1, 1] - b**2).sqrt()
    e = (R[:, 2, 1] - b * c) / d
    f = (R[:, 2, 2] - c**2 - e**2).sqrt()
    nothing = torch.zeros_like(a)
    return torch.stack((a, nothing, nothing, b, d, nothing, c, e, f), -1).reshape(-1, 3, 3)


def polar(x: Tensor) -> Tensor:
    """Range, bearing and range rate (..., 3) of states (..., 4)."""
    r = torch.linalg.vector_norm(x[..., :2], dim=-1).clamp(min=1e-9)
    rate = (x[..., :2] * x[..., 2:4]).sum(-1) / r
    return torch.stack((r, torch.atan2(x[..., 1], x[..., 0]), rate), -1)


def _stacked(parts: list[Windows]) -> Windows:
    """Several batches as one, padded to the longest."""
    n = max(part.z.shape[1] for part in parts)
    return Windows.of(torch.cat(a) for a in zip(*(part.padded(n) for part in parts)))
