"""The split of TorchScript, scripted or traced: as of a program, a graph of calls with more outputs.

Its graph is read through functions of torch that are not public, as there are no others: TorchScript is no
longer developed, and `torch.export` has taken its place.
"""

import io

import torch
from torch import Tensor, nn

from adapt.source_free.split import Norm, Said, agrees, answer_of, refusal


class ScriptSplit:
    """A script, and a function of its graph that also gives what the head is called with."""

    def __init__(self, model: torch.jit.ScriptModule, x: Tensor):
        self.model: nn.Module = model.eval()
        self.batch: int | None = None
        self._mode = (False, 0.1)
        buffers = dict(model.named_buffers())
        names = [name[: -len("running_mean")] for name in buffers if name.endswith("running_mean")]
        parameters = dict(model.named_parameters())
        affine = [[parameters.get(name + part) for part in ("weight", "bias")] for name in names]
        self.norms = [
            Norm(
                buffers[name + "running_mean"],
                buffers[name + "running_var"],
                tuple(p for p in own if p is not None),
            )
            for name, own in zip(names, affine)
        ]
        which = _which(model, x)
        self._say, self.head = _function(model, which)
        self.head_parameters = _moved_by_head(self, parameters, x)

    def __call__(self, x: Tensor) -> Said:
        """Features and logits of a batch."""
        _, z, weight, bias, logits = self._say(self.model, x, *self._mode)
        return Said(z, logits, weight, bias)

    def use(self, batch_statistics: bool, momentum: float = 0.1) -> None:
        """Set the mode of batch norm."""
        self._mode = (batch_statistics, momentum)

    def released(self) -> nn.Module:
        """The script, in use."""
        return self.model.eval()


def copied(model: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """A copy, by way of its file: copies of `copy.deepcopy` have parameters that get no gradients."""
    buffer = io.BytesIO()
    torch.jit.save(model, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


def _linear(graph):
    return [node for node in graph.nodes() if node.kind() == "aten::linear"]


def _function(model, which):
    """A function (model, x, batch statistics, momentum) -> (answer, z, weight, bias, logits); its name."""
    graph = model.inlined_graph.copy()
    flag, share = graph.addInput("batch_statistics"), graph.addInput("momentum")
    flag.setType(torch._C.BoolType.get())
    share.setType(torch._C.FloatType.get())
    for node in graph.findAllNodes("aten::batch_norm"):
        node.replaceInput(5, flag)
        node.replaceInput(6, share)
    head = _linear(graph)[which]
    for value in (*head.inputs(), head.output()):
        graph.registerOutput(value)
    graph.makeMultiOutputIntoTuple()
    return torch._C._create_function_from_graph("split", graph), f"linear layer {which}"


@torch.no_grad()
def _which(model, x):
    answer, tried = answer_of(model(x)), []
    for which in reversed(range(len(_linear(model.inlined_graph)))):
        _, z, _, _, logits = _function(model, which)[0](model, x, False, 0.1)
        if z.ndim == 2 and agrees(answer, logits):
            return which
        tried.append(f"linear layer {which}: {tuple(z.shape)} -> {tuple(logits.shape)}")
    raise refusal(answer, tried)


def _moved_by_head(split: ScriptSplit, parameters: dict[str, nn.Parameter], x: Tensor) -> list[nn.Parameter]:
    """Parameters that the weight and bias of the head are made of: those that get a gradient of them."""
    needed = [p for p in parameters.values() if p.requires_grad]
    said = split(x)
    total = said.weight.sum() + (0.0 if said.bias is None else said.bias.sum())
    if not total.requires_grad:
        return []
    found = torch.autograd.grad(total, needed, allow_unused=True)
    return [p for p, gradient in zip(needed, found) if gradient is not None]
