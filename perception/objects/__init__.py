"""Things in frames and events, by a small network: where the middle of each is, and how far."""

from perception.objects.finder import Finder, load
from perception.objects.place import placed
from perception.objects.votes import Found

__all__ = ["Finder", "Found", "load", "placed"]
