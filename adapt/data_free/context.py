"""What one batch looks like to teacher and student: all that a term of a loss may ask for."""

import itertools
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

# which argument of a layer's operator is its input; programs that were decomposed have no linear layers left
LAYERS = dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d", "convolution", "matmul", "mm"), 0) | {
    "addmm": 1
}
FUNCTION = ("input", "running_mean", "running_var", "weight", "bias", "training")
USUAL = ("input", "weight", "bias", "running_mean", "running_var")
NORMS = {
    "batch_norm": (*USUAL, "training"),
    "_native_batch_norm_legit": (*USUAL, "training"),
    "_native_batch_norm_legit_no_training": USUAL,
}


class Statistics(NamedTuple):
    """Of one batch-norm layer: of the batch (c,), and the layer's running ones (c,)."""

    mean: Tensor
    var: Tensor
    running_mean: Tensor
    running_var: Tensor


class Watch(TorchFunctionMode):
    """Sees what enters batch norm and the last layer while a network computes.

    Calls are watched instead of modules hooked: nothing is left on the network or copied with it, and
    exported programs, which have no modules, are seen as well. Compiled networks and TorchScript are not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.statistics: list[Statistics] = []
        self.features: Tensor | None = None
        self.training = False  # whether some layer has used statistics of the batch

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "").split(".")[0]
        if name in LAYERS and len(args) > LAYERS[name]:
            self.features = args[LAYERS[name]]
        elif name in NORMS or func is F.batch_norm:
            # F.batch_norm has another order than the operators
            self._normed(FUNCTION if func is F.batch_norm else NORMS[name], args, kwargs or {})
        return func(*args, **(kwargs or {}))

    def _normed(self, names, args, kwargs):
        given: dict[str, Any] = dict(zip(names, args)) | kwargs
        self.training |= bool(given.get("training"))
        x, mean, var = given["input"], given.get("running_mean"), given.get("running_var")
        if mean is not None and var is not None:
            others = [d for d in range(x.ndim) if d != 1]
            # the layer's own values may change later in the same pass
            self.statistics.append(
                Statistics(
                    x.mean(others), x.var(others, correction=0), mean.detach().clone(), var.detach().clone()
                )
            )


class Context:
    """One batch x (b, *shape) and the answers to it.

    teacher, student: networks; the student is asked when a term wants its answer, and is left as it is.
    z:      what x was made of, or None.
    labels: (b,) wanted classes, or None.
    progress: share of the training that is done.
    generator: of what a term draws.
    """

    def __init__(
        self,
        x: Tensor,
        teacher: nn.Module,
        student: nn.Module | None = None,
        *,
        z: Tensor | None = None,
        labels: Tensor | None = None,
        progress: float = 0.0,
        generator: torch.Generator | None = None,
    ):
        self.x, self.teacher, self.student, self.z, self.labels = x, teacher, student, z, labels
        self.progress, self.generator = progress, generator
        with Watch() as watch:
            self.t = teacher(x)  # (b, classes) logits
        self._watch = watch

    @cached_property
    def s(self) -> Tensor:
        """(b, classes) logits of the student."""
        if self.student is None:
            raise ValueError("this term compares with the student, and the batch was made without one")
        return undisturbed(self.student, self.x)

    @property
    def features(self) -> Tensor:
        """(b, f) what enters the teacher's last layer."""
        if self._watch.features is None:
            raise ValueError(
                "no layer of this teacher can be seen (TorchScript or compiled). Give it as an nn.Module or "
                "as an exported program, or leave out the terms activation and contrastive."
            )
        return self._watch.features.flatten(1)

    @property
    def statistics(self) -> list[Statistics]:
        """Of each batch-norm layer of the teacher."""
        if not self._watch.statistics:
            raise ValueError(
                "the batch-norm term needs a teacher with batch norm and running statistics, and none was "
                "seen in this one (TorchScript and compiled networks cannot be looked into). Set its weight "
                "to 0 (bn=0)."
            )
        return self._watch.statistics


def undisturbed(network: nn.Module, x: Tensor, parameters: dict[str, Tensor] | None = None) -> Tensor:
    """Logits of a network that keeps its running statistics; with other parameters, if given."""
    used = dict(network.named_parameters()) if parameters is None else parameters
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    return functional_call(network, used | buffers, (x,))


def device_of(network: nn.Module) -> torch.device:
    """Where a network is; the CPU if it has neither parameters nor buffers."""
    some = next(itertools.chain(network.parameters(), network.buffers()), None)
    return torch.device("cpu") if some is None else some.device


@torch.no_grad()
def asked(network: nn.Module, x: Tensor) -> Tensor:
    """Logits without gradient."""
    return network(x)
