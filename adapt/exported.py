"""Networks of strangers, read as data: programs of torch.export (.pt2), and TorchScript.

`torch.export.load` unpickles parts of a file, evaluates others as Python, and calls operators that read and
write files. Here the graph in the file is read as JSON, only operators of ATen are taken from it, and tensors
are read as raw bytes: nothing in a file is executed but arithmetic. TorchScript has no such door: it runs in
its own interpreter, so load scripts of people you trust.
"""

import json
import math
import operator
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
STRIDED = 7  # the only layout of tensors that is read
SPARE = 2**20  # bytes that a file may unpack to beyond twice its own, and numbers of a tensor beyond its own
# of sizes that depend on the batch
ARITHMETIC: dict[str, Callable[..., Any]] = {
    f"_operator.{name}": getattr(operator, name)
    for name in "add sub mul floordiv truediv mod neg eq ne lt le gt ge".split()
}
REGION = "torch.ops.higher_order.wrap_with_set_grad_enabled"  # of torch.no_grad in a network
FORBIDDEN = ("from_file", "save", "load", "open", "file")  # in names of operators
PLAIN = ("as_int", "as_bool", "as_string", "as_ints", "as_floats", "as_bools")
SIZES = ("as_sym_int", "as_sym_float", "as_sym_bool")
MODED = {"batch_norm": "training"} | dict.fromkeys(
    ("dropout", "dropout_", "feature_dropout", "lstm", "gru", "rnn_tanh", "rnn_relu"), "train"
)
NAME = re.compile(r"(?!__)\w+(\.(?!__)\w+)*", re.ASCII)  # of a tensor
BROKEN = (zipfile.BadZipFile, LookupError, TypeError, AttributeError, RuntimeError, ValueError, OverflowError)


def program(path: str | Path) -> fx.GraphModule:
    """A program of torch.export, in eval mode; `train` reaches its batch norm, dropout and recurrent layers.

    Its tensors have the names that they were exported with.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError:        it is something else, or more than arithmetic.
    """
    path = Path(path)
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                if sum(i.file_size for i in archive.infolist()) > 2 * path.stat().st_size + SPARE:
                    raise ValueError("it unpacks to much more than it holds")
                document, tensors = _parts(archive)
            return _module(document["graph_module"], tensors)
        except BROKEN as error:
            raise ValueError(
                f"{path} is no program of torch.export that can be read as data: {_one_line(error)}. "
                "Accepted is what torch.export.save writes of a network with one input."
            ) from None


def script(path: str | Path) -> torch.jit.ScriptModule:
    """TorchScript, in eval mode.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError:        it is something else, or its answer needs files.
    """
    with Path(path).open("rb") as file:
        try:
            network = torch.jit.load(file, map_location="cpu")
            used = list(_kinds(network.inlined_graph))
        except (RuntimeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{path} is no TorchScript: {_one_line(error)}. A model or weights of torch.save are a "
                "pickle, and not read: save the model with "
                "torch.export.save(torch.export.export(model.eval(), (x,), "
                'dynamic_shapes=({0: torch.export.Dim.AUTO},)), "model.pt2")'
            ) from None
    bad = [kind for kind in used if kind.startswith("aten::") and any(w in kind for w in FORBIDDEN)]
    if bad:
        raise ValueError(f"{path} asks for {bad[0]}, which is not arithmetic")
    return network.eval()


def _kinds(block) -> Iterator[str]:
    """Of all nodes of a TorchScript, those in branches and loops too."""
    for node in block.nodes():
        yield node.kind()
        for inner in node.blocks():
            yield from _kinds(inner)


def _one_line(error):
    said = str(error).strip()
    return said.splitlines()[0] if said else type(error).__name__


def _parts(archive):
    """The graph, and all tensors by name."""
    root = archive.namelist()[0].split("/")[0]
    tensors: dict[str, Tensor] = {}
    for folder in ("weights", "constants"):
        listed = json.loads(archive.read(f"{root}/data/{folder}/model_{folder}_config.json"))["config"]
        for name, about in listed.items():
            if about["use_pickle"]:
                raise ValueError(f"{name!r} is pickled")
            tensors[name] = _tensor(archive.read(f"{root}/data/{folder}/{about['path_name']}"), about)
    return json.loads(archive.read(f"{root}/models/model.json")), tensors


