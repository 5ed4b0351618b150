"""What all writers share: streams of one sensor in order of time, within what a format can hold."""

from collections.abc import Iterable, Iterator

from perception.events.stream import EventStream


def joined(streams: EventStream | Iterable[EventStream]) -> tuple[Iterator[EventStream], tuple[int, int]]:
    """(streams, size) of one stream or of several that follow each other in time.

    Raises:
        TypeError:  something that is no stream.
        ValueError: no stream at all, or while iterating, another size or times that fall.
    """
    parts = _streams([streams] if isinstance(streams, EventStream) else streams)
    first = next(parts, None)
    if first is None:
        raise ValueError(
            "nothing to write: at least one stream is needed, EventStream.empty(...) for no events"
        )
    return _in_order(first, parts), (first.width, first.height)


def _streams(parts):
    for part in parts:
        if not isinstance(part, EventStream):
            raise TypeError(f"an EventStream, or several, can be written, got one of {type(part).__name__}")
        yield part


def _in_order(first, rest):
    yield first
    size, last = (first.width, first.height), int(first.t[-1]) if len(first) else None
    for stream in rest:
        if (stream.width, stream.height) != size:
            raise ValueError(
                f"streams of one sensor can be written, got {stream.width} x {stream.height} after "
                f"{size[0]} x {size[1]}"
            )
        if len(stream):
            if last is not None and stream.t[0] < last:
                raise ValueError(
                    f"streams must follow each other in time, got {stream.t[0]} us after {last} us"
                )
            last = int(stream.t[-1])
        yield stream


def require_within(
    stream: EventStream, name: str, bounds: tuple[int, int], stop: int, start: int = 0
) -> None:
    """ValueError unless a format holds the stream: pixels within bounds, times in [start, stop) us."""
    if stream.width > bounds[0] or stream.height > bounds[1]:
        raise ValueError(
            f"{name} holds sensors of at most {bounds[0]} x {bounds[1]} pixels, "
            f"got {stream.width} x {stream.height}"
        )
    if len(stream) and not start <= stream.t[0] <= stream.t[-1] < stop:
        raise ValueError(
            f"{name} holds times from {start} to {stop - 1} us, "
            f"got {stream.t[0]} to {stream.t[-1]}; stream.shift(...) moves them"
        )


def require_gaps(stream: EventStream, name: str, last: int, period: int) -> int:
    """The last time, once it is sure that a reader can count the wraps of a clock of this period.

    Raises:
        ValueError: the first time of all (last = -1) is beyond a period, or a gap beyond half of one.
    """
    if not len(stream):
        return last
    widest = int((stream.t[1:] - stream.t[:-1]).max(initial=0))
    gap = max(widest, int(stream.t[0]) - last) if last >= 0 else widest
    if gap > period // 2 or (last < 0 and stream.t[0] >= period):
        raise ValueError(
            f"{name} has a clock of {period} us: the first time must be below that and gaps at most "
            f"half of it, got a first time of {stream.t[0]} and a gap of {gap} us"
        )
    return int(stream.t[-1])
