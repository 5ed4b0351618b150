"""A classifier cut into features z and a linear head, verified on a batch.

Methods of adaptation need more than a model says: z, the weight of the head as it takes effect (after weight
or spectral norm), which layers are batch norm and which parameters lie where. Three kinds of models are cut:
`torch.nn.Module` here, programs of `torch.export` in `programs`, TorchScript in `scripts`.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

AGREE = 1e-4  # largest difference of head(z) and the model's answer, of the size of the answer

Head = str | Callable[[nn.Module], nn.Module]


class Said(NamedTuple):
    """What a model says of a batch.

    z:      (B, D) features.
    logits: (B, C), `z @ weight.T + bias`.
    weight: (C, D) of the head as it takes effect.
    bias:   (C,) or None.
    """

    z: Tensor
    logits: Tensor
    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class Norm:
    """A layer of batch norm: running statistics and, where it has them, scale and shift."""

    mean: Tensor
    var: Tensor
    affine: tuple[Tensor, ...]


class Split(Protocol):
    """A model that is being adapted, of whatever kind."""

    model: nn.Module
    head: str
    norms: list[Norm]
    head_parameters: list[nn.Parameter]
    batch: int | None  # the only size of a batch that the model takes; None: any

    def __call__(self, x: Tensor) -> Said:
        """Features and logits, (B, ...) -> Said, in the mode that was set last."""
        ...

    def use(self, batch_statistics: bool, momentum: float = 0.1) -> None:
        """Let batch norm use and remember the statistics of batches, or those it remembers.

        Args:
            batch_statistics: which.
            momentum:         share of a batch in what is remembered.
        """
        ...

    def released(self) -> nn.Module:
        """The model ready for use, with nothing left of what `use` has set."""
        ...


def split_of(model: nn.Module, x: Tensor, head: Head | None = None) -> Split:
    """Cut a model, which the split then owns, where `head(z)` is what the model says of x.

    Args:
        model: of any of the three kinds.
        x:     (B, ...) a batch.
        head:  name of the last linear layer, or a function that gets it from the model; None: it is looked
               for.
    Raises:
        ValueError: no linear layer gives the model's answer; the message lists those that were tried.
    """
    from adapt.source_free.programs import ProgramSplit
    from adapt.source_free.scripts import ScriptSplit

    script = isinstance(model, torch.jit.ScriptModule)
    if not script and not (isinstance(model, torch.fx.GraphModule) and ProgramSplit.fits(model)):
        return ModuleSplit(model, x, head)
    if head is not None:
        raise ValueError("the head of an exported program or script is found in its graph: leave `head` out")
    return ScriptSplit(model, x) if script else ProgramSplit(model, x)  # type: ignore[arg-type]


class ModuleSplit:
    """The split of a `torch.nn.Module`: z is what its head is called with."""

    def __init__(self, model: nn.Module, x: Tensor, head: Head | None = None):
        self.model = model
        self.batch: int | None = None
        self.layers: list[Any] = [
            m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None
        ]
        self.norms = [
            Norm(m.running_mean, m.running_var, tuple(p for p in (m.weight, m.bias) if p is not None))
            for m in self.layers
        ]
        self._momentum = [m.momentum for m in self.layers]
        self._dropout = [(m, m.dropout) for m in model.modules() if isinstance(m, nn.RNNBase)]
        self.use(False)
        self.head, self._head = _found(model, x, head)
        self.head_parameters = list(self._head.parameters())

    def __call__(self, x: Tensor) -> Said:
        """Features and logits of a batch."""
        with parametrize.cached():  # spectral norm changes its estimate whenever it is asked
            ((z, logits),) = _calls(self.model, x, [self._head])[0].values()
            return Said(z, logits, self._head.weight, self._head.bias)  # type: ignore[arg-type]

    def use(self, batch_statistics: bool, momentum: float = 0.1) -> None:
        """Set the mode of batch norm; all else, dropout too, is as in use."""
        self.model.eval()
        for module, _ in self._dropout:
            module.dropout = 0.0
            module.train()  # their backward pass on a GPU asks for it
        for layer in self.layers:
            layer.train(batch_statistics)
            layer.momentum = momentum

    def released(self) -> nn.Module:
        """The model in use, with the momentum and dropout that it came with."""
        for layer, momentum in zip(self.layers, self._momentum):
            layer.momentum = momentum
        for module, dropout in self._dropout:
            module.dropout = dropout
        return self.model.eval()


def copy_of(model: Any) -> nn.Module:
    """A copy of a model that shares nothing with it.

    Raises:
        TypeError: it is no model, or cannot be copied.
    """
    from adapt.source_free.scripts import copied

    if isinstance(model, torch.export.ExportedProgram):
        model = model.module()
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module or an ExportedProgram, got {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        return copied(model)
    # The weight that torch.nn.utils.weight_norm computes is an attribute that deepcopy refuses.
    computed = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    own = copy.deepcopy(model, computed)
    for name, module in own.named_modules():  # copies of graphs forget which buffers are no state
        module._non_persistent_buffers_set |= model.get_submodule(name)._non_persistent_buffers_set
    return own


def answer_of(said: Any) -> Tensor:
    """The (B, C) answer in whatever a model returns: a tensor, the first of a tuple, or `.logits`.

    Raises:
        ValueError: it is none of these.
    """
    said = getattr(said, "logits", said)
    if isinstance(said, (tuple, list)) and said:
        said = said[0]
    if not isinstance(said, Tensor) or said.ndim != 2:
        came = f"shape {tuple(said.shape)}" if isinstance(said, Tensor) else type(said).__name__
        raise ValueError(
            f"the model must give logits (batch, classes), got {came}. Only classifiers can be adapted: wrap "
            "the model in a module that returns its logits alone."
        )
    if not said.isfinite().all():
        raise ValueError(
            "the model gives values that are not finite for samples that are: it cannot be adapted"
        )
    if said.shape[1] < 2:
        raise ValueError(
            "the model gives one number a sample, so no class probabilities: adaptation needs a classifier "
            "with at least 2 outputs. A binary one may give (0, logit)."
        )
    return said


def agrees(answer: Tensor, logits: Tensor) -> bool:
    """Whether a model's answer (B, C) is these logits, their softmax or its logarithm."""
    if logits.shape != answer.shape:
        return False
    for said in (logits, logits.log_softmax(1), logits.softmax(1)):
        if (said - answer).abs().max() <= AGREE * answer.abs().max().clamp(min=1e-6):
            return True
    return False


