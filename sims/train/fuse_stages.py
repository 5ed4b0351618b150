"""The stages of a training of FUSE (`perception.depth.fit`), each to its end or from where it was saved."""

import torch
from torch import nn

from perception.depth import fit
from perception.depth.backbone import Backbone
from perception.depth.fuse import FUSE
from perception.depth.pairs import PairSource
from sims.train.plan import Plan

STEPS = {"teach": 5000, "align": 2500, "fuse": 3000, "adapt": 1500}
RATE = {"teach": 1.5e-3, "align": 1e-3, "fuse": 1e-3, "adapt": 1e-3}


def steps_of(scale: float) -> dict[str, int]:
    """Steps of each stage, those of `STEPS` times a factor."""
    return {name: max(round(steps * scale), 1) for name, steps in STEPS.items()}


def taught(plan: Plan, pairs: PairSource) -> Backbone:
    """A tiny backbone that knows depth of clean frames."""
    torch.manual_seed(plan.seed)
    backbone = Backbone.tiny(pairs[:1].clean.shape[2])
    _train(plan, "teach", backbone, fit.teach(pairs))
    return backbone


def aligned_events(plan: Plan, backbone: Backbone, pairs: PairSource, from_nothing: bool = False) -> Backbone:
    """A copy of a backbone, or one that starts from nothing, that says of events what that says of frames."""
    torch.manual_seed(plan.seed + 1)
    start = Backbone.configured(backbone.config) if from_nothing else backbone
    network = FUSE(backbone, start.without_head())
    network.requires_grad_(False)
    if from_nothing:
        network.events.requires_grad_(True)
    else:
        fit.with_lora(network.events)
    _train(plan, "align", network, fit.align(pairs))
    fit.merged(network.events)
    return network.events


def fused(
    plan: Plan,
    backbone: Backbone,
    events: Backbone,
    pairs: PairSource,
    fusion: str = "fredfuse",
    with_events: bool = True,
) -> FUSE:
    """Both backbones, and a fusion that has learned which of them to trust."""
    torch.manual_seed(plan.seed + 2)
    network = FUSE(backbone, events, fusion)
    network.requires_grad_(False)
    network.fuse.requires_grad_(True)
    _train(plan, "fuse", network, fit.fuse(pairs, events=with_events))
    return network


def adapted(plan: Plan, network: FUSE, pairs: PairSource, farthest: float) -> None:
    """Teach the decoder of a network metric depth, up to the farthest, m."""
    torch.manual_seed(plan.seed + 3)
    network.requires_grad_(False)
    network.decoder.requires_grad_(True)
    network.doubt.requires_grad_(True)
    _train(plan, "adapt", network, fit.adapt(pairs, farthest))


def _train(plan: Plan, stage: str, network: nn.Module, loss: fit.Loss) -> None:
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plan.train(stage, network, loss, rate=RATE[stage], muon=3.0, average=0.995)
