"""Events as dense arrays that a network or a person can look at: pure functions of an EventStream.

`perception.events.represent_torch` has the same functions for batches of tensors, with gradients.

Bins divide the time from `span[0]` to `span[1]`, microseconds, both included; by default from the first to
the last event. No event is dropped, none is counted twice, and streams without events, with one, or with all
at one time are as good as any.
"""

import numpy as np

from perception.events.stream import MAX_TIME, EventStream, microseconds
from tracking.compiled import compiled

Span = tuple[int, int] | None


def count_image(events: EventStream) -> np.ndarray:
    """(2, H, W) float32: number of events by polarity, darker first; exact up to 2^24 events of a pixel."""
    return frames(events, 1)[0]


def frames(events: EventStream, bins: int, span: Span = None) -> np.ndarray:
    """(bins, 2, H, W) float32: number of events by polarity, darker first, in bins of equal time."""
    out = np.zeros((bins_of(bins), 2, events.height, events.width), np.float32)
    edges = time_edges(events, bins, span)
    _add_counts(events.x, events.y, events.p.view(np.uint8), edges, out)
    return out


def event_stack(
    events: EventStream, bins: int, by: str = "time", value: str = "sum", span: Span = None
) -> np.ndarray:
    """(bins, H, W) float32: for every pixel and bin one number of its events' signs.

    Args:
        events: of one sensor.
        bins:   slices.
        by:     "time", slices of equal time; or "count", slices of equally many events.
        value:  "sum" of the signs, or the "last" sign.
        span:   as in the module's docstring, for slices of equal time.
    Source: Wang et al., "Event-based High Dynamic Range Image and Very High Frame Rate Video Generation using
        Conditional GANs" (CVPR 2019), stacking by time and by number.
    """
    require_choice("by", by, ("time", "count"))
    require_choice("value", value, ("sum", "last"))
    out = np.zeros((bins_of(bins), events.height, events.width), np.float32)
    edges = time_edges(events, bins, span) if by == "time" else count_edges(len(events), bins)
    add = _add_signs if value == "sum" else _set_signs
    add(events.x, events.y, events.p.view(np.uint8), edges, out)
    return out


def voxel_grid(events: EventStream, bins: int, span: Span = None) -> np.ndarray:
    """(bins, H, W) float32: signs shared out between the two bins whose centres are nearest in time.

    The first bin's centre is at span[0], the last one's at span[1]; the sum over bins is the sum of signs.

    Source: Zhu, Yuan, Chaney, Daniilidis, "Unsupervised Event-based Learning of Optical Flow, Depth, and
        Egomotion" (CVPR 2019), equations 1 and 2.
    """
    first, last = span_of(events, span)
    out = np.zeros((bins_of(bins) + 1, events.height, events.width), np.float32)
    scale = (bins - 1) / max(last - first, 1)
    _add_voxels(events.x, events.y, events.t, events.p.view(np.uint8), first, scale, bins, out)
    return out[:bins]


def last_times(events: EventStream, never: int = np.iinfo(np.int64).min) -> np.ndarray:
    """(2, H, W) int64: time of the last event by polarity, microseconds; `never` where there was none."""
    out = np.full((2, events.height, events.width), never, np.int64)
    _set_times(events.x, events.y, events.t, events.p.view(np.uint8), out)
    return out


def time_surface(events: EventStream, tau: float, at: int | None = None) -> np.ndarray:
    """(2, H, W) float32: exp(-(at - last) / tau) by polarity, darker first; 0 where there was no event.

    Args:
        events: of one sensor.
        tau:    decay, microseconds.
        at:     time at which to look, microseconds; default: that of the last event. Later events do not
                count.
    Source: Lagorce et al., "HOTS: A Hierarchy of Event-Based Time-Surfaces for Pattern Recognition" (PAMI
        2017), equation 3.
    """
    return time_surfaces(events, tau, None if at is None else [at])[0]


