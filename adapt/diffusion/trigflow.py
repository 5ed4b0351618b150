"""TrigFlow: data turned into noise by a rotation, and models of other processes read as its velocity.

    x_t = cos t x_0 + sin t z,   z ~ N(0, sigma^2),   t from 0 (data) to pi/2 (noise)
    v = dx_t/dt = cos t z - sin t x_0 = sigma F(x_t / sigma, t)

With the velocity everything else is a rotation, whatever sigma is: x_0 = cos t x - sin t v, z = sin t x +
cos t v, and a solver's step from t to u is the one of x_0 from t to 0 with t - u for t. Data should have the
standard deviation sigma.

Source: Lu, Song, "Simplifying, Stabilizing and Scaling Continuous-Time Consistency Models" (ICLR 2025, arXiv
2410.11081), section 3; conversions follow from the definitions of the processes.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

SIGMA = 0.5
NOISE = math.pi / 2  # the time at which nothing is left of the data
KINDS = ("epsilon", "v_prediction", "sample", "flow_prediction", "trigflow")
LEAST = (
    6e-3  # share of data that a model of epsilon or a guide is asked to see; DDPM's noisiest step has 6.4e-3
)

Velocity = Callable[[Tensor, Tensor], Tensor]  # x (b, ...), t (b,) -> dx/dt (b, ...)


def wide(t: Tensor, x: Tensor) -> Tensor:
    """Times (b,) or (), shaped to be multiplied with x (b, ...)."""
    return t if t.ndim == 0 else t.reshape(-1, *[1] * (x.ndim - 1))


def noised(x0: Tensor, t: Tensor, z: Tensor) -> Tensor:
    """x_t (b, ...) of data, and of noise that has the data's standard deviation."""
    t = wide(t, x0)
    return t.cos() * x0 + t.sin() * z


def velocity_of(x0: Tensor, t: Tensor, z: Tensor) -> Tensor:
    """dx_t/dt (b, ...) of data and noise."""
    t = wide(t, x0)
    return t.cos() * z - t.sin() * x0


def rotated(x: Tensor, v: Tensor, angle: Tensor) -> Tensor:
    """x after a step back in time by an angle, rad: what DDIM does in these coordinates."""
    angle = wide(angle, x)
    return angle.cos() * x - angle.sin() * v


