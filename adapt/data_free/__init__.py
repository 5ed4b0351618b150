"""Distillation without data: a small student from a trained teacher alone."""

from adapt.data_free.abd import abd, abd_classwise
from adapt.data_free.backdoor import TRIGGERS, poisoned, success_rate
from adapt.data_free.distiller import Config, Distiller, Phase
from adapt.data_free.lra import lra
from adapt.data_free.memory import NoMemory, RingBuffer, VAEReplay
from adapt.data_free.networks import build, generator, load
from adapt.data_free.presets import PAPER, SMALL, Settings, cmi, dafl, dfad, dfq, mb_dfkd, pre_dfkd
from adapt.data_free.scan import Calibration, Suspicion, calibrated, scan
from adapt.data_free.search import SearchConfig
from adapt.data_free.sources import GeneratorSource, InversionSource, TensorSource
from adapt.data_free.stability import Stability, stability
from adapt.data_free.updates import MetaRetain, Plain, Replay

__all__ = [
    "PAPER",
    "SMALL",
    "TRIGGERS",
    "Calibration",
    "Config",
    "Distiller",
    "GeneratorSource",
    "InversionSource",
    "MetaRetain",
    "NoMemory",
    "Phase",
    "Plain",
    "Replay",
    "RingBuffer",
    "SearchConfig",
    "Settings",
    "Stability",
    "Suspicion",
    "TensorSource",
    "VAEReplay",
    "abd",
    "abd_classwise",
    "build",
    "calibrated",
    "cmi",
    "dafl",
    "dfad",
    "dfq",
    "generator",
    "load",
    "lra",
    "mb_dfkd",
    "poisoned",
    "pre_dfkd",
    "scan",
    "stability",
    "success_rate",
]
