"""A training of several stages, each to its end or on from where it was saved."""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from perception.training import Run, RunConfig

SHOWN, SAVED = 30.0, 60.0  # s


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How stages are trained.

    steps:   of each stage.
    seed:    of weights and batches.
    resume:  where stages are saved and go on from, or None.
    about:   what a saved stage must agree in to be gone on with.
    device:  where they are trained.
    advance: told the run and the means of the parts of its loss, now and then.
    """

    steps: dict[str, int]
    seed: int = 0
    resume: Path | None = None
    about: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    advance: Callable[[Run, dict[str, float]], object] = lambda run, parts: None

    def train(self, stage: str, network: nn.Module, loss: Any, **settings: float) -> None:
        """Train a stage to its end, or go on where it was; its averaged weights are then in the network.

        Args:
            stage:    of `steps`.
            network:  whose parameters with gradients learn.
            loss:     as of `perception.training.Run`.
            settings: of `RunConfig`, all but the steps.
        """
        network.to(self.device)
        chosen: dict[str, Any] = settings
        training = Run(network, loss, RunConfig(steps=self.steps[stage], **chosen), self.seed, self.about)
        file = None if self.resume is None else self.resume.with_name(f"{self.resume.name}.{stage}")
        if file is not None and file.exists():
            training.resume(file)
        saved = time.monotonic()
        while not training.done:
            self.advance(training, training.train(SHOWN))
            if file is not None and (time.monotonic() - saved > SAVED or training.done):
                training.save(file)
                saved = time.monotonic()
        training.use_average()
        network.eval()


def check_places(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End with one line where a training would find at its end that it has no place for what it learned."""
    if args.out and Path(args.out).suffix != ".safetensors":
        parser.error(f"--out is a .safetensors file, its card an .md beside it, got {args.out}")
    if args.resume and not args.resume.absolute().parent.is_dir():
        parser.error(f"--resume is a file in a folder that is there, got {args.resume}")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a card that torch sees, and there is none")