def refusal(answer: Tensor, tried: Iterable[str]) -> ValueError:
    """What to say when no layer is the head."""
    listed = "\n  ".join(tried) or "(there is no linear layer)"
    return ValueError(
        f"no linear layer gives the model's {answer.shape[1]} outputs from its input, so features and head "
        f"cannot be told apart. Name the last layer with head=..., or let the model end with it. "
        f"Layers:\n  {listed}"
    )


def _calls(model, x, modules):
    """Input and output of each module's last call, and the model's answer."""
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def keep(module, given, out):
        seen[module] = (given[0], out)

    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        answer = model(x)
    finally:
        for handle in handles:
            handle.remove()
    return seen, answer


@torch.no_grad()
def _found(model, x, head):
    """Name and module of the head: the last linear layer that gives the answer."""
    names = {module: name for name, module in model.named_modules()}
    if head is None:
        modules = [m for m in names if isinstance(m, nn.Linear)]
    else:
        modules = [_chosen(model, head)]
    seen, answer = _calls(model, x, modules)
    answer = answer_of(answer)
    for module, (z, logits) in reversed(seen.items()):
        if z.ndim == 2 and agrees(answer, logits):
            return names[module], module
    tried = [
        f"{names[m] or '(the model itself)'}: {tuple(seen[m][0].shape)} -> {tuple(seen[m][1].shape)}"
        if m in seen
        else f"{names[m]}: not called"
        for m in modules
    ]
    raise refusal(answer, tried)


def _chosen(model, head):
    try:
        module = model.get_submodule(head) if isinstance(head, str) else head(model)
    except AttributeError as error:
        named = ", ".join(name for name, m in model.named_modules() if isinstance(m, nn.Linear)) or "none"
        raise ValueError(f"head: {error}. Linear layers are: {named}") from None
    if module not in set(model.modules()):
        raise ValueError("head must be a layer of the model that it is called with, which is a copy")
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not hasattr(module, "bias"):
        raise ValueError(f"head must be a linear layer with weight (C, D) and bias, got {module}")
    return module
