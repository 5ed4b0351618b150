"""LRA, learning to retain while acquiring: a student that keeps what it knew while its inputs change.

Source: Patel, Mopuri, Qiu, "Learning to Retain While Acquiring" (CVPR 2023, arXiv 2302.14290).
"""

from torch import nn

from adapt.data_free.distiller import Distiller
from adapt.data_free.networks import Shape
from adapt.data_free.presets import SMALL, Settings, autoencoder, made, ring, wanted
from adapt.data_free.updates import MetaRetain

REPLAYS = ("buffer", "vae")


def lra(
    teacher: nn.Module,
    student: nn.Module,
    shape: Shape,
    settings: Settings = SMALL,
    *,
    replay: str = "buffer",
    second_order: bool = True,
    inner_rate: float | None = None,
) -> Distiller:
    """A distiller by LRA.

    Args:
        teacher:      in eval mode, logits.
        student:      to be trained in place.
        shape:        of one input.
        settings:     shared by all presets.
        replay:       "buffer" or "vae".
        second_order: whether the gradient goes through the virtual step.
        inner_rate:   of the virtual step; None: the student's. 0.9 in the paper, at sizes of a paper.
    """
    if replay not in REPLAYS:
        raise ValueError(f"replay must be one of {', '.join(REPLAYS)}, got {replay!r}")
    rate = settings.config.rate if inner_rate is None else inner_rate
    memory = ring(settings) if replay == "buffer" else autoencoder(student, shape, settings)
    return made(
        teacher,
        student,
        shape,
        settings,
        wanted(),
        MetaRetain(inner_rate=rate, second_order=second_order),
        memory,
    )