def time_surfaces(events: EventStream, tau: float, at=None) -> np.ndarray:
    """(k, 2, H, W) float32: time surfaces at the times `at` (k,), which do not fall."""
    if not 0 < np.float32(tau) < np.inf:
        raise ValueError(f"tau must be > 0 us and finite, got {tau}")
    if at is None:
        at = events.t[-1:] if len(events) else np.zeros(1, np.int64)
    at = np.array([time_of("at", time) for time in at], np.int64)
    if (at[1:] < at[:-1]).any():
        raise ValueError(f"times must not fall, got {at.tolist()}")
    if len(events) and len(at) and at[-1] < events.t[-1]:
        events = events.between(int(events.t[0]), int(at[-1]) + 1)
    t, p = events.t, events.p.view(np.uint8)
    if len(t) and max(-t[0], t[-1]) > 2**52:  # where a float64 no longer tells microseconds apart
        t, at = t - t[-1], at - t[-1]
    out = np.zeros((len(at), 2, events.height, events.width), np.float32)
    edges = np.searchsorted(t, at, side="right")
    last = np.full((2, events.height, events.width), -np.inf)
    start = 0
    for k, stop in enumerate(edges.tolist()):
        part = slice(start, stop)
        _set_times(events.x[part], events.y[part], t[part], p[part], last)
        np.subtract(last, at[k], out=out[k], casting="same_kind")
        np.exp(np.divide(out[k], np.float32(tau), out=out[k]), out=out[k])
        start = stop
    return out


def spike_tensor(events: EventStream, bins: int, span: Span = None) -> np.ndarray:
    """(2 bins, H, W) float32: event spike tensor with the triangular kernel, of the time in the span, 0 to 1.

    Channels are those of darker events, then of brighter ones. `represent_torch.SpikeTensor` learns a kernel.

    Source: Gehrig, Loquercio, Derpanis, Scaramuzza, "End-to-End Learning of Representations for Asynchronous
        Event-Based Data" (ICCV 2019), section 3.2, equations 6 to 8.
    """
    first, last = span_of(events, span)
    out = np.zeros((2, bins_of(bins) + 1, events.height, events.width), np.float32)
    length = max(last - first, 1)
    _add_spikes(events.x, events.y, events.t, events.p.view(np.uint8), first, length, bins, out)
    return out[:, :bins].reshape(-1, events.height, events.width)


def warped_image(events: EventStream, flow, at: int | None = None) -> np.ndarray:
    """(2, H, W) float32: image of warped events by polarity, each event shared out bilinearly.

    An event goes to (x, y) + (at - t) flow; what leaves the sensor is lost.

    Args:
        events: of one sensor.
        flow:   pixels per second: (2,) for all, or (2, H, W), x before y.
        at:     microseconds; default: the time of the last event.
    Source: Gallego, Rebecq, Scaramuzza, "A Unifying Contrast Maximization Framework for Event Cameras" (CVPR
        2018), equations 3 and 4.
    """
    flow = np.asarray(flow, np.float32)
    if flow.shape not in ((2,), (2, events.height, events.width)):
        raise ValueError(
            f"flow must have shape (2,) or (2, {events.height}, {events.width}), got {flow.shape}"
        )
    if not np.isfinite(flow).all():
        raise ValueError("flow must be finite")
    if flow.ndim == 1:
        flow = np.broadcast_to(flow[:, None, None], (2, events.height, events.width))
    at = (int(events.t[-1]) if len(events) else 0) if at is None else time_of("at", at)
    out = np.zeros((2, events.height, events.width), np.float32)
    _add_warped(events.x, events.y, events.t, events.p.view(np.uint8), np.int64(at), flow, out)
    return out


def normalised(grid: np.ndarray, how: str = "nonzero") -> np.ndarray:
    """A grid scaled for a network; of a grid of zeros, zeros.

    Args:
        grid: any shape.
        how:  "nonzero", mean 0 and standard deviation 1 of the entries that are not 0, which stay 0 (E2VID);
              "max", divided by the largest magnitude;
              "robust", divided by the 98th percentile of the magnitudes that are not 0, clipped to [-1, 1].
    """
    require_choice("how", how, ("nonzero", "max", "robust"))
    grid = np.asarray(grid, np.float32)
    there = grid != 0
    values = grid[there]
    if not values.size:
        return np.zeros_like(grid)
    if how == "nonzero":
        spread = values.std()
        return np.where(there, (grid - values.mean()) / (spread if spread > 0 else 1), np.float32(0))
    if how == "max":
        return grid / np.abs(values).max()
    return np.clip(grid / np.percentile(np.abs(values), 98), -1, 1).astype(np.float32)


def bins_of(bins: int) -> int:
    """The number of bins, checked."""
    if not isinstance(bins, (int, np.integer)) or not 1 <= bins <= 100_000:
        raise ValueError(f"bins must be a whole number from 1 to 100000, got {bins!r}")
    return int(bins)


