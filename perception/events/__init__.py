"""Events of event cameras: streams, files, filters and representations."""

from perception.events.stream import EventStream

__all__ = ["EventStream"]