def data_of(x: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """What a velocity says that x_t was without noise; of a consistency model its consistency function."""
    return rotated(x, v, t)


def noise_of(x: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """What a velocity says that the noise in x_t is."""
    t = wide(t, x)
    return t.sin() * x + t.cos() * v


class Converted(nn.Module):
    """A model of another process as a velocity, to be called with (x, t) of TrigFlow.

    Args:
        model: (x (b, ...), time (b,)) -> what it predicts; a diffusers model's output object will do.
        kind:  of the prediction, one of `KINDS`.
        alphas_cumprod: (T,) of the process, for epsilon, v_prediction and sample; the model's time is an
            index into it, and fractions lie between.
        times: what a flow model calls the end of its time: 1, or 1000 as in diffusers.
        sigma: of TrigFlow.
        scale: TrigFlow's data is the model's times this; default: sigma, as the model's data has deviation 1.
        whole: round time to the nearest step, for models that look their times up in a table.
    Raises:
        ValueError: another kind, or no schedule where one is needed.
    """

    alphas_cumprod: Tensor

    def __init__(
        self,
        model: Callable[..., Any],
        kind: str,
        *,
        alphas_cumprod: Tensor | None = None,
        times: float = 1.0,
        sigma: float = SIGMA,
        scale: float | None = None,
        whole: bool = False,
    ):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"prediction type must be one of {', '.join(KINDS)}, got {kind!r}")
        if alphas_cumprod is None and kind in KINDS[:3]:
            raise ValueError(f"a model that predicts {kind} needs the alphas_cumprod it was trained with")
        self.model, self.kind, self.times, self.whole = model, kind, times, whole
        self.sigma, self.scale = sigma, sigma if scale is None else scale
        known = torch.ones(1) if alphas_cumprod is None else alphas_cumprod.detach().float().clone()
        self.register_buffer("alphas_cumprod", known, persistent=False)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Velocity (b, ...) at x (b, ...) and t (b,) or ()."""
        t = t.expand(len(x)) if t.ndim == 0 else t
        if self.kind == "trigflow":
            return self.sigma * self._said(x / self.sigma, t)
        noise = self.sigma / self.scale  # of the model's own noise, of deviation 1
        if self.kind == "flow_prediction":
            whole = t.cos() + noise * t.sin()
            s = noise * t.sin() / whole
            y = x / (self.scale * wide(whole, x))
            out = self._said(y, self.times * s)
            x0, e = y - wide(s, x) * out, y + wide(1 - s, x) * out
        else:
            length = torch.sqrt(t.cos() ** 2 + (noise * t.sin()) ** 2)
            y = x / (self.scale * wide(length, x))
            index, a, b = self._step(t.cos() / length)
            x0, e = split(self.kind, y, self._said(y, index), wide(a, x), wide(b, x))
        return velocity_of(self.scale * x0, t, self.sigma * e)

    def _step(self, signal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fractional index of the step with a share of data (b,), and the shares of data and noise there."""
        table = self.alphas_cumprod.sqrt()
        least = LEAST if self.kind == "epsilon" else 0.0  # what is left of data there is its error over a
        a = signal.clamp(max(float(table[-1]), least), float(table[0]))
        below = torch.searchsorted(-table.contiguous(), -a.detach().contiguous()).clamp(1, len(table) - 1)
        # between steps, linear in the angle
        left, right, at = table[below - 1].acos(), table[below].acos(), a.clamp(max=1 - 1e-7).acos()
        index = below - 1 + ((at - left) / (right - left)).clamp(0, 1)
        if self.whole:
            index = index.round()
            a = table[index.long()]
        return index, a, torch.sqrt(1 - a * a)

    def _said(self, x: Tensor, time: Tensor) -> Tensor:
        out = self.model(x, time.round().long() if self.whole else time)
        out = getattr(out, "sample", out)
        out = out[0] if isinstance(out, tuple) else out
        if out.shape[1] == 2 * x.shape[1]:  # with the variance that some models learn
            out = out[:, : x.shape[1]]
        if out.shape != x.shape:
            raise ValueError(f"the model was given {tuple(x.shape)} and answers {tuple(out.shape)}")
        return out


def split(kind: str, x: Tensor, out: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Data and noise that a model's answer means, of x = a data + b noise with a^2 + b^2 = 1."""
    if kind == "epsilon":
        return (x - b * out) / a, out
    if kind == "v_prediction":
        return a * x - b * out, b * x + a * out
    return out, (x - a * out) / b


def from_diffusers(
    model: Callable[..., Any], scheduler: Any, sigma: float = SIGMA, **other: Any
) -> Converted:
    """The velocity of a diffusers model, read with the settings of its scheduler; diffusers is not imported.

    Args:
        model:     as of diffusers, or anything that is called alike.
        scheduler: that it was trained with: what it predicts, and its schedule.
        sigma:     of TrigFlow.
        other:     arguments of `Converted`: scale, whole.
    Raises:
        ValueError: a scheduler that states no prediction this knows.
    """
    config = scheduler.config
    steps = float(_setting(config, "num_train_timesteps", 1000))
    kind = prediction_of(scheduler)
    if kind == "flow_prediction":
        return Converted(model, kind, times=steps, sigma=sigma, **other)
    if kind == "trigflow":
        return Converted(model, kind, sigma=sigma, **other)
    return Converted(model, kind, alphas_cumprod=scheduler.alphas_cumprod, sigma=sigma, **other)


def prediction_of(scheduler: Any) -> str:
    """What the model of a diffusers scheduler predicts, one of `KINDS`.

    Raises:
        ValueError: something else.
    """
    kind = _setting(scheduler.config, "prediction_type", None)
    if (
        kind is None
        and _setting(scheduler.config, "shift", None) is not None
        and hasattr(scheduler, "sigmas")
    ):
        kind = "flow_prediction"  # FlowMatchEuler and its kin state none
    if kind not in KINDS or (
        kind != "trigflow" and _setting(scheduler.config, "sigma_data", None) is not None
    ):
        raise ValueError(
            f"{type(scheduler).__name__} says that its model predicts {kind!r}; known are {', '.join(KINDS)}"
        )
    return kind


def _setting(config: Any, name: str, default: Any) -> Any:
    return config.get(name, default) if hasattr(config, "get") else getattr(config, name, default)