def _tensor(raw: bytes, about: dict[str, Any]) -> Tensor:
    meta = about["tensor_meta"]
    sizes, strides = ([n["as_int"] for n in meta[key]] for key in ("sizes", "strides"))
    offset = meta["storage_offset"]["as_int"]
    dtype = DTYPES[meta["dtype"]]
    flat = torch.frombuffer(bytearray(raw), dtype=dtype) if raw else torch.zeros(0, dtype=dtype)
    last = offset + sum((n - 1) * s for n, s in zip(sizes, strides))
    number = math.prod(sizes)  # may be more than is there, of a tensor that was expanded
    if min((*sizes, *strides, offset), default=0) < 0 or (number and last >= len(flat)):
        raise ValueError("a tensor is larger than its bytes")
    if number > max(len(flat), SPARE):
        raise ValueError(f"a tensor of {number} numbers is made of {len(flat)}")
    return flat.as_strided(sizes, strides, offset).clone()


def _module(document: dict[str, Any], tensors: dict[str, Tensor]) -> fx.GraphModule:
    """The graph of a program as a module with its tensors."""
    graph, signature = document["graph"], document["signature"]
    module = fx.GraphModule(nn.Module(), fx.Graph())
    built = fx.Graph()
    known: dict[str, Any] = {}  # name in the file -> node
    inputs = []
    for spec in signature["input_specs"]:
        (kind, what), *_ = spec.items()
        if kind == "user_input":
            inputs.append(what["arg"]["as_tensor"]["name"])
            continue
        full = what.get("parameter_name") or what.get("buffer_name") or what.get("tensor_constant_name")
        _place(module, kind, full, tensors[full], what.get("persistent", False))
        known[what["arg"]["name"]] = built.get_attr(full)
    said = [
        s["user_output"]["arg"]["as_tensor"]["name"] for s in signature["output_specs"] if "user_output" in s
    ]
    if len(inputs) != 1 or not said:
        raise ValueError(
            f"it has {len(inputs)} inputs and {len(said)} outputs, not one input and some output"
        )
    _Reader(built, known).read(inputs[0], graph)
    answers = tuple(known[name] for name in said)
    built.output(answers[0] if len(answers) == 1 else answers)
    module.graph = built
    return module.eval()


