"""Networks from strangers, read as data: programs of torch.export (.pt2), TorchScript, and our own students.

`torch.export.load` unpickles, and runs code that stands in the file. Here the graph in the file is read as
JSON, only operators of ATen are taken from it, and tensors are read as raw bytes: nothing in a file is
executed but arithmetic. Training mode reaches batch norm and dropout, so an exported student can be trained.
"""

import json
import math
import operator
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapt.data_free import networks

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
LARGEST = 2**31  # bytes of all tensors of a file
# of sizes that depend on the batch
ARITHMETIC: dict[str, Callable[..., Any]] = {
    f"_operator.{name}": getattr(operator, name) for name in ("add", "sub", "mul", "floordiv", "mod", "neg")
}
FORBIDDEN = ("from_file", "save", "load", "open", "file")  # in names of operators
PLAIN = ("as_int", "as_float", "as_bool", "as_string", "as_ints", "as_floats", "as_bools")
MODED = {"batch_norm": "training", "dropout": "train", "feature_dropout": "train", "instance_norm": ""}


class Exported(nn.Module):
    """A program of torch.export with one input and one output; made by `load`."""

    def __init__(self, graph: dict[str, Any], signature: dict[str, Any], tensors: dict[str, Tensor]):
        super().__init__()
        self.nodes = graph["nodes"]
        self.names: dict[str, str] = {}  # of the graph -> of the module
        inputs = []
        for spec in signature["input_specs"]:
            (kind, what), *_ = spec.items()
            if kind == "user_input":
                inputs.append(what["arg"]["as_tensor"]["name"])
                continue
            name = what["arg"]["name"]
            full = what.get("parameter_name") or what.get("buffer_name") or what.get("tensor_constant_name")
            self.names[name] = full.replace(".", "_")
            value = tensors[full]
            if kind == "parameter":
                self.register_parameter(self.names[name], nn.Parameter(value))
            else:
                self.register_buffer(self.names[name], value)
        outputs = [s["user_output"]["arg"] for s in signature["output_specs"] if "user_output" in s]
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(f"it has {len(inputs)} inputs and {len(outputs)} outputs, not one of each")
        (self.given,), self.said = inputs, outputs[0]["as_tensor"]["name"]
        self.operators = [_operator(node["target"]) for node in self.nodes]

    def forward(self, x: Tensor) -> Tensor:
        """What the program says of a batch."""
        known: dict[str, Any] = {name: getattr(self, full) for name, full in self.names.items()}
        known[self.given] = x
        for node, function in zip(self.nodes, self.operators):
            args, kwargs = [], {}
            for item in node["inputs"]:
                value = self._value(item["arg"], known)
                if item.get("name") and item.get("name") == MODED.get(node["target"].split(".")[-2]):
                    value = self.training
                if item.get("kind") == 2:
                    kwargs[item["name"]] = value
                else:
                    args.append(value)
            result = function(*args, **kwargs)
            outputs = [_named(o) for o in node["outputs"]]
            if len(outputs) == 1 and isinstance(outputs[0], str):
                known[outputs[0]] = result
            else:
                flat = outputs[0] if len(outputs) == 1 else outputs
                known |= dict(zip(flat, result))
        return known[self.said]

    def _value(self, arg: dict[str, Any], known: dict[str, Any]) -> Any:
        (kind, value), *_ = arg.items()
        if kind in PLAIN:
            return value
        if kind == "as_none":
            return None
        if kind == "as_tensor":
            return known[value["name"]]
        if kind == "as_tensors":
            return [known[v["name"]] for v in value]
        if kind == "as_sym_int":
            return _size(value, known)
        if kind == "as_sym_ints":
            return [_size(v, known) for v in value]
        if kind == "as_scalar_type":
            return DTYPES[value]
        if kind == "as_device":
            return next(iter(known.values())).device
        if kind in ("as_memory_format", "as_layout"):
            return None  # where numbers lie is not what they are
        raise ValueError(f"arguments {kind} are not known")


def _size(value: dict[str, Any], known: dict[str, Any]) -> int:
    return known[value["as_name"]] if "as_name" in value else value["as_int"]