def span_of(events: EventStream, span: Span) -> tuple[int, int]:
    """First and last microsecond of the bins.

    Raises:
        ValueError: an event lies outside, or they are no two times.
    """
    if span is None:
        return (int(events.t[0]), int(events.t[-1])) if len(events) else (0, 0)
    if len(span) != 2:
        raise ValueError(f"span must be the first and the last microsecond, got {span!r}")
    first, last = (time_of("span", time) for time in span)
    if last < first or (len(events) and not first <= events.t[0] <= events.t[-1] <= last):
        over = f"{events.t[0]} to {events.t[-1]}" if len(events) else "nothing"
        raise ValueError(f"span ({first}, {last}) us must hold all events, which are from {over}")
    return first, last


def time_edges(events: EventStream, bins: int, span: Span) -> np.ndarray:
    """(bins + 1,) positions at which the events of each of the bins of equal time begin."""
    first, last = span_of(events, span)
    starts = [first + -(-k * (last - first + 1) // bins) for k in range(bins)]
    return np.append(np.searchsorted(events.t, starts), len(events))


def count_edges(number: int, bins: int) -> np.ndarray:
    """(bins + 1,) positions at which the events of each of the bins of equally many events begin."""
    return np.arange(bins + 1) * number // bins


def time_of(name: str, value) -> int:
    """A time in whole microseconds within +-2^61, checked."""
    time = microseconds(name, value)
    if abs(time) > MAX_TIME:
        raise ValueError(f"{name} must lie within +-{MAX_TIME} us, got {time}")
    return time


def require_choice(name: str, value: str, accepted: tuple[str, ...]) -> None:
    """Raise ValueError unless the value is one of those accepted."""
    if value not in accepted:
        raise ValueError(f"{name} must be one of {', '.join(accepted)}, got {value!r}")


@compiled
def _add_counts(x, y, p, edges, out):
    for k in range(len(edges) - 1):
        plane = out[k]
        for i in range(edges[k], edges[k + 1]):
            plane[p[i], y[i], x[i]] += np.float32(1)


@compiled
def _add_signs(x, y, p, edges, out):
    for k in range(len(edges) - 1):
        plane = out[k]
        for i in range(edges[k], edges[k + 1]):
            plane[y[i], x[i]] += np.float32(2) * np.float32(p[i]) - np.float32(1)


@compiled
def _set_signs(x, y, p, edges, out):
    for k in range(len(edges) - 1):
        plane = out[k]
        for i in range(edges[k], edges[k + 1]):
            plane[y[i], x[i]] = np.float32(2) * np.float32(p[i]) - np.float32(1)


@compiled
def _add_voxels(x, y, t, p, first, scale, bins, out):
    """`out` has one bin more, which takes the share 0 of events at the very end."""
    width = out.shape[2]
    flat = out.reshape(-1)
    plane = np.uint64(out.shape[1] * width)
    one = np.float32(1)
    for i in range(len(t)):
        at = np.float32(np.float64(t[i] - first) * scale)
        low = np.uint64(at)
        share = at - np.float32(low)
        sign = np.float32(2) * np.float32(p[i]) - one
        pixel = low * plane + np.uint64(y[i]) * np.uint64(width) + np.uint64(x[i])
        flat[pixel] += sign * (one - share)
        flat[pixel + plane] += sign * share


@compiled
def _add_spikes(x, y, t, p, first, length, bins, out):
    for i in range(len(t)):
        s = np.float64(t[i] - first) / length
        at = s * (bins - 1)
        low = min(np.int64(at), bins - 1)
        share = np.float32(at - low)
        out[p[i], low, y[i], x[i]] += np.float32(s) * (np.float32(1) - share)
        out[p[i], low + 1, y[i], x[i]] += np.float32(s) * share


@compiled
def _set_times(x, y, t, p, out):
    for i in range(len(t)):
        out[p[i], y[i], x[i]] = t[i]


@compiled
def _add_warped(x, y, t, p, at, flow, out):
    height, width = out.shape[1:]
    for i in range(len(t)):
        dt = np.float64(at - t[i]) * 1e-6
        u = x[i] + dt * flow[0, y[i], x[i]]
        v = y[i] + dt * flow[1, y[i], x[i]]
        if not (-1 < u < width and -1 < v < height):
            continue
        left, top = np.int64(np.floor(u)), np.int64(np.floor(v))
        a, b = np.float32(u - left), np.float32(v - top)
        for row, share in ((top, np.float32(1) - b), (top + 1, b)):
            if 0 <= row < height:
                if left >= 0:
                    out[p[i], row, left] += share * (np.float32(1) - a)
                if left + 1 < width:
                    out[p[i], row, left + 1] += share * a