def _place(module: nn.Module, kind: str, name: str, value: Tensor, persistent: bool) -> None:
    """Give a module a tensor, under a name with dots."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name[:80]!r} is no name of a tensor")
    *folders, last = name.split(".")
    for folder in folders:
        if folder not in module._modules:
            module.add_module(folder, nn.Module())
        module = module.get_submodule(folder)
    if last in module._parameters or last in module._buffers:  # used twice
        return
    if kind == "parameter":
        module.register_parameter(last, nn.Parameter(value))
    else:
        module.register_buffer(last, value, persistent)


class _Reader:
    """Reads the operations of a file into a graph."""

    def __init__(self, graph: fx.Graph, known: dict[str, Any]):
        self.graph, self.known = graph, known
        self.training = graph.get_attr("training")

    def read(self, given: str, document: dict[str, Any]) -> None:
        """All nodes, and the input before them."""
        sizes = [size.get("as_int") for size in document["tensor_values"][given]["sizes"]]
        self.x = self.graph.placeholder("x")
        if sizes and sizes[0] is not None:  # the only size of a batch, as torch.export itself notes it
            self.x.meta["val"] = torch.empty([size or 1 for size in sizes], device="meta")
        self.known[given] = self.graph.call_function(checked, (self.x, tuple(sizes)))
        for node in document["nodes"]:
            self._node(node)

    def _region(self, node: dict[str, Any]) -> None:
        """A graph within the graph, in its place; what it says has no gradient if it is to have none."""
        enabled, inner, *given = (item["arg"] for item in node["inputs"])
        graph, outer = inner["as_graph"]["graph"], self.known
        names = [name for each in graph["inputs"] for name in _named(each)]
        self.known = dict(zip(names, map(self._value, given), strict=True))
        for each in graph["nodes"]:
            self._node(each)
        said = [self._value(each) for each in graph["outputs"]]
        if not enabled["as_bool"]:
            said = [
                self.graph.call_function(torch.ops.aten.detach.default, (value,))
                if "as_tensor" in each
                else value
                for each, value in zip(graph["outputs"], said)
            ]
        self.known = outer
        outer |= dict(zip((name for each in node["outputs"] for name in _named(each)), said, strict=True))

    def _node(self, node: dict[str, Any]) -> None:
        if node["target"] == REGION:
            return self._region(node)
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        moded = MODED.get(node["target"].split(".")[-2])
        for item in node["inputs"]:
            value = self.training if moded and item["name"] == moded else self._value(item["arg"])
            if item["kind"] == 2:
                kwargs[item["name"]] = value
            else:
                args.append(value)
        result = self.graph.call_function(_operator(node["target"]), tuple(args), kwargs)
        names = [name for output in node["outputs"] for name in _named(output)]
        if len(names) == 1 and "as_tensors" not in node["outputs"][0]:
            self.known[names[0]] = result
        else:
            for k, name in enumerate(names):
                self.known[name] = self.graph.call_function(operator.getitem, (result, k))

    def _value(self, arg: dict[str, Any]) -> Any:
        (kind, value), *_ = arg.items()
        if kind in PLAIN:
            return value
        if kind == "as_float":
            return float(value)  # JSON has no infinity: it is a text
        if kind == "as_none":
            return None
        if kind == "as_tensor":
            return self.known[value["name"]]
        if kind == "as_tensors":
            return [self.known[v["name"]] for v in value]
        if kind == "as_optional_tensors":
            return [self._value(v) for v in value]
        if kind in SIZES:
            return self._size(value)
        if kind == "as_sym_ints":
            return [self._size(v) for v in value]
        if kind == "as_scalar_type":
            return DTYPES[value]
        if kind == "as_memory_format":
            return MEMORY_FORMATS[value]
        if kind == "as_layout" and value == STRIDED:
            return torch.strided
        if kind == "as_device":
            return self.graph.call_function(getattr, (self.x, "device"))
        raise ValueError(f"arguments {kind} are not known")

    def _size(self, value: dict[str, Any]) -> Any:
        ((kind, what),) = value.items()
        return self.known[what] if kind == "as_name" else what


def checked(x: Tensor, sizes: tuple[int | None, ...]) -> Tensor:
    """An input, whose sizes but for that of the batch must be those that a program was exported for."""
    if x.ndim != len(sizes) or any(n not in (None, m) for m, n in zip(x.shape[1:], sizes[1:])):
        wanted = ", ".join("any" if n is None else str(n) for n in (None, *sizes[1:]))
        raise ValueError(f"the program takes inputs of shape ({wanted}), got {tuple(x.shape)}")
    return x


def _operator(target: str) -> Callable[..., Any]:
    if target in ARITHMETIC:
        return ARITHMETIC[target]
    parts = target.split(".")
    if parts[:3] != ["torch", "ops", "aten"] or len(parts) != 5 or any(w in parts[3] for w in FORBIDDEN):
        raise ValueError(f"its graph asks for {target!r}, accepted are operators of ATen")
    found = getattr(getattr(torch.ops.aten, parts[3]), parts[4])
    if not isinstance(found, torch._ops.OpOverload):
        raise ValueError(f"its graph asks for {target!r}, accepted are operators of ATen")
    return found


def _named(output: dict[str, Any]) -> list[str]:
    """Names of what an operation gives."""
    (kind, value), *_ = output.items()
    if kind == "as_none":
        return [""]
    if kind == "as_tensors":
        return [v["name"] for v in value]
    return [value["as_name"] if kind in SIZES else value["name"]]
