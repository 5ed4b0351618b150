"""Adaptation of pretrained models without labels or data.

Nothing is imported before it is asked for, so that `import adapt` does not bring torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapt.source_free.adaptation import METHODS, AdaptResult, adapt
    from adapt.source_free.config import AdaptConfig

_HOME = {
    "adapt": "adapt.source_free.adaptation",
    "AdaptResult": "adapt.source_free.adaptation",
    "METHODS": "adapt.source_free.adaptation",
    "AdaptConfig": "adapt.source_free.config",
}
__all__ = ["METHODS", "AdaptConfig", "AdaptResult", "adapt"]


def __getattr__(name: str) -> Any:
    """A public name, from where it lives."""
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module 'adapt' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
