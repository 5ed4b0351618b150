"""The split of a program of `torch.export`: a graph of operations, in which layers are calls of functions.

Such a program was fixed in one mode. Its calls of batch norm have the mode as an argument, which is set here
in a copy of the graph beside the program's own; dropout stays off. Programs taken apart further, with
`run_decompositions`, have no linear layers any more and are refused.
"""

from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn

from adapt.source_free.split import Norm, Said, agrees, answer_of, refusal

BATCH_NORM = torch.ops.aten.batch_norm.default  # x, weight, bias, mean, var, training, momentum, eps, cudnn
LINEAR = torch.ops.aten.linear.default  # z, weight, bias
DROPOUT = (torch.ops.aten.dropout.default, torch.ops.aten.dropout_.default)  # x, p, training


class ProgramSplit:
    """A module of a program, and a graph beside it that also gives what the head is called with."""

    def __init__(self, model: fx.GraphModule, x: Tensor):
        self.model: nn.Module = model
        self.batch = only_batch(model)
        if self.batch is not None:
            x = x[:1].expand(self.batch, *x.shape[1:])
        self._probe, heads = _with_outputs(model)
        self.norms = _norms(model)
        self.use(False)
        which = _which(self._probe, x, heads)
        self.head = str(heads[which].name)
        self.head_parameters = _parameters(model, heads[which])
        self._probe, _ = _with_outputs(model, which)
        self.use(False)

    @staticmethod
    def fits(model: fx.GraphModule) -> bool:
        """Whether a graph calls ATen's functions, as exported programs do."""
        return any(isinstance(node.target, torch._ops.OpOverload) for node in model.graph.nodes)

    def __call__(self, x: Tensor) -> Said:
        """Features and logits of a batch."""
        _, ((z, weight, bias, logits),) = self._probe(x)
        return Said(z, logits, weight, bias)

    def use(self, batch_statistics: bool, momentum: float = 0.1) -> None:
        """Set the mode of batch norm."""
        for node in _batch_norms(self._probe):
            node.args = (*node.args[:5], batch_statistics, momentum, *node.args[7:])
        self._probe.recompile()

    def released(self) -> nn.Module:
        """The program's module, whose own graph was never changed."""
        return self.model


def only_batch(model: fx.GraphModule) -> int | None:
    """The only size of a batch that a program takes, None if it takes several."""
    entry = next((node for node in model.graph.nodes if node.op == "placeholder"), None)
    shape: Any = getattr(entry.meta.get("val"), "shape", ()) if entry is not None else ()
    return shape[0] if len(shape) and isinstance(shape[0], int) else None


def _with_outputs(model, which=None):
    """A module on the same parameters that also gives (z, weight, bias, logits) of layers; their nodes."""
    graph, copies = fx.Graph(), {}
    answer = graph.graph_copy(model.graph, copies)
    heads = [node for node in graph.nodes if node.target is LINEAR]
    for node in list(graph.nodes):
        if node.target in DROPOUT:
            node.args = (*node.args[:2], False)
        elif node.target is torch.ops.aten.add_.Tensor and "num_batches_tracked" in str(node.args[0]):
            graph.erase_node(node)  # counts batches, in a program that was exported in training
    kept = heads if which is None else [heads[which]]
    graph.output((answer, [(*_padded(node.args), node) for node in kept]))
    return fx.GraphModule(model, graph), heads


def _padded(args):
    return (*args, None)[:3]


def _batch_norms(model):
    return [
        node for node in model.graph.nodes if node.target is BATCH_NORM and isinstance(node.args[3], fx.Node)
    ]


def _norms(model):
    found = []
    for node in _batch_norms(model):
        weight, bias, mean, var = (None if n is None else attrgetter(n.target)(model) for n in node.args[1:5])
        found.append(Norm(mean, var, tuple(t for t in (weight, bias) if t is not None)))
    return found


@torch.no_grad()
def _which(probe, x, heads):
    """Number of the last linear layer that gives the answer."""
    answer, tried = probe(x)
    answer = answer_of(answer)
    for k, (z, _, _, logits) in reversed(list(enumerate(tried))):
        if z.ndim == 2 and agrees(answer, logits):
            return k
    shapes = (f"{node.name}: {tuple(t[0].shape)} -> {tuple(t[3].shape)}" for node, t in zip(heads, tried))
    raise refusal(answer, shapes)


def _parameters(model: nn.Module, head: fx.Node) -> list[Any]:
    """Parameters that the weight and bias of a layer are made of."""
    found: list[Any] = []
    queue: list[Any] = list(head.args[1:])
    while queue:
        node = queue.pop()
        if isinstance(node, fx.Node):
            queue += node.all_input_nodes
            if node.op == "get_attr" and isinstance(p := attrgetter(str(node.target))(model), nn.Parameter):
                found.append(p)
    return found
