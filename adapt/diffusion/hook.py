"""A guide for any diffusers pipeline: its scheduler is wrapped, and what steps are told has been guided.

A subclass of a scheduler would not do: pipelines build their own scheduler of its settings, and would drop
it. The step comes after classifier-free guidance, at the batch's true size. Multi-step solvers see guided
answers alone. diffusers is not imported.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from adapt.diffusion.guidance import Guidance, changed
from adapt.diffusion.trigflow import LEAST, prediction_of


@contextmanager
def hooked(scheduler: Any, guidance: Guidance) -> Iterator[Guidance]:
    """While this is open, the steps of a scheduler heed a guide; `guidance.calls` counts how often.

    The guide is shown x = cos t x_0 + sigma sin t e, whatever the scheduler's own scaling is: sigma is 1 for
    images from -1 to 1 as most pipelines have them.

    Args:
        scheduler: of a pipeline: `hooked(pipe.scheduler, guidance)`.
        guidance:  guide, what is wanted, scale.
    Raises:
        ValueError: the scheduler's model predicts something that this does not know, or guidance.sigma is not
                    the scheduler's.
    """
    kind = prediction_of(scheduler)
    sigma = float(getattr(scheduler.config, "sigma_data", 1.0)) if kind == "trigflow" else 1.0
    if guidance.sigma != sigma:
        raise ValueError(
            f"this scheduler's noise has a deviation of {sigma:g}, the guidance is for {guidance.sigma:g}"
        )
    step, own = scheduler.step, vars(scheduler).get("step")

    def guided(model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        a, b, size = shares(scheduler, kind, timestep)
        time = math.atan2(b, a)
        if guidance.strength(time) == 0 or a < LEAST:  # pure noise shows a guide nothing
            return step(model_output, timestep, sample, *args, **kwargs)
        de = guidance.shift((sample / size).float(), time).to(sample)
        channels = sample.shape[1]  # models that learn a variance answer twice as many
        part = changed(kind, model_output[:, :channels], sigma * de, a, b)
        out = torch.cat((part, model_output[:, channels:]), 1)
        return step(out, timestep, sample, *args, **kwargs)

    scheduler.step = guided
    try:
        yield guidance
    finally:
        if own is None:
            del scheduler.step  # the class's own again
        else:
            scheduler.step = own


def shares(scheduler: Any, kind: str, timestep: Any) -> tuple[float, float, float]:
    """Shares a of data and b of noise at a scheduler's time, and the length of its x in units of the guide's.

    a and b are those of the model's own process: a + b = 1 of a flow, a^2 + b^2 = 1 of all others.
    """
    if kind == "trigflow":
        time = float(timestep.flatten()[0] if isinstance(timestep, Tensor) else timestep)
        return math.cos(time), math.sin(time), 1.0
    if kind == "flow_prediction":
        s = float(scheduler.sigmas[_index(scheduler, timestep)])
        return 1 - s, s, math.hypot(1 - s, s)
    if hasattr(scheduler, "is_scale_input_called"):  # Euler, Heun and their kin: x = x_0 + noise e
        noise = float(scheduler.sigmas[_index(scheduler, timestep)])
        size = math.hypot(1.0, noise)
        return 1 / size, noise / size, size
    signal = float(scheduler.alphas_cumprod[int(timestep)])
    return math.sqrt(signal), math.sqrt(1 - signal), 1.0


def _index(scheduler: Any, timestep: Any) -> int:
    """Where a sampler is on its way."""
    index = getattr(scheduler, "step_index", None)
    if index is not None:
        return int(index)
    times = scheduler.timesteps
    return int((times - torch.as_tensor(timestep).to(times)).abs().argmin())
