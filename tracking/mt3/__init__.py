"""MT3: multitarget tracking with transformers. Needs torch (extra `learn`), as nothing else here does."""

from tracking.mt3.batch import estimate
from tracking.mt3.limits import UntrainedWarning
from tracking.mt3.model import Model, Task, load, shipped
from tracking.mt3.tracker import MT3, MT3Config

__all__ = ["MT3", "MT3Config", "Model", "Task", "UntrainedWarning", "estimate", "load", "shipped"]
