"""What `sims.scene` has played, to look at: a film, a sheet of a few moments, a recording for rerun."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perception.events.pictures import coloured, film
from perception.pinhole import Pinhole
from sims.plot import empty_figure, png
from sims.rerun_file import colours_of, import_rerun, recording
from tracking.formats.files import atomic_write

Shown = Sequence[tuple[Any, dict[str, Any]]]  # of each moment, what there is and what each kind makes of it
SCALE = 4  # of pixels in the film
NEAR, FAR = 1.0, 7.0  # m, of the colours
MARK = 3  # half side of what marks a track, pixels of the film
ROWS = 4  # of a sheet


def as_colours(depth: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of depths (H, W), m: near is bright."""
    from matplotlib import colormaps

    near = 1 - np.clip((depth - NEAR) / (FAR - NEAR), 0, 1)
    return (255 * colormaps["magma"](near)[..., :3]).astype(np.uint8)


def tiles(moment: Any, outcomes: dict[str, Any], focal: float) -> list[tuple[str, np.ndarray]]:
    """Names and pictures (H, W, 3) uint8: frame, events, and of each kind depth with its tracks."""
    side = moment.frame.shape[1], moment.frame.shape[0]
    bright = moment.frame / max(float(np.percentile(moment.frame, 99)), 0.02)
    grey = (255 * np.clip(bright, 0, 1)).astype(np.uint8)
    found = [
        ("frame, brightened", _large(np.stack([grey] * 3, -1))),
        ("events", _large(coloured(moment.events))),
    ]
    camera = Pinhole.of(*side, focal)
    for kind, outcome in outcomes.items():
        picture = _large(as_colours(outcome.depth))
        places = moment.view.pose.to_camera(outcome.tracks.mean[:, :3])
        for label, (column, row) in zip(outcome.tracks.label, camera.project(places)):
            if np.isfinite(column) and -1 < column < side[0] and -1 < row < side[1]:
                _mark(picture, column, row, colours_of(label))
        found.append((kind, picture))
    return found


def write_film(shown: Shown, path: str | Path, focal: float, rate: float) -> None:
    """All moments, side by side, as an .mp4."""

    def pictures() -> Iterator[np.ndarray]:
        for moment, outcomes in shown:
            yield np.concatenate([picture for _, picture in tiles(moment, outcomes, focal)], 1)

    film(pictures(), path, rate)


def write_sheet(shown: Shown, path: str | Path, focal: float) -> None:
    """A few moments as a PNG.

    Raises:
        ImportError: matplotlib is not installed.
    """
    chosen = np.linspace(len(shown) // 4, len(shown) - 1, min(ROWS, len(shown))).astype(int)
    rows = [tiles(moment, outcomes, focal) for moment, outcomes in (shown[k] for k in chosen)]
    figure = empty_figure((2.2 * len(rows[0]), 2.2 * len(rows) + 0.3))
    for axes, (name, picture) in zip(
        figure.subplots(len(rows), len(rows[0]), squeeze=False).flat, (tile for row in rows for tile in row)
    ):
        axes.imshow(picture)
        axes.set_axis_off()
        axes.set_title(name, fontsize=8)
    with atomic_write(path, binary=True) as file:
        file.write(png(figure))


def write_rrd(shown: Shown, path: str | Path) -> None:
    """A recording of frames, depth, objects and tracks in the world for rerun's viewer.

    Raises:
        ImportError: rerun-sdk is not installed.
    """
    rr = import_rerun()
    with recording(path, "multitarget-toolkit scene") as stream:
        for moment, outcomes in shown:
            stream.set_time("scene", duration=moment.time * 1e-6)
            stream.log("frame", rr.Image((255 * moment.frame).astype(np.uint8)))
            stream.log("world/objects", rr.Points3D(moment.places, radii=0.1, colors=(200, 200, 200)))
            for kind, outcome in outcomes.items():
                stream.log(f"depth/{kind}", rr.DepthImage(outcome.depth.astype(np.float32), meter=1.0))
                stream.log(f"world/{kind}/detections", rr.Points3D(outcome.found.z, radii=0.03))
                label = np.asarray(outcome.tracks.label, int)
                stream.log(
                    f"world/{kind}/tracks",
                    rr.Points3D(
                        outcome.tracks.mean[:, :3],
                        radii=0.06,
                        colors=colours_of(label),
                        labels=[str(number) for number in label],
                    ),
                )


def _large(picture):
    return picture.repeat(SCALE, 0).repeat(SCALE, 1)


def _mark(picture, column, row, colour):
    """A square of a colour with a white edge about a place in pixels of the image."""
    x, y = int(SCALE * (column + 0.5)), int(SCALE * (row + 0.5))
    for half, paint in ((MARK + 1, 255), (MARK, colour)):
        picture[max(y - half, 0) : max(y + half + 1, 0), max(x - half, 0) : max(x + half + 1, 0)] = paint
