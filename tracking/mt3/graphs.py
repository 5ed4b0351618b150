"""Steps recorded once and replayed: on a GPU hundreds of small kernels take longer to start than to run."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tracking.mt3.windows import Windows

WARM_UP = 3  # steps before a recording, so that libraries have chosen their kernels


class Recorded(NamedTuple):
    """A step: what it reads, the graph, what it says, and the gradients that it leaves."""

    given: Windows
    graph: torch.cuda.CUDAGraph
    said: dict[str, Tensor]
    grads: list[Tensor | None]


class Replayed:
    """A forward and backward pass as one CUDA graph for each shape of windows.

    Args:
        work:       windows -> tensors to report; it zeroes the gradients, and may not wait for the device.
        parameters: that get gradients.
    """

    def __init__(self, work: Callable[[Windows], dict[str, Tensor]], parameters: Iterable[nn.Parameter]):
        self.work, self.parameters = work, list(parameters)
        self.recorded: dict[tuple[int, ...], Recorded] = {}
        self.device = self.parameters[0].device
        with torch.cuda.device(self.device):
            self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, windows: Windows) -> dict[str, Tensor]:
        """As `work`; the next step may overwrite what is returned and the gradients, as all share memory."""
        with torch.cuda.device(self.device):
            return self._replay(windows)

    def _replay(self, windows: Windows) -> dict[str, Tensor]:
        shape = (*windows.z.shape, *windows.alive.shape)
        if shape not in self.recorded:
            self.recorded[shape] = self._record(windows)
        step = self.recorded[shape]
        for mine, theirs in zip(step.given, windows):
            mine.copy_(theirs)
        step.graph.replay()
        for p, grad in zip(self.parameters, step.grads):
            p.grad = grad
        return step.said

    def _record(self, windows: Windows) -> Recorded:
        given = Windows.of(a.clone() for a in windows)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self.work(given)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            said = self.work(given)
        return Recorded(given, graph, said, [p.grad for p in self.parameters])
