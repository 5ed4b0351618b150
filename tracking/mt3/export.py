"""Export of a network to ONNX, for robots without torch, and a check that it says the same there."""

import copy
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tracking.formats.files import atomic_write
from tracking.mt3.model import Model
from tracking.mt3.windows import Windows

TOLERANCE = 1e-3  # m, m/s, and of probabilities, that the exported network may differ


class _Plain(nn.Module):
    """A network as a function of three arrays."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, age: Tensor, real: Tensor):
        b = len(z)
        nothing = torch.zeros(b, 1, dtype=torch.bool, device=z.device)
        windows = Windows(
            z, age, real, torch.zeros_like(age), z.new_zeros(*age.shape, 4), z.new_zeros(b, 1, 4), nothing
        )
        answer = self.network(windows)[0][-1]
        return answer.logit.sigmoid() * answer.mask, answer.mean, answer.log_std.exp(), answer.order


def export(model: Model, path: str | Path, tokens: int = 1024, batch: int = 1) -> None:
    """Write a network as an ONNX file of one shape, and compare the two on random measurements.

    Inputs: z (batch, tokens, d_z) float32, age (batch, tokens) int64 scans before the last, real (batch,
    tokens) bool, False for padding. Outputs, of k answers: existence (batch, k), mean (batch, k, 4), std
    (batch, k, 4), token (batch, k). Probabilities of answers closer than `model.reading.radius` add up
    (`tracking.mt3.objects.merged`), and are then calibrated (`Reading.existence`): threshold, radius and
    calibration are in the file's metadata, `mt3`, as JSON, with the task that it was trained for.

    Args:
        model:  to export; it stays as it is.
        path:   of the file.
        tokens: most measurements of a window.
        batch:  windows at once.
    Raises:
        ImportError: onnx, onnxscript and onnxruntime are not installed.
        RuntimeError: the exported network says something else than this one.
    """
    import onnxruntime

    plain = _Plain(copy.deepcopy(model.network)).eval().cpu()
    example = _example(model, tokens, batch)
    program = torch.onnx.export(
        plain,
        example,
        input_names=["z", "age", "real"],
        output_names=["existence", "mean", "std", "token"],
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    found = program.model_proto
    said = json.dumps({"task": asdict(model.task), "reading": asdict(model.reading)})
    found.metadata_props.add(key="mt3", value=said)
    content = found.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    there = session.run(None, {k: v.numpy() for k, v in zip(("z", "age", "real"), example)})
    with torch.no_grad():
        here = [a.numpy() for a in plain(*example)]
    weight = here[0][..., None]  # a state matters where something exists
    off = max(
        float(np.abs(here[0] - there[0]).max()),
        *(float((weight * np.abs(a - b)).max()) for a, b in zip(here[1:3], there[1:3])),
    )
    if not off < TOLERANCE:
        raise RuntimeError(f"the exported network differs by {off:.2g}, more than {TOLERANCE:g}")
    with atomic_write(path, binary=True) as file:
        file.write(content)


def _example(model: Model, tokens: int, batch: int):
    task = model.task
    generator = torch.Generator().manual_seed(0)
    lower, upper = torch.tensor(task.sight.lower), torch.tensor(task.sight.upper)
    where = torch.rand(batch, tokens, task.sight.dim_z, generator=generator)
    age = torch.randint(task.scans, (batch, tokens), generator=generator).sort(1).values
    real = torch.arange(tokens).expand(batch, -1) < 3 * tokens // 4
    return lower + (upper - lower) * where, torch.where(real, age, 0), real