def load(path: str | Path) -> nn.Module:
    """A network of a file, in eval mode.

    Args:
        path: .safetensors of our own students, .pt2 of torch.export, .pt or .ts of TorchScript.
    Raises:
        FileNotFoundError: there is no such file.
        ValueError:        it is something else; pickles, such as torch.save writes, are refused.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return networks.load(path)
    if path.suffix == ".pt2":
        return _program(path).eval()
    if path.suffix in (".pt", ".ts"):
        return _script(path)
    raise ValueError(
        f"{path} is neither .safetensors (a student of this toolkit), .pt2 (torch.export.save) nor .pt or "
        ".ts (torch.jit.save). Pickled models are not read."
    )


def _program(path: Path) -> Exported:
    if not path.exists():
        raise FileNotFoundError(2, "No such file", str(path))
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(i.file_size for i in archive.infolist()) > LARGEST:
                raise ValueError(f"it is larger than {LARGEST} bytes")
            root = archive.namelist()[0].split("/")[0]
            document = json.loads(archive.read(f"{root}/models/model.json"))
            tensors: dict[str, Tensor] = {}
            for folder in ("weights", "constants"):
                listed = json.loads(archive.read(f"{root}/data/{folder}/model_{folder}_config.json"))[
                    "config"
                ]
                for name, about in listed.items():
                    tensors[name] = _tensor(archive.read(f"{root}/data/{folder}/{about['path_name']}"), about)
        module = document["graph_module"]
        return Exported(module["graph"], module["signature"], tensors)
    except (zipfile.BadZipFile, LookupError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a program of torch.export that can be read as data: {error}. Accepted is what "
            "torch.export.save writes of a network with one input and logits."
        ) from None


def _tensor(raw: bytes, about: dict[str, Any]) -> Tensor:
    if about["use_pickle"]:
        raise ValueError("it holds pickled tensors")
    meta = about["tensor_meta"]
    sizes, strides = ([n["as_int"] for n in meta[key]] for key in ("sizes", "strides"))
    offset = meta["storage_offset"]["as_int"]
    flat = torch.frombuffer(bytearray(raw), dtype=DTYPES[meta["dtype"]]) if raw else torch.zeros(0)
    last = offset + sum((n - 1) * s for n, s in zip(sizes, strides))
    if min((*sizes, *strides, offset), default=0) < 0 or (math.prod(sizes) and last >= len(flat)):
        raise ValueError("a tensor is larger than its bytes")
    return flat.as_strided(sizes, strides, offset).clone()


def _operator(target: str) -> Callable[..., Any]:
    if target in ARITHMETIC:
        return ARITHMETIC[target]
    parts = target.split(".")
    if parts[:3] != ["torch", "ops", "aten"] or len(parts) != 5 or any(w in parts[3] for w in FORBIDDEN):
        raise ValueError(f"its graph asks for {target!r}, accepted are operators of ATen")
    return getattr(getattr(torch.ops.aten, parts[3]), parts[4])


def _named(output: dict[str, Any]) -> Any:
    (kind, value), *_ = output.items()
    if kind == "as_tensors":
        return [v["name"] for v in value]
    return (
        value["as_name"] if kind == "as_sym_int" else value["name"] if isinstance(value, dict) else str(value)
    )


def _script(path: Path) -> nn.Module:
    """TorchScript, which has an interpreter of its own and cannot run Python."""
    if not path.exists():
        raise FileNotFoundError(2, "No such file", str(path))
    try:
        network = torch.jit.load(str(path), map_location="cpu")
        used = {node.kind() for node in network.inlined_graph.nodes()}
    except (RuntimeError, ValueError, AttributeError) as error:
        said = str(error).strip().splitlines()
        raise ValueError(
            f"{path} is not TorchScript: {said[0] if said else error!r}. A model of torch.save is a pickle, "
            "and not read; export it with torch.export.save."
        ) from None
    bad = [kind for kind in used if kind.startswith("aten::") and any(w in kind for w in FORBIDDEN)]
    if bad:
        raise ValueError(f"{path} asks for {bad[0]}, which is not arithmetic")
    return network.eval()
