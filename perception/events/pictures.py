"""Events as pictures: colours of one window, a sheet about a recording, a film."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from perception.events.represent import event_stack, time_surface
from perception.events.stream import EventStream
from perception.events.summary import Summary
from tracking.formats.files import atomic_write

PAPER, BRIGHTER, DARKER = (np.array(c, np.float32) for c in ((255, 255, 255), (214, 57, 38), (34, 90, 181)))
FASTEST = {".gif": 50, ".mp4": 1000}  # pictures a second
NEEDS = "{} needs the viz extra: pip install -c constraints.txt -e '.[viz]'"


def coloured(events: EventStream, full: float = 2.0) -> np.ndarray:
    """(H, W, 3) uint8: white where nothing happened, red where it became brighter, blue where darker.

    Args:
        events: of a window.
        full:   sum of signs at which a colour is full.
    """
    total = event_stack(events, 1)[0]
    share = np.minimum(np.abs(total) / full, 1)[..., None]
    ink = np.where(total[..., None] > 0, BRIGHTER, DARKER)
    return (PAPER + share * (ink - PAPER)).astype(np.uint8)


def sheet(found: Summary, windows: list[EventStream], path: str | Path, title: str) -> None:
    """Write a PNG about a recording: windows, where and when events fall, what looks wrong.

    Args:
        found:   of the whole recording.
        windows: a few parts of it.
        path:    of the file.
        title:   above it.
    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(NEEDS.format("a sheet")) from None
    figure = Figure(figsize=(12, 8.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    rows: Any = figure.subfigures(3, 1, height_ratios=(1, 1, 0.62))
    top, middle, bottom = rows
    _show_windows(top, windows)
    _show_places(middle, found, windows)
    _show_rate(bottom, found)
    with atomic_write(path, binary=True) as file:
        figure.savefig(file, format="png", dpi=110)


def film(frames: Iterable[np.ndarray], path: str | Path, rate: float, grey: bool = False) -> None:
    """Write pictures (H, W, 3) uint8 as a film: .gif, or .mp4.

    Args:
        frames: of one size.
        path:   of the file, whose extension decides.
        rate:   pictures per second.
        grey:   the pictures are; else a .gif has the colours of `coloured`.
    Raises:
        ValueError:  another extension, or no pictures.
        ImportError: Pillow, or for .mp4 PyAV, is not installed.
    """
    writers = {".gif": _write_gif, ".mp4": _write_mp4}
    suffix = Path(path).suffix.lower()
    if suffix not in writers:
        raise ValueError(f"a film is a .gif or an .mp4, got {path}")
    most = FASTEST[suffix]
    if not 0 < rate <= most:
        raise ValueError(f"a {suffix} shows up to {most} pictures a second, got {rate}")
    pictures = _alike(frames)
    first = next(pictures, None)
    if first is None:
        raise ValueError("a film needs at least one picture")
    with atomic_write(path, binary=True) as file:
        writers[suffix](first, pictures, file, rate, grey)


def _alike(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The pictures, all of one size and kind."""
    size = None
    for frame in frames:
        size = frame.shape if size is None else size
        if frame.dtype != np.uint8 or frame.shape != size or len(size) != 3 or size[2] != 3:
            raise ValueError(
                f"pictures (H, W, 3) uint8 of one size are expected, got {frame.dtype} {frame.shape}"
            )
        yield frame


def _write_gif(first, rest, file, rate, grey):
    try:
        from PIL import Image
    except ImportError:
        raise ImportError(NEEDS.format("a .gif")) from None
    palette = Image.new("P", (1, 1))
    steps = np.linspace(0, 1, 128)[:, None]
    inks = np.concatenate([PAPER + steps * (ink - PAPER) for ink in (BRIGHTER, DARKER)])
    palette.putpalette(inks.astype(np.uint8).ravel().tolist())

    def indexed(picture):
        if grey:
            return Image.fromarray(picture[..., 0])
        return Image.fromarray(picture).quantize(palette=palette, dither=Image.Dither.NONE)

    others = (indexed(picture) for picture in rest)
    duration = round(1000 / rate)
    indexed(first).save(file, "GIF", save_all=True, append_images=others, duration=duration, loop=0)


def _write_mp4(first, rest, file, rate, grey):
    try:
        import av
    except ImportError:
        raise ImportError(NEEDS.format("an .mp4")) from None
    from fractions import Fraction

    def even(picture):  # H.264 wants sides of even length
        return np.pad(picture, ((0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)), mode="edge")

    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        stream.height, stream.width = even(first).shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20"}
        for picture in chain((first,), rest):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even(picture)), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _show_windows(figure, windows):
    for axes, window in zip(np.atleast_1d(figure.subplots(1, max(len(windows), 1))), windows):
        axes.imshow(coloured(window), interpolation="nearest")
        axes.set_title(_about(window), fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])


def _about(window):
    if not len(window):
        return "no events"
    return f"{window.t[0] * 1e-6:.3f} s, {len(window)} events in {window.duration * 1e-3:.1f} ms"


def _show_places(figure, found, windows):
    busiest = max(windows, key=len, default=EventStream.empty(found.width, found.height))
    panels = (
        (np.log10(1 + found.count[1]), "brighter events a pixel (log)", "Reds"),
        (np.log10(1 + found.count[0]), "darker events a pixel (log)", "Blues"),
        (
            time_surface(busiest, max(busiest.duration / 3, 1)).max(0),
            "time surface of the busiest window",
            "viridis",
        ),
    )
    for axes, (image, title, colours) in zip(figure.subplots(1, 3), panels):
        drawn = axes.imshow(image, cmap=colours, interpolation="nearest")
        axes.set_title(title, fontsize=9)
        figure.colorbar(drawn, ax=axes, shrink=0.8)


def _show_rate(figure, found):
    axes, said = figure.subplots(1, 2, width_ratios=(2, 1))
    at = (np.arange(len(found.rate)) + 0.5) * found.bin * 1e-6
    axes.plot(at, found.rate / (found.bin * 1e-6) / 1e6, lw=0.8, color="#333333")
    axes.set_xlabel("s after the first event")
    axes.set_ylabel("million events a second")
    axes.set_ylim(bottom=0)
    said.axis("off")
    lines = found.anomalies() or ["nothing looks wrong"]
    said.text(0, 1, "\n".join(lines), va="top", fontsize=9, wrap=True)
